"""The waiting room, one person on several devices, and people of one name: what a sensitivity class says of them."""

from datetime import timedelta

import pytest
from tests.unit.world import ANNA, BROWSER, OTHER_BROWSER, World

from sluss.domain.assurance import Purpose
from sluss.domain.drafts import participant
from sluss.domain.errors import InvalidInput, NotOpen, NotVerified, Waiting
from sluss.domain.gate import Refusal
from sluss.policy_file import default_policy

BERTIL = ("Bertil Berg", "bertil@example.org", "070-174 06 06")
BERTILS_MOBILE = "+46701740606"


def test_classes_wait_and_count_devices_as_they_say():
    classes = default_policy().classes.values()
    assert {c.name: (c.waiting_room, c.waiting_shows_verified, c.devices) for c in classes} == {
        "internal": (False, True, 2),
        "confidential": (True, True, 1),
        "secret": (True, False, 1),
    }


async def made(world: World, *people) -> World:
    world.who, world.signed = await world.signed_in()
    world.held = await world.meeting(world.who, *people)
    return world


@pytest.fixture
async def waiting(world):
    """Anna has verified for a meeting that waits for its organiser."""
    world.change_class(waiting_room=True, devices=1)
    await made(world, ANNA, BERTIL)
    for purpose in Purpose:
        await world.verified(world.link(), purpose)
    return world


async def ticket(world, link=None, browser=BROWSER):
    return await world.services.tickets.for_participant(link or world.link(), browser)


async def organiser_comes(world, session="xmpp-o") -> str:
    world.clock.forward(seconds=30)
    code = world.totp.at(world.clock.now)
    await world.services.tickets.verify_organiser(world.signed, world.held.id, code, "192.0.2.1")
    got = await world.services.tickets.for_organiser(world.signed, world.held.id)
    who = await world.authenticate(got.token, got.room, session)
    assert (await world.admit(got.room, who.username, session)).allow
    await world.services.admission.entered(world.event(got.room, who.username, session))
    return who.username


async def who_waits(world) -> list[str]:
    return [person.name for person in (await world.services.meetings.view(world.who, world.held.id)).waiting]


async def test_nobody_gets_a_ticket_before_the_organiser_is_inside(waiting):
    with pytest.raises(Waiting):
        await ticket(waiting)
    assert waiting.sql("SELECT * FROM tickets") == []
    organiser = await organiser_comes(waiting)
    assert (await ticket(waiting)).room == waiting.held.room
    await waiting.services.admission.left(waiting.event(waiting.held.room, organiser, "xmpp-o"))
    with pytest.raises(Waiting):
        await ticket(waiting)


async def test_who_has_not_verified_is_not_told_that_there_is_a_waiting_room(waiting):
    with pytest.raises(NotVerified):
        await ticket(waiting, browser=OTHER_BROWSER)


async def test_class_without_waiting_room_does_not_wait(waiting):
    waiting.change_class(waiting_room=False)
    assert await ticket(waiting)


async def test_ticket_given_while_the_organiser_was_inside_is_good_at_the_door(waiting):
    organiser = await organiser_comes(waiting)
    got = await ticket(waiting)
    await waiting.services.admission.left(waiting.event(waiting.held.room, organiser, "xmpp-o"))
    assert (await waiting.authenticate(got.token, got.room)).allow


async def test_waiting_keeps_the_verification_for_as_long_as_the_page_asks(waiting):
    for _ in range(20):
        waiting.clock.forward(seconds=59)
        with pytest.raises(Waiting):
            await ticket(waiting)
    await organiser_comes(waiting)
    assert await ticket(waiting)


async def test_who_stops_asking_for_a_minute_verifies_again(waiting):
    waiting.clock.forward(minutes=4)
    with pytest.raises(Waiting):
        await ticket(waiting)
    waiting.clock.forward(seconds=60)
    with pytest.raises(NotVerified):
        await ticket(waiting)
    await organiser_comes(waiting)
    with pytest.raises(NotVerified):
        await ticket(waiting)


async def test_waiting_ends_with_the_meeting(waiting):
    waiting.clock.now = waiting.held.closes_at - timedelta(seconds=32)
    await waiting.verified(waiting.link(), Purpose.JOIN)
    with pytest.raises(Waiting):
        await ticket(waiting)
    waiting.clock.forward(seconds=1)
    with pytest.raises(NotOpen):
        await ticket(waiting)


async def test_organiser_sees_who_waits_until_they_are_in_or_gone(waiting):
    assert await who_waits(waiting) == []
    with pytest.raises(Waiting):
        await ticket(waiting)
    assert await who_waits(waiting) == [ANNA[0]]
    waiting.clock.forward(seconds=15)
    assert await who_waits(waiting) == []
    with pytest.raises(Waiting):
        await ticket(waiting)
    await organiser_comes(waiting)
    assert await who_waits(waiting) == []


async def test_who_was_withdrawn_waits_no_more(waiting):
    with pytest.raises(Waiting):
        await ticket(waiting)
    anna, _ = (await waiting.services.meetings.view(waiting.who, waiting.held.id)).participants
    await waiting.services.meetings.withdraw(waiting.who, anna.invitation.id)
    assert await who_waits(waiting) == []


async def test_who_is_inside_waits_no_more(waiting):
    with pytest.raises(Waiting):
        await ticket(waiting)
    waiting.clock.forward(seconds=-30)
    await organiser_comes(waiting)
    got = await ticket(waiting)
    who = await waiting.authenticate(got.token, got.room)
    await waiting.services.admission.entered(waiting.event(got.room, who.username))
    assert await who_waits(waiting) == []


@pytest.mark.parametrize("shown", [True, False])
async def test_who_waits_sees_the_others_only_if_the_class_shows_them(waiting, shown):
    waiting.change_class(waiting_room=True, waiting_shows_verified=shown)
    for purpose in Purpose:
        await waiting.verified(waiting.link(BERTIL[1]), purpose, "b", BERTILS_MOBILE)
    with pytest.raises(Waiting) as anna:
        await ticket(waiting)
    assert anna.value.others == ()
    with pytest.raises(Waiting) as bertil:
        await ticket(waiting, waiting.link(BERTIL[1]), "b")
    assert [one.name for one in bertil.value.others] == ([ANNA[0]] if shown else [])


async def test_who_waits_is_not_told_who_is_inside(waiting):
    with pytest.raises(Waiting):
        await waiting.services.admission.here_for_participant(waiting.link(), BROWSER)
    await organiser_comes(waiting)
    _, (organiser,) = await waiting.services.admission.here_for_participant(waiting.link(), BROWSER)
    assert organiser.role == "organiser"


# Devices


async def comes_in(world, session, browser) -> Refusal | None:
    """Anna with a ticket in this browser, to the door and through it. The refusal, if any."""
    got = await world.ticket(world.link(), browser)
    who = await world.authenticate(got.token, got.room, session)
    if who.allow:
        assert (await world.admit(got.room, who.username, session)).allow
        await world.services.admission.entered(world.event(got.room, who.username, session))
    return who.reason


async def devices(world) -> list[int]:
    return [person.devices for person in (await world.services.meetings.view(world.who, world.held.id)).here]


@pytest.mark.parametrize("allowed", [1, 2])
async def test_one_device_more_than_the_class_allows_is_refused_with_its_own_reason(world, allowed):
    world.change_class(devices=allowed)
    await made(world)
    for n in range(allowed):
        assert await comes_in(world, f"xmpp-{n}", f"browser {n}") is None
    assert await devices(world) == [allowed]  # one person
    assert await comes_in(world, "xmpp-9", "browser 9") is Refusal.DEVICES
    used = world.sql("SELECT username FROM invitations WHERE role = 'participant'")[0]["username"]
    await world.services.admission.left(world.event(world.held.room, used, "xmpp-0"))
    assert await comes_in(world, "xmpp-10", "browser 10") is None


async def test_dropped_connection_that_nobody_has_noticed_is_replaced(world):
    world.change_class(devices=1)
    await made(world)
    assert await comes_in(world, "xmpp-1", BROWSER) is None
    world.clock.forward(minutes=40)
    again = await ticket(world)  # a reload: no new verification
    who = await world.authenticate(again.token, again.room, "xmpp-2")
    assert (await world.admit(again.room, who.username, "xmpp-2")).allow
    await world.services.admission.entered(world.event(again.room, who.username, "xmpp-2"))
    assert await devices(world) == [1]


async def test_two_devices_on_their_way_in_at_once_are_two(world):
    world.change_class(devices=1)
    await made(world)
    one = await world.ticket(world.link())
    assert (await world.authenticate(one.token, one.room)).allow  # not inside yet
    other = await world.ticket(world.link(), OTHER_BROWSER)
    assert (await world.authenticate(other.token, other.room, "xmpp-2")).reason is None
    # The first one took its time: half a minute, for two verifications.
    assert (await world.admit(other.room, (await user(world)), "xmpp-2")).allow
    await world.services.admission.entered(world.event(other.room, await user(world), "xmpp-2"))
    assert (await world.admit(one.room, await user(world))).reason is Refusal.DEVICES


async def test_ticket_used_a_moment_ago_counts_as_a_device(world):
    world.change_class(devices=1)
    await made(world)
    await world.ticket(world.link())
    other = await world.ticket(world.link(), OTHER_BROWSER)
    one = await ticket(world)
    assert (await world.authenticate(one.token, one.room)).allow
    assert (await world.authenticate(other.token, other.room, "xmpp-2")).reason is Refusal.DEVICES


async def user(world) -> str:
    return world.sql("SELECT username FROM invitations WHERE role = 'participant'")[0]["username"]


# Names


async def test_label_is_behind_the_name_at_the_gate_in_the_ticket_and_for_the_organiser(world):
    namesake = (ANNA[0], "anna2@example.org", "070-174 06 06", "Ekonomi")
    await made(world, ANNA, namesake)
    link = world.link(namesake[1])
    got = await world.ticket(link, to=BERTILS_MOBILE)
    who = await world.authenticate(got.token, got.room)
    assert who.name == "Anna Lindberg (Ekonomi)"
    assert (await world.admit(got.room, who.username)).name == "Anna Lindberg (Ekonomi)"
    await world.services.admission.entered(world.event(got.room, who.username))
    view = await world.services.meetings.view(world.who, world.held.id)
    assert [person.name for person in view.here] == ["Anna Lindberg (Ekonomi)"]
    assert [s.invitation.shown_name for s in view.participants] == ["Anna Lindberg", "Anna Lindberg (Ekonomi)"]
    assert b"Ekonomi" not in world.database.read_bytes()


NAMESAKE = ("anna2@example.org", "070-174 06 06")
ORGANISER, OF_ANNA = "Eva Ek", ANNA[0]


@pytest.mark.parametrize(
    ("one", "other", "where"),
    [
        ((OF_ANNA, ""), (OF_ANNA, ""), "label-1"),
        ((OF_ANNA, ""), ("anna  LINDBERG ", ""), "label-1"),
        ((OF_ANNA, ""), ("Ａnna Lindberg", ""), "label-1"),
        ((OF_ANNA, "Ekonomi"), (OF_ANNA, " ekonomi"), "label-1"),
        ((OF_ANNA, "Ekonomi"), ("Anna Lindberg (Ekonomi)", ""), "label-1"),
        ((ORGANISER, ""), (OF_ANNA, ""), "label-0"),
        ((OF_ANNA, ""), ("eva  EK", ""), "label-1"),
    ],
)
async def test_nobody_is_shown_under_the_name_of_another_or_of_the_organiser(world, one, other, where):
    world.who, _ = await world.signed_in()
    first, second = (one[0], *ANNA[1:], one[1]), (other[0], *NAMESAKE, other[1])
    with pytest.raises(InvalidInput) as refused:
        await world.meeting(world.who, first, second)
    assert refused.value.field == where
    assert world.mail.sent == []
    later, before = (second, [first]) if where == "label-1" else (first, [])
    await made_with(world, *before)
    with pytest.raises(InvalidInput) as refused:
        await world.services.meetings.invite(
            world.who, world.held.id, participant(*later, region="SE", today=world.clock.now.date())
        )
    assert refused.value.field == "label"


async def made_with(world, *people) -> None:
    world.held = await world.meeting(world.who, *(people or [BERTIL]))


async def test_label_tells_from_another_and_from_the_organiser(world):
    world.who, _ = await world.signed_in()
    await made_with(world, ANNA, (OF_ANNA, *NAMESAKE, "Ekonomi"), (ORGANISER, "eva2@example.org", ANNA[2], "Ombud"))
    ek = participant(ORGANISER, "eva3@example.org", ANNA[2], "Ekonomi", region="SE", today=world.clock.now.date())
    await world.services.meetings.invite(world.who, world.held.id, ek)
    view = await world.services.meetings.view(world.who, world.held.id)
    assert [p.invitation.shown_name for p in view.participants][2:] == ["Eva Ek (Ombud)", "Eva Ek (Ekonomi)"]


async def test_namesake_is_invited_with_a_label_and_after_the_other_was_withdrawn_without(world):
    await made(world)
    invite = world.services.meetings.invite
    plain = participant(ANNA[0].upper(), "anna2@example.org", ANNA[2], region="SE", today=world.clock.now.date())
    with pytest.raises(InvalidInput) as refused:
        await invite(world.who, world.held.id, plain)
    assert refused.value.field == "label"
    labelled = participant(ANNA[0], "anna3@example.org", ANNA[2], "Ekonomi", region="SE", today=world.clock.now.date())
    await invite(world.who, world.held.id, labelled)
    anna = (await world.services.meetings.view(world.who, world.held.id)).participants[0]
    await world.services.meetings.withdraw(world.who, anna.invitation.id)
    await invite(world.who, world.held.id, plain)
