"""The BankID page: the same for every link, a code that moves, the app on the same device, words in both languages."""

from __future__ import annotations

import json
import re

import pytest
from aiohttp.test_utils import TestClient, TestServer
from tests.doubles.bankid.double import SIGNS, STARTED, WAITS, failed, refused
from tests.unit.bankid import ANNA_SIGNS, BO_SIGNS, installation
from tests.unit.web.browser import PORTAL
from tests.unit.web.conftest import MEET, Portal

from sluss.web import PortalSettings, bankid, make_portal

PHONE = "Mozilla/5.0 (iPhone; CPU iPhone OS 18_0 like Mac OS X) AppleWebKit/605.1.15 Mobile/15E148 Safari/604.1"
ANNA = ("Anna Lindberg", "anna@example.org", "070-174 06 05", "", "811228-9874")
PUBLISHED = {
    "outstandingTransaction", "noClient", "started", "userMrtd", "userCallConfirm", "userSign", "expiredTransaction",
    "certificateErr", "userCancel", "cancelled", "startFailed", "userDeclinedCall", "alreadyInProgress",
    "requestTimeout", "internalError", "Maintenance",
}  # fmt: skip


@pytest.fixture
async def bank(tmp_path):
    async with installation(tmp_path, ANNA) as made:
        made.world.change_class("confidential", waiting_room=False)
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
        pages = make_portal(made.world.services, settings, made.world.keys, made.world.clock)
        async with TestClient(TestServer(pages, access_log=None)) as client:
            made.portal = Portal(client, made.world)
            made.link = await made.portal.link()
            yield made


async def collect(bank, browser, at: str, here: str = "") -> dict:
    """What the page's script is told, two seconds later."""
    bank.world.clock.forward(seconds=2)
    headers = {"Accept": "application/json", "X_CSRF_Token": browser.page.csrf}
    answer = await browser.ask("POST", f"{at}/collect{here}", body="", Origin=PORTAL, **headers)
    return json.loads(answer.html)


async def begin(bank, browser, link: str, join: str = "") -> str:
    await browser.get(link)
    await browser.submit(f"{link}{join}/bankid")
    assert browser.page.path == f"{link}{join}/bankid", browser.page.text
    return browser.page.path


def plain(page, link: str) -> str:
    """The page without what differs between any two requests."""
    html = page.plain.replace(link, "LINK")
    return re.sub(r"autostarttoken=[0-9a-f-]{36}", "TOKEN", html)


@pytest.mark.parametrize("language", ["en", "sv"])
async def test_from_the_link_to_the_room_by_bankid(bank, language):
    anna = bank.portal.browser(language)
    bank.double.story = [WAITS, SIGNS, ANNA_SIGNS]
    at = await begin(bank, anna, bank.link)
    told = [await collect(bank, anna, at) for _ in range(3)]
    assert [one["state"] for one in told] == ["pending", "pending", "complete"]
    assert [one["started"] for one in told[:2]] == [False, True]
    start = {"en": "Start your BankID app.", "sv": "Starta BankID-appen."}[language]
    assert (told[0]["message"], told[2]["onward"]) == (start, bank.link)
    assert "Budget" in (await anna.get(told[2]["onward"])).text
    at = await begin(bank, anna, bank.link, "/join")
    told = [await collect(bank, anna, at) for _ in range(3)]
    assert told[2]["onward"] == f"{bank.link}/room"
    assert (await anna.get(told[2]["onward"])).path == f"{bank.link}/room"


async def test_wrong_and_live_link_look_alike_until_somebody_has_signed(bank):
    seen = []
    bank.double.story = [WAITS, STARTED, BO_SIGNS]
    for link in (bank.link, "/i/wrong"):
        stranger = bank.portal.browser()
        empty = await stranger.get(f"{link}/bankid")
        at = await begin_here(stranger, link)
        told = [await collect(bank, stranger, at) for _ in range(4)]
        seen.append((plain(empty, link), plain(stranger.page, link), told, plain(await stranger.get(at), link)))
    assert seen[0] == seen[1]
    assert seen[0][2][-1] == {
        "state": "failed",
        "started": True,
        "message": "This BankID was not accepted for this link. If it was meant for you, ask whoever invited you.",
        "onward": "",
    }
    assert "Budget" not in str(seen)


async def begin_here(browser, link: str) -> str:
    await browser.submit(f"{link}/bankid")
    return f"{link}/bankid"


async def test_opening_the_pages_starts_nothing(bank):
    browser = bank.portal.browser()
    for path in ("/bankid", "/bankid/qr", "/join/bankid", "/join/bankid/qr"):
        await browser.get(bank.link + path)
    await browser.get("/bankid/made-up")
    assert bank.double.orders == []
    assert bank.world.sql("SELECT * FROM limits") == []


async def test_code_is_of_this_second_for_this_browser_and_no_secret_is_on_the_page(bank):
    anna = bank.portal.browser()
    at = await begin(bank, anna, bank.link)
    order = bank.double.last
    for secret in (order.qr_secret, order.qr_token, order.ref):
        assert secret not in anna.page.html
    first = await anna.ask("GET", f"{at}/qr")
    bank.world.clock.forward(seconds=1)
    second = await anna.ask("GET", f"{at}/qr")
    assert first.headers["Content-Type"] == "image/svg+xml"
    assert first.headers["Cache-Control"] == "no-store"
    assert "<svg" in first.html
    assert first.html != second.html
    assert (await bank.portal.browser().ask("GET", f"{at}/qr")).status == 404


async def test_app_is_opened_on_this_device_and_the_link_goes_to_nobody(bank):
    anna = bank.portal.browser()
    await begin(bank, anna, bank.link)
    token = bank.double.last.start_token
    start = f"autostarttoken={token}&amp;redirect=null"
    assert f'href="bankid:///?{start}"' in anna.page.html
    anna.headers["User-Agent"] = PHONE
    await anna.get(f"{bank.link}/bankid")
    assert f'href="https://app.bankid.com/?{start}"' in anna.page.html
    assert bank.link.rpartition("/")[2] not in str(bank.double.last.asked)


async def test_app_leads_back_to_the_browser_that_began_and_shows_another_one_nothing(bank):
    anna = bank.portal.browser()
    at = await begin(bank, anna, bank.link)
    back = bank.double.last.asked["returnUrl"]
    assert back.startswith("https://portal.sluss.test/bankid/")
    path = back.removeprefix(PORTAL)
    assert (await anna.ask("GET", path)).headers["Location"] == at
    other = await bank.portal.browser().get(path)
    assert (other.status, "Go back to where you began" in other.text) == (200, True)
    assert bank.link not in other.html
    bank.double.last.story = [ANNA_SIGNS]
    assert (await collect(bank, anna, at))["state"] == "complete"
    assert "Budget" in (await anna.get(path)).text, "the window that comes back later shows it too"


@pytest.mark.parametrize(
    ("number", "code", "said"),
    [
        (503, "Maintenance", "BankID is being maintained."),
        (400, "alreadyInProgress", "An identification for this person has already been started."),
        (401, "unauthorized", "BankID is not answering just now."),
    ],
)
async def test_service_that_is_away_is_said_on_the_page_which_offers_other_ways(bank, number, code, said):
    bank.double.on_auth = refused(number, code)
    anna = bank.portal.browser()
    await anna.get(bank.link)
    page = await anna.submit(f"{bank.link}/bankid")
    assert page.status == 503
    assert said in page.text
    assert f'href="{bank.link}"' in page.html
    assert page.form(f"{bank.link}/bankid")


async def test_cancel_leads_back_to_the_choice(bank):
    anna = bank.portal.browser()
    await begin(bank, anna, bank.link)
    await anna.submit(f"{bank.link}/bankid/cancel")
    assert anna.page.path == bank.link
    assert bank.double.last.cancelled
    assert anna.page.form(f"{bank.link}/bankid")


async def test_failed_order_says_why_in_words_for_the_device_that_was_used(bank):
    bank.double.story = [failed("startFailed")]
    anna = bank.portal.browser("sv")
    at = await begin(bank, anna, bank.link)
    assert (await collect(bank, anna, at))["message"].startswith("QR-koden lästes inte av.")
    assert (await collect(bank, anna, at, "?here"))["message"].startswith("BankID-appen hittades inte")
    page = await anna.get(at)
    assert "QR-koden lästes inte av." in page.text
    assert page.form(at), "it can be begun again"


def test_every_hint_that_bankid_publishes_has_words():
    assert set(bankid.HINT_TEXTS) >= PUBLISHED


async def test_hint_that_nobody_knows_has_words_too(bank):
    bank.double.story = [{"status": "pending", "hintCode": "userFace"}, failed("new")]
    anna = bank.portal.browser()
    at = await begin(bank, anna, bank.link)
    told = [(await collect(bank, anna, at))["message"] for _ in range(2)]
    assert told == ["Identification in progress.", "Unknown error. Please try again."]


async def test_too_many_orders_say_how_long_to_wait(bank):
    anna = bank.portal.browser()
    for _ in range(13):
        await anna.get(bank.link)
        page = await anna.submit(f"{bank.link}/bankid")
    assert page.status == 429
    assert "Too many tries. Wait 10 minutes." in page.text


async def test_organiser_gives_a_personal_number_and_is_told_of_another_person(bank):
    olle = bank.portal.browser()
    await bank.portal.sign_in(olle, "olle@sluss.test")
    await olle.get("/meetings/new")
    assert "Without one, anybody can open it who has the link and a BankID in the same name." in olle.page.text
    typed = {
        "title": "Plan",
        "participant_name": ["Bo Ek", "", ""],
        "participant_email": ["bo@example.org", "", ""],
        "participant_mobile": ["070-174 06 06", "", ""],
        "participant_label": ["", "", ""],
    }
    await olle.submit("/meetings/new", **typed, participant_personal_number=["500118-2045", "", ""])
    assert olle.page.status == 422
    assert "Write a personal number such as" in olle.page.text
    await olle.submit("/meetings/new", **typed, participant_personal_number=["19500118-2046", "", ""])
    assert "You have given a personal number" in olle.page.text
    assert not re.search("0118-?2046", olle.page.html)
    place = olle.page.path
    link = await bank.portal.link(type("Bo", (), {"email": "bo@example.org"}))
    bank.world.sql("UPDATE meetings SET sensitivity = 'confidential'")
    bank.double.story = [ANNA_SIGNS]
    wrong = bank.portal.browser()
    await collect(bank, wrong, await begin(bank, wrong, link))
    page = await olle.get(place)
    assert re.search(r"Somebody else tried with this link 4 May 2026 10:\d\d, and was refused\.", page.text)


async def test_without_bankid_there_is_no_page_button_or_field(portal, organiser, link):
    for path in (f"{link}/bankid", f"{link}/bankid/qr", "/bankid/x"):
        assert (await portal.browser().get(path)).status == 404
    assert "BankID" not in (await portal.browser().get(link)).text
    assert "Personal number" not in (await organiser.get("/meetings/new")).text
