"""A participant's authenticator on the pages: added, used for both gates, refused, and links that look alike."""

from __future__ import annotations

import re
from datetime import timedelta

import pyotp
import pytest
from tests.unit.web.browser import Browser
from tests.unit.web.conftest import ANNA, BENGT, Portal

from sluss.domain.assurance import Method
from sluss.services.common import new_link


class App:
    """An authenticator app."""

    def __init__(self, portal: Portal, html: str) -> None:
        self._clock = portal.world.clock
        self.secret = re.search(r'class="secret">([^<]+)<', html)[1].replace(" ", "")

    def code(self) -> str:
        """The next one that was not shown yet."""
        self._clock.forward(seconds=30)
        return pyotp.TOTP(self.secret).at(self._clock())


async def added(portal: Portal, browser: Browser, link: str) -> App:
    """Added on the page of the invitation."""
    await portal.verify(browser, link)
    assert "Next time with an authenticator" in browser.page.text
    page = await browser.get(f"{link}/totp/new")
    assert "data:image/svg+xml" in page.html
    assert "There are no recovery codes." in page.text
    app = App(portal, page.html)
    assert (await browser.submit(f"{link}/totp/add", code="000000")).status == 403
    assert "That code did not match." in browser.page.text
    await browser.submit(f"{link}/totp/add", code=app.code())
    assert browser.page.path == link
    assert "You have an authenticator here since 15 Oct" in browser.page.text
    assert "Next time with an authenticator" not in browser.page.text
    return app


@pytest.fixture
async def anna(portal, link) -> App:
    return await added(portal, portal.browser(), link)


async def test_participant_sees_the_invitation_and_enters_with_an_authenticator(portal, link, anna):
    browser = portal.browser()
    page = await browser.get(link)
    assert f'href="{link}/totp"' in page.html
    page = await browser.get(f"{link}/totp")
    assert "Closing" not in page.text
    assert 'autocomplete="one-time-code"' in page.html
    await browser.submit(f"{link}/totp", code=anna.code())
    assert browser.page.path == link
    assert "Closing the Gävle plant" in browser.page.text
    assert f'href="{link}/join/totp"' in browser.page.html
    assert f"{link}/join/code" not in browser.page.html
    await browser.get(f"{link}/join/totp")
    await browser.submit(f"{link}/join/totp", code=anna.code())
    assert browser.page.path == f"{link}/room"


async def test_refused_code_shows_the_page_again_and_does_not_say_why(portal, link, anna):
    used, browser = anna.code(), portal.browser()
    await browser.get(f"{link}/totp")
    assert (await browser.submit(f"{link}/totp", code=used)).path == link
    browser = portal.browser()
    for wrong in ("", "000000", used):
        await browser.get(f"{link}/totp")
        page = await browser.submit(f"{link}/totp", code=wrong)
        assert (page.status, page.path) == (403, f"{link}/totp")
        assert "Wait for the next one and try again." in page.text
        assert "Closing" not in page.text


async def test_choice_of_an_authenticator_is_there_only_for_who_has_one(portal, organiser, link, anna):
    await portal.meeting(organiser, BENGT)
    assert "Use your authenticator" not in (await portal.browser().get(await portal.link(BENGT))).text
    assert "Use your authenticator" in (await portal.browser("en").get(link)).text
    assert "Använd din autentiseringsapp" in (await portal.browser("sv").get(link)).text


async def decoy(portal: Portal, like: str) -> str:
    """A link that is none, and that offers the same ways."""
    participation = portal.services.participation
    methods = await participation.methods(like.removeprefix("/i/"))
    assert Method.TOTP in methods
    while True:
        link = new_link()
        if await participation.methods(link) == methods:
            return f"/i/{link}"


async def test_link_that_is_none_goes_the_same_way_until_a_proof_was_given(portal, link, anna):
    seen, looks = [], await decoy(portal, link)
    for path in (link, looks):
        browser = portal.browser()
        pages = [await browser.get(path), await browser.get(f"{path}/totp")]
        pages += [await browser.submit(f"{path}/totp", code="000000"), await browser.get(f"{path}/join/totp")]
        pages += [await browser.submit(f"{path}/join/totp", code="000000"), await browser.get(f"{path}/totp/new")]
        seen.append([(p.status, p.plain.replace(path, "LINK")) for p in pages])
    assert seen[0] == seen[1]


async def test_person_removes_theirs(portal, link, anna):
    browser = portal.browser()
    await browser.get(f"{link}/totp")
    await browser.submit(f"{link}/totp", code=anna.code())
    await browser.submit(f"{link}/totp/remove")
    assert "Before anything is shown" in browser.page.text
    assert "Use your authenticator" not in browser.page.text


async def test_offer_is_over_when_the_proof_is_too_old(portal, link):
    browser = portal.browser()
    await portal.verify(browser, link)
    assert "secret" in (await browser.get(f"{link}/totp/new")).html
    portal.world.clock.now += timedelta(minutes=15)
    page = await browser.get(f"{link}/totp/new")
    assert "No authenticator was added." in page.text
    assert "secret" not in page.html


async def test_secret_is_in_no_address_and_no_log(portal, link, anna, caplog, capsys):
    assert ANNA.email not in anna.secret
    out = capsys.readouterr()
    assert anna.secret not in out.out + out.err + caplog.text
