"""Why somebody is not inside: told to the browser that had a ticket, and to nobody else."""

import pytest
from tests.unit.world import ANNA, BROWSER, MEET, OTHER_BROWSER, World

from sluss.domain.errors import NotVerified, SignInRequired
from sluss.domain.gate import Occupant, Refusal


@pytest.fixture
async def given(world) -> World:
    """Anna has a ticket in her browser, and has not used it."""
    world.who, world.signed = await world.signed_in()
    world.held = await world.meeting(world.who, ANNA)
    world.anna = world.link()
    world.given = await world.ticket(world.anna)
    return world


async def why(world: World, browser: str = BROWSER) -> Refusal:
    return await world.services.outside.participant(world.anna, browser)


async def use(world: World, session: str = "xmpp-1") -> str:
    verdict = await world.authenticate(world.given.token, world.given.room, session)
    assert verdict.allow
    return verdict.username


async def test_nobody_but_the_browser_that_had_a_ticket_is_told(given):
    for link, browser in ((given.anna, OTHER_BROWSER), ("wrong", BROWSER), ("wrong", OTHER_BROWSER)):
        with pytest.raises(NotVerified):
            await given.services.outside.participant(link, browser)
    with pytest.raises(SignInRequired):
        await given.services.outside.organiser(BROWSER, given.held.id)
    with pytest.raises(NotVerified):  # signed in, without a ticket
        await given.services.outside.organiser(given.signed, given.held.id)


async def test_meeting_that_was_ended_or_is_over_is_not_open(given):
    given.clock.forward(hours=3)
    assert await why(given) is Refusal.NOT_OPEN
    given.clock.forward(hours=-3)
    await given.services.meetings.end(given.who, given.held.id)
    assert await why(given) is Refusal.NOT_OPEN


async def test_who_was_put_out_is_no_longer_known(given):
    await use(given)
    [invitation] = given.sql("SELECT id FROM invitations WHERE role = 'participant'")
    await given.services.meetings.put_out(given.who, invitation["id"])
    with pytest.raises(NotVerified):
        await why(given)


async def test_ticket_that_nothing_speaks_against_was_not_asked_about(given):
    assert await why(given) is Refusal.UNAVAILABLE
    await use(given)
    assert await why(given) is Refusal.USED
    given.door.connected = False
    assert await why(given) is Refusal.UNAVAILABLE


async def test_ticket_that_nobody_used_in_time_is_too_old(given):
    given.clock.forward(seconds=61)
    assert await why(given) is Refusal.EXPIRED


async def test_too_many_devices_are_named_as_that(given):
    for n, browser in enumerate(("browser-c", "browser-d")):
        given.given = await given.ticket(given.anna, browser)
        username = await use(given, f"xmpp-{n}")
        assert (await given.admit(given.given.room, username, f"xmpp-{n}")).allow
        await given.services.admission.entered(given.event(given.given.room, username, f"xmpp-{n}"))
    assert await why(given) is Refusal.DEVICES
    assert await why(given, "browser-c") is Refusal.USED


async def test_the_organiser_is_told_the_same_of_an_own_meeting(given):
    given.clock.forward(seconds=30)
    code = given.totp.at(given.clock.now)
    await given.services.tickets.verify_organiser(given.signed, given.held.id, code, "192.0.2.1")
    await given.services.tickets.for_organiser(given.signed, given.held.id)
    assert await given.services.outside.organiser(given.signed, given.held.id) is Refusal.UNAVAILABLE


async def test_who_is_inside_stays_when_the_ticket_is_over_which_opens_nothing_more(given):
    """By design: a ticket's minute bounds the entering. A stay ends by leaving, being put out, or the meeting's end."""
    username = await use(given)
    assert (await given.admit(given.given.room, username)).allow
    await given.services.admission.entered(given.event(given.given.room, username))
    given.clock.forward(minutes=30)
    inside = Occupant(given.given.room, "xmpp-1", f"{username}@{MEET}/res", int(given.clock.now.timestamp()))
    await given.services.admission.roll_called("e1", 1, [inside])
    await given.services.admission.close_overdue()
    assert given.door.expelled == []
    assert given.door.ended == []
    assert (await given.authenticate(given.given.token, given.given.room, "xmpp-2")).reason is Refusal.EXPIRED
    given.clock.forward(hours=2)
    await given.services.admission.close_overdue()
    assert given.door.ended == [given.given.room]
