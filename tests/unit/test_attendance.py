"""Attendance: who entered and left is counted once, and repaired by a roll call when the bridge was away."""

from dataclasses import replace

import pytest
from sqlalchemy.exc import IntegrityError
from tests.unit.world import ANNA, MEET

from sluss.domain.gate import Change, GateEvent, Occupant

BERTIL = ("Bertil Berg", "bertil@example.org", "070-174 06 06")
BERTILS_MOBILE = "+46701740606"


@pytest.fixture
async def inside(world):
    """Anna is in the room. Returns the world, the room and her user name."""
    world.organiser_now, _ = await world.signed_in()
    world.meeting_now = await world.meeting(world.organiser_now, ANNA, BERTIL)
    return world, world.meeting_now.room, await world.inside(world.link())


def lines(world):
    return world.sql("SELECT gate_session, entered_at, left_at, end_is_exact FROM attendance ORDER BY entered_at")


def at(world):
    return int(world.clock.now.timestamp())


async def here(world):
    view = await world.services.meetings.view(world.organiser_now, world.meeting_now.id)
    return [(person.name, person.devices) for person in view.here]


async def shut_out_without_the_door(world):
    """The store knows, the door did not hear."""
    world.sql("UPDATE invitations SET state = 'withdrawn' WHERE role = 'participant'")


async def test_entering_and_leaving_are_kept_with_their_times(inside):
    world, room, username = inside
    entered = at(world)
    assert await here(world) == [(ANNA[0], 1)]
    world.clock.forward(minutes=7)
    await world.services.admission.left(world.event(room, username))
    assert lines(world) == [{"gate_session": "xmpp-1", "entered_at": entered, "left_at": at(world), "end_is_exact": 1}]
    assert await here(world) == []


async def test_two_devices_are_one_person(inside):
    world, *_ = inside
    await world.inside(world.link(), "xmpp-2", browser="phone")
    assert await here(world) == [(ANNA[0], 2)]


async def test_event_that_is_sent_again_is_counted_once(inside):
    world, room, username = inside
    entered = GateEvent("e1", 1, room, "xmpp-1", f"{username}@{MEET}/res", at(world))
    left = world.event(room, username)
    await world.services.admission.left(left)
    before = lines(world)
    for again in (entered, replace(entered, at=entered.at + 60)):
        await world.services.admission.entered(again)
    for again in (left, replace(left, at=left.at + 60)):
        await world.services.admission.left(again)
    assert lines(world) == before
    assert world.door.expelled == []


async def test_events_told_together_are_taken_in_order_and_together(inside):
    world, room, username = inside
    left, stranger = world.event(room, username), world.event(room, "p-stranger", "xmpp-9")
    broken = replace(world.event(room, username), occupant=None)
    together = [(Change.LEFT, left), (Change.ENTERED, stranger), (Change.ENTERED, broken)]
    with pytest.raises(IntegrityError):
        await world.services.admission.told(together)
    assert (await here(world), world.door.expelled) == ([(ANNA[0], 1)], [])
    for _ in range(2):
        await world.services.admission.told(together[:2])
        assert (await here(world), world.door.expelled) == ([], [(room, "p-stranger")])


async def test_numbers_begin_again_when_prosody_starts_again(inside):
    world, room, username = inside
    world.clock.forward(minutes=1)
    await world.services.admission.left(GateEvent("e2", 1, room, "xmpp-1", f"{username}@{MEET}/res", at(world)))
    assert lines(world)[0]["left_at"] == at(world)


async def test_roll_call_closes_what_was_missed_and_says_that_it_guessed(inside):
    world, _, _ = inside
    world.clock.forward(minutes=3)
    await world.services.admission.roll_called("e2", 0, [])
    assert (lines(world)[0]["left_at"], lines(world)[0]["end_is_exact"]) == (at(world), 0)
    assert await here(world) == []


async def test_exact_time_replaces_a_guessed_one_and_is_not_replaced(inside):
    world, room, username = inside
    left = replace(world.event(room, username), at=at(world) + 20)
    world.clock.forward(minutes=3)
    await world.services.admission.roll_called("e1", left.seq, [])
    await world.services.admission.left(left)
    assert (lines(world)[0]["left_at"], lines(world)[0]["end_is_exact"]) == (left.at, 1)
    await world.services.admission.roll_called("e1", left.seq, [])
    assert (lines(world)[0]["left_at"], lines(world)[0]["end_is_exact"]) == (left.at, 1)


async def test_roll_call_opens_what_was_missed(world):
    world.organiser_now, _ = await world.signed_in()
    world.meeting_now = await world.meeting(world.organiser_now)
    ticket = await world.ticket(world.link())
    who = await world.authenticate(ticket.token, ticket.room)
    await world.admit(ticket.room, who.username)
    found = Occupant(ticket.room, "xmpp-1", f"{who.username}@{MEET}/res", at(world))
    world.clock.forward(minutes=1)
    await world.services.admission.roll_called("e1", 1, [found])
    assert [(line["entered_at"], line["left_at"]) for line in lines(world)] == [(found.at, None)]
    assert await here(world) == [(ANNA[0], 1)]
    assert world.door.expelled == []


async def test_roll_call_opens_again_what_an_earlier_one_closed(inside):
    world, room, username = inside
    await world.services.admission.roll_called("e1", 1, [])
    await world.services.admission.roll_called("e1", 1, [Occupant(room, "xmpp-1", f"{username}@{MEET}/res", at(world))])
    assert await here(world) == [(ANNA[0], 1)]


async def test_old_roll_does_not_open_what_was_left_exactly(inside):
    world, room, username = inside
    await world.services.admission.left(world.event(room, username))
    await world.services.admission.roll_called("e1", 1, [Occupant(room, "xmpp-1", f"{username}@{MEET}/res", at(world))])
    assert await here(world) == []


async def test_who_was_withdrawn_while_joining_is_put_out_on_entering(world):
    world.organiser_now, _ = await world.signed_in()
    world.meeting_now = await world.meeting(world.organiser_now)
    ticket = await world.ticket(world.link())
    who = await world.authenticate(ticket.token, ticket.room)
    assert (await world.admit(ticket.room, who.username)).allow
    await shut_out_without_the_door(world)
    await world.services.admission.entered(world.event(ticket.room, who.username))
    assert world.door.expelled == [(ticket.room, who.username)]


async def test_who_entered_after_the_end_is_put_out(inside):
    world, room, _ = inside
    ticket = await world.ticket(world.link(BERTIL[1]), "b", BERTILS_MOBILE)
    who = await world.authenticate(ticket.token, room, "xmpp-2")
    assert (await world.admit(room, who.username, "xmpp-2")).allow
    world.sql("UPDATE meetings SET ended_at = 1")
    await world.services.admission.entered(world.event(room, who.username, "xmpp-2"))
    assert (room, who.username) in world.door.expelled


async def test_who_was_withdrawn_while_the_bridge_was_away_is_put_out_at_the_roll_call(inside):
    world, room, username = inside
    await shut_out_without_the_door(world)
    await world.services.admission.roll_called("e1", 1, [Occupant(room, "xmpp-1", f"{username}@{MEET}/res", at(world))])
    assert world.door.expelled == [(room, username)]


async def test_who_is_inside_without_a_ticket_of_ours_is_put_out(inside):
    world, room, _ = inside
    await world.services.admission.entered(world.event(room, "p-stranger", "xmpp-9"))
    await world.services.admission.roll_called("e1", 9, [Occupant(room, "xmpp-8", f"p-other@{MEET}/res", at(world))])
    assert world.door.expelled == [(room, "p-stranger"), (room, "p-other")]


async def test_door_that_does_not_confirm_does_not_stop_the_roll_call(inside):
    world, room, username = inside
    world.door.connected = False
    await shut_out_without_the_door(world)
    await world.services.admission.roll_called("e1", 1, [Occupant(room, "xmpp-1", f"{username}@{MEET}/res", at(world))])
    world.door.connected = True
    await world.housekeeping.tick()
    assert world.door.expelled == [(room, username)]


async def test_room_is_ended_half_an_hour_after_its_time(inside):
    world, room, _ = inside
    world.clock.now = world.meeting_now.closes_at.replace(microsecond=0)
    world.clock.forward(seconds=-1)
    await world.housekeeping.tick()
    assert world.door.ended == []
    world.clock.forward(seconds=1)
    world.door.connected = False
    await world.housekeeping.tick()
    world.door.connected = True
    await world.housekeeping.tick()
    assert world.door.ended == [room]


async def test_empty_room_is_not_ended(inside):
    world, room, username = inside
    await world.services.admission.left(world.event(room, username))
    world.clock.forward(days=1)
    await world.housekeeping.tick()
    assert world.door.ended == []


async def test_housekeeping_forgets_codes_failures_sessions_and_sent_messages_in_time(inside):
    world, _, _ = inside
    await world.store.run(lambda tx: tx.attempts.fail("x", world.clock.now))
    counts = {
        "SELECT count(*) AS n FROM sent_codes": 3,  # hours
        "SELECT count(*) AS n FROM sessions": 13,
        "SELECT count(*) AS n FROM failures": 49,
        "SELECT count(*) AS n FROM outbox": 31 * 24,
    }
    began = world.clock.now
    for query, hours in counts.items():
        assert world.sql(query)[0]["n"] > 0
        world.clock.now = began
        world.clock.forward(hours=hours)
        await world.housekeeping.tick()
        assert world.sql(query)[0]["n"] == 0, query
