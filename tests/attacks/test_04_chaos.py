"""Invariant 4: parts are killed, frozen and restarted at random moments while people come and go and others try to.

`SLUSS_CHAOS_SECONDS=600 SLUSS_CHAOS_SEED=7 ./sluss test tests/attacks/test_04_chaos.py` is the long run.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import secrets
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

import aiohttp
import pytest
from tests.attacks.people import Meeting, Person, Site
from tests.xmpp import Refused

SECONDS = float(os.environ.get("SLUSS_CHAOS_SECONDS", "40"))
SEED = int(os.environ.get("SLUSS_CHAOS_SEED", "1"))
JOINS_PER_SECOND = 5
RECOVERY = 10  # seconds in which joins work again after the last part is back
NETWORK = (OSError, aiohttp.ClientError, TimeoutError)

# What can happen to a part, as shell commands on the host. Killed parts are started again by systemd.
PARTS = ("sluss-bridge", "prosody", "nginx")
FAULTS = {
    "killed": "systemctl kill --signal=KILL {part}",
    "frozen": "systemctl kill --signal=STOP {part}; sleep {seconds:.1f}; systemctl kill --signal=CONT {part}",
    "restarted": "systemctl restart --no-block {part}",
}


@dataclass
class Stay:
    """A time that somebody was inside, by their own clock."""

    person: Person
    entered: float
    left: float


@dataclass
class Record:
    """What was seen."""

    stays: list[Stay] = field(default_factory=list)
    failed: Counter[str] = field(default_factory=Counter)  # honest people who were not let in, which a fault may do
    attempts: int = 0  # of those who must never get in
    wrong: list[str] = field(default_factory=list)  # those of them who did
    dropped: list[tuple[float, str]] = field(default_factory=list)  # who lost the connection while inside, and when
    faults: list[tuple[float, float, str, str]] = field(default_factory=list)  # begin, repaired, part, kind
    recovery: list[float] = field(default_factory=list)

    def excused(self, moment: float) -> bool:
        """Whether a connection could break then: it goes through nginx and Prosody, and not through the bridge."""
        breaking = [(began, repaired) for began, repaired, part, _ in self.faults if part in ("prosody", "nginx")]
        return any(began - 1 < moment < repaired + 2 for began, repaired in breaking)


@pytest.fixture(scope="module")
def crowd(site: Site) -> list[Meeting]:
    """Four meetings of ten."""
    organiser = site.organiser()
    return [organiser.meeting(*(f"P{n} {secrets.token_hex(2)}" for n in range(10))) for _ in range(4)]


def ticket(person: Person) -> dict[str, str]:
    """As the portal gives it to somebody who has proved who they are lately."""
    answer = person.browser.ask("POST", f"{person.path}/ticket", X_CSRF_Token=person.browser.csrf)
    if answer.status != 200:
        raise Refused(f"portal-{answer.status}")
    return {name: answer.json()[name] for name in ("room", "token")}


class Chaos:
    """The run."""

    def __init__(self, site: Site, crowd: list[Meeting]) -> None:
        self.site, self.record, self.random = site, Record(), random.Random(SEED)
        self.idle = [person for meeting in crowd for person in meeting.people[1:]]
        self.rooms: list[str] = []
        self.out = [meeting.people[0] for meeting in crowd]  # put out before the run, with a ticket in hand
        self.over = False
        self.came = asyncio.Event()  # somebody is inside

    async def run(self) -> Record:
        """Come and go, try to get in, break things; until the time is over and everything is whole again."""
        kept = [await asyncio.to_thread(person.ticket) for person in self.out]
        self.rooms = [one["room"] for one in kept]
        for person in self.out:
            assert (await asyncio.to_thread(person.meeting.put_out, person)).status == 303
        proofs = asyncio.create_task(self._keep_proved())
        async with asyncio.TaskGroup() as group:
            group.create_task(self._arrivals(group))
            group.create_task(self._put_out_try(kept))
            await self._faults(time.monotonic() + SECONDS)
            self.over = True
        proofs.cancel()
        return self.record

    async def _keep_proved(self) -> None:
        """A proof opens the door for five minutes: renew it before, as people do who come and go all day."""
        everybody = list(self.idle)
        while True:
            for person in everybody:
                with contextlib.suppress(AssertionError):  # the database may be held just now
                    await asyncio.to_thread(person.prove)
            await asyncio.sleep(120)

    async def _arrivals(self, group: asyncio.TaskGroup) -> None:
        while not self.over:
            await asyncio.sleep(self.random.expovariate(JOINS_PER_SECOND))
            if self.idle:
                group.create_task(self._visit(self.idle.pop(self.random.randrange(len(self.idle)))))

    async def _visit(self, person: Person) -> None:
        try:
            await self._enter_and_stay(person, self.random.uniform(1, 6))
        except Refused as no:
            self.record.failed[no.reason or no.condition] += 1
        except NETWORK as error:
            self.record.failed[type(error).__name__] += 1
        finally:
            self.idle.append(person)

    async def _enter_and_stay(self, person: Person, seconds: float) -> None:
        async with asyncio.timeout(30):
            given = await asyncio.to_thread(ticket, person)
        stay = None
        try:
            async with self.site.connect(given) as client:
                await client.join(secrets.token_hex(4))
                self.came.set()
                stay = Stay(person, time.time(), time.time())
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(client.closed.wait(), seconds)
                    self.record.dropped.append((time.monotonic(), person.name))
                stay.left = time.time()
                if not client.closed.is_set():
                    await client.leave()
        finally:
            if stay:
                self.record.stays.append(stay)
        await self._must_fail("the same ticket again", given)
        other = self.random.choice([room for room in self.rooms if room != given["room"]])
        with contextlib.suppress(Refused):
            await self._must_fail("another room", {**await asyncio.to_thread(ticket, person), "room": other})

    async def _put_out_try(self, kept: list[dict[str, str]]) -> None:
        while not self.over:
            await self._must_fail("a ticket from before being put out", self.random.choice(kept))
            person = self.random.choice(self.out)
            with contextlib.suppress(Refused, *NETWORK):
                await self._must_fail("put out, but given a ticket", await asyncio.to_thread(ticket, person))
            await asyncio.sleep(self.random.uniform(0.2, 1))

    async def _must_fail(self, what: str, given: dict[str, str]) -> None:
        self.record.attempts += 1
        with contextlib.suppress(Refused, *NETWORK):
            async with asyncio.timeout(20), self.site.connect(given):
                self.record.wrong.append(what)

    async def _faults(self, until: float) -> None:
        await asyncio.sleep(3)
        while time.monotonic() < until:
            part, kind = self.random.choice(
                [*((part, kind) for part in PARTS for kind in FAULTS), ("database", "held")]
            )
            began, seconds = time.monotonic(), self.random.uniform(1, 5)
            if part == "database":
                await asyncio.to_thread(self.site.insider, "hold_database")
                await asyncio.sleep(seconds)
                await asyncio.to_thread(self.site.insider, "release_database")
            else:
                await asyncio.to_thread(self.site.server.run, FAULTS[kind].format(part=part, seconds=seconds))
            await self._back(part)
            self.record.faults.append((began, time.monotonic(), part, kind))
            self.record.recovery.append(await self._until_somebody_gets_in())
            await asyncio.sleep(self.random.uniform(1, 4))

    async def _back(self, part: str) -> None:
        """Until systemd says that the part is up again."""
        if part != "database":
            check = f"until systemctl is-active -q {part}; do sleep 0.1; done"
            await asyncio.to_thread(self.site.server.run, check, timeout=60)

    async def _until_somebody_gets_in(self) -> float:
        began = time.monotonic()
        self.came.clear()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self.came.wait(), 3 * RECOVERY)
        return time.monotonic() - began


@pytest.fixture(scope="module")
def whole_again(site: Site) -> Iterator[None]:
    """Leave the host as it was."""
    yield
    site.server.run("systemctl start prosody nginx sluss-bridge", timeout=120)


async def test_faults_let_nobody_in_keep_nobody_out_for_long_and_put_nobody_out(
    site: Site, crowd: list[Meeting], whole_again: None
):
    seen = await Chaos(site, crowd).run()
    kinds = Counter(f"{part} {kind}" for _, _, part, kind in seen.faults)
    print(f"{len(seen.stays)} stays, {dict(seen.failed)} not let in, {seen.attempts} wrong attempts, {dict(kinds)}")
    print(f"back after {[round(seconds, 1) for seconds in seen.recovery]} s")
    assert len(seen.stays) > SECONDS, "hardly anybody came"
    assert seen.attempts > SECONDS / 2
    assert seen.wrong == []
    assert max(seen.recovery) < RECOVERY
    assert [drop for drop in seen.dropped if not seen.excused(drop[0])] == []
    assert unrecorded(site, seen) == []
    heads = site.server.run(
        "journalctl -u sluss-bridge -o cat | grep -o '[0-9]*:[0-9a-f]\\{64\\}' | sort -u"
    ).stdout.split()
    assert heads  # noted at each start and stop
    site.server.run("sluss audit verify " + " ".join(f"--head {head}" for head in heads))


def unrecorded(site: Site, seen: Record) -> list[Stay]:
    """Who says that they were inside, and the attendance does not."""
    recorded: dict[str, list[tuple[float, float]]] = {}
    for name, entered, left in site.insider("stays"):
        recorded.setdefault(name, []).append((entered, left or time.time()))
    return [
        stay
        for stay in seen.stays
        if not any(came - 2 < stay.entered < left + 2 for came, left in recorded.get(stay.person.name, []))
    ]
