"""The directory's pages: the same for every link, no password ever echoed, words in both languages."""

from __future__ import annotations

import html
import re

import pyotp
import pytest
from aiohttp.test_utils import TestClient, TestServer
from tests.unit.slapd import ANNA, EVA, PASSWORD, installation, running
from tests.unit.web.browser import PORTAL
from tests.unit.web.conftest import MEET, NOON, OLLE, Portal

from sluss.web import PortalSettings, directory, make_portal

PEOPLE = (("Anna Lindberg", ANNA, "070-174 06 05"),)


@pytest.fixture
async def portal(tmp_path):
    with running(tmp_path / "slapd") as slapd:
        async with installation(tmp_path, slapd) as world:
            world.clock.now, world.slapd = NOON, slapd
            settings = PortalSettings(
                organisation="Gävle Ltd",
                portal_origin=PORTAL,
                meet_origin=MEET,
                meet_host="meet.sluss.test",
                jitsi=False,
                trusted_proxies=(),
                default_locale="sv",
                default_region="SE",
                sms_prefixes=("+46",),
                csrf_key=b"k" * 32,
            )
            pages = make_portal(world.services, settings, world.keys, world.clock)
            async with TestClient(TestServer(pages, access_log=None)) as client:
                yield Portal(client, world)


@pytest.fixture
async def link(portal):
    await portal.world.meeting(await portal.world.organiser(OLLE), *PEOPLE)
    return f"/i/{portal.world.link(ANNA)}"


BUTTON = {"en": "Use your password at Gävle Ltd", "sv": "Använd ditt lösenord hos Gävle Ltd"}
SAYS = {"en": "Write the password that you use", "sv": "Skriv lösenordet till ditt konto"}


@pytest.mark.parametrize("language", ["en", "sv"])
async def test_from_the_link_to_the_room_by_password(portal, link, language):
    anna = portal.browser(language)
    assert BUTTON[language] in (await anna.get(link)).text
    assert SAYS[language] in (await anna.get(f"{link}/ldap")).text
    await anna.submit(f"{link}/ldap", password=PASSWORD)
    assert (anna.page.path, "Budget" in anna.page.text) == (link, True)
    assert BUTTON[language] in anna.page.text
    await anna.get(f"{link}/join/ldap")
    await anna.submit(f"{link}/join/ldap", password=PASSWORD)
    assert anna.page.path == f"{link}/room"


async def test_wrong_and_live_link_look_alike_and_no_password_comes_back(portal, link):
    seen = []
    for at in (link, "/i/wrong"):
        stranger, pages = portal.browser(), []
        for typed in ("", "guess 17", " guess 17 ", PASSWORD if at != link else "guess", *["guess 17"] * 4):
            await stranger.get(f"{at}/ldap")
            await stranger.submit(f"{at}/ldap", password=typed)
            assert "guess" not in stranger.page.html
            assert PASSWORD not in stranger.page.html
            pages.append((stranger.page.status, stranger.page.plain.replace(at, "")))
        seen.append(pages)
    assert seen[0] == seen[1]
    assert [status for status, _ in seen[0]] == [403, 403, 403, 403, 403, 403, 429, 429]
    assert directory.WRONG in seen[0][0][1]


async def test_opening_the_page_asks_the_directory_nothing(portal, link, monkeypatch):
    monkeypatch.setattr(portal.services.directory._ldap, "_ask", lambda _: pytest.fail("it was asked"))
    for at in ("/ldap", "/join/ldap"):
        assert (await portal.browser().get(link + at)).status == 200


async def test_page_says_so_when_the_directory_is_away(portal, link):
    portal.world.slapd.stop()
    anna = portal.browser()
    await anna.get(f"{link}/ldap")
    await anna.submit(f"{link}/ldap", password=PASSWORD)
    assert anna.page.status == 503
    assert "directory is not answering" in anna.page.text
    await anna.get("/sign-in")
    await anna.submit("/sign-in", email=EVA, password=PASSWORD)
    assert (anna.page.status, "directory is not answering" in anna.page.text) == (503, True)
    assert PASSWORD not in anna.page.html


async def enrol(portal, browser) -> pyotp.TOTP:
    await browser.get("/sign-in")
    await browser.submit("/sign-in", email=EVA, password=PASSWORD)
    await portal.world.worker.deliver_due()
    [body] = [body for to, body in portal.world.mail.sent if to == EVA]
    path = body.partition(PORTAL)[2].split()[0]
    await browser.get(path)
    key = browser.page.html.partition('class="secret">')[2].partition("<")[0].replace(" ", "")
    assert 'type="password"' not in browser.page.html, "the password is the directory's"
    totp = pyotp.TOTP(key)
    await browser.submit(None, code=totp.at(portal.world.clock()))
    portal.world.clock.forward(seconds=31)
    return totp


async def test_organiser_of_the_directory_enrols_and_signs_in(portal):
    eva = portal.browser()
    await eva.get("/sign-in")
    await eva.submit("/sign-in", email=EVA, password=PASSWORD)
    assert "We have sent a link to your e-mail address" in eva.page.text
    portal.world.mail.sent.clear()
    portal.world.sql("DELETE FROM outbox")
    totp = await enrol(portal, eva)
    await eva.get("/sign-in")
    await eva.submit("/sign-in", email=EVA, password=PASSWORD)
    await eva.submit("/sign-in/code", code=totp.at(portal.world.clock()))
    assert (eva.page.path, "Eva Ek" in eva.page.text) == ("/", True)


async def test_a_wrong_password_and_a_stranger_and_a_colleague_in_no_group_are_told_the_same(portal):
    pages = []
    for email, password in ((EVA, "guess 17"), ("nobody@example.org", PASSWORD), (ANNA, PASSWORD)):
        browser = portal.browser()
        await browser.get("/sign-in")
        await browser.submit("/sign-in", email=email, password=password)
        pages.append((browser.page.status, browser.page.words))
        assert password not in browser.page.html
    assert pages[0] == pages[1] == pages[2]


# Looking up colleagues


@pytest.fixture
async def organiser(portal):
    browser = portal.browser()
    await portal.sign_in(browser)
    return browser


async def press(browser, action: str, name: str, value: str, **typed):
    """One of the form's other buttons: its name and value are sent too."""
    browser.page.form(action).fields.append((name, value))
    return await browser.submit(action, **typed)


def found(page) -> list[str]:
    """What the buttons to add somebody say to us."""
    return [html.unescape(value) for value in re.findall(r'name="add" value="([^"]*)"', page.html)]


async def test_colleague_is_looked_up_and_put_into_the_form_with_everything_typed_kept(portal, organiser):
    await organiser.get("/meetings/new")
    page = await press(organiser, "/meetings/new", "look_up", "1", title="Kept", colleague="bo åst")
    assert page.status == 200
    assert "Bo Åström (konsult)" in page.text
    [value] = found(page)
    page = await press(organiser, "/meetings/new", "add", value)
    fields = page.form("/meetings/new").fields
    assert ("title", "Kept") in fields
    for name, text in (("name", "Bo Åström (konsult)"), ("email", "bo@example.org"), ("mobile", "+46 70 174 06 06")):
        assert (f"participant_{name}", text) in fields
    page = await press(organiser, "/meetings/new", "look_up", "1", colleague="anna lind")
    page = await press(organiser, "/meetings/new", "add", found(page)[0])
    await organiser.submit("/meetings/new", participant_label=["", "", ""])
    assert organiser.page.path.startswith("/meetings/")
    assert "bo@example.org" in organiser.page.text
    assert ANNA in organiser.page.text


async def test_colleague_is_put_into_the_form_of_one_more(portal, organiser):
    meeting = await portal.meeting(organiser)
    at = f"/meetings/{meeting}/participants"
    await organiser.get(f"/meetings/{meeting}")
    page = await press(organiser, at, "look_up", "1", colleague="lindberg")
    page = await press(organiser, at, "add", found(page)[0])
    assert ("email", ANNA) in page.form(at).fields
    await organiser.submit(at)
    assert ANNA in organiser.page.text


async def test_what_cannot_be_looked_up_is_said(portal, organiser):
    await organiser.get("/meetings/new")
    page = await press(organiser, "/meetings/new", "look_up", "1", colleague="a")
    assert (page.status, "Write at least 2 letters" in page.text) == (422, True)
    page = await press(organiser, "/meetings/new", "look_up", "1", colleague="nobody")
    assert "Nobody was found." in page.text
    page = await press(organiser, "/meetings/new", "add", "[1, 2")
    assert page.status == 400
    await organiser.get("/meetings/new")
    portal.world.slapd.stop()
    page = await press(organiser, "/meetings/new", "look_up", "1", colleague="anna", title="Kept")
    assert (page.status, "directory is not answering" in page.text) == (503, True)
    assert ("title", "Kept") in page.form("/meetings/new").fields


async def test_enter_in_the_form_is_not_the_button_that_looks_up(organiser):
    """A browser presses the first button of a form then."""
    page = await organiser.get("/meetings/new")
    form = page.html.partition('action="/meetings/new"')[2].partition("</form>")[0]
    assert form.index("<button hidden></button>") < form.index('name="look_up"')


async def test_nobody_else_looks_anybody_up(portal):
    stranger = portal.browser()
    await stranger.get("/sign-in")
    body = f"csrf={stranger.page.csrf}&look_up=1&colleague=anna"
    page = await stranger.ask("POST", "/meetings/new", body=body, Origin=PORTAL)
    assert page.status == 401
    assert "Lindberg" not in page.html
