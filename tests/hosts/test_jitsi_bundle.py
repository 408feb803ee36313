"""Jitsi's packages, here doubles of them, bring no door, no third party and no surprise with them.

One plain Debian: first the play is stopped by sources that are not to be trusted, then it installs a bundle.
"""

from __future__ import annotations

import hashlib
import hmac
import http.client
import http.server
import os
import re
import shlex
import socket
import ssl
from pathlib import Path

import pytest
from playwright.sync_api import sync_playwright
from pyhocon import ConfigFactory
from tests.doubles.jitsi.build import MODULES
from tests.hosts.jitsi import Installed, options
from tests.hosts.nspawn import Host
from tests.hosts.provision import REPOSITORY, Play, play

MEET, PORTAL = "meet.sluss.test", "portal.sluss.test"
AUTH = f"auth.{MEET}"
PACKAGES = ["jicofo", "jitsi-meet-prosody", "jitsi-meet-web", "jitsi-videobridge2"]
# Options of Jitsi's pages that name a server outside. None may have a value.
OUTSIDE = {
    "brandingDataUrl",
    "callStatsID",
    "chromeExtensionBanner",
    "conferenceRequestUrl",
    "dialInConfCodeUrl",
    "dialInNumbersUrl",
    "dialOutAuthUrl",
    "dropbox",
    "dynamicBrandingUrl",
    "etherpad_base",
    "googleApiApplicationClientID",
    "inviteAppName",
    "inviteServiceUrl",
    "microsoftApiApplicationClientID",
    "moderatedRoomServiceUrl",
    "peopleSearchUrl",
    "salesforceUrl",
    "tokenAuthUrl",
    "watchRTCConfigParams",
    "webhookProxyUrl",
}
PREFLIGHT = """
- hosts: sluss
  tasks:
    - ansible.builtin.import_role:
        name: jitsi
        tasks_from: preflight
      vars:
        jitsi_meet_host: "{{ sluss_meet_host }}"
        jitsi_portal_host: "{{ sluss_portal_host }}"
"""


def preflight(jitsi: Installed, tmp_path: Path, **values: object) -> Play:
    playbook = tmp_path / "preflight.yml"
    playbook.write_text(PREFLIGHT)
    return play(jitsi.machine, os.path.relpath(playbook, REPOSITORY / "playbooks"), "demo", *options(**values))


def test_wrongly_signed_mirror_stops_the_play_before_it_changes_anything(jitsi):
    assert jitsi.refused.failed
    assert jitsi.refused.changed == 0, jitsi.refused.output
    assert jitsi.traces == ""
    assert "jitsi_mirror_key" in jitsi.refused.failure
    assert "NO_PUBKEY" in jitsi.refused.failure or "not signed" in jitsi.refused.failure


def test_rightly_signed_sources_pass(jitsi, tmp_path):
    mirror = {"jitsi_mirror_url": jitsi.mirror, "jitsi_mirror_key": jitsi.sources.key}
    upstream = {
        "jitsi_upstream_url": jitsi.mirror,
        "jitsi_upstream_key_url": f"{jitsi.mirror}/key.asc",
        "jitsi_upstream_key_fingerprint": jitsi.sources.fingerprint,
    }
    for source, values in {"mirror": mirror, "upstream": upstream}.items():
        tried = preflight(jitsi, tmp_path, jitsi_source=source, **values)
        assert not tried.failed, tried.failure
        assert tried.changed == 0


@pytest.mark.parametrize(
    ("variable", "values"),
    [
        ("jitsi_mirror_url", {"jitsi_source": "mirror", "jitsi_mirror_url": "http://127.0.0.1:9"}),
        ("jitsi_mirror_url", {"jitsi_source": "mirror", "jitsi_mirror_url": ""}),
        ("jitsi_source: mirror", {"jitsi_source": "upstream", "jitsi_upstream_url": "http://127.0.0.1:9"}),
        (
            "which is not jitsi_upstream_key_fingerprint",
            {"jitsi_source": "upstream", "jitsi_upstream_key_url": "MIRROR/key.asc"},
        ),
        ("jitsi_bundle", {"jitsi_source": "bundle", "jitsi_bundle": "/nowhere"}),
        ("jitsi_local_address", {"jitsi_source": "bundle", "jitsi_local_address": "192.0.2.1"}),
    ],
    ids=["unreachable", "no address", "upstream unreachable", "key not the pinned one", "no bundle", "no media"],
)
def test_source_that_cannot_serve_names_the_variable_to_set(jitsi, tmp_path, variable, values):
    usual = {"jitsi_mirror_key": jitsi.sources.key, "jitsi_bundle": jitsi.sources.bundle}
    given = {name: value.replace("MIRROR", jitsi.mirror) for name, value in values.items()}
    tried = preflight(jitsi, tmp_path, **(usual | given))
    assert tried.failed
    assert tried.changed == 0
    assert variable in tried.failure


def test_second_run_changes_nothing(jitsi):
    assert not jitsi.second.failed, jitsi.second.failure
    assert jitsi.second.changed == 0, jitsi.second.output


def test_packages_are_installed_and_their_services_run_as_their_own_users(jitsi):
    states = jitsi.machine.run(f"dpkg-query -W -f '${{db:Status-Abbrev}}' {' '.join(PACKAGES)}").stdout
    assert states.split() == ["ii"] * len(PACKAGES)
    for unit, user in (("jicofo", "jicofo"), ("jitsi-videobridge2", "jvb")):
        assert jitsi.machine.run(f"systemctl is-active {unit}").stdout.strip() == "active"
        assert jitsi.machine.run(f"systemctl is-enabled {unit}").stdout.strip() == "enabled"
        assert jitsi.machine.run(f"pgrep -c -u {user} python3").stdout.strip() == "1"


def test_services_never_ran_with_the_packages_own_configuration(jitsi):
    """The double writes down which STUN servers each start of it would have asked."""
    starts = jitsi.machine.run("cat /var/log/jitsi/jvb.log").stdout.splitlines()
    assert len(starts) >= 1
    assert all(line.endswith("jvb.conf: addresses = []") for line in starts), starts
    assert "double of jicofo reads" in jitsi.machine.run("cat /var/log/jitsi/jicofo.log").stdout


def hocon(machine: Host, path: str):
    return ConfigFactory.parse_string(machine.run(f"cat {path}").stdout)


def test_focus_lets_nobody_become_moderator_and_takes_no_request_over_http(jitsi):
    conf = hocon(jitsi.machine, "/etc/jitsi/jicofo/jicofo.conf")["jicofo"]
    assert conf["conference.enable-auto-owner"] is False
    assert conf["rest.host"] == "127.0.0.1"
    assert conf["rest.conference-request.enabled"] is False
    assert conf["health.enabled"] is False  # it would ask for rooms of its own, which the gate refuses
    assert conf["sctp.enabled"] is False
    assert conf["bridge.brewery-jid"] == f"jvbbrewery@internal.{AUTH}"
    client = conf["xmpp.client"]
    assert (client["hostname"], client["port"], client["domain"]) == ("127.0.0.1", 5222, AUTH)
    assert client["client-proxy"] == f"focus.{MEET}"
    assert client["conference-muc-jid"] == f"conference.{MEET}"
    assert conf["xmpp.trusted-domains"] == []


def test_videobridge_asks_nobody_outside_and_opens_no_interface_but_media(jitsi):
    conf = hocon(jitsi.machine, "/etc/jitsi/videobridge/jvb.conf")
    mapping = conf["ice4j.harvest.mapping"]
    assert mapping["aws.enabled"] is False
    assert mapping["stun.addresses"] == []
    assert mapping["static-mappings"] == []
    bridge = conf["videobridge"]
    assert {bridge[f"http-servers.{name}.host"] for name in ("public", "private")} == {"127.0.0.1"}
    assert bridge["http-servers.public.port"] == 9090
    assert bridge["apis.rest.enabled"] is False
    assert bridge["rest.shutdown.enabled"] is False
    assert bridge["ice.udp.port"] == 10000
    assert bridge["websockets.domains"] == [f"{MEET}:443"]
    assert bridge["sctp.enabled"] is False
    assert bridge["health.require-valid-address"] is False  # the host has a private address only
    account = bridge["apis.xmpp-client.configs.prosody"]
    assert (account["DOMAIN"], account["USERNAME"]) == (AUTH, "jvb")
    assert account["MUC_JIDS"] == f"jvbbrewery@internal.{AUTH}"


def test_each_service_alone_reads_its_password(jitsi):
    listed = jitsi.machine.run(
        "stat -c '%U:%G %a %n' /etc/jitsi/jicofo/* /etc/jitsi/videobridge/* /etc/jitsi/jicofo /etc/jitsi/videobridge"
    ).stdout.splitlines()
    found = {line.split()[2]: tuple(line.split()[:2]) for line in listed}
    assert found["/etc/jitsi/jicofo/jicofo.conf"] == ("jicofo:jitsi", "400")
    assert found["/etc/jitsi/videobridge/jvb.conf"] == ("jvb:jitsi", "400")
    # Root sources the environment of jicofo: it must not be for jicofo to write.
    for path in ("/etc/jitsi/jicofo", "/etc/jitsi/videobridge"):
        assert found[path] == ("root:jitsi", "750")
        assert found[f"{path}/config"] == ("root:root", "644")
    assert jitsi.machine.run("runuser -u jvb cat /etc/jitsi/jicofo/jicofo.conf", check=False).returncode != 0


def test_passwords_of_the_services_are_those_that_prosody_knows(jitsi):
    """SCRAM (RFC 5802): what Prosody keeps of a password can be computed from it."""
    conf = hocon(jitsi.machine, "/etc/jitsi/jicofo/jicofo.conf")
    bridge = hocon(jitsi.machine, "/etc/jitsi/videobridge/jvb.conf")
    passwords = {
        "focus": conf["jicofo.xmpp.client.password"],
        "jvb": bridge["videobridge.apis.xmpp-client.configs.prosody.PASSWORD"],
    }
    for name, password in passwords.items():
        kept = jitsi.machine.run(f"cat /var/lib/prosody/{AUTH.replace('.', '%2e')}/accounts/{name}.dat").stdout
        fields = dict(re.findall(r'\["(\w+)"\] = "?([^";]+)"?;', kept))
        salted = hashlib.pbkdf2_hmac("sha1", password.encode(), fields["salt"].encode(), int(fields["iteration_count"]))
        client_key = hmac.digest(salted, b"Client Key", "sha1")
        assert hashlib.sha1(client_key).hexdigest() == fields["stored_key"], name  # noqa: S324 - SCRAM-SHA-1
        assert password not in jitsi.machine.run("cat /proc/[0-9]*/cmdline", check=False).stdout
        assert password not in jitsi.first.output


# Runs the configuration as Prosody does, and prints what it serves instead of serving it.
LIST_HOSTS = """
local function name(host) print(host) return function() end end
VirtualHost, Component, Include = name, name, error
dofile("/etc/prosody/FILE.cfg.lua")
"""
UNUSED = f"conf.avail/{MEET}"  # where the package's script writes


def hosts_of_prosody(machine: Host, file: str = "prosody") -> set[str]:
    return set(machine.run(f"lua5.4 -e '{LIST_HOSTS.replace('FILE', file)}'").stdout.split())


def test_prosody_serves_no_host_of_the_packages_own(jitsi):
    machine = jitsi.machine
    assert hosts_of_prosody(machine, UNUSED) == set()
    assert MEET not in machine.run("ls /etc/prosody/conf.d").stdout
    machine.run("luac5.4 -p /etc/prosody/prosody.cfg.lua")
    parts = ["conference", "sluss", "auth", "internal.auth", "focus", "avmoderation"]
    assert hosts_of_prosody(machine) == {MEET, *(f"{part}.{MEET}" for part in parts)}
    assert f"auth.{MEET}.crt" not in machine.run("ls /usr/local/share/ca-certificates").stdout


def test_prosody_loads_the_modules_that_it_should_have_from_jitsi(jitsi):
    log = jitsi.machine.run("journalctl -u prosody -o cat _PID=$(systemctl show -P MainPID prosody)").stdout
    for module in MODULES:
        assert f"double of {module}" in log
    assert not re.search(r"(?i)unable to load module|error loading", log), log


def test_upgrade_of_the_packages_reopens_no_door(jitsi):
    """dpkg runs the packages' scripts again, without Ansible near."""
    machine = jitsi.machine
    before = hosts_of_prosody(machine), machine.run("sha256sum /etc/prosody/prosody.cfg.lua").stdout
    confs = [hocon(machine, f"/etc/jitsi/{name}.conf") for name in ("jicofo/jicofo", "videobridge/jvb")]
    machine.run(f"DEBIAN_FRONTEND=noninteractive apt-get install -y --reinstall {' '.join(PACKAGES)}", timeout=120)
    assert "unlimited_jids" in machine.run(f"cat /etc/prosody/{UNUSED}.cfg.lua").stdout  # the script was there
    assert MEET not in machine.run("ls /etc/prosody/conf.d").stdout
    assert (hosts_of_prosody(machine), machine.run("sha256sum /etc/prosody/prosody.cfg.lua").stdout) == before
    after = [hocon(machine, f"/etc/jitsi/{name}.conf") for name in ("jicofo/jicofo", "videobridge/jvb")]
    assert after == confs
    assert machine.run("stat -c %U /etc/jitsi/jicofo").stdout.strip() == "root"


def ask(machine: Host, path: str, host: str = MEET) -> tuple[int, http.client.HTTPMessage, str]:
    """Ask for a page, by the server's address."""
    connection = http.client.HTTPSConnection(host, timeout=10)
    trust = ssl.create_default_context(cadata=machine.run("cat /etc/sluss/tls/ca.pem").stdout)
    with (
        socket.create_connection((machine.address, 443), timeout=10) as plain,
        trust.wrap_socket(plain, server_hostname=host) as connection.sock,
    ):
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.headers, answer.read().decode()


def test_web_server_accepts_its_configuration_and_serves_jitsi_pages(jitsi):
    jitsi.machine.run("nginx -t")
    for path, part in {
        "/config.js": "var config",
        "/libs/app.bundle.min.js": "config.hosts.domain",
        "/0123456789abcdef0123456789abcdef": '<base href="/" />',  # a room: the page, put together by nginx
    }.items():
        status, _, body = ask(jitsi.machine, path)
        assert (status, part in body) == (200, True), path
    for path in ("/conference-request/v1", "/about/health"):  # jicofo's and the videobridge's own
        assert ask(jitsi.machine, path)[0] == 302


OWN = {"'self'", "'none'", "'unsafe-inline'", "'wasm-unsafe-eval'", "data:", "blob:", f"wss://{MEET}"}


@pytest.mark.parametrize("path", ["/0123456789abcdef0123456789abcdef", "/config.js", "/libs/app.bundle.min.js"])
def test_pages_of_the_meetings_host_may_ask_no_other_server(jitsi, path):
    """A visitor sets what is in the fragment (`#config.…`): no setting of the pages can be what keeps them in."""
    _, headers, _ = ask(jitsi.machine, path)
    policy = dict(part.strip().split(" ", 1) for part in headers["Content-Security-Policy"].split(";"))
    assert policy.pop("frame-ancestors") == f"https://{PORTAL}"
    assert policy["default-src"] == policy["form-action"] == "'none'"
    assert not {"frame-src", "child-src", "object-src"} & policy.keys()  # which are the default then
    assert {source for sources in policy.values() for source in sources.split()} <= OWN
    assert headers["Referrer-Policy"] == "no-referrer"


def test_portal_has_jitsis_script_from_the_disk_and_not_from_the_meetings_host(jitsi):
    """It runs in the portal's pages: who answers for the meetings' host must not choose it."""
    status, headers, script = ask(jitsi.machine, "/jitsi/external_api.js", PORTAL)
    installed = jitsi.machine.run("cat /usr/share/jitsi-meet/libs/external_api.min.js").stdout
    assert (status, script) == (200, installed)
    assert headers["Content-Type"].startswith(("text/javascript", "application/javascript"))
    assert (headers["X-Content-Type-Options"], headers["Cache-Control"]) == ("nosniff", "no-cache")
    assert headers["Strict-Transport-Security"]
    assert "JitsiMeetExternalAPI" not in ask(jitsi.machine, "/external_api.js")[2]


@pytest.fixture(scope="module")
def page_config(jitsi) -> dict:
    """The page configuration as a browser understands it."""
    source = jitsi.machine.run(f"cat /etc/jitsi/meet/{MEET}-config.js").stdout
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path="/usr/bin/chromium", args=["--headless=new", "--no-sandbox", "--disable-gpu"]
        )
        page = browser.new_page()
        page.add_script_tag(content=source)
        config = page.evaluate("config")
        browser.close()
    return config


def strings(value: object) -> list[str]:
    if isinstance(value, dict):
        return [text for item in value.values() for text in strings(item)]
    if isinstance(value, list):
        return [text for item in value for text in strings(item)]
    return [value] if isinstance(value, str) else []


def test_page_configuration_knows_no_third_party(page_config):
    assert not OUTSIDE & page_config.keys()
    addresses = [text for text in strings(page_config) if "://" in text or "." in text]
    assert addresses
    for address in addresses:
        assert re.search(r"(?:^|[/@.])sluss\.test(?:/|$)", address), address
    assert page_config["disableThirdPartyRequests"] is True
    assert page_config["p2p"] == {"enabled": False, "stunServers": []}
    assert page_config["analytics"]["disabled"] is True
    assert page_config["gravatar"]["disabled"] is True
    for feature in ("giphy", "whiteboard", "fileSharing", "recordingService", "liveStreaming", "transcription"):
        assert page_config[feature]["enabled"] is False, feature
    assert page_config["localRecording"]["disable"] is True
    assert page_config["sharedVideoAllowedURLDomains"] == []


def test_page_configuration_leaves_names_and_ways_in_to_the_portal(page_config):
    assert page_config["hosts"] == {
        "domain": MEET,
        "muc": f"conference.{MEET}",
        "focus": f"focus.{MEET}",
    }
    assert page_config["websocket"] == f"wss://{MEET}/xmpp-websocket"
    assert page_config["bosh"] == f"https://{MEET}/http-bind"
    assert "token" not in page_config["websocketKeepAliveUrl"]
    assert page_config["readOnlyName"] is True
    assert page_config["disableDeepLinking"] is True
    assert page_config["welcomePage"]["disabled"] is True
    assert page_config["prejoinConfig"]["enabled"] is False
    assert page_config["disableInviteFunctions"] is True
    assert not {"invite", "security", "recording", "livestreaming", "sharedvideo", "etherpad", "embedmeeting"} & set(
        page_config["toolbarButtons"]
    )


SEND_MEDIA = """
import socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.bind(({source!r}, {port}))
try:
    s.sendto(b"{user}", ({target!r}, {target_port}))
except OSError:
    pass
"""


def test_media_leaves_from_the_videobridges_user_and_port_alone(jitsi):
    machine, spare = jitsi.machine, str(jitsi.machine.network.subnet[77])
    machine.run(f"ip address add {spare}/32 dev host0")  # the other has a videobridge on that port
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as outside:
            outside.bind((machine.network.gateway, 0))
            outside.settimeout(2)
            target, port = outside.getsockname()
            for user, source_port in (
                ("nobody", 10000),
                ("jicofo", 10000),
                ("prosody", 10000),
                ("jvb", 10001),
                ("jvb", 10000),
            ):
                script = SEND_MEDIA.format(source=spare, port=source_port, user=user, target=target, target_port=port)
                machine.run(f"runuser -u {user} -- python3 -c {shlex.quote(script)}")
            assert outside.recv(100) == b"jvb"
            outside.settimeout(0.2)
            with pytest.raises(TimeoutError):
                outside.recv(100)
    finally:
        machine.run(f"ip address del {spare}/32 dev host0")


def test_verification_of_a_server_with_jitsi(jitsi):
    played = play(
        jitsi.machine, "verify.yml", "demo", *options(jitsi_source="bundle", jitsi_bundle=jitsi.sources.bundle)
    )
    assert not played.failed, played.failure
    assert "anybody from UDP 10000 (media)" in played.output
    assert "meet.sluss.test/config.js" in played.output
