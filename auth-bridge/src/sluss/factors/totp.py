"""Authenticator codes (RFC 6238: SHA-1, six digits, 30 s), through pyotp."""

from datetime import datetime

import pyotp
from pyotp.utils import strings_equal

STEP_SECONDS = 30
WINDOW = 1
"""Steps before and after now that are accepted, for clocks that drift."""


def new_secret() -> str:
    """A new shared secret: 160 random bits in base32."""
    return pyotp.random_base32()


def enrolment_uri(secret: str, account: str, issuer: str) -> str:
    """The `otpauth://` URI that an authenticator reads from a QR code."""
    return pyotp.TOTP(secret).provisioning_uri(name=account, issuer_name=issuer)


def matching_step(secret: str, code: str, now: datetime) -> int | None:
    """The time step `code` belongs to, if it is right now; whoever asks must use each step once."""
    totp = pyotp.TOTP(secret)
    current = totp.timecode(now)
    for step in range(current - WINDOW, current + WINDOW + 1):
        if strings_equal(totp.generate_otp(step), code):
            return step
    return None
