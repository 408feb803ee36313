"""How long something counts, on a clock that may be wrong."""

from datetime import datetime, timedelta

LEEWAY = timedelta(seconds=5)
"""Clocks are kept in step by NTP; a step back of less than this is not noticed."""


def is_fresh(since: datetime, now: datetime, lifetime: timedelta) -> bool:
    """Whether `since` is less than `lifetime` ago. A moment still to come is not: the clock was set back."""
    return -LEEWAY <= now - since < lifetime
