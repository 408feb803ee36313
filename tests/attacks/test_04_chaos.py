"""Invariant 4: parts are killed, frozen and restarted at random moments while people come and go and others try to.

`SLUSS_CHAOS_SECONDS=600 SLUSS_CHAOS_SEED=7 ./sluss test -s tests/attacks/test_04_chaos.py` is the long run. A seed
gives the same faults for the same time in the same order, and the same stays; what they meet with is up to the machine.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import secrets
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from random import Random

import aiohttp
import pytest
from tests.attacks.people import Meeting, Person, Site
from tests.xmpp import Refused

SECONDS = float(os.environ.get("SLUSS_CHAOS_SECONDS", "35"))
SEED = int(os.environ.get("SLUSS_CHAOS_SEED", "1"))
JOINS_PER_SECOND = 5
RECOVERY = 10  # seconds in which joins work again after the last part is back
ROLL_EVERY = 60  # seconds by which an interval whose end nobody saw may end early
TOLERANCE = 2  # seconds between the gate's clock, which counts whole ones, and what a client sees
LONGEST = min(5, SECONDS / 20)  # seconds that a fault lasts
NETWORK = (OSError, aiohttp.ClientError, TimeoutError)

SERVICE = {
    "killed": "systemctl kill --signal=KILL {part}",
    "frozen": "systemctl kill --signal=STOP {part}; sleep {seconds:.1f}; systemctl kill --signal=CONT {part}",
    "restarted": "systemctl restart --no-block {part}",
}
# What can happen to a part: of services, as shell commands on the host; killed ones are started again by systemd.
FAULTS = {
    **dict.fromkeys(("sluss-bridge", "prosody", "nginx"), tuple(SERVICE)),
    "database": ("held by another", "cut off in a commit"),
}


def plan(random: Random) -> Iterator[tuple[str, str]]:
    """Every fault of every part, each part once before any has its next; and so on, in another order."""
    while True:
        parts = random.sample(list(FAULTS), len(FAULTS))
        kinds = [random.sample(FAULTS[part], len(FAULTS[part])) for part in parts]
        for one_of_each in itertools.zip_longest(*kinds):
            yield from ((part, kind) for part, kind in zip(parts, one_of_each, strict=True) if kind)


@dataclass
class Stay:
    """A time that somebody was inside, by their own clock: each end lies between asking and being answered."""

    person: Person
    asked: float
    entered: float
    leaving: float = 0
    left: float = 0


@dataclass
class Record:
    """What was seen."""

    arrivals: int = 0
    seconds: float = 0
    stays: list[Stay] = field(default_factory=list)
    failed: Counter[str] = field(default_factory=Counter)  # honest people who were not let in, which a fault may do
    attempts: int = 0  # of those who must never get in
    wrong: list[str] = field(default_factory=list)  # those of them who did
    dropped: list[tuple[float, str]] = field(default_factory=list)  # who lost the connection while inside, and when
    faults: list[tuple[float, float, str, str]] = field(default_factory=list)  # begin, repaired, part, kind
    recovery: list[float] = field(default_factory=list)

    def mended(self, moment: float) -> float | None:
        """When the fault that could break a connection then was over: it goes through nginx and Prosody alone."""
        breaking = [(began, repaired) for began, repaired, part, _ in self.faults if part in ("prosody", "nginx")]
        return next((repaired for began, repaired in breaking if began - 1 < moment < repaired + 2), None)


@pytest.fixture(scope="module")
def crowd(site: Site) -> list[Meeting]:
    """Four meetings of 25."""
    organiser = site.organiser()
    return [organiser.meeting(*(f"P{n} {secrets.token_hex(4)}" for n in range(25))) for _ in range(4)]


def ticket(person: Person) -> dict[str, str]:
    """As the portal gives it to somebody who has proved who they are lately."""
    answer = person.browser.ask("POST", f"{person.path}/ticket", X_CSRF_Token=person.browser.csrf)
    if answer.status != 200:
        raise Refused(f"portal-{answer.status}")
    return {name: answer.json()[name] for name in ("room", "token")}


class Chaos:
    """The run."""

    def __init__(self, site: Site, crowd: list[Meeting]) -> None:
        self.site, self.record = site, Record()
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
        await self._prove(self.idle)
        proofs = asyncio.create_task(self._keep_proved())
        began = time.monotonic()
        async with asyncio.TaskGroup() as group:
            group.create_task(self._arrivals(group))
            group.create_task(self._put_out_try(kept))
            await self._faults(began + SECONDS)
            self.record.seconds = time.monotonic() - began
            self.over = True
        proofs.cancel()
        return self.record

    async def _keep_proved(self) -> None:
        """A proof opens the door for five minutes: renew it before, as people do who come and go all day."""
        everybody = list(self.idle)
        while True:
            await asyncio.sleep(120)
            await self._prove(everybody)

    async def _prove(self, people: list[Person]) -> None:
        for person in list(people):
            with contextlib.suppress(AssertionError):  # the database may be held just now
                await asyncio.to_thread(person.prove)

    async def _arrivals(self, group: asyncio.TaskGroup) -> None:
        random, due = Random(f"{SEED} arrivals"), time.monotonic()
        while not self.over:
            due += random.uniform(0.5, 1.5) / JOINS_PER_SECOND
            await asyncio.sleep(due - time.monotonic())
            if self.idle:
                self.record.arrivals += 1
                group.create_task(self._visit(self.idle.pop(0), Random(f"{SEED} visit {self.record.arrivals}")))

    async def _visit(self, person: Person, random: Random) -> None:
        try:
            await self._enter_and_stay(person, random)
        except Refused as no:
            self.record.failed[no.reason or no.condition] += 1
        except NETWORK as error:
            self.record.failed[type(error).__name__] += 1
        finally:
            self.idle.append(person)

    async def _enter_and_stay(self, person: Person, random: Random) -> None:
        async with asyncio.timeout(30):
            given = await asyncio.to_thread(ticket, person)
        stay = None
        try:
            async with self.site.connect(given) as client:
                asked = time.time()
                await client.join(secrets.token_hex(4))
                self.came.set()
                stay = Stay(person, asked, time.time())
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(client.closed.wait(), random.uniform(1, 6))
                    self.record.dropped.append((time.time(), person.name))
                stay.leaving = time.time()
                if not client.closed.is_set():
                    await client.leave()
                stay.left = time.time()
        finally:
            if stay:
                stay.left = stay.left or time.time()
                self.record.stays.append(stay)
        await self._must_fail("the same ticket again", given)
        other = random.choice([room for room in self.rooms if room != given["room"]])
        with contextlib.suppress(Refused):
            await self._must_fail("another room", {**await asyncio.to_thread(ticket, person), "room": other})

    async def _put_out_try(self, kept: list[dict[str, str]]) -> None:
        random = Random(f"{SEED} put out")
        while not self.over:
            await self._must_fail("a ticket from before being put out", random.choice(kept))
            person = random.choice(self.out)
            with contextlib.suppress(Refused, *NETWORK):
                await self._must_fail("put out, but given a ticket", await asyncio.to_thread(ticket, person))
            await asyncio.sleep(random.uniform(0.2, 1))

    async def _must_fail(self, what: str, given: dict[str, str]) -> None:
        self.record.attempts += 1
        with contextlib.suppress(Refused, *NETWORK):
            async with asyncio.timeout(20), self.site.connect(given):
                self.record.wrong.append(what)

    async def _faults(self, until: float) -> None:
        random = Random(f"{SEED} faults")
        await asyncio.sleep(2)
        for part, kind in plan(random):
            began, seconds = time.time(), random.uniform(1, LONGEST)
            await (self._break_database(kind, seconds) if part == "database" else self._break(part, kind, seconds))
            self.record.faults.append((began, time.time(), part, kind))
            self.record.recovery.append(await self._until_somebody_gets_in())
            await asyncio.sleep(random.uniform(0.2, 0.8) * LONGEST)
            if time.monotonic() > until:
                return

    async def _break(self, part: str, kind: str, seconds: float) -> None:
        await asyncio.to_thread(self.site.server.run, SERVICE[kind].format(part=part, seconds=seconds))
        await self._back(part)

    async def _break_database(self, kind: str, seconds: float) -> None:
        """Somebody else has it; or the bridge dies while it commits all that has waited for it."""
        pid = await asyncio.to_thread(self.site.server.run, "systemctl show -P MainPID sluss-bridge")
        await asyncio.to_thread(self.site.insider, "hold_database")
        if kind == "held by another":
            await asyncio.sleep(seconds)
            await asyncio.to_thread(self.site.insider, "release_database")
        else:
            await asyncio.sleep(1)  # less than the bridge waits
            await asyncio.to_thread(self.site.insider, "kill_in_commit", pid=int(pid.stdout), after=seconds / 50)
            await self._back("sluss-bridge")

    async def _back(self, part: str) -> None:
        """Until systemd says that the part is up again."""
        check = f"sleep 0.1; until systemctl is-active -q {part}; do sleep 0.1; done"
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
    print(f"seed {SEED}")
    seen = await Chaos(site, crowd).run()
    kinds = Counter(f"{part} {kind}" for _, _, part, kind in seen.faults)
    print(f"{seen.arrivals} arrivals in {seen.seconds:.0f} s, {len(seen.stays)} stays, {dict(seen.failed)} not let in")
    print(f"{seen.attempts} wrong attempts, {len(seen.dropped)} dropped; {len(seen.faults)} faults: {dict(kinds)}")
    print(f"back after {[round(seconds, 1) for seconds in seen.recovery]} s")
    assert {part for _, _, part, _ in seen.faults} == set(FAULTS)
    assert seen.arrivals > 0.9 * JOINS_PER_SECOND * seen.seconds
    assert len(seen.stays) > seen.arrivals / 4, "hardly anybody came in"  # something is broken half of the time
    assert seen.attempts > SECONDS / 2
    assert seen.wrong == []
    assert max(seen.recovery) < RECOVERY
    assert [drop for drop in seen.dropped if not seen.mended(drop[0])] == []
    assert await asyncio.to_thread(misrecorded, site, seen) == []
    heads = site.server.run(
        "journalctl -u sluss-bridge -o cat | grep -o '[0-9]*:[0-9a-f]\\{64\\}' | sort -u"
    ).stdout.split()
    assert heads  # noted at each start and stop
    site.server.run("sluss audit verify " + " ".join(f"--head {head}" for head in heads))
    entered = site.server.run('sluss audit export | grep -c \'"action":"entered"\'').stdout
    assert int(entered) >= len(seen.stays)


def misrecorded(site: Site, seen: Record) -> list[tuple[Stay, list[tuple[float, float, bool]]]]:
    """Whose stay the attendance does not have, or not from when to when, and what it has of them."""
    recorded: dict[str, list[tuple[float, float, bool]]] = {}
    for name, entered, left, exact in site.insider("stays"):
        recorded.setdefault(name, []).append((entered, left or time.time(), exact))
    wrong = []
    for stay in seen.stays:
        of_person = recorded.get(stay.person.name, [])
        found = next((one for one in of_person if agrees(stay, *one, seen)), None)
        if found is None:
            wrong.append((stay, of_person))
        else:
            of_person.remove(found)
    return wrong


def agrees(stay: Stay, came: float, left: float, exact: bool, seen: Record) -> bool:
    """Whether an interval is this stay. A connection that broke is heard of when the fault is over, at the latest."""
    earliest = stay.leaving if exact else max(stay.entered, stay.leaving - ROLL_EVERY)
    latest = max(stay.left, seen.mended(stay.left) or 0)
    return stay.asked - TOLERANCE < came < stay.entered + TOLERANCE and earliest - TOLERANCE < left < latest + TOLERANCE
