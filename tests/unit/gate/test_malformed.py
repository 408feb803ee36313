"""What is not as the protocol says: neither side takes it for a yes, and neither side breaks."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from xml.etree.ElementTree import Element

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from tests.unit.gate.conftest import Script
from tests.unit.gate.prosody import COMPONENT, MEET, SECRET, Prosody
from tests.xmpp import Refused, connect

from sluss.gate import Gate, protocol

# To Python

WORDS = st.sampled_from(
    ["authenticate", "admit", "events", "entered", "left", "roll", "occupant", "expelled", "verdict", "token",
     "session", "room", "kind", "stage", "epoch", "seq", "at", "count", "reason", "transport", "address"]
)  # fmt: skip
VALUES = st.text(max_size=20) | st.sampled_from(["join", "create", "participant", "focus", "1", "-1", "1e9", "9" * 400])
ELEMENTS = st.recursive(
    st.builds(
        lambda word, given: Element(protocol.tag(word), given), WORDS, st.dictionaries(WORDS, VALUES, max_size=8)
    ),
    lambda inner: st.builds(
        lambda word, given, text, children: _with(Element(protocol.tag(word), given), text, children),
        WORDS,
        st.dictionaries(WORDS, VALUES, max_size=8),
        st.text(max_size=20),
        st.lists(inner, max_size=4),
    ),
    max_leaves=8,
)
PARSERS = [
    protocol.parse_authenticate,
    protocol.parse_admit,
    protocol.parse_events,
    protocol.parse_roll,
    protocol.parse_expelled,
]


def _with(element: Element, text: str, children: list[Element]) -> Element:
    element.text = text
    element.extend(children)
    return element


@pytest.mark.parametrize("parse", PARSERS)
@given(ELEMENTS)
@example(Element(protocol.tag("events"), {"epoch": "e", "seq": "9" * 5000}))
def test_anything_is_read_or_called_malformed(parse, element: Element) -> None:
    with contextlib.suppress(protocol.MalformedError):
        parse(element)


# To Lua

VERDICT = "<verdict xmlns='urn:sluss:gate:1' {}>{}</verdict>"
YES = "allow='true' session='{session}' username='p-x' name='X' role='participant'"
ANSWERS = {
    "a clear yes": "<iq type='result' id='{id}' from='{me}' to='{you}'>" + VERDICT.format(YES, "") + "</iq>",
    "nothing": "<iq type='result' id='{id}' from='{me}' to='{you}'/>",
    "an error": "<iq type='error' id='{id}' from='{me}' to='{you}'><error type='auth'/></iq>",
    "a question": "<iq type='get' id='{id}' from='{me}' to='{you}'>" + VERDICT.format(YES, "") + "</iq>",
    "another id": "<iq type='result' id='x{id}' from='{me}' to='{you}'>" + VERDICT.format(YES, "") + "</iq>",
    "from another": "<iq type='result' id='{id}' from='x@{me}' to='{you}'>" + VERDICT.format(YES, "") + "</iq>",
    "another namespace": "<iq type='result' id='{id}' from='{me}' to='{you}'><verdict " + YES + "/></iq>",
    "no session": "<iq type='result' id='{id}' from='{me}' to='{you}'>"
    + VERDICT.format(YES.replace("session='{session}'", ""), "")
    + "</iq>",
    "a half yes": "<iq type='result' id='{id}' from='{me}' to='{you}'>"
    + VERDICT.format(YES.replace("'true'", "'TRUE'"), "")
    + "</iq>",
    "no name": "<iq type='result' id='{id}' from='{me}' to='{you}'>"
    + VERDICT.format(YES.replace("name='X'", ""), "")
    + "</iq>",
    "no user name": "<iq type='result' id='{id}' from='{me}' to='{you}'>"
    + VERDICT.format(YES.replace("username='p-x'", "username=''"), "")
    + "</iq>",
    "two answers": "<iq type='result' id='{id}' from='{me}' to='{you}'>"
    + VERDICT.format("allow='false' session='{session}' reason='used'", "")
    + VERDICT.format(YES, "")
    + "</iq>",
    "a message": "<message from='{me}' to='{you}' id='{id}'>" + VERDICT.format(YES, "") + "</message>",
}
BREAKING = {
    "no XML": "<iq type='result' id='{id}' <<>>",
    "the end of the stream": "</stream:stream>",
    "something huge": "<iq type='result' id='{id}' from='{me}' to='{you}'>" + "<x>" * 2000 + "</x>" * 2000 + "</iq>",
}


@asynccontextmanager
async def rogue(prosody: Prosody) -> AsyncIterator[None]:
    """Somebody who knows the component's secret (XEP-0114); the ticket names the answer that they give."""
    reader, writer = await asyncio.open_connection("127.0.0.1", prosody.component_port)
    namespaces = "xmlns='jabber:component:accept' xmlns:stream='http://etherx.jabber.org/streams'"
    writer.write(f"<stream:stream {namespaces} to='{COMPONENT}'>".encode())
    opened = (await reader.readuntil(b">")) + (await reader.readuntil(b">"))
    stream_id = re.search(rb"id=['\"]([^'\"]+)", opened)[1].decode()
    writer.write(f"<handshake>{hashlib.sha1((stream_id + SECRET).encode()).hexdigest()}</handshake>".encode())  # noqa: S324
    assert b"handshake" in await reader.readuntil(b">")

    async def answering() -> None:
        heard = ""
        while data := await reader.read(65536):
            heard += data.decode()
            while found := re.search(r"<iq [^>]*>.*?</iq>", heard, re.DOTALL):
                heard = heard[found.end() :]
                session = re.search(r"session=['\"]([^'\"]+)", found[0])
                ticket = re.search(r"<token>([^<]*)", found[0])
                answer = (ANSWERS | BREAKING)[ticket[1].replace(".", " ") if ticket else "nothing"]
                stanza = {name: re.search(rf"\b{name}=['\"]([^'\"]+)", found[0])[1] for name in ("id", "from", "to")}
                writer.write(
                    answer.format(
                        id=stanza["id"], me=stanza["to"], you=stanza["from"], session=session[1] if session else "-"
                    ).encode()
                )

    task = asyncio.create_task(answering())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        writer.close()


async def let_in(prosody: Prosody, name: str) -> bool:
    try:
        async with connect(prosody.websocket, MEET, room="a" * 32, token=name.replace(" ", ".")):
            return True
    except Refused:
        return False


async def honest_bridge_goes_on(prosody: Prosody, rules: Script) -> None:
    gate = Gate(COMPONENT, "127.0.0.1", prosody.component_port, SECRET, MEET, rules)
    await gate.start()
    try:
        assert await gate.wait_connected(10)
        rules.open_rooms.add("a" * 32)
        person = rules.person("a" * 32)
        async with connect(prosody.websocket, MEET, room=person.room, token=person.token) as client:
            await client.join("aaaa0001")
    finally:
        await gate.stop()


async def test_answers_that_are_no_clear_yes_open_nothing(prosody: Prosody, rules: Script) -> None:
    async with rogue(prosody):
        outcomes = await asyncio.gather(*(let_in(prosody, name) for name in ANSWERS))
    assert [name for name, inside in zip(ANSWERS, outcomes, strict=True) if inside] == ["a clear yes"]
    await honest_bridge_goes_on(prosody, rules)


@pytest.mark.parametrize("name", BREAKING)
async def test_bridge_that_breaks_the_stream_breaks_nothing_else(prosody: Prosody, rules: Script, name: str) -> None:
    async with rogue(prosody):
        assert not await let_in(prosody, name)
    await honest_bridge_goes_on(prosody, rules)
