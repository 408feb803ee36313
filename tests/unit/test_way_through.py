"""The way through (mission.md), rule by rule, against the real store."""

import pytest
from tests.unit.world import BROWSER, OTHER_BROWSER

from sluss.domain.assurance import Purpose
from sluss.domain.errors import NotVerified


async def test_the_whole_way_from_invitation_to_admission(world):
    organiser, _ = await world.signed_in()
    meeting = await world.meeting(organiser)
    link = world.link()
    assert await world.services.participation.look(link, BROWSER) is None
    await world.verified(link, Purpose.VIEW)
    view = await world.services.participation.look(link, BROWSER)
    assert (view.meeting.title, view.organiser_name, view.open) == ("Budget", "Eva Ek", True)
    with pytest.raises(NotVerified):
        await world.services.tickets.for_participant(link, BROWSER)
    await world.verified(link, Purpose.JOIN)
    ticket = await world.services.tickets.for_participant(link, BROWSER)
    assert ticket.room == meeting.room
    who = await world.authenticate(ticket.token, ticket.room)
    assert who.allow
    assert who.name == "Anna Lindberg"
    verdict = await world.admit(ticket.room, who.username)
    assert (verdict.allow, verdict.name, verdict.role, verdict.method) == (True, "Anna Lindberg", "participant", "sms")
    await world.services.admission.entered(world.event(ticket.room, who.username))
    (here,) = (await world.services.meetings.view(organiser, meeting.id)).here
    assert (here.name, here.method, here.devices) == ("Anna Lindberg", "sms", 1)
    assert await world.services.participation.look(link, OTHER_BROWSER) is None
