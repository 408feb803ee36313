"""Ticket keys: RSA, named by `kid`, each a file `<kid>.<state>.pem`; signing and checking of JWTs.

RFC 7519 (JWT), 7515 (JWS), 7517 (JWK), 8725 (best current practice).
"""

import hashlib
import json
import os
import secrets
from collections.abc import Mapping
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Any

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from jwt.algorithms import RSAAlgorithm

from sluss.domain.errors import ConfigError

ALGORITHM = "RS256"
KEY_BITS = 2048
MAX_TOKEN_BYTES = 8192
MAX_RECEIPT_BYTES = 4 * 2**20
TICKET, RECEIPT = "JWT", "sluss-attendance+jwt"
REQUIRED = ["iss", "aud", "sub", "room", "jti", "nbf", "iat", "exp"]


class KeyState(StrEnum):
    """A key's life. Only `ACTIVE` signs; `NEXT` and `RETIRED` still check."""

    NEXT = "next"
    ACTIVE = "active"
    RETIRED = "retired"


class BadTicketError(Exception):
    """The token is not one of ours, or was altered."""


class TicketExpiredError(Exception):
    """The token is ours and its time is over or has not come."""


class TicketKeys:
    """Signs tickets with the active key and checks them with every key that is not gone."""

    def __init__(self, pems: Mapping[str, bytes]) -> None:
        """`pems`: file name → PEM. Raises `ConfigError` for a bad name, a weak key or not exactly one active."""
        self._public: dict[str, rsa.RSAPublicKey] = {}
        active: list[tuple[str, rsa.RSAPrivateKey]] = []
        for name, pem in sorted(pems.items()):
            kid, state = _parse_name(name)
            key = _load(name, pem)
            self._public[kid] = key.public_key()
            if state is KeyState.ACTIVE:
                active.append((kid, key))
        if len(active) != 1:
            raise ConfigError(f"ticket-keys: there must be one active key, there are {len(active)}")
        self.active_kid, self._signing = active[0]

    def sign(self, claims: Mapping[str, Any]) -> str:
        """The compact JWS of `claims`."""
        return jwt.encode(dict(claims), self._signing, ALGORITHM, headers={"kid": self.active_kid})

    def sign_receipt(self, claims: Mapping[str, Any]) -> str:
        """The compact JWS of a receipt. Its type keeps it from being taken for a ticket (RFC 8725, 3.11)."""
        return jwt.encode(dict(claims), self._signing, ALGORITHM, headers={"kid": self.active_kid, "typ": RECEIPT})

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
        """The key of our own ring that the header names."""
        header = jwt.get_unverified_header(token.partition(".")[0] + "..")  # the rest is read once, when it is checked
        kid = header.get("kid")
        key = self._public.get(kid) if isinstance(kid, str) else None
        if key is None:
            raise BadTicketError("unknown kid")
        if header.get("typ", TICKET) != kind:
            raise BadTicketError("of another type")
        return key

    def jwks(self) -> dict[str, Any]:
        """The public keys as a JWK set (RFC 7517)."""
        return {
            "keys": [
                {
                    **json.loads(RSAAlgorithm.to_jwk(key)),
                    "kid": kid,
                    "use": "sig",
                    "alg": ALGORITHM,
                    "key_ops": ["verify"],
                }
                for kid, key in self._public.items()
            ]
        }

    def pem(self, kid_sha256: str) -> str | None:
        """The public key whose `kid` has this SHA-256 (hex), as Jitsi's key server convention wants it."""
        for kid, key in self._public.items():
            if hashlib.sha256(kid.encode()).hexdigest() == kid_sha256:
                return key.public_bytes(
                    serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
                ).decode()
        return None


def create_first_key(directory: Path, now: datetime | None = None) -> tuple[str, bool]:
    """Make the first active key in `directory` unless there is one. Returns its kid and whether it is new.

    The file appears whole or not at all, readable by its owner alone.
    """
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    for path in sorted(directory.glob(f"*.{KeyState.ACTIVE}.pem")):
        return _parse_name(path.name)[0], False
    kid = f"{now or datetime.now(UTC):%Y%m%d}-{secrets.token_hex(4)}"
    pem = rsa.generate_private_key(65537, KEY_BITS).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    partial = directory / f".{kid}.partial"
    with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(pem)
        file.flush()
        os.fsync(file.fileno())
    partial.rename(directory / f"{kid}.{KeyState.ACTIVE}.pem")
    return kid, True


def _parse_name(name: str) -> tuple[str, KeyState]:
    kid, _, state = name.removesuffix(".pem").rpartition(".")
    if not kid or state not in set(KeyState):
        raise ConfigError(f"ticket-keys: {name}: must be called <kid>.next|active|retired.pem")
    return kid, KeyState(state)


def _load(name: str, pem: bytes) -> rsa.RSAPrivateKey:
    try:
        key = serialization.load_pem_private_key(pem, password=None)
    except ValueError:
        raise ConfigError(f"ticket-keys: {name}: not a private key in PEM") from None
    if not isinstance(key, rsa.RSAPrivateKey) or key.key_size < KEY_BITS:
        raise ConfigError(f"ticket-keys: {name}: must be RSA of {KEY_BITS} bits or more")
    return key
