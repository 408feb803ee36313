"""The organisation's own sign-in: an OpenID Connect relying party.

OpenID Connect Core 1.0 (code flow) and Discovery 1.0, RFC 7636 (PKCE), RFC 9207 (who issued the answer), RFC 9700 (best
current practice), Back-Channel Logout 1.0. No token is kept.
"""

import base64
import hashlib
import hmac
import secrets
import unicodedata
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol
from urllib.parse import quote, urlencode, urlsplit

import jwt
from cryptography.hazmat.primitives.asymmetric import rsa

from sluss.domain.assurance import STRONGER, Method
from sluss.domain.errors import OneFactorOnly, SignInRefused, SignInUnavailable
from sluss.domain.freshness import is_fresh

LIFETIME = timedelta(minutes=10)
"""So long a person may take at the provider; and so old a token may be when it gets here."""
CACHED = timedelta(hours=1)
"""So long what the provider says of itself is believed."""
_KEYS_AGAIN = timedelta(minutes=1)
"""An unknown key makes us ask for the keys again, but not more often than this."""
_SKEW = timedelta(seconds=30)
_KINDS = {"RS256": "RSA", "PS256": "RSA", "ES256": "EC"}
"""The signatures that are accepted, and the kind of key of each (RFC 8725, 3.1)."""
_MIN_RSA_BITS = 2048
_MAX_TOKEN = 32 * 1024
_MAX_TEXT = 255
_LOGOUT = "http://schemas.openid.net/event/backchannel-logout"

Claims = Mapping[str, Any]


class Asker(Protocol):
    """Asks the provider over HTTPS and follows no redirect."""

    async def ask(
        self, url: str, *, form: Mapping[str, str] | None = None, authorization: str = ""
    ) -> tuple[int, dict[str, Any]]:
        """Status and JSON of the answer to a GET, or a POST of `form`. Raises `SignInUnavailable`."""


@dataclass(frozen=True, slots=True, repr=False)
class ProviderSettings:
    """How the provider is spoken to, and what its words mean here."""

    issuer: str
    client_id: str
    secret: str
    redirect_uri: str
    levels: Mapping[str, Method]
    """What values of `acr` and `amr` come to."""
    acr_values: tuple[str, ...] = ()
    scopes: tuple[str, ...] = ("openid", "email", "profile")
    email_claim: str = "email"
    email_trusted: bool = False
    """Whether addresses are the organisation's own, so that they count without `email_verified`."""
    hosts: tuple[str, ...] = ()
    """Other hosts, besides the issuer's, that its endpoints may be on."""
    groups_claim: str = ""
    organisers: str = ""
    """Who has this value in the claim may be an organiser."""
    auditors: str = ""
    """Who has this one may be an auditor. Without a claim groups decide nothing."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """What a browser that was sent to the provider must come back with."""

    nonce: str
    verifier: str
    max_age: int
    """Seconds."""


@dataclass(frozen=True, slots=True)
class Account:
    """Who signed in, and how."""

    issuer: str
    subject: str
    session: str
    """The provider's name for its session (`sid`), if it has one."""
    method: Method
    email: str
    """Empty unless the provider vouches for it."""
    name: str
    signed_in_at: datetime
    roles: frozenset[str] | None
    """Of `organiser` and `auditor` what its groups make it. None: groups decide nothing."""


@dataclass(frozen=True, slots=True)
class LoggedOut:
    """Whose sessions end: all of a subject, or the one called `session`."""

    issuer: str
    subject: str
    session: str
    jti: str


def same_address(one: str, other: str) -> bool:
    """Whether two e-mail addresses are the same but for case and Unicode's ways to write one letter (NFC).

    Not NFKC nor `casefold`: by those, an address that somebody else can have equals this one (`ß` and `ss`).
    """
    return bool(one) and _plain(one) == _plain(other)


def _plain(address: str) -> str:
    return unicodedata.normalize("NFC", address.strip()).lower()


def new_attempt(max_age: timedelta) -> Attempt:
    """With new secrets. The person must have signed in less than `max_age` before they come back."""
    return Attempt(secrets.token_urlsafe(32), secrets.token_urlsafe(48), int(max_age.total_seconds()))


class Provider:
    """The one provider that is configured."""

    def __init__(self, settings: ProviderSettings, asker: Asker) -> None:
        self._s = settings
        self._asker = asker
        self._hosts = {host.lower() for host in (urlsplit(settings.issuer).netloc, *settings.hosts)}
        self._metadata: tuple[datetime, Claims] | None = None
        self._keys: tuple[datetime, list[dict[str, Any]]] | None = None

    @property
    def methods(self) -> frozenset[Method]:
        """What signing in here can come to."""
        return frozenset(self._s.levels.values())

    async def address(
        self, attempt: Attempt, state: str, wanted: Collection[Method], locale: str, now: datetime, *, again: bool
    ) -> str:
        """Where the browser goes. `again`: whoever is signed in there signs in once more.

        `wanted` are the methods that count; it is asked for those values of `acr_values` that come to one.
        Raises `SignInUnavailable`.
        """
        metadata = await self._discovered(now)
        asked = {
            "response_type": "code",
            "client_id": self._s.client_id,
            "redirect_uri": self._s.redirect_uri,
            "scope": " ".join(self._s.scopes),
            "state": state,
            "nonce": attempt.nonce,
            "code_challenge": _base64url(hashlib.sha256(attempt.verifier.encode()).digest()),
            "code_challenge_method": "S256",
            "max_age": str(attempt.max_age),
            "ui_locales": locale,
        }
        if values := [value for value in self._s.acr_values if self._s.levels.get(value) in wanted]:
            asked["acr_values"] = " ".join(values)
        if again:
            asked["prompt"] = "login"
        where = self._endpoint(metadata, "authorization_endpoint")
        return f"{where}{'&' if '?' in where else '?'}{urlencode(asked)}"

    async def account(self, answer: Mapping[str, str], attempt: Attempt, now: datetime) -> Account:
        """Who came back with this `answer` (the query). Raises `SignInRefused`, `SignInUnavailable`."""
        metadata = await self._discovered(now)
        said = answer.get("iss")
        if said != self._s.issuer and (said or metadata.get("authorization_response_iss_parameter_supported")):
            raise SignInRefused("the answer is from another issuer")  # RFC 9207
        if "error" in answer or not answer.get("code"):
            raise SignInRefused(f"the provider answered {_word(answer.get('error'))}")
        tokens = await self._redeem(metadata, answer["code"], attempt)
        signed = await self._id_token(tokens.get("id_token"), attempt, now)
        claims = await self._with_userinfo(metadata, signed, tokens.get("access_token"))
        email = self._email(claims)
        return Account(
            self._s.issuer,
            claims["sub"],
            _text(claims.get("sid")),
            self._method(signed, email),
            email,
            _text(claims.get("name")),
            min(datetime.fromtimestamp(claims["auth_time"], UTC), now),
            self._roles(claims),
        )

    async def logged_out(self, token: str, now: datetime) -> LoggedOut:
        """What a logout token says. Whoever asks must use its `jti` once. Raises the same."""
        claims = await self._signed(token, now, ("JWT", "logout+jwt"))
        events = claims.get("events")
        if not isinstance(events, dict) or not isinstance(events.get(_LOGOUT), dict) or "nonce" in claims:
            raise SignInRefused("no logout token")
        subject, session, jti = (_text(claims.get(name)) for name in ("sub", "sid", "jti"))
        if not jti or not (subject or session):
            raise SignInRefused("a logout token of nobody")
        return LoggedOut(self._s.issuer, subject, session, jti)

    async def _discovered(self, now: datetime) -> Claims:
        if self._metadata is None or not is_fresh(self._metadata[0], now, CACHED):
            status, found = await self._asker.ask(f"{self._s.issuer.rstrip('/')}/.well-known/openid-configuration")
            if status != 200 or found.get("issuer") != self._s.issuer:
                raise SignInUnavailable("discovery: no answer of this issuer")
            self._metadata = now, found
        return self._metadata[1]

    def _endpoint(self, metadata: Claims, name: str) -> str:
        """An address that discovery names: https, on a host that is configured. Raises `SignInUnavailable`."""
        try:
            parts = urlsplit(str(metadata.get(name)))
        except ValueError:
            parts = urlsplit("")
        if parts.scheme != "https" or parts.netloc.lower() not in self._hosts or parts.fragment:
            raise SignInUnavailable(f"discovery: {name} leads elsewhere")
        return parts.geturl()

    async def _redeem(self, metadata: Claims, code: str, attempt: Attempt) -> Claims:
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": self._s.redirect_uri,
            "code_verifier": attempt.verifier,
        }
        authorization = ""
        ways = metadata.get("token_endpoint_auth_methods_supported")
        if not isinstance(ways, list) or "client_secret_basic" in ways:
            pair = f"{quote(self._s.client_id, safe='')}:{quote(self._s.secret, safe='')}"  # RFC 6749, 2.3.1
            authorization = f"Basic {base64.b64encode(pair.encode()).decode()}"
        else:
            form |= {"client_id": self._s.client_id, "client_secret": self._s.secret}
        where = self._endpoint(metadata, "token_endpoint")
        status, tokens = await self._asker.ask(where, form=form, authorization=authorization)
        if status != 200:
            raise SignInRefused(f"the code was not taken: {_word(tokens.get('error'))}")
        return tokens

    async def _id_token(self, token: object, attempt: Attempt, now: datetime) -> Claims:
        """The claims of a genuine ID token for this attempt (OpenID Connect Core, 3.1.3.7)."""
        claims = await self._signed(token, now, ("JWT",))
        if not _text(claims.get("sub")) or not hmac.compare_digest(
            _text(claims.get("nonce")).encode(), attempt.nonce.encode()
        ):
            raise SignInRefused("ID token: for another attempt")
        if not _recent(claims.get("auth_time"), now, timedelta(seconds=attempt.max_age)):
            raise SignInRefused("ID token: signed in too long ago")
        return claims

    async def _signed(self, token: object, now: datetime, kinds: tuple[str, ...]) -> Claims:
        """The claims of a token that this provider signed for us, just now. Raises `SignInRefused`."""
        if not isinstance(token, str) or len(token) > _MAX_TOKEN:
            raise SignInRefused("token: none, or too long")
        try:
            header = jwt.get_unverified_header(token)
            algorithm = header.get("alg")
            if not isinstance(algorithm, str) or algorithm not in _KINDS or header.get("typ", "JWT") not in kinds:
                raise SignInRefused("token: signed in a way that is not accepted")
            key = await self._key(algorithm, header.get("kid"), now)
            claims: Claims = jwt.decode(
                token,
                key,
                algorithms=[algorithm],
                audience=self._s.client_id,
                issuer=self._s.issuer,
                # The clock is an argument here, so the library's own is off and the check is below.
                options={
                    "require": ["iss", "aud", "exp", "iat"],
                    "verify_exp": False,
                    "verify_nbf": False,
                    "verify_iat": False,
                },
            )
        except (jwt.PyJWTError, RecursionError, UnicodeError) as error:
            raise SignInRefused(f"token: {type(error).__name__}") from None
        if claims["aud"] not in (self._s.client_id, [self._s.client_id]):
            raise SignInRefused("token: for others too")
        if claims.get("azp", self._s.client_id) != self._s.client_id:
            raise SignInRefused("token: for another party")
        if type(claims["exp"]) is not int or claims["exp"] <= (now - _SKEW).timestamp():
            raise SignInRefused("token: too old")
        if not _recent(claims["iat"], now, LIFETIME):
            raise SignInRefused("token: not made just now")
        return claims

    async def _key(self, algorithm: str, kid: object, now: datetime) -> Any:
        """The provider's one key for this. `jku`, `jwk` and `x5u` in a token decide nothing. Raises `SignInRefused`."""
        for oldest in (CACHED, _KEYS_AGAIN):
            fitting = [key for key in await self._known_keys(now, oldest) if _fits(key, algorithm, kid)]
            if len(fitting) == 1:
                key = jwt.PyJWK(fitting[0], algorithm).key
                if isinstance(key, rsa.RSAPublicKey) and key.key_size < _MIN_RSA_BITS:
                    raise SignInRefused("token: the provider's key is too weak")
                return key
        raise SignInRefused("token: unknown key")

    async def _known_keys(self, now: datetime, oldest: timedelta) -> list[dict[str, Any]]:
        if self._keys is None or not is_fresh(self._keys[0], now, oldest):
            status, found = await self._asker.ask(self._endpoint(await self._discovered(now), "jwks_uri"))
            keys = found.get("keys")
            if status != 200 or not isinstance(keys, list):
                raise SignInUnavailable("the provider's keys: none")
            self._keys = now, [key for key in keys if isinstance(key, dict)]
        return self._keys[1]

    def _method(self, claims: Claims, email: str) -> Method:
        """The strongest that its `acr` and `amr` come to. Raises `OneFactorOnly`, with the `email`, if that is none."""
        amr = claims.get("amr")
        said = [claims.get("acr"), *(amr if isinstance(amr, list) else [])]
        found = {self._s.levels[value] for value in said if isinstance(value, str) and value in self._s.levels}
        for method in (*STRONGER.values(), *STRONGER):
            if method in found:
                return method
        raise OneFactorOnly("no second factor that is known", email)

    async def _with_userinfo(self, metadata: Claims, claims: Claims, access_token: object) -> Claims:
        """The same with what the provider tells only when asked (OpenID Connect Core, 5.3), if something is missing."""
        wanted = {self._s.email_claim, *((self._s.groups_claim, "name") if self._s.groups_claim else ())}
        wanted |= set() if self._s.email_trusted else {"email_verified"}
        if wanted <= claims.keys() or "userinfo_endpoint" not in metadata or not isinstance(access_token, str):
            return claims
        where = self._endpoint(metadata, "userinfo_endpoint")
        status, more = await self._asker.ask(where, authorization=f"Bearer {access_token}")
        if status != 200 or more.get("sub") != claims["sub"]:
            raise SignInRefused("userinfo: of somebody else, or none")
        return {**more, **claims}

    def _email(self, claims: Claims) -> str:
        verified: object = self._s.email_trusted
        if self._s.email_claim == "email":
            verified = claims.get("email_verified", verified)
        return _text(claims.get(self._s.email_claim)) if verified is True else ""

    def _roles(self, claims: Claims) -> frozenset[str] | None:
        if not self._s.groups_claim:
            return None
        said = claims.get(self._s.groups_claim)
        groups = said if isinstance(said, list) else [said]
        roles = {"organiser": self._s.organisers, "auditor": self._s.auditors}
        return frozenset(role for role, group in roles.items() if group and group in groups)


def _fits(key: Claims, algorithm: str, kid: object) -> bool:
    return (
        key.get("kty") == _KINDS[algorithm]
        and key.get("use", "sig") == "sig"
        and key.get("alg", algorithm) == algorithm
        and (kid is None or key.get("kid") == kid)
    )


def _recent(seconds: object, now: datetime, lifetime: timedelta) -> bool:
    """Whether this Unix time is at most `lifetime` ago, by clocks that differ a little."""
    return type(seconds) is int and -_SKEW.total_seconds() <= int(now.timestamp()) - seconds <= lifetime.total_seconds()


def _text(value: object) -> str:
    return value if isinstance(value, str) and len(value) <= _MAX_TEXT else ""


def _word(value: object) -> str:
    """What the provider calls an error, for the log: a short word of its own standard, or nothing."""
    return value if isinstance(value, str) and value.isascii() and value.replace("_", "").isalpha() else "no code"


def _base64url(value: bytes) -> str:
    return base64.urlsafe_b64encode(value).rstrip(b"=").decode()
