"""Codes by SMS: six digits, five minutes, five tries. A restricted method (NIST SP 800-63B, 3.1.3.3)."""

import secrets
from datetime import timedelta

DIGITS = 6
LIFETIME = timedelta(minutes=5)
MAX_TRIES = 5


def new_code() -> str:
    """A code from the system's random numbers, leading zeros kept."""
    return f"{secrets.randbelow(10**DIGITS):0{DIGITS}d}"
