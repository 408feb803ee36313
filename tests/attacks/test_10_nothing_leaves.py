"""Invariant 10: nothing leaves the host but to what its inventory names; pages name no other server, and nothing that
somebody types makes this one talk to another.
"""

from __future__ import annotations

import json
import os
import re
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from tests.attacks.people import MEET, PORTAL, Browser, Meeting, Site, on_host, ready
from tests.hosts.provision import REPOSITORY, play

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


# The host


@dataclass
class Elsewhere:
    """A server outside that takes whatever comes, by TCP and UDP, on one port."""

    address: str
    port: int
    tcp: socket.socket
    udp: socket.socket

    def got(self) -> list[str]:
        """By what something came since this was asked last."""
        came = []
        for protocol, listening in (("tcp", self.tcp), ("udp", self.udp)):
            try:
                while True:
                    listening.accept()[0].close() if protocol == "tcp" else listening.recv(100)
                    came.append(protocol)
            except BlockingIOError:
                pass
        return came


@pytest.fixture(scope="module")
def elsewhere(site: Site) -> Iterator[Elsewhere]:
    address = site.server.machine.network.gateway
    with socket.create_server((address, 0)) as tcp, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
        port = tcp.getsockname()[1]
        udp.bind((address, port))
        tcp.setblocking(False)
        udp.setblocking(False)
        yield Elsewhere(address, port, tcp, udp)


@pytest.fixture
def named(site: Site) -> Iterator[None]:
    """What is named in a test is forgotten after it."""
    site.server.run("cp -a /etc/sluss/outbound /etc/hosts /etc/nftables.conf /run/")
    yield
    site.server.run(
        "cp -a /run/outbound /etc/sluss/; cat /run/hosts >/etc/hosts;"
        " systemctl reload nftables && systemctl restart sluss-outbound"
    )


def name(site: Site, *endpoints: str) -> None:
    """Let it be reached, as the role and its timer do."""
    site.server.run(f"printf '%s\\n' {' '.join(endpoints)} >>/etc/sluss/outbound && systemctl restart sluss-outbound")


SEND = """
import socket
for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
    try:
        with socket.socket(socket.AF_INET, kind) as s:
            s.settimeout(2)
            s.connect(({address!r}, {port}))
            s.send(b"title and names")
            print("sent")
    except OSError:
        print("refused")
"""


def sent(site: Site, elsewhere: Elsewhere, user: str, address: str = "") -> list[str]:
    """By what something came there, when that user tried both."""
    on_host(site, SEND.format(address=address or elsewhere.address, port=elsewhere.port), user)
    time.sleep(0.05)
    return elsewhere.got()


@pytest.mark.parametrize("user", ["sluss", "prosody", "www-data", "turnserver", "nobody", "root"])
def test_nobody_on_the_host_reaches_what_nothing_names(site: Site, elsewhere: Elsewhere, named, user: str):
    assert sent(site, elsewhere, user) == []
    name(site, f"{elsewhere.address}:{elsewhere.port}")
    assert sent(site, elsewhere, user) == ["tcp"], "it is there, and TCP is what was named"
    name(site, f"{elsewhere.address}:{elsewhere.port}/udp")
    assert sent(site, elsewhere, user) == ["tcp", "udp"]


def test_other_port_of_a_server_that_is_named_is_not_reached(site: Site, elsewhere: Elsewhere, named):
    name(site, f"{elsewhere.address}:{elsewhere.port + 1}", f"{elsewhere.address}:{elsewhere.port - 1}/udp")
    assert sent(site, elsewhere, "sluss") == []


def test_name_is_followed_to_where_it_leads_now(site: Site, elsewhere: Elsewhere, named):
    site.server.run("echo 192.0.2.9 relay.sluss.test >>/etc/hosts")
    name(site, f"relay.sluss.test:{elsewhere.port}", "nowhere.sluss.test:1")
    assert sent(site, elsewhere, "sluss") == []
    site.server.run(f"sed -i 's/^192.0.2.9 /{elsewhere.address} /' /etc/hosts && systemctl restart sluss-outbound")
    assert sent(site, elsewhere, "sluss", "relay.sluss.test") == ["tcp"]


FIREWALL = "- {hosts: sluss, roles: [firewall]}"
NAMED = ["127.0.0.1:2525", "127.0.0.1:8025"]  # by the demo's inventory


def test_what_is_not_named_any_more_is_not_reached_any_more(site: Site, elsewhere: Elsewhere, tmp_path):
    """And the verification sees what gets out: one of its own addresses is named here."""
    (tmp_path / "firewall.yml").write_text(FIREWALL)
    firewall = os.path.relpath(tmp_path / "firewall.yml", REPOSITORY / "playbooks")
    named = [*NAMED, f"{elsewhere.address}:{elsewhere.port}", "192.0.2.1:443"]
    extra = "-e", json.dumps({"firewall_outbound": named})
    played = play(site.server.machine, firewall, "demo", *extra)
    try:
        assert not played.failed, played.failure
        assert sent(site, elsewhere, "nobody") == ["tcp"]
        site.server.run("systemctl stop sluss-outbound.timer; nft -f /etc/nftables.conf")
        assert sent(site, elsewhere, "nobody") == ["tcp"], "an address is good before anything is looked up"
        site.server.run(
            "systemctl restart nftables; until nft list set inet sluss resolvers4 | grep -q timeout.*expires; do"
            " sleep 0.1; done; systemctl start sluss-outbound.timer"
        )
        verified = play(site.server.machine, "verify.yml", "demo", *extra)
        assert verified.failed
        assert "nobody gets out to 192.0.2.1 by tcp port 443" in verified.output
        assert "prosody gets out to 192.0.2.1 by tcp port 443" in verified.output
        assert "gets out to 192.0.2.1 by udp" not in verified.output
    finally:
        assert not play(site.server.machine, firewall, "demo", "-e", json.dumps({"firewall_outbound": NAMED})).failed
    assert sent(site, elsewhere, "nobody") == []


def test_connection_that_the_rules_did_not_see_begin_does_not_close_the_door_to_the_next_from_there(site: Site):
    """The server spoke first after they came, so the kernel remembers the connection as one that the server began."""
    with socket.socket() as one, socket.socket() as other:
        for client in (one, other):
            client.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            client.settimeout(5)
        site.server.run("nft delete table inet sluss")
        try:
            one.connect((site.server.address, 443))
            site.server.run("systemctl kill --signal=STOP nginx")
            one.sendall(b"GET / HTTP/1.0\r\n\r\n")
        finally:
            site.server.run("systemctl restart nftables; systemctl kill --signal=CONT nginx")
        assert one.recv(100).startswith(b"HTTP/1.1 400")
        own, port = one.getsockname()
        remembered = site.server.run("cat /proc/net/nf_conntrack").stdout
        assert f"src={site.server.address} dst={own} sport=443 dport={port} " in remembered
        one.close()
        other.bind((own, port))
        other.connect((site.server.address, 443))
    ready(site)


@pytest.mark.parametrize("user", ["sluss", "prosody", "nobody", "root"])
def test_names_are_asked_of_the_own_name_servers_alone(site: Site, elsewhere: Elsewhere, user: str):
    """What is not allowed to leave could leave as a question about a name."""
    address = elsewhere.address
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind((address, 53))
        server.setblocking(False)
        question = f"""
import socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
try:
    s.sendto(b"title.evil.example", ({address!r}, 53))
except OSError:
    pass
print("tried")
"""
        assert on_host(site, question, user) == "tried\n"
        time.sleep(0.05)
        with pytest.raises(BlockingIOError):
            server.recv(100)
        site.server.run(f"nft add element inet sluss resolvers4 '{{ {address} }}'")
        try:
            on_host(site, question, user)
            server.settimeout(2)
            assert server.recv(100)
        finally:
            site.server.run(f"nft delete element inet sluss resolvers4 '{{ {address} }}'")


def test_echo_requests_carry_nothing_out(site: Site, elsewhere: Elsewhere):
    echo = f"""
import socket
s = socket.socket(socket.AF_INET, socket.SOCK_RAW, 1)
s.settimeout(0.5)
try:
    s.sendto(bytes([8, 0, 0xf7, 0xff, 0, 0, 0, 0]), ({elsewhere.address!r}, 0))
    print("answered", len(s.recv(100)))
except OSError:
    print("refused")
"""
    count = "nft list counter inet sluss outbound_refused"
    before = site.server.run(count).stdout
    assert on_host(site, echo, "root") == "refused\n"
    assert site.server.run(count).stdout != before


@pytest.mark.parametrize(
    ("endpoint", "said"),
    [
        ("nowhere.sluss.test:22", "nowhere.sluss.test: "),
        ("[2001:db8::9]:1", "The file of the rules is what"),  # it was not provisioned
    ],
)
def test_verification_names_what_leads_nowhere_and_what_is_not_in_place(site: Site, named, endpoint: str, said: str):
    name(site, endpoint)
    extra = json.dumps({"sluss_outbound": [endpoint]})
    played = play(site.server.machine, "verify.yml", "demo", "-e", extra)
    assert played.failed
    assert said in played.output


@pytest.mark.parametrize(("port", "flags", "leaves"), [(22, 0x10, True), (22, 0x02, False), (9999, 0x10, False)])
def test_only_open_ports_go_on_with_connections_older_than_the_rules(
    site: Site, elsewhere: Elsewhere, port: int, flags: int, leaves: bool
):
    """Else the first run would cut its own ssh session. A SYN (0x02) begins one, an ACK (0x10) does not."""
    packet = f"""
import socket, struct
s = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_TCP)
try:
    packet = struct.pack("!HHIIBBHHH", {port}, {elsewhere.port}, 1, 1, 0x50, {flags}, 1024, 0, 0)
    s.sendto(packet, ({elsewhere.address!r}, 0))
except OSError:
    pass
"""
    count = "nft list counter inet sluss outbound_refused"
    before = site.server.run(count).stdout
    on_host(site, packet, "root")
    assert (site.server.run(count).stdout == before) == leaves


def test_verification_proves_it_and_reports(site: Site):
    played = play(site.server.machine, "verify.yml")
    assert not played.failed, played.failure
    assert played.changed == 0
    said = re.findall(r'^ +"(.*?)",?$', played.output, re.MULTILINE)
    assert any(re.search(r"anything else: [1-9]\d+ tries by .*\bsluss\b.*, all refused", line) for line in said), said
    assert f"It may reach {', '.join(NAMED)}." in said
    assert any(line.startswith("Audit log: ok ") for line in said)


BROKEN = {
    "a rule that lets everything out": ("nft insert rule inet sluss output accept", "There is accept."),
    "a rule that lets one user out": (
        "nft insert rule inet sluss output meta skuid prosody accept",
        "There is meta skuid",
    ),
    "a file that somebody changed": ("echo '# x' >>/etc/nftables.conf", "The file of the rules is what"),
    "an address that somebody let out": (
        "nft add element inet sluss outbound4 '{ 192.0.2.7 . tcp . 443 }'",
        "The filter lets out to",
    ),
    "an endpoint that somebody added": ("echo 192.0.2.1:443 >>/etc/sluss/outbound", "is not what the inventory says"),
    "no rules": ("nft delete table inet sluss", "nft"),
    "a way round the rules": (
        """nft 'add table ip surprise; add chain ip surprise p { type nat hook prerouting priority -100; };
        add rule ip surprise p tcp dport 8600 redirect to :443'""",
        "where it should be 443 alone: 443 8600",
    ),
    "a bridge that is away": ("systemctl stop sluss-bridge", "(item=sluss-bridge)"),
}


@pytest.mark.parametrize("what", BROKEN)
def test_verification_says_what_is_wrong(site: Site, named, what: str):
    command, said = BROKEN[what]
    site.server.run(command)
    try:
        played = play(site.server.machine, "verify.yml")
        assert played.failed
        assert said in played.output[-3000:]
    finally:
        site.server.run(
            "cp -a /run/nftables.conf /etc/; systemctl restart nftables; systemctl start sluss-bridge",
            check=False,
        )
        ready(site)
