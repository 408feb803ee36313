"""Another number for a participant: only the organiser gives it, and what the old one proved counts no more."""

import pytest
from tests.unit.world import ANNA, BROWSER, MOBILE, OTHER_BROWSER

from sluss.domain.assurance import Method, Purpose
from sluss.domain.audit import Action
from sluss.domain.errors import GateUnavailable, InvalidInput, NotFound, NotVerified

BO = ("Bo Ek", "bo@example.org", "070-174 06 06")
NEW = "+46701740699"
TOLD = "192.0.2.7"


@pytest.fixture
async def invited(world):
    world.eva, _ = await world.signed_in()
    world.held = await world.meeting(world.eva, ANNA, BO)
    view = await world.services.meetings.view(world.eva, world.held.id)
    world.anna, world.bo = (status.invitation for status in view.participants)
    return world


async def change(world, to=NEW, invitation=None, organiser=None):
    await world.services.meetings.change_number(organiser or world.eva, (invitation or world.anna).id, to)
    await world.worker.deliver_due()


async def sees(world, browser=BROWSER) -> bool:
    return await world.services.participation.look(world.link(), browser) is not None


async def test_codes_go_to_the_new_number_and_the_link_stays(invited):
    link = invited.link()
    await change(invited)
    await invited.verified(link, Purpose.VIEW, to=NEW)
    assert await sees(invited)
    assert [to for to, _ in invited.sms.sent] == [NEW]


async def test_code_to_the_old_number_counts_no_more(invited):
    participation = invited.services.participation
    await participation.send_code(invited.link(), BROWSER, Purpose.VIEW, "sv", TOLD)
    await invited.worker.deliver_due()
    old = invited.code()
    await change(invited)
    with pytest.raises(NotVerified):
        await participation.verify(invited.link(), BROWSER, Purpose.VIEW, old, TOLD)
    assert invited.sql("SELECT * FROM challenges") == []


async def test_code_that_waits_for_the_gateway_does_not_go_to_the_old_number(invited):
    await invited.services.participation.send_code(invited.link(), BROWSER, Purpose.VIEW, "sv", TOLD)
    await change(invited)
    assert invited.sms.sent == []


async def test_what_was_seen_and_proved_with_the_old_number_counts_no_more(invited):
    await invited.ticket(invited.link())
    await change(invited)
    assert not await sees(invited)
    with pytest.raises(NotVerified):
        await invited.services.tickets.for_participant(invited.link(), BROWSER)
    with pytest.raises(NotVerified):
        await invited.verified(invited.link(), Purpose.JOIN, OTHER_BROWSER, NEW)
    await invited.ticket(invited.link(), OTHER_BROWSER, NEW)


async def test_ticket_that_was_given_before_admits_nobody(invited):
    ticket = await invited.ticket(invited.link())
    await change(invited)
    assert not (await invited.authenticate(ticket.token, ticket.room)).allow


async def test_who_is_inside_is_put_out_and_whoever_asked_is_told_if_that_is_not_sure(invited):
    username = await invited.inside(invited.link())
    await change(invited)
    assert invited.door.expelled == [(invited.held.room, username)]
    await invited.inside(invited.link(), "xmpp-2", OTHER_BROWSER, NEW)
    invited.door.connected = False
    with pytest.raises(GateUnavailable):
        await change(invited, MOBILE)


async def test_authenticator_added_by_who_had_the_old_number_opens_nothing(invited):
    await invited.verified(invited.link(), Purpose.VIEW)
    assert (await invited.services.authenticators.offered(invited.link(), BROWSER)).secret
    await change(invited)
    with pytest.raises(NotVerified):
        await invited.services.authenticators.offered(invited.link(), BROWSER)
    assert Method.TOTP not in await invited.services.participation.methods(invited.link())


async def test_participant_is_told_by_mail_and_the_mail_says_nothing_of_the_meeting(invited):
    before = len(invited.mail.sent)
    await change(invited)
    ((to, text),) = invited.mail.sent[before:]
    assert to == ANNA[1]
    assert "Another phone number now belongs to your personal link." in text
    for secret in (NEW, MOBILE, "Budget", "Eva", "Anna", "/i/"):
        assert secret not in text


async def test_change_is_written_down_without_the_numbers(invited):
    await change(invited)
    (entry,) = [e for e in await invited.services.audit.newest(3) if e.action is Action.NUMBER_CHANGED]
    assert entry.actor == f"organiser:{invited.eva.id}"
    assert entry.subject == f"invitation:{invited.anna.id}"
    assert entry.details == {"meeting": invited.held.id}


async def test_others_in_the_meeting_notice_nothing(invited):
    await invited.verified(invited.link(BO[1]), Purpose.VIEW, "Bo's", "+46701740606")
    await change(invited)
    assert await invited.services.participation.look(invited.link(BO[1]), "Bo's") is not None


@pytest.mark.parametrize("to", ["+4512345678", MOBILE])
async def test_number_without_codes_or_the_same_one_is_refused(invited, to):
    with pytest.raises(InvalidInput):
        await change(invited, to)


async def test_only_the_meetings_own_organiser_changes_it_while_the_invitation_is_live(invited):
    other = await invited.organiser("olle@example.org")
    own = await invited.store.run(lambda tx: tx.invitations.organisers_own(invited.held.id))
    with pytest.raises(NotFound):
        await change(invited, organiser=other)
    with pytest.raises(NotFound):
        await change(invited, invitation=own)
    await invited.services.meetings.withdraw(invited.eva, invited.anna.id)
    with pytest.raises(NotFound):
        await change(invited)
