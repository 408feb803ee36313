"""A clock that is wrong: nobody gets more than their due by it, and once it is right nobody has to do anything."""

import pytest
from tests.unit.test_attendance import lines
from tests.unit.world import ANNA, BROWSER, DOWN, OTHER_BROWSER

from sluss.domain.assurance import Purpose
from sluss.domain.errors import NotVerified, SignInRequired
from sluss.domain.gate import Occupant, Refusal
from sluss.services.common import new_link

TOLD = "192.0.2.7"


@pytest.fixture
async def open_meeting(world):
    """A meeting that is open now and an hour before and after."""
    organiser = await world.organiser()
    return await world.meeting(organiser, ANNA, starts_in=0)


async def code_typed(world, purpose, browser=BROWSER):
    await world.services.participation.verify(world.link(), browser, purpose, world.code(), TOLD)


async def test_verification_made_by_a_fast_clock_is_no_longer_valid_when_the_clock_is_set_right(world, open_meeting):
    await world.verified(world.link(), Purpose.VIEW)
    world.clock.forward(minutes=30)
    await world.verified(world.link(), Purpose.JOIN)
    world.clock.forward(minutes=-30)
    with pytest.raises(NotVerified):
        await world.services.tickets.for_participant(world.link(), BROWSER)
    await world.verified(world.link(), Purpose.JOIN)
    assert (await world.services.tickets.for_participant(world.link(), BROWSER)).token


async def test_code_sent_by_a_fast_clock_is_refused_and_the_next_one_works(world, open_meeting):
    world.clock.forward(hours=1)
    await world.services.participation.send_code(world.link(), BROWSER, Purpose.VIEW, "sv", TOLD)
    await world.worker.deliver_due()
    world.clock.forward(hours=-1)
    with pytest.raises(NotVerified):
        await code_typed(world, Purpose.VIEW)
    await world.verified(world.link(), Purpose.VIEW)


@pytest.mark.parametrize("jump", [-1, 1])
async def test_ticket_from_before_the_jump_is_refused_and_the_next_one_opens(world, open_meeting, jump):
    world.clock.forward(minutes=25)
    ticket = await world.ticket(world.link())
    world.clock.forward(hours=jump * 0.4)
    verdict = await world.authenticate(ticket.token, ticket.room)
    assert (verdict.allow, verdict.reason) == (False, Refusal.EXPIRED)
    again = await world.ticket(world.link())
    assert (await world.authenticate(again.token, again.room)).allow


async def test_grace_is_not_lengthened_by_a_clock_set_back(world, open_meeting):
    world.clock.forward(minutes=25)
    username = await world.inside(world.link())
    await world.services.admission.left(world.event(open_meeting.room, username))
    world.clock.forward(minutes=-20)
    with pytest.raises(NotVerified):
        await world.services.tickets.for_participant(world.link(), BROWSER)


async def test_session_from_the_future_is_none(world):
    world.clock.forward(hours=1)
    _, session = await world.signed_in()
    world.clock.forward(hours=-1)
    with pytest.raises(SignInRequired):
        await world.services.organisers.current(session)


async def test_authenticator_works_again_when_the_clock_is_set_right(world):
    organiser = await world.organiser()
    meeting = await world.meeting(organiser, ANNA, starts_in=60)

    async def prove() -> None:
        session = new_link()
        hashed = world.ground.session_hash(session)
        await world.store.run(lambda tx: tx.sessions.put(hashed, organiser.id, complete=True, now=world.clock.now))
        await world.services.tickets.verify_organiser(session, meeting.id, world.totp.at(world.clock.now), TOLD)

    world.clock.forward(hours=1)
    await prove()
    world.clock.forward(hours=-1)
    await prove()
    with pytest.raises(NotVerified):
        await prove()


async def test_person_can_ask_for_a_code_when_the_clock_is_set_right(world, open_meeting):
    world.clock.forward(hours=1)
    await world.services.participation.send_code(world.link(), OTHER_BROWSER, Purpose.VIEW, "sv", TOLD)
    world.clock.forward(hours=-1)
    await world.verified(world.link(), Purpose.VIEW)


async def test_nobody_leaves_before_they_came_and_it_is_said_that_the_end_is_not_known(world, open_meeting):
    username = await world.inside(world.link())
    came = int(world.clock.now.timestamp())
    world.clock.set(minutes=-10)
    world.clock.forward(minutes=2)
    await world.services.admission.left(world.event(open_meeting.room, username))
    (line,) = lines(world)
    assert (line["entered_at"], line["left_at"], line["exact"]) == (came, came, False)


async def test_stay_that_nobody_saw_the_end_of_does_not_end_in_the_future(world, open_meeting):
    """The roll was called by a fast clock; then the clock was set right, and Prosody stopped."""
    username = await world.inside(world.link())
    anna = Occupant(open_meeting.room, "xmpp-1", f"{username}@x/y", int(world.clock.now.timestamp()))
    world.clock.set(minutes=50)
    await world.services.admission.roll_called("e1", 9, [anna])
    world.clock.set(minutes=-50)
    world.clock.forward(minutes=5)
    await world.services.admission.roll_called("e2", 0, [])
    (line,) = lines(world)
    assert (line["left_at"], line["exact"]) == (int(world.clock.now.timestamp()), False)


async def test_last_proof_of_presence_is_by_the_clock_as_it_was_set(world, open_meeting):
    username = await world.inside(world.link())
    anna = Occupant(open_meeting.room, "xmpp-1", f"{username}@x/y", int(world.clock.now.timestamp()))
    world.clock.set(minutes=50)
    await world.services.admission.roll_called("e1", 9, [anna])
    world.clock.set(minutes=-50)
    world.clock.forward(minutes=1)
    seen = int(world.clock.now.timestamp())
    await world.services.admission.roll_called("e1", 9, [anna])
    world.clock.forward(minutes=5)
    await world.services.admission.roll_called("e2", 0, [])
    assert lines(world)[0]["left_at"] == seen


async def test_message_queued_or_failed_by_a_fast_clock_is_sent_when_it_is_set_right(world):
    organiser = await world.organiser()
    world.clock.set(hours=1)
    world.mail.down = DOWN
    await world.meeting(organiser, ANNA)
    world.mail.down = None
    world.clock.set(hours=-1)
    await world.worker.deliver_due()
    assert [to for to, _ in world.mail.sent] == [ANNA[1]]
