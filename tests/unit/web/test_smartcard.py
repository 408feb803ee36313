"""The smart card's way: to the name that asks for it and back. All is real but nginx, whose part is played."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from urllib.parse import quote, urlsplit

import pytest
from aiohttp.test_utils import TestClient, TestServer
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from tests.unit.certificates import ON_A_CARD, Authority, account
from tests.unit.web.browser import PORTAL, Browser
from tests.unit.web.conftest import ANNA, BENGT
from tests.unit.world import build

from sluss.domain.limits import CARD_BROWSER
from sluss.factors.smartcard import VERIFIED, CardRules
from sluss.web import make_cards
from sluss.web.context import SETTINGS

CARDS = "https://card.sluss.test"
NONE_THAT_COUNTS = "No card that counts here was shown."
TOO_LATE = "It took more than five minutes, or you began in another browser."
NOT_THEIRS = "This card does not open this link."
BUDGET = "Closing the Gävle plant"


@pytest.fixture
def authority(tmp_path):
    (tmp_path / "ca").mkdir()
    return Authority(tmp_path / "ca")


@pytest.fixture
async def world(tmp_path, authority):
    rules = CardRules(authority.file, frozenset({ON_A_CARD}))
    async with build(tmp_path, durable=False, cards=rules) as built:
        yield built


@pytest.fixture
async def portal(make, world):
    """The portal; its clock is right, as certificates are good for a day from now."""
    made = await make(card_origin=CARDS)
    world.clock.now = datetime.now(UTC).replace(microsecond=0)
    return made


@pytest.fixture
async def reader(portal):
    """The name that asks for cards, as nginx reaches it."""
    app = make_cards(portal.services, portal.client.app[SETTINGS])
    async with TestClient(TestServer(app, access_log=None)) as client:
        yield client


@pytest.fixture
def card(authority):
    """`card("Anna", "anna@example.org")` is what nginx passes on of a new card."""

    def make(name: str, *addresses: str, **options) -> str:
        names = [x509.RFC822Name(one) for one in addresses]
        made, _ = authority.card(name, *names, account(f"{name}@corp".lower()), **options)
        return made.public_bytes(Encoding.PEM).decode()

    return make


@pytest.fixture
def colleague(portal, reader, card) -> Browser:
    """Anna's browser, card and reader."""
    browser = portal.browser()
    browser.reader, browser.card = reader, card("Anna", ANNA.email)
    return browser


async def set_out(browser: Browser, action: str) -> str:
    """Press the button; the handle that the page has."""
    page = await browser.submit(action)
    return re.search(rf'href="{CARDS}/card/([\w-]{{43}})"', page.html)[1]


async def show(browser: Browser, handle: str, pem: str = "", verdict: str = VERIFIED, **headers: str) -> str:
    """What nginx asks when somebody shows a card; the path on the portal that the answer leads to."""
    told = {"X-Card-Verdict": verdict, "X-Card-Certificate": quote(pem), "X-Forwarded-For": "192.0.2.7"} | headers
    async with browser.reader.get(f"/card/{handle}", headers=told, allow_redirects=False) as answer:
        assert answer.status == 303
        assert "Set-Cookie" not in answer.headers
        where = urlsplit(answer.headers["Location"])
        assert f"{where.scheme}://{where.netloc}" == PORTAL
        return where.path


async def see(browser: Browser, link: str, pem: str, *, join: bool = False, **told):
    await browser.get(link)
    handle = await set_out(browser, f"{link}/join/card" if join else f"{link}/card")
    return await browser.get(await show(browser, handle, pem, **told))


def audited(portal, outcome: str = "refused") -> list[dict]:
    """The verifications that ended so."""
    entries = [json.loads(row["entry"]) for row in portal.world.sql("SELECT entry FROM audit ORDER BY seq")]
    return [one for one in entries if one["action"] == "verified" and one["outcome"] == outcome]


def reasons(portal) -> list[str]:
    return [one["details"]["reason"] for one in audited(portal)]


# The way through


@pytest.mark.parametrize("sensitivity", ["internal", "confidential", "secret"])
async def test_colleague_sees_and_enters_by_card(portal, colleague, link, sensitivity):
    portal.world.sql("UPDATE meetings SET sensitivity = ?", sensitivity)
    page = await see(colleague, link, colleague.card)
    assert (page.path, BUDGET in page.text) == (link, True)
    page = await see(colleague, link, colleague.card, join=True)
    assert page.path == f"{link}/room"
    found = portal.world.sql("SELECT purpose, method FROM verifications ORDER BY purpose")
    assert [tuple(row.values()) for row in found] == [("join", "smartcard"), ("view", "smartcard")]
    assert {one["assurance"] for one in audited(portal, "done")} == {"urn:sluss:acr:aal3"}


async def test_pages_speak_swedish_to_whoever_reads_it(portal, colleague, link, card):
    browser = portal.browser("sv")
    browser.reader = colleague.reader
    assert "Använd ditt kort" in (await browser.get(link)).html
    handle = await set_out(browser, f"{link}/card")
    assert "Sätt kortet i läsaren." in browser.page.text
    page = await browser.get(await show(browser, handle, verdict="NONE"))
    assert "Inget kort som gäller här visades." in page.text
    assert "Det här kortet öppnar inte länken." in (await see(browser, link, card("Bo", BENGT.email))).text


async def test_new_card_of_the_same_person_enters_where_the_old_one_saw(colleague, link, card):
    await see(colleague, link, colleague.card)
    page = await see(colleague, link, card("Anna", ANNA.email), join=True)
    assert page.path == f"{link}/room"


async def test_link_is_on_neither_side_of_the_way(colleague, link):
    await colleague.get(link)
    handle = await set_out(colleague, f"{link}/card")
    secret = link.removeprefix("/i/")
    assert secret not in handle
    assert secret not in await show(colleague, handle, verdict="NONE")


async def test_every_link_offers_it_and_leads_to_the_same_page(portal, colleague, link):
    portal.world.sql("UPDATE meetings SET sensitivity = 'secret'")
    pages = []
    for path in (link, "/i/none-such"):
        colleague.page = await colleague.ask("GET", link)  # its form, whatever the wrong link's class would be
        form = colleague.page.form(f"{link}/card")
        colleague.page.forms.append(type(form)(f"{path}/card", form.fields))
        await set_out(colleague, f"{path}/card")
        pages.append(re.sub(r"/card/[\w-]{43}|[0-9a-f]{64}", "", colleague.page.html.replace(path, "/i/-")))
    assert pages[0] == pages[1]


# Who is refused


async def test_wrong_link_withdrawn_link_and_other_persons_card_are_refused_in_the_same_words(
    portal, colleague, link, card
):
    bos, pages = card("Bo", BENGT.email), []
    await colleague.get(link)
    form = colleague.page.form(f"{link}/card")
    for path, pem, state in (
        ("/i/none-such", colleague.card, "live"),
        (link, bos, "live"),
        (link, colleague.card, "withdrawn"),
    ):
        portal.world.sql("UPDATE invitations SET state = ?", state)
        form.action = f"{path}/card"
        await colleague.get(link)
        colleague.page.forms.append(form)
        form.fields = [("csrf", colleague.page.csrf)]
        page = await colleague.get(await show(colleague, await set_out(colleague, form.action), pem))
        pages.append((page.status, page.words))
    assert {status for status, _ in pages} == {403}
    assert len({text for _, text in pages}) == 1
    assert NOT_THEIRS in pages[0][1]
    assert [one["details"].get("told") for one in audited(portal)] == [None, "other_person", None]
    assert not portal.world.sql("SELECT * FROM verifications")


async def test_organiser_is_told_of_another_persons_card_and_of_no_card_not(portal, organiser, colleague, link, card):
    (meeting,) = portal.world.sql("SELECT id FROM meetings")
    for pem, told in (("", False), (card("Bo", BENGT.email), True)):
        await see(colleague, link, pem)
        page = await organiser.get(f"/meetings/{meeting['id']}")
        assert ("Somebody else tried with this link" in page.text) is told
    assert reasons(portal)[1] == "card of another person"


async def test_certificate_in_a_file_opens_nothing_and_the_organiser_is_told_whose_it_is(
    portal, organiser, colleague, link, card
):
    (meeting,) = portal.world.sql("SELECT id FROM meetings")
    pages = []
    for name, address, said in (
        ("Bo", BENGT.email, "Somebody else tried with this link"),
        ("Anna", ANNA.email, "Somebody proved to be this person"),
    ):
        assert said not in (await organiser.get(f"/meetings/{meeting['id']}")).text
        page = await see(colleague, link, card(name, address, policies=()))
        pages.append((page.status, page.words))
        assert said in (await organiser.get(f"/meetings/{meeting['id']}")).text
    assert pages[0] == pages[1]
    assert NONE_THAT_COUNTS in pages[0][1]
    assert reasons(portal) == ["certificate: of no policy that says that its key is on a card"] * 2
    assert [one["details"]["told"] for one in audited(portal)] == ["other_person", "too_weak"]
    assert not portal.world.sql("SELECT * FROM verifications")


async def test_another_person_with_the_same_address_cannot_enter_for_who_saw(portal, colleague, link, card):
    await see(colleague, link, colleague.card)
    page = await see(colleague, link, card("Bo", ANNA.email), join=True)
    assert (page.status, NOT_THEIRS in page.text) == (403, True)
    assert reasons(portal) == ["not the person who saw the invitation"]


async def test_who_saw_by_sms_does_not_enter_by_card(portal, colleague, link):
    portal.world.clock.forward(seconds=31)
    await colleague.get(link)
    form = colleague.page.form(f"{link}/card")
    await portal.verify(colleague, link)
    form.action, form.fields = f"{link}/join/card", [("csrf", colleague.page.csrf)]
    colleague.page.forms.append(form)
    page = await colleague.get(await show(colleague, await set_out(colleague, form.action), colleague.card))
    assert page.status == 403
    assert reasons(portal) == ["not the person who saw the invitation"]


REFUSED = [
    ("NONE", "nginx: NONE"),
    ("FAILED:certificate revoked", "nginx: FAILED:certificate revoked"),
    ("FAILED:certificate has expired", "nginx: FAILED:certificate has expired"),
    ("", "nginx: no verdict"),
]


@pytest.mark.parametrize(("verdict", "reason"), REFUSED)
async def test_card_that_nginx_refuses_opens_nothing_and_is_on_record(portal, colleague, link, verdict, reason):
    page = await see(colleague, link, colleague.card, verdict=verdict)
    assert (page.status, NONE_THAT_COUNTS in page.text) == (403, True)
    assert reasons(portal) == [reason]
    assert audited(portal)[0]["subject"].startswith("invitation:")
    assert not portal.world.sql("SELECT * FROM verifications")
    page = await see(colleague, link, colleague.card)  # and tries again
    assert BUDGET in page.text


@pytest.mark.parametrize("changed", [{"policies": ()}, {"purposes": None}, {"hours": -1}], ids=str)
async def test_card_that_nginx_takes_and_the_bridge_does_not_opens_nothing(portal, colleague, link, card, changed):
    page = await see(colleague, link, card("Anna", ANNA.email, **changed))
    assert (page.status, NONE_THAT_COUNTS in page.text) == (403, True)
    assert reasons(portal)[0].startswith("certificate: ")


async def test_class_that_takes_no_card_is_not_opened_by_one(portal, colleague, link):
    await colleague.get(link)
    form = colleague.page.form(f"{link}/card")
    rules = portal.world.ground.policy.classes["internal"].view
    portal.world.change_class(view=type(rules)(tuple(m for m in rules.methods if m != "smartcard"), rules.fresh))
    page = await colleague.get(link)
    assert f"{link}/card" not in [one.action for one in page.forms]
    page.forms.append(form)
    page = await colleague.get(await show(colleague, await set_out(colleague, f"{link}/card"), colleague.card))
    assert (page.status, NOT_THEIRS in page.text) == (403, True)
    assert reasons(portal) == ["method not accepted for this class"]


# Handles and codes


async def test_handle_works_once(portal, colleague, link):
    await colleague.get(link)
    handle = await set_out(colleague, f"{link}/card")
    await show(colleague, handle, verdict="NONE")
    assert await show(colleague, handle, colleague.card) == "/card/-"
    assert TOO_LATE in (await colleague.get("/card/-")).text


async def test_made_up_handles_and_codes_leave_nothing_on_record(portal, colleague):
    await show(colleague, "A" * 43, colleague.card)
    await colleague.get("/card/" + "A" * 43)
    assert reasons(portal) == []  # anybody can send them without end, and the audit log is for ever


async def test_code_works_once(colleague, link):
    await colleague.get(link)
    back = await show(colleague, await set_out(colleague, f"{link}/card"), colleague.card)
    assert BUDGET in (await colleague.get(back)).text
    page = await colleague.get(back)
    assert (page.status, TOO_LATE in page.text, BUDGET in page.text) == (403, True, False)


async def test_handle_is_no_code_and_code_is_no_handle(colleague, link):
    await colleague.get(link)
    handle = await set_out(colleague, f"{link}/card")
    assert (await colleague.get(f"/card/{handle}")).status == 403
    back = await show(colleague, handle, colleague.card)
    assert await show(colleague, back.removeprefix("/card/"), colleague.card) == "/card/-"
    assert BUDGET in (await colleague.get(back)).text


async def test_who_is_led_to_show_a_card_for_another_browser_opens_nothing_for_it(portal, colleague, link):
    """Somebody with Anna's link sets out, and sends her where the handle leads. She shows her card there."""
    thief, anna = colleague, portal.browser()
    await thief.get(link)
    handle = await set_out(thief, f"{link}/card")
    back = await show(colleague, handle, colleague.card)
    page = await anna.get(back)
    assert (page.status, BUDGET in page.text) == (403, False)
    assert reasons(portal) == ["another browser set out"]
    assert audited(portal)[0]["subject"].startswith("invitation:")
    for path in (f"/card/{handle}", back):
        assert (await thief.get(path)).status == 403
    assert BUDGET not in (await thief.get(link)).text
    assert not portal.world.sql("SELECT * FROM verifications")


@pytest.mark.parametrize(("before", "between"), [(301, 0), (150, 151)])
async def test_five_minutes_after_the_button_it_is_too_late(portal, colleague, link, before, between):
    await colleague.get(link)
    handle = await set_out(colleague, f"{link}/card")
    portal.world.clock.forward(seconds=before)
    back = await show(colleague, handle, colleague.card)
    assert (back == "/card/-") == (before > 300)
    portal.world.clock.forward(seconds=between)
    page = await colleague.get(back)
    assert (page.status, BUDGET in page.text) == (403, False)
    assert "too old" in reasons(portal)[-1]


async def test_a_little_before_it_is_not(portal, colleague, link):
    await colleague.get(link)
    handle = await set_out(colleague, f"{link}/card")
    portal.world.clock.forward(seconds=150)
    back = await show(colleague, handle, colleague.card)
    portal.world.clock.forward(seconds=149)
    assert BUDGET in (await colleague.get(back)).text


async def test_what_enters_ages_from_when_the_card_was_there(portal, colleague, link):
    await see(colleague, link, colleague.card)
    await colleague.get(link)
    back = await show(colleague, await set_out(colleague, f"{link}/join/card"), colleague.card)
    portal.world.clock.forward(seconds=290)
    page = await colleague.get(back)
    assert page.path == f"{link}/room"
    portal.world.clock.forward(seconds=11)
    ask = {"X_CSRF_Token": page.csrf, "Accept": "application/json"}
    assert (await colleague.ask("POST", f"{link}/ticket", **ask)).status == 403


async def test_card_for_seeing_does_not_enter(portal, colleague, link):
    await see(colleague, link, colleague.card)
    ask = {"X_CSRF_Token": colleague.page.csrf, "Accept": "application/json"}
    assert (await colleague.ask("POST", f"{link}/ticket", **ask)).status == 403


async def test_portal_believes_no_header(portal, colleague, link):
    """What nginx says to the other listener counts there alone."""
    await colleague.get(link)
    handle = await set_out(colleague, f"{link}/card")
    forged = {"X_Card_Verdict": VERIFIED, "X_Card_Certificate": quote(colleague.card)}
    for path in (f"/card/{handle}", "/card/-", link):
        page = await colleague.ask("GET", path, **forged)
        assert BUDGET not in page.html
    assert not portal.world.sql("SELECT * FROM verifications")


async def test_name_that_asks_for_cards_has_nothing_else(reader):
    for method, path in (("GET", "/"), ("GET", "/sign-in"), ("GET", "/static/sluss.css"), ("GET", "/card/a/b")):
        async with reader.request(method, path, allow_redirects=False) as answer:
            assert answer.status == 404
    for method in ("POST", "HEAD", "PUT"):
        async with reader.request(method, "/card/x", allow_redirects=False) as answer:
            assert answer.status == 405


async def test_opening_anything_uses_nothing_up(portal, colleague, link):
    await colleague.get(link)
    await colleague.get("/card/-")
    assert not portal.world.sql("SELECT * FROM sign_ins")


async def test_setting_out_again_and_again_has_to_wait(colleague, link):
    await colleague.get(link)
    for _ in range(CARD_BROWSER.many):
        await colleague.get(link)
        await set_out(colleague, f"{link}/card")
    await colleague.get(link)
    page = await colleague.submit(f"{link}/card")
    assert (page.status, "Too many tries." in page.text) == (429, True)


async def test_what_is_kept_meanwhile_names_nobody(portal, colleague, link):
    await colleague.get(link)
    handle = await set_out(colleague, f"{link}/card")
    code = (await show(colleague, handle, colleague.card)).removeprefix("/card/")
    (row,) = portal.world.sql("SELECT * FROM sign_ins")
    for secret in (handle, code, link.removeprefix("/i/"), ANNA.email, "Anna"):
        assert secret.encode() not in b"".join(str(v).encode() if not isinstance(v, bytes) else v for v in row.values())
    portal.world.clock.forward(minutes=21)
    await portal.world.housekeeping.tick()
    assert not portal.world.sql("SELECT * FROM sign_ins")


async def test_log_has_no_handle_code_or_name(portal, colleague, link, capsys):
    await colleague.get(link)
    handle = await set_out(colleague, f"{link}/card")
    back = await show(colleague, handle, colleague.card)
    await colleague.get(back)
    logged = "".join(capsys.readouterr())
    for secret in (handle, back.removeprefix("/card/"), link.removeprefix("/i/"), ANNA.email):
        assert secret not in logged
