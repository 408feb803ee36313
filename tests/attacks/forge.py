"""Making tokens that are not what they seem (RFC 7515, RFC 7519, RFC 8725)."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from functools import cache
from typing import Any

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from tests.attacks.people import Browser, Site


def b64(data: bytes | str) -> str:
    raw = data.encode() if isinstance(data, str) else data
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


def unb64(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def parts(token: str) -> tuple[dict[str, Any], dict[str, Any], str]:
    """Header, claims and signature."""
    header, claims, signature = token.split(".")
    return json.loads(unb64(header)), json.loads(unb64(claims)), signature


def text(header: Any, claims: Any) -> str:
    """What is signed. Strings and bytes are taken as they are, everything else as JSON."""
    return ".".join(b64(part if isinstance(part, str | bytes) else json.dumps(part)) for part in (header, claims))


def really(site: Site, header: Any, claims: Any, **how: str) -> str:
    """A token with a signature by the site's own key, which nobody outside can make."""
    signed = text(header, claims)
    return f"{signed}.{site.insider('sign', text=signed, **how)}"


def mac(signed: str, key: bytes | str, digest: str = "sha256") -> str:
    return b64(hmac.new(key.encode() if isinstance(key, str) else key, signed.encode(), digest).digest())


@cache
def own_key() -> rsa.RSAPrivateKey:
    """The attacker's."""
    return rsa.generate_private_key(65537, 2048)


def own(header: Any, claims: Any) -> str:
    """A token signed by the attacker."""
    signed = text(header, claims)
    return f"{signed}.{b64(own_key().sign(signed.encode(), padding.PKCS1v15(), hashes.SHA256()))}"


def own_jwk() -> dict[str, str]:
    numbers = own_key().public_key().public_numbers()
    n, e = (number.to_bytes((number.bit_length() + 7) // 8, "big") for number in (numbers.n, numbers.e))
    return {"kty": "RSA", "n": b64(n), "e": b64(e)}


def elliptic(header: Any, claims: Any) -> str:
    signed = text(header, claims)
    return f"{signed}.{b64(ec.generate_private_key(ec.SECP256R1()).sign(signed.encode(), ec.ECDSA(hashes.SHA256())))}"


def edwards(header: Any, claims: Any) -> str:
    signed = text(header, claims)
    return f"{signed}.{b64(ed25519.Ed25519PrivateKey.generate().sign(signed.encode()))}"


def pem_of(site: Site, kid: str) -> str:
    """The public key, as the portal gives it to anybody."""
    answer = Browser(site).get(f"/keys/{hashlib.sha256(kid.encode()).hexdigest()}.pem")
    assert answer.status == 200
    return answer.text
