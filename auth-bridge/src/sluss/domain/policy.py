"""Sensitivity classes: which methods open a meeting, how fresh, and with how long a grace."""

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
    keeps_origin: bool
    """Whether the attendance says from which network each person came."""
    retention: timedelta
    """So long after its end a meeting's personal data is kept."""


_FRESH, _GRACE = timedelta(minutes=5), timedelta(seconds=120)
_QUARTER, _MONTH, _WEEK = timedelta(days=90), timedelta(days=30), timedelta(days=7)

CLASSES: dict[str, SensitivityClass] = {
    c.name: c
    for c in (
        SensitivityClass("internal", frozenset({Method.SMS, Method.TOTP}), _FRESH, _GRACE, True, _QUARTER),
        SensitivityClass("confidential", frozenset({Method.TOTP}), _FRESH, _GRACE, False, _MONTH),
        SensitivityClass("secret", frozenset(), _FRESH, timedelta(0), False, _WEEK),
    )
}
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
