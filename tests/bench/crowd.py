"""Many who join at once, for as little work as that can be done with: a process of its own beside what is measured.

A websocket client (RFC 6455, 7395) that looks for the words it waits for and parses nothing. It masks with zeros, which
leaves the text as it is. Reads one JSON line: port, domain, people, rate (a second; 0: so many `at_once`). Answers with
one: how long each join took and all together, in seconds, and the CPU it used itself. The connections stay until the
next line.
"""

from __future__ import annotations

import asyncio
import json
import struct
import sys
import time
from urllib.parse import urlencode

OPEN = "<open xmlns='urn:ietf:params:xml:ns:xmpp-framing' to='{}' version='1.0'/>"
AUTH = "<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='ANONYMOUS'/>"
BIND = "<iq xmlns='jabber:client' id='b' type='set'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'/></iq>"
JOIN = (  # the name as Jitsi's client always says it: without a gate the others see that one
    "<presence xmlns='jabber:client' to='{}@conference.{}/{}'><x xmlns='http://jabber.org/protocol/muc'/>"
    "<nick xmlns='http://jabber.org/protocol/nick'>Anna Lindberg</nick></presence>"
)
MEDIUM, LONG = 126, 0x10000


class Guest(asyncio.Protocol):
    """One connection, from the request to one's own presence in the room."""

    def __init__(self, domain: str, room: str, token: str, nick: str) -> None:
        query = urlencode({"room": room, "token": token})
        request = (
            f"GET /xmpp-websocket?{query} HTTP/1.1\r\nHost: {domain}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n"
            "Sec-WebSocket-Protocol: xmpp\r\n\r\n"
        )
        hello = _frame(OPEN.format(domain))
        # What to wait for, and what to say then
        self._steps = [
            (b"\r\n\r\n", hello),
            (b"</stream:features>", _frame(AUTH)),
            (b"<success", hello),
            (b"</stream:features>", _frame(BIND)),
            (b"</iq>", _frame(JOIN.format(room, domain, nick))),
            (b"code='110'", b""),
        ]
        self._request = request.encode()
        self._step, self._tail = 0, b""
        self.inside: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport: asyncio.WriteTransport = transport  # type: ignore[assignment]
        self.transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        if self._step == len(self._steps):
            return  # others' presences
        data = self._tail + data
        expected, answer = self._steps[self._step]
        if expected not in data:
            self._tail = data[-200:]
            if b"<failure" in data or b"type='error'" in data:
                self._fail(data)
            return
        self._tail = b""
        self._step += 1
        if answer:
            self.transport.write(answer)
        else:
            self.inside.set_result(None)

    def connection_lost(self, _: Exception | None) -> None:
        self._fail(b"connection lost")

    def _fail(self, why: bytes) -> None:
        if not self.inside.done():
            self.inside.set_exception(RuntimeError(f"step {self._step}: {why[-300:]!r}"))


def _frame(text: str) -> bytes:
    data = text.encode()
    size = len(data)
    if size < MEDIUM:
        head = struct.pack("!BB", 0x81, 0x80 | size)
    else:
        assert size < LONG
        head = struct.pack("!BBH", 0x81, 0x80 | MEDIUM, size)
    return head + bytes(4) + data


async def crowd(order: dict) -> dict:
    """Everybody of one order; what to answer."""
    loop = asyncio.get_running_loop()
    took: list[float] = []
    guests: list[Guest] = []

    async def join(number: int, begun: float) -> None:
        room, token = order["people"][number]
        _, guest = await loop.create_connection(
            lambda: Guest(order["domain"], room, token, f"n{number}"), "127.0.0.1", order["port"]
        )
        guests.append(guest)
        await guest.inside
        took.append(time.perf_counter() - begun)

    start, used = time.perf_counter(), time.process_time()
    async with asyncio.timeout(100), asyncio.TaskGroup() as group:
        if order["rate"]:
            for number in range(len(order["people"])):
                due = start + number / order["rate"]
                await asyncio.sleep(max(0, due - time.perf_counter()))
                group.create_task(join(number, due))
        else:
            waiting = iter(range(len(order["people"])))

            async def worker() -> None:
                for number in waiting:
                    await join(number, time.perf_counter())

            for _ in range(order["at_once"]):
                group.create_task(worker())
    answer = {"seconds": time.perf_counter() - start, "took": took, "cpu": time.process_time() - used}
    print(json.dumps(answer), flush=True)
    await asyncio.to_thread(sys.stdin.readline)
    for guest in guests:
        guest.transport.abort()
    return answer


if __name__ == "__main__":
    asyncio.run(crowd(json.loads(sys.stdin.readline())))
