"""The organiser's pages: enrolment, sign-in, meetings and the people invited to them."""

from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime, timedelta
from functools import cache
from itertools import zip_longest
from typing import Any
from zoneinfo import ZoneInfo, available_timezones

from aiohttp import web

from sluss.domain import drafts
from sluss.domain.errors import (
    DirectoryUnavailable,
    InvalidInput,
    NotEnrolled,
    NotVerified,
    SignInRequired,
    SlussError,
    TooManyTries,
)
from sluss.domain.gate import Role
from sluss.domain.limits import LockKind
from sluss.domain.meetings import InvitationState, MeetingView
from sluss.web import directory
from sluss.web.context import ADDRESS, CLOCK, ORGANISER, SERVICES, SESSION, SETTINGS, wants_json
from sluss.web.pages import N_, REFUSED_CODE, in_groups, plain_code, qr_code, read_form, render
from sluss.web.sessions import give_session, known_browser, remember_browser

LOCK_TEXTS = {
    LockKind.CODES: N_("Too many codes were asked for with this link."),
    LockKind.TRIES: N_("Too many wrong codes were typed with this link."),
    LockKind.NUMBER: N_("Too many codes have gone to this phone."),
    LockKind.MEETING: N_("This meeting has used up its codes by SMS. No more are sent for now."),
    LockKind.BANKID: N_("BankID was started too many times with this link."),
    LockKind.PASSWORDS: N_("Too many passwords were typed with this link."),
    LockKind.DAY: N_("The organisation has used up its SMS of 24 hours. No codes are sent to anybody for now."),
}
PARTICIPANT_FIELDS = ("name", "email", "mobile", "label", "personal_number")
EMPTY_ROWS = 3
_REGIONS = ("Africa", "America", "Antarctica", "Arctic", "Asia", "Atlantic", "Australia", "Europe", "Indian", "Pacific")
DEFAULT_ZONE = "Europe/Stockholm"


@cache
def time_zones() -> list[str]:
    """The IANA zones that are named after a place, and UTC."""
    return [*sorted(z for z in available_timezones() if z.partition("/")[0] in _REGIONS), "UTC"]


async def enrol_form(request: web.Request) -> web.StreamResponse:
    """GET /enrol/<token>: choose a password and set up an authenticator."""
    return await _enrol_page(request)


async def enrol(request: web.Request) -> web.StreamResponse:
    """POST /enrol/<token>: check both, then show the recovery codes, once."""
    form = await read_form(request, strip=False)  # white space belongs to a password
    password, again, code = (str(form.get(name, "")) for name in ("password", "again", "code"))
    if password != again:
        return await _enrol_page(request, InvalidInput("again", N_("The two passwords are not the same.")))
    try:
        codes = await request.app[SERVICES].organisers.enrol(
            request.match_info["token"], password, plain_code(code), request[ADDRESS]
        )
    except (InvalidInput, TooManyTries) as error:
        return await _enrol_page(request, error)
    return render(request, "enrolled.html", codes=codes, return_to="/")


async def _enrol_page(request: web.Request, problem: SlussError | None = None) -> web.StreamResponse:
    enrolment = await request.app[SERVICES].organisers.enrolment(request.match_info["token"], request[ADDRESS])
    qr, secret = qr_code(enrolment.otpauth_uri), in_groups(enrolment.secret)
    return render(request, "enrol.html", problem=problem, enrolment=enrolment, qr=qr, secret=secret)


async def sign_in_form(request: web.Request) -> web.StreamResponse:
    """GET /sign-in: e-mail and password."""
    return render(request, "sign_in.html", email="")


async def sign_in(request: web.Request) -> web.StreamResponse:
    """POST /sign-in: the first factor."""
    form = await read_form(request, strip=False)
    email, password = str(form.get("email", "")).strip(), str(form.get("password", ""))
    try:
        await request.app[SERVICES].organisers.password(
            request[SESSION], email, password, request[ADDRESS], known_browser(request)
        )
    except NotVerified as error:
        said = N_("E-mail and password did not match.")
        if request.app[SERVICES].directory.there:  # the same sentence for everybody, whatever was wrong
            said = directory.WRONG
        problem = error if isinstance(error, NotEnrolled) else NotVerified(public=said)
        return render(request, "sign_in.html", problem=problem, email=email)
    except (TooManyTries, DirectoryUnavailable) as error:
        return render(request, "sign_in.html", problem=error, email=email)
    raise web.HTTPSeeOther("/sign-in/code")


async def sign_in_code_form(request: web.Request) -> web.StreamResponse:
    """GET /sign-in/code: the authenticator's code."""
    return render(request, "sign_in_code.html")


async def sign_in_code(request: web.Request) -> web.StreamResponse:
    """POST /sign-in/code: the second factor; the session is a new one from here on."""
    code = plain_code((await read_form(request)).get("code", ""))
    try:
        signed_in = await request.app[SERVICES].organisers.second_factor(
            request[SESSION], code, request[ADDRESS], known_browser(request)
        )
    except NotVerified:
        problem = NotVerified(public=REFUSED_CODE)
        return render(request, "sign_in_code.html", problem=problem)
    except TooManyTries as error:
        return render(request, "sign_in_code.html", problem=error)
    except SignInRequired:
        raise web.HTTPSeeOther("/sign-in") from None
    give_session(request, signed_in.session)
    response = web.HTTPSeeOther("/")
    remember_browser(response, signed_in.browser)
    raise response


async def sign_out(request: web.Request) -> web.StreamResponse:
    """POST /sign-out: end this session."""
    await request.app[SERVICES].organisers.sign_out(request[SESSION])
    give_session(request)
    raise web.HTTPSeeOther("/sign-in")


async def sign_out_everywhere(request: web.Request) -> web.StreamResponse:
    """POST /sign-out/everywhere: end every session of this organiser."""
    await request.app[SERVICES].organisers.sign_out_everywhere(request[ORGANISER])
    give_session(request)
    raise web.HTTPSeeOther("/sign-in")


async def meetings(request: web.Request) -> web.StreamResponse:
    """GET /: the organiser's meetings, those to come first."""
    found = await request.app[SERVICES].meetings.list(request[ORGANISER])
    now = request.app[CLOCK]()
    coming = [m for m in found if m.ended_at is None and now < m.closes_at]
    past = [m for m in found if m not in coming]
    passkeys = await request.app[SERVICES].passkeys.of(request[ORGANISER])
    copied = any(one.locked_at for one in passkeys)
    return render(request, "meetings.html", coming=coming[::-1], past=past, copied=copied)


async def new_meeting_form(request: web.Request) -> web.StreamResponse:
    """GET /meetings/new: an empty form, for the next full hour."""
    hour = request.app[CLOCK]().astimezone(ZoneInfo(DEFAULT_ZONE)).replace(minute=0) + timedelta(hours=1)
    typed = {"date": f"{hour:%Y-%m-%d}", "time": f"{hour:%H:%M}", "minutes": "60", "time_zone": DEFAULT_ZONE}
    return _new_meeting_page(request, typed, [])


async def new_meeting(request: web.Request) -> web.StreamResponse:
    """POST /meetings/new: save the meeting and send the invitations, or show what to mend."""
    form = await read_form(request)
    columns = (form.getall(f"participant_{name}", []) for name in PARTICIPANT_FIELDS)
    people = [row for row in zip_longest(*columns, fillvalue="") if any(row)]
    if (looked_up := await directory.look_up(request, form)) is not None:
        people += [(*looked_up.chosen, "", "")] if looked_up.chosen else []
        return _new_meeting_page(request, form, people, looked_up.problem, looked_up)
    try:
        settings, now = request.app[SETTINGS], request.app[CLOCK]()
        draft = drafts.parse_meeting(
            form, people, region=settings.default_region, prefixes=settings.sms_prefixes, now=now
        )
        meeting = await request.app[SERVICES].meetings.create(request[ORGANISER], draft)
    except InvalidInput as error:
        return _new_meeting_page(request, form, people, error)
    raise web.HTTPSeeOther(f"/meetings/{meeting.id}")


def _new_meeting_page(
    request: web.Request,
    typed: Mapping[str, str],
    people: list[tuple[str, ...]],
    problem: SlussError | None = None,
    looked_up: directory.LookedUp = directory.NOBODY,
) -> web.StreamResponse:
    rows = people + [("",) * len(PARTICIPANT_FIELDS)] * (EMPTY_ROWS - len(people))
    return render(
        request,
        "meeting_new.html",
        problem=problem,
        typed=typed,
        rows=rows,
        looked_up=looked_up,
        bankid=request.app[SERVICES].bankid is not None,
        classes=request.app[SERVICES].meetings.classes(),
        zones=time_zones(),
    )


async def meeting(request: web.Request) -> web.StreamResponse:
    """GET /meetings/<id>: the meeting and what has become of each invitation."""
    return await _meeting_page(request)


async def _meeting_page(
    request: web.Request,
    problem: SlussError | None = None,
    typed: Mapping[str, str] | None = None,
    looked_up: directory.LookedUp = directory.NOBODY,
) -> web.StreamResponse:
    view = await request.app[SERVICES].meetings.view(request[ORGANISER], request.match_info["meeting"])
    return render(
        request,
        "meeting.html",
        problem=problem,
        typed=typed or {},
        view=view,
        looked_up=looked_up,
        return_to=f"/meetings/{view.meeting.id}",
        bankid=request.app[SERVICES].bankid is not None,
        sensitivity=request.app[SERVICES].meetings.class_of(view.meeting),
        **_status(view, request.app[CLOCK]()),
    )


def _status(view: MeetingView, now: datetime) -> dict[str, Any]:
    invited = [p for p in view.participants if p.invitation.role is Role.PARTICIPANT]
    return {
        "invited": invited,
        "here": {p.invitation_id: p for p in view.here},
        "waiting": {p.invitation_id for p in view.waiting},
        "states": InvitationState,
        "lock_texts": LOCK_TEXTS,
        "lock_kinds": LockKind,
        "now": now,
        "over": view.meeting.ended_at is not None or now >= view.meeting.closes_at,
    }


async def invite(request: web.Request) -> web.StreamResponse:
    """POST /meetings/<id>/participants: invite one more person."""
    form = await read_form(request)
    meeting_id = request.match_info["meeting"]
    if (looked_up := await directory.look_up(request, form)) is not None:
        chosen = dict(zip(PARTICIPANT_FIELDS, looked_up.chosen or (), strict=False))
        return await _meeting_page(request, looked_up.problem, {**form, **chosen}, looked_up)
    try:
        typed, settings = (form.get(name, "") for name in PARTICIPANT_FIELDS), request.app[SETTINGS]
        region, prefixes, today = settings.default_region, settings.sms_prefixes, request.app[CLOCK]().date()
        draft = drafts.participant(*typed, region=region, prefixes=prefixes, today=today)
        await request.app[SERVICES].meetings.invite(request[ORGANISER], meeting_id, draft)
    except InvalidInput as error:
        return await _meeting_page(request, error, form)
    raise web.HTTPSeeOther(f"/meetings/{meeting_id}")


async def resend(request: web.Request) -> web.StreamResponse:
    """POST /invitations/<id>/resend: a new personal link by mail; the old one is dead."""
    change = request.app[SERVICES].meetings.resend
    return _changed(request, await change(request[ORGANISER], request.match_info["invitation"]))


async def withdraw(request: web.Request) -> web.StreamResponse:
    """POST /invitations/<id>/withdraw: take the invitation back."""
    change = request.app[SERVICES].meetings.withdraw
    return _changed(request, await change(request[ORGANISER], request.match_info["invitation"]))


async def put_out(request: web.Request) -> web.StreamResponse:
    """POST /invitations/<id>/put-out: out of the meeting, and not back in."""
    change = request.app[SERVICES].meetings.put_out
    return _changed(request, await change(request[ORGANISER], request.match_info["invitation"]))


async def unlock(request: web.Request) -> web.StreamResponse:
    """POST /invitations/<id>/unlock: undo the limits that hold this person up."""
    change = request.app[SERVICES].meetings.unlock
    return _changed(request, await change(request[ORGANISER], request.match_info["invitation"]))


async def unlock_meeting(request: web.Request) -> web.StreamResponse:
    """POST /meetings/<id>/unlock: let the meeting send codes again."""
    meeting_id = request.match_info["meeting"]
    await request.app[SERVICES].meetings.unlock_meeting(request[ORGANISER], meeting_id)
    return _changed(request, meeting_id)


def _changed(request: web.Request, meeting_id: str) -> web.StreamResponse:
    if wants_json(request):
        return web.json_response({"done": True})
    raise web.HTTPSeeOther(f"/meetings/{meeting_id}")


async def end(request: web.Request) -> web.StreamResponse:
    """POST /meetings/<id>/end: everybody out, for good."""
    meeting_id = request.match_info["meeting"]
    await request.app[SERVICES].meetings.end(request[ORGANISER], meeting_id)
    raise web.HTTPSeeOther(f"/meetings/{meeting_id}")


async def withdraw_all(request: web.Request) -> web.StreamResponse:
    """POST /meetings/<id>/withdraw: take the whole meeting back."""
    meeting_id = request.match_info["meeting"]
    await request.app[SERVICES].meetings.withdraw_all(request[ORGANISER], meeting_id)
    raise web.HTTPSeeOther(f"/meetings/{meeting_id}")


async def verify_form(request: web.Request) -> web.StreamResponse:
    """GET /meetings/<id>/verify: a fresh authenticator code before entering."""
    return await verify_page(request)


async def verify(request: web.Request) -> web.StreamResponse:
    """POST /meetings/<id>/verify: check it, then enter."""
    code = plain_code((await read_form(request)).get("code", ""))
    meeting_id = request.match_info["meeting"]
    try:
        await request.app[SERVICES].tickets.verify_organiser(request[SESSION], meeting_id, code, request[ADDRESS])
    except NotVerified:
        problem = NotVerified(public=REFUSED_CODE)
        return await verify_page(request, problem)
    except TooManyTries as error:
        return await verify_page(request, error)
    raise web.HTTPSeeOther(f"/meetings/{meeting_id}/room")


async def attendance(request: web.Request) -> web.StreamResponse:
    """GET /meetings/<id>/attendance: who was there, after a fresh authenticator code."""
    meeting_id = request.match_info["meeting"]
    try:
        report = await request.app[SERVICES].attendance.report(request[SESSION], meeting_id)
    except NotVerified:
        return await attendance_verify_page(request)
    return render(request, "attendance.html", report=report, back=f"/meetings/{meeting_id}")


async def verify_for_attendance(request: web.Request) -> web.StreamResponse:
    """POST /meetings/<id>/attendance: check the code, then show it."""
    code = plain_code((await read_form(request)).get("code", ""))
    meeting_id = request.match_info["meeting"]
    try:
        await request.app[SERVICES].tickets.verify_organiser(request[SESSION], meeting_id, code, request[ADDRESS])
    except NotVerified:
        problem = NotVerified(public=REFUSED_CODE)
        return await attendance_verify_page(request, problem)
    except TooManyTries as error:
        return await attendance_verify_page(request, error)
    raise web.HTTPSeeOther(f"/meetings/{meeting_id}/attendance")


async def attendance_verify_page(request: web.Request, problem: SlussError | None = None) -> web.StreamResponse:
    """The page that asks for a fresh factor before the attendance."""
    view = await request.app[SERVICES].meetings.view(request[ORGANISER], request.match_info["meeting"])
    passkeys = await request.app[SERVICES].passkeys.of(request[ORGANISER])
    at = f"/meetings/{view.meeting.id}/attendance"
    return render(request, "attendance_verify.html", problem=problem, view=view, passkeys=passkeys, return_to=at)


async def attendance_csv(request: web.Request) -> web.StreamResponse:
    """GET /meetings/<id>/attendance.csv: the same as a table."""
    return await _download(request, request.app[SERVICES].attendance.as_csv, "text/csv", "csv")


async def attendance_receipt(request: web.Request) -> web.StreamResponse:
    """GET /meetings/<id>/attendance.jws: the same, signed."""
    return await _download(request, request.app[SERVICES].attendance.receipt, "application/jose", "jws")


async def _download(
    request: web.Request, export: Callable[[str, str], Awaitable[str]], kind: str, ending: str
) -> web.StreamResponse:
    meeting_id = request.match_info["meeting"]
    try:
        text = await export(request[SESSION], meeting_id)
    except NotVerified:
        raise web.HTTPSeeOther(f"/meetings/{meeting_id}/attendance") from None
    name = f"attachment; filename=attendance-{meeting_id[:8]}.{ending}"
    return web.Response(text=text, content_type=kind, charset="utf-8", headers={"Content-Disposition": name})


async def verify_page(request: web.Request, problem: SlussError | None = None) -> web.StreamResponse:
    """The page that asks for a fresh factor at the door."""
    view = await request.app[SERVICES].meetings.view(request[ORGANISER], request.match_info["meeting"])
    passkeys = await request.app[SERVICES].passkeys.of(request[ORGANISER])
    at = f"/meetings/{view.meeting.id}/verify"
    return render(request, "meeting_verify.html", problem=problem, view=view, passkeys=passkeys, return_to=at)
