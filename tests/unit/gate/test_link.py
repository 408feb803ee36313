"""No answer is a no; the link comes back by itself; nothing goes out late."""

from __future__ import annotations

import asyncio
import time
from xml.etree import ElementTree as ET

import pytest
from structlog.testing import capture_logs
from tests.unit.gate.conftest import FOCUS_PASSWORD, Connect, Script
from tests.unit.gate.prosody import COMPONENT, MEET, SECRET, Prosody, free_port
from tests.xmpp import CLIENT, Refused, connect, name_of, open_stream

from sluss.domain.gate import Refusal, Verdict
from sluss.gate import Gate, protocol


def new_gate(prosody: Prosody, rules: Script, secret: str = SECRET) -> Gate:
    return Gate(COMPONENT, "127.0.0.1", prosody.component_port, secret, MEET, rules)


async def test_without_a_bridge_nobody_gets_a_session(rules: Script, room: str, gate: Gate, enter: Connect) -> None:
    await gate.stop()
    began = time.monotonic()
    with pytest.raises(Refused) as no:
        async with enter(rules.person(room)):
            pass
    assert (no.value.condition, no.value.reason) == ("temporary-auth-failure", "unavailable")
    assert time.monotonic() - began < 2


async def test_question_to_a_bridge_that_is_lost_is_a_no_at_once(
    rules: Script, room: str, gate: Gate, enter: Connect
) -> None:
    async with enter(rules.person(room)) as late:
        rules.hold.clear()
        joining = asyncio.create_task(late.join("aaaa0001"))
        await asyncio.wait_for(rules.waiting.wait(), 5)
        began = time.monotonic()
        await gate.stop()
        with pytest.raises(Refused) as no:
            await joining
    assert no.value.reason == "unavailable"
    assert time.monotonic() - began < 2, "the three seconds are for a bridge that may still answer"


async def test_without_a_bridge_nobody_enters_and_those_inside_stay(
    rules: Script, room: str, gate: Gate, enter: Connect
) -> None:
    async with enter(rules.person(room)) as inside, enter(rules.person(room)) as late:
        await inside.join("aaaa0001")
        await gate.stop()
        with pytest.raises(Refused) as no:
            await late.join("aaaa0002")
        assert (no.value.condition, no.value.reason) == ("service-unavailable", "unavailable")
        await inside.send(f"<message to='{inside.room_jid}' type='groupchat'><body>Here</body></message>")
        await inside.wait_for(lambda s: s.findtext(f"{CLIENT}body") == "Here")


async def test_slow_bridge_is_a_no_while_others_go_on(rules: Script, room: str, gate: Gate, enter: Connect) -> None:
    async with enter(rules.person(room)) as inside, enter(rules.person(room)) as late:
        await inside.join("aaaa0001")
        rules.hold.clear()
        began = time.monotonic()
        joining = asyncio.create_task(late.join("aaaa0002"))
        await rules.waiting.wait()
        asked = time.monotonic()
        await inside.ping()
        assert time.monotonic() - asked < 2
        assert not joining.done()
        with pytest.raises(Refused) as no:
            await joining
        assert (no.value.condition, no.value.reason) == ("service-unavailable", "unavailable")
        assert 2.5 < time.monotonic() - began < 8
        with capture_logs() as logs:
            rules.hold.set()  # the yes comes now
            rules.asked.clear()
            await late.ping()
            await inside.ping()
        assert "gate_answer_expired" in [line["event"] for line in logs]
        assert not [s for s in inside.received if s.get("from", "").endswith("/aaaa0002")]
        await late.join("aaaa0002")


async def test_slow_bridge_gives_no_session_either(rules: Script, room: str, gate: Gate, enter: Connect) -> None:
    rules.hold.clear()
    began = time.monotonic()
    with pytest.raises(Refused) as no:
        async with enter(rules.person(room)):
            pass
    assert (no.value.condition, no.value.reason) == ("temporary-auth-failure", "unavailable")
    assert 2.5 < time.monotonic() - began < 8


async def test_person_put_out_while_waiting_at_the_door_does_not_enter(
    rules: Script, room: str, gate: Gate, enter: Connect
) -> None:
    person = rules.person(room)
    async with enter(rules.person(room)) as inside, enter(person) as client:
        await inside.join("aaaa0001")
        rules.hold.clear()
        joining = asyncio.create_task(client.join("aaaa0002"))
        await rules.waiting.wait()
        assert await gate.expel(room, person.username, "Not the right Anna") == 1
        with pytest.raises(Refused) as no:
            await joining
        assert no.value.condition == "closed"
        rules.hold.set()  # the yes comes now
        async with enter(rules.person(room, "Bo")) as next_one:
            await next_one.join("aaaa0003")
            assert [occupant for _, occupant, _ in await rules.heard(2)] == [inside.jid, next_one.jid]


async def test_gate_works_again_by_itself_after_prosody_restarted(
    rules: Script, room: str, gate: Gate, prosody: Prosody, enter: Connect
) -> None:
    lost = asyncio.Event()
    gate._on_link = lambda up: None if up else lost.set()
    async with enter(rules.person(room)) as client:
        await client.join("aaaa0001")
        await rules.heard(1)
    await asyncio.to_thread(prosody.stop)
    await asyncio.wait_for(lost.wait(), 10)
    await asyncio.to_thread(prosody.start)
    assert await gate.wait_connected(10)
    async with enter(rules.person(room)) as client:
        assert name_of(await client.join("aaaa0001")) == "Anna Lindberg"
        await client.leave()
    assert rules.rolls[0][0] != rules.rolls[-1][0]
    assert rules.rolls[-1][2] == []  # nobody is inside after a restart, and the rules know


async def test_restarted_bridge_takes_over_from_its_old_link(
    rules: Script, room: str, gate: Gate, prosody: Prosody, enter: Connect
) -> None:
    returned_rules = Script()
    returned_rules.open_rooms.add(room)
    returned = new_gate(prosody, returned_rules)
    await returned.start()
    try:
        assert await returned.wait_connected(10)
        await gate.stop()
        assert await returned.wait_connected(10)
        async with enter(returned_rules.person(room)) as client:
            await client.join("aaaa0001")
    finally:
        await returned.stop()


async def test_link_is_told_when_it_comes_and_goes(rules: Script, prosody: Prosody) -> None:
    changes: list[bool] = []
    gate = Gate(COMPONENT, "127.0.0.1", prosody.component_port, SECRET, MEET, rules, on_link=changes.append)
    await gate.start()
    assert await gate.wait_connected(10)
    assert gate.connected
    await gate.stop()
    assert not gate.connected
    assert changes == [True, False]


async def test_wrong_secret_is_called_by_its_name(rules: Script, prosody: Prosody) -> None:
    with capture_logs() as logs:
        gate = new_gate(prosody, rules, "not the secret")
        await gate.start()
        assert not await gate.wait_connected(1)
        await gate.stop()
    assert {line["event"] for line in logs} == {"gate_secret_refused"}
    assert "not the secret" not in str(logs)


async def test_absent_prosody_is_called_by_its_address(rules: Script) -> None:
    port = free_port()
    with capture_logs() as logs:
        gate = Gate(COMPONENT, "127.0.0.1", port, SECRET, MEET, rules)
        await gate.start()
        assert not await gate.wait_connected(0.5)
        await gate.stop()
    assert {(line["event"], line["prosody"]) for line in logs} == {("gate_not_connected", f"127.0.0.1:{port}")}


async def test_failing_rules_are_logged_without_the_ticket(
    rules: Script, room: str, gate: Gate, prosody: Prosody
) -> None:
    rules.fail = True
    person = rules.person(room)
    with capture_logs() as logs, pytest.raises(Refused):
        async with connect(prosody.websocket, MEET, room=room, token=person.token):
            pass
    # At least once: what an earlier test left behind may be told meanwhile, and fails too.
    assert {(line["event"], line["error"]) for line in logs} == {("gate_rule_failed", "RuntimeError")}
    assert person.token not in str(logs)


@pytest.mark.parametrize(
    ("parse", "xml"),
    [
        (protocol.parse_authenticate, "<authenticate session='s' room='r' transport='bosh' address='::1'/>"),
        (protocol.parse_authenticate, "<authenticate room='r' address='::1'><token>t</token></authenticate>"),
        (protocol.parse_admit, "<admit session='s' room='r' occupant='o' kind='admin' stage='join'/>"),
        (protocol.parse_admit, "<admit session='s' room='r' occupant='o' kind='focus' stage='leave'/>"),
        (protocol.parse_admit, "<admit session='s' room='' occupant='o' kind='focus' stage='join'/>"),
        (protocol.parse_events, "<events epoch='e'><left seq='x' room='r' session='s' occupant='o' at='1'/></events>"),
        (protocol.parse_events, "<events epoch='e'><left seq='1' room='r' session='s' occupant='o'/></events>"),
        (protocol.parse_events, "<events><left seq='1' room='r' session='s' occupant='o' at='1'/></events>"),
        (protocol.parse_roll, "<iq/>"),
        (protocol.parse_roll, "<iq><roll epoch='e' seq='1'><occupant room='r'/></roll></iq>"),
        (protocol.parse_expelled, "<iq><expelled/></iq>"),
    ],
)  # fmt: skip
def test_malformed_stanzas_are_refused(parse, xml: str) -> None:
    root = ET.fromstring(xml)  # noqa: S314
    for node in root.iter():
        node.tag = protocol.tag(node.tag)
    with pytest.raises(protocol.MalformedError):
        parse(root)


async def test_what_is_asked_in_no_words_of_the_protocol_is_declined(
    rules: Script, room: str, gate: Gate, prosody: Prosody
) -> None:
    async with open_stream(prosody.c2s, f"auth.{MEET}") as client:
        await client.authenticate("focus", FOCUS_PASSWORD)
        for payload in ("<ping xmlns='urn:xmpp:ping'/>", "<admit xmlns='urn:sluss:gate:2'/>"):
            with pytest.raises(Refused) as no:
                await client.iq("get", COMPONENT, payload)
            assert no.value.condition == "feature-not-implemented"
    assert rules.asked == []


def test_refusal_carries_nothing_but_its_reason() -> None:
    verdict = protocol.render_verdict(Verdict(False, "s", Refusal.USED, username="p-1", name="Anna"))
    assert verdict.attrib == {"allow": "false", "session": "s", "reason": "used"}
    assert len(verdict) == 0
