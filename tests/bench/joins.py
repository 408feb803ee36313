"""The join at the gate: from opening the websocket to one's own presence in the room.

Debian's Prosody with the Lua modules, the real component, rules and store in this process; clients over loopback.
`python -m tests.bench.joins [people] [rooms] [at once]`
"""

from __future__ import annotations

import asyncio
import secrets
import sys
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path

from tests.bench.figures import measure, quiet, report
from tests.unit.gate.prosody import COMPONENT, MEET, SECRET, Prosody
from tests.unit.world import World, build
from tests.xmpp import connect

from sluss.domain.assurance import Method, Purpose
from sluss.domain.meetings import MeetingDraft, ParticipantDraft
from sluss.gate import Gate
from sluss.store.proof import Verification


async def tickets(world: World, people: int, rooms: int) -> list[tuple[str, str]]:
    """Room and ticket of each person, verified for `join` just now."""
    world.clock.now = datetime.now(UTC)
    await world.services.organisers.add("Eva Ek", "eva@example.org")
    organiser = await world.services.organisers.by_email("eva@example.org")
    issued, share = [], people // rooms
    for room in range(rooms):
        group = tuple(
            ParticipantDraft(f"Person {n}", f"p{n}@example.org", "+46701740605")
            for n in range(room * share, (room + 1) * share)
        )
        begin = world.clock.now + timedelta(minutes=5)
        draft = MeetingDraft("Bench", "", begin, 60, "Europe/Stockholm", "internal", group)
        meeting = await world.services.meetings.create(organiser, draft)
        due = await world.store.run(lambda tx: tx.outbox.due(world.clock.now, 100_000))
        for item in due:
            link = item.message["body"].partition("/i/")[2].split()[0]
            await world.store.run(lambda tx, link=link: verify(world, tx, link))
            issued.append((meeting.room, (await world.services.tickets.for_participant(link, "bench")).token))
        await world.store.run(lambda tx, due=due: [tx.outbox.sent(item.id, world.clock.now) for item in due] and None)
    return issued


def verify(world: World, tx, link: str) -> None:
    """Store the verification that a code would have brought."""
    ground = world.services.participation._g
    invitation = tx.invitations.by_link(ground.link_hash(link))
    verification = Verification(secrets.token_hex(16), invitation.id, Method.SMS, "bench", world.clock.now)
    tx.verifications.add(verification, ground.session_hash("bench"), Purpose.JOIN)


async def main(people: int, rooms: int, at_once: int) -> None:
    prosody = Prosody()
    inside: list = []
    try:
        prosody.start()
        with tempfile.TemporaryDirectory() as directory:
            async with build(Path(directory)) as world:
                waiting = await tickets(world, people, rooms)
                gate = Gate(COMPONENT, "127.0.0.1", prosody.component_port, SECRET, MEET, world.services.admission)
                await gate.start()
                assert await gate.wait_connected(10)

                async def join(who: tuple[str, str]) -> None:
                    room, token = who
                    opened = connect(prosody.websocket, MEET, room=room, token=token)
                    client = await opened.__aenter__()
                    inside.append(opened)
                    await client.join(secrets.token_hex(4))

                seconds, took = await measure(waiting, at_once, join)
                report(f"join, {people} people, {rooms} rooms, {at_once} at once", people, seconds, took)
                for opened in inside:
                    await opened.__aexit__(None, None, None)
                await gate.stop()
    finally:
        prosody.remove()


if __name__ == "__main__":
    numbers = [int(word) for word in sys.argv[1:]]
    quiet()
    asyncio.run(main(*(numbers + [200, 20, 16][len(numbers) :])))
