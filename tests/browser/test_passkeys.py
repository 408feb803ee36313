"""Passkeys in Chromium with its virtual authenticator: made, used at both gates, copied, and refused."""

import pytest
from playwright.sync_api import Page, expect
from tests.browser.conftest import PHONE, changed_policy
from tests.browser.test_story import Organiser, Participant
from tests.unit.authenticator import Maker

CIA = ("Cia Ahl", "cia.ahl@example.org", "070-174 06 07", "+46701740607")
DAN = ("Dan Dal", "dan.dal@example.org", "070-174 06 08", "+46701740608")
EBBA = ("Ebba Ask", "ebba.ask@example.org", "070-174 06 27", "+46701740627")
NO_MODEL = {
    "English": "No passkey was added: here it has to be on a security key of a kind that the organisation has chosen.",
    "Svenska": "Ingen nyckel lades till: här måste den ligga på en säkerhetsnyckel av ett slag som organisationen har",
}
WORDS = {
    "en-GB": ("Send me a code by SMS", "Show the invitation", "Add a passkey", "Use a passkey"),
    "sv-SE": ("Skicka", "Visa inbjudan", "Lägg till en nyckel (passkey)", "Använd en nyckel (passkey)"),
}


class Device:
    """The authenticator of a page's browser. Nobody has to touch it."""

    def __init__(self, page: Page) -> None:
        self._cdp = page.context.new_cdp_session(page)
        self._cdp.send("WebAuthn.enable")
        options = {
            "protocol": "ctap2",
            "transport": "internal",
            "hasResidentKey": True,
            "hasUserVerification": True,
            "isUserVerified": True,
            "automaticPresenceSimulation": True,
        }
        self._id = self._cdp.send("WebAuthn.addVirtualAuthenticator", {"options": options})["authenticatorId"]

    def credential(self) -> dict:
        """What a thief would copy: the private key and the count."""
        (one,) = self._cdp.send("WebAuthn.getCredentials", {"authenticatorId": self._id})["credentials"]
        return one

    def put_back(self, credential: dict) -> None:
        """Be a copy of what it was."""
        self._cdp.send("WebAuthn.clearCredentials", {"authenticatorId": self._id})
        self._cdp.send("WebAuthn.addCredential", {"authenticatorId": self._id, "credential": credential})

    def verifies_user(self, does: bool) -> None:
        self._cdp.send("WebAuthn.setUserVerified", {"authenticatorId": self._id, "isUserVerified": does})


def invited(browser: Participant) -> None:
    expect(browser.page.get_by_role("heading", name="Budget 2027")).to_be_visible()


def come_back(browser: Participant) -> None:
    """By the same link, in a browser that knows nothing of the last time."""
    browser.page.context.clear_cookies()
    browser.open_link()


@pytest.fixture(scope="module")
def organiser(host, chromium):
    """An organiser with a meeting, who has added a passkey and signed in with it."""
    context = chromium.new_context(locale="en-GB", timezone_id="Europe/Stockholm")
    who = Organiser(context.new_page(), host, "Pia Ek", "pia.ek@sluss.test")
    who.enrol(lambda *_: None)
    who.sign_in()
    who.device = Device(who.page)
    who.page.get_by_role("link", name="Pia Ek").click()
    who.page.get_by_role("button", name="Add a passkey").click()
    expect(who.page.locator("[aria-labelledby=passkeys]").get_by_text("Added ")).to_be_visible()
    who.page.get_by_role("button", name="Sign out", exact=True).click()
    who.page.get_by_role("button", name="Sign in with a passkey").click()
    expect(who.page.get_by_role("heading", name="Your meetings")).to_be_visible()
    who.invite(lambda *_: None, (CIA, DAN, EBBA))
    who.meeting_url = who.page.url
    yield who
    context.close()


@pytest.mark.parametrize(("locale", "person"), [("en-GB", CIA), ("sv-SE", DAN)], ids=["en", "sv"])
def test_participant_adds_a_passkey_and_comes_back_with_it_alone(  # noqa: PLR0917
    people, outbox, picture, organiser, locale, person
):
    ask, then, add, use = WORDS[locale]
    who = Participant(people.come(PHONE, locale), outbox, person)
    device = Device(who.page)
    who.open_link()
    expect(who.page.get_by_role("button", name=use)).to_be_hidden()
    who.ask_and_type_code(ask, then)
    invited(who)
    who.page.get_by_role("button", name=add).click()
    expect(who.page.get_by_role("button", name=add)).to_be_hidden()
    assert device.credential()["rpId"] == "portal.sluss.test"

    come_back(who)
    picture(who.page, f"13-participant-comes-back-{locale}")
    codes = len(outbox.messages("sms", person[3]))
    who.page.get_by_role("button", name=use).click()
    invited(who)
    who.page.get_by_role("button", name=use).click()
    expect(who.page.locator("#status")).to_have_attribute("data-kind", "inside")
    assert len(outbox.messages("sms", person[3])) == codes

    nobody_else_can_ask(who.page, organiser.host)
    not_without_pin_or_finger(who, device, use)
    copy_is_found(who, device, use)
    organiser.page.goto(organiser.meeting_url)
    row = organiser.page.get_by_role("listitem").filter(has_text=person[0]).first
    expect(row).to_contain_text("Somebody seems to have a copy of this person's passkey.")


def nobody_else_can_ask(page: Page, host) -> None:
    """A page of another origin cannot have the passkey sign, neither for the portal nor for itself."""
    page.goto(host.outbox_url)
    ask = (
        "rpId => navigator.credentials.get({publicKey: {rpId, challenge: new Uint8Array(32), timeout: 1000,"
        " userVerification: 'required'}}).then(() => 'signed', error => error.name)"
    )
    assert page.evaluate(ask, "portal.sluss.test") == "SecurityError"
    assert page.evaluate(ask, "outbox.sluss.test") == "NotAllowedError"


def not_without_pin_or_finger(who: Participant, device: Device, use: str) -> None:
    device.verifies_user(False)
    come_back(who)
    who.page.get_by_role("button", name=use).click()
    expect(who.page.get_by_role("alert")).to_be_visible()
    assert "Budget" not in who.page.content()
    device.verifies_user(True)
    who.page.get_by_role("button", name=use).click()
    invited(who)


def copy_is_found(who: Participant, device: Device, use: str) -> None:
    before = device.credential()
    come_back(who)
    who.page.get_by_role("button", name=use).click()
    invited(who)
    device.put_back(before)
    come_back(who)
    who.page.get_by_role("button", name=use).click()
    expect(who.page.get_by_role("alert").filter(visible=True)).to_be_visible()
    assert "Budget" not in who.page.content()
    expect(who.page.get_by_role("button", name=use)).to_be_hidden()


def test_passkey_that_no_maker_attests_is_refused_in_plain_words_where_the_class_wants_a_model(
    people, outbox, organiser
):
    who = Participant(people.come(PHONE), outbox, EBBA)
    page = who.page
    device = Device(page)
    model = {"models": ["2fc0579f-8113-47ea-b116-bb5a8db9202a"], "makers": Maker().root}
    with changed_policy(organiser.host, passkey_authenticators=model):
        who.see_invitation()
        for language, (_, _, add, _) in zip(NO_MODEL, WORDS.values(), strict=True):
            page.get_by_role("button", name=language).click()
            page.get_by_role("button", name=add).click()
            expect(page.get_by_role("alert").filter(visible=True)).to_contain_text(NO_MODEL[language])
            expect(page.get_by_role("heading", name="Budget 2027")).to_be_visible()
    page.get_by_role("button", name="English").click()
    page.get_by_role("button", name="Add a passkey").click()
    expect(page.get_by_role("button", name="Add a passkey")).to_be_hidden()
    assert device.credential()["rpId"] == "portal.sluss.test"


def test_organiser_enters_and_reads_the_attendance_with_a_passkey(organiser, picture):
    page = organiser.page
    page.goto(f"{organiser.meeting_url}/attendance")
    picture(page, "14-organiser-proves-it-with-a-passkey")
    page.get_by_role("button", name="Use a passkey").click()
    expect(page.get_by_text("It is recorded that you looked")).to_be_hidden()
    expect(page.get_by_role("heading", name="Attendance")).to_be_visible()
    page.goto(f"{organiser.meeting_url}/verify")
    page.get_by_role("button", name="Use a passkey").click()
    expect(page.locator("#status")).to_have_text("You are in the meeting.")
