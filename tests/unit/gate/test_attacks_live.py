"""What the attacks on a provisioned host find closed: the same steps succeed where the door is left open."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest
from tests.unit.gate.conftest import Script
from tests.unit.gate.prosody import COMPONENT, MEET, SECRET, Prosody
from tests.xmpp import connect, offered, open_stream

from sluss.gate import Gate

GUESTS = f"""
VirtualHost "guest.{MEET}"
	authentication = "anonymous"
	modules_enabled = {{ "bosh", "websocket" }}
"""


@pytest.fixture(scope="module")
def careless() -> Iterator[Prosody]:
    """The gate's Prosody, which also lets streams be resumed."""
    server = Prosody()
    shipped = server.config.read_text()
    changed = shipped.replace('"saslauth",', '"saslauth", "smacks",', 1)
    assert '"smacks"' in changed
    server.config.write_text(changed)
    yield from running(server)


@pytest.fixture(scope="module")
def ungated() -> Iterator[Prosody]:
    """Prosody without the gate, with a host for guests."""
    server = Prosody(gate=False)
    server.config.write_text(server.config.read_text() + GUESTS)
    yield from running(server)


def running(server: Prosody) -> Iterator[Prosody]:
    try:
        server.start()
        yield server
    finally:
        server.remove()


@pytest.fixture
async def rules(careless: Prosody) -> AsyncIterator[Script]:
    script = Script()
    gate = Gate(COMPONENT, "127.0.0.1", careless.component_port, SECRET, MEET, script)
    await gate.start()
    assert await gate.wait_connected(10)
    yield script
    await gate.stop()


async def test_with_stream_management_a_second_ticket_takes_over_the_persons_first_session(
    careless: Prosody, rules: Script, room: str
) -> None:
    """The gate is not asked about it. Of another person not even then: Prosody keeps streams by user name."""
    anna, bo = rules.person(room), rules.person(room, "Bo Ek")
    again = rules.person(room)
    again.username = anna.username
    async with connect(careless.websocket, MEET, room=room, token=anna.token) as inside:
        await inside.join("aaaa0001")
        previd = await inside.make_resumable()
        assert previd
        for person, taken in ((bo, False), (again, True)):
            async with open_stream(careless.websocket, MEET, room=room, token=person.token) as attacker:
                await attacker.sign_in()
                assert await attacker.resume(previd) is taken
                if taken:
                    await attacker.ping()
        assert inside.closed.is_set()


@pytest.mark.parametrize("transport", ["websocket", "bosh"])
async def test_a_host_for_guests_would_be_reached_by_way_of_the_meeting_host(ungated: Prosody, transport: str) -> None:
    url, options = getattr(ungated, transport), {"headers": {"Host": MEET}, "room": "x", "token": "x"}
    assert await offered(url, f"guest.{MEET}", **options) == ["ANONYMOUS"]
    assert await offered(url, f"recorder.{MEET}", **options) == []
