"""Invariant 3: a ticket opens one session, once, for its own person: not again, not twice at once."""

from __future__ import annotations

import asyncio
import base64
import contextlib
from collections.abc import Callable
from dataclasses import replace

import pytest
from tests import xmpp
from tests.attacks.people import CONFERENCE, MEET, URLS, Browser, Meeting, Person, Site, ends
from tests.xmpp import CLIENT, Refused, name_of

AGAIN: dict[str, Callable[[str], str]] = {
    "as_it_is": lambda token: token,
    "with_padding": lambda token: token + "==",
    "with_a_space_after": lambda token: token + " ",
    "with_a_line_end": lambda token: token + "\n",
    "with_padding_inside": lambda token: token.replace(".", "=.", 1),
    "with_other_unused_bits": lambda token: token[:-1] + ("AB" if token[-1] == "A" else "A")[-1],
    "in_the_other_base64": lambda token: token.replace("-", "+").replace("_", "/"),
    "with_a_line_end_inside": lambda token: token.replace(".", "\n.", 1),
    "after_a_byte_order_mark": lambda token: "\ufeff" + token,
}


@pytest.mark.parametrize("transport", ["websocket", "bosh"])
@pytest.mark.parametrize("name", AGAIN)
async def test_used_ticket_is_refused(site: Site, anna: Person, name: str, transport: str):
    ticket = anna.ticket()
    assert await site.refused(ticket) is None
    again = ticket | {"token": AGAIN[name](ticket["token"])}
    assert await site.refused(again, transport) in {"used", "bad-ticket"}


async def test_ticket_is_refused_while_its_person_is_inside_and_after_they_left(site: Site, anna: Person):
    ticket = anna.ticket()
    async with site.connect(ticket) as client:
        await client.join("aaaa0001")
        assert await site.refused(ticket) == "used"
        assert await site.refused(ticket, "bosh") == "used"
        await client.leave()
        assert await site.refused(ticket) == "used"
    assert await site.refused(ticket) == "used"


async def test_newer_ticket_kills_the_one_before(site: Site, anna: Person):
    anna.prove()
    first, second = (
        anna.browser.ask("POST", f"{anna.path}/ticket", X_CSRF_Token=anna.browser.csrf).json() for _ in range(2)
    )
    assert await site.refused({"room": first["room"], "token": first["token"]}) == "withdrawn"
    assert await site.refused({"room": second["room"], "token": second["token"]}) is None


async def test_same_ticket_twice_at_the_same_instant_lets_exactly_one_in(site: Site, meeting: Meeting):
    """A thousand tickets, each from two connections, every tenth over BOSH and websocket at once."""
    at_once = asyncio.Semaphore(20)

    async def attempt(ticket: dict[str, str], transport: str, both_ready: asyncio.Barrier) -> str | None:
        async with site.open(ticket, transport) as client:
            await client.wait_for(lambda s: s.tag.endswith("}features"), within=30)
            await both_ready.wait()
            try:
                await client.try_sasl("ANONYMOUS")
            except Refused as no:
                return no.reason
            return None

    async def race(number: int, ticket: dict[str, str]) -> list[str | None]:
        second = "bosh" if number % 10 == 0 else "websocket"
        async with at_once:
            ready = asyncio.Barrier(2)
            return await asyncio.gather(attempt(ticket, "websocket", ready), attempt(ticket, second, ready))

    outcomes = []
    for start in range(0, 1000, 100):  # a ticket lives for a minute
        tickets = await asyncio.to_thread(lambda: meeting.newcomer().tickets(100))
        outcomes += await asyncio.gather(*(race(start + i, ticket) for i, ticket in enumerate(tickets)))
    assert len(outcomes) == 1000
    assert {tuple(sorted(map(str, outcome))) for outcome in outcomes} == {("None", "used")}


async def test_ticket_of_one_stream_does_not_serve_another(site: Site, anna: Person):
    """One connection has opened with the ticket, not yet used it; another one without a ticket asks."""
    async with site.open(anna.ticket()) as mine, site.open() as other:
        with pytest.raises(Refused) as no:
            await other.authenticate()
        assert no.value.reason == "no-ticket"
        await mine.authenticate()


async def test_stream_cannot_be_made_resumable(site: Site, anna: Person):
    async with anna.enter() as client:
        features = [s for s in client.received if s.tag.endswith("}features")]
        assert not [f for feature in features for f in feature.iter() if "urn:xmpp:sm" in f.tag]
        assert await client.make_resumable() is None


@pytest.mark.parametrize("attacker", ["nobody", "bo", "anna"])
async def test_resuming_a_stream_gives_nobodys_session(site: Site, anna: Person, bo: Person, attacker: str):
    """`previd` is what the server would have Anna come back by. `unit/gate/test_attacks_live.py` has it succeed."""
    async with contextlib.AsyncExitStack() as stack:
        inside = await stack.enter_async_context(anna.enter())
        previd = await inside.make_resumable()
        if inside.closed.is_set():  # for having asked
            inside = await stack.enter_async_context(anna.enter())
        stream = next(s.get("id") for s in inside.received if s.tag.endswith("}open"))
        for guess in (previd, stream, inside.jid.partition("/")[2], inside.jid):
            ticket = {"nobody": dict, "bo": bo.ticket, "anna": anna.ticket}[attacker]()
            async with site.open(ticket) as thief:
                if ticket:
                    await thief.sign_in()
                else:
                    await thief.wait_for(lambda s: s.tag.endswith("}features"))
                assert not await thief.resume(guess or "AAAA")
        await inside.ping()


async def test_bosh_session_is_not_taken_over_by_guessing(site: Site, anna: Person):
    async with anna.enter(transport="bosh") as inside:
        assert len(inside._transport._sid) >= 22  # 128 bits
        async with site.open(transport="bosh") as attacker:
            sid = inside._transport._sid
            attacker._transport._sid = sid[:-1] + ("A" if sid[-1] != "A" else "B")
            await attacker._transport.send("<presence/>")
            assert await ends(attacker)
        await inside.ping()


async def test_bosh_session_of_another_does_not_go_on_with_a_wrong_request_number(site: Site, anna: Person):
    """Who saw a session id in some log still lacks the request number."""
    async with anna.enter(transport="bosh") as inside, site.open(transport="bosh") as attacker:
        attacker._transport._sid = inside._transport._sid
        before = len(inside.received)
        await attacker._transport.send(f"<message to='{inside.room_jid}' type='groupchat'><body>Hi</body></message>")
        assert await ends(attacker)
        assert not [s for s in attacker.received if s.tag == f"{CLIENT}message"]
        assert not [s for s in inside.received[before:] if s.findtext(f"{CLIENT}body") == "Hi"]


@pytest.mark.parametrize("resource", ["own", "evil", "focus", "", "x" * 1100, "a/b", "p-1@x/y"])
async def test_bound_resource_is_the_servers_choice_and_takes_nobodys_place(
    site: Site, anna: Person, bo: Person, resource: str
):
    async with anna.enter() as inside, site.open(bo.ticket()) as attacker:
        await attacker.wait_for(lambda s: s.tag.endswith("}features"))
        await attacker.try_sasl("ANONYMOUS")
        since = len(attacker.received)
        await attacker._transport.restart()
        await attacker.wait_for(lambda s: s.tag.endswith("}features"), since=since)
        wanted = inside.jid.partition("/")[2] if resource == "own" else resource
        bind = f"<bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'><resource>{wanted}</resource></bind>"
        bound = await attacker.iq("set", None, bind)
        jid = bound.findtext(".//{urn:ietf:params:xml:ns:xmpp-bind}jid")
        assert jid.partition("@")[0] != inside.jid.partition("@")[0]
        await inside.ping()


async def test_own_second_device_does_not_push_out_the_first(site: Site, anna: Person, bo: Person):
    """The same user name, and the same nick: both stay, under the one verified name."""
    async with anna.enter("aaaa0001") as first, anna.enter("aaaa0001") as second, bo.enter() as other:
        assert first.jid.partition("/")[0] == second.jid.partition("/")[0]
        await first.ping()
        await second.ping()
        shown = [s for s in other.received if s.get("from", "").endswith("/aaaa0001")]
        assert {name_of(s) for s in shown} == {anna.name}


async def test_third_device_is_refused(site: Site, meeting: Meeting):
    """The class allows two. The ticket is good: with one of them gone it opens the door."""
    person = await asyncio.to_thread(meeting.newcomer)
    one, two, three = (replace(person, browser=Browser(site)) for _ in range(3))
    async with one.enter():
        async with two.enter():
            assert await site.refused(three.ticket()) == "devices"
        async with asyncio.timeout(10):
            while refused := await site.refused(three.ticket()):
                assert refused == "devices", "until the bridge has heard that the other one is gone"


async def test_nick_of_somebody_inside_is_not_for_another(site: Site, anna: Person, bo: Person):
    async with anna.enter("aaaa0001") as inside, site.connect(bo.ticket()) as attacker:
        with pytest.raises(Refused) as no:
            await attacker.join("aaaa0001")
        assert no.value.condition == "conflict"
        await inside.ping()


@pytest.mark.parametrize("kind", ["message", "presence", "iq"])
async def test_stanza_from_another_address_is_not_sent_on(site: Site, anna: Person, bo: Person, kind: str):
    async with anna.enter() as inside, bo.enter() as victim:
        async with site.connect(anna.ticket()) as attacker:
            body = "<body>Hi</body>"
            stanza = {
                "message": f"<message from='{victim.jid}' to='{victim.room_jid}' type='groupchat'>{body}</message>",
                "presence": f"<presence from='{victim.jid}' to='{victim.room_jid}/{victim.nick}' type='unavailable'/>",
                "iq": f"<iq from='{victim.jid}' id='1' type='set' to='{MEET}'><x xmlns='x'/></iq>",
            }[kind]
            await attacker.send(stanza)
            with contextlib.suppress(Refused):  # closed, or as if nothing had been said
                await attacker.ping()
        await inside.ping()
        assert not [s for s in inside.received if s.findtext(f"{CLIENT}body") == "Hi"]
        assert not [
            s for s in inside.received if s.get("type") == "unavailable" and s.get("from", "").endswith(victim.nick)
        ]
        await victim.ping()


MECHANISMS = {
    "PLAIN": b"\0focus\0focus",
    "EXTERNAL": b"focus@auth.meet.sluss.test",
    "SCRAM-SHA-1": b"n,,n=focus,r=abc",
    "DIGEST-MD5": b"",
    "OAUTHBEARER": b"n,,\1auth=Bearer x\1\1",
    "X-OAUTH2": b"\0focus\0x",
    "JWT": b"x",
    "anonymous": b"",
}


@pytest.mark.parametrize("mechanism", MECHANISMS)
async def test_no_other_way_to_authenticate(site: Site, anna: Person, mechanism: str):
    ticket = anna.ticket()
    async with site.open(ticket) as client:
        features = await client.wait_for(lambda s: s.tag.endswith("}features"))
        assert [m.text for m in features.iter() if m.tag.endswith("}mechanism")] == ["ANONYMOUS"]
        with pytest.raises(Refused) as no:
            await client.try_sasl(mechanism, base64.b64encode(MECHANISMS[mechanism]).decode())
        assert no.value.condition == "invalid-mechanism"
    assert await site.refused(anna.ticket()) is None


async def test_nobody_says_anything_before_the_ticket_was_checked(site: Site, anna: Person, bo: Person):
    async with anna.enter() as inside, site.open(bo.ticket()) as attacker:
        await attacker.wait_for(lambda s: s.tag.endswith("}features"))
        await attacker.send(
            f"<presence to='{inside.room_jid}/x'><x xmlns='http://jabber.org/protocol/muc'/></presence>"
        )
        await attacker.send(f"<message to='{inside.room_jid}' type='groupchat'><body>Hi</body></message>")
        await attacker.send("<iq id='b' type='set'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'/></iq>")
        with pytest.raises((Refused, TimeoutError)):
            await attacker.wait_for(lambda s: s.get("type") == "result", within=1)
        await inside.ping()
        assert not [s for s in inside.received if s.findtext(f"{CLIENT}body") == "Hi"]
        assert len([s for s in inside.received if s.tag == f"{CLIENT}presence"]) == 1


@pytest.mark.parametrize("domain", [f"auth.{MEET}", CONFERENCE, f"sluss.{MEET}", "localhost", "evil.example", ""])
async def test_stream_to_another_host_is_closed(site: Site, anna: Person, domain: str):
    """Nobody tries the passwords of Jitsi's own parts through the websocket."""
    ticket = anna.ticket()
    options = {"ssl": site.trust, "headers": {"Host": MEET}}
    assert await xmpp.offered(URLS["websocket"], MEET, **options) == ["ANONYMOUS"]
    assert await xmpp.offered(URLS["websocket"], domain, **options, **ticket) == []
    assert await site.refused(ticket) == "used"
    assert await site.refused(anna.ticket()) is None


async def test_ticket_carries_its_person_and_nobody_else(site: Site, anna: Person, bo: Person):
    async with anna.enter("aaaa0001") as one, bo.enter("aaaa0002") as other:
        assert one.jid.partition("@")[0] != other.jid.partition("@")[0]
        presences = [s for s in other.received if s.tag == f"{CLIENT}presence"]
        shown = {s.get("from").partition("/")[2]: name_of(s) for s in presences}
        assert shown["aaaa0001"] == anna.name
        assert shown["aaaa0002"] == bo.name
