"""What the gate costs: joins through it, and the same joins at the same Prosody without it, in turns.

A join goes from opening the websocket to one's own presence in the room. On one side Debian's Prosody with the modules,
and the bridge as a process of its own with its real store (SQLite, full synchronous writes); on the other that Prosody
with `authentication = "anonymous"`. The crowd is a third process. `python -m tests.bench.joins [rounds]`
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
import secrets
import sys
import tempfile
from collections import deque
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from statistics import median, quantiles
from typing import Any

import yaml
from tests.bench.figures import quiet
from tests.unit.gate.prosody import COMPONENT, MEET, SECRET, Prosody, free_port

from sluss import app as bridge
from sluss.config import load_credentials, load_settings
from sluss.domain.assurance import Method, Purpose
from sluss.domain.meetings import MeetingDraft, ParticipantDraft
from sluss.keyring.ring import create_first_key
from sluss.services import Services
from sluss.store.database import Store, upgrade
from sluss.store.proof import Verification

TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Case:
    """How many come, to how many rooms, and how: `rate` a second, or so many `at_once`."""

    what: str
    people: int
    rooms: int
    rate: int = 0
    at_once: int = 16


CASES = (
    Case("40 joins/s, 20 rooms", 400, 20, rate=40),
    Case("40 rooms, 16 at once", 400, 40),
    Case("40 rooms, 64 at once", 400, 40, at_once=64),
    Case("one room, 16 at once", 200, 1),
)


@dataclass(frozen=True)
class Run:
    """One crowd: joins a second, median and 99th percentile in ms, CPU in ms a join of each process."""

    rate: float
    p50: float
    p99: float
    cpu: dict[str, float]


def configure(folder: Path, port: int) -> Path:
    """Settings and credentials of a bridge at Prosody's component port."""
    settings = {
        "organisation": "Bench",
        "portal": "https://portal.sluss.test",
        "meet": f"https://{MEET}",
        "listen": {"portal": "127.0.0.1:0", "internal": "127.0.0.1:0"},
        "database": f"sqlite:///{folder / 'sluss.db'}",
        "gate": {"component": COMPONENT, "port": port},
        "mail": {"host": "127.0.0.1", "port": free_port(), "security": "none", "sender": "Sluss <no-reply@sluss.test>"},
        "sms": {"kind": "http", "url": "http://127.0.0.1:1/sms", "json": {"to": "{to}", "text": "{text}"}},
    }
    path = folder / "sluss.yml"
    path.write_text(yaml.safe_dump(settings))
    credentials = folder / "credentials"
    credentials.mkdir()
    (credentials / "master-key").write_text(base64.b64encode(os.urandom(32)).decode())
    (credentials / "component-secret").write_text(SECRET)
    create_first_key(folder / "keys")
    for key in (folder / "keys").iterdir():
        (credentials / f"ticket-keys_{key.name}").write_bytes(key.read_bytes())
    os.environ["CREDENTIALS_DIRECTORY"] = str(credentials)
    upgrade(settings["database"])
    return path


async def invite(services: Services, store: Store, case: Case) -> list[str]:
    """Meetings that are open now; the links of their participants, who come room by room."""
    organiser = await services.organisers.by_email("eva@example.org")
    share, now, links = case.people // case.rooms, datetime.now(UTC), []
    for _ in range(case.rooms):
        group = tuple(ParticipantDraft(f"Person {n}", f"p{n}@example.org", "+46701740605") for n in range(share))
        draft = MeetingDraft("Bench", "", now + timedelta(minutes=5), 60, "Europe/Stockholm", "internal", group)
        await services.meetings.create(organiser, draft)
        waiting = await store.run(lambda tx: tx.outbox.due(now + timedelta(minutes=1), timedelta(hours=1), case.people))
        links.append([item.message["body"].partition("/i/")[2].split()[0] for item in waiting])
        await store.run(lambda tx, sent=waiting: [tx.outbox.sent(item.id, now) for item in sent] and None)
    return [link for turn in zip(*links, strict=True) for link in turn]


async def tickets(services: Services, store: Store, links: list[str]) -> list[tuple[str, str]]:
    """Room and ticket of each person, verified just now."""
    now, ground = datetime.now(UTC), services.participation._g

    def verify(tx: Any) -> None:
        for link in links:
            invitation = tx.invitations.by_link(ground.link_hash(link))
            verification = Verification(secrets.token_hex(16), invitation.id, Method.SMS, "bench", now)
            tx.verifications.add(verification, ground.session_hash("bench"), Purpose.JOIN)

    await store.run(verify)
    issued = [await services.tickets.for_participant(link, "bench") for link in links]
    return [(ticket.room, ticket.token) for ticket in issued]


class Log:
    """Takes what the bridge says, as a system's journal would."""

    def __init__(self, lines: asyncio.StreamReader) -> None:
        self.last: deque[str] = deque(maxlen=10)
        self._spoke = asyncio.Condition()
        self._reader = asyncio.create_task(self._read(lines))

    async def said(self, words: str) -> None:
        """Wait for a line with these words."""
        async with asyncio.timeout(20), self._spoke:
            await self._spoke.wait_for(lambda: any(words in line for line in self.last))

    async def _read(self, lines: asyncio.StreamReader) -> None:
        async for line in lines:
            async with self._spoke:
                self.last.append(line.decode())
                self._spoke.notify_all()


def cpu(pid: int) -> float:
    """Seconds of processor that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


async def at_rest(pids: list[int]) -> None:
    """Wait until these have nothing left to do."""
    before = -1.0
    while (now := sum(map(cpu, pids))) != before:
        before = now
        await asyncio.sleep(0.3)


async def run(case: Case, prosody: Prosody, people: list[tuple[str, str]], pids: dict[str, int]) -> Run:
    """Send one crowd, and let it go again."""
    order = {"port": prosody.http_port, "domain": MEET, "rate": case.rate, "at_once": case.at_once, "people": people}
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tests.bench.crowd",
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        limit=2**24,
    )
    before = {name: cpu(pid) for name, pid in pids.items()}
    process.stdin.write(json.dumps(order).encode() + b"\n")
    line = await process.stdout.readline()
    if not line:
        raise RuntimeError("somebody did not get in")
    answer, count = json.loads(line), len(people)
    used = {name: (cpu(pid) - before[name]) * 1000 / count for name, pid in pids.items()}
    await process.communicate(b"\n")
    await at_rest(list(pids.values()))
    cuts = quantiles(answer["took"], n=100)
    return Run(
        count / answer["seconds"], cuts[49] * 1000, cuts[98] * 1000, {**used, "crowd": answer["cpu"] * 1000 / count}
    )


def show(case: Case, plain: list[Run], gated: list[Run]) -> None:
    """What the two sides did, as medians of their rounds, and the price."""
    for name, runs in (("plain", plain), ("gate", gated)):
        rate, p50, p99 = (median(figures) for figures in zip(*((r.rate, r.p50, r.p99) for r in runs), strict=True))
        used = ", ".join(f"{part} {median(r.cpu[part] for r in runs):.1f}" for part in runs[0].cpu)
        print(f"{case.what:<22}{name:<7}{rate:5.0f}/s   p50 {p50:7.1f} ms   p99 {p99:7.1f} ms   ", end="")
        print(f"CPU ms a join: {used}")
    pairs = list(zip(plain, gated, strict=True))
    rate = median(g.rate / p.rate for p, g in pairs)
    p50, p99 = median(g.p50 - p.p50 for p, g in pairs), median(g.p99 - p.p99 for p, g in pairs)
    print(f"{'':<22}{'price':<7}{rate:5.2f} x   p50 {p50:+7.1f} ms   p99 {p99:+7.1f} ms", flush=True)


async def main(rounds: int, cases: tuple[Case, ...] = CASES) -> None:
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        plain, gate = (Prosody(gate=gate, level="info", rooms=1000) for gate in (False, True))
        for prosody in (plain, gate):
            stack.callback(prosody.remove)
            prosody.start()
        path = configure(folder, gate.component_port)
        settings = load_settings(path)
        services, store = await stack.enter_async_context(bridge.services_of(settings, load_credentials(settings)))
        await services.organisers.add("Eva Ek", "eva@example.org")
        links = {case: await invite(services, store, case) for case in cases}
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "sluss.cli", "--config", str(path), "serve", stderr=asyncio.subprocess.PIPE
        )
        os.sched_setscheduler(process.pid, os.SCHED_BATCH, os.sched_param(0))  # as its unit has it
        log = Log(process.stderr)
        try:
            await log.said("event=ready")
            for case in cases:
                runs: tuple[list[Run], list[Run]] = [], []
                for _ in range(rounds):
                    people = await tickets(services, store, links[case])
                    runs[0].append(await run(case, plain, people, {"Prosody": plain.pid}))
                    runs[1].append(await run(case, gate, people, {"Prosody": gate.pid, "bridge": process.pid}))
                show(case, *runs)
        except RuntimeError:
            print(*log.last, sep="", file=sys.stderr)
            raise
        finally:
            process.terminate()
            await process.wait()


if __name__ == "__main__":
    quiet()
    asyncio.run(main(*([int(word) for word in sys.argv[1:]] or [3])))
