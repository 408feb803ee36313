"""Invariant 4: no answer is a no. The bridge is away, frozen, or cannot write: nobody new, and who is inside stays."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

import pytest
from tests.attacks.people import Browser, Meeting, Person, Site, ready, stopped
from tests.xmpp import Refused

AT_ONCE = 1.5  # seconds, and a little, for which the yes to a ticket is good for the room too


@contextmanager
def frozen(site: Site) -> Iterator[None]:
    site.server.run("systemctl kill --signal=STOP sluss-bridge")
    try:
        yield
    finally:
        site.server.run("systemctl kill --signal=CONT sluss-bridge")
        ready(site)


@contextmanager
def database_held(site: Site) -> Iterator[None]:
    """Somebody else has the database."""
    site.insider("hold_database")
    try:
        yield
    finally:
        site.insider("release_database")
        ready(site)


TROUBLES: dict[str, Callable[[Site], AbstractContextManager[None]]] = {
    "stopped": lambda site: stopped(site, "sluss-bridge"),
    "frozen": frozen,
    "without_its_database": database_held,
}


@pytest.mark.parametrize("trouble", TROUBLES)
async def test_nobody_enters_while_the_bridge_is(site: Site, meeting: Meeting, trouble: str):
    """Neither with a ticket, nor with a session that was let in and did not enter at once. Both work afterwards."""
    inside, anna, bo = *meeting.people[:2], meeting.newcomer()
    async with inside.enter() as other, site.connect(anna.ticket()) as waiting:
        ticket = bo.ticket()
        await asyncio.sleep(AT_ONCE)
        with TROUBLES[trouble](site):
            began = time.monotonic()

            async def join() -> str | None:
                with pytest.raises(Refused) as no:
                    await waiting.join("aaaa0001")
                return no.value.reason

            assert await asyncio.gather(site.refused(ticket), join()) == ["unavailable"] * 2
            assert time.monotonic() - began < 5
            await other.ping()
            assert not other.closed.is_set()
        await other.ping()
        try:
            await waiting.join("aaaa0001")
        except Refused as no:  # the bridge had heard the question; who asked is gone, so nobody is in by that ticket
            assert (trouble, no.reason) == ("frozen", "used")  # noqa: PT017
    async with bo.enter():
        pass


def test_portal_without_its_bridge_shows_nothing_and_comes_back(site: Site, anna: Person):
    anna.prove()
    with stopped(site, "sluss-bridge"):
        answer = Browser(site, anna.browser.session).get(anna.path)
        assert answer.status == 503
        assert "Budget" not in answer.text
    assert "Budget" in Browser(site, anna.browser.session).get(anna.path).text


async def test_yes_that_comes_too_late_lets_nobody_in(site: Site, anna: Person):
    """Frozen while it was asked: its answer arrives after Prosody has said no, and the ticket is not good twice."""
    ticket = anna.ticket()
    async with site.open(ticket) as client:
        with frozen(site):
            with pytest.raises(Refused) as no:
                await client.authenticate()
            assert no.value.condition == "temporary-auth-failure"
        with pytest.raises(Refused) as again:
            await client.try_sasl("ANONYMOUS")
        assert again.value.reason == "no-ticket"
        assert not client.jid
    async with anna.enter():
        pass
