"""Authenticator codes (RFC 6238: SHA-1, six digits, 30 s), through pyotp."""

import base64
from dataclasses import dataclass
from datetime import datetime

import pyotp
from pyotp.utils import strings_equal

STEP_SECONDS = 30
WINDOW = 1
"""Steps before and after the one that is expected that are accepted."""
MOST_DRIFT = 10
"""Steps by which a clock may be wrong, if it became so little by little."""
_WEIGHT = 1 / 4
"""Of a new code in the remembered drift: three with the same skew are followed, one that was typed late is not."""


@dataclass(frozen=True, slots=True)
class Match:
    """A right code."""

    step: int
    """Its time step; whoever asked must use each step once."""
    drift: float
    """By how many steps this authenticator's clock is ahead, to be remembered for the next code (RFC 6238, 6)."""


def new_secret() -> str:
    """A new shared secret: 160 random bits in base32."""
    return pyotp.random_base32()


def secret_of(digest: str) -> str:
    """The same out of the first 160 bits of a keyed hash (hex) that nobody can guess."""
    return base64.b32encode(bytes.fromhex(digest)[:20]).decode()


def enrolment_uri(secret: str, account: str, issuer: str) -> str:
    """The `otpauth://` URI that an authenticator reads from a QR code."""
    return pyotp.TOTP(secret).provisioning_uri(name=account, issuer_name=issuer)


def match(secret: str, code: str, now: datetime, drift: float = 0) -> Match | None:
    """What `code` is, if it is right now for an authenticator whose clock was ahead by `drift` so far.

    The window moves with the drift, and is never wider.
    """
    totp = pyotp.TOTP(secret)
    current = totp.timecode(now)
    expected = current + round(drift)
    for step in range(expected - WINDOW, expected + WINDOW + 1):
        if strings_equal(totp.generate_otp(step), code):
            moved = drift + (step - current - drift) * _WEIGHT
            return Match(step, max(-MOST_DRIFT, min(MOST_DRIFT, moved)))
    return None
