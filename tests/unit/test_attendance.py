"""Attendance: who entered and left is counted once, and repaired by a roll call when the bridge was away."""

import json
from dataclasses import replace

import pytest
from tests.unit.world import ANNA, BROWSER, MEET

from sluss.domain.assurance import Purpose
from sluss.domain.errors import NotVerified
from sluss.domain.gate import Change, GateEvent, Occupant
from sluss.services.common import new_link
from sluss.store.sealing import SealBrokenError

BERTIL = ("Bertil Berg", "bertil@example.org", "070-174 06 06")
BERTILS_MOBILE = "+46701740606"


@pytest.fixture
async def inside(world):
    """Anna is in the room. Returns the world, the room and her user name."""
    world.organiser_now, _ = await world.signed_in()
    world.meeting_now = await world.meeting(world.organiser_now, ANNA, BERTIL)
    return world, world.meeting_now.room, await world.inside(world.link())


def lines(world):
    """The intervals, unsealed."""
    found = []
    for row in world.sql("SELECT gate_session, record, open FROM attendance"):
        session = row["gate_session"]
        record = json.loads(world.store._sealer.open(row["record"], "attendance.record", session))
        assert row["open"] == (record["left_at"] is None)
        found.append({"gate_session": session} | {name: record[name] for name in ("entered_at", "left_at", "exact")})
    return sorted(found, key=lambda line: line["entered_at"])


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
    assert lines(world) == [{"gate_session": "xmpp-1", "entered_at": entered, "left_at": at(world), "exact": True}]
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
    broken = replace(world.event(room, username), reason=object())  # not to be written
    together = [(Change.LEFT, left), (Change.ENTERED, stranger), (Change.LEFT, broken)]
    with pytest.raises(TypeError):
        await world.services.admission.told(together)
    assert (await here(world), world.door.expelled) == ([(ANNA[0], 1)], [])
    for _ in range(2):
        await world.services.admission.told(together[:2])
        assert (await here(world), world.door.expelled) == ([], [(room, "p-stranger")])


async def test_told_together_is_the_same_as_one_by_one(inside):
    """Also who comes and goes within one telling, or leaves without having come."""
    world, room, anna = inside
    anna_came = lines(world)[0]["entered_at"]
    ticket = await world.ticket(world.link(BERTIL[1]), "b", BERTILS_MOBILE)
    bertil = (await world.authenticate(ticket.token, room, "xmpp-2")).username
    told, began = [], at(world)
    for change, who, session in [
        (Change.LEFT, bertil, "xmpp-2"),
        (Change.ENTERED, bertil, "xmpp-2"),
        (Change.LEFT, anna, "xmpp-1"),
        (Change.LEFT, bertil, "xmpp-2"),
        (Change.ENTERED, "p-stranger", "xmpp-9"),
        (Change.LEFT, "p-stranger", "xmpp-9"),
    ]:
        world.clock.forward(minutes=1)
        told.append((change, world.event(room, who, session)))
    await world.services.admission.told(told)
    together = lines(world)
    assert [(line["gate_session"], line["entered_at"], line["left_at"]) for line in together] == [
        ("xmpp-1", anna_came, began + 180),
        ("xmpp-2", began + 120, began + 240),
    ]
    assert world.door.expelled == [(room, "p-stranger")]
    world.sql("DELETE FROM attendance WHERE gate_session = 'xmpp-2'")
    world.sql("DELETE FROM gate_epochs")
    for one in told:
        await world.services.admission.told([one])
    assert lines(world) == together


async def test_numbers_begin_again_when_prosody_starts_again(inside):
    world, room, username = inside
    world.clock.forward(minutes=1)
    await world.services.admission.left(GateEvent("e2", 1, room, "xmpp-1", f"{username}@{MEET}/res", at(world)))
    assert lines(world)[0]["left_at"] == at(world)


async def test_roll_call_closes_what_was_missed_and_says_that_it_guessed(inside):
    world, _, _ = inside
    entered = at(world)
    world.clock.forward(minutes=3)
    await world.services.admission.roll_called("e2", 0, [])
    assert (lines(world)[0]["left_at"], lines(world)[0]["exact"]) == (entered, False)  # the last that is known
    assert await here(world) == []


async def test_interval_without_an_end_is_closed_at_the_last_proof_of_presence(inside):
    """A roll that had them, or any later event of the same start of Prosody: it tells in order."""
    world, room, username = inside
    anna = Occupant(room, "xmpp-1", f"{username}@{MEET}/res", at(world))
    world.clock.forward(minutes=3)
    await world.services.admission.roll_called("e1", 1, [anna])
    rolled = at(world)
    world.clock.forward(hours=2)
    await world.services.admission.roll_called("e2", 0, [])  # the host was started again
    assert (lines(world)[0]["left_at"], lines(world)[0]["exact"]) == (rolled, False)


async def test_event_of_another_is_a_proof_of_presence(inside):
    world, room, _ = inside
    world.clock.forward(minutes=3)
    bertil = await world.inside(world.link(BERTIL[1]), "xmpp-2", "b", BERTILS_MOBILE)
    world.clock.forward(minutes=1)
    await world.services.admission.left(world.event(room, bertil, "xmpp-2"))
    told = at(world)
    world.clock.forward(hours=1)
    await world.services.admission.roll_called("e2", 0, [])
    assert [(line["left_at"], line["exact"]) for line in lines(world)] == [(told, False), (told, True)]


@pytest.mark.parametrize("later", [False, True])
async def test_who_was_let_in_just_before_prosody_stopped_is_not_forgotten(inside, later):
    """Prosody took what it had not yet told with it. Somebody let in long before would have been told of."""
    world, room, _ = inside
    for session, minutes in (("xmpp-2", 1), ("xmpp-3", 0)):
        ticket = await world.ticket(world.link(BERTIL[1]), "b", BERTILS_MOBILE)
        who = await world.authenticate(ticket.token, room, session)
        if later:
            world.clock.forward(minutes=10)
            assert (await world.admit(room, who.username, session)).allow
        admitted = at(world)
        world.clock.forward(minutes=minutes)
        await world.services.admission.roll_called("e1", 1, [Occupant(room, "xmpp-1", "x@y/z", at(world))])
    assert len(lines(world)) == 1  # Prosody is up: they did not come, or it will be told
    world.clock.forward(minutes=5)
    await world.services.admission.roll_called("e2", 0, [])
    assert lines(world)[1:] == [{"gate_session": "xmpp-3", "entered_at": admitted, "left_at": admitted, "exact": False}]


async def test_roll_that_an_event_overtook_puts_nobody_outside(inside):
    world, room, username = inside
    world._seq = 8
    await world.inside(world.link(BERTIL[1]), "xmpp-2", "b", BERTILS_MOBILE)  # event 9
    anna = Occupant(room, "xmpp-1", f"{username}@{MEET}/res", at(world))
    await world.services.admission.roll_called("e1", 8, [anna])
    assert [line["left_at"] for line in lines(world)] == [None, None]


async def test_old_event_does_not_set_the_last_proof_back(inside):
    world, room, username = inside
    early = world.event(room, "p-stranger", "xmpp-9")
    world.clock.forward(minutes=3)
    anna = Occupant(room, "xmpp-1", f"{username}@{MEET}/res", at(world))
    await world.services.admission.roll_called("e1", early.seq, [anna])
    rolled = at(world)
    await world.services.admission.left(early)
    await world.services.admission.roll_called("e2", 0, [])
    assert lines(world)[0]["left_at"] == rolled


async def test_grace_after_a_lost_connection_begins_when_it_was_noticed(inside):
    """A restart of the server takes time, and is not the participant's doing."""
    world, *_ = inside
    world.clock.forward(minutes=10)
    await world.services.admission.roll_called("e2", 0, [])
    world.clock.forward(seconds=119)
    await world.services.tickets.for_participant(world.link(), BROWSER)
    world.clock.forward(seconds=1)
    with pytest.raises(NotVerified):
        await world.services.tickets.for_participant(world.link(), BROWSER)


async def test_exact_time_replaces_a_guessed_one_and_is_not_replaced(inside):
    world, room, username = inside
    left = replace(world.event(room, username), at=at(world) + 20)
    world.clock.forward(minutes=3)
    await world.services.admission.roll_called("e1", left.seq, [])
    await world.services.admission.left(left)
    assert (lines(world)[0]["left_at"], lines(world)[0]["exact"]) == (left.at, True)
    await world.services.admission.roll_called("e1", left.seq, [])
    assert (lines(world)[0]["left_at"], lines(world)[0]["exact"]) == (left.at, True)


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
    assert world.sql("SELECT epoch FROM attendance") == [{"epoch": "e1"}]  # by which its end is known, if nobody tells
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


async def test_clock_set_back_to_before_the_meeting_puts_nobody_out(inside):
    world, *_ = inside
    world.clock.set(hours=-1)
    await world.housekeeping.tick()
    assert (world.door.ended, world.door.expelled) == ([], [])


async def test_empty_room_is_not_ended(inside):
    world, room, username = inside
    await world.services.admission.left(world.event(room, username))
    world.clock.forward(days=1)
    await world.housekeeping.tick()
    assert world.door.ended == []


async def test_housekeeping_forgets_codes_limits_sessions_and_sent_messages_in_time(inside):
    world, _, _ = inside
    for purpose in Purpose:  # one that is expected, and one for nobody
        await world.services.participation.send_code(new_link(), BROWSER, purpose, "sv", "192.0.2.7")
    await world.worker.deliver_due()
    counts = {
        "SELECT count(*) AS n FROM challenges": 0.1,  # hours
        "SELECT count(*) AS n FROM limits": 2,
        "SELECT count(*) AS n FROM sessions": 13,
        "SELECT count(*) AS n FROM outbox": 31 * 24,
    }
    began = world.clock.now
    for query, hours in counts.items():
        assert world.sql(query)[0]["n"] > 0
        world.clock.now = began
        world.clock.forward(hours=hours)
        await world.housekeeping.tick()
        assert world.sql(query)[0]["n"] == 0, query


async def test_times_and_origins_are_sealed_at_rest_each_in_its_own_row(inside):
    world, room, username = inside
    await world.inside(world.link(BERTIL[1]), "xmpp-2", "b", BERTILS_MOBILE)
    world.clock.forward(minutes=7)
    await world.services.admission.left(world.event(room, username))
    for row in world.sql("SELECT * FROM attendance"):
        assert {name for name, value in row.items() if not isinstance(value, bytes)} == {
            *("gate_session", "invitation_id", "epoch", "open")
        }
    content = b"".join(path.read_bytes() for path in world.database.parent.iterdir())
    for shown in ("entered_at", "192.0.2.", f"{username}@", ANNA[0]):
        assert shown.encode() not in content, shown
    world.sql("UPDATE attendance SET record = (SELECT record FROM attendance WHERE gate_session = 'xmpp-2')")
    with pytest.raises(SealBrokenError):
        await world.services.admission.left(world.event(room, username))
