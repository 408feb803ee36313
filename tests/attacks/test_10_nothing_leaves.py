"""Invariant 10: pages name no other server, and nothing that somebody types makes this one talk to another."""

from __future__ import annotations

import re

import pytest
from tests.attacks.people import MEET, PORTAL, Browser, Meeting, Site

OWN = {PORTAL, MEET}


@pytest.fixture(scope="module")
def meeting(site: Site) -> Meeting:
    agenda = "http://evil.example/a https://evil.example/b.png //evil.example/c http://127.0.0.1:8601/metrics"
    return site.organiser().meeting("Anna https://evil.example/d", title="http://evil.example/e", agenda=agenda)


def test_pages_load_from_and_link_to_the_own_origin_only(site: Site, meeting: Meeting):
    person = meeting.people[0]
    person.prove()
    pages = [
        Browser(site).get("/sign-in"), Browser(site).get(person.path), Browser(site).get(f"{person.path}/code"),
        person.browser.get(person.path), person.browser.get(f"{person.path}/room"),
        meeting.organiser.browser.get("/"), meeting.organiser.browser.get("/meetings/new"),
        meeting.organiser.browser.get(f"/meetings/{meeting.id}"),
    ]  # fmt: skip
    assert "evil.example" in pages[3].text, "as text"
    for page in pages:
        assert page.status == 200
        for target in re.findall(r"""(?:href|src|action|srcset|data-\w+|content)=["']([^"']*)""", page.text):
            for server in re.findall(r"(?:https?|wss?):?//([^/\s:\"'&]+)|^//([^/]+)", target):
                assert "".join(server) in OWN, target
        policy = page.headers["Content-Security-Policy"]
        assert policy.startswith("default-src 'none';")
        assert "*" not in policy
        assert set(re.findall(r"(?:https|wss)://([^ ;]+)", policy)) <= {MEET}
        assert "Link" not in page.headers


@pytest.mark.parametrize("name", ["room.js", "xmpp.js", "status.js", "wait.js", "rows.js", "sluss.css", "logo.svg"])
def test_script_or_style_names_no_other_server(site: Site, name: str):
    answer = Browser(site).get(f"/static/{name}")
    assert answer.status == 200
    servers = set(re.findall(r"(?:https?|wss?)://([\w.-]+)", answer.text))
    assert servers <= {"www.w3.org", "jabber.org", "etherx.jabber.org", "jitsi.org"}  # names of XML namespaces


def test_address_that_somebody_typed_is_asked_nothing(site: Site, meeting: Meeting):
    """No preview, no avatar, no validation by fetching: the bridge speaks to its mail relay and SMS gateway alone."""
    person = meeting.people[0]
    assert person.type_code().status == 303
    connections = site.server.run("ss -Htnp").stdout
    bridge = [line.split()[4] for line in connections.splitlines() if '"sluss"' in line or '"python' in line]
    assert all(peer.startswith(("127.0.0.1:", "[::1]:", "[::ffff:127.0.0.1]:")) for peer in bridge), bridge


def test_meeting_host_sends_nobody_elsewhere(site: Site):
    for path in ("/", "/x", "/http-bind", "//evil.example", "/\\evil.example", "/?url=https://evil.example"):
        answer = Browser(site, host=MEET).get(path)
        assert answer.location in {None, f"https://{PORTAL}/"}
