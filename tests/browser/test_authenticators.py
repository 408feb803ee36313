"""A participant's authenticator in Chromium: added after an SMS code, then used at both gates, without another SMS."""

import re

import pytest
from playwright.sync_api import expect
from tests.browser.conftest import PHONE, App
from tests.browser.test_story import Organiser, Participant

FIA = ("Fia Fors", "fia.fors@example.org", "070-174 06 09", "+46701740609")
GUN = ("Gun Gran", "gun.gran@example.org", "070-174 06 10", "+46701740610")
WORDS = {
    "en-GB": (
        "Send me a code by SMS",
        "Show the invitation",
        "Add an authenticator",
        "Finish",
        "Use your authenticator",
    ),
    "sv-SE": (
        "Skicka",
        "Visa inbjudan",
        "Lägg till en autentiseringsapp",
        "Klar",
        "Använd din autentiseringsapp",
    ),
}
ENTER = {"en-GB": "Enter the meeting", "sv-SE": "Gå in i mötet"}


@pytest.fixture(scope="module")
def organiser(host, chromium):
    """An organiser with a meeting."""
    context = chromium.new_context(locale="en-GB", timezone_id="Europe/Stockholm")
    who = Organiser(context.new_page(), host, "Tora Ek", "tora.ek@sluss.test")
    who.enrol(lambda *_: None)
    who.sign_in()
    who.invite(lambda *_: None, (FIA, GUN))
    yield who
    context.close()


@pytest.mark.parametrize(("locale", "person"), [("en-GB", FIA), ("sv-SE", GUN)], ids=["en", "sv"])
def test_participant_adds_an_authenticator_and_comes_back_with_it_alone(  # noqa: PLR0917
    people, outbox, picture, organiser, locale, person
):
    ask, then, add, finish, use = WORDS[locale]
    who = Participant(people.come(PHONE, locale), outbox, person)
    page = who.page
    who.open_link()
    link = page.url
    expect(page.get_by_role("link", name=use)).to_be_hidden()
    who.ask_and_type_code(ask, then)
    page.get_by_role("link", name=add).click()
    picture(page, f"15-participant-adds-an-authenticator-{locale}")
    expect(page.locator(".qr img")).to_be_visible()
    app = App(page.locator("code.secret").inner_text())
    page.locator("input[autocomplete=one-time-code]").fill(app.code())
    page.get_by_role("button", name=finish).click()
    expect(page.get_by_role("heading", name="Budget 2027")).to_be_visible()
    expect(page.get_by_role("link", name=add)).to_be_hidden()

    page.context.clear_cookies()
    who.open_link()
    codes = len(outbox.messages("sms", person[3]))
    page.get_by_role("link", name=use).click()
    assert "Budget" not in page.content()
    page.locator("input[autocomplete=one-time-code]").fill(app.last())  # it confirmed the app, and opens nothing
    page.get_by_role("button", name=then).click()
    expect(page.get_by_role("alert")).to_be_visible()
    page.locator("input[autocomplete=one-time-code]").fill(app.code())
    page.get_by_role("button", name=then).click()
    expect(page.get_by_role("heading", name="Budget 2027")).to_be_visible()

    page.get_by_role("link", name=use).click()
    assert re.fullmatch(re.escape(link) + "/join/totp", page.url)
    picture(page, f"16-participant-enters-with-an-authenticator-{locale}")
    page.locator("input[autocomplete=one-time-code]").fill(app.code())
    page.get_by_role("button", name=ENTER[locale]).click()
    expect(page.locator("#status")).to_have_attribute("data-kind", "inside")
    assert len(outbox.messages("sms", person[3])) == codes
