"""The attendance record: connections as the gate saw them, folded into what an organiser wants to know."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from ipaddress import ip_address, ip_network

from sluss.domain.assurance import Method, worth
from sluss.domain.gate import Role
from sluss.domain.meetings import Meeting

FOLD = timedelta(seconds=60)
"""Who is back within this was not away."""
COMING = timedelta(seconds=30)
"""So long after using a ticket somebody may be inside without having been heard of."""
_PREFIX = {4: 24, 6: 48}


def coarse_origin(address: str) -> str:
    """The network of an address, /24 or /48: about where from, not who. Empty for what is no address."""
    try:
        return str(ip_network((address, _PREFIX[ip_address(address).version]), strict=False))
    except ValueError:
        return ""


@dataclass(frozen=True, slots=True)
class Presence:
    """One connection's stay. Two devices are two of them."""

    invitation_id: str
    entered_at: datetime
    left_at: datetime | None
    """None: still inside."""
    exact: bool
    """False: nobody saw the end; `left_at` is when the person was last known to be inside."""
    method: Method
    origin: str
    """The network, where the class keeps it."""


@dataclass(frozen=True, slots=True)
class Stay:
    """A time inside without a break of more than `FOLD`, on however many devices."""

    entered_at: datetime
    left_at: datetime | None
    exact: bool
    methods: tuple[Method, ...]
    origins: tuple[str, ...]
    devices: int
    """At most so many at once."""
    assurance: str
    """The lowest `acr` of what was used."""

    def seconds(self, now: datetime) -> int:
        """How long, until now if it goes on."""
        return int(((self.left_at or now) - self.entered_at).total_seconds())


@dataclass(frozen=True, slots=True)
class Attendee:
    """An invited person and when they were there; nobody's stays may be empty."""

    invitation_id: str
    name: str
    role: Role
    stays: tuple[Stay, ...]

    def seconds(self, now: datetime) -> int:
        """How long in all; two devices at once count once."""
        return sum(stay.seconds(now) for stay in self.stays)


@dataclass(frozen=True, slots=True)
class Report:
    """The attendance of one meeting, as of `at`."""

    meeting: Meeting
    organiser_name: str
    people: tuple[Attendee, ...]
    at: datetime


def fold(connections: Iterable[Presence], role: Role = Role.PARTICIPANT) -> tuple[Stay, ...]:
    """One person's connections as stays, in their order."""
    groups: list[list[Presence]] = []
    for connection in sorted(connections, key=lambda one: one.entered_at):
        if groups and _goes_on(groups[-1], connection.entered_at):
            groups[-1].append(connection)
        else:
            groups.append([connection])
    return tuple(_stay(group, role) for group in groups)


def _goes_on(group: Sequence[Presence], at: datetime) -> bool:
    return any(one.left_at is None or at - one.left_at <= FOLD for one in group)


def _stay(group: Sequence[Presence], role: Role) -> Stay:
    ends = [one.left_at for one in group]
    left_at = None if None in ends else max(end for end in ends if end)
    last = [one for one in group if one.left_at == left_at]
    return Stay(
        group[0].entered_at,
        left_at,
        all(one.exact for one in last),
        tuple(sorted({one.method for one in group})),
        tuple(sorted({one.origin for one in group if one.origin})),
        max(_inside_at(group, one.entered_at) for one in group),
        min(worth(one.method, role).acr.value for one in group),
    )


def _inside_at(group: Sequence[Presence], at: datetime) -> int:
    return sum(one.entered_at <= at and (one.left_at is None or at < one.left_at) for one in group) or 1
