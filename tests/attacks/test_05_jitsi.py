"""Invariant 5 where Jitsi is installed, by doubles that listen where its parts do: what they bring is no door either.

The other files' attacks from inside a meeting are run here again, beside a focus that answers.
"""

from __future__ import annotations

import asyncio
import json
import secrets
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests import xmpp
from tests.attacks.logs import everything_logged, secrets_logged
from tests.attacks.people import CONFERENCE, MEET, PORTAL, URLS, Browser, Insider, Person, Site, on_host
from tests.attacks.test_05_no_other_door import (
    test_no_side_entrance_by_another_virtual_host,
    test_participant_cannot_by_iq,
    test_without_a_ticket_there_is_no_guest,
)
from tests.attacks.test_06_name_and_role import (
    of,
    test_nobody_inside_may,
    test_participant_cannot_by_message,
    test_presence_does_not_reach_real_addresses,
)
from tests.conftest import Server, names_lead_to
from tests.xmpp import Refused, name_of, role_of

__all__ = [
    "test_no_side_entrance_by_another_virtual_host",
    "test_nobody_inside_may",
    "test_participant_cannot_by_iq",
    "test_participant_cannot_by_message",
    "test_presence_does_not_reach_real_addresses",
    "test_without_a_ticket_there_is_no_guest",
]

PORTS = {"jicofo": 8888, "the videobridge's private server": 8080, "the videobridge's public server": 9090}


@pytest.fixture(scope="module")
def site(jitsi) -> Iterator[Site]:
    """The server with Jitsi, under the names that otherwise lead to the one without."""
    ca_file = jitsi.machine.folder / "ca.pem"
    ca_file.write_text(jitsi.machine.run("cat /etc/sluss/tls/ca.pem").stdout)
    hosts = Path("/etc/hosts")
    before = hosts.read_text()
    names_lead_to(jitsi.machine.address)
    server = Server(jitsi.machine, jitsi.first, ca_file)
    insider = Insider(server)
    made = Site(server, insider, jitsi=True)
    yield made
    insider.close()
    hosts.write_text(before)
    assert secrets_logged(everything_logged(made)) == set()


def answers_of_the_parts(site: Site) -> dict[str, str]:
    """What Jitsi's parts say to somebody on the host."""
    script = f"""
import json, urllib.request
ask = lambda port: urllib.request.urlopen(f"http://127.0.0.1:{{port}}/about/health", timeout=5).read().decode()
print(json.dumps({{name: ask(port) for name, port in {PORTS!r}.items()}}))
"""
    return json.loads(on_host(site, script))


@pytest.mark.parametrize("part", PORTS)
def test_interface_of_jitsis_parts_is_for_the_host_alone(site: Site, part: str):
    """Not because the firewall stands before it: it does not listen on any other address."""
    assert "double of" in answers_of_the_parts(site)[part]
    address = (site.server.address, PORTS[part])
    with pytest.raises(OSError, match=r"timed out|refused"):
        socket.create_connection(address, timeout=1).close()
    script = f"import socket; print(socket.socket().connect_ex({address!r}))"
    assert on_host(site, script).strip() == "111"  # refused


PATHS = [
    "/conference-request/v1", "/conference-request/v1?room=x", "/conference-request/../conference-request/v1",
    "/about/health", "/about/version", "/debug", "/debug/xmpp-caps", "/stats", "/metrics", "/pin", "/move-endpoints",
    "/rtcstats", "/colibri/v2/conferences", "/colibri/stats", "/colibri/drain", "/colibri/shutdown",
    "/colibri/muc-client/add",
    "/colibri-relay-ws/jvb1/x/y", "/colibri-ws/", "/colibri-ws/jvb1", "/colibri-ws/jvb1/x", "/colibri-ws/jvb1/x/y/z",
    "/colibri-ws/../debug", "/colibri-ws/%2e%2e/debug", "/colibri-ws/..%2fdebug", "/colibri-ws/..;/debug",
    "/colibri-ws/..;/..;/about/health", "/colibri-ws/jvb1/x/..;", "/colibri-ws/jvb1/%3bx/y", "/colibri-ws/jvb1/x/y%00",
    "//colibri-ws//..//debug", "/colibri-ws/jvb1\\x\\y/../../debug",
]  # fmt: skip


@pytest.mark.parametrize("path", PATHS)
def test_path_of_jitsis_parts_leads_to_none_of_them(site: Site, path: str):
    browser = Browser(site, host=MEET)
    guessed = f"/colibri-ws/jvb1/{secrets.token_hex(6)}/{secrets.token_hex(4)}"
    # This one reaches the double; the real one asks for the password.
    assert guessed in browser.get(f"{guessed}?pwd=x").text
    for method in ("GET", "POST", "PUT"):
        answer = browser.ask(method, path, b"{}", Content_Type="application/json")
        assert "double of" not in answer.text.replace("double of Jitsi", ""), answer.text
        assert answer.status in {200, 302, 400, 403, 404, 405}
        # What looks like a room is Jitsi's page, which belongs into the portal's frame.
        assert answer.status != 200 or "A double of Jitsi's page" in answer.text


def test_way_round_the_videobridges_path_reaches_only_that_path(site: Site):
    """What nginx takes for the path is what it passes on: not what stood in the request line."""
    answer = Browser(site, host=MEET).get("/debug/../colibri-ws/jvb1/x/y")
    assert answer.text == "double of the videobridge: GET /colibri-ws/jvb1/x/y\n"


def password_of(site: Site, account: str) -> str:
    return site.server.run(f"cat /etc/sluss/credentials/{account}-password").stdout.strip()


def log_in_on_the_host(site: Site, user: str, password: str) -> str:
    """The outcome of SCRAM at Prosody's client port, as the double of jicofo does it."""
    script = (
        "source = open('/usr/share/jicofo/double.py').read().rpartition('main()')[0]\n"
        "exec(source)\n"
        f"focus = Focus('127.0.0.1', 5222, 'auth.{MEET}')\n"
        f"try: focus.log_in({user!r}, {password!r}, 'x'); print('opened')\n"
        "except Exception as no: print('refused', type(no))\n"
    )
    return site.server.run("timeout 5 python3 -", check=False, input=script).stdout


@pytest.mark.parametrize("transport", ["websocket", "bosh"])
@pytest.mark.parametrize("account", ["focus", "jvb"])
async def test_service_account_is_not_for_browsers_even_with_its_password(
    site: Site, anna: Person, account: str, transport: str
):
    """On the host this very password opens a session; over the web there is not even a mechanism to try it with."""
    ticket, password = anna.ticket(), password_of(site, account)
    assert "opened" in log_in_on_the_host(site, account, password)
    assert "refused" in log_in_on_the_host(site, account, password[::-1])
    for domain in (f"auth.{MEET}", MEET):
        stream = xmpp.open_stream(URLS[transport], domain, ssl=site.trust, headers={"Host": MEET}, **ticket)
        async with stream as client:
            with pytest.raises(Refused) as no:
                await client.authenticate(account, password)
            assert no.value.condition in {"closed", "not-offered"}
    assert await site.refused(anna.ticket()) is None


@pytest.mark.parametrize("stem", ["auth", "internal.auth", "focus", "avmoderation", "conference"])
async def test_service_of_jitsis_is_no_host_for_browsers(site: Site, anna: Person, stem: str):
    for transport in ("websocket", "bosh"):
        ticket = anna.ticket()
        stream = xmpp.open_stream(URLS[transport], f"{stem}.{MEET}", ssl=site.trust, headers={"Host": MEET}, **ticket)
        async with stream as client:
            await asyncio.wait_for(client.closed.wait(), 5)
            assert not [m for s in client.received for m in s.iter() if m.tag.endswith("}mechanism")]
    assert await site.refused(anna.ticket()) is None


async def test_focus_opens_the_own_room_and_no_other(site: Site, anna: Person):
    other = site.organiser().meeting("Olle Berg").people[0]
    async with other.enter() as elsewhere, anna.enter("aaaa0001") as client:
        assert [s for s in of(client.received, "focus") if s.get("type") is None]
        for room in (elsewhere.room_jid, f"{secrets.token_hex(16)}@{CONFERENCE}", f"lobby@lobby.{MEET}", "*", ""):
            with pytest.raises(Refused) as no:
                await client.ask_focus(room or f"@{CONFERENCE}")
            assert no.value.condition == "forbidden"


async def test_room_is_not_made_by_who_enters_without_the_focus(site: Site):
    person = site.organiser().meeting("Nora Nord").people[0]
    async with site.connect(person.ticket()) as client:
        with pytest.raises(Refused):
            await client.join("aaaa0001")
    async with person.enter() as client:
        assert role_of(of(client.received, client.nick)[-1]) == ("none", "participant")


async def test_focus_opens_no_room_of_a_meeting_that_has_ended(site: Site):
    organiser = site.organiser()
    meeting = organiser.meeting("Nils Nord")
    async with site.connect(meeting.people[0].ticket()) as client:
        site.insider("end_quietly", meeting_id=meeting.id)
        with pytest.raises(Refused) as no:
            await client.ask_focus()
        assert no.value.condition == "not-acceptable"  # the focus's own answer: the gate let it in nowhere


HOSTS = [f"{name}.{MEET}" for name in ("lobby", "breakout", "visitors", "internal.auth", "guest", "recorder")]


@pytest.mark.parametrize("host", HOSTS)
async def test_no_room_beside_the_meetings_is_entered(site: Site, anna: Person, host: str):
    async with anna.enter("aaaa0001") as client:
        for room in (client.room, "jvbbrewery", secrets.token_hex(16)):
            with pytest.raises(Refused) as no:
                await client.join("aaaa0002", room_jid=f"{room}@{host}")
            assert no.value.condition == "forbidden"


@pytest.mark.parametrize("nick", ["focus", "jvb1", "jibri-x", "transcriber"])
async def test_nobody_takes_the_place_of_jitsis_machines(site: Site, anna: Person, bo: Person, nick: str):
    """A name that clients obey is taken; another one is only a name, for roles come from the gate."""
    async with bo.enter() as other, site.connect(anna.ticket()) as client:
        if nick == "focus":
            with pytest.raises(Refused):
                await client.join(nick)
            assert [s.get("type") for s in of(other.received, nick)] == [None]
        else:
            assert role_of(await client.join(nick)) == ("none", "participant")
            await other.ping()
            [shown] = of(other.received, nick)
            assert name_of(shown) == anna.name


async def test_client_is_told_of_moderation_and_of_no_other_component(site: Site, anna: Person):
    """What it is not told of it does not offer, and what Prosody does not serve nobody needs to be told of."""
    async with anna.enter() as client:
        answer = await client.iq("get", MEET, "<query xmlns='http://jabber.org/protocol/disco#info'/>")
        found = {
            (identity.get("type"), identity.get("name"))
            for identity in answer.iter("{http://jabber.org/protocol/disco#info}identity")
            if identity.get("category") == "component"
        }
        assert found == {("av_moderation", f"avmoderation.{MEET}")}


def test_room_opened_by_itself_leads_to_the_portal(site: Site):
    """A link with a token in it, as Jitsi's own would be, is of no use outside the portal's frame."""
    browser = Browser(site, host=MEET)
    assert "A double of Jitsi's page" in browser.get("/room", Sec_Fetch_Dest="iframe").text
    answer = browser.get("/room?jwt=eyJ.x.y", Sec_Fetch_Dest="document")
    assert (answer.status, answer.location) == (302, f"https://{PORTAL}/")
