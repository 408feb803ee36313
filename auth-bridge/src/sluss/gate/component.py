"""The gate: keeps the link to Prosody up, puts its questions to the rules, carries out their orders."""

import asyncio
import traceback
from collections.abc import Callable, Sequence
from typing import Protocol
from xml.etree.ElementTree import Element

import structlog

from sluss.domain.errors import GateUnavailable
from sluss.domain.gate import Change, Entry, GateEvent, Occupant, Verdict
from sluss.gate import protocol
from sluss.gate.link import DeclinedError, Link, LinkError

log = structlog.get_logger()

ORDER_WITHIN = 3.0
"""Seconds for Prosody to carry out an order or answer a roll call."""

ROLL_EVERY = 60.0
"""Seconds between roll calls: an interval whose end is never told is known to within this."""

FIRST_PAUSE, LONGEST_PAUSE = 0.2, 5.0
"""Seconds between attempts to connect: doubled from the first to the longest."""


class Rules(Protocol):
    """Who may do what. Implemented by `sluss.services`."""

    async def authenticate(self, *, token: str, room: str, session: str, transport: str, address: str) -> Verdict:
        """Whether this ticket lets this XMPP session be, and enter at once, and as whom. Yes uses the ticket up."""

    async def admit(self, entry: Entry) -> Verdict:
        """Whether this occupant may create or join this room now, and under which name and role."""

    async def told(self, events: Sequence[tuple[Change, GateEvent]]) -> None:
        """Connections entered and left, in order. May be told twice; returning is the acknowledgement of all."""

    async def roll_called(self, epoch: str, seq: int, present: Sequence[Occupant]) -> None:
        """Everybody inside, as of event `seq` of `epoch`."""


class Gate:
    """The bridge's XMPP component, and the `Door` that the rules give orders to.

    Construct it inside the running loop. `secret` is Prosody's `component_secret` for `component`.
    """

    def __init__(  # noqa: PLR0917
        self,
        component: str,
        host: str,
        port: int,
        secret: str,
        meet_host: str,
        rules: Rules,
        *,
        on_link: Callable[[bool], None] = lambda _: None,
    ) -> None:
        self._component, self._host, self._port, self._secret = component, host, port, secret
        self._meet = meet_host
        self._conference = f"conference.{meet_host}"
        self._rules = rules
        self._on_link = on_link
        self._link: Link | None = None
        self._connected = asyncio.Event()
        self._supervisor: asyncio.Task[None] | None = None
        # question → who may ask it, in which IQ type, and what answers it
        self._questions = {
            "authenticate": (self._meet, "get", self._authenticate),
            "admit": (self._conference, "get", self._admit),
            "events": (self._conference, "set", self._events),
        }

    @property
    def connected(self) -> bool:
        """Whether the link is up and the roll has been called over it."""
        return self._connected.is_set()

    async def wait_connected(self, timeout: float | None) -> bool:  # noqa: ASYNC109
        """Wait until connected; whether it came to that in time."""
        try:
            async with asyncio.timeout(timeout):
                await self._connected.wait()
        except TimeoutError:
            return False
        return True

    async def start(self) -> None:
        """Begin to connect, and keep connecting until `stop`. Returns at once."""
        self._supervisor = asyncio.create_task(self._supervise())

    async def stop(self) -> None:
        """Drop the link and give up."""
        if self._supervisor is not None:
            self._supervisor.cancel()
            await asyncio.gather(self._supervisor, return_exceptions=True)

    async def expel(self, room: str, username: str, text: str) -> int:
        """Put every connection of `username` out of `room`; how many there were. Raises `GateUnavailable`."""
        answer = await self._order(protocol.element("expel", room=room, username=username, text=text))
        try:
            return protocol.parse_expelled(answer)
        except protocol.MalformedError as error:
            raise GateUnavailable(f"expel: {error}") from error

    async def end(self, room: str, text: str) -> None:
        """Put everybody out of `room` and destroy it. Raises `GateUnavailable`."""
        await self._order(protocol.element("end", room=room, text=text))

    async def _order(self, order: Element, kind: str = "set") -> Element:
        name = protocol.local_name(order)
        if self._link is None:
            raise GateUnavailable(f"{name}: no link to Prosody")
        try:
            return await self._link.ask(self._conference, kind, order, within=ORDER_WITHIN)
        except LinkError as error:
            raise GateUnavailable(f"{name}: {error}") from error

    async def _supervise(self) -> None:
        pause = FIRST_PAUSE
        while True:
            link = Link(
                component=self._component,
                secret=self._secret,
                host=self._host,
                port=self._port,
                names=list(self._questions),
                answer=self._answer,
            )
            try:
                await link.open()
                pause = FIRST_PAUSE
                await self._serve(link)
            except LinkError as error:
                self._tell_why(error)
            except Exception as error:
                log.error("gate_link_broken", **_describe(error))  # noqa: TRY400
            finally:
                await link.close()
            await asyncio.sleep(pause)
            pause = min(pause * 2, LONGEST_PAUSE)

    def _tell_why(self, error: LinkError) -> None:
        where = f"{self._host}:{self._port}"
        if error.condition == "not-authorized":
            log.error("gate_secret_refused", component=self._component, prosody=where)
        else:
            log.warning("gate_not_connected", component=self._component, prosody=where, error=str(error))

    async def _serve(self, link: Link) -> None:
        """Call the roll, then be connected until the link is lost."""
        self._link = link
        try:
            await self._call_roll()
            self._connected.set()
            self._on_link(True)
            log.info("gate_connected", component=self._component)
            condition = await self._watch(link)
            log.warning("gate_link_lost", component=self._component, condition=condition)
        finally:
            self._link = None
            if self._connected.is_set():
                self._connected.clear()
                self._on_link(False)

    async def _watch(self, link: Link) -> str | None:
        """Call the roll now and then until the link is lost; Prosody's stream error, if there was one."""
        while not (await asyncio.wait([link.lost], timeout=ROLL_EVERY))[0]:
            try:
                await self._call_roll()
            except LinkError as error:
                log.warning("gate_roll_failed", error=str(error))  # the link is not lost for that; the next one counts
        return link.lost.result()

    async def _call_roll(self) -> None:
        """Tell the rules who is inside. Raises `LinkError`: without a roll there is no attendance."""
        try:
            answer = await self._order(protocol.element("roll"), "get")
            roll = protocol.parse_roll(answer)
            await self._rules.roll_called(roll.epoch, roll.seq, roll.present)
        except (GateUnavailable, protocol.MalformedError) as error:
            raise LinkError(str(error)) from error
        except Exception as error:
            log.error("gate_rule_failed", question="roll", **_describe(error))  # noqa: TRY400
            raise LinkError("the rules did not take the roll") from error

    async def _answer(self, sender: str, kind: str, query: Element) -> Element | None:
        name = protocol.local_name(query)
        asker, expected, answer = self._questions[name]
        if sender != asker:
            log.warning("gate_foreign_sender", question=name, sender=sender)
            raise DeclinedError("forbidden", f"{name} is not yours to ask")
        if kind != expected:
            raise DeclinedError("bad-request", f"{name} is an IQ of type {expected}")
        try:
            return await answer(query)
        except protocol.MalformedError as error:
            log.warning("gate_malformed", question=name, error=str(error))
            raise DeclinedError("bad-request", str(error)) from error
        except Exception as error:
            log.error("gate_rule_failed", question=name, **_describe(error))  # noqa: TRY400
            raise DeclinedError("internal-server-error", "The rules failed; no is the answer") from error

    async def _authenticate(self, query: Element) -> Element:
        asked = protocol.parse_authenticate(query)
        verdict = await self._rules.authenticate(
            token=asked.token,
            room=asked.room,
            session=asked.session,
            transport=asked.transport,
            address=asked.address,
        )
        return protocol.render_verdict(verdict)

    async def _admit(self, query: Element) -> Element:
        return protocol.render_verdict(await self._rules.admit(protocol.parse_admit(query)))

    async def _events(self, query: Element) -> None:
        await self._rules.told(protocol.parse_events(query))


def _describe(error: Exception) -> dict[str, str]:
    """What failed and where, without values: a traceback's texts and locals could hold a ticket."""
    frames = traceback.extract_tb(error.__traceback__)
    where = f"{frames[-1].name}:{frames[-1].lineno}" if frames else "?"
    return {"error": type(error).__name__, "where": where}
