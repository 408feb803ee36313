"""Builds doubles of Jitsi's packages: their names, questions, files and scripts, without Jitsi in them.

They stand in for packages that a test machine cannot have. Their scripts do to a host what those of the real
ones (jicofo and videobridge of August 2026, Jitsi Meet of 2026) do, in words of our own. `packages/` holds what
goes into them; here come Prosody modules of the names that the role prosody loads: what is not there does nothing.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

PACKAGES = Path(__file__).with_name("packages")
SCRIPTS = {"config", "postinst"}
MODULES = (
    "av_moderation_component",
    "client_proxy",
    "conference_duration",
    "features_identity",
    "limits_exception",
)


def build(destination: Path, scratch: Path) -> list[Path]:
    """Build the packages into a directory and return their paths; `scratch` is an empty directory."""
    destination.mkdir(parents=True, exist_ok=True)
    return [_build(source, destination, scratch) for source in sorted(PACKAGES.iterdir())]


def _build(source: Path, destination: Path, scratch: Path) -> Path:
    tree = scratch / source.name
    shutil.copytree(source, tree)
    for path in [tree, *tree.rglob("*")]:
        runs = path.is_dir() or path.suffix == ".sh" or "init.d" in path.parts or path.name in SCRIPTS
        path.chmod(0o755 if runs else 0o644)
    if source.name == "jitsi-meet-prosody":
        for module in MODULES:
            plugin = tree / f"usr/share/jitsi-meet/prosody-plugins/mod_{module}.lua"
            if not plugin.exists():
                plugin.write_text(f'-- double, for tests\nmodule:log("info", "double of {module}");\n')
    command = ["dpkg-deb", "--root-owner-group", "-Zgzip", "--build", str(tree), str(destination)]
    built = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return destination / built.rsplit("/", 1)[1].rstrip("'.\n")


if __name__ == "__main__":
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        for package in build(Path(sys.argv[1]), Path(folder)):
            print(package)
