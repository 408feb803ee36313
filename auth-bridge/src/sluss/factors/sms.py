"""Codes by SMS: six digits, five minutes, five tries. A restricted method (NIST SP 800-63B, 3.1.3.3)."""

import secrets
from datetime import timedelta

DIGITS = 6
LIFETIME = timedelta(minutes=5)
MAX_TRIES = 5
_PAUSES = [timedelta(seconds=seconds) for seconds in (0, 30, 60, 120, 240)]


def pause(sent: int) -> timedelta:
    """How long after the last of so many codes in a row, of which none was used, the next may be asked for."""
    return _PAUSES[min(sent, len(_PAUSES) - 1)]


def new_code() -> str:
    """A code from the system's random numbers, leading zeros kept."""
    return f"{secrets.randbelow(10**DIGITS):0{DIGITS}d}"
