"""The base image of a disposable host: a Debian as its installer leaves it, made once and kept by its recipe.

Nothing about it is Sluss's own: package sources and trusted authorities are the machine's.
"""

from __future__ import annotations

import fcntl
import hashlib
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from tests.hosts.nspawn import CACHE, Problem, last_line, sh

KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
BOOTSTRAP_SECONDS = 900
BUNDLE = Path("/etc/ssl/certs/ca-certificates.crt")
# What the installer puts on a server with ssh, and no more: the roles bring the rest.
PACKAGES = [
    *("systemd", "systemd-sysv", "dbus", "libpam-systemd", "python3", "python3-apt"),
    *("iproute2", "openssh-server", "ca-certificates", "sudo"),
]


def mirrors() -> dict[str, str]:
    """Return where this machine takes Debian and its security updates from, by the label of the archive."""
    listed = sh("apt-get", "indextargets", "--format", "$(LABEL) $(REPO_URI)", "Created-By: Packages").stdout
    found: dict[str, str] = {}
    for label, uri in (line.split() for line in listed.splitlines() if line.startswith("Debian")):
        listing = uri.removeprefix("mirror+file:").rstrip("/")
        if listing != uri.rstrip("/"):  # a file of mirrors, as in Debian's cloud images
            uri = Path(listing).read_text().split()[0]  # noqa: PLW2901
        found.setdefault(label, uri)
    if missing := {"Debian", "Debian-Security"} - found.keys():
        raise Problem(
            f"apt on this machine knows no source for {' and '.join(sorted(missing))}: "
            "add it to /etc/apt/sources.list.d and run apt-get update"
        )
    return found


@dataclass(frozen=True)
class Image:
    """A small Debian as its installer leaves it, made once and kept by the hash of its recipe."""

    release: str  # Debian's code name

    def sources(self) -> str:
        at = mirrors()
        suites = [
            (at["Debian"], self.release),
            (at["Debian"], f"{self.release}-updates"),
            (at["Debian-Security"], f"{self.release}-security"),
        ]
        return "".join(f"deb [signed-by={KEYRING}] {uri} {suite} main\n" for uri, suite in suites)

    def build(self) -> Path:
        """Return the directory of the image, made first if it is not there."""
        proxy = sh("apt-config", "shell", "P", "Acquire::http::Proxy").stdout.strip()[3:-1]
        sources = self.sources()
        recipe = [Path(__file__).read_text(), self.release, sources, proxy, BUNDLE.read_text()]
        key = hashlib.sha256("\0".join(recipe).encode()).hexdigest()[:16]
        path = CACHE / "images" / f"{self.release}-{key}"
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.with_suffix(".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not path.exists():
                new = path.with_suffix(".new")
                shutil.rmtree(new, ignore_errors=True)
                self._bootstrap(new, sources, proxy)
                self._settle(new)
                new.rename(path)
        return path

    def _bootstrap(self, path: Path, sources: str, proxy: str) -> None:
        options = ["--quiet", "--variant=apt", "--mode=root", "--dpkgopt=force-unsafe-io"]
        options.append("--skip=cleanup/apt/lists")  # a play's cache_valid_time would see fresh, empty lists
        if proxy:
            options.append(f'--aptopt=Acquire::http::Proxy "{proxy}"')
        include = f"--include={','.join(PACKAGES)}"
        try:
            sh("mmdebstrap", *options, include, self.release, str(path), "-", input=sources, timeout=BOOTSTRAP_SECONDS)
        except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
            shutil.rmtree(path, ignore_errors=True)
            late = isinstance(error, subprocess.TimeoutExpired)
            why = f"not done after {BOOTSTRAP_SECONDS / 60:.0f} minutes" if late else last_line(error.stderr)
            raise Problem(f"no image of Debian {self.release} (is the package mirror reachable?): {why}") from error

    def _settle(self, root: Path) -> None:
        trust_as_this_machine(root)
        (root / "etc/machine-id").write_text("")
        for key in (root / "etc/ssh").glob("ssh_host_*"):
            key.unlink()
        systemctl = ("systemctl", f"--root={root}")
        sh(*systemctl, "enable", "systemd-networkd.service", "ssh.service")
        sh(*systemctl, "mask", "systemd-networkd-wait-online.service", "getty.target")


def trust_as_this_machine(root: Path) -> None:
    """Add the authorities that this machine trusts and a plain Debian does not."""
    pem = re.compile(r"-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----\n", re.DOTALL)
    known = set(pem.findall((root / str(BUNDLE)[1:]).read_text()))
    extra = [certificate for certificate in pem.findall(BUNDLE.read_text()) if certificate not in known]
    folder = root / "usr/local/share/ca-certificates"
    folder.mkdir(parents=True, exist_ok=True)
    for number, certificate in enumerate(extra):
        (folder / f"machine-{number}.crt").write_text(certificate)
    sh("chroot", str(root), "update-ca-certificates")
