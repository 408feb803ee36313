"""Authenticators of people who were invited: whose, and how they came to be."""

from dataclasses import dataclass
from datetime import datetime

from sluss.domain.assurance import Method


@dataclass(frozen=True, slots=True)
class Authenticator:
    """One person's. `id` is the subject of the verifications made by it."""

    id: str
    owner: str
    """The keyed hash of whom an organiser named: e-mail address and mobile number."""
    secret: str
    """Base32."""
    enrolled_by: Method
    """How its owner had shown who they are when it was added: see `SensitivityClass.accepts_added`."""
    enrolled_as: str
    """By what that method knew them: the subject of that verification."""
    created_at: datetime
    step: int = 0
    """The last time step of which a code was used."""
    drift: float = 0
    """See `sluss.factors.totp.Match`."""
