"""What all tests share: real Debian hosts, booted once a run, in the network that `./sluss test` gives it."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.hosts.debian_12 import debian_12, wheels, with_modem
from tests.hosts.image import Image
from tests.hosts.jitsi import jitsi, mirror, sources, with_jitsi
from tests.hosts.nspawn import Host, Network
from tests.hosts.provision import Play, play

__all__ = ["debian_12", "jitsi", "mirror", "sources", "wheels"]  # fixtures

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

    items.sort(key=lambda item: (ORDER.index(room(item)), "ways" in getattr(item, "fixturenames", ())))


def room(item: pytest.Item) -> str:
    """Of the tests: `unit` and so on."""
    return item.path.relative_to(Path(__file__).parent).parts[0]


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


class Boot:
    """Boots a new, plain Debian: `boot("name")`, `boot("name", "bookworm")`."""

    def __init__(self, network: Network) -> None:
        self.network, self.hosts = network, []

    def place(self, name: str) -> Host:
        """What will be a host, and has its address."""
        address = str(self.network.subnet[2 + len(self.hosts)])
        self.hosts.append(Host(name, Path(os.environ["SLUSS_RUN"]) / name, self.network, address))
        return self.hosts[-1]

    def __call__(self, name: str, release: str = "trixie") -> Host:
        host = self.place(name)
        host.create(Image(release).build())
        host.start()
        return host


@pytest.fixture(scope="session")
def boot() -> Iterator[Boot]:
    if "SLUSS_RUN" not in os.environ:
        pytest.fail("hosts need a network of their own: run this through ./sluss test", pytrace=False)
    network = Network.free("sluss0")
    network.up()
    booting = Boot(network)
    yield booting
    for host in booting.hosts:
        host.destroy()


def names_lead_to(address: str) -> None:
    """In the run's own hosts file, and nowhere else: of two addresses a resolver takes the nearer, not the first."""
    hosts = Path("/etc/hosts")
    others = [line for line in hosts.read_text().splitlines() if not set(NAMES) & set(line.split())]
    hosts.write_text("\n".join([f"{address} {' '.join(NAMES)}", *others, ""]))


def first_run(machine: Host) -> Play:
    """Boot a plain Debian and make it a Sluss."""
    machine.create(Image("trixie").build())
    machine.start()
    return play(machine)


AHEAD = {  # by fixture: the host's name, what makes it, and the fixtures that this needs
    "host": ("sluss-demo", first_run, ()),
    "debian_12": ("sluss-demo-12", with_modem, ("wheels",)),
    "jitsi": ("sluss-jitsi", with_jitsi, ("sources", "mirror")),
}


@pytest.fixture(scope="session", autouse=True)
def ahead(request: pytest.FixtureRequest) -> Iterator[dict[str, tuple[Host, Future]]]:
    """Make hosts while the unit tests run, by fixture: where they are, and what came of it.

    In processes of their own, which do not see what unit tests do to their environment.
    """
    names = {name for item in request.session.items for name in getattr(item, "fixturenames", ())}
    rooms = {room(item) for item in request.session.items}
    if "SLUSS_RUN" not in os.environ or "SLUSS_HOST" in os.environ or "unit" not in rooms:
        yield {}
        return
    jobs: dict[str, tuple[Host, Future]] = {}
    pool = ProcessPoolExecutor(2, multiprocessing.get_context("fork"))
    pool.submit(os.getpid)  # they begin now, before this process has threads
    try:
        for fixture, (name, make, needs) in AHEAD.items():
            # What cannot be had, the fixture itself says, to the tests that need it.
            with contextlib.suppress(Exception, pytest.fail.Exception):
                if fixture in names:
                    given = [request.getfixturevalue(need) for need in needs]
                    machine = request.getfixturevalue("boot").place(name)
                    jobs[fixture] = machine, pool.submit(make, machine, *given)
        yield jobs
    finally:
        pool.shutdown(cancel_futures=True)


@pytest.fixture(scope="session")
def host(request: pytest.FixtureRequest, ahead: dict[str, tuple[Host, Future]]) -> Server:
    """Provision the server that the tests of hosts, browsers and attacks share. Its names resolve here.

    A test that starts pytest itself names its own server in SLUSS_HOST (folder and address); it is used as it is.
    """
    if "SLUSS_HOST" in os.environ:
        folder, address = os.environ["SLUSS_HOST"].split()
        machine = Host("sluss-demo", Path(folder), Network.free("sluss0"), address)
        return Server(machine, Play("", False, 0), machine.folder / "ca.pem")
    if "host" in ahead:
        machine, done = ahead["host"]
        wait(job for _, job in ahead.values())  # what needs hosts may also need the machine for itself
        run = done.result()
    else:
        machine = request.getfixturevalue("boot").place("sluss-demo")
        run = first_run(machine)
    if run.failed:
        pytest.fail(f"site.yml stopped:\n{run.failure}", pytrace=False)
    ca_file = machine.folder / "ca.pem"
    ca_file.write_text(machine.run("cat /etc/sluss/tls/ca.pem").stdout)
    names_lead_to(machine.address)
    return Server(machine, run, ca_file)
