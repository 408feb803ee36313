"""Every page is given what nobody would type, by Schemathesis: it may refuse, and never breaks.

`SLUSS_FUZZ_EXAMPLES=500 ./sluss test tests/attacks/test_fuzz_pages.py` is the long run; the short one has a few each.
"""

from __future__ import annotations

import asyncio
import os
import re
import secrets
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import requests
import schemathesis
from aiohttp import web
from hypothesis import HealthCheck, settings
from tests.unit import settings as installation

from sluss import app
from sluss.config import load_credentials, load_settings
from sluss.domain.assurance import Method, Purpose
from sluss.domain.meetings import MeetingDraft, ParticipantDraft
from sluss.services.common import new_id
from sluss.store.database import upgrade
from sluss.store.proof import Verification
from sluss.web import pages, routes

TEMPLATES = Path(pages.__file__).with_name("templates")
EXAMPLES = int(os.environ.get("SLUSS_FUZZ_EXAMPLES", "4"))
FIELD = re.compile(r'\bfield\("(\w+)"|parts\.(code)_field\(|<(?:input|select|textarea|button)\b[^>]*? name="(\w+)"')
# What somebody would type, for forms that are odd in one field and right in all others
PLAUSIBLE = {
    "title": "Budget",
    "agenda": "1. Siffror",
    "username": "olle@example.org",
    "date": f"{datetime.now(UTC) + timedelta(days=1):%Y-%m-%d}",
    "time": "09:30",
    "minutes": "60",
    "time_zone": "Europe/Stockholm",
    "sensitivity": "internal",
    "name": "Bo Ek",
    "email": "bo@example.org",
    "mobile": "070-174 06 06",
    "label": "Ekonomi",
    "participant_name": "Bo Ek",
    "participant_email": "bo@example.org",
    "participant_mobile": "070-174 06 06",
    "participant_label": "Ekonomi",
    "password": "lagom svår mening 47",
    "again": "lagom svår mening 47",
    "code": "000000",
    "answer": "accepted",
    "lang": "en",
    "return": "/sign-in",
    "response": "{}",
    "for": "room",
    "colleague": "Bo Ek",
    "next": "/account",
    "meeting": "x",
    "role": "organiser",
    "successor": "x",
}
# Buttons with which a form does something else
BUTTONS = {"add", "look_up"}


def fields() -> list[str]:
    """The names of all fields in all forms of the portal's pages."""
    sources = [path.read_text() for path in TEMPLATES.glob("*.html")]
    names = {name for source in sources for found in FIELD.findall(source) for name in found if name}
    return sorted(names - {"csrf"})


def test_every_field_of_every_form_is_tried():
    assert fields() == sorted({*PLAUSIBLE, *BUTTONS})


def description() -> dict:
    """The portal's routes as an OpenAPI document. Path parameters are sometimes real."""
    text = {"type": "string"}
    form = {"type": "object", "properties": dict.fromkeys(fields(), text)}
    paths: dict[str, dict] = {}
    for route in routes():
        if isinstance(route, web.StaticDef) or route.path.startswith("/sign-out"):
            continue
        path = re.sub(r"\{(\w+):[^/]*\}", r"{\1}", route.path)
        names = re.findall(r"\{(\w+)", path)
        parameters = [{"name": name, "in": "path", "required": True, "schema": text} for name in names]
        parameters += [{"name": "q", "in": "query", "schema": text}, {"name": "Accept", "in": "header", "schema": text}]
        operation = {"parameters": parameters, "responses": {"200": {"description": "a page"}}}
        if route.method == "POST":
            operation["requestBody"] = {"content": {"application/x-www-form-urlencoded": {"schema": form}}}
        paths.setdefault(path, {})[route.method.lower()] = operation
    return {"openapi": "3.0.3", "info": {"title": "portal", "version": "1"}, "paths": paths}


@dataclass
class Portal:
    """A running portal, with somebody signed in and somebody verified in one and the same browser."""

    url: str
    cookie: str
    csrf: str
    real: dict[str, str]


async def furnish(path: Path, credentials: Path) -> tuple[str, dict[str, str]]:
    """An organiser with a session, a meeting with a verified participant, an organiser who has still to enrol.

    Returns the session, and what is real in paths.
    """
    chosen = load_settings(path)
    session, now = secrets.token_urlsafe(32), datetime.now(UTC)
    async with app.services_of(chosen, load_credentials(chosen, {"CREDENTIALS_DIRECTORY": str(credentials)})) as (
        s,
        store,
    ):
        await s.organisers.add("Eva Ek", "eva@example.org")
        organiser = await s.organisers.by_email("eva@example.org")
        enrolment = await s.organisers.add("Olle Ohlsson", "olle@example.org")
        who = ParticipantDraft("Anna", "anna@example.org", "+46701740605")
        draft = MeetingDraft("T", "", now + timedelta(minutes=5), 60, "Europe/Stockholm", "internal", (who,))
        meeting = await s.meetings.create(organiser, draft)
        (due,) = await store.run(lambda tx: tx.outbox.due(now + timedelta(minutes=1), timedelta(hours=1), 9))
        link = re.search(r"/i/(\S+)", due.message["body"])[1]
        ground = s.tickets._g
        hashed = ground.session_hash(session)

        def work(tx):
            tx.sessions.put(hashed, organiser.id, complete=True, now=now)
            invitation = tx.invitations.by_link(ground.link_hash(link))
            subject = s.participation._phone(invitation)
            for purpose in Purpose:
                tx.verifications.add(Verification(new_id(), invitation.id, Method.SMS, subject, now), hashed, purpose)
            return invitation.id

        invitation = await store.run(work)
    token = enrolment.rpartition("/")[2]
    return session, {"link": link, "meeting": meeting.id, "invitation": invitation, "token": token}


@pytest.fixture(scope="module")
def portal() -> Iterator[Portal]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        chosen = installation.valid(folder)
        upgrade(chosen["database"])
        path, credentials = installation.written(folder, chosen), installation.credentials(folder)
        session, real = asyncio.run(furnish(path, credentials))
        process = subprocess.Popen(
            [sys.executable, "-m", "sluss.cli", "--config", path, "serve"],
            env=os.environ | {"CREDENTIALS_DIRECTORY": str(credentials)},
            stderr=subprocess.PIPE,
        )
        port = next(found[1] for line in process.stderr if (found := re.search(rb"portal=(\d+)", line))).decode()
        threading.Thread(target=process.stderr.read, daemon=True).start()  # a full pipe would hold it up
        url, cookie = f"http://127.0.0.1:{port}", f"__Host-sluss={session}"
        page = requests.get(f"{url}/meetings/new", headers={"Cookie": cookie, "Host": "portal.sluss.test"}, timeout=10)
        yield Portal(url, cookie, re.search(r'name="csrf" value="(\w+)"', page.text)[1], real)
        process.kill()
        process.communicate()


def test_form_that_is_right_but_for_one_field_gets_far(portal):
    """Otherwise the first check would be all that is tried."""
    headers = {
        "Cookie": portal.cookie,
        "Host": "portal.sluss.test",
        "X-CSRF-Token": portal.csrf,
        "Accept-Language": "en",
    }

    def sent(path: str) -> requests.Response:
        return requests.post(portal.url + path, PLAUSIBLE, headers=headers, allow_redirects=False, timeout=10)

    assert "That code is not right" in sent(f"/enrol/{portal.real['token']}").text
    for path in ("/meetings/new", f"/meetings/{portal.real['meeting']}/participants", "/language"):
        assert sent(path).status_code == 303
    assert sent(f"/i/{portal.real['link']}/answer").status_code == 303


schema = schemathesis.openapi.from_dict(description())


@schema.parametrize()
@settings(
    max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True, database=None
)
def test_page_refuses_and_never_breaks(case, portal):
    headers = {"Cookie": portal.cookie, "Host": "portal.sluss.test", "X-CSRF-Token": portal.csrf}
    for name in case.path_parameters or {}:
        if len(case.path_parameters[name]) % 2 and name in portal.real:
            case.path_parameters[name] = portal.real[name]
    if isinstance(case.body, dict) and len(case.body) % 2:
        odd = list(case.body)[len(str(case.body)) % len(case.body)]
        case.body = PLAUSIBLE | {odd: case.body[odd]}
    answer = case.call(base_url=portal.url, headers=headers, allow_redirects=False, timeout=10)
    assert answer.status_code in range(200, 500) or answer.status_code == 503, (
        case.as_curl_command()
    )  # 503: no gate here
