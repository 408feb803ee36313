"""A second host, as different as may be: Debian 12, a modem in place of a gateway, wheels from a directory."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.hosts.image import Image
from tests.hosts.nspawn import Host
from tests.hosts.provision import REPOSITORY, Play, play

PYTHON = "3.11"
NOWHERE = "http://127.0.0.1:9/simple"  # an index that nobody can reach


@dataclass(frozen=True)
class Provisioned:
    machine: Host
    first: Play
    second: Play


@pytest.fixture(scope="session")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What docs/install.md has somebody make on a computer that reaches an index."""
    folder = tmp_path_factory.mktemp("wheels")
    subprocess.run(
        [
            *(sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", "download", "--dest", folder),
            *("--python-version", PYTHON, "--only-binary", ":all:", "--no-deps", "--require-hashes"),
            *("-r", REPOSITORY / "auth-bridge/requirements.lock"),
        ],
        check=True,
        timeout=300,
    )
    return folder


def with_modem(machine: Host, wheels: Path) -> tuple[Play, Play]:
    """Boot a plain Debian 12, and run the play on it, twice."""
    machine.create(Image("bookworm").build())
    machine.start()
    settings = {"sluss_sms": {"kind": "gammu-smsd"}, "sluss_wheels": str(wheels)}
    options = ("site.yml", "demo", "-e", json.dumps(settings))
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("SLUSS_CACHE", tempfile.mkdtemp(dir=os.environ["SLUSS_RUN"]))  # nothing is packed yet
        environment.setenv("PIP_INDEX_URL", NOWHERE)
        first = play(machine, *options)
        return first, first if first.failed else play(machine, *options)


@pytest.fixture(scope="session")
def debian_12(boot, wheels: Path, ahead) -> Provisioned:
    if "debian_12" in ahead:
        machine, done = ahead["debian_12"]
        first, second = done.result()
    else:
        machine = boot.place("sluss-demo-12")
        first, second = with_modem(machine, wheels)
    if first.failed:
        pytest.fail(f"site.yml stopped:\n{first.failure}", pytrace=False)
    return Provisioned(machine, first, second)
