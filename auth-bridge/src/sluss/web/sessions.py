"""The browser's session cookie and the form token bound to it.

The cookie is 256 random bits, given at the first page and stored nowhere until the services note something under
its hash. It is replaced when an organiser has signed in. A second cookie then says, for a year, that this browser has
signed in before; it opens nothing.
"""

import hashlib
import hmac
import re
import secrets

from aiohttp import web

from sluss.web.context import NEW_SESSION, SESSION, SETTINGS

COOKIE = "__Host-sluss"
KNOWN = "__Host-known"
CSRF_FIELD = "csrf"
CSRF_HEADER = "X-CSRF-Token"
_SESSION_BYTES = 32
_YEAR_SECONDS = 365 * 24 * 3600
_LONGEST = 200
_SHAPE = re.compile(r"[A-Za-z0-9_-]{43}")


def read_session(request: web.Request) -> str | None:
    """The session the browser sent, if it has the shape of one of ours."""
    value = request.cookies.get(COOKIE, "")
    return value if _SHAPE.fullmatch(value) else None


def give_session(request: web.Request, value: str | None = None) -> None:
    """Hand the browser a session with the answer to this request: `value`, or a new random one."""
    request[SESSION] = value or secrets.token_urlsafe(_SESSION_BYTES)
    request[NEW_SESSION] = True


def session_cookie(request: web.Request) -> str | None:
    """The Set-Cookie line to send with the answer, if there is one to send."""
    if not request.get(NEW_SESSION):
        return None
    return f"{COOKIE}={request[SESSION]}; Path=/; Secure; HttpOnly; SameSite=Lax"


def remember_browser(response: web.StreamResponse, value: str) -> None:
    """Know this browser as one that has signed in, so that others' guesses do not lock it."""
    response.set_cookie(KNOWN, value, max_age=_YEAR_SECONDS, path="/", secure=True, httponly=True, samesite="Lax")


def known_browser(request: web.Request) -> str:
    """What `remember_browser` left, or nothing."""
    return request.cookies.get(KNOWN, "")[:_LONGEST]


def csrf_token(request: web.Request) -> str:
    """The token that every form of this session carries: HMAC-SHA-256 of the cookie, hex."""
    key = request.app[SETTINGS].csrf_key
    return hmac.new(key, request[SESSION].encode(), hashlib.sha256).hexdigest()


def csrf_matches(request: web.Request, token: str) -> bool:
    """Whether `token` belongs to this session; compared in constant time."""
    return hmac.compare_digest(csrf_token(request).encode(), token.encode())
