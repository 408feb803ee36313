"""The real pages on a whole installation (`world`): the browser has no screen, time stands still."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address

import pytest
from aiohttp.test_utils import TestClient, TestServer
from tests.unit.web.browser import PORTAL, Browser
from tests.unit.world import World

from sluss.domain.accounts import AccountRole
from sluss.domain.meetings import MeetingDraft, ParticipantDraft
from sluss.services import Services
from sluss.web import PortalSettings, make_portal
from sluss.web.security import HOMES

NOON = datetime(2026, 10, 15, 10, 0, tzinfo=UTC)
MEET = "https://meet.sluss.test"
OLLE = "olle@sluss.test"
ANNA = ParticipantDraft("Anna Lindberg", "anna@example.org", "+46701740605")
BENGT = ParticipantDraft("Bengt Ek", "bengt@example.org", "+46701740606")


@dataclass
class Portal:
    """A running portal, and what a test can know besides."""

    client: TestClient
    world: World

    @property
    def services(self) -> Services:
        return self.world.services

    def browser(self, language: str = "en") -> Browser:
        return Browser(self.client, language)

    async def sign_in(self, browser: Browser, email: str = OLLE, role: AccountRole = AccountRole.ORGANISER) -> None:
        """Be an organiser, or an auditor or admin, both factors given."""
        _, browser.cookies["__Host-sluss"] = await self.world.signed_in(email, role)
        await browser.get("/")
        assert browser.page.path == HOMES[role], browser.page.text

    def authenticator(self) -> str:
        """The organiser's code now."""
        return self.world.totp.at(self.world.clock())

    async def meeting(self, browser: Browser, *people: ParticipantDraft, starts_in: float = 10) -> str:
        """A meeting of the organiser signed in at `browser`, its mails delivered; its id. Minutes until the start."""
        organiser = await self.services.organisers.current(browser.cookies["__Host-sluss"])
        start = self.world.clock() + timedelta(minutes=starts_in)
        agenda = "1. Why\n2. When\n<3. Who>"
        draft = MeetingDraft("Closing the Gävle plant", agenda, start, 60, "Europe/Stockholm", "internal", people)
        meeting = await self.services.meetings.create(organiser, draft)
        await self.world.worker.deliver_due()
        return meeting.id

    async def link(self, person: ParticipantDraft = ANNA) -> str:
        """The path of the personal link last mailed to `person`."""
        await self.world.worker.deliver_due()
        return f"/i/{self.world.link(person.email)}"

    async def code(self, person: ParticipantDraft = ANNA) -> str:
        """The code last sent to `person`."""
        await self.world.worker.deliver_due()
        return self.world.code(person.mobile)

    async def verify(self, browser: Browser, link: str) -> None:
        """Anna proves who she is, to see the invitation."""
        await browser.get(link)
        await browser.submit(f"{link}/code")
        await browser.submit(f"{link}/verify", code=await self.code())
        assert browser.page.path == link, browser.page.text
        self.world.clock.forward(seconds=31)

    async def enter(self, browser: Browser, link: str) -> None:
        """Anna proves it for both purposes and is on the room page."""
        await self.verify(browser, link)
        await browser.submit(f"{link}/join/code")
        await browser.submit(f"{link}/join/verify", code=await self.code())
        assert browser.page.path == f"{link}/room", browser.page.text


@pytest.fixture
async def make(world) -> AsyncIterator[Callable[..., Portal]]:
    """Start a portal: `await make(jitsi=True)`."""
    world.clock.now = NOON
    async with AsyncExitStack() as stack:

        async def start(**changes) -> Portal:
            settings = PortalSettings(
                **{
                    "organisation": "Gävle Ltd",
                    "portal_origin": PORTAL,
                    "meet_origin": MEET,
                    "meet_host": "meet.sluss.test",
                    "jitsi": False,
                    "trusted_proxies": (),
                    "default_locale": "sv",
                    "default_region": "SE",
                    "sms_prefixes": ("+46",),
                    "csrf_key": b"k" * 32,
                }
                | changes
            )
            pages = make_portal(world.services, settings, world.keys, world.clock)
            client = await stack.enter_async_context(TestClient(TestServer(pages, access_log=None)))
            return Portal(client, world)

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


@pytest.fixture
async def meeting(portal, organiser) -> str:
    """A meeting in ten minutes, with Anna."""
    return await portal.meeting(organiser, ANNA)


@pytest.fixture
async def link(portal, meeting) -> str:
    """Anna's."""
    return await portal.link()
