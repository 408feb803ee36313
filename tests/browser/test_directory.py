"""The organisation's directory in a browser: a real slapd on the network, the provisioned host, both languages."""

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
import yaml
from playwright.sync_api import Page, expect
from tests.browser.conftest import PHONE, POLICY, App, Outbox, _wait
from tests.browser.test_story import ZONE, Organiser
from tests.browser.ways import Way
from tests.unit.slapd import BASE, ORGANISERS, SERVICE, SERVICE_PASSWORD, dn, group, person, running

NAME = "directory.sluss.test"
EVA, ANNA, BO = "eva.kat@sluss.test", "anna.kat@example.org", "bo.kat@example.org"
SECRETS = {"eva": "sju sjösjuka sjömän 31", "anna": "åtta (8) älgar i dis", "bo": "tio tysta träd 52"}
PEOPLE = (
    person("eva", "Eva Ek", EVA, userPassword=SECRETS["eva"]),
    person("anna", "Anna Lindberg", ANNA, mobile="070-174 06 15", userPassword=SECRETS["anna"]),
    person("bo", "Bo Åström", BO, mobile="+46 70 174 06 16", userPassword=SECRETS["bo"]),
    group(ORGANISERS, dn("eva")),
)


def with_passwords() -> dict:
    """The shipped policy, with the directory's passwords for what is internal."""
    policy = yaml.safe_load(POLICY.read_text("utf-8"))
    for purpose in ("view", "join"):
        policy["classes"]["internal"][purpose]["methods"].append("ldap")
    return policy


@contextmanager
def way(host, folder: Path) -> Iterator[Way]:
    address = host.machine.network.gateway
    with running(folder / "it", *PEOPLE, host=NAME, address=address) as directory:
        settings = {
            "sluss_ldap": {
                "kind": "openldap",
                "servers": [directory.starttls],
                "authority": str(directory.authority.file),
                "account": SERVICE,
                "base": BASE,
                "organisers": ORGANISERS,
            },
            "sluss_ldap_password": SERVICE_PASSWORD,
            "sluss_policy": with_passwords(),
        }
        yield Way(directory, settings, {NAME: address}, "/etc/sluss/credentials/ldap-password /etc/sluss/policy.yml")


@pytest.fixture
def slapd(ways):
    """The directory. A test may stop it."""
    yield ways.directory.it
    ways.directory.it.stop()
    ways.directory.it.start()


class OfTheDirectory(Organiser):
    """An organiser whose password is the directory's."""

    def password(self, value: str) -> None:
        self.page.goto(f"{self.host.portal_url}/sign-in")
        self.page.get_by_label("E-mail or user name").fill(EVA)
        self.page.get_by_label("Password").fill(value)
        self.page.get_by_role("button", name="Continue").click()

    def enrol_by_mail(self, outbox: Outbox) -> None:
        self.password(SECRETS["eva"])
        expect(self.page.get_by_role("alert")).to_contain_text("We have sent a link to your e-mail address")
        mail = _wait(lambda: outbox.messages("mail", EVA))[0]
        self.page.goto(re.search(r"https://\S+/enrol/\S+", mail["body"])[0])
        expect(self.page.get_by_label("Password", exact=True)).to_have_count(0)
        self._app = App(self.page.locator("code.secret").inner_text())
        self.page.get_by_label("Code from your authenticator").fill(self.code())
        self.page.get_by_role("button", name="Finish").click()
        expect(self.page.locator("ul.codes li")).to_have_count(10)

    def sign_in(self) -> None:
        self.password(SECRETS["eva"])
        self.page.get_by_label("Code").fill(self.code())
        self.page.locator("main").get_by_role("button").first.click()
        expect(self.page.get_by_role("heading", name="Your meetings")).to_be_visible()

    def add(self, query: str, name: str) -> None:
        self.page.get_by_label("Find a colleague").fill(query)
        self.page.get_by_role("button", name="Look up").click()
        self.page.get_by_role("button", name=f"Add {name}").click()


def use_password(page: Page, way: str, label: str, password: str, button: str) -> None:
    page.get_by_role("link", name=way).click()
    page.get_by_label(label).fill(password)
    page.get_by_role("button", name=button).click()


def test_organiser_and_colleagues_go_all_the_way_by_the_directory(host, slapd, people, picture):
    outbox = Outbox(host.machine)
    eva = OfTheDirectory(people.come(), host)
    eva.enrol_by_mail(outbox)
    eva.sign_in()

    page, start = eva.page, datetime.now(UTC).astimezone(ZoneInfo(ZONE)) + timedelta(minutes=10)
    page.get_by_role("link", name="New meeting").click()
    page.get_by_label("Date").fill(f"{start:%Y-%m-%d}")
    page.get_by_label("Start").fill(f"{start:%H:%M}")
    page.get_by_label("Time zone").select_option(ZONE)
    page.get_by_label("Find a colleague").fill("nobody")
    page.get_by_role("button", name="Look up").click()
    expect(page.get_by_text("Nobody was found.")).to_be_visible()
    eva.add("lindb", "Anna Lindberg")
    eva.add("bo å", "Bo Åström")
    picture(page, "13-colleagues")
    page.get_by_label("Title").fill("Katalog 2027")
    page.get_by_label("Title").press("Enter")  # it is the form's own button that this presses
    expect(page.get_by_role("heading", name="Katalog 2027")).to_be_visible()
    meeting = page.url

    way, show, enter = "Use your password at Demo AB", "Show the invitation", "Enter the meeting"
    anna = people.come(PHONE)
    anna.goto(outbox.link(ANNA))
    use_password(anna, way, "Password", SECRETS["bo"], show)  # a colleague's
    expect(anna.get_by_role("alert")).to_contain_text("That did not match.")
    assert "Katalog" not in anna.content()
    picture(anna, "14-password")
    anna.get_by_label("Password").fill(SECRETS["anna"])
    anna.get_by_role("button", name=show).click()
    expect(anna.get_by_role("heading", name="Katalog 2027")).to_be_visible()
    use_password(anna, way, "Password", SECRETS["anna"], enter)
    expect(anna.locator("#status")).to_have_text("You are in the meeting.")

    bo = people.come(PHONE, "sv-SE")
    bo.goto(outbox.link(BO))
    use_password(bo, "Använd ditt lösenord hos Demo AB", "Lösenord", SECRETS["bo"], "Visa inbjudan")
    expect(bo.get_by_role("heading", name="Katalog 2027")).to_be_visible()
    use_password(bo, "Använd ditt lösenord hos Demo AB", "Lösenord", SECRETS["bo"], "Gå in i mötet")
    expect(bo.locator("#status")).to_have_text("Du är inne i mötet.")

    page.goto(meeting)
    said = "personal link and the organisation's password (assurance level 1 of 3)"
    expect(page.get_by_text(said).first).to_be_visible()

    # The directory is away: nobody gets in by it, and the log says which.
    slapd.stop()
    other = OfTheDirectory(people.come(), host)
    other.password(SECRETS["eva"])
    expect(other.page.get_by_role("alert")).to_contain_text("The organisation's directory is not answering.")
    log = host.run("journalctl -u sluss-bridge --no-pager").stdout
    assert "directory_unavailable" in log
    assert NAME in log
    for secret in (*SECRETS.values(), SERVICE_PASSWORD):
        assert secret not in log
        assert json.dumps(secret)[1:-1] not in log
