"""The organisation's own sign-in: to the provider and back. The same pages for participants and organisers."""

from collections.abc import Awaitable
from urllib.parse import quote

from aiohttp import web

from sluss.domain.assurance import Purpose
from sluss.domain.errors import NotVerified, SignInRefused, SignInUnavailable, SlussError, TooManyTries
from sluss.services.sign_in import ATTENDANCE, ORGANISER, PROVE, ROOM, Errand
from sluss.web.context import ADDRESS, SERVICES, SESSION
from sluss.web.i18n import locale_of
from sluss.web.language import own_path
from sluss.web.pages import N_, read_form, render
from sluss.web.sessions import give_session, remember_browser

NOT_THEIRS = N_(
    "This sign-in does not open it. "
    "Sign in as the person whom it is meant for, with the strongest second factor you have."
)


async def view(request: web.Request) -> web.StreamResponse:
    """POST /i/<link>/sign-in: prove it at the provider, to see the invitation."""
    return await _participant(request, Purpose.VIEW)


async def join(request: web.Request) -> web.StreamResponse:
    """POST /i/<link>/join/sign-in: prove it at the provider, to enter the meeting."""
    return await _participant(request, Purpose.JOIN)


async def _participant(request: web.Request, purpose: Purpose) -> web.StreamResponse:
    link, again = request.match_info["link"], await _again(request)
    going = request.app[SERVICES].sign_ins.go(
        link, request[SESSION], purpose, locale_of(request), request[ADDRESS], again=again
    )
    return await _onward(request, going, _link_path(link))


async def organiser(request: web.Request) -> web.StreamResponse:
    """POST /sign-in/provider: sign in as an organiser or auditor."""
    going = request.app[SERVICES].sign_ins.go_as_organiser(
        request[SESSION], locale_of(request), request[ADDRESS], again=await _again(request)
    )
    return await _onward(request, going, "/sign-in")


async def meeting(request: web.Request) -> web.StreamResponse:
    """POST /meetings/<id>/sign-in: the organiser proves it once more, for the `room` or the `attendance`."""
    meeting_id, what = request.match_info["meeting"], (await read_form(request)).get("for", "")
    going = request.app[SERVICES].sign_ins.go_to_meeting(
        request[SESSION], meeting_id, what, locale_of(request), request[ADDRESS]
    )
    return await _onward(request, going, f"/meetings/{meeting_id}")


async def prove(request: web.Request) -> web.StreamResponse:
    """POST /prove/sign-in: whoever is signed in proves it once more, for the page that is named."""
    onward = own_path((await read_form(request)).get("for", ""), "/account")
    going = request.app[SERVICES].sign_ins.go_to_prove(request[SESSION], onward, locale_of(request), request[ADDRESS])
    return await _onward(request, going, onward)


async def _again(request: web.Request) -> bool:
    """Whether the last sign-in was refused: the provider would give the same one again without asking anybody."""
    return "again" in await read_form(request)


async def _onward(request: web.Request, going: Awaitable[str], back: str) -> web.StreamResponse:
    """A page that leads on by itself. Not a redirect: browsers hold that, and where it leads on, to `form-action`."""
    try:
        where = await going
    except (SignInUnavailable, TooManyTries) as error:
        return _refused(request, error, back)
    return render(request, "sign_in_onward.html", where=where, back=back, return_to=back)


async def back(request: web.Request) -> web.StreamResponse:
    """GET /sign-in/back?state=…: what the provider answered, used up. No link stands in it."""
    # Of a parameter that is there twice (RFC 6749, 3.1) nothing is taken.
    answer = {name: value for name, value in request.query.items() if len(request.query.getall(name)) == 1}
    try:
        done = await request.app[SERVICES].sign_ins.back(request[SESSION], answer, request[ADDRESS])
    except SignInRefused as error:
        return _refused(request, error, "")
    before, start, after = _places(done.errand)
    if done.problem is not None:
        start = start if isinstance(done.problem, NotVerified) else ""
        what = done.errand.where if done.errand.what == PROVE else done.errand.what
        return _refused(request, _in_words(done.problem), before, start, what)
    response = web.HTTPSeeOther(after)
    if done.signed_in is not None:
        give_session(request, done.signed_in.session)
        remember_browser(response, done.signed_in.browser)
    raise response


async def logout(request: web.Request) -> web.StreamResponse:
    """POST /sign-in/logout: the provider's logout token (OpenID Connect Back-Channel Logout 1.0, 2.5 to 2.8)."""
    token = (await read_form(request)).get("logout_token", "")
    try:
        await request.app[SERVICES].sign_ins.logout(token, request[ADDRESS])
    except SignInRefused:
        return web.json_response({"error": "invalid_request"}, status=400)
    return web.Response()


def _refused(
    request: web.Request, problem: SlussError, back: str, start: str = "", what: str = ""
) -> web.StreamResponse:
    """Why it did not succeed, with the way to sign in once more, if that helps, and the way back."""
    return render(
        request, "sign_in_back.html", problem=problem, back=back, start=start, what=what, return_to=back or "/sign-in"
    )


def _places(errand: Errand) -> tuple[str, str, str]:
    """Where the person came from, where they went to the provider, and where they go when it went well."""
    link, meeting_path = _link_path(errand.where), f"/meetings/{errand.where}"
    return {
        ORGANISER: ("/sign-in", "/sign-in/provider", "/"),
        ROOM: (f"{meeting_path}/verify", f"{meeting_path}/sign-in", f"{meeting_path}/room"),
        PROVE: (errand.where, "/prove/sign-in", errand.where),
        ATTENDANCE: (meeting_path, f"{meeting_path}/sign-in", f"{meeting_path}/attendance"),
        Purpose.VIEW.value: (link, f"{link}/sign-in", link),
        Purpose.JOIN.value: (link, f"{link}/join/sign-in", f"{link}/room"),
    }[errand.what]


def _link_path(link: str) -> str:
    return f"/i/{quote(link, safe='')}"


def _in_words(problem: SlussError) -> SlussError:
    """The same sentence whoever it was and whatever link: who has the wrong one learns nothing of it."""
    if isinstance(problem, NotVerified) and not isinstance(problem, SignInRefused):
        return NotVerified(str(problem), public=NOT_THEIRS)
    return problem
