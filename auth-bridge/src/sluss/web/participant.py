"""The participant's pages: behind a personal link, from the neutral page to the invitation.

Nothing here knows whether a link is live, withdrawn or wrong: the services treat them alike, and so do the pages.
"""

import contextlib
from urllib.parse import quote

from aiohttp import web

from sluss.domain.assurance import Method, Purpose
from sluss.domain.errors import InvalidInput, NotVerified, SlussError, TooManyTries
from sluss.domain.limits import CODE_PAUSE
from sluss.domain.meetings import Answer
from sluss.web import i18n
from sluss.web.context import ADDRESS, SERVICES, SESSION
from sluss.web.i18n import locale_of
from sluss.web.pages import N_, plain_code, read_form, render


def _link(request: web.Request) -> str:
    return request.match_info["link"]


def link_path(request: web.Request, rest: str = "") -> str:
    """The path of this personal link's page, or of the page `rest` below it."""
    return f"/i/{quote(_link(request), safe='')}{rest}"


async def show(request: web.Request) -> web.StreamResponse:
    """GET /i/<link>: the invitation to whoever has verified in this browser, the neutral page to all others."""
    return await link_page(request)


async def link_page(request: web.Request, problem: SlussError | None = None) -> web.StreamResponse:
    """The same, with what was wrong on top."""
    base = link_path(request)
    view = await request.app[SERVICES].participation.look(_link(request), request[SESSION])
    if view is None:
        methods = await request.app[SERVICES].participation.methods(_link(request))
        return render(request, "link.html", problem=problem, base=base, return_to=base, methods=methods)
    return render(request, "invitation.html", problem=problem, base=base, return_to=base, view=view)


async def send_code(request: web.Request) -> web.StreamResponse:
    """POST /i/<link>/code: send a code for seeing the invitation."""
    return await _send_code(request, Purpose.VIEW)


async def send_join_code(request: web.Request) -> web.StreamResponse:
    """POST /i/<link>/join/code: send a code for entering the meeting."""
    return await _send_code(request, Purpose.JOIN)


async def _send_code(request: web.Request, purpose: Purpose) -> web.StreamResponse:
    try:
        await request.app[SERVICES].participation.send_code(
            _link(request), request[SESSION], purpose, locale_of(request), request[ADDRESS]
        )
    except TooManyTries as error:
        if str(error) == CODE_PAUSE.what:
            error.public = N_("A code was asked for just now.")
        return await _code_page(request, purpose, error)
    raise web.HTTPSeeOther(_code_path(request, purpose))


async def code_form(request: web.Request) -> web.StreamResponse:
    """GET /i/<link>/code: where the code goes. Sends nothing."""
    return await _code_page(request, Purpose.VIEW)


async def join_code_form(request: web.Request) -> web.StreamResponse:
    """GET /i/<link>/join/code: where the second code goes. Sends nothing."""
    return await _code_page(request, Purpose.JOIN)


async def verify(request: web.Request) -> web.StreamResponse:
    """POST /i/<link>/verify: check the code, then show the invitation."""
    return await _verify(request, Purpose.VIEW, link_path(request))


async def join_verify(request: web.Request) -> web.StreamResponse:
    """POST /i/<link>/join/verify: check the second code, then enter."""
    return await _verify(request, Purpose.JOIN, link_path(request, "/room"))


async def _verify(request: web.Request, purpose: Purpose, onward: str) -> web.StreamResponse:
    code = plain_code((await read_form(request)).get("code", ""))
    try:
        await request.app[SERVICES].participation.verify(
            _link(request), request[SESSION], purpose, code, request[ADDRESS]
        )
    except (NotVerified, TooManyTries) as error:
        return await _code_page(request, purpose, error)
    raise web.HTTPSeeOther(onward)


def _code_path(request: web.Request, purpose: Purpose) -> str:
    return link_path(request, "/join/code" if purpose is Purpose.JOIN else "/code")


async def _code_page(request: web.Request, purpose: Purpose, problem: SlussError | None = None) -> web.Response:
    pause = await request.app[SERVICES].participation.pause(_link(request), request[SESSION], purpose)
    base = link_path(request, "/join" if purpose is Purpose.JOIN else "")
    return render(
        request,
        "code.html",
        problem=problem,
        join=purpose is Purpose.JOIN,
        method=Method.SMS,
        pause=i18n.duration(pause, locale_of(request)) if pause else "",
        send_to=f"{base}/code",
        verify_at=f"{base}/verify",
        base=link_path(request),
        return_to=_code_path(request, purpose),
    )


async def answer(request: web.Request) -> web.StreamResponse:
    """POST /i/<link>/answer: accept or decline."""
    said = (await read_form(request)).get("answer", "")
    if said not in (Answer.ACCEPTED, Answer.DECLINED):
        raise InvalidInput("answer", "Please check what you wrote.")
    # If the verification is too old, the neutral page asks for a new one.
    with contextlib.suppress(NotVerified):
        await request.app[SERVICES].participation.answer(_link(request), request[SESSION], Answer(said))
    raise web.HTTPSeeOther(link_path(request))


async def not_me(request: web.Request) -> web.StreamResponse:
    """POST /i/<link>/not-me: lock the link and tell the organiser."""
    await request.app[SERVICES].participation.not_me(_link(request), request[ADDRESS])
    raise web.HTTPSeeOther(link_path(request, "/not-me"))


async def not_me_done(request: web.Request) -> web.StreamResponse:
    """GET /i/<link>/not-me: what that did."""
    return render(request, "not_me.html")
