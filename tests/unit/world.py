"""A whole installation in one test: the real store, services and delivery worker; mail, SMS, door and clock in hand."""

import re
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

import pyotp
from argon2 import PasswordHasher
from sqlalchemy import event

from sluss.app import _services
from sluss.delivery.worker import OutboxWorker
from sluss.domain.accounts import AccountRole
from sluss.domain.assurance import Method, Purpose, Risk
from sluss.domain.drafts import parse_meeting
from sluss.domain.errors import DeliveryFailed, GateUnavailable, Told
from sluss.domain.gate import Entry, GateEvent, OccupantKind, Stage, Verdict
from sluss.domain.limits import SmsRules
from sluss.domain.meetings import Meeting, Organiser, Ticket
from sluss.domain.policy import Policy
from sluss.factors import PARTICIPANT_METHODS
from sluss.factors.bankid import BankId
from sluss.factors.sign_in import Provider
from sluss.factors.smartcard import CardRules
from sluss.keyring.ring import create_first_key
from sluss.keyring.secrets import Hasher, audit_key, field_key
from sluss.keyring.tickets import TicketKeys
from sluss.policy_file import default_policy
from sluss.services import Services
from sluss.services.common import Ground, Site, new_id, new_link
from sluss.services.housekeeping import Housekeeping
from sluss.store.database import Store, Transaction, upgrade
from sluss.store.sealing import Sealer

if TYPE_CHECKING:
    from sluss.factors.ldap import Ldap

MASTER = bytes(range(32))
PASSWORD = "lagom svår mening 47"
QUICK = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)
"""Hashing as strong as production's takes a test's time; its parameters have a test of their own."""
PASSWORD_HASH = QUICK.hash(PASSWORD)
ANNA = ("Anna Lindberg", "anna@example.org", "070-174 06 05")
MOBILE = "+46701740605"
PORTAL, MEET = "portal.sluss.test", "meet.sluss.test"
BROWSER, OTHER_BROWSER = "browser-a", "browser-b"


@dataclass
class Post:
    """Takes mails and SMS as the relay and the gateway would."""

    sent: list[tuple[str, str]] = field(default_factory=list)
    down: Exception | None = None

    async def send(self, to: str, text: str = "", *, subject: str = "", body: str = "") -> None:  # noqa: ARG002
        if self.down:
            raise self.down
        self.sent.append((to, text or body))


@dataclass
class RecordingDoor:
    """Writes down what the rules ask of the gate. The gate's own tests use the real one."""

    connected: bool = True
    expelled: list[tuple[str, str]] = field(default_factory=list)
    ended: list[str] = field(default_factory=list)

    async def expel(self, room: str, username: str, text: str) -> int:  # noqa: ARG002
        if not self.connected:
            raise GateUnavailable
        self.expelled.append((room, username))
        return 1

    async def end(self, room: str, text: str) -> None:  # noqa: ARG002
        if not self.connected:
            raise GateUnavailable
        self.ended.append(room)


class Clock:
    """Time that moves when told to."""

    def __init__(self) -> None:
        self.now = self._zero = datetime(2026, 5, 4, 8, 0, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now

    def forward(self, **by: float) -> None:
        self.now += timedelta(**by)

    def set(self, **by: float) -> None:
        """Make it wrong, or right again: no time passes."""
        self.now += timedelta(**by)
        self._zero += timedelta(**by)

    def seconds(self) -> float:
        """What has passed, however the clock was set."""
        return (self.now - self._zero).total_seconds()


@dataclass
class World:
    """What a test holds."""

    services: Services
    ground: Ground
    housekeeping: Housekeeping
    store: Store
    worker: OutboxWorker
    clock: Clock
    mail: Post
    sms: Post
    door: RecordingDoor
    keys: TicketKeys
    database: Path
    _seq: int = 0

    def sql(self, statement: str, *values: object) -> list[dict[str, object]]:
        """Look into the database, or change it, behind the rules' back."""
        with closing(sqlite3.connect(self.database, isolation_level=None)) as connection:
            connection.row_factory = sqlite3.Row
            return [dict(row) for row in connection.execute(statement, values)]

    def told(self) -> set[Told]:
        """What organisers have been told of right proofs that were refused."""
        return {one for one in Told if self.sql(f"SELECT id FROM invitations WHERE {one}_at IS NOT NULL")}  # noqa: S608

    def change_class(self, name: str = "internal", **changed: object) -> None:
        """Have the policy say otherwise of a class from now on."""
        classes = self.ground.policy.classes
        classes[name] = replace(classes[name], **changed)

    def change_invitation(self, to: str, **fields: str) -> None:
        """Give the invitation that went `to` an address other values, for which the rules have no verb."""
        sealer = self.store._sealer
        for row in self.sql("SELECT id, email FROM invitations"):
            if sealer.open(row["email"], "invitations.email", row["id"]) == to:
                for name, value in fields.items():
                    sealed = sealer.seal(value, f"invitations.{name}", row["id"])
                    self.sql(f"UPDATE invitations SET {name} = ? WHERE id = ?", sealed, row["id"])  # noqa: S608

    async def organiser(
        self, email: str = "eva@example.org", name: str = "Eva Ek", role: AccountRole = AccountRole.ORGANISER
    ) -> Organiser:
        """An enrolled account, put into the store. How one really enrols is test_organisers.py's."""
        who, secret = Organiser(new_id(), name, email, role), pyotp.random_base32()

        def work(tx: Transaction) -> None:
            tx.organisers.add(who, self.ground.hasher.digest("organiser", email), secret, self.clock.now)
            tx.organisers.enrol(who.id, PASSWORD_HASH, ["-"], self.clock.now)

        await self.store.run(work)
        self.totp = pyotp.TOTP(secret)
        return who

    async def signed_in(
        self, email: str = "eva@example.org", role: AccountRole = AccountRole.ORGANISER, name: str = "Eva Ek"
    ) -> tuple[Organiser, str]:
        """Somebody with both factors given: who, and the browser's session value."""
        who, session = await self.organiser(email, name, role), new_link()
        hashed = self.ground.session_hash(session)
        await self.store.run(lambda tx: tx.sessions.put(hashed, who.id, complete=True, now=self.clock.now))
        return who, session

    async def meeting(
        self, organiser: Organiser, *people: tuple[str, ...], starts_in: int = 10, sensitivity: str = "internal"
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
        """The personal link of the last mail with one to `to`."""
        body = [text for address, text in self.mail.sent if address == to and "/i/" in text][-1]
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

    async def admit(
        self, room: str, username: str, session: str = "xmpp-1", stage: Stage = Stage.JOIN, *, again: bool = False
    ) -> Verdict:
        """What the gate asks at the room's door."""
        occupant = f"{username}@{MEET}/res"
        entry = Entry(session, room, occupant, OccupantKind.PARTICIPANT, stage, again)
        return await self.services.admission.admit(entry)

    def event(self, room: str, username: str, session: str = "xmpp-1", epoch: str = "e1") -> GateEvent:
        """The next numbered event."""
        self._seq += 1
        return GateEvent(epoch, self._seq, room, session, f"{username}@{MEET}/res", int(self.clock.now.timestamp()))

    async def ticket(self, link: str, browser: str = BROWSER, to: str = MOBILE) -> Ticket:
        """Verified for both purposes, with a ticket in hand."""
        await self.verified(link, Purpose.VIEW, browser, to)
        await self.verified(link, Purpose.JOIN, browser, to)
        return await self.services.tickets.for_participant(link, browser)

    async def inside(self, link: str, session: str = "xmpp-1", browser: str = BROWSER, to: str = MOBILE) -> str:
        """Verified for both purposes, ticket used, in the room. Returns the user name."""
        ticket = await self.ticket(link, browser, to)
        who = await self.authenticate(ticket.token, ticket.room, session)
        assert who.allow
        await self.services.admission.entered(self.event(ticket.room, who.username, session))
        return who.username


_LENT: dict[str, object] = {}


@cache
def _beginning() -> tuple[bytes, TicketKeys]:
    """A new database and its first ticket key, made once: migrations and RSA take time."""
    with TemporaryDirectory() as folder:
        upgrade(f"sqlite:///{folder}/sluss.db")
        kid, _ = create_first_key(Path(folder))
        name = f"{kid}.active.pem"
        return Path(folder, "sluss.db").read_bytes(), TicketKeys({name: Path(folder, name).read_bytes()})


@asynccontextmanager
async def build(
    directory: Path,
    *,
    durable: bool = True,
    policy: Policy | None = None,
    methods: frozenset[Method] = PARTICIPANT_METHODS,
    bankid: tuple[BankId, Risk] | None = None,
    provider: Provider | None = None,
    ldap: "Ldap | None" = None,
    cards: CardRules | None = None,
    clock: Clock | None = None,
) -> AsyncIterator[World]:
    """A new installation in `directory`. Not `durable`: quicker, for a test that pulls no plug."""
    directory.mkdir(parents=True, exist_ok=True)  # noqa: ASYNC240
    database = directory / "sluss.db"
    content, keys = _beginning()
    database.write_bytes(content)
    clock, mail, sms, door = clock or Clock(), Post(), Post(), RecordingDoor()
    methods |= provider.methods if provider else frozenset()
    methods |= {Method.LDAP} if ldap else frozenset()
    methods |= frozenset({Method.SMARTCARD} if cards else ())
    store = Store(f"sqlite:///{database}", Sealer(field_key(MASTER)), audit_key(MASTER))
    if not durable:
        event.listen(store.engine, "connect", lambda connection, _: connection.execute("PRAGMA synchronous=OFF"))
        for name in ("dialect", "_compiled_cache"):  # SQL that was compiled for one test serves the next
            setattr(store.engine, name, _LENT.setdefault(name, getattr(store.engine, name)))
    worker = OutboxWorker(store, mail, sms, clock)
    policy = policy or default_policy()
    own = Policy(dict(policy.classes), policy.source)
    site = Site("Demo", f"https://{PORTAL}", PORTAL, MEET, "sv")
    ground = Ground(store, clock, Hasher(MASTER), site, worker.wake, SmsRules(("+46",), 2000), own, methods)
    services = _services(
        ground, keys, lambda: door, gate=True, bankid=bankid, provider=provider, ldap=ldap, pace=0, cards=cards
    )
    services.organisers._passwords._hasher = QUICK
    housekeeping = Housekeeping(ground, services.admission, services.directory, clock.seconds)
    try:
        yield World(services, ground, housekeeping, store, worker, clock, mail, sms, door, keys, database)
    finally:
        store.close()


DOWN = DeliveryFailed("gateway answered 503")
