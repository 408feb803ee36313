"""A whole installation in one test: the real store, services and delivery worker; mail, SMS, door and clock in hand."""

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo

import pyotp

from sluss.app import _services
from sluss.delivery.worker import OutboxWorker
from sluss.domain.assurance import Purpose
from sluss.domain.drafts import parse_meeting
from sluss.domain.errors import DeliveryFailed
from sluss.domain.gate import GateEvent, OccupantKind, Stage, Verdict
from sluss.domain.meetings import Meeting, Organiser
from sluss.keyring.secrets import Hasher, field_key
from sluss.keyring.tickets import TicketKeys, create_first_key
from sluss.services import Services
from sluss.services.common import Ground, Site
from sluss.store.database import Store, upgrade
from sluss.store.sealing import Sealer

MASTER = bytes(range(32))
PASSWORD = "lagom svår mening 47"
ANNA = ("Anna Lindberg", "anna@example.org", "070-174 06 05")
MOBILE = "+46701740605"
PORTAL, MEET = "portal.sluss.test", "meet.sluss.test"
BROWSER, OTHER_BROWSER, ORGANISERS_BROWSER = "browser-a", "browser-b", "browser-o"


@dataclass
class Post:
    """Takes mails and SMS as the relay and the gateway would."""

    sent: list[tuple[str, str]] = field(default_factory=list)
    down: Exception | None = None

    async def send(self, to: str, text: str = "", *, subject: str = "", body: str = "") -> None:
        if self.down:
            raise self.down
        self.sent.append((to, text or body))


@dataclass
class RecordingDoor:
    """Writes down what the rules ask of the gate. The gate's own tests use the real one."""

    connected: bool = True
    expelled: list[tuple[str, str]] = field(default_factory=list)
    ended: list[str] = field(default_factory=list)

    async def expel(self, room: str, username: str, text: str) -> int:
        self.expelled.append((room, username))
        return 1

    async def end(self, room: str, text: str) -> None:
        self.ended.append(room)


class Clock:
    """Time that moves when told to."""

    def __init__(self) -> None:
        self.now = datetime(2026, 5, 4, 8, 0, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now

    def forward(self, **by: float) -> None:
        self.now += timedelta(**by)


@dataclass
class World:
    """What a test holds."""

    services: Services
    store: Store
    worker: OutboxWorker
    clock: Clock
    mail: Post
    sms: Post
    door: RecordingDoor
    keys: TicketKeys
    database: Path
    _seq: int = 0

    async def organiser(self, email: str = "eva@example.org", browser: str = ORGANISERS_BROWSER) -> Organiser:
        """An enrolled organiser; sign in with `sign_in`."""
        url = await self.services.organisers.add("Eva Ek", email)
        token = urlsplit(url).path.rpartition("/")[2]
        secret = (await self.services.organisers.enrolment(token)).secret
        self.totp = pyotp.TOTP(secret)
        self.recovery = await self.services.organisers.enrol(token, PASSWORD, self.totp.at(self.clock.now))
        return await self.services.organisers.by_email(email)

    async def signed_in(self, email: str = "eva@example.org") -> tuple[Organiser, str]:
        """An organiser with both factors given: who, and the browser's session value."""
        organiser = await self.organiser(email)
        self.clock.forward(seconds=30)
        await self.services.organisers.password(ORGANISERS_BROWSER, email, PASSWORD, "192.0.2.1")
        session = await self.services.organisers.second_factor(
            ORGANISERS_BROWSER, self.totp.at(self.clock.now), "192.0.2.1"
        )
        return organiser, session

    async def meeting(
        self, organiser: Organiser, *people: tuple[str, str, str], starts_in: int = 10, sensitivity: str = "internal"
    ) -> Meeting:
        """A meeting that begins in `starts_in` minutes, its mails delivered."""
        start = (self.clock.now + timedelta(minutes=starts_in)).astimezone(ZoneInfo("Europe/Stockholm"))
        form = {
            "title": "Budget",
            "agenda": "1. Öppning\n2. Siffror",
            "date": f"{start:%Y-%m-%d}",
            "time": f"{start:%H:%M}",
            "minutes": "60",
            "time_zone": "Europe/Stockholm",
            "sensitivity": sensitivity,
        }
        draft = parse_meeting(form, people or [ANNA], region="SE", now=self.clock.now)
        meeting = await self.services.meetings.create(organiser, draft)
        await self.worker.deliver_due()
        return meeting

    def link(self, to: str = ANNA[1]) -> str:
        """The personal link of the last mail to `to`."""
        body = [text for address, text in self.mail.sent if address == to][-1]
        return re.search(rf"https://{PORTAL}/i/(\S+)", body)[1]

    def code(self, to: str = MOBILE) -> str:
        """The code of the last SMS to `to`."""
        return re.search(r"\b(\d{6})\b", [text for number, text in self.sms.sent if number == to][-1])[1]

    async def verified(self, link: str, purpose: Purpose, browser: str = BROWSER, to: str = MOBILE) -> None:
        """The person with the phone completes a verification."""
        self.clock.forward(seconds=31)
        await self.services.participation.send_code(link, browser, purpose, "sv", "192.0.2.7")
        await self.worker.deliver_due()
        await self.services.participation.verify(link, browser, purpose, self.code(to), "192.0.2.7")

    async def authenticate(self, token: str, room: str, session: str = "xmpp-1") -> Verdict:
        """What the gate asks first."""
        return await self.services.admission.authenticate(
            token=token, room=room, session=session, transport="websocket", address="192.0.2.7"
        )

    async def admit(self, room: str, username: str, session: str = "xmpp-1", stage: Stage = Stage.JOIN) -> Verdict:
        """What the gate asks at the room's door."""
        return await self.services.admission.admit(
            session=session,
            room=room,
            occupant=f"{username}@{MEET}/res",
            kind=OccupantKind.PARTICIPANT,
            stage=stage,
        )

    def event(self, room: str, username: str, session: str = "xmpp-1", epoch: str = "e1") -> GateEvent:
        """The next numbered event."""
        self._seq += 1
        return GateEvent(epoch, self._seq, room, session, f"{username}@{MEET}/res", int(self.clock.now.timestamp()))

    async def inside(self, link: str, session: str = "xmpp-1", browser: str = BROWSER) -> str:
        """Verified for both purposes, ticket used, in the room. Returns the user name."""
        await self.verified(link, Purpose.VIEW, browser)
        await self.verified(link, Purpose.JOIN, browser)
        ticket = await self.services.tickets.for_participant(link, browser)
        who = await self.authenticate(ticket.token, ticket.room, session)
        assert who.allow
        assert (await self.admit(ticket.room, who.username, session)).allow
        await self.services.admission.entered(self.event(ticket.room, who.username, session))
        return who.username


@asynccontextmanager
async def build(directory: Path) -> AsyncIterator[World]:
    """A new installation in `directory`."""
    directory.mkdir(parents=True, exist_ok=True)
    database = directory / "sluss.db"
    url = f"sqlite:///{database}"
    upgrade(url)
    create_first_key(directory / "keys")
    keys = TicketKeys({p.name: p.read_bytes() for p in (directory / "keys").iterdir()})
    clock, mail, sms, door = Clock(), Post(), Post(), RecordingDoor()
    store = Store(url, Sealer(field_key(MASTER)))
    worker = OutboxWorker(store, mail, sms, clock)
    site = Site("Demo", f"https://{PORTAL}", PORTAL, MEET, "sv")
    services = _services(Ground(store, clock, Hasher(MASTER), site, worker.wake), keys, lambda: door, gate=True)
    try:
        yield World(services, store, worker, clock, mail, sms, door, keys, database)
    finally:
        store.close()


DOWN = DeliveryFailed("gateway answered 503")
