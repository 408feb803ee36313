"""The room page, for participants and organisers: it holds no ticket, its script asks for one."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from aiohttp import web

from sluss.domain.errors import Waiting
from sluss.domain.gate import Refusal, Role
from sluss.domain.meetings import Meeting, PersonHere, PersonWaiting, Ticket
from sluss.web.context import ORGANISER, SERVICES, SESSION, SETTINGS
from sluss.web.pages import N_, Texts, render, texts
from sluss.web.participant import link_path

ROLE_TEXTS = {Role.ORGANISER: N_("organiser"), Role.PARTICIPANT: N_("participant")}
REFUSAL_TEXTS = {
    Refusal.NO_TICKET: N_("You came to the door without a ticket. Try again from this page."),
    Refusal.BAD_TICKET: N_("The door did not accept your ticket. Try again from this page."),
    Refusal.EXPIRED: N_("Your ticket was too old. Try again."),
    Refusal.USED: N_("Your ticket had been used already. Try again."),
    Refusal.WRONG_ROOM: N_("Your ticket is for another meeting."),
    Refusal.WITHDRAWN: N_("You are no longer invited to this meeting."),
    Refusal.NOT_OPEN: N_("The meeting is not open."),
    Refusal.NOT_KNOWN: N_("The door does not know you. Try again from this page."),
    Refusal.DEVICES: N_("You are in this meeting on another device. Leave it there first, then try again."),
    Refusal.UNAVAILABLE: N_(
        "The door service is not answering. People already inside stay; nobody new gets in. Try again in a while."
    ),
}
SCRIPT_TEXTS = {
    "connecting": N_("Opening the door …"),
    "inside": N_("You are in the meeting."),
    "left": N_("You have left the meeting."),
    "put-out": N_("You have been put out of the meeting."),
    "ended": N_("The meeting has ended."),
    "lost": N_("The connection was lost."),
    "refused": N_("The door did not let you in."),
    "failed": N_("That did not work. Try again."),
    "you": N_("you"),
    "entered": N_("%s entered"),
    "went": N_("%s left"),
    "since": N_("here since %s"),
    "put-out-button": N_("Put out"),
    "devices": N_("on %s devices"),
}


async def participant_room(request: web.Request) -> web.StreamResponse:
    """GET /i/<link>/room: the room to whoever may have a ticket now, the invitation to all others."""
    participation = request.app[SERVICES].participation
    view = await participation.look(request.match_info["link"], request[SESSION], others=False)
    if view is None or not view.open or not view.may_enter:
        raise web.HTTPSeeOther(link_path(request))
    base = link_path(request)
    return _room_page(request, view.meeting, base, base, None)


async def organiser_room(request: web.Request) -> web.StreamResponse:
    """GET /meetings/<id>/room: the organiser's room, after a fresh authenticator code."""
    services = request.app[SERVICES]
    meeting_id = request.match_info["meeting"]
    view = await services.meetings.view(request[ORGANISER], meeting_id)
    base = f"/meetings/{meeting_id}"
    if not view.open:
        raise web.HTTPSeeOther(base)
    if not await services.tickets.organiser_may_enter(request[SESSION], meeting_id):
        raise web.HTTPSeeOther(f"{base}/verify")
    return _room_page(request, view.meeting, base, f"{base}/verify", meeting_id)


def _room_page(
    request: web.Request, meeting: Meeting, base: str, verify_at: str, meeting_id: str | None
) -> web.StreamResponse:
    settings = request.app[SETTINGS]
    words = texts(request)
    refusals = {f"refused-{reason}": words.gettext(text) for reason, text in REFUSAL_TEXTS.items()}
    roles = {f"role-{role}": words.gettext(text) for role, text in ROLE_TEXTS.items()}
    return render(
        request,
        "room.html",
        title=meeting.title,
        base=base,
        verify_at=verify_at,
        meeting_id=meeting_id,
        features=asdict(request.app[SERVICES].meetings.class_of(meeting).features),
        jitsi=settings.jitsi,
        websocket=settings.meet_origin.replace("https:", "wss:", 1) + "/xmpp-websocket",
        script_texts={k: words.gettext(v) for k, v in SCRIPT_TEXTS.items()} | refusals | roles,
    )


async def participant_ticket(request: web.Request) -> web.StreamResponse:
    """POST /i/<link>/ticket: a ticket for the script of the participant's room page."""
    tickets = request.app[SERVICES].tickets
    try:
        return _ticket(await tickets.for_participant(request.match_info["link"], request[SESSION]))
    except Waiting as waiting:
        words = texts(request)
        answer = {"error": "Waiting", "message": words.problem(waiting), "waiting": _waiting(waiting.others, words)}
        return web.json_response(answer, status=waiting.status)


async def organiser_ticket(request: web.Request) -> web.StreamResponse:
    """POST /meetings/<id>/ticket: a ticket for the script of the organiser's room page."""
    tickets = request.app[SERVICES].tickets
    return _ticket(await tickets.for_organiser(request[SESSION], request.match_info["meeting"]))


def _ticket(ticket: Ticket) -> web.Response:
    return web.json_response(
        {
            "token": ticket.token,
            "room": ticket.room,
            "domain": ticket.jid_domain,
            "expires_at": int(ticket.expires_at.timestamp()),
        }
    )


async def participant_here(request: web.Request) -> web.StreamResponse:
    """GET /i/<link>/here: who is in the meeting, to whoever may enter it."""
    admission = request.app[SERVICES].admission
    own, people = await admission.here_for_participant(request.match_info["link"], request[SESSION])
    words = texts(request)
    return web.json_response({"people": [_person(p, words) | {"self": p.invitation_id == own} for p in people]})


async def organiser_here(request: web.Request) -> web.StreamResponse:
    """GET /meetings/<id>/here: the same to the organiser, with what is needed to put somebody out."""
    view = await request.app[SERVICES].meetings.view(request[ORGANISER], request.match_info["meeting"])
    words = texts(request)
    people = [_person(p, words) | {"invitation": p.invitation_id, "self": p.role is Role.ORGANISER} for p in view.here]
    return web.json_response({"people": people, "waiting": _waiting(view.waiting, words)})


async def participant_outside(request: web.Request) -> web.StreamResponse:
    """GET /i/<link>/outside: why this browser is not in the meeting, to whoever had a ticket in it."""
    outside = request.app[SERVICES].outside
    return web.json_response({"reason": await outside.participant(request.match_info["link"], request[SESSION])})


async def organiser_outside(request: web.Request) -> web.StreamResponse:
    """GET /meetings/<id>/outside: the same to the meeting's own organiser."""
    outside = request.app[SERVICES].outside
    return web.json_response({"reason": await outside.organiser(request[SESSION], request.match_info["meeting"])})


def _waiting(people: Sequence[PersonWaiting], words: Texts) -> list[dict[str, str]]:
    return [{"name": person.name, "method": words.method(person.method)} for person in people]


def _person(person: PersonHere, words: Texts) -> dict[str, Any]:
    return {
        "name": person.name,
        "role": person.role,
        "method": words.method(person.method, person.role),
        "entered_at": int(person.entered_at.timestamp()),
        "devices": person.devices,
    }
