"""A plain Debian becomes a server by site.yml, stays one, and shows the world nothing more than it has to."""

from __future__ import annotations

import asyncio
import json
import os
import re
import secrets
import socket
import ssl
import time
import urllib.error
import urllib.request

import pytest
import yaml
from tests.attacks.people import Insider, Site
from tests.hosts.provision import REPOSITORY, play

UNITS = (
    "nginx",
    "prosody",
    "sluss-bridge",
    "coturn",
    "nftables",
    "ssh",
    "sluss-demo-outbox",
    "sluss-audit-export.timer",
    "sluss-outbound.timer",
)
# Everything that listens on more than loopback. A surprise fails the test.
OUTSIDE = {("tcp", 22), ("tcp", 443), ("tcp", 3478), ("udp", 3478), ("tcp", 5349)}
INSIDE_ONLY = {
    "c2s": 5222,
    "xmpp http": 5280,
    "components": 5347,
    "portal": 8600,
    "health": 8601,
    "s2s": 5269,
}


def ready(host) -> str:
    script = "from urllib.request import urlopen; print(urlopen('http://127.0.0.1:8601/readyz').status)"
    return host.run(f'python3 -c "{script}"', check=False).stdout.strip()


def get(host, url: str, **headers: str) -> tuple[int, str]:
    trust = ssl.create_default_context(cafile=str(host.ca_file))
    asked = urllib.request.Request(url, headers=headers)
    try:
        with urllib.request.urlopen(asked, context=trust, timeout=10) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as refusal:
        return refusal.code, refusal.read().decode()


def test_new_host_is_provisioned_within_four_minutes(host):
    assert not host.first_run.failed
    assert host.first_run.seconds < 240


def test_second_run_changes_nothing_within_a_minute(host):
    second = host.provision()
    assert not second.failed, second.failure
    assert second.changed == 0, second.output
    assert second.seconds < 60


def test_portal_and_meeting_host_answer_with_the_certificate_of_the_own_authority(host):
    assert get(host, f"{host.portal_url}/")[0] < 500
    assert get(host, f"{host.meet_url}/")[0] < 500
    assert get(host, f"{host.outbox_url}/messages.json")[0] == 200


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion")
@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1])
def test_old_tls_is_refused(host, version):
    old = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    old.load_verify_locations(host.ca_file)
    old.set_ciphers("ALL:@SECLEVEL=0")
    old.minimum_version = old.maximum_version = version
    with (
        socket.create_connection((host.address, 443), timeout=5) as connection,
        pytest.raises(ssl.SSLError, match=r"(?i)alert|version|closed"),
    ):
        old.wrap_socket(connection, server_hostname="portal.sluss.test")


def test_exactly_the_expected_sockets_listen_outside(host):
    listening = set()
    for line in host.run("ss -Hlntu").stdout.splitlines():
        protocol, _, _, _, local = line.split()[:5]
        address, port = local.rsplit(":", 1)
        if not re.match(r"127\.|\[::1\]", address):
            listening.add((protocol, int(port)))
    assert listening == OUTSIDE


@pytest.mark.parametrize("service", INSIDE_ONLY)
def test_inner_service_is_not_reachable_from_outside(host, service):
    with pytest.raises(OSError, match=r"timed out|refused"):
        socket.create_connection((host.address, INSIDE_ONLY[service]), timeout=2)


def test_firewall_drops_what_nothing_opened(host):
    """A service that somebody starts by hand tomorrow is not open to the world."""
    host.run("systemd-run --unit=surprise --socket-property=ListenStream=9999 --socket-property=Accept=yes cat")
    try:
        with pytest.raises(OSError, match="timed out"):
            socket.create_connection((host.address, 9999), timeout=2)
    finally:
        host.run("systemctl stop surprise.socket")


def test_secrets_are_for_root_alone(host):
    found = host.run("find /etc/sluss/credentials /etc/sluss/tls -printf '%y %m %U:%G %p\\n'").stdout.splitlines()
    assert len(found) > 5
    for line in found:
        kind, mode, owner, path = line.split()
        assert owner == "0:0", line
        if "/credentials" in path or path.endswith((".key", "/key.pem")):
            assert mode == ("700" if kind == "d" else "600"), line
    assert host.run("stat -c '%a %U' /var/lib/sluss").stdout.split() == ["700", "sluss"]


def test_no_secret_is_in_a_process_list_or_a_unit(host):
    secrets = host.run(
        "cd /etc/sluss/credentials && for f in *-secret master-key; do cat $f; echo; done"
    ).stdout.split()
    assert len(secrets) >= 3
    seen = host.run(
        "ps -eo args; tr '\\0' '\\n' < /proc/*/environ; systemctl cat 'sluss*' prosody nginx coturn",
        check=False,
    )
    assert not [secret for secret in secrets if secret in seen.stdout]


def test_no_log_keeps_a_personal_link_a_query_or_a_referer(host):
    mark = "tokenthatnologmaykeep"
    for path in (
        f"/i/{mark}",
        f"/i/{mark}/agenda",
        f"/enrol/{mark}",
        f"/?secret={mark}",
        f"/xmpp-websocket?token={mark}",
    ):
        for origin in (host.portal_url, host.meet_url):
            get(host, origin + path, Referer=f"{host.portal_url}/i/{mark}")
    host.run("journalctl --sync")
    asked = host.run(
        "cat /var/log/nginx/*; journalctl --no-pager -u nginx -u sluss-bridge -u prosody", check=False
    ).stdout
    assert "/enrol/-" in asked or "/i/-" in asked, "the requests were logged somewhere else"
    everything = host.run(f"grep -rsa {mark} /var/log; journalctl --no-pager -o json", check=False).stdout
    assert mark not in everything


@pytest.mark.parametrize(
    "command",
    ["nginx -t", "prosodyctl check config", "sshd -t", "nft -c -f /etc/nftables.conf", "sluss check"],
)
def test_configuration_is_what_its_own_program_accepts(host, command):
    host.run(command)


def test_bridge_that_is_away_is_said_in_plain_words(host):
    host.run("systemctl stop sluss-bridge")
    try:
        status, page = get(host, f"{host.portal_url}/")
        assert status == 503
        assert "Demo AB" in page
        assert "Försök igen om en stund" in page
    finally:
        host.run("systemctl start sluss-bridge")


def test_what_administrators_type_is_not_in_the_journal(host):
    host.run("sluss organiser add --name 'Olof Personlig' --email olof.personlig@sluss.test")
    host.run("journalctl --sync")
    journal = host.run("journalctl --no-pager -o json --since -5min").stdout
    assert "run by an administrator" in journal
    assert "Personlig" not in journal
    assert "personlig" not in journal


MISTAKES = {
    "sluss_smtp_securty": ("tls", "no setting sluss_smtp_securty"),
    "sluss_certificates": ("letsencrypt", "sluss_certificates must be own_ca or files"),
    "sluss_smtp_port": ("fem", "sluss_smtp_port must be a port"),
    "sluss_smtp_security": ("ssl", "sluss_smtp_security must be"),
    "sluss_smtp_username": ("sluss", "sluss_smtp_password must be set"),
    "sluss_mail_sender": ("nobody", "sluss_mail_sender must be an address"),
    "sluss_sms": ({"kind": "pigeon"}, "sluss_sms.kind must be http or gammu-smsd"),
    "sluss_default_region": ("Sverige", "sluss_default_region must be"),
    "sluss_default_locale": ("de", "sluss_default_locale must be"),
    "sluss_policy": ("/nowhere", "sluss_policy must be the path of a file"),
    "sluss_wheels": ("/nowhere", "sluss_wheels must be a directory"),
    "sluss_outbound": (["https://backup.example.org"], "not https://backup.example.org"),
    "sluss_ssh_sources": (["192.0.2.0/24"], "you would lock yourself out"),
    "sluss_portal_host": ("meet.sluss.test", "must differ"),
    "sluss_meet_host": ("Meet", "full host name in lower case"),
    # What only the role's own specification knows
    "sluss_bankid": (
        {"environment": "test", "accepted_rsk": "low", **dict.fromkeys(("certificate", "key", "authority"), __file__)},
        "bridge_bankid.accepted_rsk",
    ),
}


CHECK = """
- hosts: mistaken
  gather_subset: ["!all", env]
  tasks:
    - ansible.builtin.import_tasks: {check}
"""


@pytest.fixture(scope="module")
def said_of(host, tmp_path_factory) -> dict[str, str]:
    """What Ansible says of each mistake, in one run: in its inventory the server has a name for each of them."""
    folder = tmp_path_factory.mktemp("mistakes") / "playbooks"
    folder.mkdir()
    (folder.parent / "roles").symlink_to(REPOSITORY / "roles")
    playbook, inventory = folder / "check.yml", folder / "hosts.yml"
    playbook.write_text(CHECK.format(check=REPOSITORY / "playbooks/tasks/check_settings.yml"))
    for name in ("group_vars", "filter_plugins"):
        (folder / name).symlink_to(REPOSITORY / "playbooks" / name)
    reached = yaml.safe_load((REPOSITORY / "inventory/demo/hosts.yml").read_text())["all"]["children"]["sluss"]["hosts"]
    hosts = {name: {**reached["sluss-demo"], name: value} for name, (value, _) in MISTAKES.items()}
    inventory.write_text(json.dumps({"all": {"children": {"mistaken": {"hosts": hosts}}}}))
    path = os.path.relpath(playbook, REPOSITORY / "playbooks")
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("ANSIBLE_ANY_ERRORS_FATAL", "false")
        tried = play(host.machine, path, "demo", "-i", str(inventory), "--forks", "4")
    said = dict.fromkeys(MISTAKES, "")
    for line in re.finditer(r"^(?:fatal|failed): \[(\w+)\].*", tried.output, re.MULTILINE):
        said[line[1]] += line[0]
    return said


@pytest.mark.parametrize("name", MISTAKES)
def test_mistake_in_the_inventory_is_named(said_of, name):
    assert MISTAKES[name][1] in said_of[name]


def test_policy_of_the_organisation_is_checked_put_in_place_and_taken_back(host, tmp_path):
    policy = yaml.safe_load((REPOSITORY / "auth-bridge/src/sluss/default-policy.yml").read_text("utf-8"))
    policy["classes"]["internal"]["retention"] = "45d"
    good, bad = tmp_path / "good.yml", tmp_path / "bad.yml"
    good.write_text(yaml.safe_dump(policy, allow_unicode=True), "utf-8")
    policy["classes"]["internal"]["join"]["methods"] = ["link"]
    bad.write_text(yaml.safe_dump(policy, allow_unicode=True), "utf-8")
    try:
        assert not play(host.machine, "site.yml", "demo", "-e", json.dumps({"sluss_policy": str(good)})).failed
        assert " 45 days " in host.run("sluss policy explain internal").stdout
        assert ready(host) == "200"
        in_place = yaml.safe_load(bad.read_text("utf-8"))
        tried = play(host.machine, "site.yml", "demo", "-e", json.dumps({"sluss_policy": in_place}))
        assert tried.failed
        assert "is one factor, and two are needed" in tried.failure
        assert host.run("sluss policy check").stdout.startswith("ok /etc/sluss/policy.yml\n")
        assert ready(host) == "200"
    finally:
        assert not play(host.machine).failed
    assert " 90 days " in host.run("sluss policy explain internal").stdout


def test_mistake_in_the_inventory_stops_the_play_before_it_changes_anything(host):
    tried = play(host.machine, "site.yml", "demo", "-e", "sluss_default_locale=de")
    assert tried.failed
    assert tried.changed == 0
    assert tried.seconds < 20


def test_every_entry_of_the_audit_log_comes_into_the_journal_and_once(host):
    for name in ("Ett", "Två"):
        host.run(f"sluss organiser add --name {name} --email {secrets.token_hex(4)}@sluss.test")
        host.run("systemctl start sluss-audit-export && journalctl --sync")
    kept = host.run("sluss audit export").stdout.splitlines()
    copied = host.run("journalctl --no-pager -o cat -t sluss-audit _SYSTEMD_UNIT=sluss-audit-export.service").stdout
    entries = [line for line in copied.splitlines() if line.startswith("{")]  # docs/operate.md says what else is there
    assert len(kept) >= 2
    assert entries[: len(kept)] == kept


def test_bridge_at_rest_takes_less_than_90_mb(host):
    host.run("systemctl restart sluss-bridge")
    pid = host.run("systemctl show -P MainPID sluss-bridge").stdout.strip()
    resident = int(re.search(r"VmRSS:\s+(\d+) kB", host.run(f"cat /proc/{pid}/status").stdout)[1])
    assert resident < 90 * 1024


@pytest.mark.parametrize("unit", ["sluss-bridge", "sluss-demo-outbox", "sluss-audit-export", "sluss-outbound"])
def test_own_units_are_hardened(host, unit):
    listed = json.loads(host.run(f"systemd-analyze security --json=short {unit}.service").stdout)
    exposure = host.run(f"systemd-analyze security --no-pager {unit}.service").stdout
    assert listed
    assert float(re.search(r"Overall exposure level for .*: ([\d.]+)", exposure)[1]) < 2.0, exposure


async def test_everything_is_up_again_after_a_reboot_and_who_was_inside_is_recorded(host):
    site = Site(host, Insider(host))
    meeting = site.organiser().meeting(f"Anna {secrets.token_hex(4)}")
    (anna,) = meeting.people
    async with anna.enter() as inside:
        entered = time.time()
        site.insider.close()
        await asyncio.to_thread(host.machine.reboot)
        assert inside.closed.is_set()
    await asyncio.to_thread(look_around, host)
    site.insider = Insider(host)
    ((came, left, seen),) = [times for name, *times in site.insider("stays") if name == anna.name]
    assert entered - 2 < came <= left < time.time()
    assert not seen
    async with anna.enter():
        pass
    site.insider.close()


def look_around(host) -> None:
    states = host.run(f"systemctl is-active {' '.join(UNITS)}", check=False).stdout.split()
    assert dict(zip(UNITS, states, strict=True)) == dict.fromkeys(UNITS, "active")
    assert host.run("systemctl --failed --no-legend").stdout == ""
    assert ready(host) == "200"
    assert get(host, f"{host.portal_url}/")[0] < 500
