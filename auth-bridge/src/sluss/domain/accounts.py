"""Accounts of the staff: what each role is for, how long it stays signed in, and what takes a proof just given."""

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum

from sluss.domain.assurance import Method


class AccountRole(StrEnum):
    """What an account is for. It never changes: whoever is to be something else gets another account."""

    ORGANISER = "organiser"
    """Has meetings, and nobody else's."""
    AUDITOR = "auditor"
    """Sees the audit log and who attended, and no title or agenda."""
    ADMIN = "admin"
    """Looks after accounts, and sees neither meetings nor logs."""


@dataclass(frozen=True, slots=True)
class Lifetime:
    """How long a session lasts: unused, and in all."""

    idle: timedelta
    absolute: timedelta


_OTHERS = Lifetime(timedelta(minutes=15), timedelta(hours=4))
LIFETIMES = {
    AccountRole.ORGANISER: Lifetime(timedelta(minutes=30), timedelta(hours=12)),
    AccountRole.AUDITOR: _OTHERS,
    AccountRole.ADMIN: _OTHERS,
}
LONGEST = max(one.absolute for one in LIFETIMES.values())
"""After this no session is live, whoever's it is."""

PROVED_LATELY = timedelta(minutes=5)
"""A factor given no longer ago need not be given again for what is dangerous."""
BETWEEN_FACTORS = timedelta(minutes=5)
ENROLMENT_LIFETIME = timedelta(days=7)
NEW_AUTHENTICATOR = timedelta(minutes=10)
"""So long the key of a new authenticator waits for its first code."""
MOST_AUTHENTICATORS = 5
"""Each one more makes a guessed code as much likelier."""
SECOND_ADMIN = timedelta(hours=24)
"""Within this a second admin has to ask for the same, where it takes two."""
RECOVERY_CODES = 10


@dataclass(frozen=True, slots=True)
class Authenticator:
    """An authenticator app of an account."""

    id: str
    owner: str
    name: str
    """What its owner calls it; empty for the one that came with enrolment."""
    secret: str = field(repr=False)
    step: int
    """The last time step that was used."""
    drift: float
    """See `sluss.factors.totp.Match`."""
    created_at: datetime
    confirmed_at: datetime | None
    """When its first code was right. Until then it proves nothing."""
    used_at: datetime | None


@dataclass(frozen=True, slots=True)
class OpenSession:
    """A signed-in browser, as its owner sees it."""

    since: datetime
    seen_at: datetime
    network: str
    """About from where: a /24 or /48. Empty if that is not known."""
    method: Method | None
    this: bool
    """Whether it is the one that looks."""


class Act(StrEnum):
    """What an admin does that may take a second one."""

    RESET = "reset"
    REMOVE = "remove"


@dataclass(frozen=True, slots=True)
class Asked:
    """What one admin has asked for, and a second one has not yet."""

    act: Act
    successor: str
    """Who is to have the meetings of who leaves; empty: nobody."""
    by: str
    """The admin's id."""
    at: datetime


@dataclass(frozen=True, slots=True)
class AccountStatus:
    """An account as admins see it."""

    id: str
    name: str
    email: str
    role: AccountRole
    enrolled_at: datetime | None
    enrols: bool
    """Whether a link to enrol by may go out."""
    signed_in_at: datetime | None
    locked: bool
    """Whether too many wrong passwords or codes hold up signing in."""
    asked: Asked | None
