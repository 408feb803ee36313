"""A double of an OpenID provider that does as it is told: it speaks the protocol, and lies wherever a test says so.

A real one, which only does what is right, is in tests/browser/openid.
"""

from __future__ import annotations

import base64
import hashlib
import json
import secrets
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from urllib.parse import parse_qsl, unquote_plus, urlencode, urlsplit

import jwt
from aiohttp import web
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from jwt.algorithms import ECAlgorithm, RSAAlgorithm
from tests.unit.certificates import Authority

CLIENT, SECRET = "sluss", "client secret/with: odd+characters"
EVENT = "http://schemas.openid.net/event/backchannel-logout"
PRIVATE = rsa.generate_private_key(65537, 2048)


@dataclass
class ProviderDouble:
    """The attributes are what it says; change them to have it lie."""

    clock: Callable[[], datetime]
    issuer: str = ""
    person: dict = field(default_factory=dict)
    """Claims about who signs in."""
    claims: dict = field(default_factory=dict)
    """What the next ID token says otherwise. None takes a claim out."""
    answer: dict = field(default_factory=dict)
    """What the next answer through the browser says otherwise."""
    metadata: dict = field(default_factory=dict)
    userinfo: dict | None = None
    key: object = PRIVATE
    algorithm: str = "RS256"
    header: dict = field(default_factory=lambda: {"kid": "k1"})
    keys: list | None = None
    status: int = 200
    asked: list[str] = field(default_factory=list)
    """Paths, in order."""
    request: dict = field(default_factory=dict)
    """The last authorization request."""
    tokens: list[str] = field(default_factory=list)
    """Everything secret that it has given out."""
    _codes: dict[str, dict] = field(default_factory=dict)

    def now(self) -> int:
        return int(self.clock().timestamp())

    def sign_in(self, address: str, **person) -> str:
        """What a person's browser does there: ask, sign in. Returns where it is sent back to."""
        url = urlsplit(address)
        assert f"{url.scheme}://{url.netloc}{url.path}" == f"{self.issuer}/authorize"
        self.request = dict(parse_qsl(url.query))
        assert self.request["response_type"] == "code"
        assert self.request["client_id"] == CLIENT
        code = secrets.token_urlsafe(16)
        self._codes[code] = self.request | {"person": self.person | person}
        self.tokens.append(code)
        answer = {"code": code, "state": self.request["state"], "iss": self.issuer} | self.answer
        answer = {name: value for name, value in answer.items() if value is not None}
        return f"{self.request['redirect_uri']}?{urlencode(answer)}"

    def signed(self, claims: dict, **header) -> str:
        claims = {name: value for name, value in claims.items() if value is not None}
        if self.algorithm == "none":
            parts = ({"alg": "none"}, claims)
            return ".".join(_base64url(json.dumps(part).encode()) for part in parts) + "."
        if self.algorithm == "HS256" and not isinstance(self.key, bytes):
            return _hs256_with_public_key(claims, self.header, self.key)
        return jwt.encode(claims, self.key, self.algorithm, headers=self.header | header)

    def logout_token(self, **claims) -> str:
        said = {
            "iss": self.issuer,
            "aud": CLIENT,
            "iat": self.now(),
            "exp": self.now() + 120,
            "jti": secrets.token_hex(8),
        }
        return self.signed(said | {"events": {EVENT: {}}} | claims, typ="logout+jwt")

    async def discovery(self, request: web.Request) -> web.Response:
        found = {
            "issuer": self.issuer,
            "authorization_endpoint": f"{self.issuer}/authorize",
            "token_endpoint": f"{self.issuer}/token",
            "userinfo_endpoint": f"{self.issuer}/userinfo",
            "jwks_uri": f"{self.issuer}/jwks",
            "authorization_response_iss_parameter_supported": True,
        }
        return self._json(request, found | self.metadata)

    async def jwks(self, request: web.Request) -> web.Response:
        return self._json(request, {"keys": self.keys if self.keys is not None else [as_jwk(PRIVATE, "k1")]})

    async def token(self, request: web.Request) -> web.Response:
        form = await request.post()
        given = request.headers.get("Authorization", "").removeprefix("Basic ")
        name, _, secret = base64.b64decode(given).decode().partition(":")
        flow = self._codes.pop(str(form["code"]), None)
        challenge = _base64url(hashlib.sha256(str(form["code_verifier"]).encode()).digest())
        if (unquote_plus(name), unquote_plus(secret)) != (CLIENT, SECRET):
            return web.json_response({"error": "invalid_client"}, status=401)
        if not flow or flow["code_challenge"] != challenge or flow["code_challenge_method"] != "S256":
            return web.json_response({"error": "invalid_grant"}, status=400)
        if flow["redirect_uri"] != form["redirect_uri"]:
            return web.json_response({"error": "invalid_grant"}, status=400)
        now = self.now()
        said = {
            "iss": self.issuer,
            "aud": CLIENT,
            "iat": now,
            "exp": now + 300,
            "auth_time": now,
            "nonce": flow["nonce"],
        }
        id_token = self.signed(said | flow["person"] | self.claims)
        access = secrets.token_urlsafe(16)
        self.tokens += [id_token, access]
        return self._json(request, {"token_type": "Bearer", "access_token": access, "id_token": id_token})

    async def about(self, request: web.Request) -> web.Response:
        assert request.headers["Authorization"].removeprefix("Bearer ") in self.tokens
        return self._json(request, self.userinfo or {})

    def _json(self, request: web.Request, found: dict) -> web.Response:
        self.asked.append(request.path)
        if 300 <= self.status < 400:
            return web.Response(status=self.status, headers={"Location": f"{self.issuer}/jwks"})
        return web.json_response(found, status=self.status)


def as_jwk(private: object, kid: str) -> dict:
    algorithm = RSAAlgorithm if isinstance(private, rsa.RSAPrivateKey) else ECAlgorithm
    return json.loads(algorithm.to_jwk(private.public_key())) | {"kid": kid, "use": "sig"}


def elliptic() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def _hs256_with_public_key(claims: dict, header: dict, private: rsa.RSAPrivateKey) -> str:
    """What a library that believes `alg` would take: the public key, which everybody has, as the HMAC's key."""
    import hmac

    form = serialization.PublicFormat.SubjectPublicKeyInfo
    public = private.public_key().public_bytes(serialization.Encoding.PEM, form)
    signed = ".".join(_base64url(json.dumps(part).encode()) for part in ({"alg": "HS256", **header}, claims))
    return f"{signed}.{_base64url(hmac.new(public, signed.encode(), hashlib.sha256).digest())}"


def _base64url(value: bytes) -> str:
    return base64.urlsafe_b64encode(value).rstrip(b"=").decode()


@asynccontextmanager
async def running(folder: Path, clock: Callable[[], datetime]) -> AsyncIterator[tuple[ProviderDouble, ssl.SSLContext]]:
    """It listens on loopback, over TLS; with it, what trusts it."""
    authority = Authority(folder)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*authority.issue("localhost"))
    double = ProviderDouble(clock)
    app = web.Application()
    app.router.add_get("/.well-known/openid-configuration", double.discovery)
    app.router.add_get("/jwks", double.jwks)
    app.router.add_post("/token", double.token)
    app.router.add_get("/userinfo", double.about)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context).start()
        double.issuer = f"https://localhost:{runner.addresses[0][1]}"
        yield double, ssl.create_default_context(cafile=authority.file)
    finally:
        await runner.cleanup()
