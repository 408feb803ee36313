"""Passkeys on the pages: what a script asks for and hands back (static/passkey.js)."""

from aiohttp import web

from sluss.domain.assurance import Purpose
from sluss.domain.errors import InvalidInput, ModelRefused, NotVerified
from sluss.web import account, organiser
from sluss.web.context import ADDRESS, SERVICES, SESSION
from sluss.web.pages import N_, REFUSED_PASSKEY, read_form, render
from sluss.web.participant import link_page, link_path
from sluss.web.sessions import give_session, remember_browser

_NOT_ADDED = N_("No passkey was added. Prove who you are once more, and try again.")


async def _response(request: web.Request) -> str:
    return (await read_form(request)).get("response", "")


async def begin(request: web.Request) -> web.StreamResponse:
    """POST /i/<link>/passkey: what to sign for seeing the invitation."""
    return await _begin(request, Purpose.VIEW)


async def begin_join(request: web.Request) -> web.StreamResponse:
    """POST /i/<link>/join/passkey: what to sign for entering the meeting."""
    return await _begin(request, Purpose.JOIN)


async def _begin(request: web.Request, purpose: Purpose) -> web.StreamResponse:
    passkeys = request.app[SERVICES].passkeys
    return web.json_response(
        {"get": await passkeys.begin(request.match_info["link"], request[SESSION], purpose, request[ADDRESS])}
    )


async def verify(request: web.Request) -> web.StreamResponse:
    """POST /i/<link>/passkey/verify: check it, then show the invitation."""
    return await _verify(request, Purpose.VIEW, link_path(request))


async def join_verify(request: web.Request) -> web.StreamResponse:
    """POST /i/<link>/join/passkey/verify: check it, then enter."""
    return await _verify(request, Purpose.JOIN, link_path(request, "/room"))


async def _verify(request: web.Request, purpose: Purpose, onward: str) -> web.StreamResponse:
    response, passkeys = await _response(request), request.app[SERVICES].passkeys
    try:
        await passkeys.verify(request.match_info["link"], request[SESSION], purpose, response, request[ADDRESS])
    except NotVerified:
        return await link_page(request, NotVerified(public=REFUSED_PASSKEY))
    raise web.HTTPSeeOther(onward)


async def begin_adding(request: web.Request) -> web.StreamResponse:
    """POST /i/<link>/passkey/new: what the participant's browser is to make."""
    passkeys = request.app[SERVICES].passkeys
    try:
        return web.json_response({"create": await passkeys.begin_adding(request.match_info["link"], request[SESSION])})
    except NotVerified as error:
        error.public = _NOT_ADDED
        raise


async def add(request: web.Request) -> web.StreamResponse:
    """POST /i/<link>/passkey/add: keep it."""
    response = await _response(request)
    try:
        await request.app[SERVICES].passkeys.add(request.match_info["link"], request[SESSION], response)
    except ModelRefused as error:
        return await link_page(request, error)
    except NotVerified:
        return await link_page(request, NotVerified(public=_NOT_ADDED))
    raise web.HTTPSeeOther(link_path(request))


async def forget(request: web.Request) -> web.StreamResponse:
    """POST /i/<link>/passkey/remove: forget this person's."""
    await request.app[SERVICES].passkeys.forget(request.match_info["link"], request[SESSION])
    raise web.HTTPSeeOther(link_path(request))


async def begin_sign_in(request: web.Request) -> web.StreamResponse:
    """POST /sign-in/passkey: what to sign for signing in."""
    return web.json_response(
        {"get": await request.app[SERVICES].passkeys.begin_sign_in(request[SESSION], request[ADDRESS])}
    )


async def sign_in(request: web.Request) -> web.StreamResponse:
    """POST /sign-in/passkey/verify: both factors at once; the session is a new one from here on."""
    response = await _response(request)
    try:
        signed_in = await request.app[SERVICES].passkeys.sign_in(request[SESSION], response, request[ADDRESS])
    except NotVerified:
        problem = NotVerified(public=REFUSED_PASSKEY)
        return render(request, "sign_in.html", problem=problem, email="", return_to="/sign-in")
    give_session(request, signed_in.session)
    onward = web.HTTPSeeOther("/")
    remember_browser(onward, signed_in.browser)
    raise onward


async def begin_own(request: web.Request) -> web.StreamResponse:
    """POST /account/passkey, /meetings/<id>/passkey: what the organiser is to sign, for their account or at a door."""
    meeting, passkeys = request.match_info.get("meeting", ""), request.app[SERVICES].passkeys
    return web.json_response({"get": await passkeys.begin_own(request[SESSION], request[ADDRESS], meeting)})


async def verify_organiser(request: web.Request) -> web.StreamResponse:
    """POST /meetings/<id>/passkey/verify, /meetings/<id>/attendance/passkey: check it, then go on to what it opens."""
    response, meeting = await _response(request), request.match_info["meeting"]
    attendance = request.path.endswith("/attendance/passkey")
    page = organiser.attendance_verify_page if attendance else organiser.verify_page
    try:
        await request.app[SERVICES].passkeys.verify_organiser(request[SESSION], meeting, response, request[ADDRESS])
    except NotVerified:
        return await page(request, NotVerified(public=REFUSED_PASSKEY))
    raise web.HTTPSeeOther(f"/meetings/{meeting}/{'attendance' if attendance else 'room'}")


async def begin_adding_own(request: web.Request) -> web.StreamResponse:
    """POST /account/passkeys/new: what the organiser's browser is to make."""
    try:
        return web.json_response({"create": await request.app[SERVICES].passkeys.begin_adding_own(request[SESSION])})
    except NotVerified as error:
        error.public = _NOT_ADDED
        raise


async def add_own(request: web.Request) -> web.StreamResponse:
    """POST /account/passkeys/add: keep it."""
    form = await read_form(request)
    try:
        await request.app[SERVICES].passkeys.add_own(request[SESSION], form.get("response", ""), form.get("name", ""))
    except NotVerified:
        return await account.page(request, NotVerified(public=_NOT_ADDED))
    except InvalidInput as error:
        return await account.page(request, error)
    raise web.HTTPSeeOther("/account")


async def remove_own(request: web.Request) -> web.StreamResponse:
    """POST /account/passkeys/<passkey>/remove: forget one."""
    await request.app[SERVICES].passkeys.remove_own(request[SESSION], request.match_info["passkey"])
    raise web.HTTPSeeOther("/account")
