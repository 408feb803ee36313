"""Further ways to prove who one is, set up on the shared server all at once, as an organisation may have them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from tests.hosts.provision import Play, play


@dataclass(frozen=True)
class Way:
    """One of them. The module with its tests makes it: a context manager `way(host, folder)`."""

    it: Any  # for the tests
    settings: dict  # what an inventory says of it
    names: dict[str, str]  # host names it needs, and their addresses
    traces: str  # paths on the host that are gone with it


@dataclass(frozen=True)
class Ways:
    host: Any
    bankid: Way
    directory: Way
    sign_in: Way
    smartcard: Way

    @property
    def all(self) -> tuple[Way, ...]:
        return (self.bankid, self.directory, self.sign_in, self.smartcard)

    def provision(self) -> Play:
        settings = {name: value for way in self.all for name, value in way.settings.items()}
        return play(self.host.machine, "site.yml", "demo", "-e", json.dumps(settings))


@pytest.fixture(scope="session")
def ways(host, tmp_path_factory) -> Iterator[Ways]:
    """The shared server with them, set up as an administrator does it; as before in the end."""
    from tests.browser import test_bankid, test_directory, test_sign_in, test_smartcard

    with ExitStack() as stack:
        bankid, directory, sign_in, smartcard = (
            stack.enter_context(module.way(host, tmp_path_factory.mktemp("way")))
            for module in (test_bankid, test_directory, test_sign_in, test_smartcard)
        )
        them = Ways(host, bankid, directory, sign_in, smartcard)
        lines = "".join(f"{address} {name}\n" for way in them.all for name, address in way.names.items())
        here = Path("/etc/hosts")  # the run's own copy
        stack.callback(here.write_text, here.read_text())
        here.write_text(lines + here.read_text())
        there = host.run("cat /etc/hosts").stdout
        stack.callback(host.run, "cat > /etc/hosts", input=there)
        host.run("cat > /etc/hosts", input=there + lines)
        provisioned = them.provision()
        try:
            assert not provisioned.failed, provisioned.failure
            yield them
        finally:
            stack.close()
            again = host.provision()
    assert not again.failed, again.failure
    assert not host.run(f"ls -d {' '.join(way.traces for way in them.all)}", check=False).stdout
