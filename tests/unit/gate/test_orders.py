"""Putting out, ending, and the attendance: what the bridge orders and what it hears."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack
from urllib.parse import urlencode

import aiohttp
import pytest
from tests.unit.gate.conftest import Connect, Script
from tests.unit.gate.prosody import COMPONENT, CONFERENCE, MEET, SECRET, Prosody
from tests.xmpp import CLIENT, Client, Refused, connect, open_stream, statuses

from sluss.domain.errors import GateUnavailable
from sluss.domain.gate import Change, GateEvent, Occupant, Role, Stage
from sluss.gate import Gate


async def test_expelled_person_is_out_on_every_connection_within_two_seconds(
    rules: Script, room: str, enter: Connect, gate: Gate
) -> None:
    person, again = rules.person(room), rules.person(room)
    again.username = person.username
    async with (
        enter(rules.person(room)) as other,
        enter(person) as laptop,
        enter(again) as phone,
    ):
        await other.join("aaaa0001")
        await laptop.join("aaaa0002")
        await phone.join("aaaa0003")
        began = time.monotonic()
        assert await gate.expel(room, person.username, "Not the right Anna") == 2
        await asyncio.wait_for(asyncio.gather(laptop.closed.wait(), phone.closed.wait()), 2)
        assert time.monotonic() - began < 2
        for nick in ("aaaa0002", "aaaa0003"):
            gone = await other.wait_for(
                lambda s, nick=nick: s.get("from", "").endswith(nick) and s.get("type") == "unavailable"
            )
            assert "307" in statuses(gone)
        assert not other.closed.is_set()
        heard = await rules.heard(5)
    assert {(kind, reason) for kind, _, reason in heard[3:]} == {("left", "expelled")}
    assert {occupant for _, occupant, _ in heard[3:]} == {laptop.jid, phone.jid}


async def test_expelled_person_who_has_not_entered_yet_is_disconnected(
    rules: Script, room: str, enter: Connect, gate: Gate
) -> None:
    person = rules.person(room)
    async with enter(person) as client:
        assert await gate.expel(room, person.username, "Withdrawn") == 1
        await asyncio.wait_for(client.closed.wait(), 2)


@pytest.mark.parametrize("order", ["expel", "end"])
@pytest.mark.parametrize("signed_in", [False, True])
async def test_who_is_put_out_with_a_stream_and_a_yes_but_no_session_yet_is_disconnected(
    rules: Script, room: str, gate: Gate, url: str, order: str, *, signed_in: bool
) -> None:
    rules.admits_at_once, person = True, rules.person(room)
    async with open_stream(url, MEET, room=room, token=person.token) as client:
        if signed_in:
            await client.sign_in()
        await rules.has_answered(gate)
        if order == "expel":
            assert await gate.expel(room, person.username, "Withdrawn") == 1
        else:
            await gate.end(room, "Over")
        await asyncio.wait_for(client.closed.wait(), 2)
        with pytest.raises((Refused, TimeoutError, OSError)):
            await client.authenticate()


@pytest.mark.parametrize("order", ["expel", "end"])
async def test_who_is_put_out_with_a_yes_but_no_stream_yet_is_disconnected(
    rules: Script, room: str, gate: Gate, prosody: Prosody, order: str
) -> None:
    person = rules.person(room)
    query = urlencode({"room": room, "token": person.token})
    async with (
        aiohttp.ClientSession() as http,
        http.ws_connect(f"{prosody.websocket}?{query}", protocols=["xmpp"], headers={"Host": MEET}) as socket,
    ):
        await rules.has_answered(gate)
        if order == "expel":
            assert await gate.expel(room, person.username, "Withdrawn") == 1
        else:
            await gate.end(room, "Over")
        async with asyncio.timeout(2):
            while not socket.closed:
                await socket.receive()


async def test_session_that_cannot_be_closed_keeps_nobody_in(
    rules: Script, room: str, enter: Connect, gate: Gate, prosody: Prosody
) -> None:
    person, again = rules.person(room), rules.person(room)
    again.username = person.username
    async with enter(person) as first, enter(again) as second:
        for client in (first, second):
            code = f"> prosody.full_sessions['{client.jid}'].close = function () error('broken') end"
            await asyncio.to_thread(prosody.control, "shell", code)
        assert await gate.expel(room, person.username, "Withdrawn") == 2
        for client in (first, second):
            with pytest.raises((Refused, TimeoutError, OSError)):
                await client.join("aaaa0001", wait=2)
    assert await gate.expel(room, person.username, "Withdrawn") == 0


@pytest.fixture
def broken(prosody: Prosody) -> Iterator[None]:
    """A module of somebody else's that fails whenever an occupant leaves."""
    handler = f"prosody.hosts['{CONFERENCE}'].events.%s('muc-occupant-left', prosody.broken)"
    for code in ("prosody.broken = function () error('broken') end", handler % "add_handler"):
        prosody.control("shell", f"> {code}")
    yield
    prosody.control("shell", f"> {handler % 'remove_handler'}")


@pytest.mark.parametrize("order", ["expel", "end"])
@pytest.mark.usefixtures("broken")
async def test_module_that_fails_when_somebody_leaves_keeps_nobody_in(
    rules: Script, room: str, enter: Connect, gate: Gate, order: str
) -> None:
    person, again = rules.person(room), rules.person(room)
    again.username = person.username
    async with enter(person) as first, enter(again) as second:
        for client in (first, second):
            await client.join(f"aaaa000{len(rules.events)}")
            await rules.heard(len(rules.events) + 1)
        if order == "expel":
            assert await gate.expel(room, person.username, "Withdrawn") == 2
        else:
            await gate.end(room, "Over")
        await asyncio.wait_for(asyncio.gather(first.closed.wait(), second.closed.wait()), 2)


async def test_expelling_somebody_who_is_not_there_counts_nobody(room: str, gate: Gate) -> None:
    assert await gate.expel(room, "p-nobody", "Withdrawn") == 0


async def test_expelling_leaves_the_same_persons_other_meeting_alone(
    rules: Script, room: str, enter: Connect, gate: Gate
) -> None:
    person, elsewhere = rules.person(room), rules.person("b" * 32)
    elsewhere.username = person.username
    rules.open_rooms.add("b" * 32)
    async with enter(person) as client, enter(elsewhere) as other:
        await client.join("aaaa0001")
        await other.join("aaaa0001")
        assert await gate.expel(room, person.username, "Withdrawn") == 1
        await asyncio.wait_for(client.closed.wait(), 2)
        await other.ping()


async def test_ended_meeting_puts_everybody_out_and_the_room_is_gone(
    rules: Script, room: str, enter: Connect, gate: Gate, url: str
) -> None:
    async with enter(rules.person(room)) as first, enter(rules.person(room)) as second:
        await first.join("aaaa0001")
        await second.join("aaaa0002")
        await gate.end(room, "The meeting has ended")
        await asyncio.wait_for(asyncio.gather(first.closed.wait(), second.closed.wait()), 2)
        if url.startswith("ws"):  # over BOSH, whoever is between two polls learns no more than that they are out
            assert any(s.find(".//{http://jabber.org/protocol/muc#user}destroy") is not None for s in first.received)
        heard = await rules.heard(4)
    assert [(kind, reason) for kind, _, reason in heard[2:]] == [("left", "ended")] * 2
    rules.asked.clear()
    async with enter(rules.person(room)) as late:
        await late.join("aaaa0001")
        assert [stage for _, stage, _ in rules.asked] == [Stage.CREATE]  # the room has to be created again


async def test_only_a_bridge_gives_orders(rules: Script, room: str, enter: Connect, focus: Client) -> None:
    person = rules.person(room)
    async with enter(person) as client:
        await client.join("aaaa0001")
        for kind, order in (
            ("set", f"<expel xmlns='urn:sluss:gate:1' room='{room}' username='{person.username}'/>"),
            ("set", f"<end xmlns='urn:sluss:gate:1' room='{room}'/>"),
            ("get", "<roll xmlns='urn:sluss:gate:1'/>"),
        ):
            with pytest.raises(Refused) as no:
                await focus.iq(kind, CONFERENCE, order)
            assert no.value.condition == "forbidden"
        await client.ping()


async def test_only_prosody_asks_the_bridge(rules: Script, room: str, focus: Client) -> None:
    question = f"<admit xmlns='urn:sluss:gate:1' session='s' room='{room}' occupant='o' kind='focus' stage='join'/>"
    with pytest.raises(Refused) as no:
        await focus.iq("get", COMPONENT, question)
    assert no.value.condition == "forbidden"
    assert rules.asked == []


async def test_orders_without_a_link_fail_at_once(rules: Script, prosody: Prosody) -> None:
    gate = Gate(COMPONENT, "127.0.0.1", prosody.component_port, SECRET, MEET, rules)
    assert not gate.connected
    with pytest.raises(GateUnavailable):
        await gate.expel("room", "p-1", "")
    with pytest.raises(GateUnavailable):
        await gate.end("room", "")


async def test_entering_and_leaving_are_told_once_with_the_session(rules: Script, room: str, enter: Connect) -> None:
    person = rules.person(room)
    async with enter(person) as client:
        await client.join("aaaa0001")
        await client.send(f"<presence to='{client.room_jid}/aaaa0001'><status>still here</status></presence>")
        await client.wait_for(lambda s: s.findtext(f"{CLIENT}status") == "still here")
        await client.leave()
        await rules.heard(2)
        await client.join("aaaa0001")
        jid = client.jid
        await rules.heard(3)
        await client.send("<presence type='unavailable'/>")
        heard = await rules.heard(4)
    assert heard == [("entered", jid, None), ("left", jid, None)] * 2
    events = [event for _, event in rules.events]
    assert {rules.sessions[event.session].token for event in events} == {person.token}
    assert {event.room for event in events} == {room}
    assert [event.seq - events[0].seq for event in events] == [0, 1, 2, 3]
    assert all(abs(event.at - time.time()) < 60 for event in events)


async def test_closed_connection_is_a_leaving(rules: Script, room: str, enter: Connect) -> None:
    async with enter(rules.person(room)) as client:
        await client.join("aaaa0001")
    assert (await rules.heard(2))[1] == ("left", client.jid, None)


async def test_one_nick_on_two_devices_of_a_person_is_two_attendances(rules: Script, room: str, enter: Connect) -> None:
    person, again = rules.person(room), rules.person(room)
    again.username = person.username
    async with enter(person) as laptop, enter(again) as phone:
        await laptop.join("aaaa0001")
        await phone.join("aaaa0001")
        await laptop.leave()
        heard = await rules.heard(3)
        assert heard == [
            ("entered", laptop.jid, None),
            ("entered", phone.jid, None),
            ("left", laptop.jid, None),
        ]
        await phone.send(f"<message to='{phone.room_jid}' type='groupchat'><body>Still in</body></message>")
        await phone.wait_for(lambda s: s.findtext(f"{CLIENT}body") == "Still in")


async def test_focus_does_not_attend(rules: Script, room: str, focus: Client, enter: Connect) -> None:
    focus.room, focus.domain = room, MEET
    async with enter(rules.person(room)) as client:
        await focus.join("focus")
        await client.join("aaaa0001")
        await focus.leave()
        await client.leave()
        assert [occupant for _, occupant, _ in await rules.heard(2)] == [client.jid, client.jid]


async def test_focus_may_put_somebody_out(rules: Script, room: str, focus: Client, enter: Connect) -> None:
    focus.room, focus.domain = room, MEET
    async with enter(rules.person(room, role=Role.ORGANISER)) as client:
        await focus.join("focus")
        await client.join("aaaa0001")
        kick = "<query xmlns='http://jabber.org/protocol/muc#admin'><item role='none' nick='aaaa0001'/></query>"
        await focus.iq("set", focus.room_jid, kick)
        assert (await rules.heard(2))[1] == ("left", client.jid, None)


async def test_events_are_sent_again_until_the_rules_take_them(rules: Script, room: str, enter: Connect) -> None:
    async with enter(rules.person(room)) as client:
        await client.join("aaaa0001")
        await rules.heard(1)
        rules.fail = True
        await client.leave()
        await client.ping()
        assert len(rules.events) == 1
        rules.fail = False
        assert (await rules.heard(2))[1] == ("left", client.jid, None)


@pytest.fixture
async def crowd(rules: Script, room: str, gate: Gate, prosody: Prosody) -> AsyncIterator[list[Client]]:
    """Many before the door."""
    async with AsyncExitStack() as stack:
        people = [rules.person(room) for _ in range(40)]
        streams = [connect(prosody.websocket, MEET, room=room, token=person.token) for person in people]
        yield [await stack.enter_async_context(stream) for stream in streams]


async def come(crowd: Sequence[Client]) -> None:
    """For more than a second, without a break of a tenth."""
    for number, client in enumerate(crowd):
        await client.join(f"bbbb{number:04}")
        await asyncio.sleep(0.03)


async def test_events_wait_while_many_come_but_for_a_second_only(
    rules: Script, crowd: list[Client], monkeypatch: pytest.MonkeyPatch
) -> None:
    groups, take = [], rules.told

    async def told(events: Sequence[tuple[Change, GateEvent]]) -> None:
        groups.append(len(events))
        await take(events)

    monkeypatch.setattr(rules, "told", told)
    coming = asyncio.create_task(come(crowd))
    await rules.heard(1)
    assert not coming.done()
    await coming
    await rules.heard(len(crowd))
    assert len(groups) <= 5  # two; one every tenth of a second would be a dozen


async def test_place_of_whoever_left_is_free_at_once_while_many_come(
    rules: Script, room: str, enter: Connect, crowd: list[Client]
) -> None:
    async with enter(rules.person(room)) as client:
        await client.join("aaaa0001")
        await rules.heard(1)
        coming = asyncio.create_task(come(crowd))
        await asyncio.sleep(0.2)
        known = len(rules.events)
        await client.leave()
        async with asyncio.timeout(0.5):
            while ("left", client.jid, None) not in (heard := await rules.heard(known + 1)):
                known = len(heard)
        assert not coming.done()
        await coming


async def test_more_events_than_fit_in_one_stanza_come_in_order_and_without_a_pause(
    rules: Script, room: str, enter: Connect, crowd: list[Client]
) -> None:
    async with enter(rules.person(room)) as client:
        rules.fail_to_hear = True
        for _ in range(130):
            await client.join("aaaa0001")
            await client.leave()
        assert not rules.events
        rules.fail_to_hear = False
        coming = asyncio.create_task(come(crowd))
        await rules.heard(1)
        begun = time.monotonic()
        await rules.heard(260)
        assert time.monotonic() - begun < 0.6
        await coming
    sequence = [event.seq for _, event in rules.events]
    assert sequence == list(range(sequence[0], sequence[0] + len(sequence)))


async def test_events_of_a_bridges_absence_arrive_in_order_when_it_returns(
    rules: Script, room: str, enter: Connect, gate: Gate, prosody: Prosody
) -> None:
    async with enter(rules.person(room)) as first, enter(rules.person(room)) as second:
        await first.join("aaaa0001")
        await second.join("aaaa0002")
        await rules.heard(2)
        await gate.stop()
        await second.leave()
        await first.leave()
        returned = Gate(COMPONENT, "127.0.0.1", prosody.component_port, SECRET, MEET, rules)
        await returned.start()
        try:
            heard = await rules.heard(4)
        finally:
            await returned.stop()
    assert heard[2:] == [("left", second.jid, None), ("left", first.jid, None)]
    sequence = [event.seq for _, event in rules.events]
    assert sequence == list(range(sequence[0], sequence[0] + 4))
    assert len({event.epoch for _, event in rules.events}) == 1


async def test_roll_is_called_again_and_again_also_after_one_that_failed(
    rules: Script, room: str, gate: Gate, enter: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    await gate.stop()
    monkeypatch.setattr("sluss.gate.component.ROLL_EVERY", 0.05)
    called, failed = asyncio.Queue(), asyncio.Event()

    async def takes(_epoch: str, _seq: int, present: Sequence[Occupant]) -> None:
        await called.put(present)

    async def fails(*_: object) -> None:
        failed.set()
        raise RuntimeError("scripted failure")

    rules.roll_called = takes
    await gate.start()
    assert await gate.wait_connected(10)
    async with asyncio.timeout(10), enter(rules.person(room)) as inside:
        await inside.join("aaaa0001")
        link = gate._link
        while not await called.get():
            pass
        rules.roll_called = fails
        await failed.wait()
        rules.roll_called = takes
        while not called.empty():
            called.get_nowait()
        assert len(await called.get()) == 1
        assert gate._link is link


async def test_roll_is_called_on_connecting_and_names_everybody_inside(
    rules: Script, room: str, enter: Connect, gate: Gate, prosody: Prosody
) -> None:
    others = ["c" * 32, "d" * 32]  # with the room itself one more than Prosody keeps in memory here
    rules.open_rooms.update(others)
    async with (
        enter(rules.person(room)) as first,
        enter(rules.person(others[0])) as second,
        enter(rules.person(others[1])) as third,
    ):
        clients = (first, second, third)
        for client in clients:
            await client.join("aaaa0001")
        await rules.heard(3)
        await gate.stop()
        returned = Gate(COMPONENT, "127.0.0.1", prosody.component_port, SECRET, MEET, rules)
        await returned.start()
        assert await returned.wait_connected(10)
        await returned.stop()
    epoch, seq, present = rules.rolls[-1]
    last = rules.events[-1][1]
    assert (epoch, seq) == (last.epoch, last.seq)
    assert {(o.room, o.occupant) for o in present} == {(c.room, c.jid) for c in clients}
    assert {rules.sessions[o.session].room for o in present} == {room, *others}


async def test_reloading_the_modules_forgets_nobody(
    rules: Script, room: str, enter: Connect, gate: Gate, prosody: Prosody
) -> None:
    person = rules.person(room)
    async with enter(person) as client:
        await client.join("aaaa0001")
        await rules.heard(1)
        for module, host in (("sluss_gate", CONFERENCE), ("sluss_firewall", MEET), ("auth_sluss", MEET)):
            prosody.control("shell", "module", "reload", module, host)
        async with enter(rules.person(room, "Bo")) as second:
            await second.join("aaaa0002")
        await client.send(
            f"<presence to='{client.room_jid}/aaaa0001'><nick xmlns='http://jabber.org/protocol/nick'>X</nick>"
            "<status>after</status></presence>"
        )
        after = await client.wait_for(lambda s: s.findtext(f"{CLIENT}status") == "after")
        assert after.findtext("{http://jabber.org/protocol/nick}nick") == person.name
        assert await gate.expel(room, person.username, "Withdrawn") == 1
        await asyncio.wait_for(client.closed.wait(), 2)
        events = [event for _, event in rules.events]
        assert len({event.epoch for event in events}) == 1


async def test_reloading_the_modules_refuses_who_waits_for_an_answer_at_once(
    rules: Script, room: str, enter: Connect, gate: Gate, prosody: Prosody
) -> None:
    async with enter(rules.person(room)) as entering:
        rules.hold.clear()
        async with open_stream(prosody.websocket, MEET, room=room, token=rules.person(room).token) as signing_in:
            waiting = [asyncio.create_task(entering.join("aaaa0001")), asyncio.create_task(signing_in.authenticate())]
            for module, host in (("auth_sluss", MEET), ("sluss_gate", CONFERENCE)):
                await asyncio.to_thread(prosody.control, "shell", "module", "reload", module, host)
            async with asyncio.timeout(2):
                outcomes = await asyncio.gather(*waiting, return_exceptions=True)
        assert [no.condition for no in outcomes] == ["service-unavailable", "temporary-auth-failure"]
        rules.hold.set()
        await entering.join("aaaa0001")
