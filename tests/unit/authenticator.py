"""An authenticator in software: does what one of hardware does (WebAuthn 6), and whatever else a test tells it to."""

from __future__ import annotations

import hashlib
import json
import os
import struct
from base64 import urlsafe_b64decode, urlsafe_b64encode
from dataclasses import dataclass, field
from datetime import UTC, datetime
from uuid import UUID

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from fido2 import cbor

PORTAL = "https://portal.sluss.test"
_OID_AAGUID = x509.ObjectIdentifier("1.3.6.1.4.1.45724.1.1.4")
PRESENT, VERIFIED, ATTESTED = 0x01, 0x04, 0x40


def text(data: bytes) -> str:
    return urlsafe_b64encode(data).rstrip(b"=").decode()


def data(said: str) -> bytes:
    return urlsafe_b64decode(said + "=" * (-len(said) % 4))


class Maker:
    """Somebody who makes authenticators, with a root certificate and a key for a batch of them."""

    def __init__(self, name: str = "Maker") -> None:
        self._root_key, self._name = ec.generate_private_key(ec.SECP256R1()), _name(name, "Root")
        self.key = ec.generate_private_key(ec.SECP256R1())
        root = self._certificate(self._name, self._root_key.public_key(), ca=True)
        self.root = root.sign(self._root_key, hashes.SHA256()).public_bytes(Encoding.PEM).decode()

    def batch(self, model: UUID) -> bytes:
        """The certificate that goes with an attestation of this model (WebAuthn 8.2.1)."""
        subject = _name("Maker", "Authenticator Attestation")
        extension = x509.UnrecognizedExtension(_OID_AAGUID, b"\x04\x10" + model.bytes)
        one = self._certificate(subject, self.key.public_key(), ca=False).add_extension(extension, critical=False)
        return one.sign(self._root_key, hashes.SHA256()).public_bytes(Encoding.DER)

    def _certificate(self, subject: x509.Name, key: ec.EllipticCurvePublicKey, *, ca: bool) -> x509.CertificateBuilder:
        return (
            x509.CertificateBuilder(self._name, subject, key, x509.random_serial_number())
            .not_valid_before(datetime(2026, 1, 1, tzinfo=UTC))
            .not_valid_after(datetime(2050, 1, 1, tzinfo=UTC))
            .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
        )


def _name(organisation: str, unit: str) -> x509.Name:
    parts = {"C": "SE", "O": organisation, "OU": unit, "CN": f"{organisation} {unit}"}
    return x509.Name.from_rfc4514_string(",".join(f"{key}={value}" for key, value in parts.items()))


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
    model: UUID = field(default_factory=lambda: UUID(int=0))
    maker: Maker | None = None
    """Who attests the model; None: nobody does."""
    attests_itself: bool = False

    def create(self, options: dict, *, algorithm: int = -7) -> str:
        """RegistrationResponseJSON."""
        self.told = options
        x, y = (getattr(self.key.public_key().public_numbers(), name).to_bytes(32, "big") for name in "xy")
        public = cbor.encode({1: 2, 3: algorithm, -1: 1, -2: x, -3: y})
        credential = self.model.bytes + struct.pack(">H", len(self.id)) + self.id + public
        auth_data = self._auth_data(options["rp"]["id"], ATTESTED) + credential
        attestation = cbor.encode(self._attestation(auth_data, self._client_data("webauthn.create", options)))
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

    def _attestation(self, auth_data: bytes, client_data: bytes) -> dict:
        """Packed (WebAuthn 8.2), by the maker's batch key or one's own; or none."""
        if not self.maker and not self.attests_itself:
            return {"fmt": "none", "attStmt": {}, "authData": auth_data}
        key = self.maker.key if self.maker else self.key
        signature = key.sign(auth_data + hashlib.sha256(client_data).digest(), ec.ECDSA(hashes.SHA256()))
        statement = {"alg": -7, "sig": signature}
        if self.maker:
            statement["x5c"] = [self.maker.batch(self.model)]
        return {"fmt": "packed", "attStmt": statement, "authData": auth_data}

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
