"""Invariant 11: no log of the host keeps a ticket, a link, a code, a cookie, a name or a number.

`conftest.py` looks through all logs once more when every attack is over.
"""

from __future__ import annotations

import contextlib
import re
import secrets

from tests.attacks.forge import b64
from tests.attacks.logs import everything_logged, secrets_logged
from tests.attacks.people import COOKIE, MEET, Browser, Meeting, Person, Site, stopped


def test_search_finds_what_is_there(site: Site):
    """The search itself is alive: each kind of secret, written on purpose, is found by it."""
    mark = secrets.token_hex(4)
    token = "eyJhbGciOiJSUzI1NiJ9.eyJtYXJrIjoxMTExfQ." + b64(mark * 20)
    written = f"logged {token} /i/{mark * 5}abc +46701749999 {mark}@example.org {COOKIE}={mark * 5}"
    file = f"/var/log/{mark}.log"
    site.server.run(f"echo '{written}' >{file}")
    try:
        assert secrets_logged(everything_logged(site)) == {"ticket", "link", "number", "address", "cookie"}
    finally:
        site.server.run(f"rm {file}")


async def test_refused_and_accepted_tickets_are_in_no_log(site: Site, meeting: Meeting, anna: Person):
    used, bad, other = anna.ticket(), anna.ticket(), meeting.people[1].ticket()
    for transport in ("websocket", "bosh"):
        assert await site.refused(bad | {"token": bad["token"] + "x"}, transport) == "bad-ticket"
        assert await site.refused(bad | {"room": "0" * 32}, transport) == "wrong-room"
    assert await site.refused(bad) is None
    assert await site.refused(bad) == "used"
    async with site.connect(other) as client:
        with contextlib.suppress(Exception):
            await client.join("focus")
        await client.join("aaaa0001")
    logged = everything_logged(site)
    for ticket in (used, bad, other):
        for part in ticket["token"].split(".")[1:]:
            assert part not in logged


ODD = [
    "/i/LINK", "/i/LINK/x%20y", "/I/LINK", "//i//LINK", "/?link=LINK", "/sign-in?x=LINK", "/LINK", "/static/LINK",
    "/%2fi%2fLINK",
]  # fmt: skip


def test_link_in_an_odd_place_is_in_no_log(site: Site):
    link = secrets.token_urlsafe(32)
    for browser in (Browser(site), Browser(site, host=MEET)):
        for path in ODD:
            for method in ("GET", "POST", "BREW"):
                headers = {"Referer": f"https://x/{link}", "User_Agent": link, "Cookie": link}
                browser.ask(method, path.replace("LINK", link), **headers)
    assert link not in everything_logged(site)


def test_link_in_a_request_that_fails_is_in_no_log(site: Site):
    """Too large, and for a bridge that is away: what nginx calls an error."""
    link = secrets.token_urlsafe(32)
    with contextlib.suppress(OSError):
        assert Browser(site).ask("POST", f"/i/{link}", "x" * 300_000).status == 413
    with stopped(site, "sluss-bridge"):
        assert Browser(site).get(f"/i/{link}").status == 503
    assert link not in everything_logged(site)


def test_what_is_typed_is_in_no_log(site: Site, meeting: Meeting):
    fields = ("email", "password", "code", "name", "mobile", "title")
    typed = {name: f"{name}-{secrets.token_hex(6)}" for name in fields}
    person = meeting.newcomer()
    assert person.type_code().status == 303
    Browser(site, source=site.foreign_address()).post("/sign-in", typed)
    person.browser.post(f"{person.path}/join/verify", typed)
    meeting.organiser.browser.post(f"/meetings/{meeting.id}/participants", typed)
    meeting.organiser.browser.post("/meetings/new", typed)
    logged = everything_logged(site)
    code = re.search(r"\b\d{6}\b", site.messages("sms", person.mobile)[0]["body"])[0]
    known = [person.link, person.name, person.email, person.mobile, person.browser.session]
    for secret in (*typed.values(), *known, meeting.organiser.browser.session, f" {code} ", f'"{code}"'):
        assert secret not in logged


async def test_malformed_stanzas_are_in_no_log(site: Site, anna: Person):
    mark = secrets.token_hex(12)
    async with anna.enter() as client:
        await client.send(f"<message to='{client.room_jid}' type='groupchat'><body>{mark}</body></message>")
        await client.send(f"<iq id='1' type='set' to='sluss.{MEET}'><x xmlns='{mark}'>{mark}</x></iq>")
        await client.ping()
        with contextlib.suppress(Exception):
            await client.send(f"<message><body>{mark}</wrong>")
            await client.ping()
    assert mark not in everything_logged(site)
