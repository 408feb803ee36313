"""Codes by SMS: six digits, five minutes, five tries, for one link, browser and purpose, used once."""

import pytest
from tests.unit.world import ANNA, BROWSER, DOWN, MOBILE, OTHER_BROWSER

from sluss.delivery.mail import RefusedForGood
from sluss.domain.assurance import Purpose
from sluss.domain.errors import NotVerified, TooManyTries
from sluss.domain.meetings import Delivery
from sluss.factors import sms
from sluss.services.common import new_link

BERTIL = ("Bertil Berg", "bertil@example.org", "070-174 06 06")
ADDRESS = "192.0.2.7"


@pytest.fixture
async def sent(world):
    """A code on Anna's phone."""
    organiser, _ = await world.signed_in()
    await world.meeting(organiser, ANNA, BERTIL)
    await world.services.participation.send_code(world.link(), BROWSER, Purpose.VIEW, "sv", ADDRESS)
    await world.worker.deliver_due()
    return world


def other_than(code: str) -> str:
    return f"{(int(code) + 1) % 1_000_000:06d}"


async def verify(world, code, *, link=None, browser=BROWSER, purpose=Purpose.VIEW):
    await world.services.participation.verify(link or world.link(), browser, purpose, code, ADDRESS)


async def refused(world, code, **where):
    with pytest.raises(NotVerified) as error:
        await verify(world, code, **where)
    assert error.value.public == NotVerified.public  # never says which
    assert await world.services.participation.look(world.link(), BROWSER) is None


def test_codes_are_six_digits_and_not_the_same():
    codes = {sms.new_code() for _ in range(200)}
    assert all(len(code) == 6 and code.isdecimal() for code in codes)
    assert len(codes) > 190


async def test_right_code_verifies_also_with_spaces(sent):
    code = sent.code()
    await verify(sent, f" {code[:3]} {code[3:]}\n")
    assert await sent.services.participation.look(sent.link(), BROWSER)


@pytest.mark.parametrize("typed", ["", "0", "abcdef", "１２３４５６", "1234567", "\ud800", "\0", "0" * 5000])
async def test_what_is_not_the_code_is_refused(sent, typed):
    await refused(sent, typed)


async def test_code_lasts_five_minutes(sent):
    sent.clock.forward(seconds=299)
    code = sent.code()
    sent.clock.forward(seconds=1)
    await refused(sent, code)


async def test_code_is_good_until_just_before(sent):
    sent.clock.forward(seconds=299)
    await verify(sent, sent.code())


async def test_fifth_try_may_be_right(sent):
    for _ in range(4):
        await refused(sent, other_than(sent.code()))
    await verify(sent, sent.code())


async def test_sixth_try_is_refused_even_if_right(sent):
    for _ in range(5):
        await refused(sent, other_than(sent.code()))
    await refused(sent, sent.code())


async def test_code_is_used_once(sent):
    await verify(sent, sent.code())
    with pytest.raises(NotVerified):
        await verify(sent, sent.code())


async def test_code_is_for_the_browser_that_asked(sent):
    await refused(sent, sent.code(), browser=OTHER_BROWSER)


async def test_code_is_for_its_purpose(sent):
    await refused(sent, sent.code(), purpose=Purpose.JOIN)


async def test_code_is_for_its_link(sent):
    await refused(sent, sent.code(), link=sent.link(BERTIL[1]))


async def test_new_code_replaces_the_old(sent):
    old = sent.code()
    sent.clock.forward(seconds=31)
    await sent.services.participation.send_code(sent.link(), BROWSER, Purpose.VIEW, "sv", ADDRESS)
    await sent.worker.deliver_due()
    if old != sent.code():
        await refused(sent, old)
    await verify(sent, sent.code())


async def test_code_to_the_old_phone_is_worthless_once_the_number_is_another(sent):
    code = sent.code()
    sent.change_invitation(ANNA[1], mobile="+46701740606")
    await refused(sent, code)


async def test_code_to_join_is_worth_nothing_to_whoever_has_not_seen_the_invitation(sent):
    sent.clock.forward(seconds=31)
    await sent.services.participation.send_code(sent.link(), BROWSER, Purpose.JOIN, "sv", ADDRESS)
    await sent.worker.deliver_due()
    await refused(sent, sent.code(), purpose=Purpose.JOIN)


async def test_only_the_phone_that_saw_the_invitation_can_join(sent):
    await verify(sent, sent.code())
    sent.change_invitation(ANNA[1], mobile="+46701740606")
    sent.clock.forward(seconds=31)
    await sent.services.participation.send_code(sent.link(), BROWSER, Purpose.JOIN, "sv", ADDRESS)
    await sent.worker.deliver_due()
    number, text = sent.sms.sent[-1]
    assert number != MOBILE
    await refused(sent, text[:6], purpose=Purpose.JOIN)
    with pytest.raises(NotVerified):
        await sent.services.tickets.for_participant(sent.link(), BROWSER)


@pytest.mark.parametrize("live", [True, False])
async def test_next_code_has_to_wait_half_a_minute_whoever_asks(sent, live):
    link, p = sent.link(BERTIL[1]) if live else new_link(), sent.services.participation
    await p.send_code(link, BROWSER, Purpose.VIEW, "sv", ADDRESS)
    sent.clock.forward(seconds=29)
    with pytest.raises(TooManyTries) as soon:
        await p.send_code(link, OTHER_BROWSER, Purpose.VIEW, "sv", "198.51.100.1")
    assert 0 < soon.value.retry_after <= 2
    await p.send_code(link, OTHER_BROWSER, Purpose.JOIN, "sv", ADDRESS)  # who just saw it can enter at once
    sent.clock.forward(seconds=1)
    await p.send_code(link, OTHER_BROWSER, Purpose.VIEW, "sv", ADDRESS)


async def test_no_code_goes_out_for_a_meeting_that_is_over(sent):
    before = len(sent.sms.sent)
    sent.clock.forward(hours=3)
    await sent.services.participation.send_code(sent.link(), BROWSER, Purpose.VIEW, "sv", ADDRESS)
    await sent.worker.deliver_due()
    assert len(sent.sms.sent) == before


async def test_sms_that_failed_is_sent_again(sent):
    sent.clock.forward(seconds=31)
    before, sent.sms.down = len(sent.sms.sent), DOWN
    await sent.services.participation.send_code(sent.link(), BROWSER, Purpose.VIEW, "sv", ADDRESS)
    await sent.worker.deliver_due()
    sent.sms.down = None
    await sent.worker.deliver_due()
    assert len(sent.sms.sent) == before  # not yet: five seconds first
    sent.clock.forward(seconds=5)
    await sent.worker.deliver_due()
    assert len(sent.sms.sent) == before + 1
    await verify(sent, sent.code())


async def test_sms_is_not_sent_after_its_code_has_expired(sent):
    sent.clock.forward(seconds=31)
    before, sent.sms.down = len(sent.sms.sent), DOWN
    await sent.services.participation.send_code(sent.link(), BROWSER, Purpose.VIEW, "sv", ADDRESS)
    await sent.worker.deliver_due()
    sent.sms.down = None
    sent.clock.forward(minutes=5)
    await sent.worker.deliver_due()
    assert len(sent.sms.sent) == before
    last = sent.sql("SELECT due_at, error, message FROM outbox ORDER BY id DESC LIMIT 1")
    assert last == [{"due_at": None, "error": "expired", "message": b""}]


async def test_organiser_sees_that_a_mail_waits_and_that_one_was_refused_for_good(world):
    organiser, _ = await world.signed_in()
    world.mail.down = DOWN
    meeting = await world.meeting(organiser)

    async def delivery():
        (anna,) = (await world.services.meetings.view(organiser, meeting.id)).participants
        return anna.delivery, anna.delivery_error

    assert await delivery() == (Delivery.WAITING, str(DOWN))
    world.mail.down = RefusedForGood("mail relay refused the recipient")
    world.clock.forward(minutes=1)
    await world.worker.deliver_due()
    assert await delivery() == (Delivery.FAILED, "mail relay refused the recipient")
    world.mail.down = None
    world.clock.forward(hours=1)
    assert await world.worker.deliver_due() == 0
    (anna,) = (await world.services.meetings.view(organiser, meeting.id)).participants
    await world.services.meetings.resend(organiser, anna.invitation.id)
    await world.worker.deliver_due()
    assert await delivery() == (Delivery.SENT, None)


async def test_mail_goes_out_within_two_minutes_of_the_relay_being_back_however_long_it_was_away(world):
    organiser, _ = await world.signed_in()
    world.mail.down = DOWN
    await world.meeting(organiser, starts_in=600)
    for _ in range(60):
        world.clock.forward(minutes=2)
        assert await world.worker.deliver_due() == 1
    world.mail.down = None
    world.clock.forward(minutes=2)
    await world.worker.deliver_due()
    assert [to for to, _ in world.mail.sent] == [ANNA[1]]


async def test_code_does_not_wait_behind_mails_that_fail(world):
    organiser, _ = await world.signed_in()
    await world.meeting(organiser)
    world.mail.down = DOWN
    await world.meeting(organiser, *((f"P {n}", f"p{n}@example.org", ANNA[2]) for n in range(20)))
    while await world.worker.deliver_due():
        pass
    world.clock.forward(minutes=2)
    await world.services.participation.send_code(world.link(), BROWSER, Purpose.VIEW, "sv", ADDRESS)
    await world.worker.deliver_due()
    assert world.code()


async def test_one_broken_message_does_not_hold_up_the_others(world):
    organiser, _ = await world.signed_in()
    world.mail.down = ValueError("anna@example.org")
    await world.meeting(organiser)
    world.mail.down = None
    await world.meeting(organiser, BERTIL)
    assert [to for to, _ in world.mail.sent] == [BERTIL[1]]
    assert world.sql("SELECT error FROM outbox WHERE error IS NOT NULL") == [{"error": "ValueError"}]
    world.clock.forward(minutes=1)
    await world.worker.deliver_due()
    assert ANNA[1] in [to for to, _ in world.mail.sent]


# Another code, and when


@pytest.mark.parametrize("live", [True, False])
async def test_each_code_in_a_row_makes_the_wait_for_the_next_one_longer(sent, live):
    participation, link = sent.services.participation, sent.link() if live else new_link()
    if not live:
        await participation.send_code(link, BROWSER, Purpose.VIEW, "sv", ADDRESS)
    for seconds in (30, 60, 120, 240, 240):
        assert (await participation.pause(link, BROWSER, Purpose.VIEW)).seconds == seconds
        sent.clock.forward(seconds=seconds - 1)
        with pytest.raises(TooManyTries, match="code-pause") as error:
            await participation.send_code(link, BROWSER, Purpose.VIEW, "sv", ADDRESS)
        assert error.value.retry_after == 1
        sent.clock.forward(seconds=1)
        await participation.send_code(link, BROWSER, Purpose.VIEW, "sv", ADDRESS)


async def test_wait_is_short_again_once_a_code_was_used_or_five_minutes_went_by(sent):
    participation, ask = sent.services.participation, sent.services.participation.send_code
    sent.clock.forward(seconds=30)
    await ask(sent.link(), BROWSER, Purpose.VIEW, "sv", ADDRESS)
    assert (await participation.pause(sent.link(), BROWSER, Purpose.VIEW)).seconds == 60
    assert await participation.pause(sent.link(), OTHER_BROWSER, Purpose.VIEW) is None
    await sent.worker.deliver_due()
    await verify(sent, sent.code())
    assert await participation.pause(sent.link(), BROWSER, Purpose.VIEW) is None
    for _ in range(2):
        sent.clock.forward(minutes=5)
        await ask(sent.link(), BROWSER, Purpose.VIEW, "sv", ADDRESS)
        assert (await participation.pause(sent.link(), BROWSER, Purpose.VIEW)).seconds == 30


async def test_wait_is_kept_over_a_restart_and_undone_by_the_organiser(sent):
    ask = sent.services.participation.send_code
    sent.clock.forward(seconds=30)
    await ask(sent.link(), BROWSER, Purpose.VIEW, "sv", ADDRESS)
    assert [row["sent"] for row in sent.sql("SELECT sent FROM challenges")] == [2]
    (organiser,) = [who for who, _ in await sent.services.organisers.all()]
    (invitation,) = sent.sql("SELECT id FROM invitations WHERE role = 'participant' ORDER BY rowid LIMIT 1")
    await sent.services.meetings.unlock(organiser, invitation["id"])
    await ask(sent.link(), BROWSER, Purpose.VIEW, "sv", ADDRESS)
