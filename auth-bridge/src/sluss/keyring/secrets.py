"""Everything derived from the master key: the field key, keyed hashes, form tokens.

The master key never encrypts by itself: HKDF (RFC 5869) gives each use a key of its own.
"""

import hashlib
import hmac
import json

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.kdf.hkdf import HKDF


def _derive(master: bytes, use: str) -> bytes:
    return HKDF(hashes.SHA256(), 32, salt=None, info=f"sluss {use}".encode()).derive(master)


class Hasher:
    """Keyed hashes (HMAC-SHA-256) for what must be found or compared, never read back."""

    def __init__(self, master: bytes) -> None:
        self._key = _derive(master, "keyed hashes")

    def digest(self, use: str, *values: str) -> str:
        """Hex digest of `values` for one `use`; the parts cannot run into each other."""
        message = json.dumps([use, *values])
        return hmac.new(self._key, message.encode(), hashlib.sha256).hexdigest()

    def matches(self, digest: str, use: str, *values: str) -> bool:
        """Whether `digest` is of `values`, compared in constant time."""
        return hmac.compare_digest(digest, self.digest(use, *values))


def field_key(master: bytes) -> bytes:
    """The key that seals personal data in the store."""
    return _derive(master, "field encryption")


def form_key(master: bytes) -> bytes:
    """The key of the portal's CSRF tokens."""
    return _derive(master, "form tokens")


def audit_key(master: bytes) -> bytes:
    """The key of the audit log's head."""
    return _derive(master, "audit head")
