"""Invariant 13: guessing does not pay, and does not keep a rightful person out. Each from an address of its own."""

from __future__ import annotations

import re
import secrets
import time

import pyotp
import pytest
from tests.attacks.people import PASSWORD, Answer, Browser, Organiser, Site
from tests.conftest import REFERENCE


@pytest.fixture
def stranger(site: Site) -> Browser:
    """Somebody at an address that nobody else uses."""
    return Browser(site, source=site.foreign_address())


def sign_in(browser: Browser, email: str, password: str, **headers: str) -> Answer:
    return browser.post("/sign-in", {"email": email, "password": password}, **headers)


def shape(answer: Answer, email: str) -> tuple[int, str, set[str]]:
    text = re.sub(REFERENCE, "", answer.text.replace(email, "EMAIL"))
    return answer.status, text, set(answer.headers) - {"Content-Length"}


def test_sign_in_does_not_tell_who_is_an_organiser(site: Site, stranger: Browser):
    known = site.organiser().email
    made_up = f"{secrets.token_hex(4)}@sluss.test"
    one, two = (shape(sign_in(stranger, email, "segel mot lugnt"), email) for email in (known, made_up))
    assert one == two
    assert sign_in(Browser(site), known, PASSWORD).location == "/sign-in/code"


def test_sign_in_takes_as_long_for_who_is_no_organiser(site: Site):
    took: dict[bool, list[float]] = {True: [], False: []}
    for _ in range(3):
        email, browser = site.organiser().email, Browser(site, source=site.foreign_address())
        browser.csrf  # noqa: B018 - fetched before the clock runs
        for known in (True, False, True, False):
            began = time.perf_counter()
            sign_in(browser, email if known else f"{secrets.token_hex(4)}@sluss.test", "segel mot lugnt")
            took[known].append(time.perf_counter() - began)
    known, unknown = (min(samples) for samples in took.values())  # what a busy machine adds is not theirs
    assert abs(known - unknown) < 0.4 * known, took


def test_passwords_are_not_guessed_without_end(site: Site, stranger: Browser):
    organiser = site.organiser()
    answers = [sign_in(stranger, organiser.email, f"{PASSWORD}{n}") for n in range(7)]
    assert [answer.status for answer in answers] == [403] * 5 + [429] * 2
    locked = sign_in(stranger, organiser.email, PASSWORD)
    assert locked.status == 429
    assert 0 < int(locked.headers["Retry-After"]) <= 15 * 60
    assert organiser.browser.get("/").status == 200, "whoever is signed in stays"


@pytest.mark.parametrize("header", ["X_Forwarded_For", "X_Real_IP", "Forwarded", "Client_IP", "CF_Connecting_IP"])
def test_made_up_addresses_do_not_count_as_others(site: Site, stranger: Browser, header: str):
    """Each try from another address, if one believes the header."""
    organiser = site.organiser()
    for n in range(6):
        sign_in(stranger, organiser.email, f"{PASSWORD}{n}", **{header: f"198.51.100.{n}"})
    locked = sign_in(stranger, organiser.email, PASSWORD, **{header: "198.51.100.77"})
    assert locked.location != "/sign-in/code"
    assert sign_in(Browser(site, source=site.foreign_address()), organiser.email, PASSWORD).location == "/sign-in/code"


def half_signed_in(site: Site, organiser: Organiser) -> Browser:
    browser = Browser(site, source=site.foreign_address())
    assert sign_in(browser, organiser.email, PASSWORD).location == "/sign-in/code"
    return browser


def test_authenticator_codes_are_not_guessed_without_end(site: Site):
    organiser = site.organiser()
    browser = half_signed_in(site, organiser)
    right = pyotp.TOTP(organiser.secret).now()
    for n in range(1, 7):
        wrong = str((int(right) + 1000 * n) % 1_000_000).zfill(6)
        assert browser.post("/sign-in/code", {"code": wrong}).status != 303
    assert browser.post("/sign-in/code", {"code": pyotp.TOTP(organiser.secret).now()}).status != 303


def test_participants_authenticator_code_is_not_good_twice(site: Site):
    person = site.organiser().meeting("Anna Lindberg").people[0]
    assert person.type_code().status == 303
    secret = re.search(r'class="secret">([^<]+)<', person.browser.get(f"{person.path}/totp/new").text)[1]
    totp, now = pyotp.TOTP(secret.replace(" ", "")), time.time()
    assert person.browser.post(f"{person.path}/totp/add", {"code": totp.at(int(now))}).status == 303
    code = totp.at(int(now) + 30)
    assert Browser(site).post(f"{person.path}/totp", {"code": code}).status == 303
    assert Browser(site).post(f"{person.path}/totp", {"code": code}).status == 403


def test_authenticator_code_is_not_good_twice(site: Site):
    organiser = site.organiser()
    code = pyotp.TOTP(organiser.secret).now()
    assert half_signed_in(site, organiser).post("/sign-in/code", {"code": code}).status == 303
    assert half_signed_in(site, organiser).post("/sign-in/code", {"code": code}).status != 303


@pytest.mark.parametrize("code", ["", "000000", "0000-0000-0000-0000", "' OR 1=1 --", "%", "0" * 3000])
def test_odd_second_factor_signs_nobody_in(site: Site, code: str):
    organiser = site.organiser()
    browser = half_signed_in(site, organiser)
    assert browser.post("/sign-in/code", {"code": code}).status != 303
    assert browser.get("/").location == "/sign-in"
    assert browser.post("/sign-in/code", {"code": pyotp.TOTP(organiser.secret).now()}).status == 303


def test_second_factor_alone_signs_nobody_in(site: Site, stranger: Browser):
    organiser = site.organiser()
    answer = stranger.post("/sign-in/code", {"code": pyotp.TOTP(organiser.secret).now()})
    assert answer.location == "/sign-in"
    assert stranger.get("/").location == "/sign-in"


def test_enrolment_link_is_not_guessed_and_works_once(site: Site, stranger: Browser):
    said = site.server.run(f"sluss organiser add --name 'Ny Person' --email {secrets.token_hex(4)}@sluss.test").stdout
    token = said.strip().rpartition("/")[2]
    assert len(token) == 43
    assert "Ny Person" in stranger.get(f"/enrol/{token}").text or "code" in stranger.get(f"/enrol/{token}").text
    for wrong in (token[:-1], token.swapcase(), token[:-1] + ("A" if token[-1] != "A" else "B"), "x", "' OR 1=1 --"):
        assert stranger.get(f"/enrol/{wrong}".replace(" ", "%20")).status == 404
        fields = {"password": PASSWORD, "again": PASSWORD, "code": "000000"}
        assert stranger.post(f"/enrol/{wrong}".replace(" ", "%20"), fields).status == 404
    secret = re.search(r"(?:[A-Z2-7]{4} ){7}[A-Z2-7]{4}", stranger.get(f"/enrol/{token}").text)[0].replace(" ", "")
    for status in (200, 404):
        code = pyotp.TOTP(secret).now()
        assert stranger.post(f"/enrol/{token}", fields | {"code": code}).status == status
        assert stranger.get(f"/enrol/{token}").status == 404


def test_links_are_not_guessed_and_guessing_sends_nothing(site: Site, stranger: Browser):
    person = site.organiser().meeting("Anna Lindberg").people[0]
    for n in range(40):
        guess = person.link[:-2] + f"{n:02d}"
        if guess != person.link:
            assert "Budget" not in stranger.get(f"/i/{guess}").text
    assert site.messages("sms", person.mobile) == []
    assert person.type_code().status == 303


def test_pressing_the_button_again_and_again_does_not_flood_a_phone(site: Site, stranger: Browser):
    """A stranger with the link: a few SMS, and the person with the phone gets in all the same."""
    person = site.organiser().meeting("Anna Lindberg").people[0]
    for _ in range(20):
        stranger.post(f"{person.path}/code")
    assert len(site.messages("sms", person.mobile)) <= 2
    person.prove()
    assert "Budget" in person.browser.get(person.path).text
