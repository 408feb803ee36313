"""A small XMPP client for tests: websocket (RFC 7395), BOSH (XEP-0124, 0206) or TCP; SASL ANONYMOUS or PLAIN; MUC.

async with connect("ws://127.0.0.1:5280/xmpp-websocket", "meet.sluss.test", room=room, token=token) as client:
    mine = await client.join("a1b2c3d4")
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import itertools
import random
import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlencode, urlsplit
from xml.etree import ElementTree as ET
from xml.sax.saxutils import quoteattr

import aiohttp

CLIENT = "{jabber:client}"
FRAMING = "{urn:ietf:params:xml:ns:xmpp-framing}"
SASL = "{urn:ietf:params:xml:ns:xmpp-sasl}"
STREAMS = "{http://etherx.jabber.org/streams}"
BOSH = "{http://jabber.org/protocol/httpbind}"
STANZAS = "{urn:ietf:params:xml:ns:xmpp-stanzas}"
SM = "{urn:xmpp:sm:3}"
MUC_USER = "{http://jabber.org/protocol/muc#user}"
NICK = "{http://jabber.org/protocol/nick}nick"
GATE = "{urn:sluss:gate:1}"

Stanza = ET.Element


class Refused(Exception):
    """The server said no. `reason` is the gate's word, if it gave one."""

    def __init__(self, condition: str, reason: str | None = None) -> None:
        super().__init__(f"{condition} ({reason})")
        self.condition, self.reason = condition, reason


def refusal(stanza: Stanza) -> Refused:
    """The error that a stanza of type `error` carries."""
    error = stanza.find(f"{CLIENT}error")
    condition = next((child.tag for child in error if child.tag.startswith(STANZAS)), "?")
    gate = error.find(f"{GATE}refused")
    return Refused(condition.removeprefix(STANZAS), gate.get("reason") if gate is not None else None)


def name_of(stanza: Stanza) -> str | None:
    """The names that a presence or message bears: all of them, so that a second one shows."""
    names = [nick.text for nick in stanza.iter() if nick.tag.endswith("}nick") or nick.tag == "nick"]
    return "|".join(name or "" for name in names) or None


def role_of(presence: Stanza) -> tuple[str, str]:
    """MUC affiliation and role in a presence."""
    item = presence.find(f"{MUC_USER}x/{MUC_USER}item")
    return item.get("affiliation"), item.get("role")


def statuses(presence: Stanza) -> set[str]:
    """MUC status codes in a presence."""
    return {status.get("code") for status in presence.iterfind(f"{MUC_USER}x/{MUC_USER}status")}


class Client:
    """A stream to the server, bound and ready after `connect`."""

    def __init__(self, transport: _WebSocket | _Bosh | _Tcp, domain: str, room: str | None) -> None:
        self._transport = transport
        self._ids = itertools.count(1)
        self._arrived = asyncio.Condition()
        self.domain, self.room = domain, room
        self.jid = ""
        self.nick = ""
        self.received: list[Stanza] = []
        self.closed = asyncio.Event()
        self._reader = asyncio.create_task(self._read())

    @property
    def room_jid(self) -> str:
        return f"{self.room}@conference.{self.domain}"

    async def authenticate(self, username: str = "", password: str = "") -> None:
        """SASL, with a password only if there is one, and resource binding. Raises `Refused`."""
        await self.sign_in(username, password)
        bound = await self.iq("set", None, "<bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'/>")
        self.jid = bound.findtext(".//{urn:ietf:params:xml:ns:xmpp-bind}jid")

    async def sign_in(self, username: str = "", password: str = "") -> None:
        """The same as far as SASL goes."""
        mechanism = "PLAIN" if password else "ANONYMOUS"
        features = await self.wait_for(lambda s: s.tag == f"{STREAMS}features")
        offered = [offer.text for offer in features.iter(f"{SASL}mechanism")]
        if mechanism not in offered:
            raise Refused("not-offered", ",".join(offered))
        secret = base64.b64encode(f"\0{username}\0{password}".encode()).decode() if password else ""
        since = len(self.received)
        await self.try_sasl(mechanism, secret)
        await self._transport.restart()
        await self.wait_for(lambda s: s.tag == f"{STREAMS}features", since=since)

    async def make_resumable(self) -> str | None:
        """Have this stream kept for whoever comes back to it (XEP-0198): its id, None if the server does not."""
        answer = await self._manage("<enable xmlns='urn:xmpp:sm:3' resume='true'/>", "enabled")
        return answer.get("id") if answer is not None else None

    async def resume(self, previd: str) -> bool:
        """Take over the stream with that id, after `sign_in`. Whether the server let us."""
        nonza = f"<resume xmlns='urn:xmpp:sm:3' previd={quoteattr(previd)} h='0'/>"
        return await self._manage(nonza, "resumed") is not None

    async def _manage(self, nonza: str, success: str) -> Stanza | None:
        since = len(self.received)
        await self._transport.send(nonza)
        try:
            answer = await self.wait_for(
                lambda s: s.tag in {f"{SM}{success}", f"{SM}failed"} or s.tag == f"{STREAMS}error",
                since=since,
                within=1,  # a server that does not know it may say nothing
            )
        except (Refused, TimeoutError):
            return None
        return answer if answer.tag == f"{SM}{success}" else None

    async def try_sasl(self, mechanism: str, secret: str = "") -> None:
        """One SASL exchange, whether offered or not. Raises `Refused`."""
        since = len(self.received)
        await self._transport.send(
            f"<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='{mechanism}'>{secret}</auth>"
        )
        outcome = await self.wait_for(lambda s: s.tag in {f"{SASL}success", f"{SASL}failure"}, since=since)
        if outcome.tag == f"{SASL}failure":
            raise Refused(outcome[0].tag.removeprefix(SASL), outcome.findtext(f"{SASL}text"))

    async def join(self, nick: str, *, room_jid: str | None = None, extra: str = "", wait: float = 10) -> Stanza:
        """Enter the room; the own presence as the room reflects it. Raises `Refused`."""
        self.nick, to = nick, f"{room_jid or self.room_jid}/{nick}"
        since = len(self.received)
        await self.send(f"<presence to={quoteattr(to)}><x xmlns='http://jabber.org/protocol/muc'/>{extra}</presence>")
        answer = await self.wait_for(
            lambda s: (
                s.tag == f"{CLIENT}presence"
                and (s.get("type") == "error" or (s.get("from") == to and "110" in statuses(s)))
            ),
            since=since,
            within=wait,
        )
        if answer.get("type") == "error":
            raise refusal(answer)
        return answer

    async def ask_focus(self, room_jid: str | None = None) -> Stanza:
        """Have Jitsi's focus open the room, as its client does before it enters. Raises `Refused`."""
        room = quoteattr(room_jid or self.room_jid)
        asked = f"<conference xmlns='http://jitsi.org/protocol/focus' room={room}/>"
        return await self.iq("set", f"focus.{self.domain}", asked)

    async def leave(self) -> None:
        """Leave the room, and wait until the room says so."""
        since, me = len(self.received), f"{self.room_jid}/{self.nick}"
        await self.send(f"<presence to={quoteattr(me)} type='unavailable'/>")
        await self.wait_for(lambda s: s.get("from") == me and s.get("type") == "unavailable", since=since)

    async def iq(self, kind: str, to: str | None, payload: str) -> Stanza:
        """Ask, and return the result. Raises `Refused`."""
        id_ = f"q{next(self._ids)}"
        addressed = f" to={quoteattr(to)}" if to else ""
        await self.send(f"<iq id='{id_}' type='{kind}'{addressed}>{payload}</iq>")
        answer = await self.wait_for(lambda s: s.tag == f"{CLIENT}iq" and s.get("id") == id_)
        if answer.get("type") == "error":
            raise refusal(answer)
        return answer

    async def ping(self) -> None:
        """Have everything before this handled by the server, and everything due arrive here."""
        await self.iq("get", self.domain, "<ping xmlns='urn:xmpp:ping'/>")

    async def send(self, stanza: str) -> None:
        """Send a stanza written as XML without a namespace."""
        await self._transport.send(re.sub(r"^<(\w+)", r"<\1 xmlns='jabber:client'", stanza))

    async def wait_for(self, wanted: Callable[[Stanza], bool], *, since: int = 0, within: float = 10) -> Stanza:
        """The first stanza from `received[since:]` on that is wanted, waiting `within` seconds for it."""
        async with asyncio.timeout(within), self._arrived:
            while True:
                for stanza in self.received[since:]:
                    if wanted(stanza):
                        return stanza
                if self.closed.is_set():
                    raise Refused("closed")
                since = len(self.received)
                await self._arrived.wait()

    async def close(self) -> None:
        """Drop the connection without leaving the room first, as a closed page does."""
        self._reader.cancel()
        await asyncio.gather(self._reader, return_exceptions=True)
        await self._transport.close()

    async def _read(self) -> None:
        try:
            async for stanza in self._transport.stanzas():
                async with self._arrived:
                    self.received.append(stanza)
                    self._arrived.notify_all()
        except aiohttp.ClientError:
            pass  # the connection is gone, which `closed` tells
        finally:
            self.closed.set()
            async with self._arrived:
                self._arrived.notify_all()


class _WebSocket:
    def __init__(self, domain: str, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._domain, self._socket = domain, socket

    async def restart(self) -> None:
        await self.send(
            f"<open xmlns='urn:ietf:params:xml:ns:xmpp-framing' to={quoteattr(self._domain)} version='1.0'/>"
        )

    async def send(self, stanza: str) -> None:
        try:
            await self._socket.send_str(stanza)
        except ConnectionError:  # closed by the server, which `_read` has not come to yet
            raise Refused("closed") from None

    async def stanzas(self) -> AsyncIterator[Stanza]:
        async for frame in self._socket:
            if frame.type is not aiohttp.WSMsgType.TEXT:
                continue
            # Prosody 13 leaves out the declaration here
            data = frame.data.replace("<stream:error>", f"<stream:error xmlns:stream='{STREAMS[1:-1]}'>")
            stanza = ET.fromstring(data)  # noqa: S314
            if stanza.tag == f"{FRAMING}close":
                return
            yield stanza

    async def close(self) -> None:
        await self._socket.close()


class _Tcp:
    def __init__(self, domain: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._domain, self._reader, self._writer = domain, reader, writer
        self._parser = ET.XMLPullParser(["start", "end"])
        self._depth = 0

    async def restart(self) -> None:
        self._parser, self._depth = ET.XMLPullParser(["start", "end"]), 0
        await self.send(
            f"<stream:stream xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams'"
            f" to={quoteattr(self._domain)} version='1.0'>"
        )

    async def send(self, stanza: str) -> None:
        self._writer.write(stanza.encode())
        await self._writer.drain()

    async def stanzas(self) -> AsyncIterator[Stanza]:
        while data := await self._reader.read(65536):
            self._parser.feed(data)
            for event, element in self._parser.read_events():
                self._depth += 1 if event == "start" else -1
                if event == "end" and self._depth == 1:
                    yield element

    async def close(self) -> None:
        self._writer.close()
        with contextlib.suppress(ConnectionError):
            await self._writer.wait_closed()


class _Bosh:
    def __init__(self, domain: str, http: aiohttp.ClientSession, url: str, options: dict[str, Any]) -> None:
        self._domain, self._http, self._url, self._options = domain, http, url, options
        self._rid = itertools.count(random.randrange(10**9))
        self._sid = ""
        self._bodies: asyncio.Queue[Stanza] = asyncio.Queue()
        self._tasks: set[asyncio.Task[None]] = set()
        self._sending = asyncio.Lock()  # no more than two requests at a time: one held, one on its way

    async def restart(self) -> None:
        if self._sid:
            self._begin(self._send("", restart="true"))
        else:
            await self._post("", to=self._domain, wait="30", hold="1", ver="1.6")

    async def send(self, stanza: str) -> None:
        self._begin(self._send(stanza))

    async def stanzas(self) -> AsyncIterator[Stanza]:
        while True:
            body = await self._bodies.get()
            for stanza in body:
                yield stanza
            if body.get("type") == "terminate":
                return

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        # Prosody may leave the goodbye unanswered: it waits for a request that was taken back before it was sent.
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(2):
                await self._post("", type="terminate")

    def poll(self) -> None:
        """Keep a request with the server, for it to answer when it has something to say."""
        self._begin(self._keep_polling())

    def _begin(self, work: Any) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _send(self, stanza: str, restart: str = "") -> None:
        async with self._sending:
            await self._post(stanza, restart=restart)

    async def _keep_polling(self) -> None:
        while await self._post(""):
            pass

    async def _post(self, stanza: str, *, restart: str = "", **attributes: str) -> bool:
        given = {"rid": str(next(self._rid)), "sid": self._sid, **attributes}
        if restart:
            given |= {"xmpp:restart": "true", "to": self._domain}
        else:
            given |= {"xmpp:version": "1.0"}
        shown = " ".join(f"{name}={quoteattr(value)}" for name, value in given.items() if value)
        body = f"<body xmlns='http://jabber.org/protocol/httpbind' xmlns:xmpp='urn:xmpp:xbosh' {shown}>{stanza}</body>"
        try:
            async with self._http.post(self._url, data=body.encode(), **self._options) as response:
                answer = ET.fromstring(await response.text())  # noqa: S314
        except (aiohttp.ClientError, ET.ParseError):
            answer = ET.Element(f"{BOSH}body", type="terminate")
        self._sid = answer.get("sid", self._sid)
        await self._bodies.put(answer)
        return answer.get("type") != "terminate"


@asynccontextmanager
async def open_stream(
    url: str,
    domain: str,
    *,
    room: str | None = None,
    token: str | None = None,
    ssl: Any = True,
    headers: dict[str, str] | None = None,
) -> AsyncIterator[Client]:
    """A stream that is not yet authenticated: websocket (ws, wss), BOSH (http, https) or TCP (tcp)."""
    query = {name: value for name, value in (("room", room), ("token", token)) if value is not None}
    full = f"{url}?{urlencode(query)}" if query else url
    options = {"headers": {"Host": domain, **(headers or {})}, "ssl": ssl}
    async with contextlib.AsyncExitStack() as stack:
        http = await stack.enter_async_context(aiohttp.ClientSession())
        if url.startswith("tcp"):
            place = urlsplit(url)
            transport: Any = _Tcp(domain, *await asyncio.open_connection(place.hostname, place.port))
        elif url.startswith("ws"):
            socket = await http.ws_connect(full, protocols=["xmpp"], **options)
            transport = _WebSocket(domain, socket)
        else:
            transport = _Bosh(domain, http, full, options)
        client = Client(transport, domain, room)
        stack.push_async_callback(client.close)
        await transport.restart()
        if isinstance(transport, _Bosh):
            transport.poll()
        yield client


@asynccontextmanager
async def connect(url: str, domain: str, **options: Any) -> AsyncIterator[Client]:
    """An authenticated and bound stream; options as of `open_stream`. Raises `Refused`."""
    async with open_stream(url, domain, **options) as client:
        await client.authenticate()
        yield client


async def offered(url: str, domain: str, **options: Any) -> list[str]:
    """The SASL mechanisms that a host offers to a new stream; none if it closes it. Options as of `open_stream`."""
    async with open_stream(url, domain, **options) as client:
        try:
            features = await client.wait_for(lambda s: s.tag == f"{STREAMS}features", within=5)
        except Refused:
            return []
        return [str(mechanism.text) for mechanism in features.iter(f"{SASL}mechanism")]
