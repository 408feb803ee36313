"""Only a ticket that the bridge accepts makes an XMPP session on the meeting host."""

from __future__ import annotations

import asyncio
import json
import re

import pytest
from tests.unit.gate.conftest import Connect, Script
from tests.unit.gate.prosody import MEET, Prosody
from tests.xmpp import Refused, connect, open_stream

from sluss.domain.gate import Role
from sluss.gate import Gate


async def refused(url: str, **options: str) -> tuple[str, str | None]:
    with pytest.raises(Refused) as no:
        async with connect(url, MEET, **options):
            pass
    return no.value.condition, no.value.reason


async def test_accepted_ticket_makes_a_session_under_the_persons_username(
    rules: Script, room: str, enter: Connect, url: str
) -> None:
    person = rules.person(room)
    async with enter(person) as client:
        assert client.jid.startswith(f"{person.username}@{MEET}/")
    assert rules.addresses == [("websocket" if url.startswith("ws") else "bosh", "127.0.0.1")]


async def test_session_has_what_jitsis_modules_look_for(
    rules: Script, prosody: Prosody, room: str, enter: Connect
) -> None:
    person = rules.person(room, role=Role.ORGANISER)
    person.features = ("recording", "screen-sharing")
    fields = ("auth_token", "meet_room", "meet_domain", "meet_context_user", "meet_context_features", "web_query_room")
    keys = ", ".join(f"'{name if name == 'auth_token' else 'jitsi_' + name}'" for name in fields)
    async with enter(person) as client:
        code = (
            f"> local s, t = prosody.full_sessions['{client.jid}'], {{}}; "
            f"for _, k in ipairs {{ {keys} }} do t[#t+1] = s[k]; end; return require 'util.json'.encode(t)"
        )
        said = await asyncio.to_thread(prosody.control, "shell", code)
    user = {"id": client.jid.split("@")[0], "name": "Anna Lindberg", "moderator": True}
    allowed = dict.fromkeys(person.features, True)
    assert json.loads(re.search(r"\[.*\]", said)[0]) == ["-", room, MEET, user, allowed, room]


async def test_each_session_has_a_nonce_of_its_own(rules: Script, room: str, enter: Connect) -> None:
    for _ in range(2):
        async with enter(rules.person(room)):
            pass
    nonces = list(rules.sessions)
    assert len(nonces) == 2
    assert all(len(nonce) >= 22 for nonce in nonces)  # 128 bits and more


async def test_no_ticket_is_refused_without_asking(rules: Script, room: str, gate: Gate, url: str) -> None:
    assert await refused(url) == ("not-authorized", "no-ticket")
    assert await refused(url, room=room) == ("not-authorized", "no-ticket")
    assert await refused(url, room=room, token="") == ("not-authorized", "no-ticket")
    assert await refused(url, room="", token="x") == ("not-authorized", "no-ticket")
    assert await refused(url, token=rules.person(room).token) == ("not-authorized", "no-ticket")
    assert rules.addresses == []


async def test_bad_ticket_is_refused_with_its_reason(room: str, gate: Gate, url: str) -> None:
    assert await refused(url, room=room, token="e30.e30.e30") == ("not-authorized", "bad-ticket")


@pytest.mark.parametrize("odd", ["\0", "\r\n", " ", "\ufffe", "é"])
async def test_ticket_or_room_that_xml_cannot_carry_is_refused_at_once(
    rules: Script, room: str, gate: Gate, url: str, odd: str
) -> None:
    token = rules.person(room).token
    assert await refused(url, room=room, token=token + odd) == ("not-authorized", "bad-ticket")
    assert await refused(url, room=room + odd, token=token) == ("not-authorized", "bad-ticket")
    assert rules.addresses == []


async def test_ticket_of_another_room_is_refused(rules: Script, room: str, gate: Gate, url: str) -> None:
    token = rules.person("another").token
    assert await refused(url, room=room, token=token) == ("not-authorized", "wrong-room")


async def test_second_try_on_the_same_stream_has_no_ticket_left(rules: Script, room: str, gate: Gate, url: str) -> None:
    async with open_stream(url, MEET, room=room, token="e30.e30.e30") as client:
        with pytest.raises(Refused) as first:
            await client.authenticate()
        with pytest.raises(Refused) as second:
            await client.try_sasl("ANONYMOUS")
    assert (first.value.reason, second.value.reason) == ("bad-ticket", "no-ticket")


async def test_bridge_is_asked_at_once_and_the_client_may_take_its_time(
    rules: Script, room: str, gate: Gate, url: str
) -> None:
    rules.hold.clear()
    async with open_stream(url, MEET, room=room, token=rules.person(room).token) as client:
        await asyncio.wait_for(rules.waiting.wait(), 5)  # nobody has signed in yet
        rules.hold.set()
        await rules.has_answered(gate)
        await client.authenticate()
        with pytest.raises(Refused):
            await client.try_sasl("ANONYMOUS")
    assert len(rules.addresses) == 1


async def test_no_that_came_before_the_client_signs_in_is_a_no(rules: Script, room: str, gate: Gate, url: str) -> None:
    async with open_stream(url, MEET, room=room, token="e30.e30.e30") as client:
        await rules.has_answered(gate)
        with pytest.raises(Refused) as no:
            await client.authenticate()
    assert no.value.reason == "bad-ticket"


async def test_client_that_begins_anew_to_sign_in_has_the_answer_to_its_ticket(
    rules: Script, room: str, gate: Gate, url: str
) -> None:
    async with open_stream(url, MEET, room=room, token=rules.person(room).token) as client:
        with pytest.raises(Refused) as no:
            await client.try_sasl("ANONYMOUS", "not base64!")
        assert no.value.condition == "incorrect-encoding"
        await client.authenticate()
    assert len(rules.addresses) == 1


async def test_stream_that_is_gone_when_the_answer_comes_troubles_nobody(
    rules: Script, room: str, enter: Connect, gate: Gate, url: str
) -> None:
    rules.hold.clear()
    async with open_stream(url, MEET, room=room, token=rules.person(room).token):
        await asyncio.wait_for(rules.waiting.wait(), 5)
    rules.hold.set()
    await rules.has_answered(gate)
    async with enter(rules.person(room)) as client:
        await client.join("aaaa0001")


async def test_verdict_about_another_session_is_a_no(rules: Script, room: str, gate: Gate, url: str) -> None:
    rules.answer_for = "somebody-elses-nonce"
    token = rules.person(room).token
    assert await refused(url, room=room, token=token) == ("temporary-auth-failure", "unavailable")


async def test_failing_rules_are_a_no(rules: Script, room: str, gate: Gate, url: str) -> None:
    rules.fail = True
    token = rules.person(room).token
    assert await refused(url, room=room, token=token) == ("temporary-auth-failure", "unavailable")


async def test_tickets_never_reach_prosodys_log(
    rules: Script, room: str, enter: Connect, prosody: Prosody, url: str
) -> None:
    accepted, other = rules.person(room), rules.person("another")
    async with enter(accepted) as client:
        await client.join("aaaa0001")
    await refused(url, room=room, token=other.token)
    assert room in prosody.log  # the log is the one that would have it, at its most talkative
    assert accepted.token not in prosody.log
    assert other.token not in prosody.log


async def test_plain_client_port_is_closed_to_the_meeting_host(gate: Gate, prosody: Prosody) -> None:
    async with open_stream(prosody.c2s, MEET) as client:
        with pytest.raises(Refused) as no:
            await client.authenticate()
        assert no.value.condition == "closed"
        assert not list(client.received[-1].iter("{urn:ietf:params:xml:ns:xmpp-sasl}mechanism"))


async def test_passwords_are_not_a_mechanism(rules: Script, room: str, gate: Gate, url: str) -> None:
    token = rules.person(room).token
    async with open_stream(url, MEET, room=room, token=token) as client:
        for mechanism in ("PLAIN", "SCRAM-SHA-1", "EXTERNAL"):
            with pytest.raises(Refused) as no:
                await client.try_sasl(mechanism, "AGEAYg==")
            assert no.value.condition == "invalid-mechanism"


async def test_browsers_cannot_reach_the_service_accounts_host(gate: Gate, url: str) -> None:
    async with open_stream(url, f"auth.{MEET}") as client:
        with pytest.raises(Refused) as no:
            await client.try_sasl("PLAIN", "AGZvY3VzAHBhc3N3b3Jk")
        assert no.value.condition == "closed"
        if url.startswith("ws"):  # by BOSH the reason is lost when no request waits for it
            assert any("host-unknown" in element.tag for stanza in client.received for element in stanza.iter())
