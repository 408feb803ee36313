"""The organisation's own sign-in in a browser: a real OpenID provider, the provisioned host, both languages."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect
from tests.browser.conftest import PHONE, Outbox, People, chromium_that_trusts
from tests.browser.openid import provider as openid
from tests.browser.test_story import ANNA, BO, Organiser
from tests.browser.ways import Way
from tests.conftest import TICKET

KIM, CIA = "kim.berg@sluss.test", "cia.dal@example.org"
PEOPLE = {
    "kim": {"email": KIM, "email_verified": True, "name": "Kim Berg"},
    "anna": {"email": ANNA[1], "email_verified": True, "name": "Anna Lindberg"},
    "cia": {"email": CIA, "email_verified": True, "name": "Cia Dal"},
    "bo": {"email": BO[1].upper(), "email_verified": True, "name": "Bo Ek"},
}


@contextmanager
def way(host, folder: Path) -> Iterator[Way]:
    address = host.machine.network.gateway
    with openid.running(folder, address, host.portal_url, PEOPLE, host.ca_file) as provider:
        trusted = "/usr/local/share/ca-certificates/login.crt"
        host.run(f"cat > {trusted} && update-ca-certificates", input=provider.authority.file.read_text())
        traces = "/etc/sluss/credentials/sign-in-secret"
        yield Way(provider, provider.settings, {openid.NAME: address}, traces)
        host.run(f"rm {trusted}; update-ca-certificates --fresh")


@pytest.fixture
def login(ways):
    """The provider."""
    return ways.sign_in.it


@pytest.fixture
def people(playwright, login, host, tmp_path):
    with chromium_that_trusts(playwright, host.ca_file, tmp_path, also=[login.authority.file]) as browser:
        yield People(browser, [])


def at_the_provider(page: Page, account: str, factor: str = "mfa") -> None:
    """Sign in there; the browser comes back by itself."""
    page.wait_for_url(f"https://{openid.NAME}/**")
    page.get_by_label("Account").fill(account)
    page.get_by_label("Second factor").fill(factor)
    page.get_by_role("button", name="Sign in").click()


class ByAccount(Organiser):
    """An organiser who has no password here."""

    def sign_in(self) -> None:
        self.page.goto(self.host.portal_url)
        self.page.get_by_role("button", name="Sign in at Demo AB").click()
        at_the_provider(self.page, "kim")
        expect(self.page.get_by_role("heading", name="Your meetings")).to_be_visible()

    def enter(self) -> None:
        self.page.get_by_role("link", name="Enter the meeting").click()
        self.page.get_by_role("button", name="Sign in at Demo AB").click()
        at_the_provider(self.page, "kim")
        expect(self.page.locator("#status")).to_have_text("You are in the meeting.")


def no_picture(*_) -> None:
    """Other tests make the pictures."""


def see(page: Page, button: str, account: str, factor: str = "mfa") -> None:
    page.get_by_role("button", name=button).click()
    at_the_provider(page, account, factor)


TOLD = {
    "Svenska": ("Någon legitimerade sig som den här personen", "Någon annan försökte med den här länken"),
    "English": ("Somebody proved to be this person", "Somebody else tried with this link"),
}


def told(page: Page, meeting: str, person: str) -> tuple[bool, bool]:
    """Whether the organiser reads, in both languages, that somebody proved too little to be this person, or another."""
    page.goto(meeting)
    seen = []
    for language, sentences in TOLD.items():
        page.get_by_role("button", name=language).click()
        expect(page.locator("html")).to_have_attribute("lang", "sv" if language == "Svenska" else "en")
        row = page.locator(".people > li").filter(has_text=person)
        seen.append(tuple(sentence in row.inner_text() for sentence in sentences))
    assert seen[0] == seen[1]
    return seen[0]


def test_colleagues_and_organiser_go_all_the_way_by_the_organisations_sign_in(host, people, login):
    host.run(f"sluss organiser add --name 'Kim Berg' --email {KIM}")
    kim = ByAccount(people.come(), host)
    kim.sign_in()
    kim.invite(no_picture)
    meeting = kim.page.url
    outbox = Outbox(host.machine)

    anna = people.come(PHONE)
    asked = []
    anna.on("request", lambda request: asked.append(request.url))
    anna.goto(outbox.link(ANNA[1]))
    link = anna.url.rpartition("/")[2]
    see(anna, "Sign in at Demo AB", "anna", "")
    expect(anna.get_by_role("alert")).to_contain_text("You signed in with one factor only.")
    assert told(kim.page, meeting, "Anna Lindberg") == (True, False)
    see(anna, "Sign in again", "anna")
    expect(anna.get_by_role("heading", name="Budget 2027")).to_be_visible()
    see(anna, "Sign in at Demo AB", "anna")  # who enters signs in once more
    expect(anna.locator("#status")).to_have_text("You are in the meeting.")
    assert not [url for url in asked if link in url and openid.NAME in url], "the provider was told a personal link"

    bo = people.come(PHONE, "sv-SE")
    bo.goto(outbox.link(BO[1]))
    see(bo, "Logga in hos Demo AB", "anna")
    expect(bo.get_by_role("alert")).to_contain_text("Den inloggningen räcker inte.")
    assert told(kim.page, meeting, "Bo Ek") == (False, True)
    see(bo, "Logga in igen", "bo")
    expect(bo.get_by_role("heading", name="Budget 2027")).to_be_visible()
    see(bo, "Logga in hos Demo AB", "bo")
    expect(bo.locator("#status")).to_have_text("Du är inne i mötet.")

    kim.enter()
    kim.page.goto(meeting)
    expect(kim.page.get_by_text("the organisation's own sign-in (assurance level 2 of 3)").first).to_be_visible()

    # Cia's own account, with a second factor that is too weak for what is secret, and then with one that is not.
    what = f"--organiser {KIM} --title Fusion --class secret --in 10 --participant 'Cia Dal,{CIA},+46701740628'"
    secret = host.run(f"sluss meeting add {what}").stdout.split()[-1]
    cia = people.come(PHONE)
    cia.goto(outbox.link(CIA))
    see(cia, "Sign in at Demo AB", "cia")
    expect(cia.get_by_role("alert")).to_contain_text("This sign-in does not open it.")
    assert "Fusion" not in cia.content()
    assert told(kim.page, f"{host.portal_url.rstrip('/')}/meetings/{secret}", "Cia Dal") == (True, False)
    see(cia, "Sign in again", "cia", "hwk")
    expect(cia.get_by_role("heading", name="Fusion")).to_be_visible()

    # Kim signs out at the provider, and with that here.
    kim.page.goto(f"{login.issuer}/session/end")
    kim.page.get_by_role("button", name=re.compile("sign me out", re.IGNORECASE)).click()
    kim.page.goto(host.portal_url)
    expect(kim.page.get_by_role("heading", name="Sign in")).to_be_visible()
    log = host.run("journalctl -u sluss-bridge --no-pager").stdout
    assert "signed_out_by_provider" in log
    assert not re.search(rf"{TICKET}|[?&](code|state)=", log)
