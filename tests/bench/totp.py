"""Link + TOTP → ticket: people who have seen the invitation prove it once more, each with a code, and get a ticket.

The bridge is a process of its own with its real store (SQLite, full synchronous writes) and its log at the shipped
level; the client is this process, over HTTP/1.1 connections that stay. A ticket takes two requests: the code, and what
the room page's script asks for; a browser also loads that page between them, which is measured by itself. Beside it:
what this machine signs with RSA-2048 and hashes with argon2id, and the bridge's memory with all of these sessions.
`python -m tests.bench.totp [people] [at once]`
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import os
import sys
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import aiohttp
import pyotp
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from tests.bench.figures import measure, quiet, report
from tests.bench.tickets import answering, configure, resident

from sluss import app as bridge
from sluss.config import load_credentials, load_settings
from sluss.domain.assurance import Method, Purpose
from sluss.domain.authenticators import Authenticator
from sluss.domain.meetings import MeetingDraft, ParticipantDraft
from sluss.factors.passwords import Passwords
from sluss.keyring.secrets import form_key
from sluss.services.common import new_id, new_link
from sluss.store.proof import Verification

SESSIONS = 1000
IN_A_MEETING = 50
MOBILE = "+46701740605"


class Person:
    """Somebody's link, browser and authenticator."""

    def __init__(self, link: str, csrf_key: bytes) -> None:
        self.at, self.session, self.secret = f"/i/{link}", new_link(), pyotp.random_base32()
        self.csrf = hmac.new(csrf_key, self.session.encode(), hashlib.sha256).hexdigest()

    def code(self) -> str:
        return pyotp.TOTP(self.secret).now()


class Connection:
    """One connection that stays, and as little client as that takes."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, host: str) -> None:
        self._reader, self._writer, self._host = reader, writer, host

    async def ask(self, method: str, path: str, who: Person, body: str = "", **more: str) -> tuple[int, bytes]:
        lines = [
            f"{method} {path} HTTP/1.1",
            f"Host: {self._host}",
            f"Cookie: __Host-sluss={who.session}",
            *(f"{name.replace('_', '-')}: {value}" for name, value in more.items()),
        ]
        if method == "POST":
            lines += ["Content-Type: application/x-www-form-urlencoded", f"Content-Length: {len(body)}"]
        self._writer.write(("\r\n".join(lines) + f"\r\n\r\n{body}").encode())
        head = await self._reader.readuntil(b"\r\n\r\n")
        length = head.lower().partition(b"content-length:")[2].split(b"\r\n", 1)[0]
        return int(head[9:12]), await self._reader.readexactly(int(length or 0))


async def invited(path: Path, people: int) -> list[Person]:
    """People in meetings that are open now, each with an authenticator, who have seen the invitation by it."""
    settings = load_settings(path)
    credentials = load_credentials(settings)
    found: list[Person] = []
    async with bridge.services_of(settings, credentials) as (services, store):
        await services.organisers.add("Eva Ek", "eva@example.org")
        organiser, ground = await services.organisers.by_email("eva@example.org"), services.participation._g
        for start in range(0, people, IN_A_MEETING):
            numbers, now = range(start, min(start + IN_A_MEETING, people)), datetime.now(UTC)
            group = tuple(ParticipantDraft(f"Person {n}", f"p{n}@example.org", MOBILE) for n in numbers)
            draft = MeetingDraft("Bench", "", now + timedelta(minutes=5), 60, "Europe/Stockholm", "internal", group)
            meeting = await services.meetings.create(organiser, draft)

            def prepare(tx, meeting=meeting, now=now):
                for invitation in tx.invitations.participants(meeting.id):
                    link = new_link()
                    who, owner = Person(link, form_key(credentials.master_key)), invitation.email
                    tx.invitations.set_link(invitation.id, ground.link_hash(link))
                    owner, phone = ground.passkey_owner_hash(owner, MOBILE), ground.phone_hash(MOBILE)
                    one = Authenticator(new_id(), owner, who.secret, Method.SMS, phone, now)
                    tx.authenticators.put(one, now)
                    seen = Verification(new_id(), invitation.id, Method.TOTP, one.id, now)
                    tx.verifications.add(seen, ground.session_hash(who.session), Purpose.VIEW)
                    found.append(who)
                for item in tx.outbox.due(now, timedelta(hours=1), people):
                    tx.outbox.sent(item.id, now)

            await store.run(prepare)
    return found


async def ticket(connection: Connection, who: Person, *, page: bool) -> None:
    """From the code to the ticket."""
    status, _ = await connection.ask("POST", f"{who.at}/join/totp", who, f"csrf={who.csrf}&code={who.code()}")
    assert status == 303, status
    if page:
        status, _ = await connection.ask("GET", f"{who.at}/room", who)
        assert status == 200, status
    status, body = await connection.ask(
        "POST", f"{who.at}/ticket", who, Accept="application/json", X_CSRF_Token=who.csrf
    )
    assert (status, json.loads(body)["token"].count(".")) == (200, 2), (status, body)


async def crowd(port: int, people: list[Person], at_once: int, *, page: bool) -> float:
    """All of them, so many at once; prints the line and returns tickets a second."""
    free = [Connection(*await asyncio.open_connection("127.0.0.1", port), f"127.0.0.1:{port}") for _ in range(at_once)]

    async def one(who: Person) -> None:
        connection = free.pop()
        await ticket(connection, who, page=page)
        free.append(connection)

    seconds, took = await measure(people, at_once, one)
    for connection in free:
        connection._writer.close()
    what = "three requests a ticket" if page else "two requests a ticket"
    report(f"TOTP → ticket, {len(people)} people, {at_once} at once, {what}", len(people), seconds, took)
    return len(people) / seconds


def signatures(seconds: float = 2) -> float:
    """RSA-2048 signatures (PKCS #1 v1.5, SHA-256) a second on one core that does nothing else."""
    key, text, count = rsa.generate_private_key(65537, 2048), os.urandom(600), 0
    start = time.perf_counter()
    while (took := time.perf_counter() - start) < seconds:
        for _ in range(50):
            key.sign(text, padding.PKCS1v15(), hashes.SHA256())
        count += 50
    return count / took


async def password_hashes(count: int = 40) -> None:
    """Prints how many passwords are checked a second, as the bridge does it."""
    passwords = Passwords()
    stored = await passwords.hash("segel mot lugnt vatten 58")

    async def one(_: int) -> None:
        assert await passwords.verify(stored, "segel mot lugnt vatten 58")

    seconds, took = await measure(range(count), 2, one)
    report("argon2id, a password, 2 at once", count, seconds, took)


async def main(people: int, at_once: int) -> None:
    bare = signatures()
    with tempfile.TemporaryDirectory() as directory:
        folder = Path(directory)
        path, port = configure(folder, 1, level="info")
        everybody = await invited(path, people + SESSIONS)
        log = (folder / "log").open("wb")
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "sluss.cli", "--config", str(path), "serve", stderr=log
        )
        try:
            async with aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()) as http:
                await answering(http, f"http://127.0.0.1:{port}")
            print(f"bridge at rest: {resident(process.pid):.0f} MB RSS")
            rate = await crowd(port, everybody[SESSIONS:], at_once, page=False)
            print(f"bare RSA-2048: {bare:.0f} signatures a second on one core; tickets are {rate / bare:.2f} of that")
            await crowd(port, everybody[:SESSIONS], at_once, page=True)
            live = f"{people + SESSIONS} live sessions, {SESSIONS} of them on the room page"
            print(f"bridge with {live}: {resident(process.pid):.0f} MB RSS")
        finally:
            process.terminate()
            await process.wait()
            log.close()
    await password_hashes()


if __name__ == "__main__":
    numbers = [int(word) for word in sys.argv[1:]]
    quiet()
    asyncio.run(main(*(numbers + [3000, 32][len(numbers) :])))
