"""The BankID page of a personal link: the moving code, the app on the same device, and how it goes.

The same for every link: the services treat them alike. No secret of an order reaches the browser but what opens it now.
"""

import io
from urllib.parse import quote, urlencode

import segno
from aiohttp import web

from sluss.domain.assurance import Method, Purpose
from sluss.domain.errors import BankIdUnavailable, NotFound, SlussError, TooManyTries
from sluss.factors.bankid import UNAVAILABLE, State
from sluss.services.bankid import GONE, REFUSED, BankIdOrders, Progress
from sluss.web.context import ADDRESS, SERVICES, SESSION, route_name
from sluss.web.i18n import locale_of
from sluss.web.pages import N_, render, texts

# BankID's recommended user messages, by its hints; RFA is its numbering. Where there are two, the second is for whoever
# has opened the app on the same device.
_START, _TRYING = N_("Start your BankID app."), N_("Trying to start your BankID app.")
_SEARCHING = (
    N_(
        "Searching for BankID, it may take a little while. If a few seconds have passed and none was found, you "
        "probably have no BankID for this on the device you use. You can get one from your bank."
    ),
    N_(
        "Searching for BankID on this device, it may take a little while. If a few seconds have passed and none was "
        "found, you probably have none here for this. You can get one from your bank, or use another device."
    ),
)
_NOT_STARTED = (
    N_(
        "The QR code was not read. Start the BankID app and scan it. Check that the app is up to date. If you do not "
        "have the app, install it and get a BankID from your bank."
    ),
    N_("The BankID app was not found on this device. Install it and get a BankID from your bank, or use another one."),
)
_INTERNAL = N_("Internal error at BankID. Please try again.")
HINT_TEXTS: dict[str, str | tuple[str, str]] = {
    "outstandingTransaction": (_START, _TRYING),  # RFA1, RFA13
    "noClient": _START,  # RFA1
    "started": _SEARCHING,  # RFA14, RFA15
    "userMrtd": N_("Scan your passport or identity card with the BankID app."),  # RFA23
    "userCallConfirm": N_("Say in the BankID app whether you are in a call."),
    "userSign": N_("Enter your security code in the BankID app and choose Identify."),  # RFA9
    "expiredTransaction": N_(
        "The BankID app is not answering. Check that it is started and that you have an internet connection. If you "
        "have no valid BankID, you can get one from your bank. Then try again."
    ),  # RFA8
    "certificateErr": N_(
        "The BankID you are using is blocked or too old. Use another BankID, or get a new one from your bank."
    ),  # RFA16
    "userCancel": N_("Action cancelled."),  # RFA6
    "cancelled": N_("Action cancelled. Please try again."),  # RFA3
    "startFailed": _NOT_STARTED,  # RFA17
    "userDeclinedCall": N_("Action cancelled."),
    "alreadyInProgress": N_("An identification for this person has already been started. Please try again."),  # RFA4
    "requestTimeout": _INTERNAL,  # RFA5
    "internalError": _INTERNAL,
    "Maintenance": N_("BankID is being maintained. Try again in a while, or choose another way."),
    UNAVAILABLE: BankIdUnavailable.public,
    GONE: N_("There is no identification going on here. Please start again."),
    REFUSED: N_("This BankID was not accepted for this link. If it was meant for you, ask whoever invited you."),
}
_IN_PROGRESS, _UNKNOWN = N_("Identification in progress."), N_("Unknown error. Please try again.")  # RFA21, RFA22

_APP, _PROGRAM = "https://app.bankid.com/", "bankid:///"
"""What opens the app on a phone or tablet, and the program on a computer."""
_MASK = 3
"""One of a QR code's eight patterns. Any can be read; looking for the best takes six times as long, every second."""


def _orders(request: web.Request) -> BankIdOrders:
    orders = request.app[SERVICES].bankid
    if orders is None:
        raise NotFound("BankID is not set up")
    return orders


def _which(request: web.Request) -> tuple[str, str, Purpose]:
    """Link, session and purpose: whose order it is."""
    purpose = Purpose.JOIN if route_name(request).startswith("join_") else Purpose.VIEW
    return request.match_info["link"], request[SESSION], purpose


def _path(link: str, purpose: Purpose) -> str:
    return f"/i/{quote(link, safe='')}{'/join' if purpose is Purpose.JOIN else ''}/bankid"


def _onward(link: str, purpose: Purpose) -> str:
    """Where whoever is verified goes."""
    return f"/i/{quote(link, safe='')}{'/room' if purpose is Purpose.JOIN else ''}"


async def page(request: web.Request) -> web.StreamResponse:
    """GET /i/<link>/bankid: how the order of this browser goes, or a button that starts one. Starts none."""
    which = _which(request)
    progress = _orders(request).progress(*which)
    if progress is not None and progress.state is State.COMPLETE:  # another window of this browser was quicker
        raise web.HTTPSeeOther(_onward(which[0], which[2]))
    return _page(request)


async def start(request: web.Request) -> web.StreamResponse:
    """POST /i/<link>/bankid: start an order."""
    orders, which = _orders(request), _which(request)
    try:
        await orders.start(*which, locale_of(request), request[ADDRESS])
    except TooManyTries as error:
        return _page(request, error)
    except BankIdUnavailable as error:
        said = HINT_TEXTS.get(str(error))
        return _page(request, BankIdUnavailable(public=said if isinstance(said, str) else None))
    raise web.HTTPSeeOther(_path(which[0], which[2]))


def _page(request: web.Request, problem: SlussError | None = None) -> web.Response:
    orders, which = _orders(request), _which(request)
    link, _, purpose = which
    progress, token = orders.progress(*which), orders.start_token(*which)
    base = f"/i/{quote(link, safe='')}"
    return render(
        request,
        "bankid.html",
        problem=problem,
        join=purpose is Purpose.JOIN,
        method=Method.BANKID,
        base=base,
        at=_path(link, purpose),
        return_to=_path(link, purpose),
        pending=token and not problem,
        message=_message(request, progress) if progress else "",
        start_url=_start_url(request, token),
    )


def _start_url(request: web.Request, token: str) -> str:
    """What opens the order in the app of the same device. The way back is in the order, where no other site sees it."""
    agent = request.headers.get("User-Agent", "")
    phone = any(word in agent for word in ("Mobile", "Android", "iPhone", "iPad"))
    return f"{_APP if phone else _PROGRAM}?{urlencode({'autostarttoken': token, 'redirect': 'null'})}"


async def qr(request: web.Request) -> web.StreamResponse:
    """GET /i/<link>/bankid/qr: the code of this second, as SVG."""
    said = _orders(request).qr_code(*_which(request))
    if not said:
        raise NotFound("no pending order of this browser")
    picture = io.BytesIO()
    segno.make(said, error="l", micro=False, mask=_MASK, boost_error=False).save(
        picture, kind="svg", scale=4, border=3, light="#fff"
    )
    return web.Response(body=picture.getvalue(), content_type="image/svg+xml")


async def collect(request: web.Request) -> web.StreamResponse:
    """POST /i/<link>/bankid/collect: how it goes now, for the page's script; `?here` if it has opened the app."""
    which = _which(request)
    progress = await _orders(request).collect(*which, request[ADDRESS])
    return web.json_response(
        {
            "state": progress.state.value,
            "started": progress.hint not in ("outstandingTransaction", "noClient"),
            "message": _message(request, progress),
            "onward": _onward(which[0], which[2]) if progress.state is State.COMPLETE else "",
        }
    )


def _message(request: web.Request, progress: Progress) -> str:
    unknown = _UNKNOWN if progress.state is State.FAILED else _IN_PROGRESS
    text = HINT_TEXTS.get(progress.hint, unknown)
    if isinstance(text, tuple):
        text = text["here" in request.query]
    return texts(request).gettext(text)


async def cancel(request: web.Request) -> web.StreamResponse:
    """POST /i/<link>/bankid/cancel: take the order back, and choose again."""
    which = _which(request)
    await _orders(request).cancel(*which)
    raise web.HTTPSeeOther(f"/i/{quote(which[0], safe='')}")


async def returned(request: web.Request) -> web.StreamResponse:
    """GET /bankid/<nonce>: back from the app, in the browser that began or, on some phones, in another one."""
    found = _orders(request).returned(request[SESSION], request.match_info["nonce"])
    if found is not None:
        raise web.HTTPSeeOther(_path(*found))
    return render(request, "bankid_returned.html", return_to="/")
