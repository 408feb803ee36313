"""Sensitivity classes: which methods open a meeting, how fresh, with how long a grace, and who waits for whom."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta

from sluss.domain.assurance import Method
from sluss.domain.errors import InvalidInput


@dataclass(frozen=True, slots=True)
class SensitivityClass:
    """One class of mission.md's table."""

    name: str
    accepted: frozenset[Method]
    """Methods that may open it for participants. The organiser's password and authenticator always may."""
    fresh: timedelta
    """A `join` verification opens the door for this long."""
    grace: timedelta
    """After a dropped connection, for so long a new ticket needs no new verification."""
    waiting_room: bool
    """Whether participants wait until the organiser is inside."""
    waiting_shows_verified: bool
    """Whether those who wait see who else has verified and waits."""
    devices: int
    """On so many at once may one person be inside."""
    keeps_origin: bool
    """Whether the attendance says from which network each person came."""
    retention: timedelta
    """So long after its end a meeting's personal data is kept."""


_FRESH, _GRACE = timedelta(minutes=5), timedelta(seconds=120)

CLASSES: dict[str, SensitivityClass] = {
    c.name: c
    for c in (
        SensitivityClass(
            "internal",
            frozenset({Method.SMS, Method.TOTP}),
            _FRESH,
            _GRACE,
            waiting_room=False,
            waiting_shows_verified=True,
            devices=2,
            keeps_origin=True,
            retention=timedelta(days=90),
        ),
        SensitivityClass(
            "confidential",
            frozenset({Method.TOTP}),
            _FRESH,
            _GRACE,
            waiting_room=True,
            waiting_shows_verified=True,
            devices=1,
            keeps_origin=False,
            retention=timedelta(days=30),
        ),
        SensitivityClass(
            "secret",
            frozenset(),
            _FRESH,
            timedelta(0),
            waiting_room=True,
            waiting_shows_verified=False,
            devices=1,
            keeps_origin=False,
            retention=timedelta(days=7),
        ),
    )
}
WAITING_ALIVE = timedelta(seconds=60)
"""Who waits and was heard of within this keeps the verification to enter."""
WAITING_HEARD = timedelta(seconds=15)
"""Who was heard of within this is shown as waiting."""
VIEW_FRESH = timedelta(hours=12)
"""How long a `view` verification shows the invitation in the browser that made it."""


def sensitivity_class(name: str) -> SensitivityClass:
    """The class called `name`. Raises `InvalidInput`."""
    try:
        return CLASSES[name]
    except KeyError:
        raise InvalidInput("sensitivity", f"There is no sensitivity class “{name}”.") from None


def open_classes(participant_methods: Iterable[Method]) -> list[SensitivityClass]:
    """The classes that some participant can satisfy with the methods this installation has."""
    methods = frozenset(participant_methods)
    return [c for c in CLASSES.values() if c.accepted & methods]
