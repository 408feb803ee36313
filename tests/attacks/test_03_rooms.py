"""Invariant 3: a ticket opens one room, however another one's name is written."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import Callable
from typing import Any

import pytest
from tests import xmpp
from tests.attacks.forge import parts, really
from tests.attacks.people import CONFERENCE, MEET, Meeting, Person, Site
from tests.xmpp import CLIENT, Refused, refusal, statuses

MUC = "<x xmlns='http://jabber.org/protocol/muc'/>"

# The room's name in the query, beside a ticket for `r`
ASKED: dict[str, Callable[[str], str]] = {
    "in_capitals": str.upper,
    "with_one_capital": lambda r: next(r.replace(c, c.upper(), 1) for c in r if c.isalpha()),
    "with_a_space_after": lambda r: f"{r} ",
    "with_a_space_before": lambda r: f" {r}",
    "with_a_line_end": lambda r: f"{r}\n",
    "with_a_nul": lambda r: f"{r}\0",
    "with_a_soft_hyphen": lambda r: f"{r[:4]}\u00ad{r[4:]}",
    "with_a_zero_width_joiner": lambda r: f"{r[:4]}\u200d{r[4:]}",
    "in_full_width": lambda r: "".join(chr(ord(c) + 0xFEE0) for c in r),
    "with_a_cyrillic_letter": lambda r: r.replace("a", "а").replace("c", "с").replace("e", "е") + "а",
    "percent_encoded_twice": lambda r: "".join(f"%{ord(c):02x}" for c in r),
    "as_a_wildcard": lambda r: "*",
    "as_a_wildcard_beginning": lambda r: f"{r[:8]}*",
    "as_a_regular_expression": lambda r: ".*",
    "as_an_anchored_expression": lambda r: f"^{r}$",
    "as_a_lua_pattern": lambda r: "%w+",
    "as_a_query": lambda r: "%",
    "under_a_tenant": lambda r: f"tenant/{r}",
    "under_a_tenant_in_brackets": lambda r: f"[tenant]{r}",
    "after_a_bracket": lambda r: f"]{r}",
    "as_an_address": lambda r: f"{r}@{CONFERENCE}",
    "with_a_resource": lambda r: f"{r}/x",
    "with_a_second_at": lambda r: f"{r}@x@{CONFERENCE}",
    "empty": lambda r: "",
    "very_long": lambda r: r * 60,
    "another_one": lambda r: secrets.token_hex(16),
}


@pytest.mark.parametrize("name", ASKED)
async def test_ticket_is_refused_when_the_room_is_asked_for(site: Site, anna: Person, name: str):
    honest = anna.ticket()
    asked = honest | {"room": ASKED[name](honest["room"])}
    assert await site.refused(asked) in {"wrong-room", "bad-ticket", "no-ticket"}
    assert await site.refused(honest) is None


CLAIMED: dict[str, Any] = {
    "anything": "*",
    "a_regular_expression": ".*",
    "nothing": "",
    "null": None,
    "a_number": 1,
    "a_list": ["*"],
    "an_object": {"name": "*", "regex": True},
}


@pytest.mark.parametrize("name", CLAIMED)
async def test_ticket_whose_claim_says_the_room_is(site: Site, anna: Person, name: str):
    """Even with the site's own signature under it."""
    honest = anna.ticket()
    header, claims, _ = parts(honest["token"])
    token = really(site, header, claims | {"room": CLAIMED[name]})
    assert await site.refused(honest | {"token": token}) in {"wrong-room", "bad-ticket"}
    assert await site.refused(honest) is None


async def test_ticket_whose_claim_names_another_open_room(site: Site, meeting: Meeting, anna: Person):
    honest, other = anna.ticket(), meeting.organiser.meeting("Olle Berg").people[0].ticket()
    header, claims, _ = parts(honest["token"])
    token = really(site, header, claims | {"room": other["room"]})
    assert await site.refused({"room": other["room"], "token": token}) == "wrong-room"
    assert await site.refused(honest) is None
    assert await site.refused(other) is None


async def test_two_rooms_in_one_query_open_only_the_tickets_own(site: Site, meeting: Meeting, anna: Person):
    other = meeting.organiser.meeting("Olle Berg").people[0].ticket()
    for first in (True, False):
        honest = anna.ticket()
        rooms = [honest["room"], other["room"]][:: 1 if first else -1]
        url = f"wss://{MEET}/xmpp-websocket?room={rooms[0]}&room={rooms[1]}&token={honest['token']}"
        with contextlib.suppress(Refused):  # at once, or at the other room's door
            async with xmpp.connect(url, MEET, ssl=site.trust) as client:
                with pytest.raises(Refused, match="forbidden"):
                    await client.join("aaaa0001", room_jid=f"{other['room']}@{CONFERENCE}")
    assert await site.refused(other) is None


# The room's address in the presence that wants to enter, of a session with a ticket for `r`
ADDRESSED: dict[str, Callable[[str, str], str]] = {
    "another_open_meeting": lambda r, other: f"{other}@{CONFERENCE}",
    "a_room_that_is_not": lambda r, other: f"{'0' * 32}@{CONFERENCE}",
    "a_wildcard": lambda r, other: f"*@{CONFERENCE}",
    "its_tenant": lambda r, other: f"tenant-{r}@{CONFERENCE}",
    "its_tenant_in_brackets": lambda r, other: f"[tenant]{r}@{CONFERENCE}",
    "a_look_alike": lambda r, other: f"{r.replace('a', 'а')}а@{CONFERENCE}",
    "its_percent_encoding": lambda r, other: f"%{ord(r[0]):02x}{r[1:]}@{CONFERENCE}",
    "an_escaped_space_before": lambda r, other: f"\\20{r}@{CONFERENCE}",
    "one_letter_less": lambda r, other: f"{r[:-1]}@{CONFERENCE}",
    "a_breakout_room": lambda r, other: f"{r}@breakout.{MEET}",
    "a_lobby": lambda r, other: f"{r}@lobby.{MEET}",
    "a_breakout_room_inside": lambda r, other: f"{r}-breakout-1@{CONFERENCE}",
    "the_visitors_room": lambda r, other: f"{r}@{CONFERENCE.replace('conference', 'visitors')}",
    "the_videobridges_room": lambda r, other: f"jvbbrewery@internal.auth.{MEET}",
    "another_server": lambda r, other: f"{r}@conference.evil.example",
    "the_host_itself": lambda r, other: f"{r}@{MEET}",
}


@pytest.mark.parametrize("name", ADDRESSED)
async def test_session_does_not_enter(site: Site, meeting: Meeting, anna: Person, bo: Person, name: str):
    other = meeting.organiser.meeting("Olle Berg").people[0] if name == "another_open_meeting" else bo
    there = other.ticket()["room"]
    async with other.enter() as inside, site.connect(anna.ticket()) as client:
        seen = len(inside.received)
        with pytest.raises(Refused) as no:
            await client.join("aaaa0001", room_jid=ADDRESSED[name](client.room, there), wait=3)
        assert no.value.condition in {"forbidden", "jid-malformed"}
        await inside.ping()
        assert not [s for s in inside.received[seen:] if s.tag == f"{CLIENT}presence"]
        await client.join("aaaa0001")


@pytest.mark.parametrize(
    "written", [str.upper, lambda r: "".join(chr(ord(c) + 0xFEE0) for c in r), lambda r: f"{r[:4]}\u00ad{r[4:]}"]
)
async def test_other_spelling_that_xmpp_takes_for_the_same_is_the_same_room(
    site: Site, anna: Person, bo: Person, written: Callable[[str], str]
):
    """RFC 3920's nodeprep folds some spellings: then it must be this very room, with Bo inside who sees Anna come."""
    async with bo.enter() as inside, site.connect(anna.ticket()) as client:
        since, to = len(client.received), f"{written(client.room)}@{CONFERENCE}/aaaa0001"
        await client.send(f"<presence to='{to}'>{MUC}</presence>")
        answer = await client.wait_for(
            lambda s: s.get("type") == "error" or (s.tag == f"{CLIENT}presence" and "110" in statuses(s)), since=since
        )
        if answer.get("type") == "error":
            assert refusal(answer).condition in {"forbidden", "jid-malformed"}
            await client.join("aaaa0001")
        else:
            assert answer.get("from") == f"{client.room}@{CONFERENCE}/aaaa0001"
        await inside.wait_for(lambda s: s.get("from") == f"{client.room}@{CONFERENCE}/aaaa0001")


async def test_rooms_and_people_are_not_listed(site: Site, anna: Person):
    async with anna.enter() as client:
        items = "<query xmlns='http://jabber.org/protocol/disco#items'/>"
        info = "<query xmlns='http://jabber.org/protocol/disco#info'/>"
        assert (await client.iq("get", client.room_jid, info)).get("type") == "result"
        for to in (CONFERENCE, f"auth.{MEET}", f"internal.auth.{MEET}", f"sluss.{MEET}"):
            for query in (items, info):
                with pytest.raises(Refused) as no:
                    await client.iq("get", to, query)
                assert no.value.condition == "forbidden"
        with pytest.raises(Refused):
            await client.iq("get", client.room_jid, items)


async def test_room_that_is_not_open_yet_does_not_come_to_be(site: Site, meeting: Meeting, anna: Person):
    """The ticket is made by the site's own key; the portal gives none."""
    later = meeting.organiser.meeting("Olle Berg", starts_in=120).people[0]
    later.prove()
    asked = later.browser.ask("POST", f"{later.path}/ticket", X_CSRF_Token=later.browser.csrf)
    assert asked.status == 409
    assert "token" not in asked.text
    honest = anna.ticket()
    assert await site.refused(honest) is None


async def test_one_session_enters_once_also_when_it_asks_twice_at_once(site: Site, anna: Person, bo: Person):
    async with bo.enter() as inside, site.connect(anna.ticket()) as client:
        for nick in ("aaaa0001", "aaaa0002", "aaaa0003"):
            await client.send(f"<presence to='{client.room_jid}/{nick}'>{MUC}</presence>")
        async with asyncio.timeout(10):
            while len([s for s in client.received if s.get("type") == "error"]) < 2:
                await client.ping()
        await inside.ping()
        came = {s.get("from") for s in inside.received if s.get("from", "").partition("/")[2].startswith("aaaa")}
        assert len(came) == 1


async def test_ticket_admits_once_and_not_again_after_leaving(site: Site, anna: Person):
    async with anna.enter() as client:
        await client.leave()
        with pytest.raises(Refused) as no:
            await client.join("aaaa0001")
        assert no.value.reason == "used"
    async with anna.enter():
        pass
