"""Passkeys: whose, how they came to be, and how a copy shows."""

from dataclasses import dataclass
from datetime import datetime

from sluss.domain.assurance import Method


@dataclass(frozen=True, slots=True)
class Passkey:
    """One passkey. `id` is a keyed hash of its credential id, and the subject of the verifications made by it."""

    id: str
    owner: str
    """An organiser's id, or the keyed hash of whom an organiser named: e-mail address and mobile number."""
    credential: bytes
    """Attested credential data (WebAuthn 6.5.1): its id and public key."""
    sign_count: int
    enrolled_by: Method
    """How its owner had shown who they are when it was added: see `SensitivityClass.accepts_added`."""
    enrolled_as: str
    """By what that method knew them: the subject of that verification."""
    created_at: datetime
    used_at: datetime | None = None
    locked_at: datetime | None = None
    """When its sign count went back."""
    model: str = ""
    """Its AAGUID, if one of the policy's makers attested it."""
    name: str = ""
    """What an organiser calls it."""

    def is_copy(self, sign_count: int) -> bool:
        """Whether a proof with this count shows that there are two of it (WebAuthn 6.1.1). Those of 0 do not count."""
        return bool(sign_count or self.sign_count) and sign_count <= self.sign_count
