"""At the room's door: only who used a ticket for this room, once, by the verified name, while the meeting is open."""

import asyncio
import re
from datetime import timedelta

import pytest
from tests.unit.world import ANNA, BROWSER, MEET

from sluss.domain.assurance import Purpose
from sluss.domain.errors import GateUnavailable, InvalidInput, NotFound, NotVerified
from sluss.domain.gate import Entry, OccupantKind, Refusal, Stage

BERTIL = ("Bertil Berg", "bertil@example.org", "070-174 06 06")
BERTILS_MOBILE = "+46701740606"
TOLD = "192.0.2.7"


@pytest.fixture
async def at_the_door(world):
    """Anna's ticket is used up; she has not entered. Returns the world, her room and user name."""
    world.organiser_now, world.session_now = await world.signed_in()
    world.meeting_now = await world.meeting(world.organiser_now, ANNA, BERTIL)
    ticket = await world.ticket(world.link())
    who = await world.authenticate(ticket.token, ticket.room)
    assert who.allow
    return world, ticket.room, who.username


async def test_user_names_are_no_nicks_of_jitsis_client(at_the_door):
    """It makes one of the first eight characters if they are hexadecimal digits: two devices would share it."""
    world, _, first = at_the_door
    ticket = await world.ticket(world.link(BERTIL[1]), "browser 2", BERTILS_MOBILE)
    second = (await world.authenticate(ticket.token, ticket.room, "xmpp-2")).username
    assert first != second
    assert not [name for name in (first, second) if re.match("[0-9a-f]{8}", name)]


async def refusal(world, *args, **kwargs):
    verdict = await world.admit(*args, **kwargs)
    assert not verdict.allow
    assert (verdict.name, verdict.role) == (None, None)
    return verdict.reason


async def focus(world, room, stage=Stage.JOIN):
    return await world.services.admission.admit(Entry("", room, f"focus@auth.{MEET}/x", OccupantKind.FOCUS, stage))


async def shut_out(world, verb="withdraw"):
    anna, _ = (await world.services.meetings.view(world.organiser_now, world.meeting_now.id)).participants
    return await getattr(world.services.meetings, verb)(world.organiser_now, anna.invitation.id)


@pytest.mark.parametrize("stage", Stage)
async def test_who_used_a_ticket_is_let_in_under_the_verified_name(at_the_door, stage):
    world, room, username = at_the_door
    verdict = await world.admit(room, username, stage=stage)
    assert (verdict.allow, verdict.session, verdict.name, verdict.role) == (True, "xmpp-1", ANNA[0], "participant")
    assert verdict.method == "sms"


async def test_name_inside_is_the_one_invited_even_if_it_was_changed_since(at_the_door):
    world, room, username = at_the_door
    world.change_invitation(ANNA[1], name="Anna Maria Lindberg")
    assert (await world.admit(room, username)).name == "Anna Maria Lindberg"


@pytest.mark.parametrize("first", Stage)
async def test_ticket_admits_once(at_the_door, first):
    world, room, username = at_the_door
    assert (await world.admit(room, username, stage=first)).allow
    for stage in Stage:
        assert await refusal(world, room, username, stage=stage) is Refusal.USED


async def test_who_was_inside_does_not_come_back_in_the_same_session(at_the_door):
    world, room, username = at_the_door
    assert (await world.admit(room, username, again=True)).reason is Refusal.USED


async def test_yes_to_the_ticket_is_a_yes_to_entering_at_once(at_the_door):
    world, _, _ = at_the_door
    ticket = await world.ticket(world.link(BERTIL[1]), "b", BERTILS_MOBILE)
    verdict = await world.authenticate(ticket.token, ticket.room, "xmpp-2")
    assert (verdict.name, verdict.role, verdict.method) == (BERTIL[0], "participant", "sms")


async def test_ticket_admits_once_of_many_at_the_same_time(at_the_door):
    world, room, username = at_the_door
    verdicts = await asyncio.gather(*(world.admit(room, username) for _ in range(50)))
    assert sum(verdict.allow for verdict in verdicts) == 1


async def test_xmpp_session_without_a_used_ticket_is_not_known(at_the_door):
    world, room, username = at_the_door
    for session in ("", "xmpp-2", "xmpp-1 ", "%"):
        assert await refusal(world, room, username, session=session) is Refusal.NOT_KNOWN, session


async def test_other_room_is_refused(at_the_door):
    world, room, username = at_the_door
    other = await world.meeting(world.organiser_now)
    for name in (other.room, room.upper(), f"{room}x", "", "*"):
        assert await refusal(world, name, username) is Refusal.WRONG_ROOM, name


async def test_another_persons_user_name_is_refused(at_the_door):
    world, room, username = at_the_door
    names = [row["username"] for row in world.sql("SELECT username FROM invitations") if row["username"] != username]
    for name in (*names, "", "focus", username.upper(), f"{username}x", f"x@{username}"):
        assert await refusal(world, room, name) is Refusal.NOT_KNOWN, name
    assert (await world.admit(room, username)).allow


@pytest.mark.parametrize("verb", ["withdraw", "put_out", "resend"])
async def test_nobody_enters_after_being_shut_out(at_the_door, verb):
    world, room, username = at_the_door
    await shut_out(world, verb)
    assert await refusal(world, room, username) is Refusal.WITHDRAWN


async def test_nobody_enters_after_not_me(at_the_door):
    world, room, username = at_the_door
    await world.services.participation.not_me(world.link(), TOLD)
    assert await refusal(world, room, username) is Refusal.WITHDRAWN


async def test_nobody_enters_after_the_end(at_the_door):
    world, room, username = at_the_door
    await world.services.meetings.end(world.organiser_now, world.meeting_now.id)
    assert world.door.ended == [room]
    assert await refusal(world, room, username) is Refusal.NOT_OPEN


@pytest.mark.parametrize(("starts_in", "let_in"), [(15.1, False), (15, True), (-89.9, True), (-90, False)])
async def test_door_is_open_from_a_quarter_before_until_half_an_hour_after(at_the_door, starts_in, let_in):
    world, room, username = at_the_door
    start = world.clock.now + timedelta(minutes=starts_in)
    world.sql("UPDATE meetings SET starts_at = ?", int(start.timestamp()))
    assert (await focus(world, room, Stage.CREATE)).allow is let_in
    assert (await world.admit(room, username)).allow is let_in


async def test_focus_enters_open_rooms_only(at_the_door):
    world, room, _ = at_the_door
    assert (await focus(world, room)).allow
    for name in ("", "lobby", "*", room.upper()):
        assert not (await focus(world, name)).allow, name
    await world.services.meetings.end(world.organiser_now, world.meeting_now.id)
    assert (await focus(world, room)).reason is Refusal.NOT_OPEN


async def test_organiser_enters_as_the_organiser(world):
    organiser, session = await world.signed_in()
    meeting = await world.meeting(organiser)
    await world.services.tickets.verify_organiser(session, meeting.id, world.totp.at(world.clock.now), TOLD)
    ticket = await world.services.tickets.for_organiser(session, meeting.id)
    who = await world.authenticate(ticket.token, ticket.room)
    verdict = await world.admit(ticket.room, who.username)
    assert (verdict.name, verdict.role, verdict.method) == (organiser.name, "organiser", "totp")


# Put out


async def test_put_out_reaches_the_door_and_only_that_person(at_the_door):
    world, room, username = at_the_door
    assert await shut_out(world, "put_out") == world.meeting_now.id
    assert world.door.expelled == [(room, username)]


async def test_new_link_puts_out_who_came_in_with_the_old_one(at_the_door):
    world, room, username = at_the_door
    await world.admit(room, username)
    await world.services.admission.entered(world.event(room, username))
    await shut_out(world, "resend")
    assert world.door.expelled == [(room, username)]


async def test_new_link_shuts_out_who_is_about_to_enter_by_a_yes_to_the_old_one(at_the_door):
    world, room, username = at_the_door
    await shut_out(world, "resend")
    assert world.door.expelled == [(room, username)]


async def test_new_link_says_that_it_does_not_know_whether_somebody_with_a_yes_is_outside(at_the_door):
    world, room, username = at_the_door
    world.door.connected = False
    with pytest.raises(GateUnavailable):  # may be inside, and Prosody cannot say so
        await shut_out(world, "resend")
    world.clock.now += timedelta(seconds=31)
    await shut_out(world, "resend")  # never came, or would have been heard of
    world.door.connected = True
    await shut_out(world, "resend")  # but may still stand before the door
    assert world.door.expelled == [(room, username)]


@pytest.mark.parametrize("verb", ["put_out", "resend"])
async def test_put_out_that_the_door_did_not_confirm_is_said_and_tried_again(at_the_door, verb):
    world, room, username = at_the_door
    await world.admit(room, username)
    await world.services.admission.entered(world.event(room, username))
    world.door.connected = False
    with pytest.raises(GateUnavailable):
        await shut_out(world, verb)
    assert await world.services.participation.look(world.link(), BROWSER) is None
    await world.housekeeping.tick()
    world.door.connected = True
    await world.housekeeping.tick()
    assert world.door.expelled == [(room, username)]
    await world.services.admission.left(world.event(room, username))
    await world.housekeeping.tick()
    assert len(world.door.expelled) == 1


@pytest.mark.parametrize("verb", ["withdraw", "put_out", "resend"])
async def test_only_the_organiser_of_the_meeting_shuts_out(at_the_door, verb):
    world, room, username = at_the_door
    stranger, _ = await world.signed_in("olle@example.org")
    anna, _ = (await world.services.meetings.view(world.organiser_now, world.meeting_now.id)).participants
    with pytest.raises(NotFound):
        await getattr(world.services.meetings, verb)(stranger, anna.invitation.id)
    assert world.door.expelled == []
    assert (await world.admit(room, username)).allow


async def test_organisers_do_not_put_themselves_out(at_the_door):
    world, _, _ = at_the_door
    (own,) = world.sql("SELECT id FROM invitations WHERE role = 'organiser'")
    for verb in ("withdraw", "put_out"):
        with pytest.raises(NotFound):
            await getattr(world.services.meetings, verb)(world.organiser_now, own["id"])


# Coming back


async def test_while_inside_another_device_of_the_same_browser_needs_no_new_verification(at_the_door):
    world, room, username = at_the_door
    await world.admit(room, username)
    await world.services.admission.entered(world.event(room, username))
    world.clock.forward(minutes=40)
    assert await world.services.tickets.for_participant(world.link(), BROWSER)


@pytest.mark.parametrize(("away", "let_in"), [(119, True), (120, False)])
async def test_dropped_connection_comes_back_within_two_minutes(at_the_door, away, let_in):
    world, room, username = at_the_door
    await world.admit(room, username)
    await world.services.admission.entered(world.event(room, username))
    world.clock.forward(minutes=40)
    await world.services.admission.left(world.event(room, username))
    world.clock.forward(seconds=away)
    view = await world.services.participation.look(world.link(), BROWSER)
    assert view.may_enter is let_in
    if let_in:
        ticket = await world.services.tickets.for_participant(world.link(), BROWSER)
        assert (await world.authenticate(ticket.token, room, "xmpp-2")).allow
        assert (await world.admit(room, username, "xmpp-2")).allow
    else:
        with pytest.raises(NotVerified):
            await world.services.tickets.for_participant(world.link(), BROWSER)


async def test_grace_belongs_to_who_was_inside_not_to_others_of_the_meeting(at_the_door):
    world, room, username = at_the_door
    await world.admit(room, username)
    await world.services.admission.entered(world.event(room, username))
    bertils = world.link(BERTIL[1])
    await world.ticket(bertils, "bertils browser", BERTILS_MOBILE)
    world.clock.forward(minutes=5)
    with pytest.raises(NotVerified):
        await world.services.tickets.for_participant(bertils, "bertils browser")


async def test_class_without_grace_gives_one_ticket_a_verification(world, monkeypatch):
    organiser, session = await world.signed_in()
    meeting = await world.meeting(organiser)
    world.sql("UPDATE meetings SET sensitivity = 'secret'")
    t = world.services.tickets
    await t.verify_organiser(session, meeting.id, world.totp.at(world.clock.now), TOLD)
    ticket = await t.for_organiser(session, meeting.id)
    with pytest.raises(NotVerified):
        await t.for_organiser(session, meeting.id)
    who = await world.authenticate(ticket.token, meeting.room)
    await world.admit(meeting.room, who.username)
    await world.services.admission.entered(world.event(meeting.room, who.username))
    with pytest.raises(NotVerified):
        await t.for_organiser(session, meeting.id)


# Classes


async def test_classes_that_no_participant_could_satisfy_are_not_offered(world):
    organiser, _ = await world.signed_in()
    assert [c.name for c in world.services.meetings.classes()] == ["internal"]
    for name in ("confidential", "secret"):
        with pytest.raises(InvalidInput) as refused:
            await world.meeting(organiser, sensitivity=name)
        assert refused.value.field == "sensitivity"
    for name in ("", "Internal", "open"):
        with pytest.raises(InvalidInput, match="Choose how sensitive"):
            await world.meeting(organiser, sensitivity=name)
    assert world.sql("SELECT id FROM meetings") == []
    assert world.mail.sent == []


async def test_who_is_inside_is_told_to_those_who_may_enter_alone(at_the_door):
    world, room, username = at_the_door
    await world.admit(room, username)
    await world.services.admission.entered(world.event(room, username))
    bertils = world.link(BERTIL[1])
    await world.verified(bertils, Purpose.VIEW, "bertils browser", BERTILS_MOBILE)
    with pytest.raises(NotVerified):
        await world.services.admission.here_for_participant(bertils, "bertils browser")
    await world.verified(bertils, Purpose.JOIN, "bertils browser", BERTILS_MOBILE)
    _, (anna,) = await world.services.admission.here_for_participant(bertils, "bertils browser")
    assert (anna.name, anna.method) == (ANNA[0], "sms")
