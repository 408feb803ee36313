"""Invariant 4: no answer is a no. The bridge is away, frozen, or cannot write: nobody new, and who is inside stays."""

from __future__ import annotations

import asyncio
import shlex
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager

import pytest
from tests.attacks.people import MEET, Browser, Meeting, Person, Site, ready, stopped
from tests.xmpp import Refused

AT_ONCE = 1.5  # seconds, and a little, for which the yes to a ticket is good for the room too


@contextmanager
def frozen(site: Site) -> Iterator[None]:
    site.server.run("systemctl kill --signal=STOP sluss-bridge")
    try:
        yield
    finally:
        site.server.run("systemctl kill --signal=CONT sluss-bridge")
        ready(site)


@contextmanager
def database_held(site: Site) -> Iterator[None]:
    """Somebody else has the database."""
    site.insider("hold_database")
    try:
        yield
    finally:
        site.insider("release_database")
        ready(site)


TROUBLES: dict[str, Callable[[Site], AbstractContextManager[None]]] = {
    "stopped": lambda site: stopped(site, "sluss-bridge"),
    "frozen": frozen,
    "without_its_database": database_held,
}


@pytest.mark.parametrize("trouble", TROUBLES)
async def test_nobody_enters_while_the_bridge_is(site: Site, meeting: Meeting, trouble: str):
    """Neither with a ticket, nor with a session that was let in and did not enter at once. Both work afterwards."""
    inside, anna, bo = *meeting.people[:2], meeting.newcomer()
    async with inside.enter() as other, site.connect(anna.ticket()) as waiting:
        ticket = bo.ticket()
        await asyncio.sleep(AT_ONCE)
        with TROUBLES[trouble](site):
            began = time.monotonic()

            async def join() -> str | None:
                with pytest.raises(Refused) as no:
                    await waiting.join("aaaa0001")
                return no.value.reason

            assert await asyncio.gather(site.refused(ticket), join()) == ["unavailable"] * 2
            assert time.monotonic() - began < 5
            await other.ping()
            assert not other.closed.is_set()
        await other.ping()
        try:
            await waiting.join("aaaa0001")
        except Refused as no:  # the bridge had heard the question; who asked is gone, so nobody is in by that ticket
            assert (trouble, no.reason) == ("frozen", "used")  # noqa: PT017
    async with bo.enter():
        pass


def test_portal_without_its_bridge_shows_nothing_and_comes_back(site: Site, anna: Person):
    anna.prove()
    with stopped(site, "sluss-bridge"):
        answer = Browser(site, anna.browser.session).get(anna.path)
        assert answer.status == 503
        assert "Budget" not in answer.text
    assert "Budget" in Browser(site, anna.browser.session).get(anna.path).text


async def test_yes_that_comes_too_late_lets_nobody_in(site: Site, anna: Person):
    """Frozen while it was asked: its answer arrives after Prosody has said no, and the ticket is not good twice."""
    ticket = anna.ticket()
    with ExitStack() as trouble:
        trouble.enter_context(frozen(site))  # first: the request that brings the ticket asks about it
        async with site.open(ticket) as client:
            with pytest.raises(Refused) as no:
                await client.authenticate()
            assert no.value.condition == "temporary-auth-failure"
            trouble.close()
            with pytest.raises(Refused) as again:
                await client.try_sasl("ANONYMOUS")
            assert again.value.reason == "no-ticket"
            assert not client.jid
    async with anna.enter():
        pass


# What somebody says in the bridge's place, by the word that comes as the ticket
ANSWERS = {
    "right": "<verdict xmlns='urn:sluss:gate:1' allow='true' {what}>{context}</verdict>",
    "another_session": "<verdict xmlns='urn:sluss:gate:1' allow='true' {what} session='x'>{context}</verdict>",
    "no_session": "<verdict xmlns='urn:sluss:gate:1' allow='true' username='p-x'>{context}</verdict>",
    "no_word": "<verdict xmlns='urn:sluss:gate:1' {what}>{context}</verdict>",
    "another_word": "<verdict xmlns='urn:sluss:gate:1' allow='1' {what}>{context}</verdict>",
    "another_namespace": "<verdict xmlns='urn:sluss:gate:2' allow='true' {what}>{context}</verdict>",
    "another_element": "<answer xmlns='urn:sluss:gate:1' allow='true' {what}>{context}</answer>",
    "nothing": "",
}
IN_ITS_PLACE = """
import hashlib, json, re, socket
secret = open("/etc/sluss/credentials/component-secret").read().strip()
s = socket.create_connection(("127.0.0.1", 5347), 5)
s.sendall(b"<stream:stream xmlns='jabber:component:accept' xmlns:stream='http://etherx.jabber.org/streams'"
          b" to='sluss.MEET'>")
said = ""
while not (stream := re.search("id='([^']+)'", said)): said += s.recv(4096).decode()
s.sendall(b"<handshake>%s</handshake>" % hashlib.sha1((stream[1] + secret).encode()).hexdigest().encode())
while "<handshake" not in said: said += s.recv(4096).decode()
print("ready", flush=True)
s.settimeout(None)
while more := s.recv(65536).decode():
    said += more
    for iq in re.findall("<iq .*?</iq>", said, re.DOTALL):
        value = {name: re.search(name + "='([^']*)'", iq)[1] for name in (" id", " from", "session", "room")}
        answer = ANSWERS[re.search("<token>(.*)</token>", iq)[1]]
        if "session='x'" not in answer: answer = answer.replace("{what}", "{what} session='%s'" % value["session"])
        answer = answer.replace("{what}", "username='p-x' name='Eva'")
        answer = answer.replace("{context}", "<context>%s</context>" % json.dumps({"room": value["room"]}))
        s.sendall(("<iq type='result' id='%s' from='sluss.MEET' to='%s'>%s</iq>"
                   % (value[" id"], value[" from"], answer)).encode())
    said = re.sub(".*</iq>", "", said, flags=re.DOTALL)
"""


@contextmanager
def in_its_place(site: Site) -> Iterator[None]:
    """Somebody on the host who has the bridge's secret, until the bridge comes back and takes its place."""
    script = IN_ITS_PLACE.replace("MEET", MEET).replace("ANSWERS", repr(ANSWERS))
    command = [*site.server.machine.ssh(), f"exec python3 -c {shlex.quote(script)}"]
    with stopped(site, "sluss-bridge"), subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "ready\n"
        try:
            yield
        finally:
            site.server.run("systemctl start sluss-bridge")


async def test_answer_that_is_not_a_yes_about_this_session_is_a_no(site: Site, anna: Person):
    """A bridge that is confused: it answers in time, and not what it was asked."""
    room = anna.ticket()["room"]
    with in_its_place(site):
        said = {token: await site.refused({"room": room, "token": token}) for token in ANSWERS}
        assert said == {token: None if token == "right" else "unavailable" for token in ANSWERS}
    async with anna.enter():
        pass
