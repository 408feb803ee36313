"""The middlewares every request passes, from the outside in, and the headers every answer carries."""

import logging
import re
import secrets
import time
from ipaddress import ip_address
from urllib.parse import quote

import structlog
from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from sluss.domain.accounts import AccountRole
from sluss.domain.errors import Forbidden, NotFound, ProofRequired, SignInRequired, SlussError
from sluss.services import audit
from sluss.web import pages
from sluss.web.context import (
    ADDRESS,
    BEHIND_NGINX,
    ORGANISER,
    REQUEST_ID,
    SERVICES,
    SESSION,
    SETTINGS,
    route_name,
    wants_json,
)
from sluss.web.sessions import (
    CSRF_FIELD,
    CSRF_HEADER,
    csrf_matches,
    give_session,
    read_session,
    session_cookie,
)
from sluss.web.settings import PortalSettings

PUBLIC = frozenset(
    {
        # Anyone:
        "static",
        "jwks",
        "pem",
        "language",
        # Whoever has a one-time enrolment link, or is about to sign in:
        "enrol",
        "sign_in",
        "sign_in_code",
        "sign_in_passkey",
        "sign_in_passkey_verify",
        "organiser_sign_in",
        # Whoever was sent to the provider by this browser, and the provider itself, by a token that it signed:
        "sign_in_back",
        "provider_logout",
        # Whoever was sent to show a card, by this browser:
        "card_back",
        # Whoever has a personal link. The services decide, by link and session, what it shows:
        "link",
        "code",
        "verify",
        "answer",
        "not_me",
        "view_sign_in",
        "join_sign_in",
        "view_card",
        "join_card",
        "join_code",
        "join_verify",
        "passkey",
        "passkey_verify",
        "passkey_new",
        "passkey_add",
        "passkey_remove",
        "join_passkey",
        "join_passkey_verify",
        "totp",
        "join_totp",
        "totp_new",
        "totp_add",
        "totp_remove",
        "bankid",
        "bankid_qr",
        "bankid_collect",
        "bankid_cancel",
        "join_bankid",
        "join_bankid_qr",
        "join_bankid_collect",
        "join_bankid_cancel",
        "bankid_returned",
        "ldap",
        "join_ldap",
        "room",
        "ticket",
        "here",
        "outside",
    }
)
"""Routes that need no signed-in organiser. Every other route is private."""

AUDITORS = frozenset({"audit", "audit_log", "audited_attendance"})
"""Private routes of auditors alone."""
ADMINS = frozenset(
    {
        "accounts",
        "accounts_invite",
        "managed_account",
        "managed_account_link",
        "managed_account_unlock",
        "managed_account_reset",
        "managed_account_remove",
    }
)
"""Of admins alone; what is on none of these lists is of organisers alone."""
ALL_ROLES = frozenset(
    {
        "sign_out",
        "sign_out_everywhere",
        "prove",
        "prove_sign_in",
        "account",
        "account_authenticators",
        "account_authenticators_confirm",
        "account_authenticators_remove",
        "account_passkey",
        "account_passkey_verify",
        "account_passkeys_new",
        "account_passkeys_add",
        "account_passkeys_remove",
    }
)
"""Of whoever is signed in."""
HOMES = {AccountRole.ORGANISER: "/", AccountRole.AUDITOR: "/audit", AccountRole.ADMIN: "/accounts"}
"""Where each role begins."""

PROOF: dict[str, str] = {
    "end": "/meetings/{meeting}",
    "withdraw_all": "/meetings/{meeting}",
    "audited_attendance": "/audit/{meeting}",
    "accounts_invite": "/accounts",
    "managed_account_link": "/accounts/{account}",
    "managed_account_unlock": "/accounts/{account}",
    "managed_account_reset": "/accounts/{account}",
    "managed_account_remove": "/accounts/{account}",
    "account_authenticators": "/account",
    "account_authenticators_confirm": "/account",
    "account_authenticators_remove": "/account",
    "account_passkeys_remove": "/account",
}
"""What takes a factor of the last minutes, and on which page one goes on after giving it.

An organiser's attendance takes one for that meeting: see services/attendance.py.
"""

COOKIELESS = frozenset({"static", "jwks", "pem", "provider_logout"})
MACHINES = frozenset({"provider_logout"})
"""What no browser asks for: proved by itself, so it needs no form's token."""
ROOMS = frozenset({"room", "organiser_room"})
MAX_BODY_BYTES = 64 * 1024
_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
_REQUEST_ID = re.compile(r"[A-Za-z0-9-]{8,64}")

_log = structlog.get_logger()


def _from_proxy(request: web.Request) -> bool:
    if request.app.get(BEHIND_NGINX):
        return True
    try:
        return ip_address(request.remote or "") in request.app[SETTINGS].trusted_proxies
    except ValueError:
        return False


@web.middleware
async def request_id(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Name the request, for the log and for the person who reports an error."""
    given = request.headers.get("X-Request-Id", "")
    known = _from_proxy(request) and _REQUEST_ID.fullmatch(given)
    request[REQUEST_ID] = given if known else secrets.token_hex(8)
    structlog.contextvars.clear_contextvars()
    structlog.contextvars.bind_contextvars(request_id=request[REQUEST_ID])
    audit.REQUEST_ID.set(request[REQUEST_ID])
    began = time.monotonic()
    status = 500
    try:
        response = await handler(request)
        status = response.status
    except web.HTTPException as answer:
        status = answer.status
        raise
    else:
        return response
    finally:
        took = round((time.monotonic() - began) * 1000)
        _log.debug("request", route=route_name(request), method=request.method, status=status, ms=took)


@web.middleware
async def error_page(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Turn every failure into one page (or JSON) with a public sentence and the request's id."""
    try:
        return await handler(request)
    except web.HTTPException as error:
        if error.status < 400:
            raise
        return pages.error(request, SlussError(public=pages.HTTP_TEXTS.get(error.status)), error.status)
    except SignInRequired as error:
        if request.method == "GET" and not wants_json(request):
            raise web.HTTPSeeOther("/sign-in") from None
        return pages.error(request, error, error.status)
    except ProofRequired as error:
        if wants_json(request) or (page := PROOF.get(route_name(request))) is None:
            return pages.error(request, error, error.status)
        onward = page.format_map({name: quote(value, safe="") for name, value in request.match_info.items()})
        raise web.HTTPSeeOther(f"/prove?next={onward}") from None
    except SlussError as error:
        _log.log(
            logging.ERROR if error.status >= 500 else logging.INFO,
            "page_refused",
            route=route_name(request),
            error=type(error).__name__,
            status=error.status,
            detail=str(error),
        )
        return pages.error(request, error, error.status)
    except Exception:
        _log.exception("unexpected_error", route=route_name(request))
        return pages.error(request, SlussError(), 500)


@web.middleware
async def trusted_proxy(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Find the visitor's address: the nearest one that no proxy of ours vouches for as its own."""
    address = request.remote or ""
    if _from_proxy(request):
        proxies = request.app[SETTINGS].trusted_proxies
        for hop in reversed(",".join(request.headers.getall("X-Forwarded-For", [])).split(",")):
            try:
                seen = ip_address(hop.strip())
            except ValueError:
                break
            address = str(seen)
            if seen not in proxies:
                break
    request[ADDRESS] = address
    return await handler(request)


@web.middleware
async def session(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Know the browser again, or give it a session."""
    if (value := read_session(request)) is not None:
        request[SESSION] = value
    elif route_name(request) not in COOKIELESS:
        give_session(request)
    return await handler(request)


def role_of(name: str) -> AccountRole:
    """Whose a private route is that is not everybody's."""
    if name in AUDITORS:
        return AccountRole.AUDITOR
    return AccountRole.ADMIN if name in ADMINS else AccountRole.ORGANISER


@web.middleware
async def deny_by_default(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Let only who is signed in past, each role to its own, unless the route is on the public list."""
    exists, name = request.match_info.http_exception is None, route_name(request)
    if exists and name not in PUBLIC:
        organiser = request[ORGANISER] = await request.app[SERVICES].organisers.current(request[SESSION])
        if name not in ALL_ROLES and organiser.role is not role_of(name):
            if name == "meetings":
                raise web.HTTPSeeOther(HOMES[organiser.role])
            raise NotFound("a page of another role")
    return await handler(request)


@web.middleware
async def csrf(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Refuse to change anything for another site's page."""
    unchecked = request.method in _SAFE_METHODS or route_name(request) in MACHINES
    if unchecked or request.match_info.http_exception is not None:
        return await handler(request)
    # Under `Referrer-Policy: no-referrer` a browser's own form posts carry `Origin: null`; the token decides then.
    if request.headers.get("Sec-Fetch-Site", "same-origin") not in ("same-origin", "none"):
        raise Forbidden("cross-site by Sec-Fetch-Site")
    if request.headers.get("Origin", "null") not in ("null", request.app[SETTINGS].portal_origin):
        raise Forbidden("cross-site by Origin")
    token = request.headers.get(CSRF_HEADER)
    if token is None:
        if request.content_type != pages.FORM:
            raise Forbidden("neither a form nor a token")
        token = (await pages.read_form(request)).get(CSRF_FIELD, "")
    if not csrf_matches(request, token):
        raise Forbidden("form token does not belong to this session")
    return await handler(request)


@web.middleware
async def proof(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Have what is dangerous done only by who has given a factor within the last minutes."""
    if request.match_info.http_exception is None and route_name(request) in PROOF:
        await request.app[SERVICES].organisers.require_proof(request[SESSION])
    return await handler(request)


MIDDLEWARES: tuple[Middleware, ...] = (request_id, error_page, trusted_proxy, session, deny_by_default, csrf, proof)


def content_security_policy(settings: PortalSettings, *, room: bool) -> str:
    """The policy of a page. Only the room page reaches the meeting's origin, for what it uses there: never a script."""
    connect, frame = "'self'", "'none'"
    if room and settings.jitsi:
        frame = settings.meet_origin
    elif room:
        connect += f" {settings.meet_origin.replace('https:', 'wss:', 1)}"
    return (
        f"default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src {connect}; "
        f"frame-src {frame}; form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
    )


async def security_headers(request: web.Request, response: web.StreamResponse) -> None:
    """Signal handler (`on_response_prepare`): what holds for every answer, errors included."""
    settings = request.app[SETTINGS]
    name = route_name(request)
    room = name in ROOMS
    devices = f'(self "{settings.meet_origin}")' if room and settings.jitsi else "()"
    response.headers.update(
        {
            "Content-Security-Policy": content_security_policy(settings, room=room),
            "Referrer-Policy": "no-referrer",
            "X-Content-Type-Options": "nosniff",
            "X-Frame-Options": "DENY",
            "Cross-Origin-Opener-Policy": "same-origin",
            "Cross-Origin-Resource-Policy": "same-origin",
            "Permissions-Policy": (
                f"camera={devices}, microphone={devices}, display-capture={devices}, "
                "geolocation=(), payment=(), usb=(), browsing-topics=()"
            ),
            "Cache-Control": "no-cache" if name == "static" else "no-store",
            "X-Robots-Tag": "noindex, nofollow",
            "X-Request-Id": request.get(REQUEST_ID, "-"),
        }
    )
    response.headers.pop("Server", None)
    if (cookie := session_cookie(request)) is not None:
        # Cookies set on the response have been written into its headers already when this signal is sent.
        response.headers.add("Set-Cookie", cookie)
