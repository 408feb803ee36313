"""A host with doubles of Jitsi's packages, installed from a bundle after a mirror that nobody trusts was refused."""

from __future__ import annotations

import functools
import hashlib
import http.server
import json
import re
import shutil
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.doubles.jitsi.build import build
from tests.hosts.image import Image
from tests.hosts.nspawn import Host
from tests.hosts.provision import Play, play


@dataclass(frozen=True)
class Sources:
    """A bundle, and a mirror of it (a directory) that one of two keys has signed."""

    bundle: Path
    mirror: Path
    key: Path  # signed the mirror
    fingerprint: str
    other_key: Path


@pytest.fixture(scope="session")
def sources(tmp_path_factory) -> Sources:
    folder = tmp_path_factory.mktemp("jitsi")
    build(folder / "bundle", folder / "trees")
    keys = folder / "keys"
    keys.mkdir(mode=0o700)
    for name in ("mirror", "stranger"):
        gpg(keys, "--quick-gen-key", name, "ed25519", "sign", "never")
        gpg(keys, "--armor", "--output", str(folder / f"{name}.asc"), "--export", f"={name}")
    shown = gpg(keys, "--with-colons", "--fingerprint", "=mirror")
    fingerprint = re.search(r"^fpr:+([0-9A-F]{40}):", shown, re.MULTILINE)[1]
    lay_out_mirror(folder / "mirror/stable", folder / "bundle", keys)
    shutil.copy(folder / "mirror.asc", folder / "mirror/key.asc")
    return Sources(folder / "bundle", folder / "mirror", folder / "mirror.asc", fingerprint, folder / "stranger.asc")


def gpg(home: Path, *arguments: str) -> str:
    command = ["gpg", "--homedir", str(home), "--batch", "--quiet", "--passphrase", "", *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout


def lay_out_mirror(stable: Path, bundle: Path, keys: Path) -> None:
    """Make of the bundle a signed flat repository, as apt reads it."""
    stable.mkdir(parents=True)
    entries = []
    for package in sorted(bundle.glob("*.deb")):
        shutil.copy(package, stable)
        fields = subprocess.run(["dpkg-deb", "-f", package], check=True, capture_output=True, text=True).stdout
        digest = hashlib.sha256(package.read_bytes()).hexdigest()
        place = f"Filename: stable/{package.name}\nSize: {package.stat().st_size}\nSHA256: {digest}\n"
        entries.append(fields + place)
    listing = "\n".join(entries).encode()
    (stable / "Packages").write_bytes(listing)
    digest = hashlib.sha256(listing).hexdigest()
    release = stable / "Release"
    release.write_text(f"Date: Thu, 01 Jan 2026 00:00:00 UTC\nSHA256:\n {digest} {len(listing)} Packages\n")
    gpg(keys, "--local-user", "=mirror", "--output", str(stable / "InRelease"), "--clearsign", str(release))


def options(**values: object) -> list[str]:
    return ["-e", json.dumps({name: str(value) for name, value in values.items()})]


@dataclass(frozen=True)
class Installed:
    machine: Host
    sources: Sources
    mirror: str  # its address
    refused: Play  # site.yml on the plain host, from a mirror that a stranger signed
    traces: str  # what it had left there
    first: Play
    second: Play


@pytest.fixture(scope="session")
def mirror(boot, sources) -> Iterator[str]:
    """Its address."""
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=sources.mirror)
    with http.server.ThreadingHTTPServer((boot.network.gateway, 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://{server.server_address[0]}:{server.server_address[1]}"
        server.shutdown()


def with_jitsi(machine: Host, sources: Sources, mirror: str) -> tuple[Play, str, Play, Play]:
    """Boot a plain Debian, and run the play on it with a source that is refused, then with the bundle, twice.

    All that `Installed` has of it.
    """
    machine.create(Image("trixie").build())
    machine.start()
    stranger = options(jitsi_source="mirror", jitsi_mirror_url=mirror, jitsi_mirror_key=sources.other_key)
    refused = play(machine, "site.yml", "demo", *stranger)
    traces = machine.run("ls -d /tmp/sluss-jitsi-* /etc/sluss /etc/jitsi /etc/prosody || true").stdout
    bundle = options(jitsi_source="bundle", jitsi_bundle=sources.bundle)
    first = play(machine, "site.yml", "demo", *bundle)
    second = first if first.failed else play(machine, "site.yml", "demo", *bundle)
    return refused, traces, first, second


@pytest.fixture(scope="session")
def jitsi(boot, sources, mirror, ahead) -> Installed:
    if "jitsi" in ahead:
        machine, done = ahead["jitsi"]
        made = done.result()
    else:
        machine = boot.place("sluss-jitsi")
        made = with_jitsi(machine, sources, mirror)
    installed = Installed(machine, sources, mirror, *made)
    if installed.first.failed:
        pytest.fail(f"site.yml stopped:\n{installed.first.failure}", pytrace=False)
    return installed
