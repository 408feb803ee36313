"""The directory's pages: a participant's password, and looking up colleagues to invite.

As on the other pages of a personal link, nothing here knows whether the link is live, withdrawn or wrong.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import quote

from aiohttp import web

from sluss.domain.assurance import Method, Purpose
from sluss.domain.directory import Colleague
from sluss.domain.errors import DirectoryUnavailable, InvalidInput, NotFound, NotVerified, SlussError, TooManyTries
from sluss.web.context import ADDRESS, ORGANISER, SERVICES, SESSION, route_name
from sluss.web.pages import N_, read_form, render

WRONG = N_("That did not match. After two wrong passwords, it takes half an hour until the next one is looked at.")


async def form(request: web.Request) -> web.StreamResponse:
    """GET /i/<link>/ldap and /i/<link>/join/ldap: where the password goes. Asks the directory nothing."""
    return _page(request)


async def verify(request: web.Request) -> web.StreamResponse:
    """POST there: have the directory check it, then show the invitation or enter."""
    password = (await read_form(request, strip=False)).get("password", "")  # white space belongs to a password
    link, purpose = request.match_info["link"], _purpose(request)
    try:
        await request.app[SERVICES].directory.verify(link, request[SESSION], purpose, password, request[ADDRESS])
    except NotVerified as error:
        return _page(request, NotVerified(str(error), public=WRONG))
    except (TooManyTries, DirectoryUnavailable) as error:
        return _page(request, error)
    raise web.HTTPSeeOther(f"{_base(link)}{'/room' if purpose is Purpose.JOIN else ''}")


def _page(request: web.Request, problem: SlussError | None = None) -> web.Response:
    if not request.app[SERVICES].directory.there:
        raise NotFound("no directory is set up")
    base, join = _base(request.match_info["link"]), _purpose(request) is Purpose.JOIN
    at = f"{base}{'/join' if join else ''}/ldap"
    return render(
        request, "directory.html", problem=problem, join=join, method=Method.LDAP, base=base, at=at, return_to=at
    )


def _purpose(request: web.Request) -> Purpose:
    return Purpose.JOIN if route_name(request).startswith("join_") else Purpose.VIEW


def _base(link: str) -> str:
    return f"/i/{quote(link, safe='')}"


@dataclass(frozen=True, slots=True)
class LookedUp:
    """What the form of a meeting shows of colleagues."""

    query: str = ""
    found: tuple[tuple[Colleague, str], ...] | None = None
    """Each with what its button says to us; None: nobody was looked for."""
    chosen: tuple[str, str, str] | None = None
    """Name, e-mail and mobile of the one whose button was pressed."""
    problem: SlussError | None = None


NOBODY = LookedUp()


async def look_up(request: web.Request, typed: Mapping[str, str]) -> LookedUp | None:
    """What one of the buttons for colleagues does; None if it was another button."""
    query = typed.get("colleague", "")
    if "add" in typed:
        return LookedUp(chosen=_chosen(typed["add"]))
    if "look_up" not in typed:
        return None
    try:
        people = await request.app[SERVICES].directory.look_up(request[ORGANISER], query)
    except (InvalidInput, TooManyTries, DirectoryUnavailable) as problem:
        return LookedUp(query, problem=problem)
    return LookedUp(query, tuple((one, json.dumps([one.name, one.email, one.mobile])) for one in people))


def _chosen(value: str) -> tuple[str, str, str]:
    """Nothing more than what the organiser could have typed."""
    try:
        name, email, mobile = json.loads(value)
    except (ValueError, TypeError, RecursionError):
        raise web.HTTPBadRequest from None
    return str(name), str(email), str(mobile)
