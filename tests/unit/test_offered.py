"""Which methods a link offers: those of its class that there are here, best first; a link that is none, as many."""

import pytest
from tests.unit.world import ANNA, BROWSER, build

from sluss.domain.assurance import Method, Purpose
from sluss.services.common import new_link


@pytest.fixture
async def invited(tmp_path):
    """A meeting of the class `internal`, on an installation with three methods."""
    async with build(tmp_path, durable=False, methods=frozenset({Method.SMS, Method.SIGN_IN, Method.BANKID})) as world:
        await world.meeting(await world.organiser(), ANNA)
        yield world


async def test_methods_of_the_class_are_offered_best_first(invited):
    offered = await invited.services.participation.methods(invited.link())
    assert offered == (Method.BANKID, Method.SIGN_IN, Method.SMS)


async def test_method_that_the_class_does_not_accept_is_not_offered(invited):
    invited.sql("UPDATE meetings SET sensitivity = 'confidential'")
    assert Method.SMS not in await invited.services.participation.methods(invited.link())


async def test_link_that_is_none_is_offered_what_some_class_would_be_and_always_the_same(invited):
    participation, classes = invited.services.participation, set()
    for _ in range(40):
        link = new_link()
        offered = await participation.methods(link)
        assert offered == await participation.methods(link)
        classes.add(offered)
    assert classes == {(Method.BANKID, Method.SIGN_IN, Method.SMS), (Method.BANKID, Method.SIGN_IN), (Method.BANKID,)}


async def test_withdrawn_link_offers_what_it_did(invited):
    before = await invited.services.participation.methods(invited.link())
    invited.sql("UPDATE invitations SET state = 'withdrawn'")
    assert await invited.services.participation.methods(invited.link()) == before


async def test_who_joins_is_offered_the_ways_by_which_they_are_known_from_the_invitation(invited):
    await invited.verified(invited.link(), Purpose.VIEW)
    view = await invited.services.participation.look(invited.link(), BROWSER)
    assert view.methods == (Method.SMS,)
