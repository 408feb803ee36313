"""The smart card: on the portal before and after, and on the name that asks for it between.

That name has no page and no cookie: it answers nothing but where to go on.
"""

import contextlib
from urllib.parse import quote, unquote

from aiohttp import web

from sluss.domain.assurance import Purpose
from sluss.domain.errors import CardRefused, CardTooLate, NotFound, NotVerified, SlussError, TooManyTries
from sluss.services.smartcard import SmartCards
from sluss.web.context import ADDRESS, SERVICES, SESSION, SETTINGS
from sluss.web.pages import N_, render

VERDICT, CERTIFICATE = "X-Card-Verdict", "X-Card-Certificate"
"""What nginx says of the certificate, and the certificate itself, percent-encoded PEM."""
NOT_THEIRS = N_("This card does not open this link. If it was meant for you, ask whoever invited you.")
NOWHERE = "-"
"""Stands for the code where there is none: the portal says that it is none."""


def _cards(request: web.Request) -> SmartCards:
    if (cards := request.app[SERVICES].cards) is None:
        raise NotFound("no smart cards here")
    return cards


async def view(request: web.Request) -> web.StreamResponse:
    """POST /i/<link>/card: set out to show a card, to see the invitation."""
    return await _set_out(request, Purpose.VIEW)


async def join(request: web.Request) -> web.StreamResponse:
    """POST /i/<link>/join/card: set out to show a card, to enter the meeting."""
    return await _set_out(request, Purpose.JOIN)


async def _set_out(request: web.Request, purpose: Purpose) -> web.StreamResponse:
    """A page to put the card in at, with where to go on: a browser that has asked once for a card keeps the answer."""
    link, cards = request.match_info["link"], _cards(request)
    base = _link_path(link)
    try:
        handle = await cards.go(link, request[SESSION], purpose, request[ADDRESS])
    except TooManyTries as error:
        return render(request, "card_back.html", problem=error, back=base, start="", return_to=base)
    where = f"{request.app[SETTINGS].card_origin}/card/{handle}"
    return render(request, "card.html", where=where, back=base, return_to=base)


async def shown(request: web.Request) -> web.StreamResponse:
    """GET /card/<handle>, on the name that asks for cards: note what nginx says of one, and lead back to the portal."""
    verdict, certificate = request.headers.get(VERDICT, ""), unquote(request.headers.get(CERTIFICATE, ""))
    handle, code = request.match_info["handle"], NOWHERE
    with contextlib.suppress(CardTooLate):  # on record; the portal has the words
        code = await _cards(request).show(handle, verdict, certificate, request[ADDRESS])
    raise web.HTTPSeeOther(f"{request.app[SETTINGS].portal_origin}/card/{code}")


async def back(request: web.Request) -> web.StreamResponse:
    """GET /card/<code>: the browser is back from there. No link stands in it."""
    try:
        done = await _cards(request).back(request[SESSION], request.match_info["code"], request[ADDRESS])
    except CardTooLate as error:
        return render(request, "card_back.html", problem=error, back="", start="", return_to="/sign-in")
    base, joining = _link_path(done.errand.link), done.errand.purpose is Purpose.JOIN
    if done.problem is not None:
        start = f"{base}/join/card" if joining else f"{base}/card"
        problem = _in_words(done.problem)
        return render(request, "card_back.html", problem=problem, back=base, start=start, return_to=base)
    raise web.HTTPSeeOther(f"{base}/room" if joining else base)


def _link_path(link: str) -> str:
    return f"/i/{quote(link, safe='')}"


def _in_words(problem: SlussError) -> SlussError:
    """The same sentence whoever's card it was and whatever link: who has the wrong one learns nothing of it."""
    if isinstance(problem, NotVerified) and not isinstance(problem, CardRefused):
        return NotVerified(str(problem), public=NOT_THEIRS)
    return problem
