"""The organisation's own sign-in: who it lets in, and everything that a provider or a browser can get wrong."""

from __future__ import annotations

import base64
import json
import re
from html import unescape
from urllib.parse import parse_qs, urlsplit

import aiohttp
import pytest
from aiohttp.test_utils import unused_port
from cryptography.hazmat.primitives.asymmetric import rsa
from tests.doubles.openid import double
from tests.unit.web.browser import PORTAL, Browser
from tests.unit.web.conftest import ANNA, BENGT, OLLE
from tests.unit.world import Clock, build

from sluss.delivery.provider import HttpsAsker
from sluss.domain.accounts import AccountRole
from sluss.domain.assurance import Method
from sluss.domain.errors import Told
from sluss.factors.sign_in import Provider, ProviderSettings, same_address

LEVELS = {"mfa": Method.SIGN_IN, "hwk": Method.SIGN_IN_HIGH, "urn:high": Method.SIGN_IN_HIGH}
OF_ANNA = {"sub": "a-1", "email": ANNA.email, "email_verified": True, "amr": ["pwd", "mfa"]}
OF_BENGT = {"sub": "b-2", "email": BENGT.email, "email_verified": True, "amr": ["pwd", "mfa"]}
OF_OLLE = {"sub": "o-3", "email": OLLE, "email_verified": True, "amr": ["pwd", "mfa"], "name": "Olle Ö", "sid": "s-1"}
FAILED = "The sign-in did not succeed. Start again."
NOT_THEIRS = "This sign-in does not open it."
AWAY = "The organisation's sign-in is not answering."


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
async def idp(tmp_path, clock):
    """The double, with the settings that our side has of it."""
    async with double.running(tmp_path, clock) as (found, trust):
        found.trust = trust
        found.person = OF_ANNA
        found.settings = {"levels": LEVELS, "acr_values": ("mfa", "urn:high")}
        yield found


@pytest.fixture
async def world(tmp_path, clock, idp, request):
    """An installation with a provider; `pytest.mark.provider(…)` says what its settings are besides."""
    more = idp.settings | next((mark.kwargs for mark in request.node.iter_markers("provider")), {})
    given = ProviderSettings(idp.issuer, double.CLIENT, double.SECRET, f"{PORTAL}/sign-in/back", **more)
    async with aiohttp.ClientSession() as client:
        idp.provider = Provider(given, HttpsAsker(client, idp.trust))
        async with build(tmp_path, durable=False, provider=idp.provider, clock=clock) as built:
            yield built


@pytest.fixture
async def colleague(portal) -> Browser:
    return portal.browser()


def onward(browser: Browser) -> str:
    """Where the page leads by itself."""
    assert browser.page.status == 200, browser.page.text
    return unescape(re.search(r'http-equiv="refresh" content="0; url=([^"]+)"', browser.page.html)[1])


async def go(browser: Browser, action: str, **fields) -> str:
    """Press the button that leads to the provider. Its address with the request in it."""
    await browser.submit(action, **fields)
    return onward(browser)


async def come(browser: Browser, idp, address: str, **person):
    """Sign in there and come back."""
    url = urlsplit(idp.sign_in(address, **person))
    return await browser.get(f"{url.path}?{url.query}")


async def see(browser: Browser, idp, link: str, **person):
    await browser.get(link)
    return await come(browser, idp, await go(browser, f"{link}/sign-in"), **person)


async def enter(browser: Browser, idp, link: str, **person):
    await browser.get(link)
    return await come(browser, idp, await go(browser, f"{link}/join/sign-in"), **person)


def audited(portal, outcome: str = "refused") -> list[str]:
    """Why, of the verifications and sign-ins that ended so."""
    entries = [json.loads(row["entry"]) for row in portal.world.sql("SELECT entry FROM audit ORDER BY seq")]
    asked = ("verified", "signed-in")
    return [one["details"].get("reason", "") for one in entries if one["action"] in asked and one["outcome"] == outcome]


# The way through


async def test_colleague_sees_and_enters_by_the_organisations_sign_in(portal, colleague, idp, link):
    page = await see(colleague, idp, link)
    assert page.path == link
    assert "Closing the Gävle plant" in page.text
    page = await enter(colleague, idp, link)
    assert page.path == f"{link}/room"
    ask = {"X_CSRF_Token": page.csrf, "Accept": "application/json"}
    assert (await colleague.ask("POST", f"{link}/ticket", **ask)).status == 200
    found = portal.world.sql("SELECT purpose, method FROM verifications ORDER BY purpose")
    assert [tuple(row.values()) for row in found] == [("join", "sign_in"), ("view", "sign_in")]


async def test_page_speaks_swedish_to_whoever_reads_it(portal, idp, link):
    browser = portal.browser("sv")
    assert "Logga in hos Gävle Ltd" in (await browser.get(link)).html
    address = await go(browser, f"{link}/sign-in")
    assert "Till inloggningen" in browser.page.text
    assert parse_qs(urlsplit(address).query)["ui_locales"] == ["sv"]
    page = await come(browser, idp, address, amr=["pwd"])
    assert "bara med en faktor" in page.text


async def test_request_has_pkce_and_new_secrets_and_neither_link_nor_purpose(colleague, idp, link):
    asked = []
    for _ in range(2):
        await colleague.get(link)
        address = await go(colleague, f"{link}/sign-in")
        assert link.removeprefix("/i/") not in address
        asked.append({name: values[0] for name, values in parse_qs(urlsplit(address).query).items()})
    first, second = asked
    for name in ("state", "nonce", "code_challenge"):
        assert len(first[name]) >= 43
        assert first[name] != second[name]
    assert first["code_challenge_method"] == "S256"
    assert first["redirect_uri"] == f"{PORTAL}/sign-in/back"
    assert first["max_age"] == str(12 * 3600)
    assert "prompt" not in first


async def test_who_enters_signs_in_again_and_within_what_the_class_calls_fresh(colleague, idp, link):
    await see(colleague, idp, link)
    address = await go(colleague, f"{link}/join/sign-in")
    asked = parse_qs(urlsplit(address).query)
    assert (asked["prompt"], asked["max_age"]) == (["login"], ["300"])


async def test_class_that_wants_the_high_level_asks_for_it_and_takes_nothing_less(portal, colleague, idp, link):
    portal.world.sql("UPDATE meetings SET sensitivity = 'secret'")
    await colleague.get(link)
    address = await go(colleague, f"{link}/sign-in")
    assert parse_qs(urlsplit(address).query)["acr_values"] == ["urn:high"]
    page = await come(colleague, idp, address)
    assert (page.status, NOT_THEIRS in page.text) == (403, True)
    assert audited(portal) == ["method not accepted for this class"]
    assert portal.world.told() == {Told.TOO_WEAK}
    assert "Closing the Gävle plant" in (await see(colleague, idp, link, acr="urn:high")).text


async def test_strongest_of_what_is_said_counts(portal, colleague, idp, link):
    await see(colleague, idp, link, amr=["mfa", "hwk"])
    assert portal.world.sql("SELECT method FROM verifications")[0]["method"] == "sign_in_high"


async def test_every_link_offers_it_and_leads_to_the_same_page(colleague, idp, link):
    pages = []
    for path in (link, "/i/none-such"):
        await colleague.get(path)
        await go(colleague, f"{path}/sign-in")
        text = colleague.page.html.replace(path, "/i/-")
        pages.append(re.sub(r"(state|nonce|code_challenge)=[\w-]+|value=\"[0-9a-f]{64}\"", "", text))
    assert pages[0] == pages[1]


async def test_one_button_for_both_levels(colleague, link):
    page = await colleague.get(link)
    assert [form.action for form in page.forms].count(f"{link}/sign-in") == 1


async def test_wrong_link_withdrawn_link_and_other_persons_account_are_refused_in_the_same_words(
    portal, colleague, idp, link
):
    pages = []
    for path, person, state in (
        ("/i/none-such", OF_ANNA, "live"),
        (link, OF_BENGT, "live"),
        (link, OF_ANNA, "withdrawn"),
    ):
        portal.world.sql("UPDATE invitations SET state = ?", state)
        page = await see(colleague, idp, path, **person)
        pages.append((page.status, page.words))
    assert {status for status, _ in pages} == {403}
    assert len({text for _, text in pages}) == 1
    assert not portal.world.sql("SELECT * FROM verifications")


async def test_other_persons_account_is_on_record_for_the_organiser(portal, organiser, colleague, idp, link):
    (meeting,) = portal.world.sql("SELECT id FROM meetings")
    for person, told in ((OF_BENGT | {"email_verified": False}, False), (OF_BENGT, True)):
        await see(colleague, idp, link, **person)
        page = await organiser.get(f"/meetings/{meeting['id']}")
        assert ("Somebody else tried with this link" in page.text) is told
    assert audited(portal) == ["not the invited person's account"] * 2


async def test_another_account_with_the_same_address_cannot_enter_for_who_saw_the_invitation(colleague, idp, link):
    await see(colleague, idp, link)
    page = await enter(colleague, idp, link, sub="somebody-else")
    assert (page.status, NOT_THEIRS in page.text) == (403, True)


@pytest.mark.parametrize("verified", [False, None, "true", 1])
async def test_address_that_the_provider_does_not_vouch_for_opens_nothing(portal, colleague, idp, link, verified):
    idp.claims = {"email_verified": verified}
    idp.userinfo = {"sub": "a-1"}
    assert NOT_THEIRS in (await see(colleague, idp, link)).text
    assert not portal.world.sql("SELECT * FROM verifications")


@pytest.mark.provider(email_claim="upn", email_trusted=True)
async def test_claim_that_the_organisation_trusts_counts_without_email_verified(colleague, idp, link):
    idp.claims = {"email": None, "email_verified": None, "upn": "ANNA@Example.org"}
    assert "Closing the Gävle plant" in (await see(colleague, idp, link)).text


@pytest.mark.provider(email_claim="upn")
async def test_email_verified_vouches_for_no_other_claim(colleague, idp, link):
    idp.claims = {"email": "b@example.org", "upn": ANNA.email}
    idp.userinfo = {"sub": "a-1"}
    assert NOT_THEIRS in (await see(colleague, idp, link)).text


def test_addresses_are_equal_but_for_case_and_the_way_a_letter_is_written():
    assert same_address("Åsa@Example.ORG", "a\u030asa@example.org".replace("a\u030a", "A\u030a", 1))
    assert not same_address("strasse@example.org", "stra\u00dfe@example.org")
    assert not same_address("\uff41nna@example.org", "anna@example.org")
    assert not same_address("\u017fara@example.org", "sara@example.org")
    assert not same_address("", "")


async def test_what_the_provider_tells_only_when_asked_is_asked_for(colleague, idp, link):
    idp.claims = {"email": None, "email_verified": None}
    idp.userinfo = {"sub": "a-1", "email": ANNA.email, "email_verified": True}
    assert "Closing the Gävle plant" in (await see(colleague, idp, link)).text


async def test_what_is_told_of_somebody_else_is_refused(colleague, idp, link):
    idp.claims = {"email": None}
    idp.userinfo = {"sub": "b-2", "email": ANNA.email, "email_verified": True}
    assert FAILED in (await see(colleague, idp, link)).text


# What a provider, or somebody between, gets wrong


async def test_missing_second_factor_is_refused_in_plain_words(portal, colleague, idp, link):
    page = await see(colleague, idp, link, amr=["pwd"])
    assert page.status == 403
    assert "You signed in with one factor only." in page.text
    assert audited(portal) == ["no second factor that is known"]


WEAK = {
    "en": "Somebody proved to be this person 15 Oct 2026 12:00 in a way that is not accepted for this meeting, and",
    "sv": "Någon legitimerade sig som den här personen 15 okt. 2026 12:00 på ett sätt som inte godtas för det här",
}


@pytest.mark.parametrize("language", ["en", "sv"])
async def test_organiser_is_told_of_the_right_persons_sign_in_with_one_factor(portal, colleague, idp, link, language):
    (meeting,) = portal.world.sql("SELECT id FROM meetings")
    olle = portal.browser(language)
    await portal.sign_in(olle, "other@sluss.test")
    portal.world.sql("UPDATE meetings SET organiser_id = (SELECT id FROM organisers ORDER BY rowid DESC)")
    for amr in (["pwd"], ["pwd", "unknown"]):
        portal.world.sql("UPDATE invitations SET too_weak_at = NULL")
        assert WEAK[language] not in (await olle.get(f"/meetings/{meeting['id']}")).text
        await see(colleague, idp, link, amr=amr)
        assert WEAK[language] in (await olle.get(f"/meetings/{meeting['id']}")).text


async def test_sign_in_with_one_factor_is_refused_in_the_same_words_whoever_it_is(portal, colleague, idp, link):
    pages = []
    for person, told in (
        (OF_ANNA | {"email_verified": False}, set()),
        (OF_BENGT, {Told.OTHER_PERSON}),
        (OF_ANNA, {Told.OTHER_PERSON, Told.TOO_WEAK}),
    ):
        page = await see(colleague, idp, link, **person | {"amr": ["pwd"]})
        pages.append((page.status, page.words))
        assert portal.world.told() == told
    assert pages[0] == pages[1] == pages[2]


async def test_nobody_is_told_of_a_sign_in_that_the_provider_did_not_vouch_for(portal, colleague, idp, link):
    idp.claims = {"nonce": "another"}
    await see(colleague, idp, link, amr=["pwd"])
    assert portal.world.told() == set()


@pytest.mark.parametrize("path", ["sign-in", "join/sign-in"])
async def test_who_was_refused_signs_in_anew_and_is_not_given_the_same_sign_in_again(colleague, idp, link, path):
    await see(colleague, idp, link)
    other = Browser(colleague.client)
    await see(other, idp, link) if path == "join/sign-in" else await other.get(link)
    page = await come(other, idp, await go(other, f"{link}/{path}"), amr=["pwd"])
    assert page.forms[0].action == f"{link}/{path}"
    address = await go(other, f"{link}/{path}")
    assert parse_qs(urlsplit(address).query)["prompt"] == ["login"]
    assert (await come(other, idp, address)).status == 200


WRONG_TOKENS = {
    "another audience": {"aud": "another"},
    "a further audience": {"aud": [double.CLIENT, "another"], "azp": double.CLIENT},
    "another party": {"azp": "another"},
    "no audience": {"aud": None},
    "another issuer": {"iss": "https://evil.test"},
    "another nonce": {"nonce": "another"},
    "no nonce": {"nonce": None},
    "no subject": {"sub": None},
    "no expiry": {"exp": None},
    "no time": {"iat": None},
    "expiry as text": {"exp": "9999999999"},
    "no auth_time": {"auth_time": None},
    "auth_time as text": {"auth_time": "1"},
    "no time that can be": {"iat": 10**400},
}


@pytest.mark.parametrize("claims", WRONG_TOKENS.values(), ids=WRONG_TOKENS)
async def test_token_that_is_not_for_this_attempt_is_refused(portal, colleague, idp, link, claims):
    idp.claims = claims
    page = await see(colleague, idp, link)
    assert (page.status, FAILED in page.text) == (403, True)
    assert not portal.world.sql("SELECT * FROM verifications")
    assert len(audited(portal)) == 1


@pytest.mark.parametrize(
    ("claim", "ago"), [("exp", 31), ("iat", 631), ("iat", -31), ("auth_time", 12 * 3600 + 1), ("auth_time", -31)]
)
async def test_token_of_another_time_is_refused(colleague, idp, link, claim, ago):
    idp.claims = {claim: idp.now() - ago}
    assert FAILED in (await see(colleague, idp, link)).text


async def test_stale_sign_in_does_not_enter(portal, colleague, idp, link):
    await see(colleague, idp, link)
    idp.claims = {"auth_time": idp.now() - 301}
    page = await enter(colleague, idp, link)
    assert (page.status, FAILED in page.text) == (403, True)
    assert audited(portal) == ["ID token: signed in too long ago"]


async def test_entering_is_as_fresh_as_the_sign_in_and_not_as_the_coming_back(portal, colleague, idp, link):
    await see(colleague, idp, link)
    idp.claims = {"auth_time": idp.now() - 240}
    page = await enter(colleague, idp, link)
    assert page.path == f"{link}/room"
    portal.world.clock.forward(seconds=61)
    ask = {"X_CSRF_Token": page.csrf, "Accept": "application/json"}
    assert (await colleague.ask("POST", f"{link}/ticket", **ask)).status == 403


@pytest.mark.parametrize("algorithm", ["none", "HS256", "RS512", "RS384"])
async def test_signature_that_is_not_accepted_is_refused(colleague, idp, link, algorithm):
    idp.algorithm = algorithm
    assert FAILED in (await see(colleague, idp, link)).text


async def test_hs256_with_the_client_secret_is_refused(colleague, idp, link):
    idp.algorithm, idp.key = "HS256", double.SECRET.encode()
    assert FAILED in (await see(colleague, idp, link)).text


@pytest.mark.parametrize("algorithm", ["PS256", "ES256"])
async def test_other_good_signatures_are_taken(colleague, idp, link, algorithm):
    idp.algorithm = algorithm
    if algorithm == "ES256":
        idp.key = double.elliptic()
        idp.keys = [double.as_jwk(double.PRIVATE, "k0"), double.as_jwk(idp.key, "k1")]
    assert "Closing the Gävle plant" in (await see(colleague, idp, link)).text


async def test_foreign_key_is_refused_wherever_the_header_says_that_it_is(colleague, idp, link):
    idp.key = rsa.generate_private_key(65537, 2048)
    for header in ({"kid": "k1"}, {"kid": "k2"}, {}, {"kid": "k1", "jwk": double.as_jwk(idp.key, "k1")}):
        idp.header = header
        assert FAILED in (await see(colleague, idp, link)).text


@pytest.mark.filterwarnings("ignore::jwt.warnings.InsecureKeyLengthWarning")
async def test_weak_key_is_refused(colleague, idp, link):
    idp.key = rsa.generate_private_key(65537, 1024)  # noqa: S505
    idp.keys = [double.as_jwk(idp.key, "k1")]
    assert FAILED in (await see(colleague, idp, link)).text


async def test_new_key_is_fetched_once_it_is_met_and_not_more_than_once_a_minute(portal, colleague, idp, link):
    await see(colleague, idp, link)
    idp.key = rsa.generate_private_key(65537, 2048)
    idp.keys, idp.header = [double.as_jwk(idp.key, "k2")], {"kid": "k2"}
    assert FAILED in (await see(portal.browser(), idp, link)).text
    assert idp.asked.count("/jwks") == 1
    portal.world.clock.forward(seconds=61)
    assert "Closing the Gävle plant" in (await see(portal.browser(), idp, link)).text
    assert idp.asked.count("/jwks") == 2


async def test_answer_of_another_issuer_is_refused_before_the_code_goes_anywhere(portal, colleague, idp, link):
    for said in ("https://evil.test", None):
        idp.answer = {"iss": said}
        assert FAILED in (await see(colleague, idp, link)).text
    assert "/token" not in idp.asked
    assert audited(portal) == ["the answer is from another issuer"] * 2


async def test_person_who_says_no_there_is_told_to_start_again(portal, colleague, idp, link):
    idp.answer = {"code": None, "error": "access_denied", "error_description": "<script>"}
    page = await see(colleague, idp, link)
    assert FAILED in page.text
    assert "script" not in page.text
    assert audited(portal) == ["the provider answered access_denied"]


async def test_code_of_another_attempt_is_not_taken(portal, colleague, idp, link):
    """Somebody puts a code of their own into another's answer: the verifier does not fit."""
    other = portal.browser()
    await other.get(link)
    theirs = parse_qs(urlsplit(idp.sign_in(await go(other, f"{link}/sign-in"))).query)["code"][0]
    idp.answer = {"code": theirs}
    assert FAILED in (await see(colleague, idp, link)).text
    assert audited(portal) == ["the code was not taken: invalid_grant"]


# State


async def test_answer_is_used_once(portal, colleague, idp, link):
    await colleague.get(link)
    url = urlsplit(idp.sign_in(await go(colleague, f"{link}/sign-in")))
    assert "Closing the Gävle plant" in (await colleague.get(f"{url.path}?{url.query}")).text
    page = await colleague.get(f"{url.path}?{url.query}")
    assert (page.status, FAILED in page.text) == (403, True)
    assert len(portal.world.sql("SELECT * FROM verifications")) == 1


async def test_answer_in_another_browser_opens_nothing_and_uses_nothing_up(portal, colleague, idp, link):
    await colleague.get(link)
    url = urlsplit(idp.sign_in(await go(colleague, f"{link}/sign-in")))
    other = portal.browser()
    await other.get(link)
    assert FAILED in (await other.get(f"{url.path}?{url.query}")).text
    assert "Closing the Gävle plant" in (await colleague.get(f"{url.path}?{url.query}")).text
    assert "This is a personal link" in (await other.get(link)).text


async def test_answer_after_ten_minutes_is_refused(portal, colleague, idp, link):
    await colleague.get(link)
    address = await go(colleague, f"{link}/sign-in")
    portal.world.clock.forward(minutes=10)
    assert FAILED in (await come(colleague, idp, address)).text
    portal.world.clock.forward(minutes=11)
    await portal.world.housekeeping.tick()
    assert not portal.world.sql("SELECT * FROM sign_ins")


@pytest.mark.parametrize("query", ["", "?state=", "?code=a&state=b", "?state=a&state=b&code=c"])
async def test_answer_that_nobody_waits_for_is_refused(colleague, query):
    page = await colleague.get(f"/sign-in/back{query}")
    assert (page.status, FAILED in page.text) == (403, True)


async def test_opening_a_page_goes_nowhere_and_begins_nothing(portal, colleague, idp, link):
    await colleague.get(link)
    assert (await colleague.ask("GET", f"{link}/sign-in")).status == 405
    assert not portal.world.sql("SELECT * FROM sign_ins")
    assert not idp.asked


async def test_what_is_kept_meanwhile_is_sealed_and_no_token_is_kept(portal, colleague, idp, link):
    await colleague.get(link)
    address = await go(colleague, f"{link}/sign-in")
    state = parse_qs(urlsplit(address).query)["state"][0]

    def kept() -> bytes:
        portal.world.sql("PRAGMA wal_checkpoint(TRUNCATE)")
        return portal.world.database.read_bytes()

    for secret in (link.removeprefix("/i/"), state):
        assert secret.encode() not in kept()
    await come(colleague, idp, address)
    for secret in (*idp.tokens, "a-1"):
        assert secret.encode() not in kept()


async def test_going_there_again_and_again_has_to_wait(portal, colleague, link):
    await colleague.get(link)
    for _ in range(20):
        assert (await colleague.submit(f"{link}/sign-in")).status == 200
        await colleague.get(link)
    assert (await colleague.submit(f"{link}/sign-in")).status == 429


# Discovery


@pytest.mark.parametrize("name", ["authorization_endpoint", "token_endpoint", "jwks_uri", "userinfo_endpoint"])
@pytest.mark.parametrize(
    "where",
    ["https://evil.test/x", "http://{host}/x", "file:///etc/passwd", "https://localhost:1/x", "https://[x", None, 7],
)
async def test_discovery_leads_nowhere_else(colleague, idp, link, name, where):
    idp.metadata = {name: where.format(host=urlsplit(idp.issuer).netloc) if isinstance(where, str) else where}
    idp.claims = {"email": None}
    await colleague.get(link)
    await colleague.submit(f"{link}/sign-in")
    if name != "authorization_endpoint":
        await come(colleague, idp, onward(colleague))
    assert (colleague.page.status, AWAY in colleague.page.text) == (503, True)


@pytest.mark.provider(hosts=("login.example.org",))
async def test_host_that_is_listed_may_be_led_to(colleague, idp, link):
    idp.metadata = {"authorization_endpoint": "https://login.example.org/authorize?tenant=1"}
    await colleague.get(link)
    assert (await go(colleague, f"{link}/sign-in")).startswith("https://login.example.org/authorize?tenant=1&")


async def test_discovery_of_another_issuer_is_refused(colleague, idp, link):
    idp.metadata = {"issuer": "https://evil.test"}
    await colleague.get(link)
    assert AWAY in (await colleague.submit(f"{link}/sign-in")).text


@pytest.mark.parametrize("status", [302, 404, 500])
async def test_provider_that_does_not_answer_properly_is_said_to_be_away_and_other_ways_work(
    portal, colleague, idp, link, status
):
    idp.status = status
    await colleague.get(link)
    page = await colleague.submit(f"{link}/sign-in")
    assert (page.status, AWAY in page.text) == (503, True)
    assert "/jwks" not in idp.asked
    await portal.verify(colleague, link)


async def test_provider_that_is_away_is_said_to_be(portal, colleague, idp, link):
    idp.provider._hosts.add(gone := f"localhost:{unused_port()}")
    idp.metadata = {"token_endpoint": f"https://{gone}/token"}
    page = await see(colleague, idp, link)
    assert (page.status, AWAY in page.text) == (503, True)
    await portal.verify(colleague, link)


async def test_discovery_is_believed_for_an_hour(portal, colleague, idp, link):
    for minutes, asked in ((0, 1), (59, 1), (2, 2)):
        portal.world.clock.forward(minutes=minutes)
        await colleague.get(link)
        await go(colleague, f"{link}/sign-in")
        assert idp.asked.count("/.well-known/openid-configuration") == asked


# Organisers


async def signs_in(portal, idp, **person) -> Browser:
    browser = portal.browser()
    await browser.get("/sign-in")
    await come(browser, idp, await go(browser, "/sign-in/provider"), **(OF_OLLE | person))
    return browser


async def test_registered_organiser_signs_in_by_verified_address_and_then_by_account(portal, idp):
    await portal.world.organiser(OLLE)
    before = portal.browser()
    await before.get("/sign-in")
    given = before.cookies["__Host-sluss"]
    await come(before, idp, await go(before, "/sign-in/provider"), **OF_OLLE)
    assert before.page.path == "/"
    assert before.cookies["__Host-sluss"] != given
    assert (await signs_in(portal, idp, email="new.address@example.org")).page.path == "/"


@pytest.mark.parametrize(
    "person",
    [
        {"email": "nobody@sluss.test"},
        {"email_verified": False},
        {"amr": ["pwd"]},
        {"email": "olle@\u017flu\u017f\u017f.test"},
    ],
)
async def test_account_that_is_no_organisers_is_refused_and_recorded(portal, idp, person):
    await portal.world.organiser(OLLE)
    browser = await signs_in(portal, idp, **person)
    assert browser.page.status == 403
    assert (await browser.ask("GET", "/")).headers["Location"] == "/sign-in"
    assert len(audited(portal)) == 1


async def test_address_is_bound_to_the_first_account_that_came_with_it(portal, idp):
    await portal.world.organiser(OLLE)
    await signs_in(portal, idp)
    assert (await signs_in(portal, idp, sub="another")).page.status == 403


GROUPS = {"groups_claim": "groups", "organisers": "meets", "auditors": "audits"}


@pytest.mark.provider(**GROUPS)
async def test_group_makes_an_organiser_or_auditor_at_the_first_sign_in(portal, idp):
    assert (await signs_in(portal, idp, groups=["meets"])).page.path == "/"
    auditor = await signs_in(portal, idp, sub="r-4", email="rut@sluss.test", groups=["audits", "other"])
    assert auditor.page.path == "/audit"
    made = [row["role"] for row in portal.world.sql("SELECT role FROM organisers ORDER BY role")]
    assert made == ["auditor", "organiser"]
    audit = "".join(str(row["entry"]) for row in portal.world.sql("SELECT entry FROM audit"))
    assert audit.count('"action":"organiser-added"') == 2


@pytest.mark.provider(**GROUPS)
@pytest.mark.parametrize("groups", [[], ["other"], "other", None, {"meets": 1}, ["audits"]])
async def test_who_is_no_longer_in_the_group_does_not_get_in(portal, idp, groups):
    assert (await signs_in(portal, idp, groups=["meets"])).page.path == "/"
    idp.userinfo = {"sub": "o-3"}
    assert (await signs_in(portal, idp, groups=groups)).page.status == 403


@pytest.mark.provider(**GROUPS)
async def test_group_without_a_verified_address_makes_nobody(portal, idp):
    assert (await signs_in(portal, idp, groups=["meets"], email_verified=False)).page.status == 403
    assert not portal.world.sql("SELECT * FROM organisers")


async def met(portal, idp) -> tuple[Browser, str]:
    await portal.world.organiser(OLLE)
    browser = await signs_in(portal, idp)
    return browser, await portal.meeting(browser, ANNA)


async def test_organiser_enters_and_reads_the_attendance_after_signing_in_once_more(portal, idp):
    browser, meeting = await met(portal, idp)
    for what in ("room", "attendance"):
        await browser.get(f"/meetings/{meeting}/{'verify' if what == 'room' else 'attendance'}")
        address = await go(browser, f"/meetings/{meeting}/sign-in")
        assert parse_qs(urlsplit(address).query)["prompt"] == ["login"]
        page = await come(browser, idp, address, **OF_OLLE)
        assert page.path == f"/meetings/{meeting}/{what}", page.text
        portal.world.clock.forward(minutes=6)


async def test_anothers_account_does_not_open_the_organisers_meeting(portal, idp):
    browser, meeting = await met(portal, idp)
    await browser.get(f"/meetings/{meeting}/verify")
    page = await come(browser, idp, await go(browser, f"/meetings/{meeting}/sign-in"), **OF_ANNA)
    assert (page.status, NOT_THEIRS in page.text) == (403, True)


async def test_organisers_stale_sign_in_does_not_open_the_meeting(portal, idp):
    browser, meeting = await met(portal, idp)
    await browser.get(f"/meetings/{meeting}/verify")
    stale = OF_OLLE | {"auth_time": idp.now() - 301}
    assert FAILED in (await come(browser, idp, await go(browser, f"/meetings/{meeting}/sign-in"), **stale)).text


async def test_organisers_proof_is_as_old_as_the_sign_in(portal, idp):
    browser, meeting = await met(portal, idp)
    await browser.get(f"/meetings/{meeting}/attendance")
    old = OF_OLLE | {"auth_time": idp.now() - 240}
    await come(browser, idp, await go(browser, f"/meetings/{meeting}/sign-in"), **old)
    for seconds, shut in ((59, False), (2, True)):
        portal.world.clock.forward(seconds=seconds)
        page = await browser.get(f"/meetings/{meeting}/attendance")
        assert any(form.action == f"/meetings/{meeting}/sign-in" for form in page.forms) is shut


async def test_organisers_old_sign_in_does_not_change_their_passkeys(portal, idp):
    await portal.world.organiser(OLLE)
    for ago, may in ((240, True), (301, False)):
        browser = await signs_in(portal, idp, auth_time=idp.now() - ago)
        page = await browser.get("/account")
        assert any(form.action == "/account/passkeys/new" for form in page.forms) is may
        answer = await browser.ask("POST", "/account/passkeys/new", body=f"csrf={page.csrf}")
        assert (answer.status == 200) is may


@pytest.mark.provider(**GROUPS)
async def test_organiser_of_the_provider_alone_has_no_passkey_that_outlives_the_account(portal, idp):
    browser = await signs_in(portal, idp, groups=["meets"])
    page = await browser.get("/account")
    assert [form.action for form in page.forms if "passkey" in form.action] == []
    assert "Passkeys are for those who have a password here." in page.text
    assert (await browser.ask("POST", "/account/passkeys/new", body=f"csrf={page.csrf}")).status == 403


async def test_dangerous_act_is_proved_at_the_provider_and_one_comes_back_to_it(portal, idp):
    browser, meeting = await met(portal, idp)
    at = f"/meetings/{meeting}"
    portal.world.clock.forward(minutes=6)
    await browser.get(at)
    await browser.submit(f"{at}/end")
    assert browser.page.path == f"/prove?next={at}"
    address = await go(browser, "/prove/sign-in")
    assert parse_qs(urlsplit(address).query)["prompt"] == ["login"]
    assert (await come(browser, idp, address, **OF_OLLE)).path == at
    await browser.submit(f"{at}/end")
    assert "The meeting has ended." in browser.page.text


@pytest.mark.parametrize("person", [OF_ANNA, OF_OLLE | {"amr": ["pwd"]}, OF_OLLE | {"auth_time": 1}])
async def test_anothers_weak_or_old_sign_in_there_is_no_proof_and_can_be_done_again(portal, idp, person):
    browser, meeting = await met(portal, idp)
    at = f"/meetings/{meeting}"
    portal.world.clock.forward(minutes=6)
    await browser.get(f"/prove?next={at}")
    page = await come(browser, idp, await go(browser, "/prove/sign-in"), **person)
    assert page.status == 403
    if any(form.action == "/prove/sign-in" for form in page.forms):
        assert (await come(browser, idp, await go(browser, "/prove/sign-in"), **OF_OLLE)).path == at
        return
    await browser.get(at)
    await browser.submit(f"{at}/end")
    assert browser.page.path == f"/prove?next={at}"


@pytest.mark.provider(**GROUPS)
async def test_groups_make_no_admin(portal, idp):
    await portal.world.organiser(OLLE, role=AccountRole.ADMIN)
    for groups in (["meets"], ["audits"], ["admin"], ["meets", "audits"]):
        assert (await signs_in(portal, idp, groups=groups)).page.status == 403


# Back-channel logout


async def logout(portal, token: str):
    return (
        await portal.browser().ask("POST", "/sign-in/logout", body=f"logout_token={token}", Sec_Fetch_Site="")
    ).status


async def is_in(browser: Browser) -> bool:
    return (await browser.ask("GET", "/")).status == 200


@pytest.mark.parametrize("whose", [{"sub": "o-3"}, {"sid": "s-1"}, {"sub": "o-3", "sid": "s-1"}])
async def test_signing_out_there_ends_the_sessions_here(portal, idp, whose):
    await portal.world.organiser(OLLE)
    browser = await signs_in(portal, idp)
    assert await logout(portal, idp.logout_token(**whose)) == 200
    assert not await is_in(browser)


@pytest.mark.parametrize("whose", [{"sub": "b-2"}, {"sid": "s-2"}, {"sub": "o-3", "sid": "s-2"}])
async def test_signing_out_of_another_session_there_ends_none_here(portal, idp, whose):
    await portal.world.organiser(OLLE)
    browser = await signs_in(portal, idp)
    assert await logout(portal, idp.logout_token(**whose)) == 200
    assert await is_in(browser)


async def test_session_with_password_and_authenticator_is_not_the_providers_to_end(portal, idp):
    by_account = await met(portal, idp)
    own = portal.browser()
    await own.get("/sign-in")
    organiser = portal.world.sql("SELECT id FROM organisers")[0]["id"]
    hashed, now = portal.world.ground.session_hash(own.cookies["__Host-sluss"]), portal.world.clock.now
    await portal.world.store.run(lambda tx: tx.sessions.put(hashed, organiser, complete=True, now=now))
    assert await logout(portal, idp.logout_token(sub="o-3")) == 200
    assert (await is_in(by_account[0]), await is_in(own)) == (False, True)


async def test_logout_token_is_used_once(portal, idp):
    await portal.world.organiser(OLLE)
    token = idp.logout_token(sub="o-3")
    assert await logout(portal, token) == 200
    browser = await signs_in(portal, idp)
    assert await logout(portal, token) == 400
    assert await is_in(browser)


WRONG_LOGOUTS = {
    "another audience": {"aud": "another"},
    "another issuer": {"iss": "https://evil.test"},
    "no event": {"events": None},
    "another event": {"events": {"other": {}}},
    "an ID token": {"nonce": "n"},
    "nobody": {"sub": None},
    "no jti": {"jti": None},
    "long ago": {"iat": 1},
    "expired": {"exp": 1},
}


@pytest.mark.parametrize("claims", WRONG_LOGOUTS.values(), ids=WRONG_LOGOUTS)
async def test_forged_logout_ends_nothing(portal, idp, claims):
    await portal.world.organiser(OLLE)
    browser = await signs_in(portal, idp)
    assert await logout(portal, idp.logout_token(**({"sub": "o-3"} | claims))) == 400
    idp.key = rsa.generate_private_key(65537, 2048)
    assert await logout(portal, idp.logout_token(sub="o-3")) == 400
    assert await is_in(browser)


async def test_id_token_signs_nobody_out_and_a_logout_token_nobody_in(portal, colleague, idp, link):
    await see(colleague, idp, link)
    assert await logout(portal, idp.tokens[-2]) == 400
    idp.header = {"kid": "k1", "typ": "logout+jwt"}
    assert FAILED in (await see(portal.browser(), idp, link)).text


@pytest.mark.parametrize(
    "header", [{"alg": []}, {"alg": {}}, {"alg": None}, {"alg": "RS256", "kid": []}, {"alg": "RS256", "typ": {}}, [], 7]
)
async def test_logout_token_with_an_odd_header_is_refused(portal, idp, header):
    head = base64.urlsafe_b64encode(json.dumps(header).encode()).decode().rstrip("=")
    assert await logout(portal, f"{head}.{idp.logout_token(sub='o-3').partition('.')[2]}") == 400


async def test_key_that_cannot_be_one_is_refused(portal, idp):
    idp.keys = [double.as_jwk(double.PRIVATE, "k1") | {"n": "!"}]
    assert await logout(portal, idp.logout_token(sub="o-3")) == 400


async def test_guessing_at_the_logout_has_to_wait(portal, idp):
    for _ in range(30):
        assert await logout(portal, "a.b.c") == 400
    assert await logout(portal, idp.logout_token(sub="o-3")) == 429
