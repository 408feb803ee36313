"""The real pages on the real rules and SQLite. The gate is away, time stands still, nothing leaves the outbox."""

from __future__ import annotations

import asyncio
import dataclasses
import re
import shutil
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

import pyotp
import pytest
from aiohttp.test_utils import TestClient, TestServer
from pydantic import SecretBytes, SecretStr
from tests.unit.web.browser import PORTAL, Browser

from sluss import app
from sluss.config import Credentials, Settings
from sluss.domain.meetings import MeetingDraft, ParticipantDraft
from sluss.keyring.tickets import TicketKeys, create_first_key
from sluss.services import Services
from sluss.store.database import Store, upgrade
from sluss.web import PortalSettings, make_portal

NOON = datetime(2026, 10, 15, 10, 0, tzinfo=UTC)
MEET = "https://meet.sluss.test"
OLLE = "olle@sluss.test"
PASSWORD = "four lock gates in a row"
ANNA = ParticipantDraft("Anna Lindberg", "anna@example.org", "+46701740605")


class Clock:
    def __init__(self) -> None:
        self.now = NOON

    def __call__(self) -> datetime:
        return self.now

    def forward(self, **by: float) -> None:
        self.now += timedelta(**by)


@dataclasses.dataclass(frozen=True)
class House:
    """A database in which one organiser has enrolled and signed in. Making it takes seconds: tests begin from a copy."""

    database: Path
    enrolment: str
    recovery_page: str
    totp: pyotp.TOTP
    session: str


@dataclasses.dataclass
class Portal:
    """A running portal, and what a test can know besides."""

    client: TestClient
    services: Services
    store: Store
    clock: Clock
    house: House | None

    def browser(self, language: str = "en") -> Browser:
        return Browser(self.client, language)

    async def waiting(self, kind: str) -> list[dict[str, str]]:
        """Messages in the outbox, oldest first."""
        due = await self.store.run(lambda tx: tx.outbox.due(self.clock(), 100))
        return [m.message for m in due if m.kind == kind]

    async def code(self) -> str:
        """The code in the last SMS."""
        return re.match(r"\d{6}", (await self.waiting("sms"))[-1]["text"])[0]

    async def link(self) -> str:
        """The path of the personal link in the last mail."""
        return re.search(rf"{PORTAL}(/i/\S+)", (await self.waiting("mail"))[-1]["body"])[1]

    async def sign_in(self, browser: Browser) -> None:
        """Be the organiser who enrolled and signed in before this test."""
        browser.cookies["__Host-sluss"] = self.house.session
        await browser.get("/")
        assert browser.page.path == "/", browser.page.text

    def authenticator(self) -> str:
        """The organiser's code now."""
        return self.house.totp.at(self.clock())

    async def meeting(self, browser: Browser, *people: ParticipantDraft, starts_in: float = 10) -> str:
        """A meeting of the organiser signed in at `browser`; its id. Minutes until the start."""
        organiser = await self.services.organisers.current(browser.cookies["__Host-sluss"])
        start = self.clock() + timedelta(minutes=starts_in)
        draft = MeetingDraft(
            "Closing the Gävle plant", "1. Why\n2. When\n<3. Who>", start, 60, "Europe/Stockholm", "internal", people
        )
        return (await self.services.meetings.create(organiser, draft)).id

    async def verify(self, browser: Browser, link: str) -> None:
        """Prove who we are to see the invitation."""
        await browser.get(link)
        await browser.submit(f"{link}/code")
        await browser.submit(f"{link}/verify", code=await self.code())
        assert browser.page.path == link, browser.page.text
        self.clock.forward(seconds=31)


@pytest.fixture(scope="session")
def pems(tmp_path_factory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("keys")
    create_first_key(folder)
    return {p.name: p.read_bytes() for p in folder.iterdir()}


@asynccontextmanager
async def started(
    database: Path, pems: dict[str, bytes], house: House | None = None, **changes
) -> AsyncIterator[Portal]:
    """A portal on a database; `changes` are to its settings."""
    clock = Clock()
    settings = Settings.model_validate(
        {
            "organisation": "Gävle Ltd",
            "portal": PORTAL,
            "meet": MEET,
            "database": f"sqlite:///{database}",
            "gate": {"component": "sluss.meet.sluss.test", "enabled": False},
            "mail": {"host": "127.0.0.1", "port": 9, "security": "none", "sender": "sluss@sluss.test"},
            "sms": {"kind": "http", "url": "http://127.0.0.1:9/sms", "json": {"to": "{to}", "text": "{text}"}},
        }
    )
    credentials = Credentials(
        master_key=SecretBytes(b"slussmasterkey!!" * 2),
        component_secret=SecretStr(""),
        ticket_keys={name: SecretBytes(pem) for name, pem in pems.items()},
    )
    portal = PortalSettings(
        organisation=settings.organisation,
        portal_origin=PORTAL,
        meet_origin=MEET,
        meet_host="meet.sluss.test",
        jitsi=False,
        trusted_proxies=(),
        default_locale="sv",
        default_region="SE",
        csrf_key=b"k" * 32,
    )
    async with app.services_of(settings, credentials, clock) as (services, store):
        pages = make_portal(services, dataclasses.replace(portal, **changes), TicketKeys(pems), clock)
        async with TestClient(TestServer(pages, access_log=None)) as client:
            yield Portal(client, services, store, clock, house)


async def moved_in(database: Path, pems: dict[str, bytes]) -> House:
    upgrade(f"sqlite:///{database}")
    async with started(database, pems) as portal:
        browser, now = portal.browser(), portal.clock()
        link = (await portal.services.organisers.add("Olle Organiser", OLLE)).removeprefix(PORTAL)
        await browser.get(link)
        totp = pyotp.TOTP(re.search(r'class="secret">([^<]+)<', browser.page.html)[1].replace(" ", ""))
        before = totp.at(now - timedelta(seconds=30))
        recovery = await browser.submit(None, password=PASSWORD, again=PASSWORD, code=before)
        await browser.get("/sign-in")
        await browser.submit("/sign-in", email=OLLE, password=PASSWORD)
        await browser.submit("/sign-in/code", code=totp.at(now))
        assert browser.page.path == "/", browser.page.text
        return House(database, link, recovery.html, totp, browser.cookies["__Host-sluss"])


@pytest.fixture(scope="session")
def house(tmp_path_factory, pems) -> House:
    return asyncio.run(moved_in(tmp_path_factory.mktemp("house") / "sluss.db", pems))


@pytest.fixture
async def make(tmp_path, house, pems) -> AsyncIterator[Callable[..., Portal]]:
    """Start a portal: `await make(jitsi=True)`."""
    async with AsyncExitStack() as stack:

        async def start(**changes) -> Portal:
            database = tmp_path / f"{len(list(tmp_path.glob('*.db')))}.db"
            shutil.copy(house.database, database)
            portal = await stack.enter_async_context(started(database, pems, house, **changes))
            portal.clock.forward(minutes=1)  # the codes used at moving in are spent
            return portal

        yield start


@pytest.fixture
async def portal(make) -> Portal:
    return await make()


@pytest.fixture
async def proxied(make) -> Portal:
    return await make(trusted_proxies=(ip_address("127.0.0.1"),))


@pytest.fixture
def browser(portal) -> Browser:
    return portal.browser()


@pytest.fixture
async def organiser(portal, browser) -> Browser:
    await portal.sign_in(browser)
    return browser
