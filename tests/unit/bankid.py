"""BankID for a test: its double on this machine over mutual TLS, our client, and people."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import aiohttp
from aiohttp import web
from tests.doubles.bankid.double import API, SIGNS, STARTED, WAITS, BankIdDouble, complete, tls
from tests.unit.certificates import Authority
from tests.unit.world import ANNA, World, build

from sluss.domain.assurance import Method, Purpose, Risk
from sluss.factors.bankid import BankId, State, mutual_tls

NUMBER, NAMESAKES, BOS = "198112289874", "199001012384", "195001182046"
ANNA_SIGNS = complete(NUMBER, "Anna Maria", "Lindberg")
NAMESAKE_SIGNS = complete(NAMESAKES, "Anna", "Lindberg")
BO_SIGNS = complete(BOS, "Bo", "Ek")
HOME = "198.51.100.1"


@dataclass
class Service:
    """The running double."""

    double: BankIdDouble
    url: str
    authority: Path
    certificate: Path
    key: Path
    client: BankId


@asynccontextmanager
async def serving(folder: Path) -> AsyncIterator[Service]:
    """The double, and a client with the certificate that it knows."""
    server, clients = folder / "server", folder / "clients"
    for path in (server, clients):
        path.mkdir(parents=True, exist_ok=True)
    bank, ours = Authority(server), Authority(clients)
    certificate, key = ours.issue("demo")
    double = BankIdDouble()
    async with AsyncExitStack() as stack:
        runner = web.AppRunner(double.application(), access_log=None, shutdown_timeout=0)
        await runner.setup()
        stack.push_async_callback(runner.cleanup)
        context = tls(*map(str, bank.issue("localhost")), str(ours.file))
        await web.TCPSite(runner, "localhost", 0, ssl_context=context).start()
        url = f"https://localhost:{runner.addresses[0][1]}{API}"
        session = await stack.enter_async_context(aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()))
        client = BankId(session, url, mutual_tls(bank.file, certificate, key))
        yield Service(double, url, bank.file, certificate, key, client)


@dataclass
class BankWorld:
    """An installation with BankID, a meeting of Anna's, and BankID's double."""

    world: World
    double: BankIdDouble
    organiser: object
    meeting: object

    @property
    def orders(self):
        return self.world.services.bankid

    async def start(self, link: str, purpose=Purpose.VIEW, browser="b", address=HOME, locale="en") -> None:
        await self.orders.start(link, browser, purpose, locale, address)

    async def collect(self, link: str, purpose=Purpose.VIEW, browser="b"):
        """What a page is told, two seconds later."""
        self.world.clock.forward(seconds=2)
        return await self.orders.collect(link, browser, purpose, HOME)

    async def signs(self, who: dict, link: str | None = None, purpose=Purpose.VIEW, browser="b"):
        """Somebody goes all the way with their BankID; how it ended."""
        link = link or self.world.link()
        self.double.story = [WAITS, STARTED, SIGNS, who]
        await self.start(link, purpose, browser)
        for _ in range(4):
            progress = await self.collect(link, purpose, browser)
        assert progress.state is not State.PENDING
        return progress

    async def looks(self, link: str | None = None, browser="b"):
        return await self.world.services.participation.look(link or self.world.link(), browser)


@asynccontextmanager
async def installation(folder: Path, *people: tuple, risk: Risk = Risk.MODERATE) -> AsyncIterator[BankWorld]:
    """Anna is invited (or `people` are) to a confidential meeting in ten minutes."""
    methods = frozenset({Method.SMS, Method.BANKID})
    async with (
        serving(folder) as service,
        build(folder, durable=False, methods=methods, bankid=(service.client, risk)) as world,
    ):
        organiser = await world.organiser()
        meeting = await world.meeting(organiser, *(people or (ANNA,)), sensitivity="confidential")
        yield BankWorld(world, service.double, organiser, meeting)
