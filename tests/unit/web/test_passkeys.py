"""Passkeys on the pages: what the script is told, where its answer goes, and that links look alike."""

from __future__ import annotations

import json

import pytest
from tests.unit.authenticator import Authenticator
from tests.unit.web.browser import PORTAL, Browser, Page
from tests.unit.web.conftest import ANNA, BENGT, OLLE, Portal

from sluss.domain.assurance import Method
from sluss.services.common import new_link


async def told(browser: Browser, path: str) -> dict:
    """What the script gets from where a form with a passkey leads."""
    page = await browser.ask(
        "POST", path, body="", Accept="application/json", X_CSRF_Token=browser.page.csrf, Origin=PORTAL
    )
    return {"status": page.status, **json.loads(page.html)}


async def handed_back(browser: Browser, begin: str, end: str, response: str) -> Page:
    """The form goes where the script lets it."""
    browser.page.form(begin).action = end
    return await browser.submit(end, response=response)


async def use(browser: Browser, device: Authenticator, begin: str, end: str) -> Page:
    """Press the button: sign or make what is asked for."""
    answer = await told(browser, begin)
    made = device.create(answer["create"]) if "create" in answer else device.get(answer["get"])
    return await handed_back(browser, begin, end, made)


@pytest.fixture
async def anna(portal, link) -> Authenticator:
    """Anna's, added on the page of the invitation."""
    browser, device = portal.browser(), Authenticator()
    await portal.verify(browser, link)
    assert "Next time with a passkey" in browser.page.text
    await use(browser, device, f"{link}/passkey/new", f"{link}/passkey/add")
    assert browser.page.path == link
    assert "You have a passkey here since 15 Oct" in browser.page.text
    assert "Next time with a passkey" not in browser.page.text
    return device


async def test_participant_sees_the_invitation_and_enters_with_a_passkey(portal, link, anna):
    browser = portal.browser()
    await browser.get(link)
    assert "Use a passkey" in browser.page.text
    await use(browser, anna, f"{link}/passkey", f"{link}/passkey/verify")
    assert browser.page.path == link
    assert "Closing the Gävle plant" in browser.page.text
    assert [form.action for form in browser.page.forms if "join" in form.action] == [f"{link}/join/passkey"]
    await use(browser, anna, f"{link}/join/passkey", f"{link}/join/passkey/verify")
    assert browser.page.path == f"{link}/room"


async def test_refused_passkey_shows_the_page_again_and_does_not_say_why(portal, link, anna):
    browser = portal.browser()
    await browser.get(link)
    for how in ({"origin": "https://evil.example"}, {"verifies_user": False}, {"host": "evil.example"}):
        wrong = Authenticator(key=anna.key, id=anna.id, **how)
        page = await use(browser, wrong, f"{link}/passkey", f"{link}/passkey/verify")
        assert page.status == 403
        assert "That passkey was not accepted. Try again, or choose another way." in page.text
        assert "Closing" not in page.text
        assert page.form(f"{link}/code")


async def test_choice_of_a_passkey_is_there_only_for_who_has_one(portal, organiser, link, anna):
    await portal.meeting(organiser, BENGT)
    bengts = await portal.link(BENGT)
    assert "Use a passkey" not in (await portal.browser().get(bengts)).text
    assert "Use a passkey" in (await portal.browser().get(link)).text


async def decoy(portal: Portal, like: str) -> str:
    """A link that is none, and that offers the same ways."""
    participation = portal.services.participation
    methods = await participation.methods(like.removeprefix("/i/"))
    assert Method.PASSKEY in methods
    while True:
        link = new_link()
        if await participation.methods(link) == methods:
            return f"/i/{link}"


async def test_link_that_is_none_goes_the_same_way_until_a_proof_was_given(portal, organiser, link, anna):
    other = await portal.link()
    seen = []
    for path in (other, await decoy(portal, other)):
        browser = portal.browser()
        await browser.get(path)
        first = browser.page
        answer = await told(browser, f"{path}/passkey")
        refused = await handed_back(browser, f"{path}/passkey", f"{path}/passkey/verify", "{}")
        same = [page.plain.replace(path, "LINK") for page in (first, refused)]
        seen.append((same, refused.status, answer | {"get": answer["get"] | {"challenge": ""}}))
    assert seen[0] == seen[1]


async def test_locked_passkey_is_told_to_the_meetings_organiser_and_removed_by_its_person(
    portal, organiser, link, anna
):
    copy = anna.copy()
    for device in (anna, copy):
        browser = portal.browser()
        await browser.get(link)
        await use(browser, device, f"{link}/passkey", f"{link}/passkey/verify")
    await organiser.get("/")
    meeting = portal.world.sql("SELECT id FROM meetings")[0]["id"]
    assert (
        "Somebody seems to have a copy of this person's passkey." in (await organiser.get(f"/meetings/{meeting}")).text
    )
    browser = portal.browser()
    await portal.verify(browser, link)
    assert "Your passkey is locked" in browser.page.text
    await browser.submit(f"{link}/passkey/remove")
    assert "Next time with a passkey" in browser.page.text


async def test_organiser_is_told_that_somebody_else_tried(portal, organiser, link, anna):
    await portal.meeting(organiser, BENGT)
    bengts = await portal.link(BENGT)
    browser = portal.browser()
    await browser.get(link)
    browser.page.form(f"{link}/passkey").action = f"{bengts}/passkey"
    assert (await use(browser, anna, f"{bengts}/passkey", f"{bengts}/passkey/verify")).status == 403
    for meeting in portal.world.sql("SELECT id FROM meetings"):
        page = await organiser.get(f"/meetings/{meeting['id']}")
        assert ("Somebody else tried with this link 15 Oct" in page.text) is (BENGT.name in page.text)


async def test_passkey_is_added_in_words_of_ones_own_language(portal, link):
    browser = portal.browser("sv")
    await browser.get(link)
    await browser.submit(f"{link}/code")
    await browser.submit(f"{link}/verify", code=await portal.code())
    assert "Nästa gång med en nyckel (passkey)" in browser.page.text
    portal.world.clock.forward(minutes=16)
    answer = await told(browser, f"{link}/passkey/new")
    assert (answer["status"], answer["message"][:21]) == (403, "Ingen nyckel lades ti")
    assert (await handed_back(browser, f"{link}/passkey/new", f"{link}/passkey/add", "{}")).status == 403


async def test_organiser_adds_a_passkey_signs_in_with_it_enters_and_reads_the_attendance(portal, organiser, meeting):
    own = Authenticator()
    await organiser.get("/account")
    await use(organiser, own, "/account/passkeys/new", "/account/passkeys/add")
    assert "Added 15 Oct" in organiser.page.text

    browser = portal.browser()
    await browser.get("/sign-in")
    before = browser.cookies["__Host-sluss"]
    await use(browser, own, "/sign-in/passkey", "/sign-in/passkey/verify")
    assert browser.page.path == "/"
    assert browser.cookies["__Host-sluss"] != before

    at = f"/meetings/{meeting}"
    await browser.get(f"{at}/room")
    await use(browser, own, f"{at}/passkey", f"{at}/passkey/verify")
    assert browser.page.path == f"{at}/room"
    portal.world.clock.forward(minutes=6)
    await browser.get(f"{at}/attendance")
    assert browser.page.form(f"{at}/passkey")
    await use(browser, own, f"{at}/passkey", f"{at}/attendance/passkey")
    assert browser.page.path == f"{at}/attendance"
    assert "Prove once more" not in browser.page.text


async def test_organiser_is_told_no_more_of_a_refused_passkey(portal, organiser, meeting):
    await organiser.get("/account")
    await use(organiser, Authenticator(), "/account/passkeys/new", "/account/passkeys/add")
    at, stranger = f"/meetings/{meeting}", Authenticator()
    browser = portal.browser()
    await browser.get("/sign-in")
    page = await use(browser, stranger, "/sign-in/passkey", "/sign-in/passkey/verify")
    assert (page.status, "That passkey was not accepted" in page.text) == (403, True)
    for page, end in ((f"{at}/verify", f"{at}/passkey/verify"), (f"{at}/attendance", f"{at}/attendance/passkey")):
        await organiser.get(page)
        refused = await use(organiser, stranger, f"{at}/passkey", end)
        assert (refused.status, "That passkey was not accepted" in refused.text) == (403, True)


async def test_changing_passkeys_takes_a_factor_of_the_last_five_minutes(portal, organiser):
    own = Authenticator()
    await organiser.get("/account")
    await use(organiser, own, "/account/passkeys/new", "/account/passkeys/add")
    remove = next(form.action for form in organiser.page.forms if form.action.endswith("/remove"))
    stale = organiser.page
    portal.world.clock.forward(minutes=5)
    assert (await organiser.submit(remove)).path == "/prove?next=/account"
    organiser.page = stale
    assert (await told(organiser, "/account/passkeys/new"))["status"] == 403
    await organiser.get("/account")
    assert remove not in [form.action for form in organiser.page.forms]
    assert (await organiser.submit("/account", code="000000")).status == 403
    await organiser.submit("/account", code=portal.authenticator())
    await organiser.submit(remove)
    assert "None yet." in organiser.page.text

    await use(organiser, own, "/account/passkeys/new", "/account/passkeys/add")
    portal.world.clock.forward(minutes=5)
    await organiser.get("/account")
    await use(organiser, own, "/account/passkey", "/account/passkey/verify")
    assert any(form.action.endswith("/remove") for form in organiser.page.forms)


async def test_organiser_sees_on_the_first_page_that_a_passkey_was_copied(portal, organiser):
    own = Authenticator()
    await organiser.get("/account")
    await use(organiser, own, "/account/passkeys/new", "/account/passkeys/add")
    copy = own.copy()
    for device in (own, copy):
        browser = portal.browser()
        await browser.get("/sign-in")
        await use(browser, device, "/sign-in/passkey", "/sign-in/passkey/verify")
    assert "Somebody seems to have a copy of your passkey" in (await organiser.get("/")).text
    assert "Locked: somebody seems to have a copy" in (await organiser.get("/account")).text


async def test_auditor_has_passkeys_too(portal, browser):
    await portal.sign_in(browser)
    portal.world.sql("UPDATE organisers SET role = 'auditor'")
    own = Authenticator()
    await browser.get("/account")
    await use(browser, own, "/account/passkeys/new", "/account/passkeys/add")
    other = portal.browser()
    await other.get("/sign-in")
    await use(other, own, "/sign-in/passkey", "/sign-in/passkey/verify")
    assert other.page.path == "/audit"


async def test_name_of_the_passkey_is_the_organisers_address_or_the_invited_name(portal, organiser, link, anna):
    own = Authenticator()
    await organiser.get("/account")
    await use(organiser, own, "/account/passkeys/new", "/account/passkeys/add")
    assert (own.told["user"]["name"], anna.told["user"]["name"]) == (OLLE, ANNA.name)
    assert own.told["rp"] == {"id": "portal.sluss.test", "name": "Demo"}
