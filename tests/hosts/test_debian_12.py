"""A second host, as different as may be: Debian 12, a modem in place of a gateway, wheels from a directory."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

from tests.hosts.debian_12 import Provisioned

# A participant without a browser, on the host itself: takes the link from the mail and asks for a code
ASK = """
import json, re, time, urllib.request
from urllib.parse import urlencode
HEADERS = {"Host": "portal.sluss.test", "Cookie": "__Host-sluss=" + "x" * 43, "X-Forwarded-For": "192.0.2.7",
           "X-Forwarded-Proto": "https", "Accept-Language": "sv"}
def ask(url, **fields):
    data = urlencode(fields).encode() if fields else None
    with urllib.request.urlopen(urllib.request.Request(url, data, HEADERS), timeout=10) as answer:
        return answer.read().decode()
while not (mails := json.loads(ask("http://127.0.0.1:8025/messages.json"))): time.sleep(0.1)
link = re.search(r"https://portal.sluss.test(/i/\\S+)", mails[0]["body"])[1]
csrf = re.search(r'name="csrf" value="([0-9a-f]+)"', ask("http://127.0.0.1:8600/sign-in"))[1]
print(ask(f"http://127.0.0.1:8600{link}/code", csrf=csrf))
"""


def test_debian_12_is_provisioned_too_and_a_second_run_changes_nothing(debian_12: Provisioned):
    assert debian_12.second.changed == 0, debian_12.second.output
    units = debian_12.machine.run("systemctl is-active sluss-bridge gammu-smsd", check=False).stdout
    assert units.split() == ["active", "active"]


def test_bridge_is_installed_from_a_directory_of_wheels_without_an_index(debian_12: Provisioned, wheels: Path):
    listed = json.loads(debian_12.machine.run("/opt/sluss/venv/bin/pip list --format json").stdout)
    installed = {entry["name"].lower().replace("_", "-"): entry["version"] for entry in listed}
    given = {path.name.split("-")[0].lower().replace("_", "-"): path.name.split("-")[1] for path in wheels.iterdir()}
    assert len(given) > 20
    assert given.items() <= installed.items()


def test_code_lies_whole_in_the_queue_of_debians_sms_daemon_for_nobody_else_to_read(debian_12: Provisioned):
    run = debian_12.machine.run
    run("sluss organiser add --name 'Eva Ek' --email eva@sluss.test")
    run(
        "sluss meeting add --organiser eva@sluss.test --title Budget --in 5"
        " --participant 'Anna Lindberg,anna@example.org,070-174 06 05'"
    )
    assert "Koden i sms:et" in run(f"python3 -c {shlex.quote(ASK)}").stdout
    queued = run("until ls /var/spool/gammu/sluss/*; do sleep 0.1; done 2>/dev/null", timeout=20).stdout.strip()
    message = run(f"cat {queued}").stdout
    assert message.count("[SMSBackup") == 1, "it takes more than one SMS"
    assert 'Number = "+46701740605"' in message
    assert "Coding = Default_No_Compression" in message
    text = bytes.fromhex("".join(re.findall(r"^Text\d\d = (\w+)", message, re.MULTILINE))).decode("utf-16-be")
    code = re.fullmatch(r"(\d{6}) är din kod\. Lämna den inte till någon\.\n\n@portal\.sluss\.test #\1", text)
    assert code, text
    run("journalctl --sync")
    logged = run("journalctl --no-pager -o json; cat /var/log/nginx/*").stdout
    assert "code_asked_for" in logged
    assert "701740605" not in logged
    assert not re.search(rf"(?<![0-9a-f.]){code[1]}(?![0-9a-f])", logged)  # a time or an id can have its digits
    assert run(f"stat -c '%a %U %G' {queued}").stdout.split() == ["640", "sluss", "gammu"]
    assert run(f"runuser -u gammu -- cat {queued}").stdout == message
    assert run(f"runuser -u nobody -- cat {queued}", check=False).returncode != 0
