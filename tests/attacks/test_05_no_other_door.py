"""Invariant 5: there is no other door. Each closed one is tried beside the one that is open."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import hmac
import http.client
import re
import shlex
import socket
import ssl
import textwrap
import time
from collections.abc import Iterator
from urllib.parse import unquote

import aiohttp
import pytest
from tests import xmpp
from tests.attacks.people import CONFERENCE, MEET, PORTAL, URLS, Browser, Person, Site, health, on_host
from tests.attacks.turn import TCP, Turn, TurnError
from tests.xmpp import CLIENT, Refused

PORTS = {
    "c2s": 5222,
    "c2s with TLS": 5223,
    "s2s": 5269,
    "s2s with TLS": 5270,
    "components": 5347,
    "XMPP over HTTP": 5280,
    "XMPP over HTTPS": 5281,
    "Prosody's console": 5582,
    "file proxy": 5000,
    "portal": 8600,
    "health and metrics": 8601,
    "demo outbox": 8025,
    "demo mail": 2525,
    "mail": 25,
    "jicofo's REST": 8888,
    "videobridge's REST": 8080,
    "videobridge's websocket": 9090,
    "videobridge's TCP media": 4443,
    "jibri's REST": 2222,
    "plain HTTP": 80,
    "database": 5432,
    "coturn's console": 5766,
    "coturn's web admin": 8443,
    "metrics of the host": 9100,
    "name service": 53,
}


LISTEN = """
import selectors, socket
waiting = selectors.DefaultSelector()
for port in {ports}:
    waiting.register(socket.create_server(({address!r}, port)), selectors.EVENT_READ)
while True:
    for key, _ in waiting.select():
        key.fileobj.accept()[0].sendall(b"here")
"""
ASK = """
import socket
for port in {ports}:
    with socket.create_connection(({address!r}, port), 3) as connection:
        print(port, connection.recv(9).decode())
"""


@pytest.fixture
def careless(site: Site) -> Iterator[list[int]]:
    """Ports on which something listens for the world to come, as after a careless installation."""
    ports = list(PORTS.values())
    program = shlex.quote(LISTEN.format(ports=ports, address=site.server.address))
    site.server.run(f"systemd-run --unit=careless --collect python3 -c {program}")
    ask = ASK.format(ports=ports, address=site.server.address)
    once = f"try:\n{textwrap.indent(ask, ' ')}\nexcept OSError: print('not yet')"
    try:
        until = time.monotonic() + 10
        while (said := on_host(site, once)) == "not yet\n":
            assert time.monotonic() < until
        assert said.splitlines() == [f"{port} here" for port in ports]
        yield ports
    finally:
        site.server.run("systemctl stop careless")


def test_no_inner_port_answers_from_outside(site: Site, careless: list[int]):
    """Whether or not anything listens: on the host every one of them answers, at the very address that is tried."""
    with socket.create_connection((site.server.address, 443), timeout=3):
        pass
    sockets = {port: socket.socket() for port in careless}
    for port, connection in sockets.items():
        connection.setblocking(False)
        connection.connect_ex((site.server.address, port))
    time.sleep(1)  # what is dropped never answers: a second is what an open one would have to use
    reached = []
    for port, connection in sockets.items():
        with contextlib.suppress(OSError):
            connection.getpeername()
            reached.append(port)
        connection.close()
    assert reached == []


def test_inner_port_does_not_answer_on_the_outer_address(site: Site):
    """For whoever makes a program on the host, such as TURN's relay, connect to it: no firewall is in between there."""
    script = f"""
import socket
for port in [443, *{sorted(PORTS.values())}]:
    if socket.socket().connect_ex(("{site.server.address}", port)) == 0: print(port)
"""
    assert on_host(site, script) == "443\n"


@pytest.mark.parametrize("secret", ["", "secret", "sluss", "prosody", "component", "changeme"])
def test_component_port_needs_its_secret_also_on_the_host(site: Site, secret: str):
    """Somebody with a shell on the host, but not root."""
    script = f"""
import hashlib, re, socket
s = socket.create_connection(("127.0.0.1", 5347), 5)
s.sendall(b"<stream:stream xmlns='jabber:component:accept' xmlns:stream='http://etherx.jabber.org/streams'"
          b" to='sluss.{MEET}'>")
data = b""
while b" id=" not in data: data += s.recv(4096)
stream = re.search(rb" id='?\\"?([^'\\" >]+)", data)[1]
s.sendall(b"<handshake>" + hashlib.sha1(stream + b"{secret}").hexdigest().encode() + b"</handshake>")
s.settimeout(5)
while chunk := s.recv(4096): data += chunk
print(data.decode())
"""
    said = on_host(site, script)
    assert "not-authorized" in said
    assert "<handshake/>" not in said
    assert health(site) == {"database": True, "gate": True}


def test_client_port_on_the_host_offers_nothing(site: Site):
    """For whoever has a shell there: no mechanism on the meeting host, no server-to-server at all."""
    script = f"""
import socket
s = socket.create_connection(("127.0.0.1", 5222), 5)
s.sendall(b"<stream:stream xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams' version='1.0'"
          b" to='{MEET}'>")
s.settimeout(1)
data = b""
try:
    while chunk := s.recv(4096): data += chunk
except TimeoutError: pass
print(data.decode())
"""
    said = on_host(site, script)
    assert "stream:features" in said or "stream:error" in said
    assert "mechanism>" not in said
    assert site.server.run("ss -Hltn 'sport = :5269 or sport = :5270 or sport = :5582'").stdout == ""


PATHS = [
    "/conference-request/v1", "/conference-request/v1?room=x", "/http-upload", "/upload/x", "/file_share/x", "/admin",
    "/metrics", "/healthz", "/readyz", "/about/health", "/about/version", "/debug", "/stats", "/colibri/stats",
    "/colibri/conferences", "/colibri-ws/x", "/rest/", "/room?room=x", "/room-size?room=x", "/room-census",
    "/turncredentials", "/etherpad/", "/socket.io/", "/transcripts/", "/conference_list", "/room_metadata",
    "/end-meeting", "/kick-participant", "/invite-jigasi", "/.well-known/host-meta", "/.well-known/host-meta.json",
    "/.git/config", "/xmpp-websocket/", "/xmpp-websocket/admin", "/http-bind/", "/http-bind/../metrics",
    "/xmpp-websocket/../http-upload", "/%2e%2e/metrics", "//xmpp-websocket//", "/keys/jwks.json", "/i/x", "/sign-in",
    "/static/../../etc/passwd", "/config.js", "/external_api.js", "/index.html", "/plugin.head.html", "/base.html",
]  # fmt: skip


@pytest.mark.parametrize("path", PATHS)
def test_path_on_the_meeting_host_leads_to_the_portal_only(site: Site, path: str):
    """Jitsi is not on this host: what is neither websocket nor BOSH is nothing."""
    browser = Browser(site, host=MEET)
    assert browser.get("/http-bind").status == 200
    for method in ("GET", "POST", "PUT", "DELETE", "OPTIONS"):
        answer = browser.ask(method, path, b"", Accept="application/json")
        away = (answer.status, answer.location) == (302, f"https://{PORTAL}/")
        assert away or (answer.status == 400 and ".." in unquote(path)), (method, answer.text[:200])


@pytest.mark.parametrize(
    "path",
    [
        "/xmpp-websocket", "/http-bind", "/metrics", "/healthz", "/readyz", "/conference-request/v1", "/colibri-ws/x",
        "/static/..%2f..%2fpages.py", "/static/%2e%2e/pages.py", "/static//etc/passwd", "/static/../pages.py",
        "/%00", "/.env", "/server-status", "/debug/pprof", "/api/v1", "/openapi.json", "/internal", "/outbox", "/sms",
    ],
)  # fmt: skip
def test_path_on_the_portal_is_not_there(site: Site, path: str):
    browser = Browser(site)
    assert browser.get("/static/sluss.css").status == 200
    for method in ("GET", "POST"):
        answer = browser.ask(method, path, b"" if method == "POST" else None)
        assert answer.status in {400, 403, 404, 405}, answer.text[:200]
        assert "import " not in answer.text


async def test_websocket_on_the_portals_name_is_not_there(site: Site, anna: Person):
    ticket = anna.ticket()
    for host in (PORTAL, "outbox.sluss.test"):
        with pytest.raises(aiohttp.WSServerHandshakeError) as no:
            async with xmpp.connect(
                f"wss://{host}/xmpp-websocket", MEET, ssl=site.trust, headers={"Host": host}, **ticket
            ):
                pass
        assert no.value.status == 404
    assert await site.refused(ticket) is None


HOSTS = [
    "localhost", "127.0.0.1", "evil.example", f"auth.{MEET}", CONFERENCE, f"{MEET}.evil.example", "",
    f"{MEET}:5280", f"focus.{MEET}", f"sluss.{MEET}", "admin", f"{MEET}.", f"{MEET},{PORTAL}",
]  # fmt: skip


@pytest.mark.parametrize("header", HOSTS)
async def test_other_host_header_reaches_no_other_host_of_prosodys(site: Site, anna: Person, header: str):
    """Prosody serves HTTP by host name; only the meeting host has any."""
    ticket = anna.ticket()
    with contextlib.suppress(aiohttp.ClientError, Refused, TimeoutError):
        stream = xmpp.open_stream(
            URLS["websocket"], MEET, ssl=site.trust, headers={"Host": header}, room="x", token="x"
        )
        async with stream as client:
            with pytest.raises(Refused) as no:
                await client.authenticate()
            assert no.value.reason == "bad-ticket"
    for path in ("/http-bind", "/metrics", "/"):
        with contextlib.suppress(http.client.RemoteDisconnected):
            answer = Browser(site, host=MEET).ask("GET", path, Host=header)
            assert answer.status in {302, 400, 404, 421} or (path == "/http-bind" and answer.status == 200)
            assert "sluss_" not in answer.text
    assert await site.refused(ticket) is None


@pytest.mark.parametrize("name", ["evil.example", "", "localhost", f"auth.{MEET}", f"x.{PORTAL}"])
def test_tls_handshake_for_a_foreign_name_is_rejected(site: Site, name: str):
    trusting = ssl.create_default_context()
    trusting.check_hostname, trusting.verify_mode = False, ssl.CERT_NONE
    with (
        socket.create_connection((site.server.address, 443), timeout=5) as connection,
        trusting.wrap_socket(connection, server_hostname=PORTAL) as secure,
    ):
        assert secure.version() in {"TLSv1.2", "TLSv1.3"}
    with (
        socket.create_connection((site.server.address, 443), timeout=5) as connection,
        pytest.raises(ssl.SSLError, match=r"(?i)unrecognized|alert"),
    ):
        trusting.wrap_socket(connection, server_hostname=name or None)


FOCUS = "<conference xmlns='http://jitsi.org/protocol/focus' room='%s' machine-uid='x'/>"
QUESTIONS = {
    "ask_focus_about_another_room": ("set", f"focus.{MEET}", FOCUS % f"{'0' * 32}@{CONFERENCE}"),
    "ask_focus_about_all": ("set", f"focus.{MEET}", FOCUS % "*"),
    "ask_focus_without_a_room": ("set", f"focus.{MEET}", "<conference xmlns='http://jitsi.org/protocol/focus'/>"),
    "ask_the_focus_user": ("set", f"focus@auth.{MEET}/focus", FOCUS % "ROOM"),
    "ask_focus_for_a_login_url": ("get", f"focus.{MEET}", "<login-url xmlns='http://jitsi.org/protocol/focus'/>"),
    "log_out_by_focus": ("set", f"focus.{MEET}", "<logout xmlns='http://jitsi.org/protocol/focus' session-id='x'/>"),
    "start_a_recording": (
        "set",
        f"focus@auth.{MEET}/focus",
        "<jibri xmlns='http://jitsi.org/protocol/jibri' action='start'/>",
    ),
    "dial_out": ("set", f"focus@auth.{MEET}/focus", "<dial xmlns='urn:xmpp:rayo:1' to='+46701740605' from='x'/>"),
    "allocate_at_the_videobridge": ("set", f"jvb@auth.{MEET}/x", "<conference-modify xmlns='jitsi:colibri2'/>"),
    "admit_as_prosody_does": (
        "get",
        f"sluss.{MEET}",
        "<admit xmlns='urn:sluss:gate:1' session='x' room='ROOM' occupant='x' kind='focus' stage='join'/>",
    ),
    "authenticate_as_prosody_does": (
        "get",
        f"sluss.{MEET}",
        "<authenticate xmlns='urn:sluss:gate:1' session='x' room='ROOM' transport='bosh' address='x'/>",
    ),
    "report_somebody_as_entered": (
        "set",
        f"sluss.{MEET}",
        "<entered xmlns='urn:sluss:gate:1' epoch='x' seq='1' room='ROOM' session='x' occupant='x' at='1'/>",
    ),
    "register_an_account": (
        "set",
        MEET,
        "<query xmlns='jabber:iq:register'><username>x</username><password>x</password></query>",
    ),
    "register_with_jitsis_accounts": ("set", f"auth.{MEET}", "<query xmlns='jabber:iq:register'/>"),
    "upload_a_file": ("get", MEET, "<request xmlns='urn:xmpp:http:upload:0' filename='x' size='1'/>"),
    "run_an_admin_command": (
        "set",
        MEET,
        "<command xmlns='http://jabber.org/protocol/commands' node='http://jabber.org/protocol/admin#add-user'/>",
    ),
    "list_the_servers_users": (
        "get",
        MEET,
        "<query xmlns='http://jabber.org/protocol/disco#items' node='online users'/>",
    ),
    "read_a_roster": ("get", "SELF", "<query xmlns='jabber:iq:roster'/>"),
    "read_anothers_data": ("get", "YOU", "<query xmlns='jabber:iq:private'/>"),
    "read_a_pubsub_node": (
        "get",
        "YOU",
        "<pubsub xmlns='http://jabber.org/protocol/pubsub'><items node='x'/></pubsub>",
    ),
    "see_when_another_was_active": ("get", "YOU", "<query xmlns='jabber:iq:last'/>"),
    "ask_a_foreign_server": ("get", "evil.example", "<ping xmlns='urn:xmpp:ping'/>"),
    "ask_the_conference_host": ("get", CONFERENCE, "<query xmlns='http://jabber.org/protocol/muc#unique'/>"),
    "enable_carbons": ("set", "SELF", "<enable xmlns='urn:xmpp:carbons:2'/>"),
    "block_somebody": ("set", "SELF", "<block xmlns='urn:xmpp:blocking'><item jid='x'/></block>"),
    "enable_push": ("set", "SELF", "<enable xmlns='urn:xmpp:push:0' jid='evil.example'/>"),
}


@pytest.mark.parametrize("question", QUESTIONS)
async def test_participant_cannot_by_iq(site: Site, anna: Person, bo: Person, question: str):
    kind, to, payload = QUESTIONS[question]
    async with bo.enter() as other, anna.enter() as client:
        await client.iq("get", MEET, "<ping xmlns='urn:xmpp:ping'/>")
        since = len(other.received)
        to = {"SELF": client.jid.partition("/")[0], "YOU": other.jid}.get(to, to)
        with pytest.raises(Refused) as no:
            await client.iq(kind, to, payload.replace("ROOM", client.room))
        if question == "list_the_servers_users":
            assert no.value.condition in {"forbidden", "item-not-found"}
        else:
            assert no.value.condition == "forbidden"
        await other.ping()
        assert not [s for s in other.received[since:] if s.tag == f"{CLIENT}iq" and s.get("type") in {"get", "set"}]


# TURN

EXTDISCO = "<services xmlns='urn:xmpp:extdisco:2' type='turn'/>"
INNER = [
    "127.0.0.1", "127.0.0.53", "0.0.0.0", "10.0.0.1", "10.213.0.1", "172.16.0.1", "192.168.0.1", "100.64.0.1",
    "169.254.169.254", "169.254.0.1", "224.0.0.1", "255.255.255.255", "240.0.0.1", "192.0.2.1", "8.8.8.8",
]  # fmt: skip
INNER_V6 = ["::1", "::", "fe80::1", "fd00::1", "ff02::1", "::ffff:127.0.0.1", "64:ff9b::7f00:1", "2001:db8::1"]


async def credentials(anna: Person) -> dict[str, str]:
    """What Prosody gives to somebody inside (XEP-0215)."""
    async with anna.enter() as client:
        answer = await client.iq("get", MEET, EXTDISCO)
        [service] = answer.iter("{urn:xmpp:extdisco:2}service")
        return {"user": service.get("username"), "password": service.get("password")}


@pytest.fixture
async def given(anna: Person) -> dict[str, str]:
    return await credentials(anna)


@pytest.fixture
def relay(site: Site, given: dict[str, str]) -> Iterator[Turn]:
    """A relay that somebody inside has."""
    with Turn(site.server.address, **given) as turn:
        turn.allocate()
        yield turn


async def test_turn_credentials_are_for_who_is_let_in(site: Site):
    """A stream that was not authenticated gets no answer at all."""
    async with site.open() as outsider:
        await outsider.wait_for(lambda s: s.tag.endswith("}features"))
        with pytest.raises((Refused, TimeoutError)):
            await asyncio.wait_for(outsider.iq("get", MEET, EXTDISCO), 2)


def test_turn_gives_no_relay_without_credentials(site: Site):
    with Turn(site.server.address) as turn:
        turn.binding()
        with pytest.raises(TurnError, match="401"):
            turn.allocate()


@pytest.mark.parametrize("secret", ["", "secret", "changeme", "turn", "north", "meet.sluss.test", "sluss"])
async def test_guessed_turn_secret_gives_no_relay(site: Site, given: dict[str, str], secret: str):
    user = f"{int(time.time()) + 3600}:x"
    password = base64.b64encode(hmac.new(secret.encode(), user.encode(), hashlib.sha1).digest()).decode()
    with Turn(site.server.address, user=user, password=password) as turn, pytest.raises(TurnError, match="401"):
        turn.allocate()
    with Turn(site.server.address, **given) as turn:
        turn.allocate()


@pytest.mark.parametrize(
    "changed",
    [
        lambda user: str(int(time.time()) - 1),  # over
        lambda user: str(int(user.partition(":")[0]) + 86_400),  # longer than given
        lambda user: f"{user}:anna",
        lambda user: "0",
        lambda user: "",
        lambda user: "'; DROP TABLE turnusers_lt; --",
    ],
)
async def test_altered_turn_user_gives_no_relay(site: Site, given: dict[str, str], changed):
    with Turn(site.server.address, **given | {"user": changed(given["user"])}) as turn:
        turn.binding()
        with pytest.raises(TurnError, match=r"40[01]"):
            turn.allocate()
    with Turn(site.server.address, **given) as turn:
        turn.allocate()


async def test_stale_turn_credentials_give_no_relay(site: Site, given: dict[str, str]):
    """Made with the right secret, a second too old."""
    secret = site.server.run("cat /etc/sluss/credentials/turn-secret").stdout.strip()
    for offset, good in ((-1, False), (60, True)):
        user = str(int(time.time()) + offset)
        password = base64.b64encode(hmac.new(secret.encode(), user.encode(), hashlib.sha1).digest()).decode()
        with Turn(site.server.address, user=user, password=password) as turn:
            if good:
                turn.allocate()
            else:
                with pytest.raises(TurnError, match="401"):
                    turn.allocate()


def test_relay_reaches_no_inner_address_and_no_stranger(site: Site, relay: Turn):
    """With valid credentials: to the videobridge's address, which is this host's, and to nothing else."""
    relay.permit(site.server.address)
    for address in (*INNER, str(site.server.machine.network.subnet[1])):
        with pytest.raises(TurnError, match="403"):
            relay.permit(address)
        with pytest.raises(TurnError, match="403"):
            relay.bind_channel(address, 8600)
    for address in INNER_V6:
        with pytest.raises(TurnError, match=r"403|443|440"):
            relay.permit(address)
    relay.permit(site.server.address)


async def test_relay_makes_no_tcp_connections(site: Site, given: dict[str, str], relay: Turn):
    """By RFC 6062 only whoever came over TCP asks for them."""
    for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
        with Turn(site.server.address, **given, kind=kind) as turn, pytest.raises(TurnError, match=r"4\d\d"):
            turn.allocate(TCP)
    with Turn(site.server.address, **given, kind=socket.SOCK_STREAM) as turn:
        turn.allocate()
    with pytest.raises((TurnError, TimeoutError)):
        relay.connect(site.server.address, 22)


def test_relay_does_not_reach_the_hosts_own_udp_services(site: Site, relay: Turn):
    """The address is open for the videobridge. No other UDP service may listen on it."""
    relay.permit(site.server.address)
    listening = site.server.run("ss -Hlnu").stdout
    for line in listening.splitlines():
        address, _, port = line.split()[3].rpartition(":")
        assert address.startswith(("127.", "[::1]")) or int(port) in {3478, 5349, 10000} or int(port) >= 49152, line


@pytest.mark.parametrize("port", [3478, 5349])
def test_turn_over_tcp_tells_nothing_of_its_version(site: Site, port: int):
    with socket.create_connection((site.server.address, port), timeout=5) as connection:
        connection.settimeout(1)
        connection.sendall(b"GET /admin HTTP/1.1\r\nHost: x\r\n\r\n")
        with contextlib.suppress(OSError):
            said = connection.recv(4096)
            assert not re.search(rb"(?i)coturn|turn server|HTTP/1", said)


@pytest.mark.parametrize("room", ["", "*", "lobby", "0" * 32])
async def test_without_a_ticket_there_is_no_guest(site: Site, anna: Person, room: str):
    """No anonymous host, no `allow_empty_token`."""
    honest = anna.ticket()
    for token in ("", None):
        for transport in ("websocket", "bosh"):
            ticket = {"room": room} | ({"token": token} if token is not None else {})
            assert await site.refused(ticket, transport) in {"no-ticket", "bad-ticket"}
    assert await site.refused(honest) is None


@pytest.mark.parametrize("label", ["guest", "recorder", "auth", "hidden", "visitors", "jigasi", "transcriber", "sip"])
async def test_no_side_entrance_by_another_virtual_host(site: Site, anna: Person, label: str):
    """Where there is one, it is reached like this: `unit/gate/test_attacks_live.py`."""
    options = {"ssl": site.trust, "headers": {"Host": MEET}}
    for transport in ("websocket", "bosh"):
        assert await xmpp.offered(URLS[transport], MEET, **options) == ["ANONYMOUS"]
        assert await xmpp.offered(URLS[transport], f"{label}.{MEET}", **options, **anna.ticket()) == []
    assert await site.refused(anna.ticket()) is None
