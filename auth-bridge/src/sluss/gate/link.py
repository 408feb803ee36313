"""One connection to Prosody as a component (XEP-0114), handshake to loss; only this file knows slixmpp.

A lost link is thrown away with everything queued on it: an answer can never arrive over a later one.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any
from xml.etree.ElementTree import Element

import structlog
from slixmpp.componentxmpp import ComponentXMPP
from slixmpp.exceptions import IqError, IqTimeout
from slixmpp.xmlstream.handler import Callback
from slixmpp.xmlstream.matcher.base import MatcherBase

from sluss.gate.protocol import local_name, tag

log = structlog.get_logger()

# slixmpp writes whole stanzas, tickets included, at DEBUG, and those that it cannot read at any level. What is worth
# knowing about the link is logged here.
logging.getLogger("slixmpp").setLevel(logging.CRITICAL + 1)

ANSWER_WITHIN = 2.8
"""Seconds after which an answer is not sent any more: Prosody stops waiting after 3."""

HANDSHAKE_WITHIN = 5.0
"""Seconds for connecting and the handshake together."""

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


class _Question(MatcherBase):
    """Matches an IQ whose payload is one of these. One look for all of them, and no XPath."""

    def match(self, stanza: Any) -> bool:
        return stanza.name == "iq" and len(stanza.xml) > 0 and stanza.xml[0].tag in self._criteria


class Link:
    """A component connection. Make one, `open` it, use it until `lost` is done, `close` it, make another."""

    def __init__(self, *, component: str, secret: str, host: str, port: int, names: list[str], answer: Answer) -> None:
        self._component = component
        self._address = (host, port)
        self._answer = answer
        self._loop = asyncio.get_running_loop()
        self._tasks: set[asyncio.Task[None]] = set()
        self._condition: str | None = None
        self._opened: asyncio.Future[None] = self._loop.create_future()
        self.lost: asyncio.Future[str | None] = self._loop.create_future()
        """Done when the link is lost; its result is Prosody's stream error, if there was one."""
        self._xmpp: Any = ComponentXMPP(component, secret, host, port, fix_error_ns=True)  # type: ignore[no-untyped-call]
        self._xmpp.register_handler(Callback("questions", _Question({tag(name) for name in names}), self._received))
        self._xmpp.add_event_handler("session_start", self._on_start)
        self._xmpp.add_event_handler("stream_error", self._on_stream_error)
        self._xmpp.add_event_handler("connection_failed", self._on_failure)
        self._xmpp.add_event_handler("disconnected", self._on_loss)

    async def open(self) -> None:
        """Connect and shake hands. Raises `LinkError`."""
        self._xmpp.connect(*self._address)
        try:
            async with asyncio.timeout(HANDSHAKE_WITHIN):
                await self._opened
        except TimeoutError as error:
            raise LinkError("no handshake in time") from error
        finally:
            self._xmpp.cancel_connection_attempt()

    async def ask(self, to: str, kind: str, payload: Element, *, within: float) -> Element:
        """Send an IQ of type `kind` and return the result's stanza. Raises `LinkError`."""
        if self.lost.done():
            raise LinkError("the link is down")
        query = self._xmpp.make_iq(ifrom=self._component, ito=to, itype=kind)
        query.append(payload)
        try:
            answer = await query.send(timeout=within)
        except IqTimeout as error:
            raise LinkError(f"no answer within {within} s") from error
        except IqError as error:
            condition = str(error.iq["error"]["condition"])
            raise LinkError(f"answered with {condition}", condition) from error
        xml: Element = answer.xml
        return xml

    async def close(self) -> None:
        """Drop the connection at once, with all that is queued or being worked on."""
        for task in self._tasks:
            task.cancel()
        self._xmpp.abort()
        # slixmpp never ends its sending task
        sender: asyncio.Task[None] | None = self._xmpp._run_out_filters  # noqa: SLF001
        if sender is not None:
            sender.cancel()
        await asyncio.gather(*self._tasks, *([sender] if sender else []), return_exceptions=True)

    def _on_start(self, _: Any) -> None:
        if not self._opened.done():
            self._opened.set_result(None)

    def _on_stream_error(self, error: Any) -> None:
        self._condition = str(error["condition"])

    def _on_failure(self, reason: Any) -> None:
        if not self._opened.done():
            self._opened.set_exception(LinkError(str(reason)))

    def _on_loss(self, _: Any) -> None:
        if not self._opened.done():
            self._opened.set_exception(LinkError("closed during the handshake", self._condition))
        if not self.lost.done():
            self.lost.set_result(self._condition)

    def _received(self, iq: Any) -> None:
        if iq["type"] in {"get", "set"}:
            task = self._loop.create_task(self._reply(iq, self._loop.time()))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _reply(self, iq: Any, received: float) -> None:
        payload: Element = iq.xml[0]
        # Not `iq.reply()`, which copies the question with its ticket first
        reply = self._xmpp.make_iq_result(id=iq["id"], ito=iq["from"], ifrom=iq["to"])
        try:
            result = await self._answer(str(iq["from"]), str(iq["type"]), payload)
            if result is not None:
                reply.append(result)
        except DeclinedError as declined:
            reply["type"] = "error"
            reply["error"]["condition"] = declined.condition
            reply["error"]["text"] = str(declined)
        took = self._loop.time() - received
        if self.lost.done() or took > ANSWER_WITHIN:
            log.warning("gate_answer_expired", question=local_name(payload), seconds=round(took, 1))
            return
        reply.send()
