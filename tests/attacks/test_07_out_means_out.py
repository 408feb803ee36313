"""Invariant 7: who was withdrawn or put out is outside within two seconds, on every connection, and does not return."""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import Callable

import pytest
from tests.attacks.people import CONFERENCE, Browser, Meeting, Person, Site
from tests.xmpp import CLIENT, Client, Refused, statuses

WITHIN = 2  # seconds

Act = Callable[[Meeting, Person], object]


def post(action: str) -> Act:
    def act(meeting: Meeting, person: Person) -> None:
        url = f"/invitations/{meeting.invitation(person)}/{action}"
        assert meeting.organiser.browser.post(url).status == 303

    return act


def not_me(meeting: Meeting, person: Person) -> None:
    assert Browser(person.site).post(f"{person.path}/not-me").status == 303


WAYS: dict[str, Act] = {
    "put_out": post("put-out"),
    "withdraw": post("withdraw"),
    "resend": post("resend"),
    "not_me": not_me,
}


async def outside(client: Client) -> None:
    """Wait until the connection is closed, or its own presence says that it is out of the room. In time."""
    me = f"{client.room_jid}/{client.nick}"

    def gone(stanza) -> bool:
        return stanza.get("from") == me and stanza.get("type") == "unavailable"

    try:
        await client.wait_for(gone, within=WITHIN)
    except TimeoutError:
        pytest.fail("still inside")
    except Refused:
        pass  # closed


@pytest.mark.parametrize("transport", ["websocket", "bosh"])
@pytest.mark.parametrize("way", WAYS)
async def test_out_on_every_device_within_two_seconds_and_not_back(
    site: Site, meeting: Meeting, bo: Person, way: str, transport: str
):
    person = await asyncio.to_thread(meeting.newcomer)
    async with bo.enter() as other, person.enter("aaaa0001", transport) as one, person.enter("aaaa0002") as two:
        waiting = person.ticket()
        began = time.monotonic()
        await asyncio.to_thread(WAYS[way], meeting, person)
        await asyncio.gather(outside(one), outside(two))
        assert time.monotonic() - began < WITHIN
        for nick in ("aaaa0001", "aaaa0002"):
            await other.wait_for(
                lambda s, nick=nick: s.get("from", "").endswith(f"/{nick}") and s.get("type") == "unavailable",
                within=WITHIN,
            )
        await other.ping()
        assert not other.closed.is_set()
        for attempt in range(2):
            assert await site.refused(waiting, transport if attempt else "websocket") == "withdrawn"
        with contextlib.suppress(Refused, TimeoutError):
            await one.join("aaaa0003", wait=1)
        await other.ping()
        assert not [s for s in other.received if s.get("from", "").endswith("/aaaa0003")]
    answer = person.browser.ask("POST", f"{person.path}/ticket", X_CSRF_Token=person.browser.csrf)
    assert answer.status in {401, 403}
    async with bo.enter():
        pass


@pytest.mark.parametrize("transport", ["websocket", "bosh"])
@pytest.mark.parametrize("signed_in", [False, True])
async def test_stream_that_waits_before_the_door_does_not_outlive_being_put_out(
    site: Site, meeting: Meeting, transport: str, *, signed_in: bool
):
    """Its ticket is good and used up. Left as it is, it would be signed in whenever its owner likes."""
    person = await asyncio.to_thread(meeting.newcomer)
    ticket = person.ticket()
    async with site.open(ticket, transport) as parked:
        if signed_in:
            await parked.sign_in()
        assert await site.refused(ticket) == "used"
        await asyncio.to_thread(meeting.put_out, person)
        try:
            await asyncio.wait_for(parked.closed.wait(), WITHIN)
        except TimeoutError:
            pytest.fail("still before the door")
        with pytest.raises((Refused, TimeoutError)):
            await parked.authenticate()


async def test_others_are_told_that_somebody_was_put_out(meeting: Meeting, bo: Person):
    person = await asyncio.to_thread(meeting.newcomer)
    async with bo.enter() as other, person.enter("aaaa0001"):
        await asyncio.to_thread(meeting.put_out, person)
        gone = await other.wait_for(
            lambda s: s.get("from", "").endswith("/aaaa0001") and s.get("type") == "unavailable", within=WITHIN
        )
        assert "307" in statuses(gone)


async def test_session_that_has_not_entered_yet_is_closed_too(site: Site, meeting: Meeting):
    person = await asyncio.to_thread(meeting.newcomer)
    async with site.connect(person.ticket()) as lurking:
        await asyncio.to_thread(meeting.put_out, person)
        with contextlib.suppress(Refused):
            await lurking.join("aaaa0001", wait=WITHIN)
            pytest.fail("got in after having been put out")


async def test_session_whose_link_was_replaced_does_not_enter(site: Site, meeting: Meeting):
    """It had used its ticket and stood before the door. Nobody was inside to be put out."""
    person = await asyncio.to_thread(meeting.newcomer)
    before = len(site.messages("mail", person.email))
    async with site.connect(person.ticket()) as lurking:
        await asyncio.to_thread(post("resend"), meeting, person)
        with pytest.raises(Refused) as no:  # put out already, or just now
            await lurking.join("aaaa0001", wait=WITHIN)
        assert lurking.closed.is_set() or no.value.reason == "withdrawn"
    site.message("mail", person.email, before)
    person.read_mail()
    async with person.enter():
        pass


async def test_session_that_never_answers_is_out_too(site: Site, meeting: Meeting, bo: Person):
    """A client that no longer reads: its side stays silent, the room has forgotten it."""
    person = await asyncio.to_thread(meeting.newcomer)
    async with bo.enter() as other, person.enter("aaaa0001") as silent:
        silent._reader.cancel()
        await asyncio.to_thread(meeting.put_out, person)
        await other.wait_for(
            lambda s: s.get("from", "").endswith("/aaaa0001") and s.get("type") == "unavailable", within=WITHIN
        )
        with contextlib.suppress(Refused):
            await silent.send(f"<message to='{silent.room_jid}' type='groupchat'><body>still here</body></message>")
        await other.ping()
        assert not [s for s in other.received if s.findtext(f"{CLIENT}body") == "still here"]


@pytest.mark.parametrize("round_", range(12))
async def test_entering_while_being_put_out_ends_outside(site: Site, meeting: Meeting, bo: Person, round_: int):
    """Either order of the two, at random moments of the way in."""
    person = await asyncio.to_thread(meeting.newcomer)
    invitation = await asyncio.to_thread(meeting.invitation, person)
    ticket, pause = person.ticket(), random.Random(round_).uniform(0, 0.06)

    async def rush() -> None:
        with contextlib.suppress(Refused, TimeoutError):
            async with site.connect(ticket) as client:
                await client.join("aaaa0001", wait=WITHIN)
                await asyncio.wait_for(client.closed.wait(), WITHIN)

    async with bo.enter() as other:
        entering = asyncio.create_task(rush())
        await asyncio.sleep(pause)  # the race that is tried
        url = f"/invitations/{invitation}/put-out"
        assert (await asyncio.to_thread(meeting.organiser.browser.post, url)).status == 303
        done = time.monotonic()
        await entering
        await other.ping()
        shown = [s for s in other.received if s.get("from", "").endswith("/aaaa0001")]
        assert not shown or shown[-1].get("type") == "unavailable"
        assert time.monotonic() - done < WITHIN + 1


async def test_meeting_that_was_ended_is_over_for_everybody(site: Site):
    organiser = await asyncio.to_thread(site.organiser)
    meeting = await asyncio.to_thread(organiser.meeting, "Anna Lindberg", "Bo Ek")
    one, two = meeting.people
    async with one.enter() as first, two.enter(transport="bosh") as second, site.connect(two.ticket()) as lurking:
        waiting = one.ticket()
        assert (await asyncio.to_thread(organiser.browser.post, f"/meetings/{meeting.id}/end")).status == 303
        await asyncio.gather(outside(first), outside(second), asyncio.wait_for(lurking.closed.wait(), WITHIN))
    assert await site.refused(waiting) in {"not-open", "withdrawn"}
    answer = one.browser.ask("POST", f"{one.path}/ticket", X_CSRF_Token=one.browser.csrf)
    assert answer.status in {401, 403, 409}
    assert organiser.browser.ask(
        "POST", f"/meetings/{meeting.id}/ticket", X_CSRF_Token=organiser.browser.csrf
    ).status in {401, 403, 409}


async def test_put_out_of_one_meeting_leaves_the_other_meeting_alone(site: Site, meeting: Meeting):
    person, other = await asyncio.to_thread(
        lambda: (meeting.newcomer(), meeting.organiser.meeting("Olle Berg").people[0])
    )
    async with other.enter() as elsewhere, person.enter() as here:
        await asyncio.to_thread(meeting.put_out, person)
        await outside(here)
        await elsewhere.ping()
        assert elsewhere.room_jid.endswith(CONFERENCE)


async def test_only_the_meetings_organiser_puts_out(site: Site, meeting: Meeting):
    person, stranger = await asyncio.to_thread(lambda: (meeting.newcomer(), site.organiser("Olga Annan")))
    assert stranger.browser.get("/").status == 200
    invitation = await asyncio.to_thread(meeting.invitation, person)
    async with person.enter() as inside:
        for browser in (stranger.browser, person.browser, Browser(site)):
            for path in (f"/invitations/{invitation}/{verb}" for verb in ("put-out", "withdraw", "resend")):
                assert (await asyncio.to_thread(browser.post, path)).status in {401, 403, 404}
            assert (await asyncio.to_thread(browser.post, f"/meetings/{meeting.id}/end")).status in {401, 403, 404}
        await inside.ping()
        await asyncio.to_thread(meeting.put_out, person)
        await outside(inside)
