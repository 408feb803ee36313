"""Invariant 8: personal data is encrypted at rest and shown to nobody but those the policy names."""

from __future__ import annotations

import asyncio

import pytest
from tests.attacks.people import Browser, Meeting, Site, on_host
from tests.xmpp import CLIENT, Client

TITLE, AGENDA = "Förvärvet av Kvarnen", "Köpeskillingens storlek"


@pytest.fixture(scope="module")
def meeting(site: Site) -> Meeting:
    made = site.organiser("Hedvig Uttersköld").meeting("Ansgar Tvåhandsfattning", title=TITLE, agenda=AGENDA)
    assert made.people[0].type_code().status == 303
    return made


def test_nothing_personal_stands_in_the_files_of_the_database(site: Site, meeting: Meeting):
    person = meeting.people[0]
    code = site.messages("sms", person.mobile)[0]["body"].splitlines()[0]
    secrets = [
        TITLE, AGENDA, person.name, person.email, person.mobile, person.link, person.browser.session, code,
        meeting.organiser.name, meeting.organiser.email, meeting.organiser.secret, meeting.organiser.browser.session,
    ]  # fmt: skip
    for secret in (meeting.id, *secrets):
        found = site.server.run(f"grep -rlaF -e '{secret}' /var/lib/sluss", check=False).stdout.split()
        assert bool(found) is (secret == meeting.id), (secret, found)


@pytest.mark.parametrize("user", ["nobody", "prosody", "www-data", "turnserver"])
def test_no_other_service_of_the_host_reads_database_or_secrets(site: Site, meeting: Meeting, user: str):
    script = """
import os
for path in ("/var/lib/sluss", "/var/lib/sluss/sluss.db", "/etc/sluss/credentials", "/etc/sluss/credentials/master-key",
             "/etc/sluss/tls/key.pem", "/run/credentials/sluss-bridge.service",
             "/run/credentials/sluss-bridge.service/master-key"):
    try:
        os.listdir(path) if os.path.isdir(path) else open(path).read()
        print("read", path)
    except OSError: pass
print("tried")
"""
    assert on_host(site, script, user) == "tried\n"
    assert site.server.run("test -s /var/lib/sluss/sluss.db && echo there").stdout == "there\n"


def test_prosody_keeps_nothing_about_people_on_disk(site: Site, meeting: Meeting):
    person = meeting.people[0]
    room = person.ticket()["room"]
    found = site.server.run(f"grep -rlaF -e '{room}' -e '{person.name}' /var/lib/prosody /var/spool /tmp", check=False)
    assert found.stdout == ""


def test_other_organiser_is_told_there_is_no_such_meeting(site: Site, meeting: Meeting):
    other = site.organiser("Olga Annan").browser
    for path in ("", "/room", "/verify", "/here", "/outside", "/participants"):
        wrong, real = (other.get(f"/meetings/{id_}{path}") for id_ in ("0" * 32, meeting.id))
        assert (real.status, TITLE in real.text) == (wrong.status, False)
    assert other.get(f"/meetings/{meeting.id}").status == 404
    assert TITLE not in other.get("/").text
    fields = {"name": "Mig Själv", "email": "mig@example.org", "mobile": "+46701740605"}
    assert other.post(f"/meetings/{meeting.id}/participants", fields).status == 404
    assert other.post(f"/meetings/{meeting.id}/end").status == 404
    page = meeting.organiser.browser.get(f"/meetings/{meeting.id}").text
    assert TITLE in page
    assert "Mig Själv" not in page


def test_outsider_sees_no_meeting_by_its_id(site: Site, meeting: Meeting):
    assert TITLE in meeting.organiser.browser.get(f"/meetings/{meeting.id}").text
    for browser in (Browser(site), meeting.people[0].browser):
        for path in (f"/meetings/{meeting.id}", f"/meetings/{meeting.id}/here", "/", "/meetings/new"):
            answer = browser.get(path)
            assert (answer.status, answer.location) == (303, "/sign-in")
            assert browser.get(path, Accept="application/json").status == 401


async def test_who_is_here_is_for_those_who_may_enter(site: Site, meeting: Meeting):
    inside, person = meeting.people[0], meeting.newcomer()
    async with inside.enter():
        assert person.browser.get(f"{person.path}/here").status in {401, 403}
        person.prove("view")
        assert person.browser.get(f"{person.path}/here").status in {401, 403}
        assert Browser(site).get(f"{person.path}/here").status in {401, 403}
        person.prove()
        async with asyncio.timeout(20):
            while not (people := person.browser.get(f"{person.path}/here").json()["people"]):  # noqa: ASYNC110
                await asyncio.sleep(0.1)  # the bridge hears of it in its own time
        [shown] = people
        assert shown["name"] == inside.name
        assert {"email", "mobile", "invitation"}.isdisjoint(shown)


async def test_who_enters_late_reads_nothing_that_was_written_before(meeting: Meeting):
    late = await asyncio.to_thread(meeting.newcomer)
    async with meeting.people[0].enter() as early:
        await say(early, "before")
        async with late.enter() as client:
            await say(early, "after")
            await client.wait_for(lambda s: s.findtext(f"{CLIENT}body") == "after")
            assert not [s for s in client.received if s.findtext(f"{CLIENT}body") == "before"]


async def say(client: Client, text: str) -> None:
    """Write to the room, and wait until it is there."""
    await client.send(f"<message to='{client.room_jid}' type='groupchat'><body>{text}</body></message>")
    await client.wait_for(lambda s: s.findtext(f"{CLIENT}body") == text)


@pytest.mark.parametrize("path", ["", "/code", "/room", "/here", "/outside"])
def test_personal_page_is_in_no_cache(meeting: Meeting, path: str):
    person = meeting.people[0]
    person.prove()
    for browser, url in ((person.browser, person.path + path), (meeting.organiser.browser, f"/meetings/{meeting.id}")):
        answer = browser.get(url)
        assert answer.headers["Cache-Control"] == "no-store"
        assert "ETag" not in answer.headers
        assert answer.headers["X-Robots-Tag"] == "noindex, nofollow"


@pytest.mark.parametrize(
    "suffix", [".css", "/x.css", "/static/x.js", "%0A.css", ";x.png", "?x.jpg", "//a.ico", "%2ex.css"]
)
def test_page_that_looks_like_a_file_is_not_given_as_one(site: Site, meeting: Meeting, suffix: str):
    """Web cache deception: what a cache would keep by its name."""
    person = meeting.people[0]
    person.prove()
    assert TITLE in person.browser.get(person.path).text
    answer = person.browser.get(person.path + suffix)
    assert TITLE not in answer.text or answer.headers["Cache-Control"] == "no-store"
    assert answer.headers.get("Cache-Control") in {"no-store", None}
