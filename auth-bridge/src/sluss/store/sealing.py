"""Encryption of personal data in the database, field by field."""

import hashlib
import os

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

_NONCE_BYTES = 12
_ID_BYTES = 4


class SealBrokenError(Exception):
    """A sealed field was altered, moved to another column or row, or sealed under another key."""


class Sealer:
    """Seals text fields with AES-256-GCM, bound to their column and row. Format: key id, nonce, ciphertext."""

    def __init__(self, key: bytes) -> None:
        self._aead = AESGCM(key)
        self._key_id = hashlib.sha256(key).digest()[:_ID_BYTES]

    def seal(self, text: str, column: str, row: str = "") -> bytes:
        """Encrypt `text` for `column` (`table.column`) of the row whose id is `row`."""
        nonce = os.urandom(_NONCE_BYTES)
        return self._key_id + nonce + self._aead.encrypt(nonce, text.encode(), f"{column} {row}".encode())

    def open(self, sealed: bytes, column: str, row: str = "") -> str:
        """Decrypt. Raises `SealBrokenError`."""
        key_id, nonce = sealed[:_ID_BYTES], sealed[_ID_BYTES : _ID_BYTES + _NONCE_BYTES]
        if key_id != self._key_id:
            raise SealBrokenError(
                f"{column}: sealed under key {key_id.hex()}, this installation has {self._key_id.hex()}"
            )
        try:
            return self._aead.decrypt(nonce, sealed[_ID_BYTES + _NONCE_BYTES :], f"{column} {row}".encode()).decode()
        except (InvalidTag, ValueError):  # ValueError: cut short
            raise SealBrokenError(f"{column}: altered, or not from this place") from None
