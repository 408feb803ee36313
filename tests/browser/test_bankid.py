"""BankID in a browser: the provisioned host, its own settings for BankID, and BankID's double on it."""

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

from playwright.sync_api import Page, expect
from tests.browser.conftest import PHONE
from tests.browser.ways import Way
from tests.doubles.bankid import double
from tests.doubles.bankid.double import API, SIGNS, WAITS, complete, failed
from tests.unit.certificates import Authority

PORT = 8445
ANNA, ORGANISER = "anna.bank@example.org", "olle.bank@sluss.test"
ANNA_SIGNS = [WAITS, WAITS, SIGNS, complete("198112289874", "Anna Maria", "Lindberg")]
BO_SIGNS = [WAITS, SIGNS, complete("195001182046", "Bo", "Ek")]
CANCELS = [WAITS, failed("userCancel")]
UNIT = "bankid-double"
SIGNING = 20_000
"""Milliseconds: a page asks every two seconds how it goes."""


@contextmanager
def way(host, folder: Path) -> Iterator[Way]:
    """BankID's double is on the host."""
    for side in ("bank", "clients"):
        (folder / side).mkdir()
    bank, clients = Authority(folder / "bank"), Authority(folder / "clients")
    certificate, key = clients.issue("demo")
    served = bank.issue("localhost")
    files = {"double.py": Path(double.__file__), "cert.pem": served[0], "key.pem": served[1], "ca.pem": clients.file}
    for name, file in files.items():
        host.run(f"install -D -m 600 /dev/stdin /run/{UNIT}/{name}", input=file.read_text("utf-8"))
    stories = json.dumps([ANNA_SIGNS, ANNA_SIGNS, BO_SIGNS, CANCELS, ANNA_SIGNS, ANNA_SIGNS])
    host.run(f"cat > /run/{UNIT}/stories.json", input=stories)
    arguments = " ".join(f"/run/{UNIT}/{name}" for name in ("cert.pem", "key.pem", "ca.pem", "stories.json"))
    command = f"/opt/sluss/venv/bin/python /run/{UNIT}/double.py {PORT} {arguments}"
    host.run(f"systemd-run --quiet --collect --unit={UNIT} {command}")
    paths = {"certificate": str(certificate), "key": str(key), "authority": str(bank.file)}
    settings = {"sluss_bankid": {"environment": "test", "url": f"https://localhost:{PORT}{API}", **paths}}
    yield Way(None, settings, {}, "")
    host.run(f"systemctl stop {UNIT}; rm -r /run/{UNIT}")


def invite(host) -> None:
    host.run(f"sluss organiser add --name 'Olle Bank' --email {ORGANISER}")
    start = datetime.now(UTC) + timedelta(minutes=10)
    host.run(
        f"sluss meeting add --organiser {ORGANISER} --title 'Fusion' --start {start:%Y-%m-%dT%H:%M}Z"
        f" --participant 'Anna Lindberg,{ANNA},+46701740611'"
    )


def use_bankid(page: Page, button: str) -> None:
    """Press the button; the code moves, and the rest goes by itself."""
    page.get_by_role("button", name=button).click()
    code = page.locator("#qr")
    expect(code).to_be_visible()
    first = code.get_attribute("src")
    expect(code).not_to_have_attribute("src", first)
    assert code.evaluate("image => image.naturalWidth") > 100


def test_bankid_opens_the_invitation_and_the_meeting_in_both_languages(ways, host, people, outbox, picture):
    invite(host)
    link = outbox.link(ANNA)

    anna = people.come(PHONE)
    anna.goto(link)
    use_bankid(anna, "Use BankID")
    expect(anna.locator("#status")).to_have_text("Start your BankID app.")
    picture(anna, "11-bankid")
    expect(anna.get_by_role("link", name="Open BankID on this device")).to_have_attribute(
        "href", re.compile(r"\?autostarttoken=[0-9a-f-]{36}&redirect=null$")
    )
    expect(anna.get_by_role("heading", name="Fusion")).to_be_visible(timeout=SIGNING)
    use_bankid(anna, "Use BankID")
    expect(anna.locator("#status")).to_have_text("You are in the meeting.", timeout=SIGNING)

    # Another person with her link, and one who thinks better of it.
    bo = people.come(PHONE)
    bo.goto(link)
    for said in ("This BankID was not accepted for this link.", "Action cancelled."):
        use_bankid(bo, "BankID")
        expect(bo.locator("#status")).to_contain_text(said, timeout=SIGNING)
        expect(bo.locator("#qr")).to_be_hidden()
        assert "Fusion" not in bo.content()
    picture(bo, "12-bankid-cancelled")

    desk = people.come(locale="sv-SE")
    desk.goto(link)
    use_bankid(desk, "Använd BankID")
    expect(desk.locator("#status")).to_have_text("Starta BankID-appen.")
    signs = "Skriv in din säkerhetskod i BankID-appen och välj Identifiera."
    expect(desk.locator("#status")).to_have_text(signs, timeout=SIGNING)
    expect(desk.get_by_role("heading", name="Fusion")).to_be_visible(timeout=SIGNING)
    use_bankid(desk, "Använd BankID")
    expect(desk.locator("#status")).to_have_attribute("data-kind", "inside", timeout=SIGNING)

    logged = host.run("journalctl -u sluss-bridge -o cat").stdout
    assert "bankid_started" in logged
    for secret in ("198112289874", "Lindberg", link.rpartition("/")[2]):
        assert secret not in logged
