"""Link → ticket: what one participant's way costs the bridge, over HTTP on loopback.

Each person: neutral page, SMS code, view verification, invitation, SMS code, join verification, ticket. The bridge is
a process of its own with its real store (SQLite, full synchronous writes); the SMS gateway is an HTTP server here.
`python -m tests.bench.tickets [people] [at once]`
"""

from __future__ import annotations

import asyncio
import base64
import os
import re
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import aiohttp
import yaml
from aiohttp import web
from tests.bench.figures import measure, quiet, report
from tests.unit.gate.prosody import free_port

from sluss import app as bridge
from sluss.config import load_credentials, load_settings
from sluss.domain.meetings import MeetingDraft, ParticipantDraft
from sluss.keyring.ring import create_first_key
from sluss.store.database import upgrade

PORTAL = "https://portal.sluss.test"
_CSRF = re.compile(r'name="csrf"[^>]*value="([^"]+)"')


class Gateway:
    """Takes the SMS; whoever waits for a number gets its code."""

    def __init__(self) -> None:
        self._codes: dict[str, asyncio.Queue[str]] = {}

    def inbox(self, number: str) -> asyncio.Queue[str]:
        return self._codes.setdefault(number, asyncio.Queue())

    async def receive(self, request: web.Request) -> web.Response:
        message = await request.json()
        self.inbox(message["to"]).put_nowait(re.search(r"\d{6}", message["text"])[0])
        return web.Response(status=202)


@asynccontextmanager
async def gateway(port: int) -> AsyncIterator[Gateway]:
    taker = Gateway()
    application = web.Application()
    application.router.add_post("/sms", taker.receive)
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    try:
        yield taker
    finally:
        await runner.cleanup()


def configure(folder: Path, sms_port: int, level: str = "warning") -> tuple[Path, int]:
    """A bridge without a gate; its settings, and the portal's port."""
    port = free_port()
    settings = {
        "organisation": "Bench",
        "portal": PORTAL,
        "meet": "https://meet.sluss.test",
        "listen": {"portal": f"127.0.0.1:{port}", "internal": "127.0.0.1:0"},
        "database": f"sqlite:///{folder / 'sluss.db'}",
        "gate": {"component": "sluss.meet.sluss.test", "enabled": False},
        "mail": {"host": "127.0.0.1", "port": free_port(), "security": "none", "sender": "Sluss <no-reply@sluss.test>"},
        "sms": {"kind": "http", "url": f"http://127.0.0.1:{sms_port}/sms", "json": {"to": "{to}", "text": "{text}"}},
        "log": {"level": level},
    }
    path = folder / "sluss.yml"
    path.write_text(yaml.safe_dump(settings))
    credentials = folder / "credentials"
    credentials.mkdir()
    (credentials / "master-key").write_text(base64.b64encode(os.urandom(32)).decode())
    create_first_key(folder / "keys")
    for key in (folder / "keys").iterdir():
        (credentials / f"ticket-keys_{key.name}").write_bytes(key.read_bytes())
    os.environ["CREDENTIALS_DIRECTORY"] = str(credentials)
    upgrade(settings["database"])
    return path, port


async def invite(path: Path, people: int) -> list[tuple[str, str]]:
    """Meetings that are open now, with so many participants; each one's link and number."""
    settings = load_settings(path)
    async with bridge.services_of(settings, load_credentials(settings)) as (services, store):
        await services.organisers.add("Eva Ek", "eva@example.org")
        organiser = await services.organisers.by_email("eva@example.org")
        numbers = [f"+4670{1740000 + index:07d}" for index in range(people)]
        for start in range(0, people, 100):
            group = tuple(ParticipantDraft(f"Person {n}", f"p{n}@example.org", n) for n in numbers[start : start + 100])
            begin = datetime.now(UTC) + timedelta(minutes=5)
            draft = MeetingDraft("Bench", "", begin, 60, "Europe/Stockholm", "internal", group)
            await services.meetings.create(organiser, draft)
        now = datetime.now(UTC)
        waiting = await store.run(lambda tx: tx.outbox.due(now, timedelta(hours=1), people))
        links = [(re.search(r"/i/(\S+)", item.message["body"])[1], item.message["to"]) for item in waiting]
        await store.run(lambda tx: [tx.outbox.sent(item.id, now) for item in waiting] and None)
    number_of = {f"p{n}@example.org": n for n in numbers}
    return [(link, number_of[to]) for link, to in links]


class Visitor:
    """One person's browser."""

    def __init__(self, http: aiohttp.ClientSession, base: str) -> None:
        self._http, self._base = http, base
        self._cookie = ""

    async def get(self, path: str) -> str:
        async with self._http.get(self._base + path, headers=self._headers()) as answer:
            self._remember(answer)
            assert answer.status == 200, answer.status
            return await answer.text()

    async def post(self, path: str, page: str, **fields: str) -> str:
        form = {"csrf": _CSRF.search(page)[1], **fields}
        url = self._base + path
        async with self._http.post(url, data=form, headers=self._headers(), allow_redirects=False) as answer:
            self._remember(answer)
            assert answer.status == 303, (answer.status, await answer.text())
            return answer.headers["Location"]

    async def ticket(self, path: str, page: str) -> str:
        headers = {**self._headers(), "X-CSRF-Token": _CSRF.search(page)[1], "Accept": "application/json"}
        async with self._http.post(self._base + path, headers=headers) as answer:
            assert answer.status == 200, await answer.text()
            return (await answer.json())["token"]

    def _headers(self) -> dict[str, str]:
        return {"Cookie": self._cookie} if self._cookie else {}

    def _remember(self, answer: aiohttp.ClientResponse) -> None:
        for cookie in answer.headers.getall("Set-Cookie", []):
            self._cookie = cookie.partition(";")[0]


async def walk(http: aiohttp.ClientSession, base: str, taker: Gateway, link: str, number: str) -> None:
    """The whole way of one person."""
    visitor, at = Visitor(http, base), f"/i/{link}"
    page = await visitor.get(at)
    await visitor.post(f"{at}/code", page)
    await visitor.post(f"{at}/verify", page, code=await taker.inbox(number).get())
    page = await visitor.get(at)
    await visitor.post(f"{at}/join/code", page)
    await visitor.post(f"{at}/join/verify", page, code=await taker.inbox(number).get())
    assert (await visitor.ticket(f"{at}/ticket", page)).count(".") == 2


async def main(people: int, at_once: int) -> None:
    with tempfile.TemporaryDirectory() as directory:
        folder, sms_port = Path(directory), free_port()
        path, port = configure(folder, sms_port)
        visitors = await invite(path, people)
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "sluss.cli", "--config", str(path), "serve"
        )
        connector = aiohttp.TCPConnector(limit=at_once)
        try:
            async with (
                gateway(sms_port) as taker,
                aiohttp.ClientSession(connector=connector, cookie_jar=aiohttp.DummyCookieJar()) as http,
            ):
                base = f"http://127.0.0.1:{port}"
                await answering(http, base)
                print(f"bridge at rest: {resident(process.pid):.0f} MB RSS")
                seconds, took = await measure(visitors, at_once, lambda who: walk(http, base, taker, *who))
                report(f"link → ticket, {people} people, {at_once} at once", people, seconds, took)
                print(f"bridge afterwards: {resident(process.pid):.0f} MB RSS")
        finally:
            process.terminate()
            await process.wait()


def resident(pid: int) -> float:
    """Megabytes of memory that a process has."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


async def answering(http: aiohttp.ClientSession, base: str) -> None:
    """Wait until the bridge listens."""
    async with asyncio.timeout(30):
        while True:
            try:
                async with http.get(f"{base}/static/logo.svg"):
                    return
            except aiohttp.ClientConnectionError:
                await asyncio.sleep(0.1)


if __name__ == "__main__":
    numbers = [int(word) for word in sys.argv[1:]]
    quiet()
    asyncio.run(main(*(numbers + [400, 16][len(numbers) :])))
