"""The whole story, as people live it: Chromium, the provisioned host, the mail and the SMS that were really sent."""

import re
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from playwright.sync_api import Page, expect
from tests.browser.conftest import PHONE, App, _wait

PASSWORD = "segel mot lugnt vatten 58"
ANNA = ("Anna Lindberg", "anna.lindberg@example.org", "070-174 06 05", "+46701740605")
BO = ("Bo Ek", "bo.ek@example.org", "+46 70 174 06 06", "+46701740606")
BOS_NEW = "+46701740626"
ZONE = "Europe/Stockholm"
HOMES = {"organiser": "/", "auditor": "/audit", "admin": "/accounts"}


class Organiser:
    """An organiser at a desk, with an authenticator app."""

    def __init__(
        self, page: Page, host, name: str = "Eva Ek", email: str = "eva.ek@sluss.test", role: str = "organiser"
    ) -> None:
        self.page, self.role = page, role
        self.host = host
        self.name, self.email = name, email

    def enrol(self, picture) -> None:
        add = f"sluss organiser add --role {self.role} --name '{self.name}' --email {self.email}"
        self.enrol_by(re.search(r"https://\S+", self.host.run(add).stdout)[0], picture)

    def enrol_by(self, url: str, picture) -> None:
        self.page.goto(url)
        self._app = App(self.page.locator("code.secret").inner_text())
        picture(self.page, "01-organiser-enrols")
        for name, value in (("password", PASSWORD), ("again", PASSWORD), ("code", self.code())):
            self.page.locator(f"input[name={name}]").fill(value)
        self.page.locator("main form").get_by_role("button").click()
        expect(self.page.locator("ul.codes li")).to_have_count(10)
        self.recovery = self.page.locator("ul.codes li").all_inner_texts()

    def code(self) -> str:
        return self._app.code()

    def sign_in(self) -> None:
        self.page.goto(self.host.portal_url)
        self.page.locator("input[name=email]").fill(self.email)
        self.page.locator("input[name=password]").fill(PASSWORD)
        self.page.locator("main").get_by_role("button").first.click()
        self.page.locator("input[name=code]").fill(self.code())
        self.page.locator("main").get_by_role("button").first.click()
        expect(self.page).to_have_url(f"{self.host.portal_url.rstrip('/')}{HOMES[self.role]}")

    def invite(self, picture, people=(ANNA, BO)) -> None:
        start = datetime.now(ZoneInfo(ZONE)) + timedelta(minutes=10)
        page = self.page
        page.get_by_role("link", name="New meeting").click()
        page.get_by_label("Title").fill("Budget 2027")
        page.get_by_label("Agenda").fill("1. Opening\n2. The figures\n3. Decision")
        page.get_by_label("Date").fill(f"{start:%Y-%m-%d}")
        page.get_by_label("Start").fill(f"{start:%H:%M}")
        page.get_by_label("Length in minutes").fill("45")
        page.get_by_label("Time zone").select_option(ZONE)
        for number, (name, mail, mobile, _) in enumerate(people, 1):
            row = page.get_by_role("group", name=f"Participant {number}")
            row.get_by_label("Name").fill(name)
            row.get_by_label("E-mail").fill(mail)
            row.get_by_label("Mobile").fill(mobile)
        picture(page, "02-organiser-invites")
        page.get_by_role("button", name="Save and send the invitations").click()
        expect(page.get_by_role("heading", name="Budget 2027")).to_be_visible()

    def change_number(self, name: str, mobile: str) -> None:
        row = self.page.locator(".people > li").filter(has_text=name)
        row.locator("summary", has_text="Change the number").click()
        row.get_by_label("New mobile number").fill(mobile)
        row.get_by_role("button", name="Change the number").click()
        expect(row.locator(".contact")).to_contain_text(mobile[-2:])

    def enter(self) -> None:
        self.page.get_by_role("link", name="Enter the meeting").click()
        if self.page.url.endswith("/verify"):
            self.page.get_by_label("Code from your authenticator").fill(self.code())
            self.page.get_by_role("button", name="Enter the meeting").click()
        expect(self.page.locator("#status")).to_have_text("You are in the meeting.")


class Participant:
    """Somebody with a phone."""

    def __init__(self, page: Page, outbox, person) -> None:
        self.page, self.outbox = page, outbox
        _, self.mail, _, self.number = person

    def open_link(self) -> None:
        self.page.goto(self.outbox.link(self.mail))

    def ask_and_type_code(self, ask: str, then: str) -> None:
        before = len(self.outbox.messages("sms", self.number))
        self.page.get_by_role("button", name=ask).click()
        self.page.locator("input[autocomplete=one-time-code]").fill(self.outbox.code(self.number, before))
        self.page.get_by_role("button", name=then).click()

    def sent_another(self, again: str) -> bool:
        """Press the button for another code. Whether there is one; not within the pause after the last."""
        with self.page.expect_navigation():
            self.page.get_by_role("button", name=again).click()
        return not self.page.get_by_role("alert").count()

    def see_invitation(self) -> None:
        self.open_link()
        self.ask_and_type_code("Send me a code by SMS", "Show the invitation")


def test_the_whole_story_in_a_browser(host, people, outbox, picture):  # noqa: PLR0915 (a story is long)
    organiser = Organiser(people.come(), host)
    organiser.enrol(picture)
    organiser.sign_in()
    organiser.invite(picture)
    meeting_url = organiser.page.url

    mail = outbox.link(ANNA[1]) and outbox.messages("mail", ANNA[1])[0]
    told = mail["subject"] + re.sub(r"/i/\S+", "", mail["body"])
    for secret in ("Budget", "figures", "Eva", "Bo Ek", "Anna"):
        assert secret not in told

    # Bo has another number by now. Whoever asks for a second code waits; what he does meanwhile is Anna's story.
    expect(organiser.page.get_by_text("The mail has been sent.")).to_have_count(2, timeout=20_000)
    bos_link = outbox.link(BO[1])
    mails, old = (len(outbox.messages(kind, to)) for kind, to in (("mail", BO[1]), ("sms", BO[3])))
    organiser.change_number("Bo Ek", "070-174 06 26")
    told = _wait(lambda: outbox.messages("mail", BO[1])[:-mails])[0]["body"]
    for secret in (BOS_NEW, "Budget", "Eva", "/i/"):
        assert secret not in told
    bo = Participant(people.come(PHONE, "sv-SE"), outbox, (*BO[:3], BOS_NEW))
    bo.page.goto(bos_link)
    bo.page.get_by_role("button", name="Skicka").click()
    expect(bo.page.get_by_text("Du kan be om en ny kod 30 sekunder efter den förra.")).to_be_visible()
    outbox.code(BOS_NEW, 0)
    assert not bo.sent_another("Skicka en ny kod")
    expect(bo.page.get_by_role("alert")).to_contain_text("En kod har beställts alldeles nyss.")

    anna = Participant(people.come(PHONE), outbox, ANNA)
    anna.open_link()
    picture(anna.page, "03-participant-opens-the-link")
    assert "Budget" not in anna.page.content()
    assert outbox.messages("sms", ANNA[3]) == [], "opening a link must send nothing"
    before = len(outbox.messages("sms", ANNA[3]))
    anna.page.get_by_role("button", name="Send me a code by SMS").click()
    picture(anna.page, "04-participant-writes-the-code")
    anna.page.get_by_label("Code from the SMS").fill(outbox.code(ANNA[3], before))
    anna.page.get_by_role("button", name="Show the invitation").click()
    expect(anna.page.get_by_role("heading", name="Budget 2027")).to_be_visible()
    expect(anna.page.get_by_text("The figures")).to_be_visible()
    expect(anna.page.get_by_text("Eva Ek")).to_be_visible()
    anna.page.get_by_role("button", name="Accept").click()
    expect(anna.page.get_by_text("You have accepted.")).to_be_visible()
    picture(anna.page, "05-participant-sees-the-invitation")

    # She comes back at the hour, by the same link, and proves herself once more.
    anna.open_link()
    anna.ask_and_type_code("Enter the meeting", "Enter the meeting")
    expect(anna.page.locator("#status")).to_have_text("You are in the meeting.")
    expect(anna.page.locator("#people li")).to_contain_text(["Anna Lindberg"])

    # Somebody else has her link but not her phone.
    stranger = people.come(PHONE)
    stranger.goto(outbox.link(ANNA[1]))
    stranger.get_by_role("button", name="Send me a code by SMS").click()
    stranger.get_by_label("Code from the SMS").fill("000000")
    stranger.get_by_role("button", name="Show the invitation").click()
    expect(stranger.get_by_role("alert")).to_be_visible()
    picture(stranger, "06-stranger-with-the-link-is-not-let-in")
    assert "Budget" not in stranger.content()
    stranger.goto(outbox.link(ANNA[1]) + "/room")
    assert not stranger.url.endswith("/room")
    assert "Budget" not in stranger.content()

    _wait(lambda: bo.sent_another("Skicka en ny kod"), 40)
    expect(bo.page.get_by_text("Du kan be om en ny kod 1 minut efter den förra.")).to_be_visible()
    bo.page.get_by_label("Kod").fill(outbox.code(BOS_NEW, 1))
    bo.page.get_by_role("button", name="Visa inbjudan").click()
    bo.page.get_by_role("button", name="Gå in i mötet").click()
    bo.page.get_by_label("Kod").fill(outbox.code(BOS_NEW, 2))
    assert len(outbox.messages("sms", BO[3])) == old, "a code went to the old number"
    bo.page.locator("main").get_by_role("button").first.click()
    expect(bo.page.locator("#status")).to_have_attribute("data-kind", "inside")
    expect(bo.page.get_by_text("Ingen video i den här installationen")).to_be_visible()
    expect(anna.page.locator("#people li")).to_have_count(2)
    expect(anna.page.locator("#people")).to_contain_text("Bo Ek")

    organiser.enter()
    here = organiser.page.locator("#people li")
    expect(here).to_have_count(3)
    expect(organiser.page.locator("#people")).to_contain_text("Anna Lindberg")
    picture(organiser.page, "07-everyone-is-verified")
    picture(anna.page, "08-participant-in-the-meeting")

    # Reloading does not lose the way in.
    anna.page.reload()
    expect(anna.page.locator("#status")).to_have_text("You are in the meeting.")

    organiser.page.get_by_role("button", name="Put out: Bo Ek").click()
    expect(bo.page.locator("#status")).to_have_attribute("data-kind", "bad", timeout=2_000)
    picture(bo.page, "09-put-out")
    bo.page.reload()
    assert "Budget" not in bo.page.content()
    expect(anna.page.locator("#people")).not_to_contain_text("Bo Ek")
    expect(here).to_have_count(2)

    organiser.page.goto(meeting_url)
    expect(organiser.page.get_by_text("put out", exact=True)).to_be_visible()
    picture(organiser.page, "10-organiser-sees-the-status")
