"""Organisers' life in a browser: invited, a second authenticator, a lost phone and two admins, and leaving."""

import re

import pyotp
import pytest
from playwright.sync_api import Page, expect
from tests.browser.conftest import _wait
from tests.browser.test_story import ANNA, Organiser

PEOPLE = {"en-GB": ("Rut Ros", "rut.ros@sluss.test"), "sv-SE": ("Siv Sand", "siv.sand@sluss.test")}
HEIRS = {"en-GB": ("Tor Tall", "tor.tall@sluss.test"), "sv-SE": ("Ulf Uv", "ulf.uv@sluss.test")}
WORDS = {
    "en-GB": {
        "invite": "Invite", "add": "Add an authenticator", "remove": "Remove", "reset": "Reset the sign-in",
        "yes reset": "Yes, reset", "mine": "It was you. Another administrator", "unset": "not enrolled",
        "leave": "Remove the account", "to": "The meetings go to", "yes leave": "Yes, remove",
        "prove": "Prove who you are", "sessions": "Where you are signed in", "everywhere": "Sign out everywhere",
    },
    "sv-SE": {
        "invite": "Bjud in", "add": "Lägg till en autentiseringsapp", "remove": "Ta bort",
        "reset": "Återställ inloggningen", "yes reset": "Ja, återställ", "mine": "Det var du. En annan administratör",
        "unset": "inte klart", "leave": "Ta bort kontot", "to": "Mötena går till", "yes leave": "Ja, ta bort",
        "prove": "Legitimera dig", "sessions": "Var du är inloggad", "everywhere": "Logga ut överallt",
    },
}  # fmt: skip


def enrol_url(outbox, to: str, before: int = 0) -> str:
    """The link to enrol by in the newest mail that has one, once there are more than `before`."""

    def links() -> list[str]:
        found = (re.search(r"https://\S+/enrol/\S+", mail["body"]) for mail in outbox.messages("mail", to))
        return [one[0] for one in found if one]

    return _wait(lambda: links()[: -before or None])[0]


def change(host, statement: str) -> None:
    """Do something to the database of the host, as if time had passed, or another policy had been in force."""
    script = (
        f"import sqlite3; c = sqlite3.connect('/var/lib/sluss/sluss.db'); c.execute(\\\"{statement}\\\"); c.commit()"
    )
    host.run(f'python3 -c "{script}"')


@pytest.fixture
def admins(host, people, locale) -> list[Organiser]:
    found = []
    for number, name in enumerate(("Ada Alm", "Bo Bark")):
        who = Organiser(people.come(locale=locale), host, name, f"admin{number}.{locale[:2]}@sluss.test", "admin")
        who.enrol(lambda *_: None)
        who.sign_in()
        found.append(who)
    return found


def to_account(page: Page, host, name: str) -> None:
    page.goto(f"{host.portal_url}/accounts")
    page.get_by_role("link", name=name).click()


def resets(admin: Organiser, name: str, words: dict[str, str]) -> None:
    to_account(admin.page, admin.host, name)
    admin.page.get_by_text(words["reset"], exact=True).click()
    admin.page.get_by_role("button", name=words["yes reset"]).click()


def removes(admin: Organiser, name: str, words: dict[str, str], heir: str) -> None:
    to_account(admin.page, admin.host, name)
    admin.page.get_by_text(words["leave"], exact=True).click()
    admin.page.get_by_label(words["to"]).select_option(label=heir)
    admin.page.get_by_role("button", name=words["yes leave"]).click()


@pytest.mark.parametrize("locale", ["en-GB", "sv-SE"], ids=["en", "sv"])
def test_life_of_an_organiser(host, people, outbox, picture, admins, locale):  # noqa: PLR0917
    words, (name, email), (heir_name, heir_email) = WORDS[locale], PEOPLE[locale], HEIRS[locale]
    first, second = admins
    first.page.locator("input[name=name]").fill(name)
    first.page.locator("input[name=email]").fill(email)
    first.page.get_by_role("button", name=words["invite"], exact=True).click()
    expect(first.page.get_by_role("link", name=name)).to_contain_text(words["unset"])
    picture(first.page, f"15-admin-sees-accounts-{locale}")

    organiser = Organiser(people.come(locale="en-GB"), host, name, email)
    organiser.enrol_by(enrol_url(outbox, email), lambda *_: None)
    organiser.sign_in()
    organiser.invite(lambda *_: None, (ANNA,))
    meeting = organiser.page.url
    change(host, "UPDATE meetings SET sensitivity = 'secret' WHERE created_at = (SELECT max(created_at) FROM meetings)")

    adds_an_authenticator_and_removes_the_first(people, organiser, words, locale, picture)

    # The phone is lost: it takes both admins, and a mailed link.
    resets(first, name, words)
    expect(first.page.get_by_text(words["mine"])).to_be_visible()
    organiser.page.goto(meeting)
    expect(organiser.page.get_by_role("heading", name="Budget 2027")).to_be_visible()
    change(host, "UPDATE sessions SET proved_at = proved_at - 400")
    resets(second, name, words)
    expect(second.page.get_by_role("heading", name=words["prove"])).to_be_visible()
    picture(second.page, f"16-admin-proves-it-once-more-{locale}")
    second.page.locator("input[name=code]").fill(second.code())
    second.page.locator("main form").last.get_by_role("button").click()
    resets(second, name, words)
    expect(second.page.get_by_text(words["unset"]).first).to_be_visible()
    organiser.page.goto(meeting)
    expect(organiser.page).to_have_url(re.compile("/sign-in$"))
    organiser.enrol_by(enrol_url(outbox, email, before=1), lambda *_: None)
    organiser.sign_in()

    # They leave: the meeting goes to somebody who sees it then and not before.
    heir = Organiser(people.come(locale="en-GB"), host, heir_name, heir_email)
    heir.enrol(lambda *_: None)
    heir.sign_in()
    choice = f"{heir_name} · {heir_email}"
    change(host, "UPDATE sessions SET proved_at = unixepoch()")
    removes(first, name, words, choice)
    expect(first.page.get_by_text(words["mine"])).to_be_visible()
    picture(first.page, f"17-hand-over-takes-two-{locale}")
    assert heir.page.goto(meeting).status == 404
    removes(second, name, words, choice)
    expect(second.page.get_by_role("link", name=heir_name)).to_be_visible()
    expect(second.page.get_by_role("link", name=name)).to_have_count(0)
    organiser.page.goto(meeting)
    expect(organiser.page).to_have_url(re.compile("/sign-in$"))
    heir.page.goto(meeting)
    expect(heir.page.get_by_role("heading", name="Budget 2027")).to_be_visible()
    expect(heir.page.get_by_text(ANNA[0])).to_be_visible()


def adds_an_authenticator_and_removes_the_first(people, organiser, words, locale, picture) -> None:
    """In a browser of that language, signed in like the other."""
    page = people.come(locale=locale)
    page.context.add_cookies(organiser.page.context.cookies())
    page.goto(f"{organiser.host.portal_url}/account")
    expect(page.get_by_role("heading", name=words["sessions"])).to_be_visible()
    page.locator("#authenticator-name").fill("Läsplattan")
    page.get_by_role("button", name=words["add"]).click()
    totp = pyotp.TOTP(page.locator("code.secret").inner_text().replace(" ", ""))
    page.locator("input[name=code]").fill(totp.now())
    page.locator("main form").get_by_role("button").click()
    expect(page.get_by_text("Läsplattan")).to_be_visible()
    picture(page, f"18-second-authenticator-{locale}")
    page.get_by_role("button", name=words["remove"], exact=True).first.click()
    expect(page.get_by_role("button", name=words["remove"], exact=True)).to_have_count(0)
    expect(page.get_by_text("Läsplattan")).to_be_visible()
    expect(page.get_by_role("button", name=words["everywhere"])).to_be_visible()


def test_auditor_reads_the_log(host, people, picture):
    auditor = Organiser(people.come(), host, "Vera Vass", "vera.vass@sluss.test", "auditor")
    auditor.enrol(lambda *_: None)
    auditor.sign_in()
    auditor.page.get_by_role("link", name="Audit log").click()
    expect(auditor.page.get_by_text("enrolled", exact=True).first).to_be_visible()
    picture(auditor.page, "19-auditor-reads-the-log")
    assert "Budget" not in auditor.page.content()
