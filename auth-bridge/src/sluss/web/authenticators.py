"""A participant's authenticator on the pages: proving who one is by its code, and adding one."""

from aiohttp import web

from sluss.domain.assurance import Method, Purpose
from sluss.domain.errors import NotVerified, SlussError, TooManyTries
from sluss.web.context import ADDRESS, SERVICES, SESSION
from sluss.web.pages import N_, in_groups, plain_code, qr_code, read_form, render
from sluss.web.participant import link_page, link_path

_WRONG = N_("That code did not match. Wait for the next one and try again.")
_NOT_ADDED = N_("No authenticator was added. Prove who you are once more, and try again.")


async def code_form(request: web.Request) -> web.StreamResponse:
    """GET /i/<link>/totp: where the code goes."""
    return _code_page(request, Purpose.VIEW)


async def join_code_form(request: web.Request) -> web.StreamResponse:
    """GET /i/<link>/join/totp: where the code for entering goes."""
    return _code_page(request, Purpose.JOIN)


async def verify(request: web.Request) -> web.StreamResponse:
    """POST /i/<link>/totp: check the code, then show the invitation."""
    return await _verify(request, Purpose.VIEW, link_path(request))


async def join_verify(request: web.Request) -> web.StreamResponse:
    """POST /i/<link>/join/totp: check the code, then enter."""
    return await _verify(request, Purpose.JOIN, link_path(request, "/room"))


async def adding_form(request: web.Request) -> web.StreamResponse:
    """GET /i/<link>/totp/new: what is to be put into the authenticator. Keeps nothing."""
    return await _adding_page(request)


async def add(request: web.Request) -> web.StreamResponse:
    """POST /i/<link>/totp/add: keep it, if its first code is right."""
    code = plain_code((await read_form(request)).get("code", ""))
    try:
        await request.app[SERVICES].authenticators.add(request.match_info["link"], request[SESSION], code)
    except NotVerified:
        return await _adding_page(request, NotVerified(public=_WRONG))
    raise web.HTTPSeeOther(link_path(request))


async def forget(request: web.Request) -> web.StreamResponse:
    """POST /i/<link>/totp/remove: forget this person's."""
    await request.app[SERVICES].authenticators.forget(request.match_info["link"], request[SESSION])
    raise web.HTTPSeeOther(link_path(request))


async def _verify(request: web.Request, purpose: Purpose, onward: str) -> web.StreamResponse:
    code = plain_code((await read_form(request)).get("code", ""))
    link, session = request.match_info["link"], request[SESSION]
    try:
        await request.app[SERVICES].authenticators.verify(link, session, purpose, code, request[ADDRESS])
    except NotVerified:
        return _code_page(request, purpose, NotVerified(public=_WRONG))
    except TooManyTries as error:
        return _code_page(request, purpose, error)
    raise web.HTTPSeeOther(onward)


def _code_page(request: web.Request, purpose: Purpose, problem: SlussError | None = None) -> web.Response:
    at = link_path(request, "/join/totp" if purpose is Purpose.JOIN else "/totp")
    return render(
        request,
        "totp.html",
        problem=problem,
        join=purpose is Purpose.JOIN,
        method=Method.TOTP,
        verify_at=at,
        base=link_path(request),
        return_to=at,
    )


async def _adding_page(request: web.Request, problem: SlussError | None = None) -> web.StreamResponse:
    try:
        offered = await request.app[SERVICES].authenticators.offered(request.match_info["link"], request[SESSION])
    except NotVerified:
        return await link_page(request, NotVerified(public=_NOT_ADDED))
    at = link_path(request)
    qr, secret = qr_code(offered.otpauth_uri), in_groups(offered.secret)
    return render(request, "totp_new.html", problem=problem, qr=qr, secret=secret, base=at, return_to=f"{at}/totp/new")
