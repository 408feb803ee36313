"""What all tests share: real Debian hosts, booted once a run, in the network that `./sluss test` gives it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.hosts.image import Image
from tests.hosts.jitsi import jitsi, sources
from tests.hosts.nspawn import Host, Network
from tests.hosts.provision import Play, play

__all__ = ["jitsi", "sources"]  # fixtures

NAMES = ("portal.sluss.test", "meet.sluss.test", "outbox.sluss.test")


REFERENCE = r"<code>[0-9a-f]{16,32}</code>"
"""What differs between any two pages that refuse something."""

TICKET = r"eyJ[\w-]{8,}\.[\w-]{8,}\.[\w-]{8,}"
"""What a ticket looks like: a link or a number of a session can have `eyJ` in it too."""

ORDER = ("unit", "attacks", "hosts", "browser")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run what is quick first and browsers last: Playwright's loop stays, and asyncio's tests want their own.

    Very last those for which the shared server is set up otherwise, which stays so (`ways`).
    """

    def place(item: pytest.Item) -> tuple[int, bool]:
        room = item.path.relative_to(Path(__file__).parent).parts[0]
        return ORDER.index(room), "ways" in getattr(item, "fixturenames", ())

    items.sort(key=place)


@dataclass(frozen=True)
class Server:
    """A host that `playbooks/site.yml` has made a Sluss, as the world sees it and as its root does."""

    machine: Host
    first_run: Play
    ca_file: Path  # the authority to trust
    portal_url: str = "https://portal.sluss.test"
    meet_url: str = "https://meet.sluss.test"
    outbox_url: str = "https://outbox.sluss.test"

    @property
    def address(self) -> str:
        return self.machine.address

    def run(self, command: str, **options):
        """Run a shell command as root on the host; see `Host.run`."""
        return self.machine.run(command, **options)

    def provision(self) -> Play:
        return play(self.machine)


@pytest.fixture(scope="session")
def boot() -> Iterator[Callable[..., Host]]:
    """Boot a new, plain Debian: `boot("name")`, `boot("name", "bookworm")`."""
    if "SLUSS_RUN" not in os.environ:
        pytest.fail("hosts need a network of their own: run this through ./sluss test", pytrace=False)
    network = Network.free("sluss0")
    network.up()
    hosts: list[Host] = []

    def boot_host(name: str, release: str = "trixie") -> Host:
        address = str(network.subnet[2 + len(hosts)])
        host = Host(name, Path(os.environ["SLUSS_RUN"]) / name, network, address)
        hosts.append(host)
        host.create(Image(release).build())
        host.start()
        return host

    yield boot_host
    for host in hosts:
        host.destroy()


@pytest.fixture(scope="session")
def host(request: pytest.FixtureRequest) -> Server:
    """Provision the server that the tests of hosts, browsers and attacks share. Its names resolve here.

    A test that starts pytest itself names its own server in SLUSS_HOST (folder and address); it is used as it is.
    """
    if "SLUSS_HOST" in os.environ:
        folder, address = os.environ["SLUSS_HOST"].split()
        machine = Host("sluss-demo", Path(folder), Network.free("sluss0"), address)
        return Server(machine, Play("", False, 0), machine.folder / "ca.pem")
    machine = request.getfixturevalue("boot")("sluss-demo")
    first_run = play(machine)
    if first_run.failed:
        pytest.fail(f"site.yml stopped:\n{first_run.failure}", pytrace=False)
    ca_file = machine.folder / "ca.pem"
    ca_file.write_text(machine.run("cat /etc/sluss/tls/ca.pem").stdout)
    hosts = Path(
        "/etc/hosts"
    )  # the run's own copy; the first line that has a name counts, and a demo may have written one
    hosts.write_text(f"{machine.address} {' '.join(NAMES)}\n{hosts.read_text()}")
    return Server(machine, first_run, ca_file)
