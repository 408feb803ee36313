"""A personal link alone: it opens nothing, confirms nothing, and a dead one cannot be told from one that never was."""

from contextlib import suppress

import pytest
from sqlalchemy import event
from tests.unit.world import ANNA, BROWSER, MOBILE, OTHER_BROWSER, World

from sluss.domain.assurance import Purpose
from sluss.domain.drafts import participant
from sluss.domain.errors import DeliveryFailed, InvalidInput, NotFound, NotVerified, TooManyTries
from sluss.domain.meetings import Answer, Delivery, InvitationState
from sluss.factors import sms
from sluss.services.common import new_link

BERTIL = ("Bertil Berg", "bertil@example.org", "070-174 06 06")
TOLD = "192.0.2.7"
COUNTS = (
    "SELECT count(*) AS n FROM challenges",
    "SELECT count(*) AS n FROM limits WHERE what = 'codes-link'",
    "SELECT count(*) AS n FROM outbox",
)


async def statuses(world, organiser, meeting):
    return (await world.services.meetings.view(organiser, meeting.id)).participants


async def wrong(world: World, organiser, meeting) -> str:
    return new_link()


async def withdrawn(world: World, organiser, meeting) -> str:
    link = world.link()
    (anna,) = await statuses(world, organiser, meeting)
    await world.services.meetings.withdraw(organiser, anna.invitation.id)
    return link


async def put_out(world: World, organiser, meeting) -> str:
    link = world.link()
    (anna,) = await statuses(world, organiser, meeting)
    await world.services.meetings.put_out(organiser, anna.invitation.id)
    return link


async def not_me(world: World, organiser, meeting) -> str:
    link = world.link()
    await world.services.participation.not_me(link, TOLD)
    await world.worker.deliver_due()
    return link


async def replaced(world: World, organiser, meeting) -> str:
    link = world.link()
    (anna,) = await statuses(world, organiser, meeting)
    await world.services.meetings.resend(organiser, anna.invitation.id)
    await world.worker.deliver_due()
    assert world.link() != link
    return link


async def of_a_class_that_no_sms_opens(world: World, organiser, meeting) -> str:
    world.sql("UPDATE meetings SET sensitivity = 'secret'")
    return world.link()


DEAD = [wrong, withdrawn, put_out, not_me, replaced, of_a_class_that_no_sms_opens]


@pytest.fixture
async def here(world):
    organiser, _ = await world.signed_in()
    return world, organiser, await world.meeting(organiser)


def counts(world: World) -> list[int]:
    return [world.sql(query)[0]["n"] for query in COUNTS]


async def test_link_alone_shows_nothing(here):
    world, _, _ = here
    link, p = world.link(), world.services.participation
    assert await p.look(link, BROWSER) is None
    with pytest.raises(NotVerified):
        await p.answer(link, BROWSER, Answer.ACCEPTED)
    with pytest.raises(NotVerified):
        await world.services.tickets.for_participant(link, BROWSER)
    with pytest.raises(NotVerified):
        await world.services.admission.here_for_participant(link, BROWSER)


async def test_verification_shows_the_invitation_in_that_browser_alone(here):
    world, _, _ = here
    link, p = world.link(), world.services.participation
    await world.verified(link, Purpose.VIEW)
    assert (await p.look(link, BROWSER)).meeting.title == "Budget"
    assert await p.look(link, OTHER_BROWSER) is None
    world.clock.forward(hours=12)
    assert await p.look(link, BROWSER) is None


async def test_verification_for_one_link_shows_no_other(world):
    organiser, _ = await world.signed_in()
    await world.meeting(organiser, ANNA, BERTIL)
    await world.verified(world.link(), Purpose.VIEW)
    assert await world.services.participation.look(world.link(BERTIL[1]), BROWSER) is None


async def test_opening_a_link_sends_nothing_and_uses_nothing_up(here):
    world, _, _ = here
    link, before = world.link(), counts(world)
    for _ in range(20):
        assert await world.services.participation.look(link, "mail scanner") is None
    assert (counts(world), world.sms.sent) == (before, [])
    await world.verified(link, Purpose.VIEW)
    assert await world.services.participation.look(link, BROWSER)


@pytest.mark.parametrize("dead", DEAD)
async def test_dead_link_looks_like_a_wrong_one_and_like_a_live_one(here, dead, monkeypatch):
    world, organiser, meeting = here
    link, p = await dead(world, organiser, meeting), world.services.participation
    monkeypatch.setattr(sms, "new_code", lambda: "123456")
    before = counts(world)
    world.clock.forward(seconds=1)

    assert await p.look(link, BROWSER) is None
    await p.send_code(link, BROWSER, Purpose.VIEW, "sv", TOLD)
    assert counts(world) == [n + 1 for n in before]
    row = world.sql("SELECT due_at, sent_at, error, attempts, length(message) > 0 AS has FROM outbox")[-1]
    assert row == {"due_at": row["due_at"], "sent_at": None, "error": None, "attempts": 0, "has": 1}
    with pytest.raises(TooManyTries) as soon:
        await p.send_code(link, BROWSER, Purpose.VIEW, "sv", TOLD)
    assert soon.value.retry_after == 30
    await world.worker.deliver_due()
    assert world.sms.sent == []  # nobody's phone rings

    refusals = []
    for code in ("000000", "123456"):
        with pytest.raises(NotVerified) as refused:
            await p.verify(link, BROWSER, Purpose.VIEW, code, TOLD)
        refusals.append(refused.value.public)
    assert refusals == [NotVerified.public] * 2  # even what would have been the right code
    assert await p.look(link, BROWSER) is None
    with pytest.raises(NotVerified):
        await p.answer(link, BROWSER, Answer.DECLINED)
    with pytest.raises(NotVerified):
        await world.services.tickets.for_participant(link, BROWSER)
    await p.not_me(link, TOLD)


@pytest.mark.parametrize("dead", [wrong, withdrawn])
async def test_database_is_asked_the_same_of_a_dead_link_as_of_a_live_one(here, dead):
    world, organiser, meeting = here
    dead_link = await dead(world, organiser, meeting)
    await world.meeting(organiser)
    links = [dead_link, world.link()]
    asked: list[str] = []
    event.listen(
        world.store.engine, "before_cursor_execute", lambda _c, _cursor, statement, *_: asked.append(statement)
    )
    p, t = world.services.participation, world.services.tickets
    for verb in (
        lambda link: p.look(link, BROWSER),
        lambda link: t.for_participant(link, BROWSER),
        lambda link: world.services.admission.here_for_participant(link, BROWSER),
        lambda link: p.send_code(link, BROWSER, Purpose.VIEW, "sv", TOLD),
        lambda link: p.verify(link, BROWSER, Purpose.VIEW, "000000", TOLD),
    ):
        seen = []
        for link in links:
            asked.clear()
            with suppress(NotVerified):
                await verb(link)
            seen.append(list(asked))
        assert seen[0] == seen[1]
        assert seen[0]


@pytest.mark.parametrize("starts_in", [10, 600])
async def test_ticket_is_refused_alike_whether_link_is_wrong_or_live_and_meeting_open_or_not(world, starts_in):
    organiser, _ = await world.signed_in()
    await world.meeting(organiser, starts_in=starts_in)
    for link in (world.link(), new_link()):
        with pytest.raises(NotVerified):
            await world.services.tickets.for_participant(link, BROWSER)


@pytest.mark.parametrize("dead", DEAD[1:])
async def test_link_that_dies_takes_what_was_verified_with_it(here, dead):
    world, organiser, meeting = here
    link = world.link()
    await world.ticket(link)
    assert await world.services.participation.look(link, BROWSER)
    await dead(world, organiser, meeting)
    assert await world.services.participation.look(link, BROWSER) is None
    with pytest.raises(NotVerified):
        await world.services.participation.answer(link, BROWSER, Answer.ACCEPTED)
    with pytest.raises(NotVerified):
        await world.services.tickets.for_participant(link, BROWSER)
    with pytest.raises(NotVerified):
        await world.services.admission.here_for_participant(link, BROWSER)


async def test_new_link_needs_a_new_verification(here):
    world, organiser, meeting = here
    await world.verified(world.link(), Purpose.VIEW)
    await replaced(world, organiser, meeting)
    assert await world.services.participation.look(world.link(), BROWSER) is None
    await world.verified(world.link(), Purpose.VIEW)
    assert await world.services.participation.look(world.link(), BROWSER)


async def test_code_sent_before_the_withdrawal_verifies_nobody_after_it(here):
    world, organiser, meeting = here
    link = world.link()
    await world.services.participation.send_code(link, BROWSER, Purpose.VIEW, "sv", TOLD)
    await world.worker.deliver_due()
    await withdrawn(world, organiser, meeting)
    with pytest.raises(NotVerified):
        await world.services.participation.verify(link, BROWSER, Purpose.VIEW, world.code(), TOLD)


async def test_code_waiting_to_be_sent_is_not_sent_after_a_withdrawal(here):
    world, organiser, meeting = here
    await world.services.participation.send_code(world.link(), BROWSER, Purpose.VIEW, "sv", TOLD)
    await withdrawn(world, organiser, meeting)
    await world.worker.deliver_due()
    assert world.sms.sent == []


async def test_withdrawn_invitation_cannot_be_sent_again(here):
    world, organiser, meeting = here
    (anna,) = await statuses(world, organiser, meeting)
    await world.services.meetings.withdraw(organiser, anna.invitation.id)
    with pytest.raises(NotFound):
        await world.services.meetings.resend(organiser, anna.invitation.id)


async def test_not_me_locks_the_link_tells_the_organiser_and_puts_them_out(here):
    world, organiser, meeting = here
    link = world.link()
    username = await world.inside(link)
    await not_me(world, organiser, meeting)
    (anna,) = await statuses(world, organiser, meeting)
    assert anna.invitation.state is InvitationState.NOT_ME
    assert world.door.expelled == [(meeting.room, username)]
    told = [text for to, text in world.mail.sent if to == organiser.email]
    assert len(told) == 1
    for secret in (*ANNA, MOBILE, "Budget", link):
        assert secret not in told[0]
    await not_me(world, organiser, meeting)
    assert len([to for to, _ in world.mail.sent if to == organiser.email]) == 1  # told once


async def test_not_me_answers_alike_when_the_door_is_away(here):
    world, _, meeting = here
    link = world.link()
    username = await world.inside(link)
    world.door.connected = False
    await world.services.participation.not_me(link, TOLD)
    await world.services.participation.not_me(new_link(), TOLD)
    world.door.connected = True
    await world.housekeeping.tick()
    assert world.door.expelled == [(meeting.room, username)]


async def test_mail_that_fails_while_its_invitation_is_withdrawn_does_not_block_the_others(here):
    world, organiser, meeting = here
    (anna,) = await statuses(world, organiser, meeting)
    await world.services.meetings.resend(organiser, anna.invitation.id)

    async def withdraw_then_fail(**_) -> None:
        await world.services.meetings.withdraw(organiser, anna.invitation.id)
        raise DeliveryFailed("relay went away")

    send, world.mail.send = world.mail.send, withdraw_then_fail
    await world.worker.deliver_due()
    world.mail.send = send
    await world.services.meetings.invite(
        organiser, meeting.id, participant(*BERTIL, region="SE", today=world.clock.now.date())
    )
    world.clock.forward(minutes=10)
    await world.worker.deliver_due()
    assert world.mail.sent[-1][0] == BERTIL[1]
    assert (await statuses(world, organiser, meeting))[0].delivery is Delivery.FAILED


async def test_answer_is_shown_to_the_organiser(here):
    world, organiser, meeting = here
    await world.verified(world.link(), Purpose.VIEW)
    await world.services.participation.answer(world.link(), BROWSER, Answer.DECLINED)
    (anna,) = await statuses(world, organiser, meeting)
    assert (anna.invitation.answer, anna.method, anna.viewed_at) == (Answer.DECLINED, "sms", world.clock.now)


async def test_meeting_takes_no_more_people_than_its_form_does(here, monkeypatch):
    world, organiser, meeting = here
    monkeypatch.setattr("sluss.domain.drafts.MAX_PARTICIPANTS", 2)
    bo, cia = (
        participant(name, f"{name}@example.org", MOBILE, region="SE", today=world.clock.now.date())
        for name in ("bo", "cia")
    )
    await world.services.meetings.invite(organiser, meeting.id, bo)
    with pytest.raises(InvalidInput, match="at most"):
        await world.services.meetings.invite(organiser, meeting.id, cia)


async def test_same_person_is_invited_once(here):
    world, organiser, meeting = here
    again = participant("Anna again", ANNA[1].upper(), ANNA[2], region="SE", today=world.clock.now.date())
    with pytest.raises(InvalidInput) as refused:
        await world.services.meetings.invite(organiser, meeting.id, again)
    assert refused.value.field == "email"


async def test_participants_stay_in_the_order_they_were_written(world):
    organiser, _ = await world.signed_in()
    people = [(f"Person {n}", f"p{n}@example.org", ANNA[2]) for n in range(12)]
    meeting = await world.meeting(organiser, *people)
    assert [s.invitation.name for s in await statuses(world, organiser, meeting)] == [name for name, *_ in people]


@pytest.mark.parametrize("shut", [withdrawn, put_out, not_me])
async def test_closing_an_invitation_leaves_nothing_that_works_by_any_rule(here, shut):
    world, organiser, meeting = here
    await world.ticket(world.link())
    await shut(world, organiser, meeting)
    assert world.sql("SELECT DISTINCT dead FROM tickets") == [{"dead": 1}]
    assert world.sql("SELECT DISTINCT session_hash FROM verifications") == [{"session_hash": ""}]
    assert world.sql("SELECT id FROM outbox WHERE invitation_id IS NOT NULL AND due_at IS NOT NULL") == []


async def test_closed_state_alone_is_enough(here):
    world, _, _ = here
    link = world.link()
    await world.ticket(link)
    world.sql("UPDATE invitations SET state = 'withdrawn' WHERE role = 'participant'")
    with pytest.raises(NotVerified):
        await world.services.tickets.for_participant(link, BROWSER)
