# ruff: noqa: INP001
"""Pack the bridge and everything it needs into one archive that a host installs without a network.

Prints a JSON object: `archive` (path of a tar with wheels and a hashed requirements.txt) and `stamp` (a hash of all
that went in, so the same sources give the same stamp). Archives are kept in $SLUSS_CACHE and not made again.
"""

import argparse
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

from packaging.requirements import Requirement

GLIBC = 36  # Debian 12's; wheels for an older one work too


def stamp(source: Path, *target: str) -> str:
    """Hash of what decides the archive's content."""
    files = [source / "pyproject.toml", source / "README.md", source / "requirements.lock"]
    files += [p for p in (source / "src").rglob("*") if p.is_file() and "__pycache__" not in p.parts]
    digest = hashlib.sha256("\0".join(target).encode())
    for path in sorted(files):
        digest.update(f"\0{path.relative_to(source)}\0".encode())
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()[:16]


def requirements(lock: Path, python: str, machine: str) -> str:
    """Return the lock's lines that apply to the host; pip would judge their markers by the controller."""
    host = {
        "implementation_name": "cpython",
        "os_name": "posix",
        "platform_machine": machine,
        "platform_python_implementation": "CPython",
        "platform_system": "Linux",
        "python_full_version": f"{python}.0",
        "python_version": python,
        "sys_platform": "linux",
    }
    lines = []
    for line in lock.read_text("utf-8").replace("\\\n", " ").splitlines():
        what, *hashes = line.split(" --hash=")
        if not hashes:
            continue
        requirement = Requirement(what)
        if requirement.marker is None or requirement.marker.evaluate(host):
            pins = " ".join(f"--hash={value.strip()}" for value in hashes)
            lines.append(f"{requirement.name}{requirement.specifier} {pins}")
    return "\n".join(lines) + "\n"


def pip(*arguments: str) -> None:
    """Run pip. What it says matters only when it fails."""
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", *arguments]
    done = subprocess.run(  # noqa: S603  fixed arguments and the paths of the inventory
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    if done.returncode:
        sys.exit(f"{' '.join(command)}:\n{done.stdout}")


def dependencies(lock: str, given: Path | None, python: str, machine: str, cache: Path) -> Path:
    """Return a directory with the wheels that the lock names; downloaded once, or taken from those given."""
    wheels = cache / f"wheels-{hashlib.sha256(f'{python} {machine} {lock}'.encode()).hexdigest()[:16]}"
    if wheels.exists():
        return wheels
    platforms = [f"manylinux_2_{minor}_{machine}" for minor in range(GLIBC, 4, -1)]
    platforms += [f"manylinux2014_{machine}", f"linux_{machine}"]
    with tempfile.TemporaryDirectory(dir=cache) as name:
        pinned, folder = Path(name, "requirements.txt"), Path(name, "wheels")
        pinned.write_text(lock, "utf-8")
        pip(
            *("download", "--quiet", "--no-deps", "--only-binary=:all:", "--require-hashes"),
            *("--dest", str(folder), "--requirement", str(pinned), "--python-version", python),
            *(f"--platform={platform}" for platform in platforms),
            *(("--no-index", "--find-links", str(given)) if given else ()),
        )
        try:
            folder.rename(wheels)
        except OSError:
            if not wheels.exists():  # made meanwhile by another play
                raise
    return wheels


def pack(source: Path, given: Path | None, python: str, machine: str, archive: Path) -> None:
    """Make the archive of the bridge's own wheel and those it needs."""
    lock = requirements(source / "requirements.lock", python, machine)
    wheels = dependencies(lock, given, python, machine, archive.parent)
    with tempfile.TemporaryDirectory(dir=archive.parent) as name:
        pip("wheel", "--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir", name, str(source))
        own = next(Path(name).glob("sluss-*.whl"))
        sha256 = hashlib.sha256(own.read_bytes()).hexdigest()
        pinned = Path(name, "requirements.txt")
        pinned.write_text(f"{lock}sluss=={own.name.split('-')[1]} --hash=sha256:{sha256}\n", "utf-8")
        part = Path(name, "archive.tar")
        with tarfile.open(part, "w") as tar:
            for path in sorted([*wheels.iterdir(), own, pinned]):
                tar.add(path, path.name)
        part.rename(archive)


def main() -> None:
    """Read the arguments, pack if needed, print where."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--source", type=Path, required=True, help="the bridge's package")
    parser.add_argument("--python", required=True, help="the host's Python, such as 3.13")
    parser.add_argument("--machine", required=True, help="the host's architecture, such as x86_64")
    parser.add_argument("--wheels", type=Path, help="directory of wheels to use instead of downloading")
    parser.add_argument(
        "--cache",
        type=Path,
        default=Path(os.environ.get("SLUSS_CACHE", "~/.cache/sluss")),
        help="where archives are kept",
    )
    given = parser.parse_args()
    cache = given.cache.expanduser()
    cache.mkdir(parents=True, exist_ok=True)
    mark = stamp(given.source, given.python, given.machine)
    archive = cache / f"bridge-{mark}.tar"
    if not archive.exists():
        pack(given.source, given.wheels, given.python, given.machine, archive)
        for old in sorted(cache.glob("bridge-*.tar"), key=lambda p: p.stat().st_mtime)[:-4]:
            old.unlink()
        for old in sorted(cache.glob("wheels-*"), key=lambda p: p.stat().st_mtime)[:-4]:
            shutil.rmtree(old)
    sys.stdout.write(json.dumps({"archive": str(archive), "stamp": mark}))


if __name__ == "__main__":
    main()
