"""What passes between the gate inside Prosody and the rules: verdicts, events, roll calls."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol


class Refusal(StrEnum):
    """Why the gate said no. The words of docs/gate-protocol.md."""

    NO_TICKET = "no-ticket"
    BAD_TICKET = "bad-ticket"
    EXPIRED = "expired"
    USED = "used"
    WRONG_ROOM = "wrong-room"
    WITHDRAWN = "withdrawn"
    NOT_OPEN = "not-open"
    NOT_KNOWN = "not-known"
    DEVICES = "devices"
    UNAVAILABLE = "unavailable"


class Role(StrEnum):
    """What a person is in a meeting. The organiser moderates."""

    ORGANISER = "organiser"
    PARTICIPANT = "participant"


class OccupantKind(StrEnum):
    """Who asks to enter: a person with a ticket, or Jitsi's own focus."""

    PARTICIPANT = "participant"
    FOCUS = "focus"


class Stage(StrEnum):
    """What an `admit` asks for: to join a room that there is, or to make it and join it."""

    CREATE = "create"
    JOIN = "join"


@dataclass(frozen=True, slots=True)
class Entry:
    """What an `admit` asks: may this occupant create or join this room?"""

    session: str
    room: str
    occupant: str
    """Full JID of the real connection."""
    kind: OccupantKind
    stage: Stage
    again: bool = False
    """Whether this session was inside before."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """The answer to `authenticate` and `admit`. A refusal is made by `no`."""

    allow: bool
    session: str
    reason: Refusal | None = None
    username: str | None = None
    name: str | None = None
    role: Role | None = None
    method: str | None = None
    """How they were verified: for the audit log, Prosody is not told."""
    features: tuple[str, ...] = ()
    """What of Jitsi's features the ticket allows."""
    enter: bool = False
    """Whether a yes to the ticket is good for the room too, for who enters at once."""

    @classmethod
    def no(cls, session: str, reason: Refusal) -> "Verdict":
        """A refusal with its reason."""
        return cls(allow=False, session=session, reason=reason)


class Change(StrEnum):
    """What an event tells."""

    ENTERED = "entered"
    LEFT = "left"


@dataclass(frozen=True, slots=True)
class GateEvent:
    """One person's entering or leaving, as Prosody saw it."""

    epoch: str
    """Which start of Prosody this is; `seq` counts from 1 within it."""
    seq: int
    room: str
    session: str
    occupant: str
    """Full JID of the real connection."""
    at: int
    """Unix seconds."""
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class Occupant:
    """One line of a roll call."""

    room: str
    session: str
    occupant: str
    at: int


class Door(Protocol):
    """What the rules can ask of the gate. Implemented by `sluss.gate`."""

    @property
    def connected(self) -> bool:
        """Whether Prosody's component link is up."""

    async def expel(self, room: str, username: str, text: str) -> int:
        """Put every connection of `username` out of `room`; how many there were. Raises `GateUnavailable`."""

    async def end(self, room: str, text: str) -> None:
        """Put everybody out and destroy the room. Raises `GateUnavailable`."""
