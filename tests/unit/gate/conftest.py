"""A real Prosody for all gate tests, a real gate for each, and rules that a test scripts."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field

import pytest
from tests.unit.gate.prosody import COMPONENT, MEET, SECRET, Prosody
from tests.xmpp import Client, connect, open_stream

from sluss.domain.gate import Change, Entry, GateEvent, Occupant, OccupantKind, Refusal, Role, Stage, Verdict
from sluss.gate import Gate

FOCUS_PASSWORD = secrets.token_hex(8)


@dataclass
class Person:
    """Somebody with a ticket for `room`."""

    room: str
    name: str
    role: Role = Role.PARTICIPANT
    username: str = field(default_factory=lambda: f"p-{secrets.token_hex(8)}")
    token: str = field(default_factory=lambda: f"ticket.{secrets.token_urlsafe(24)}")
    features: tuple[str, ...] = ("send-groupchat", "send-private-message")

    @property
    def proof(self) -> dict:
        return {"name": self.name, "role": self.role}


class Script:
    """The rules, as a test wants them. Single-use tickets; rooms open when told."""

    def __init__(self) -> None:
        self.tickets: dict[str, Person] = {}
        self.sessions: dict[str, Person] = {}
        self.open_rooms: set[str] = set()
        self.events: list[tuple[str, GateEvent]] = []
        self.rolls: list[tuple[str, int, Sequence[Occupant]]] = []
        self.asked: list[tuple[OccupantKind, Stage, str]] = []
        self.again: list[bool] = []
        self.admits_at_once = False  # with the yes to the ticket; otherwise the room's door is asked about by itself
        self.addresses: list[tuple[str, str]] = []
        self.hold = asyncio.Event()  # clear: verdicts wait
        self.hold.set()
        self.waiting = asyncio.Event()  # set: one does
        self.looked = asyncio.Event()  # set: at a ticket
        self.refuse: Refusal | None = None
        self.fail = self.fail_to_hear = False
        self.answer_for: str | None = None  # another session than the one asked about
        self._told = asyncio.Condition()

    def person(self, room: str, name: str = "Anna Lindberg", role: Role = Role.PARTICIPANT) -> Person:
        person = Person(room, name, role)
        self.tickets[person.token] = person
        return person

    async def authenticate(self, *, token: str, room: str, session: str, transport: str, address: str) -> Verdict:
        await self._think()
        self.addresses.append((transport, address))
        self.looked.set()
        person = self.tickets.pop(token, None)
        if person is None:
            return Verdict.no(session, Refusal.BAD_TICKET)
        if person.room != room:
            return Verdict.no(session, Refusal.WRONG_ROOM)
        self.sessions[session] = person
        answer = {
            "username": person.username,
            "enter": self.admits_at_once,
            "features": person.features,
            **person.proof,
        }
        return Verdict(True, self.answer_for or session, **answer)

    async def admit(self, entry: Entry) -> Verdict:
        await self._think()
        self.asked.append((entry.kind, entry.stage, entry.occupant))
        self.again.append(entry.again)
        if self.refuse:
            return Verdict.no(entry.session, self.refuse)
        if entry.room not in self.open_rooms:
            return Verdict.no(entry.session, Refusal.NOT_OPEN)
        if entry.kind is OccupantKind.FOCUS:
            return Verdict(True, entry.session)
        person = self.sessions.get(entry.session)
        if person is None:
            return Verdict.no(entry.session, Refusal.NOT_KNOWN)
        return Verdict(True, self.answer_for or entry.session, **person.proof)

    async def told(self, events: Sequence[tuple[Change, GateEvent]]) -> None:
        if self.fail_to_hear:
            raise RuntimeError("scripted failure")
        for change, event in events:
            await self._tell(change.value, event)

    async def roll_called(self, epoch: str, seq: int, present: Sequence[Occupant]) -> None:
        self.rolls.append((epoch, seq, present))

    async def heard(self, count: int, within: float = 10) -> list[tuple[str, str, str | None]]:
        """Wait for `count` events; each as kind, occupant, reason."""
        async with asyncio.timeout(within), self._told:
            await self._told.wait_for(lambda: len(self.events) >= count)
        return [(kind, event.occupant, event.reason) for kind, event in self.events]

    async def has_answered(self, gate: Gate) -> None:
        """Wait until Prosody has the answer about the ticket that was shown last."""
        await asyncio.wait_for(self.looked.wait(), 5)
        self.looked.clear()
        await gate.end("nowhere", "")  # the link keeps the order

    async def _tell(self, kind: str, event: GateEvent) -> None:
        async with self._told:
            if self.fail:
                raise RuntimeError("scripted failure")
            if event.session not in self.sessions:
                return  # the end of an earlier test
            if (event.epoch, event.seq) in {(known.epoch, known.seq) for _, known in self.events}:
                return  # sent again, because the acknowledgement was lost
            self.events.append((kind, event))
            self._told.notify_all()

    async def _think(self) -> None:
        if self.fail:
            raise RuntimeError("scripted failure")
        if not self.hold.is_set():
            self.waiting.set()
        await self.hold.wait()


@pytest.fixture(scope="session")
def prosody() -> Iterator[Prosody]:
    server = Prosody()
    try:
        server.control("register", "focus", f"auth.{MEET}", FOCUS_PASSWORD)
        server.start()
        yield server
    finally:
        server.remove()


@pytest.fixture
def rules() -> Script:
    return Script()


@pytest.fixture
async def gate(prosody: Prosody, rules: Script) -> AsyncIterator[Gate]:
    gate = Gate(COMPONENT, "127.0.0.1", prosody.component_port, SECRET, MEET, rules)
    await gate.start()
    assert await gate.wait_connected(10)
    yield gate
    rules.hold.set()
    await gate.stop()


@pytest.fixture
def room(rules: Script) -> str:
    """An open room."""
    name = secrets.token_hex(16)
    rules.open_rooms.add(name)
    return name


@pytest.fixture(params=["websocket", "bosh"])
def url(request: pytest.FixtureRequest, prosody: Prosody) -> str:
    return getattr(prosody, request.param)


Connect = Callable[[Person], AbstractAsyncContextManager[Client]]


@pytest.fixture
def enter(url: str, gate: Gate) -> Connect:
    """Connect a person with their ticket."""
    return lambda person: connect(url, MEET, room=person.room, token=person.token)


@pytest.fixture
async def focus(prosody: Prosody, gate: Gate) -> AsyncIterator[Client]:
    """Jitsi's focus, as jicofo connects."""
    async with open_stream(prosody.c2s, f"auth.{MEET}") as client:
        await client.authenticate("focus", FOCUS_PASSWORD)
        yield client
