"""Signing and checking of tickets and attendance records: JWTs, by RSA keys named by `kid`.

RFC 7519 (JWT), 7515 (JWS), 7517 (JWK), 8725 (best current practice).
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from jwt.algorithms import RSAAlgorithm

from sluss.domain.errors import ConfigError
from sluss.keyring.ring import KeyState, load_key, parse_name

ALGORITHM = "RS256"
MAX_TOKEN_BYTES = 8192
MAX_RECEIPT_BYTES = 4 * 2**20
TICKET, RECEIPT = "JWT", "sluss-attendance+jwt"
REQUIRED = ["iss", "aud", "sub", "room", "jti", "nbf", "iat", "exp"]


class BadTicketError(Exception):
    """The token is not one of ours, or was altered."""


class TicketExpiredError(Exception):
    """The token is ours and its time is over or has not come."""


@dataclass(frozen=True, slots=True)
class Ring:
    """Keys that can sign and check, by kid."""

    public: dict[str, rsa.RSAPublicKey]
    archived: dict[str, rsa.RSAPublicKey]
    active_kid: str
    signing: rsa.RSAPrivateKey


class TicketKeys:
    """Signs with the active key, checks tickets with those not archived, and attendance records with all."""

    def __init__(self, pems: Mapping[str, bytes]) -> None:
        """From `pems`, as `read_keys` says."""
        self._ring = read_keys(pems)

    def take(self, ring: Ring) -> None:
        """Sign and check with these from now on, for everybody who holds this object."""
        self._ring = ring

    @property
    def active_kid(self) -> str:
        """The key that signs."""
        return self._ring.active_kid

    def sign(self, claims: Mapping[str, Any]) -> str:
        """The compact JWS of `claims`."""
        return jwt.encode(dict(claims), self._ring.signing, ALGORITHM, headers={"kid": self.active_kid})

    def sign_receipt(self, claims: Mapping[str, Any]) -> str:
        """The compact JWS of a receipt. Its type keeps it from being taken for a ticket (RFC 8725, 3.11)."""
        return jwt.encode(dict(claims), self._ring.signing, ALGORITHM, headers={"kid": self.active_kid, "typ": RECEIPT})

    def check_receipt(self, receipt: str) -> dict[str, Any]:
        """What a genuine receipt says. Raises `BadTicketError`."""
        if len(receipt) > MAX_RECEIPT_BYTES:
            raise BadTicketError("too long")
        try:
            return jwt.decode(
                receipt,
                self._key_of(receipt, RECEIPT),
                algorithms=[ALGORITHM],
                options={"verify_exp": False, "verify_nbf": False, "verify_iat": False},
            )
        except (jwt.InvalidTokenError, RecursionError, UnicodeError) as error:
            raise BadTicketError(type(error).__name__) from None

    def check(self, token: str, *, issuer: str, audience: str, now: datetime) -> dict[str, Any]:
        """The claims of a genuine, timely token. Raises `BadTicketError` or `TicketExpiredError`.

        The key comes from our own ring by `kid` alone; `jku`, `jwk`, `x5u` and the header's `alg` decide nothing.
        """
        if len(token) > MAX_TOKEN_BYTES:
            raise BadTicketError("too long")
        try:
            claims = jwt.decode(
                token,
                self._key_of(token, TICKET),
                algorithms=[ALGORITHM],
                issuer=issuer,
                audience=audience,
                # The clock is an argument here, so the library's own is off and the check is below.
                options={
                    "require": REQUIRED,
                    "strict_aud": True,
                    "verify_exp": False,
                    "verify_nbf": False,
                    "verify_iat": False,
                },
            )
        except (jwt.InvalidTokenError, RecursionError, UnicodeError) as error:
            raise BadTicketError(type(error).__name__) from None
        times = [claims["nbf"], claims["iat"], claims["exp"]]
        if any(type(value) is not int for value in times):
            raise BadTicketError("odd-typed times")
        if not claims["nbf"] <= now.timestamp() < claims["exp"]:
            raise TicketExpiredError
        return claims

    def _key_of(self, token: str, kind: str) -> rsa.RSAPublicKey:
        """The key of our own ring that the header names, if it is one for this kind."""
        header = jwt.get_unverified_header(token.partition(".")[0] + "..")  # the rest is read once, when it is checked
        kid = header.get("kid")
        keys = self._ring.public if kind == TICKET else self._ring.public | self._ring.archived
        key = keys.get(kid) if isinstance(kid, str) else None
        if key is None:
            raise BadTicketError("unknown kid")
        if header.get("typ", TICKET) != kind:
            raise BadTicketError("of another type")
        return key

    def jwks(self) -> dict[str, Any]:
        """The public keys that tickets may name, as a JWK set (RFC 7517)."""
        return {
            "keys": [
                {
                    **json.loads(RSAAlgorithm.to_jwk(key)),
                    "kid": kid,
                    "use": "sig",
                    "alg": ALGORITHM,
                    "key_ops": ["verify"],
                }
                for kid, key in self._ring.public.items()
            ]
        }

    def pem(self, kid_sha256: str) -> str | None:
        """The public key whose `kid` has this SHA-256 (hex), as Jitsi's key server convention wants it."""
        for kid, key in self._ring.public.items():
            if hashlib.sha256(kid.encode()).hexdigest() == kid_sha256:
                return key.public_bytes(
                    serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
                ).decode()
        return None


def read_keys(pems: Mapping[str, bytes]) -> Ring:
    """`pems`: file name → PEM. Raises `ConfigError` for a bad name, a weak key or not exactly one that signs."""
    public: dict[str, rsa.RSAPublicKey] = {}
    archived: dict[str, rsa.RSAPublicKey] = {}
    private: dict[KeyState, list[tuple[str, rsa.RSAPrivateKey]]] = {KeyState.ACTIVE: [], KeyState.NEXT: []}
    for name, pem in sorted(pems.items()):
        kid, state = parse_name(name)
        half, key = load_key(name, pem)
        (archived if state is KeyState.ARCHIVED else public)[kid] = half
        if state in private and key is not None:
            private[state].append((kid, key))
    signing = private[KeyState.ACTIVE] or private[KeyState.NEXT]
    if len(signing) != 1:
        raise ConfigError(f"ticket-keys: there must be one active key, there are {len(signing)}")
    return Ring(public, archived, *signing[0])
