"""An authenticator in software: does what one of hardware does (WebAuthn 6), and whatever else a test tells it to."""

from __future__ import annotations

import hashlib
import json
import os
import struct
from base64 import urlsafe_b64decode, urlsafe_b64encode
from dataclasses import dataclass, field

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from fido2 import cbor

PORTAL = "https://portal.sluss.test"
PRESENT, VERIFIED, ATTESTED = 0x01, 0x04, 0x40


def text(data: bytes) -> str:
    return urlsafe_b64encode(data).rstrip(b"=").decode()


def data(said: str) -> bytes:
    return urlsafe_b64decode(said + "=" * (-len(said) % 4))


@dataclass
class Authenticator:
    """One passkey on a device. What is changed here is what the browser or the device then says wrongly."""

    origin: str = PORTAL
    host: str | None = None
    """For which relying party it signs; what the options say, unless a test says otherwise."""
    verifies_user: bool = True
    sign_count: int = 0
    counts: bool = True
    """Those that are copied between devices do not count: theirs is always 0."""
    more: dict = field(default_factory=dict)
    """Put into the client data."""
    key: ec.EllipticCurvePrivateKey = field(default_factory=lambda: ec.generate_private_key(ec.SECP256R1()))
    id: bytes = field(default_factory=lambda: os.urandom(32))
    told: dict | None = None
    """The options of the last ceremony."""

    def create(self, options: dict, *, algorithm: int = -7) -> str:
        """RegistrationResponseJSON."""
        self.told = options
        x, y = (getattr(self.key.public_key().public_numbers(), name).to_bytes(32, "big") for name in "xy")
        public = cbor.encode({1: 2, 3: algorithm, -1: 1, -2: x, -3: y})
        credential = bytes(16) + struct.pack(">H", len(self.id)) + self.id + public
        auth_data = self._auth_data(options["rp"]["id"], ATTESTED) + credential
        attestation = cbor.encode({"fmt": "none", "attStmt": {}, "authData": auth_data})
        return self._answer("webauthn.create", options, {"attestationObject": text(attestation)})

    def get(self, options: dict) -> str:
        """AuthenticationResponseJSON."""
        self.told = options
        self.sign_count += self.counts
        auth_data = self._auth_data(options["rpId"])
        client_data = self._client_data("webauthn.get", options)
        signature = self.key.sign(auth_data + hashlib.sha256(client_data).digest(), ec.ECDSA(hashes.SHA256()))
        answer = {"authenticatorData": text(auth_data), "signature": text(signature)}
        return self._answer("webauthn.get", options, answer)

    def copy(self) -> Authenticator:
        """Somebody has got hold of the key."""
        return Authenticator(key=self.key, id=self.id, sign_count=self.sign_count, counts=self.counts)

    def _auth_data(self, host: str, flags: int = 0) -> bytes:
        flags |= PRESENT | (VERIFIED if self.verifies_user else 0)
        return hashlib.sha256((self.host or host).encode()).digest() + struct.pack(">BI", flags, self.sign_count)

    def _client_data(self, kind: str, options: dict) -> bytes:
        said = {"type": kind, "challenge": options["challenge"], "origin": self.origin, "crossOrigin": False}
        return json.dumps(said | self.more).encode()

    def _answer(self, kind: str, options: dict, response: dict) -> str:
        response["clientDataJSON"] = text(self._client_data(kind, options))
        return json.dumps({"id": text(self.id), "rawId": text(self.id), "type": "public-key", "response": response})
