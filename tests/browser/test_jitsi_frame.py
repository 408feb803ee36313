"""Jitsi in a frame of the room page: the ticket goes by the fragment, and the page says plainly why it is over."""

import json
import re
import secrets
from urllib.parse import parse_qsl

import pytest
from playwright.sync_api import Page, expect
from tests.browser.conftest import Outbox, People, chromium_that_trusts
from tests.browser.test_story import ANNA, BO, Organiser, Participant
from tests.conftest import TICKET, Server


@pytest.fixture
def people_at_jitsi(playwright, jitsi, tmp_path):
    """Browsers in front of the server that has Jitsi, and that server."""
    ca_file = tmp_path / "ca.pem"
    ca_file.write_text(jitsi.machine.run("cat /etc/sluss/tls/ca.pem").stdout)
    names = f"--host-resolver-rules=MAP *.sluss.test {jitsi.machine.address}"
    with chromium_that_trusts(playwright, ca_file, tmp_path, names) as browser:
        yield People(browser, []), Server(jitsi.machine, jitsi.first, ca_file)


def no_picture(*_) -> None:
    """Other tests make the pictures."""


def test_jitsi_is_in_a_frame_and_the_page_says_plainly_why_it_is_over(people_at_jitsi):
    people, server = people_at_jitsi
    organiser = Organiser(people.come(), server)
    organiser.enrol(no_picture)
    organiser.sign_in()
    organiser.invite(no_picture)

    anna = Participant(people.come(), Outbox(server.machine), ANNA)
    asked = []
    anna.page.on("request", lambda request: asked.append(request.url.partition("#")[0]))
    anna.see_invitation()
    anna.ask_and_type_code("Enter the meeting", "Enter the meeting")
    # The double says so when the gate has taken the ticket.
    expect(anna.page.locator("#status")).to_have_text("You are in the meeting.", timeout=20_000)
    expect(anna.page.frame_locator("#stage iframe").get_by_text("A double of Jitsi's page")).to_be_visible()
    assert any(url.startswith(f"{server.meet_url}/") for url in asked)
    assert not [url for url in asked if "jwt" in url or "token" in url], "a server was asked for a page with the ticket"

    told = dict(parse_qsl(anna.page.locator("#stage iframe").get_attribute("src").partition("#")[2]))
    assert json.loads(told["config.localRecording"])["disable"] is True  # what the class of the meeting says
    assert json.loads(told["config.e2ee"]) == {"disabled": False}
    assert {"chat", "desktop", "security"} < set(json.loads(told["config.toolbarButtons"]))
    assert "recording" not in json.loads(told["config.toolbarButtons"])

    nowhere_else(anna.page)
    hostile_settings(anna.page, server)
    refused_tickets(anna.page, server)

    bo = Participant(people.come(), Outbox(server.machine), BO)
    bo.see_invitation()
    bo.ask_and_type_code("Enter the meeting", "Enter the meeting")
    says(bo.page, "You are in the meeting.")

    organiser.page.get_by_text("Withdraw", exact=True).first.click()
    organiser.page.get_by_role("button", name="Yes, withdraw").first.click()
    says(anna.page, "You have been put out of the meeting.", over=True)

    organiser.enter()
    organiser.page.get_by_text("End for all").click()
    organiser.page.get_by_role("button", name="Yes, end the meeting").click()
    says(bo.page, "The meeting has ended.", over=True)
    expect(bo.page.get_by_role("button", name="Come back in")).to_be_hidden()


def nowhere_else(page: Page) -> None:
    """The ticket is in the fragment of the frame alone: not in the portal's address or history, nor in a Referer."""
    frame = page.frame_locator("#stage iframe")
    history = page.context.new_cdp_session(page).send("Page.getNavigationHistory")["entries"]
    assert history
    assert not [entry["url"] for entry in history if "jwt" in entry["url"] or re.search(TICKET, entry["url"])]
    assert frame.locator("html").evaluate("html => html.ownerDocument.referrer") == ""
    page_text = page.evaluate("document.documentElement.outerHTML.replace(/<iframe[^>]*>/g, '')")
    assert not re.search(TICKET, page_text)


SETTINGS = {  # in a fragment, and the rule of the pages' policy that each runs into
    "analytics.scriptURLs": "script-src-elem",
    "brandingDataUrl": "connect-src",
    "customStyle": "style-src-elem",
    "etherpad_base": "frame-src",
    "gravatar.baseUrl": "img-src",
    "sharedVideo": "media-src",
    "websocket": "connect-src",
}


def hostile_settings(page: Page, server: Server) -> None:
    """Whatever the frame's fragment sets, the page asks no other server: the outbox would answer, and is not asked."""
    mark = f"stolen-{secrets.token_hex(4)}"
    hostile = "&".join(f"config.{name}={server.outbox_url}/{mark}" for name in SETTINGS)
    page.evaluate(
        "([meet, hostile]) => {"
        " const frame = document.createElement('iframe');"
        " frame.id = 'hostile';"
        " frame.src = `${meet}/0123456789abcdef0123456789abcdef#${hostile}`;"
        " document.body.append(frame); }",
        [server.meet_url, hostile],
    )
    html = page.frame_locator("#hostile").locator("html")
    expect(html).to_have_attribute("data-refused", re.compile(r"(\s\S+){7}"))
    assert sorted(html.get_attribute("data-refused").split()) == sorted(SETTINGS.values())
    itself = page.context.new_page()
    itself.goto(f"{server.outbox_url}/{mark}")
    itself.close()
    asked = server.run(f"grep -c {mark} /var/log/nginx/access.log").stdout.strip()
    assert asked == "1", "only the test itself asked"
    page.evaluate("document.getElementById('hostile').remove()")


def says(page: Page, text: str, *, over: bool = False) -> None:
    expect(page.locator("#status")).to_have_text(text)
    if over:
        expect(page.locator("#stage iframe")).to_have_count(0)


def refused_tickets(page: Page, server: Server) -> None:
    """Somebody inside comes back with a ticket that was used, and while the door is away."""
    with page.expect_response("**/ticket") as given:
        page.reload()
    old = given.value.json()
    says(page, "You are in the meeting.")
    page.route("**/ticket", lambda route: route.fulfill(json=old), times=1)
    page.reload()
    says(page, "Your ticket had been used already. Try again.", over=True)

    server.run("systemctl stop prosody")
    page.get_by_role("button", name="Come back in").click()
    away = "The door service is not answering. People already inside stay; nobody new gets in. Try again in a while."
    says(page, away, over=True)
    server.run("systemctl start prosody")
    ready = "python3 -c \"from urllib.request import urlopen; urlopen('http://127.0.0.1:8601/readyz')\" 2>/dev/null"
    server.run(f"until {ready}; do sleep 0.2; done")  # the bridge finds its way back
    page.get_by_role("button", name="Come back in").click()
    says(page, "You are in the meeting.")
