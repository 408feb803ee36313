"""Jitsi in a frame of the room page: the ticket goes by the fragment; who is put out sees that, and no frame."""

import json
from urllib.parse import parse_qsl

import pytest
from playwright.sync_api import expect
from tests.browser.conftest import Outbox, People, chromium_that_trusts
from tests.browser.test_story import ANNA, Organiser, Participant
from tests.conftest import Server


@pytest.fixture
def people_at_jitsi(jitsi, tmp_path):
    """Browsers in front of the server that has Jitsi, and that server."""
    ca_file = tmp_path / "ca.pem"
    ca_file.write_text(jitsi.machine.run("cat /etc/sluss/tls/ca.pem").stdout)
    names = f"--host-resolver-rules=MAP *.sluss.test {jitsi.machine.address}"
    with chromium_that_trusts(ca_file, tmp_path, names) as browser:
        yield People(browser, []), Server(jitsi.machine, jitsi.first, ca_file)


def no_picture(*_) -> None:
    """Other tests make the pictures."""


def test_jitsi_is_in_a_frame_and_gone_from_it_when_somebody_is_withdrawn(people_at_jitsi):
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

    organiser.page.get_by_text("Withdraw", exact=True).first.click()
    organiser.page.get_by_role("button", name="Yes, withdraw").first.click()
    expect(anna.page.locator("#status")).to_have_text("You have been put out of the meeting.", timeout=3_000)
    expect(anna.page.locator("#stage iframe")).to_have_count(0)
