"""The waiting room of a class that has one: who has verified waits, is seen, and is let in once the organiser is."""

import pytest
from playwright.sync_api import expect
from tests.browser.conftest import PHONE, changed_policy
from tests.browser.test_story import ANNA, BO, Organiser, Participant


@pytest.fixture
def waiting_room(host):
    """Meetings of the class `internal` wait for their organiser meanwhile."""
    with changed_policy(host, waiting_room=True):
        yield


def no_picture(*_) -> None:
    """The story makes the pictures."""


def test_verified_people_wait_for_the_organiser_and_see_each_other(host, people, outbox, waiting_room):
    organiser = Organiser(people.come(), host, "Olle Ohlsson", "olle.ohlsson@sluss.test")
    organiser.enrol(no_picture)
    organiser.sign_in()
    organiser.invite(no_picture)

    anna, bo = (Participant(people.come(PHONE), outbox, person) for person in (ANNA, BO))
    for waiter in (anna, bo):
        waiter.see_invitation()
        waiter.ask_and_type_code("Enter the meeting", "Enter the meeting")
        expect(waiter.page.locator("#status")).to_have_attribute("data-kind", "waiting")
    expect(anna.page.locator("#waiters")).to_have_text("Bo Ek · personal link and SMS code (assurance level 1 of 3)")
    expect(bo.page.locator("#waiters")).to_contain_text("Anna Lindberg")

    organiser.page.reload()
    expect(organiser.page.locator("main")).to_contain_text("Anna Lindberg")
    organiser.enter()
    for waiter in (anna, bo):
        expect(waiter.page.locator("#status")).to_have_text("You are in the meeting.")
        expect(waiter.page.locator("#waiting")).to_be_hidden()
    expect(organiser.page.locator("#people li")).to_have_count(3)
