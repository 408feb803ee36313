"""The smart card against the provisioned host: what its nginx asks, takes and refuses, and Chromium with a card.

The card is a key in Chromium's own store, which speaks TLS with it as with one in a reader. A reader, and its PIN, no
build machine has.
"""

from __future__ import annotations

import json
import re
import shlex
import socket
import ssl
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, load_pem_private_key, pkcs12
from cryptography.x509.oid import ExtendedKeyUsageOID
from playwright.sync_api import Browser, Page, expect
from tests.browser.conftest import DESK, _wait, chromium_that_trusts
from tests.browser.ways import Way
from tests.unit.certificates import ON_A_CARD, Authority, account

NAME, PORTAL, MEET = "card.sluss.test", "portal.sluss.test", "meet.sluss.test"
ORGANISER = "kaj.kort@sluss.test"
ANNA, BO = ("Anna Lindberg", "anna.kort@example.org"), ("Bo Ek", "bo.kort@example.org")
SERVERS = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH])
CRL = "/etc/sluss/smartcard/crl.pem"
TLS = [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3]


@dataclass
class Card:
    """A certificate and its key, as files."""

    certificate: x509.Certificate
    files: tuple[Path, Path]
    pkcs12: Path


class Cards:
    """The organisation's authority, another one, and the host that knows the first."""

    def __init__(self, host, folder: Path) -> None:
        self.host, self.folder = host, folder
        for name in ("own", "other"):
            (folder / name).mkdir()
        self.own, self.other = Authority(folder / "own", "Staff CA"), Authority(folder / "other", "Other CA")
        (folder / "crl.pem").write_text(self.own.revoke())
        self.settings = {
            "host": NAME,
            "authorities": str(self.own.file),
            "crl": str(folder / "crl.pem"),
            "policies": [ON_A_CARD],
        }
        self._number = 0

    def issue(self, person: tuple[str, str] = ANNA, authority: Authority | None = None, **options) -> Card:
        """A new card of somebody."""
        name, address = person
        user = account(f"{address.partition('@')[0]}@corp.example")
        certificate, key = (authority or self.own).card(name, x509.RFC822Name(address), user, **options)
        self._number += 1
        files = tuple(self.folder / f"{self._number}.{end}" for end in ("pem", "key", "p12"))
        files[0].write_bytes(certificate.public_bytes(Encoding.PEM))
        files[1].write_text(key)
        private = load_pem_private_key(key.encode(), None)
        files[2].write_bytes(
            pkcs12.serialize_key_and_certificates(name.encode(), private, certificate, None, NoEncryption())
        )
        return Card(certificate, files[:2], files[2])

    def publish(self, text: str) -> str:
        """Put a new list on the host, whole at once; what became of taking it up."""
        before, workers = self._taking_up(), self._workers()
        self.host.run(f"cat > {CRL}.new && mv {CRL}.new {CRL}", input=text)
        ended = ("inactive", "failed")
        done = _wait(lambda: (now := self._taking_up()) != before and now["ActiveState"] in ended and now)
        if done["Result"] == "success":
            _wait(lambda: workers.isdisjoint(self._workers()))
        return done["Result"]

    def _taking_up(self) -> dict[str, str]:
        shown = self.host.run("systemctl show -p InvocationID -p ActiveState -p Result sluss-crl").stdout
        return dict(line.split("=") for line in shown.split())

    def _workers(self) -> set[str]:
        return set(self.host.run("pgrep -f '^nginx: worker process$'").stdout.split())


@contextmanager
def way(host, folder: Path) -> Iterator[Way]:
    made = Cards(host, folder)
    traces = "/etc/sluss/smartcard /etc/systemd/system/sluss-crl.path /etc/tmpfiles.d/sluss-card.conf"
    yield Way(made, {"sluss_smartcard": made.settings}, {NAME: host.address}, traces)


@pytest.fixture(scope="module")
def cards(ways) -> Cards:
    """The shared server takes them."""
    ways.host.run(f"sluss organiser add --name 'Kaj Kort' --email {ORGANISER}")
    return ways.smartcard.it


@pytest.fixture(scope="module")
def link(cards, outbox) -> str:
    """Anna's, to a meeting that is open."""
    start = datetime.now(UTC) + timedelta(minutes=10)
    cards.host.run(
        f"sluss meeting add --organiser {ORGANISER} --title 'Fission' --start {start:%Y-%m-%dT%H:%M}Z"
        f" --participant {shlex.quote(f'{ANNA[0]},{ANNA[1]},+46701740621')}"
    )
    return outbox.link(ANNA[1])


@pytest.fixture
def anna(people) -> Page:
    """A browser without any card."""
    return people.come()


# nginx, asked by hand


@dataclass
class Answer:
    status: int
    location: str
    resumed: bool
    session: ssl.SSLSession | None


def trusting(host, card: Card | None = None, version: ssl.TLSVersion | None = None) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=str(host.ca_file))
    context.minimum_version = version or ssl.TLSVersion.TLSv1_2
    context.maximum_version = version or ssl.TLSVersion.TLSv1_3
    if card:
        context.load_cert_chain(*card.files)
    return context


def ask(host, context: ssl.SSLContext, path: str, name: str = NAME, session=None, **headers: str) -> Answer:
    """One request on a connection of its own, to the server called `name`; `Host` may say another."""
    told = {"Host": name, "Connection": "close"} | {key.replace("_", "-"): value for key, value in headers.items()}
    lines = [f"GET {path} HTTP/1.1", *(f"{key}: {value}" for key, value in told.items()), "", ""]
    with (
        socket.create_connection((host.address, 443), timeout=10) as connection,
        context.wrap_socket(connection, server_hostname=name, session=session) as secure,
    ):
        secure.sendall("\r\n".join(lines).encode())
        answer = b"".join(iter(lambda: secure.recv(4096), b"")).decode("latin-1")
        found = re.search(r"(?i)^Location: (\S+)", answer, re.MULTILINE)
        where = found[1] if found else ""
        return Answer(int(answer.split()[1]), where, secure.session_reused, secure.session)


def set_out(page: Page, link: str) -> str:
    """The path with the handle that the portal leads to."""
    page.goto(link)
    page.get_by_role("button", name="Use your card").click()
    where = urlsplit(page.get_by_role("link", name="Show the card").get_attribute("href"))
    assert where.netloc == NAME
    return where.path


def shows(cards: Cards, page: Page, link: str, card: Card | None, version: ssl.TLSVersion | None = None) -> None:
    """Show a card for what the page set out for, and come back there."""
    answer = ask(cards.host, trusting(cards.host, card, version), set_out(page, link))
    assert answer.status == 303
    page.goto(answer.location)


def reason(host) -> str:
    """Why the last verification was refused, as the audit log has it."""
    lines = host.run("sluss audit export").stdout.splitlines()
    entries = [e for e in (json.loads(line)["entry"] for line in lines) if e["action"] == "verified"]
    by_card = [e["details"] for e in entries if e["outcome"] == "refused" and e["details"]["method"] == "smartcard"]
    return by_card[-1]["reason"]


def refused(page: Page) -> None:
    expect(page.get_by_role("alert")).to_contain_text("No card that counts here was shown.")
    assert "Fission" not in page.content()


@pytest.mark.parametrize("version", TLS)
def test_card_that_counts_opens_the_invitation(cards, anna, link, version):
    shows(cards, anna, link, cards.issue(), version)
    expect(anna.get_by_role("heading", name="Fission")).to_be_visible()


WRONG = {
    "no certificate": (None, "nginx: NONE"),
    "another authority": ({"authority": "other"}, "nginx: FAILED:unable to verify the first certificate"),
    "expired": ({"hours": -1}, "nginx: FAILED:certificate has expired"),
    "for servers": ({"purposes": SERVERS}, "nginx: FAILED:unsuitable certificate purpose"),
    "a key in a file": ({"policies": ()}, "certificate: of no policy that says that its key is on a card"),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_certificate_that_does_not_count_opens_nothing_and_is_on_record(cards, anna, link, wrong):
    options, why = WRONG[wrong]
    if options is not None and "authority" in options:
        options = {"authority": cards.other}
    for version in TLS:
        shows(cards, anna, link, None if options is None else cards.issue(**options), version)
        refused(anna)
        assert reason(cards.host) == why


def test_other_persons_card_opens_nothing_and_is_on_record(cards, anna, link):
    shows(cards, anna, link, cards.issue(BO))
    expect(anna.get_by_role("alert")).to_contain_text("This card does not open this link.")
    assert reason(cards.host) == "card of another person"


def test_revoked_card_counts_until_the_list_says_so_and_not_after_by_an_old_session(cards, anna, link):
    card = cards.issue()
    for version in TLS:
        context = trusting(cards.host, card, version)
        before = ask(cards.host, context, set_out(anna, link))
        assert cards.publish(cards.own.revoke(card.certificate)) == "success"
        after = ask(cards.host, context, set_out(anna, link), session=before.session)
        assert not after.resumed
        anna.goto(after.location)
        refused(anna)
        assert reason(cards.host) == "nginx: FAILED:certificate revoked"
        assert cards.publish(cards.own.revoke()) == "success"


def test_list_that_has_ended_refuses_everybody_until_there_is_a_new_one(cards, anna, link):
    card = cards.issue()
    assert cards.publish(cards.own.revoke(hours=-1)) == "success"
    assert float(metric(cards.host, "sluss_crl_expires")) < datetime.now(UTC).timestamp()
    shows(cards, anna, link, card)
    refused(anna)
    assert reason(cards.host) == "nginx: FAILED:CRL has expired"
    assert cards.publish("not a list") == "exit-code"
    assert cards.publish(cards.own.revoke()) == "success"
    shows(cards, anna, link, card)
    expect(anna.get_by_role("heading", name="Fission")).to_be_visible()


def test_list_that_cannot_be_read_leaves_the_one_before(cards, anna, link):
    assert cards.publish("not a list") == "exit-code"
    shows(cards, anna, link, cards.issue())
    expect(anna.get_by_role("heading", name="Fission")).to_be_visible()
    assert cards.publish(cards.own.revoke()) == "success"


def metric(host, name: str) -> str:
    script = "from urllib.request import urlopen; print(urlopen('http://127.0.0.1:8601/metrics').read().decode())"
    return re.search(rf"^{name} (\S+)", host.run(f'python3 -c "{script}"').stdout, re.MULTILINE)[1]


def test_only_one_name_asks_for_a_certificate(cards):
    asked = {}
    for name in (NAME, PORTAL, MEET, "outbox.sluss.test"):
        command = ["openssl", "s_client", "-connect", f"{cards.host.address}:443", "-servername", name]
        said = subprocess.run(command, input="", capture_output=True, text=True, check=False, timeout=30).stdout
        assert "No client certificate CA names sent" in said or "CN = Staff CA" in said, said
        asked[name] = "Staff CA" in said
    assert asked == {NAME: True, PORTAL: False, MEET: False, "outbox.sluss.test": False}


@pytest.mark.parametrize("version", TLS)
@pytest.mark.parametrize("first", [PORTAL, MEET])
def test_session_of_another_name_is_no_way_round_the_card(cards, anna, link, version, first):
    """CVE-2025-23419."""
    context = trusting(cards.host, None, version)
    session = ask(cards.host, context, "/", first).session
    answer = ask(cards.host, context, set_out(anna, link), session=session)
    assert not answer.resumed
    anna.goto(answer.location)
    refused(anna)
    assert reason(cards.host) == "nginx: NONE"


@pytest.mark.parametrize("version", TLS)
def test_request_on_another_names_connection_is_misdirected(cards, anna, link, version):
    for card in (None, cards.issue()):
        context = trusting(cards.host, card, version)
        answer = ask(cards.host, context, set_out(anna, link), PORTAL, Host=NAME)
        assert (answer.status, answer.location) == (421, "")


def test_header_that_a_visitor_sends_is_believed_nowhere(cards, anna, link):
    pem = cards.issue().files[0].read_text().replace("\n", "%0A").replace("+", "%2B")
    forged = {"X_Card_Verdict": "SUCCESS", "X_Card_Certificate": pem}
    plain = trusting(cards.host)
    for name, status in ((NAME, 303), (PORTAL, 403), (MEET, 302), ("outbox.sluss.test", 404)):
        handle = set_out(anna, link)
        answer = ask(cards.host, plain, handle, name, **forged)
        assert answer.status == status
        if name == NAME:
            anna.goto(answer.location)
            refused(anna)
            assert reason(cards.host) == "nginx: NONE"
    theirs = trusting(cards.host, cards.issue(BO))
    anna.goto(ask(cards.host, theirs, set_out(anna, link), **forged).location)
    expect(anna.get_by_role("alert")).to_contain_text("This card does not open this link.")


@pytest.mark.parametrize("with_card", [True, False])
@pytest.mark.parametrize("path", ["/", "/i/x", "/sign-in", "/static/sluss.css", "/card/../i/x"])
def test_name_that_asks_for_cards_leads_nowhere_but_to_the_portal(cards, path, with_card):
    answer = ask(cards.host, trusting(cards.host, cards.issue() if with_card else None), path)
    assert (answer.status, answer.location) == (302, f"https://{PORTAL}/")


@pytest.mark.parametrize("user", ["nobody", "prosody", "turnserver"])
def test_no_other_service_of_the_host_says_what_card_there_was(cards, user):
    connect = "import socket; socket.socket(socket.AF_UNIX).connect('/run/sluss-card/socket')"
    said = cards.host.run(f'runuser -u {user} -- python3 -c "{connect}"', check=False).stderr
    assert "PermissionError" in said
    assert not cards.host.run(f'runuser -u www-data -- python3 -c "{connect}"').stderr


# Chromium


@contextmanager
def chromium_with(playwright, host, home: Path, card: Card) -> Iterator[Browser]:
    """Shows its card to who may ask for it, as one does who has only one; the enclosure has its own mounts."""
    choose = {"AutoSelectCertificateForUrls": [json.dumps({"pattern": f"https://{NAME}", "filter": {}})]}
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", "/etc/chromium"], check=True)
    try:
        policies = Path("/etc/chromium/policies/managed")
        policies.mkdir(parents=True)
        (policies / "card.json").write_text(json.dumps(choose))
        with chromium_that_trusts(playwright, host.ca_file, home, card=card.pkcs12) as browser:
            yield browser
    finally:
        subprocess.run(["umount", "/etc/chromium"], check=True)


def come(browser: Browser, locale: str) -> Page:
    page = browser.new_context(locale=locale, timezone_id="Europe/Stockholm", **DESK).new_page()
    page.set_default_timeout(15_000)
    return page


def use_card(page: Page, first: str, second: str) -> None:
    page.get_by_role("button", name=first).click()
    page.get_by_role("link", name=second).click()


def test_card_opens_the_invitation_and_the_meeting_in_both_languages(cards, link, playwright, tmp_path, picture):
    words = {"en-GB": ("Use your card", "Show the card"), "sv-SE": ("Använd ditt kort", "Visa kortet")}
    with chromium_with(playwright, cards.host, tmp_path / "anna", cards.issue()) as browser:
        for locale, buttons in words.items():
            page = come(browser, locale)
            page.goto(link)
            page.get_by_role("button", name=buttons[0]).click()
            picture(page, f"13-card-{locale[:2]}")
            page.get_by_role("link", name=buttons[1]).click()
            expect(page.get_by_role("heading", name="Fission")).to_be_visible()
            assert page.url == link
            use_card(page, *buttons)
            expect(page.locator("#status")).to_have_attribute("data-kind", "inside")
    with chromium_with(playwright, cards.host, tmp_path / "bo", cards.issue(BO)) as browser:
        page = come(browser, "sv-SE")
        page.goto(link)
        use_card(page, *words["sv-SE"])
        expect(page.get_by_role("alert")).to_contain_text("Det här kortet öppnar inte länken.")
        picture(page, "14-another-card")
        assert "Fission" not in page.content()
    logged = cards.host.run("journalctl -u sluss-bridge -u nginx -o cat; cat /var/log/nginx/*.log").stdout
    assert "card_shown" in logged
    for secret in (ANNA[1], "Lindberg", link.rpartition("/")[2], "BEGIN%20CERTIFICATE"):
        assert secret not in logged
    assert not re.search(r"/card/[\w-]{43}", logged)


def test_second_run_changes_nothing_and_keeps_the_newer_list(cards, ways):
    assert cards.publish(cards.own.revoke(cards.issue().certificate)) == "success"
    newer = cards.host.run(f"cat {CRL}").stdout
    again = ways.provision()
    assert not again.failed, again.failure
    assert again.changed == 0, again.output
    assert cards.host.run(f"cat {CRL}").stdout == newer
