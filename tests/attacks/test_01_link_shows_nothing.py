"""Invariant 1: a personal link alone shows nothing, changes nothing, and does not tell whether it is a live one."""

from __future__ import annotations

import re
import secrets
import statistics
import time
from urllib.parse import unquote

import pytest
from tests.attacks.people import FORM, Answer, Browser, Meeting, Person, Site, path
from tests.conftest import REFERENCE

TITLE, AGENDA = "Uppköp av Bolaget", "Priset är hemligt"
PAGES = [
    "",
    "/code",
    "/join/code",
    "/totp",
    "/join/totp",
    "/totp/new",
    "/not-me",
    "/room",
    "/here",
    "/outside",
    "/nothing",
]
POSTS = {
    "/verify": "code=123456",
    "/join/verify": "code=123456",
    "/answer": "answer=accepted",
    "/answer ": "answer=maybe",
    "/ticket": "",
    "/code": "",
    "/join/code": "",
    "/passkey": "",
    "/join/passkey": "",
    "/passkey/verify": "response={}",
    "/join/passkey/verify": "response={}",
    "/passkey/new": "",
    "/passkey/add": "response={}",
    "/passkey/remove": "",
    "/totp": "code=123456",
    "/join/totp": "code=123456",
    "/totp/add": "code=123456",
    "/totp/remove": "",
}
PASSKEY = re.compile(r"<form [^>]*data-passkey.*?</form>\s*", re.DOTALL)
TOTP = re.compile(r'<p><a class="button wide" href="[^"]*/totp">.*?</a></p>\s*')
STEPS = re.compile(r'<(ol class="steps"|p class="ways")>.*?</(ol|p)>\s*', re.DOTALL)
CHALLENGE = re.compile(r'"challenge": "[^"]+"')
VARY = {"Date", "X-Request-Id", "Set-Cookie", "Content-Length"}


@pytest.fixture(scope="module")
def meeting(site: Site) -> Meeting:
    return site.organiser("Eva Hemlig").meeting("Anna Lindberg", "Bo Ek", title=TITLE, agenda=AGENDA)


@pytest.fixture(scope="module")
def withdrawn(meeting: Meeting) -> str:
    return withdraw(meeting).link


def withdraw(meeting: Meeting) -> Person:
    """Somebody who is no longer invited."""
    person = meeting.newcomer()
    url = f"/invitations/{meeting.invitation(person)}/withdraw"
    assert meeting.organiser.browser.post(url).status == 303
    return person


def plain(answer: Answer, link: str, browser: Browser) -> tuple[int, list[tuple[str, str]], str]:
    """What can be told apart: without what differs for any two requests.

    Some links that are none offer a passkey or an authenticator, as those of people who have one do:
    tests/unit/test_passkeys.py and test_authenticators.py are on it.
    """
    text = answer.text.replace(link, "LINK").replace(path(unquote(link)), "LINK").replace(browser.csrf, "CSRF")
    headers = [(name, value.replace(link, "LINK")) for name, value in answer.headers.items() if name not in VARY]
    for differs in (PASSKEY, TOTP, STEPS, CHALLENGE, re.compile(REFERENCE)):
        text = differs.sub("", text)
    return answer.status, headers, re.sub(r"\b[0-9a-f]{16,32}\b", "ID", text)


def secret_in(text: str, meeting: Meeting) -> list[str]:
    told = [TITLE, AGENDA, "Eva Hemlig", meeting.id, *(p for m in meeting.people for p in (m.name, m.email, m.mobile))]
    return [secret for secret in told if secret in text]


LINKS = ["withdrawn", "wrong", "shorter", "longer", "other_case", "one_letter_off", "empty_like", "sql"]


def wrong_link(kind: str, live: str, withdrawn: str) -> str:
    return {
        "withdrawn": withdrawn,
        "wrong": secrets.token_urlsafe(32),
        "shorter": live[:-1],
        "longer": live + "A",
        "other_case": live.swapcase(),
        "one_letter_off": live[:-1] + ("A" if live[-1] != "A" else "B"),
        "empty_like": "%20",
        "sql": "OR-1-1--",
    }[kind]


@pytest.mark.parametrize("kind", LINKS)
def test_link_looks_like_a_live_one(site: Site, meeting: Meeting, withdrawn: str, kind: str):
    person = meeting.newcomer()
    other = wrong_link(kind, person.link, withdrawn)
    for page in PAGES:
        one, two = Browser(site), Browser(site)
        live, wrong = one.get(f"/i/{person.link}{page}"), two.get(f"/i/{other}{page}")
        assert plain(live, person.link, one) == plain(wrong, other, two), page
        assert secret_in(live.text + str(live.headers), meeting) == []
    for target, body in POSTS.items():
        one, two = Browser(site), Browser(site)
        answers = [
            plain(
                browser.ask("POST", f"/i/{link}{target.strip()}", f"{body}&csrf={browser.csrf}", Content_Type=FORM),
                link,
                browser,
            )
            for browser, link in ((one, person.link), (two, other))
        ]
        assert answers[0] == answers[1], target
    assert person.browser.get(person.path).status == 200


@pytest.mark.parametrize("target", ["", "/ticket", "/verify"])
def test_wrong_link_takes_as_long_as_a_live_one(site: Site, meeting: Meeting, target: str):
    """Medians of interleaved samples; what is left of a difference drowns in any network."""
    person, wrong = meeting.newcomer(), secrets.token_urlsafe(32)
    browser = Browser(site)
    took: dict[str, list[float]] = {person.link: [], wrong: []}
    for _ in range(120):
        for link, samples in took.items():
            start = time.perf_counter()
            if target:
                answer = browser.post(f"/i/{link}{target}", {"code": "123456"})
                assert answer.status in {200, 401, 403, 429}
            else:
                assert browser.get(f"/i/{link}").status == 200
            samples.append(time.perf_counter() - start)
    live, other = (statistics.median(samples) for samples in took.values())
    assert abs(live - other) < max(0.2 * live, 0.001), (live, other)


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS", "PUT", "DELETE", "PATCH", "PROPFIND", "TRACE"])
def test_scanner_that_opens_every_page_uses_nothing_up_and_sends_nothing(site: Site, meeting: Meeting, method: str):
    person, scanner = meeting.newcomer(), Browser(site)
    for target in (*PAGES, "/verify", "/join/verify", "/answer", "/ticket", "?code=123456", "/verify?code=123456"):
        for headers in ({}, {"X_HTTP_Method_Override": "POST", "Purpose": "prefetch"}):
            answer = scanner.ask(method, person.path + target, **headers)
            assert secret_in(answer.text, meeting) == []
    assert site.messages("sms", person.mobile) == []
    page = meeting.organiser.browser.get(f"/meetings/{meeting.id}").text
    assert "reached the wrong person" not in page
    if method == "GET":
        assert person.type_code().status == 303
        assert TITLE in person.browser.get(person.path).text


VARIANTS = [
    "?format=json", "?debug=1", "?session=x&view=1", "/", "/.", "/..", "/%2e%2e/LINK", "//", ";v=1", "%00", "%0d%0a",
    "/room/", "/here/", "/ticket/", "/room?x=/here", "/join", "/join/", "/agenda", "/ics", "/invitation.ics",
]  # fmt: skip


@pytest.mark.parametrize("variant", VARIANTS)
def test_variant_of_the_path_shows_nothing(site: Site, meeting: Meeting, variant: str):
    person = meeting.newcomer()
    person.prove()
    assert TITLE in person.browser.get(person.path).text
    stranger = Browser(site)
    for accept in ("text/html", "application/json", "*/*", "text/calendar"):
        answer = stranger.get((person.path + variant).replace("LINK", person.link), Accept=accept)
        assert secret_in(answer.text + str(answer.headers), meeting) == []


def test_withdrawn_link_sends_nothing(site: Site, meeting: Meeting):
    person, other = withdraw(meeting), meeting.newcomer()
    assert Browser(site).post(f"{person.path}/code").status == 303, "looks as ever"
    assert other.type_code().status == 303, "messages go out in order, and this one has arrived"
    assert site.messages("sms", person.mobile) == []


def test_who_verified_sees_the_invitation_in_that_browser_only(site: Site, meeting: Meeting, anna: Person):
    assert anna.type_code().status == 303
    page = anna.browser.get(anna.path)
    assert TITLE in page.text
    assert AGENDA in page.text
    assert page.headers["Cache-Control"] == "no-store"
    for page in PAGES:
        assert secret_in(Browser(site).get(anna.path + page).text, meeting) == []


def test_verification_for_the_own_link_shows_no_other(site: Site, meeting: Meeting, anna: Person):
    anna.prove()
    assert TITLE in anna.browser.get(anna.path).text
    other = meeting.newcomer()
    assert secret_in(anna.browser.get(other.path).text, meeting) == []
    stranger = site.organiser().meeting("Olle Berg").people[0]
    assert secret_in(anna.browser.get(stranger.path).text, meeting) == []


def test_of_others_who_are_invited_no_more_than_the_name_is_shown_to_who_verified(
    meeting: Meeting, anna: Person, bo: Person
):
    anna.prove()
    page = anna.browser.get(anna.path).text
    assert TITLE in page
    assert bo.name in page  # as the class `internal` has it
    for hidden in (bo.email, bo.mobile, bo.link, anna.email, anna.mobile, meeting.organiser.email, meeting.id):
        assert hidden not in page


def test_mail_and_sms_tell_nothing_of_the_meeting(site: Site, meeting: Meeting):
    person = meeting.newcomer()
    assert person.type_code().status == 303
    mail = site.messages("mail", person.email)[0]
    sms = site.messages("sms", person.mobile)[0]["body"]
    assert secret_in(mail["subject"] + mail["body"].replace(person.email, ""), meeting) == []
    assert secret_in(sms, meeting) == []
    assert person.link not in sms


def test_links_cannot_be_guessed_from_one_another(meeting: Meeting):
    links = [person.link for person in meeting.invite(*(f"Person {n}" for n in range(5)))]
    assert all(re.fullmatch(r"[A-Za-z0-9_-]{43}", link) for link in links)  # 256 bits
    assert all(len(set(zip(a, b, strict=True)) & {(c, c) for c in a}) < 20 for a in links for b in links if a != b)


def test_withdrawn_link_of_who_had_verified_shows_nothing_any_more(meeting: Meeting):
    person = meeting.newcomer()
    person.prove()
    assert TITLE in person.browser.get(person.path).text
    meeting.put_out(person)
    for page in PAGES:
        assert secret_in(person.browser.get(person.path + page).text, meeting) == []
