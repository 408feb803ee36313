"""Meetings and invitations: plain values and the rules of when a door is open."""

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from zoneinfo import ZoneInfo

from sluss.domain.accounts import AccountRole
from sluss.domain.assurance import Method
from sluss.domain.authenticators import Authenticator
from sluss.domain.gate import Role
from sluss.domain.limits import Lock
from sluss.domain.passkeys import Passkey

OPENS_BEFORE = timedelta(minutes=15)
CLOSES_AFTER = timedelta(minutes=30)


class Answer(StrEnum):
    """What the invited person said."""

    PENDING = "pending"
    ACCEPTED = "accepted"
    DECLINED = "declined"


class InvitationState(StrEnum):
    """Whether the personal link works. Everything but `LIVE` is final."""

    LIVE = "live"
    WITHDRAWN = "withdrawn"
    NOT_ME = "not-me"
    PUT_OUT = "put-out"


class Delivery(StrEnum):
    """What became of the last mail to a participant."""

    WAITING = "waiting"
    SENT = "sent"
    FAILED = "failed"


def shown_name(name: str, label: str) -> str:
    """A name with its label, if there is one: `Anna Lindberg (Ekonomi)`."""
    return f"{name} ({label})" if label else name


@dataclass(frozen=True, slots=True)
class Organiser:
    """A member of staff with an account: an organiser, or, by `role`, an auditor or admin."""

    id: str
    name: str
    email: str
    role: AccountRole = AccountRole.ORGANISER


@dataclass(frozen=True, slots=True)
class ParticipantDraft:
    """Who to invite, already checked: `mobile` is E.164."""

    name: str
    email: str
    mobile: str
    label: str = ""
    """What tells this person from another of the same name."""
    personal_number: str = field(default="", repr=False)
    """Twelve digits, or nothing: whose BankID it must be."""

    @property
    def shown_name(self) -> str:
        """The name as everybody sees it."""
        return shown_name(self.name, self.label)


@dataclass(frozen=True, slots=True)
class MeetingDraft:
    """A meeting as the organiser wrote it, already checked."""

    title: str
    agenda: str
    starts_at: datetime
    """Aware, UTC."""
    minutes: int
    time_zone: str
    sensitivity: str
    participants: tuple[ParticipantDraft, ...]


@dataclass(frozen=True, slots=True)
class Hours:
    """When a meeting's door is open."""

    starts_at: datetime
    minutes: int
    ended_at: datetime | None
    """When the organiser, or the clock, closed it for good."""

    @property
    def ends_at(self) -> datetime:
        """The set end."""
        return self.starts_at + timedelta(minutes=self.minutes)

    @property
    def opens_at(self) -> datetime:
        """When the door opens."""
        return self.starts_at - OPENS_BEFORE

    @property
    def closes_at(self) -> datetime:
        """When the door closes by itself."""
        return self.ends_at + CLOSES_AFTER

    def is_open(self, now: datetime) -> bool:
        """Whether anyone may enter now."""
        return not self.is_over(now) and self.opens_at <= now

    def is_over(self, now: datetime) -> bool:
        """Whether nobody may be inside any more. By a clock that was set back it is not open, and not over either."""
        return self.ended_at is not None or self.closes_at <= now


@dataclass(frozen=True, slots=True)
class Meeting(Hours):
    """One meeting. `room` is its XMPP room: lower case, 128 random bits, never shown before a ticket."""

    id: str
    organiser_id: str
    title: str
    agenda: str
    time_zone: str
    sensitivity: str
    room: str
    purged: bool = False
    """Whether its people, title and agenda are forgotten."""

    @property
    def local_start(self) -> datetime:
        """The start in the meeting's own time zone."""
        return self.starts_at.astimezone(ZoneInfo(self.time_zone))


@dataclass(frozen=True, slots=True)
class MeetingOnRecord:
    """A meeting as an auditor sees it: not what it is about."""

    id: str
    starts_at: datetime
    minutes: int
    sensitivity: str
    purged: bool


@dataclass(frozen=True, slots=True)
class Invitation:
    """One person's invitation to one meeting. The organiser has one too, without link or phone."""

    id: str
    meeting_id: str
    role: Role
    name: str
    email: str
    mobile: str
    answer: Answer
    state: InvitationState
    username: str
    """The person's XMPP user name in this meeting; stable, says nothing."""
    label: str = ""
    """The organiser's, to tell this person from another of the same name."""
    person_hash: str = ""
    """Keyed hash of the personal number that the organiser gave, if any."""

    @property
    def shown_name(self) -> str:
        """The name as everybody sees it."""
        return shown_name(self.name, self.label)


@dataclass(frozen=True, slots=True)
class PersonWaiting:
    """Somebody verified who waits for the organiser."""

    invitation_id: str
    name: str
    method: Method


@dataclass(frozen=True, slots=True)
class PersonHere:
    """Somebody inside the meeting now, as the gate reported."""

    invitation_id: str
    name: str
    role: Role
    method: Method
    acr: str
    entered_at: datetime
    devices: int


@dataclass(frozen=True, slots=True)
class InvitationStatus:
    """An invitation as its organiser sees it."""

    invitation: Invitation
    delivery: Delivery
    delivery_error: str | None
    viewed_at: datetime | None
    """When the person last verified to see the invitation."""
    method: Method | None
    """How."""
    here: bool
    locks: tuple[Lock, ...]
    """What this person has to wait for."""
    other_person_at: datetime | None
    """When somebody else last proved who they are with this person's link."""
    too_weak_at: datetime | None
    """When it was last proved that somebody is this person, in a way that the meeting does not accept."""
    passkey_copied: bool
    """Whether a passkey of theirs is locked because there is a copy of it."""


@dataclass(frozen=True, slots=True)
class MeetingView:
    """A meeting as its organiser sees it."""

    meeting: Meeting
    participants: tuple[InvitationStatus, ...]
    here: tuple[PersonHere, ...]
    open: bool
    waiting: tuple[PersonWaiting, ...]
    """Who has verified and is waiting for the organiser."""
    sms_stopped: tuple[Lock, ...]
    """Why no code goes out to anybody, if none does."""


@dataclass(frozen=True, slots=True)
class InvitationView:
    """What a participant sees after a `view` verification, and only then."""

    invitation: Invitation
    meeting: Meeting
    organiser_name: str
    open: bool
    """Whether the meeting's door is open now."""
    may_enter: bool
    """Whether a ticket can be had now, or when the organiser is there, without another verification."""
    waiting: bool
    """Whether that is when the organiser is there."""
    methods: tuple[Method, ...]
    """By what this person can verify to enter."""
    passkeys: tuple[Passkey, ...]
    """This person's."""
    may_add_passkey: bool
    authenticator: Authenticator | None = None
    """This person's."""
    may_add_authenticator: bool = False
    others: tuple[str, ...] = ()
    """Who else is invited, where the class shows it."""


@dataclass(frozen=True, slots=True)
class Ticket:
    """What opens one room once: the JWT and where it is used."""

    token: str
    room: str
    jid_domain: str
    expires_at: datetime
