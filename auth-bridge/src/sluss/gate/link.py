"""One connection to Prosody as a component (XEP-0114), handshake to loss; only this file knows the stream.

A lost link is thrown away with everything queued on it: an answer can never arrive over a later one.
"""

import asyncio
import hashlib
import itertools
import secrets
from collections.abc import Awaitable, Callable
from typing import Any, cast
from xml.etree import ElementTree as ET
from xml.etree.ElementTree import Element
from xml.sax.saxutils import escape, quoteattr

import structlog

from sluss.gate.protocol import local_name, tag, write

log = structlog.get_logger()

ANSWER_WITHIN = 2.8
"""Seconds after which an answer is not sent any more: Prosody stops waiting after 3."""

HANDSHAKE_WITHIN = 5.0
"""Seconds for connecting and the handshake together."""

_NS = "jabber:component:accept"
_STREAMS = "http://etherx.jabber.org/streams"
_STANZAS = "urn:ietf:params:xml:ns:xmpp-stanzas"
_IQ, _HANDSHAKE, _STREAM_ERROR = f"{{{_NS}}}iq", f"{{{_NS}}}handshake", f"{{{_STREAMS}}}error"
_OPEN, _STANZA = 1, 2  # how deep in the stream

Answer = Callable[[str, str, Element], Awaitable[Element | None]]
"""Given sender, IQ type and payload: the payload of the result. Raises `DeclinedError` for an error reply."""


class LinkError(Exception):
    """The link could not be made or was lost. `condition` is the stream error, if Prosody gave one."""

    def __init__(self, detail: str, condition: str | None = None) -> None:
        super().__init__(detail)
        self.condition = condition


class DeclinedError(Exception):
    """An IQ is answered with an error of this condition (RFC 6120, 8.3.3)."""

    def __init__(self, condition: str, text: str) -> None:
        super().__init__(text)
        self.condition = condition


class Link(asyncio.Protocol):
    """A component connection. Make one, `open` it, use it until `lost` is done, `close` it, make another."""

    def __init__(self, *, component: str, secret: str, host: str, port: int, names: list[str], answer: Answer) -> None:
        self._component, self._secret = component, secret
        self._address = (host, port)
        self._names = {tag(name) for name in names}
        self._answer = answer
        self._loop = asyncio.get_running_loop()
        self._tasks: set[asyncio.Task[None]] = set()
        self._asked: dict[str, tuple[str, asyncio.Future[Element]]] = {}
        self._ids = (f"{secrets.token_hex(4)}-{number}" for number in itertools.count(1))
        self._transport: asyncio.Transport | None = None
        self._parser: Any = ET.XMLPullParser(["start", "end"])
        self._depth, self._root = 0, Element("")
        self._condition: str | None = None
        self._opened: asyncio.Future[None] = self._loop.create_future()
        self.lost: asyncio.Future[str | None] = self._loop.create_future()
        """Done when the link is lost; its result is Prosody's stream error, if there was one."""

    async def open(self) -> None:
        """Connect and shake hands. Raises `LinkError`."""
        try:
            async with asyncio.timeout(HANDSHAKE_WITHIN):
                await self._loop.create_connection(lambda: self, *self._address)
                await self._opened
        except TimeoutError as error:
            raise LinkError("no handshake in time") from error
        except OSError as error:
            raise LinkError(error.strerror or str(error)) from error

    async def ask(self, to: str, kind: str, payload: Element, *, within: float) -> Element:
        """Send an IQ of type `kind` and return the result's stanza. Raises `LinkError`."""
        if self.lost.done():
            raise LinkError("the link is down")
        number = next(self._ids)
        answer: asyncio.Future[Element] = self._loop.create_future()
        self._asked[number] = (to, answer)
        try:
            async with asyncio.timeout(within):
                self._send(kind, number, to, write(payload))
                return await answer
        except TimeoutError as error:
            raise LinkError(f"no answer within {within} s") from error
        finally:
            del self._asked[number]

    async def close(self) -> None:
        """Drop the connection at once, with all that is queued or being worked on."""
        for task in self._tasks:
            task.cancel()
        if self._transport is not None:
            self._transport.abort()
        self._lose()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """What asyncio calls, as the next two."""
        self._transport = cast("asyncio.Transport", transport)
        to = quoteattr(self._component)
        self._write(f"<?xml version='1.0'?><stream:stream xmlns='{_NS}' xmlns:stream='{_STREAMS}' to={to}>")

    def data_received(self, data: bytes) -> None:
        """Read on; act on what is complete."""
        try:
            self._parser.feed(data)
            for event, node in self._parser.read_events():
                self._read(event, node)
        except ET.ParseError:
            self._condition = "not-well-formed"
            self._drop()

    def connection_lost(self, _: Exception | None) -> None:
        """There will be nothing more."""
        self._lose()

    def _read(self, event: str, node: Element) -> None:
        if event == "start":
            self._depth += 1
            if self._depth == _OPEN:
                self._root = node
                # XEP-0114 has SHA-1 of the stream's id and the secret.
                proof = hashlib.sha1((node.get("id", "") + self._secret).encode(), usedforsecurity=False)
                self._write(f"<handshake>{proof.hexdigest()}</handshake>")
            return
        self._depth -= 1
        if self._depth == _OPEN:
            self._received(node)
            self._root.clear()
        elif self._depth < _OPEN:
            self._drop()

    def _received(self, stanza: Element) -> None:
        if stanza.tag == _IQ:
            self._received_iq(stanza)
        elif stanza.tag == _HANDSHAKE and not self._opened.done():
            self._opened.set_result(None)
        elif stanza.tag == _STREAM_ERROR and len(stanza):
            self._condition = local_name(stanza[0])

    def _received_iq(self, iq: Element) -> None:
        kind, number, sender = iq.get("type", ""), iq.get("id", ""), iq.get("from", "")
        if kind in {"get", "set"}:
            task = self._loop.create_task(self._reply(iq, kind, number, sender, self._loop.time()))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
            return
        to, answer = self._asked.get(number, ("", None))
        if answer is None or answer.done() or sender != to:
            return
        if kind == "result":
            answer.set_result(iq)
        else:
            error = iq.find(f"{{{_NS}}}error")
            condition = local_name(error[0]) if error is not None and len(error) else "undefined-condition"
            answer.set_exception(LinkError(f"answered with {condition}", condition))

    async def _reply(self, iq: Element, kind: str, number: str, sender: str, received: float) -> None:
        question = iq[0] if len(iq) else Element("")
        try:
            result = await self._take(sender, kind, question)
            outcome, payload = "result", "" if result is None else write(result)
        except DeclinedError as declined:
            outcome = "error"
            payload = (
                f"<error type='cancel'><{declined.condition} xmlns='{_STANZAS}'/>"
                f"<text xmlns='{_STANZAS}'>{escape(str(declined))}</text></error>"
            )
        took = self._loop.time() - received
        if self.lost.done() or took > ANSWER_WITHIN:
            log.warning("gate_answer_expired", question=local_name(question), seconds=round(took, 1))
            return
        self._send(outcome, number, sender, payload)

    async def _take(self, sender: str, kind: str, question: Element) -> Element | None:
        if question.tag not in self._names:
            raise DeclinedError("feature-not-implemented", "Not a question of this protocol")
        return await self._answer(sender, kind, question)

    def _send(self, kind: str, number: str, to: str, payload: str) -> None:
        addressed = f"id={quoteattr(number)} to={quoteattr(to)} from={quoteattr(self._component)}"
        self._write(f"<iq type='{kind}' {addressed}>{payload}</iq>")

    def _write(self, text: str) -> None:
        if self._transport is not None:
            self._transport.write(text.encode())

    def _drop(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def _lose(self) -> None:
        if not self._opened.done():
            self._opened.set_exception(LinkError("closed during the handshake", self._condition))
            self._opened.exception()  # nobody may be waiting for it
        for _, answer in self._asked.values():
            if not answer.done():
                answer.set_exception(LinkError("the link was lost"))
        if not self.lost.done():
            self.lost.set_result(self._condition)
