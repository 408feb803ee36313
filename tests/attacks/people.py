"""Organisers, participants and outsiders, who reach the host as anybody does: HTTPS and XMPP, by name, with TLS.

Meetings are made through the portal's forms and links come from the mails. Codes from SMS are typed where a test is
about them; elsewhere `insider.py` proves people on the host, so that attacks do not use up their neighbours' limits.
"""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import itertools
import json
import re
import secrets
import shlex
import ssl
import subprocess
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode
from zoneinfo import ZoneInfo

import pyotp
from tests import xmpp

PORTAL, MEET = "portal.sluss.test", "meet.sluss.test"
CONFERENCE = f"conference.{MEET}"
PASSWORD = "segel mot lugnt vatten 58"
FORM = "application/x-www-form-urlencoded"
COOKIE = "__Host-sluss"

_addresses = itertools.count(100)
_numbers = itertools.count(secrets.randbelow(80_000))


class Insider:
    """The far end of `insider.py`."""

    def __init__(self, server: Any) -> None:
        script = Path(__file__).with_name("insider.py").read_text()
        # The administrators' command, with another program in its place: the same user, settings and secrets.
        command = (
            """sed 's#/bin/sluss "$@"#/bin/python "$@"#' /usr/local/bin/sluss >/run/sluss-insider && """
            f"exec sh /run/sluss-insider -c {shlex.quote(script)}"
        )
        self._process = subprocess.Popen(
            [*server.machine.ssh(), command], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self._answer() == "ready"
        self._turn = threading.Lock()

    def __call__(self, name: str, /, **arguments: Any) -> Any:
        with self._turn:
            self._process.stdin.write(json.dumps([name, arguments]) + "\n")
            self._process.stdin.flush()
            answer = self._answer()
        if "failed" in answer:
            raise AssertionError(f"insider: {name}: {answer['failed']}")
        return answer["done"]

    def close(self) -> None:
        self._process.stdin.close()
        self._process.wait(20)

    def _answer(self) -> Any:
        line = self._process.stdout.readline()
        assert line, "the program on the host ended"
        return json.loads(line)


@dataclass(frozen=True)
class Answer:
    """What came back over HTTP."""

    status: int
    headers: http.client.HTTPMessage
    text: str

    @property
    def location(self) -> str | None:
        return self.headers["Location"]

    def json(self) -> Any:
        return json.loads(self.text)


@dataclass
class Site:
    """The host under test, from outside."""

    server: Any
    insider: Insider
    jitsi: bool = False  # whether only Jitsi's focus opens rooms
    trust: ssl.SSLContext = field(init=False)

    def __post_init__(self) -> None:
        self.trust = ssl.create_default_context(cafile=str(self.server.ca_file))

    def messages(self, kind: str, to: str) -> list[dict[str, str]]:
        """Mails ("mail") or SMS ("sms") to somebody, newest first."""
        answer = Browser(self, host="outbox.sluss.test").get("/messages.json")
        return [message for message in answer.json() if (message["kind"], message["to"]) == (kind, to)]

    def message(self, kind: str, to: str, before: int = 0, within: float = 10) -> str:
        """The text of the newest message to somebody, once there are more than `before`."""
        until = time.monotonic() + within
        while len(found := self.messages(kind, to)) <= before:
            assert time.monotonic() < until, f"no {kind} to {to}"
            time.sleep(0.05)
        return found[0]["body"]

    def foreign_address(self) -> str:
        """An address of this machine that nobody else uses, for whoever gets locked out by it."""
        last = next(_addresses)
        address = str(self.server.machine.network.subnet[last])
        ip = ["ip", "address", "replace", f"{address}/32", "dev", self.server.machine.network.bridge]
        subprocess.run(ip, check=True, timeout=10)
        return address

    def organiser(self, name: str = "Eva Ek", role: str = "organiser") -> Organiser:
        """Somebody of the staff, signed in with both factors."""
        email = f"{secrets.token_hex(4)}@sluss.test"
        made = self.insider("organiser", name=name, email=email, password=PASSWORD, role=role)
        return Organiser(self, name, email, made["secret"], Browser(self, made["session"]), made["id"])

    def open(self, ticket: dict[str, str] | None = None, transport: str = "websocket", **options: Any) -> Any:
        """An XMPP stream, not yet authenticated; see `xmpp.open_stream`."""
        return xmpp.open_stream(URLS[transport], MEET, ssl=self.trust, **(ticket or {}), **options)

    @asynccontextmanager
    async def connect(
        self, ticket: dict[str, str] | None = None, transport: str = "websocket", **options: Any
    ) -> AsyncIterator[xmpp.Client]:
        """An authenticated stream. Raises `Refused`."""
        async with self.open(ticket, transport, **options) as client:
            await client.authenticate()
            yield client

    async def refused(self, ticket: dict[str, str] | None = None, transport: str = "websocket") -> str | None:
        """The reason for which a ticket is refused; None if it opens a session."""
        try:
            async with self.connect(ticket, transport):
                return None
        except xmpp.Refused as no:
            return no.reason or no.condition


URLS = {"websocket": f"wss://{MEET}/xmpp-websocket", "bosh": f"https://{MEET}/http-bind"}


class Browser:
    """Keeps one cookie and one connection; sends exactly what it is told, and follows nothing."""

    def __init__(self, site: Site, session: str | None = None, host: str = PORTAL, source: str = "") -> None:
        self._site, self._host, self._source = site, host, (source, 0) if source else None
        self.session = session or secrets.token_urlsafe(32)
        self._connection: http.client.HTTPSConnection | None = None
        self._csrf: str | None = None

    def ask(self, method: str, path: str, body: str | bytes | None = None, **headers: str) -> Answer:
        """`headers`: `_` for `-`."""
        sent = {"Cookie": f"{COOKIE}={self.session}"} | {k.replace("_", "-"): v for k, v in headers.items()}
        data = body.encode() if isinstance(body, str) else body
        for fresh in (self._connection is None, True):
            if fresh:
                self.close()
                self._connection = http.client.HTTPSConnection(
                    self._host, timeout=20, context=self._site.trust, source_address=self._source
                )
            try:
                self._connection.request(method, path, data, sent)
                got = self._connection.getresponse()
                return Answer(got.status, got.headers, got.read().decode(errors="replace"))
            except (http.client.HTTPException, OSError):
                self._connection.close()
                if fresh:
                    raise
        raise AssertionError("unreachable")

    def get(self, path: str, **headers: str) -> Answer:
        return self.ask("GET", path, **headers)

    @property
    def csrf(self) -> str:
        """The form token of this browser's session, from a page that everybody sees."""
        if self._csrf is None:
            found = re.search(r'name="csrf" value="(\w+)"', self.get("/sign-in").text)
            if found is None:
                raise ConnectionError("the portal's pages are away")
            self._csrf = found[1]
        return self._csrf

    def post(self, path: str, fields: Any = (), **headers: str) -> Answer:
        """Send a form of this session, honestly."""
        pairs = [*(fields.items() if isinstance(fields, dict) else fields), ("csrf", self.csrf)]
        return self.ask("POST", path, urlencode(pairs), **({"Content_Type": FORM} | headers))

    def close(self) -> None:
        if self._connection:
            self._connection.close()


@dataclass
class Person:
    """Somebody invited: a mailbox, a phone and a browser."""

    site: Site
    name: str
    email: str
    mobile: str
    browser: Browser
    link: str = ""
    meeting: Meeting | None = None

    @property
    def path(self) -> str:
        """The path of the personal link."""
        return f"/i/{self.link}"

    def read_mail(self) -> None:
        """Take the personal link from the newest mail."""
        self.link = re.search(rf"https://{PORTAL}/i/(\S+)", self.site.message("mail", self.email))[1]

    def type_code(self, purpose: str = "view") -> Answer:
        """Ask for a code and type what the SMS says, in the browser: the honest way."""
        base = self.path if purpose == "view" else f"{self.path}/join"
        before = len(self.site.messages("sms", self.mobile))
        assert self.browser.post(f"{base}/code").status == 303
        code = re.search(r"\b\d{6}\b", self.site.message("sms", self.mobile, before))[0]
        return self.browser.post(f"{base}/verify", {"code": code})

    def prove(self, *purposes: str, ago: int = 0) -> None:
        """The same by the insider."""
        self.site.insider(
            "prove", link=self.link, session=self.browser.session, purposes=purposes or ("view", "join"), ago=ago
        )

    def ticket(self) -> dict[str, str]:
        """Room and token of a new ticket, as the portal gives it after both verifications."""
        self.prove()
        answer = self.browser.ask("POST", f"{self.path}/ticket", X_CSRF_Token=self.browser.csrf)
        assert answer.status == 200, answer.text
        return {name: answer.json()[name] for name in ("room", "token")}

    def tickets(self, count: int) -> list[dict[str, str]]:
        return self.site.insider("tickets", link=self.link, count=count)

    @asynccontextmanager
    async def enter(self, nick: str | None = None, transport: str = "websocket") -> AsyncIterator[xmpp.Client]:
        """Be inside the meeting, by the honest way."""
        async with self.site.connect(self.ticket(), transport) as client:
            if self.site.jitsi:
                await client.ask_focus()
            await client.join(nick or secrets.token_hex(4))
            yield client


@dataclass
class Meeting:
    """A meeting that is open unless it was made for later."""

    site: Site
    id: str
    organiser: Organiser
    people: list[Person]

    def invite(self, *names: str) -> list[Person]:
        """More participants."""
        people = self.add(*names)
        for person in people:
            person.read_mail()
        return people

    def add(self, *names: str) -> list[Person]:
        """More participants, whose mail has not come yet."""
        people = [_person(self.site, name, self) for name in names]
        for person in people:
            answer = self.organiser.browser.post(
                f"/meetings/{self.id}/participants",
                {"name": person.name, "email": person.email, "mobile": person.mobile},
            )
            assert answer.status == 303, answer.text
        self.people += people
        return people

    def newcomer(self) -> Person:
        """Somebody invited to this meeting whom no other test knows."""
        return self.invite(f"Nora {secrets.token_hex(3)}")[0]

    def invitation(self, person: Person) -> str:
        """The id that the organiser's page has for somebody's invitation."""
        page = self.organiser.browser.get(f"/meetings/{self.id}").text
        return re.search(rf'id="person-(\w+)"(?:(?!id="person-).)*?{re.escape(person.email)}', page, re.DOTALL)[1]

    def put_out(self, person: Person) -> Answer:
        return self.organiser.browser.post(f"/invitations/{self.invitation(person)}/put-out")


@dataclass
class Organiser:
    """An organiser in a browser, signed in."""

    site: Site
    name: str
    email: str
    secret: str
    browser: Browser
    id: str = ""

    def meeting(self, *names: str, title: str = "Budget", agenda: str = "Siffror", starts_in: int = 1) -> Meeting:
        """A meeting that begins in so many minutes, with people called so."""
        start = datetime.now(UTC).astimezone(ZoneInfo("Europe/Stockholm")) + timedelta(minutes=starts_in)
        meeting = Meeting(self.site, "", self, [])
        people = [_person(self.site, name, meeting) for name in names]
        fields = [
            ("title", title), ("agenda", agenda), ("date", f"{start:%Y-%m-%d}"), ("time", f"{start:%H:%M}"),
            ("minutes", "60"), ("time_zone", "Europe/Stockholm"), ("sensitivity", "internal"),
        ]  # fmt: skip
        for person in people:
            fields += [
                ("participant_name", person.name),
                ("participant_email", person.email),
                ("participant_mobile", person.mobile),
            ]
        answer = self.browser.post("/meetings/new", fields)
        assert answer.status == 303, answer.text
        meeting.id, meeting.people = answer.location.rpartition("/")[2], people
        for person in people:
            person.read_mail()
        return meeting

    def ticket(self, meeting: Meeting) -> dict[str, str]:
        """Room and token for the meeting's own organiser, by the authenticator unless that was just done."""
        url = f"/meetings/{meeting.id}"
        if self.browser.get(f"{url}/room").status != 200:
            answer = self.browser.post(f"{url}/verify", {"code": pyotp.TOTP(self.secret).now()})
            assert answer.status == 303, answer.text
        answer = self.browser.ask("POST", f"{url}/ticket", X_CSRF_Token=self.browser.csrf)
        assert answer.status == 200, answer.text
        return {name: answer.json()[name] for name in ("room", "token")}


def _person(site: Site, name: str, meeting: Meeting) -> Person:
    mail, mobile = f"{secrets.token_hex(6)}@example.org", f"+467017{next(_numbers):05d}"
    return Person(site, name, mail, mobile, Browser(site), meeting=meeting)


def path(text: str) -> str:
    """Percent-encode everything but letters and digits."""
    return quote(text, safe="")


async def ends(client: xmpp.Client, within: float = 5) -> bool:
    """Whether the server closes a stream."""
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(client.closed.wait(), within)
    return client.closed.is_set()


@contextlib.contextmanager
def stopped(site: Site, unit: str) -> Iterator[None]:
    """A service of the host that is not running meanwhile; ready again afterwards."""
    site.server.run(f"systemctl stop {unit}")
    try:
        yield
    finally:
        site.server.run(f"systemctl start {unit}")
        ready(site)


def ready(site: Site) -> None:
    """Wait until the bridge says that it could let somebody in."""
    until = time.monotonic() + 30
    while not all(health(site).values()):
        assert time.monotonic() < until, "the bridge did not become ready"
        time.sleep(0.1)


def health(site: Site) -> dict[str, bool]:
    """What the bridge says of its parts, on the host."""
    script = (
        "from urllib import request, error\n"
        "try: print(request.urlopen('http://127.0.0.1:8601/readyz', timeout=5).read().decode())\n"
        "except error.HTTPError as no: print(no.read().decode())\n"
        "except OSError: print('{\"bridge\": false}')"
    )
    return json.loads(on_host(site, script))


def on_host(site: Site, script: str, user: str = "nobody") -> str:
    """What a Python program prints that somebody runs on the host."""
    return site.server.run(f"runuser -u {user} -- python3 -c {shlex.quote(script)}").stdout
