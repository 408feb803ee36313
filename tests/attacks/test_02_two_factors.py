"""Invariant 2: no ticket without two factors, for this invitation, to join, fresh, by who saw the invitation."""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor

import pyotp
import pytest
from tests.attacks.people import FORM, Browser, Meeting, Person, Site
from tests.conftest import TICKET


def ask_ticket(browser: Browser, path: str):
    return browser.ask("POST", f"{path}/ticket", X_CSRF_Token=browser.csrf)


def no_ticket(browser: Browser, path: str) -> bool:
    answer = ask_ticket(browser, path)
    return answer.status in {401, 403, 404, 409} and not re.search(TICKET, answer.text)


def code_for(person: Person, browser: Browser, purpose: str = "view") -> str:
    """Have a code sent, and read it on the person's phone."""
    before = len(person.site.messages("sms", person.mobile))
    base = person.path if purpose == "view" else f"{person.path}/join"
    assert browser.post(f"{base}/code").status == 303
    return re.search(r"\b\d{6}\b", person.site.message("sms", person.mobile, before))[0]


def test_honest_way_by_two_codes_leads_to_a_ticket(meeting: Meeting):
    person = meeting.newcomer()
    assert no_ticket(person.browser, person.path)
    assert person.type_code("view").status == 303
    assert no_ticket(person.browser, person.path)
    assert person.type_code("join").location == f"{person.path}/room"
    assert ask_ticket(person.browser, person.path).status == 200


@pytest.mark.parametrize("purposes", [("view",), ("join",)])
def test_one_verification_is_not_two(site: Site, meeting: Meeting, purposes: tuple[str, ...]):
    """`join` alone cannot come about by the forms: see the next test. The door refuses it for another browser too."""
    person = meeting.newcomer()
    person.prove(*purposes)
    stranger = Browser(site)
    assert no_ticket(stranger, person.path)
    if purposes == ("view",):
        assert no_ticket(person.browser, person.path)
        assert person.browser.get(f"{person.path}/room").status == 303
    person.prove()
    assert ask_ticket(person.browser, person.path).status == 200


def test_join_code_does_not_stand_in_for_having_seen_the_invitation(meeting: Meeting):
    person = meeting.newcomer()
    code = code_for(person, person.browser, "join")
    assert person.browser.post(f"{person.path}/join/verify", {"code": code}).status != 303
    assert no_ticket(person.browser, person.path)
    person.prove()
    assert ask_ticket(person.browser, person.path).status == 200


def test_code_for_viewing_does_not_open_the_meeting(meeting: Meeting):
    person = meeting.newcomer()
    code = code_for(person, person.browser)
    assert person.browser.post(f"{person.path}/join/verify", {"code": code}).status != 303
    assert no_ticket(person.browser, person.path)
    assert person.browser.post(f"{person.path}/verify", {"code": code}).status == 303


def test_code_typed_in_another_browser_opens_nothing(site: Site, meeting: Meeting):
    person, thief = meeting.newcomer(), Browser(site)
    code = code_for(person, person.browser)
    assert thief.post(f"{person.path}/verify", {"code": code}).status != 303
    assert "Budget" not in thief.get(person.path).text
    assert person.browser.post(f"{person.path}/verify", {"code": code}).status == 303


def test_code_of_another_person_opens_nothing(meeting: Meeting):
    one, two = meeting.newcomer(), meeting.newcomer()
    code = code_for(one, one.browser)
    assert one.browser.post(f"{two.path}/verify", {"code": code}).status != 303
    assert two.browser.post(f"{two.path}/verify", {"code": code}).status != 303
    assert one.browser.post(f"{one.path}/verify", {"code": code}).status == 303


def test_code_works_once(site: Site, meeting: Meeting):
    person = meeting.newcomer()
    code = code_for(person, person.browser)
    assert person.browser.post(f"{person.path}/verify", {"code": code}).status == 303
    assert person.browser.post(f"{person.path}/verify", {"code": code}).status != 303
    assert person.browser.post(f"{person.path}/join/verify", {"code": code}).status != 303


def test_right_code_after_five_wrong_ones_opens_nothing(meeting: Meeting):
    person = meeting.newcomer()
    code = code_for(person, person.browser)
    wrong = str((int(code) + 1) % 1_000_000).zfill(6)
    for _ in range(5):
        assert person.browser.post(f"{person.path}/verify", {"code": wrong}).status != 303
    assert person.browser.post(f"{person.path}/verify", {"code": code}).status != 303
    assert no_ticket(person.browser, person.path)


def test_many_guesses_at_once_are_no_more_than_five(site: Site, meeting: Meeting):
    """The counter holds when forty requests come at the same instant."""
    person = meeting.newcomer()
    code = code_for(person, person.browser)
    guesses = [str((int(code) + n) % 1_000_000).zfill(6) for n in range(1, 40)]
    csrf = person.browser.csrf

    def guess(value: str) -> int:
        browser = Browser(site, person.browser.session)
        try:
            body = f"code={value}&csrf={csrf}"
            return browser.ask("POST", f"{person.path}/verify", body, Content_Type=FORM).status
        finally:
            browser.close()

    with ThreadPoolExecutor(10) as pool:
        assert 303 not in set(pool.map(guess, guesses))
    assert person.browser.post(f"{person.path}/verify", {"code": code}).status != 303


CODES = {
    "empty": "",
    "spaces": "      ",
    "zeros": "000000",
    "a_query": "' OR '1'='1",
    "percent": "%%%%%%",
    "a_pattern": ".*",
    "null": "null",
    "true": "true",
    "a_list": '["000000"]',
    "negative": "-00001",
    "exponent": "1e5",
    "a_nul": "\0",
    "long": "0" * 60_000,
    "letters": "O00000",
}


@pytest.mark.parametrize("name", CODES)
def test_odd_code_opens_nothing(meeting: Meeting, name: str):
    person = meeting.newcomer()
    code = code_for(person, person.browser)
    assert person.browser.post(f"{person.path}/verify", {"code": CODES[name]}).status in {
        200,
        400,
        401,
        403,
        413,
        422,
        429,
    }
    assert "Budget" not in person.browser.get(person.path).text
    assert person.browser.post(f"{person.path}/verify", {"code": f" {code[:3]} {code[3:]} "}).status == 303


def test_several_codes_in_one_form_count_as_one_try(meeting: Meeting):
    person = meeting.newcomer()
    code = code_for(person, person.browser)
    fields = [("code", str((int(code) + n) % 1_000_000).zfill(6)) for n in range(1, 50)] + [("code", code)]
    first = person.browser.post(f"{person.path}/verify", fields)
    assert first.status != 303 or "Budget" not in person.browser.get(person.path).text
    assert person.browser.post(f"{person.path}/verify", {"code": code}).status == 303


@pytest.mark.parametrize("ago", [301, 3_600, 86_400])
def test_old_verification_gives_no_ticket(meeting: Meeting, ago: int):
    person = meeting.newcomer()
    person.prove(ago=ago)
    assert no_ticket(person.browser, person.path)
    person.prove(ago=200)
    assert ask_ticket(person.browser, person.path).status == 200


def test_ticket_is_given_to_the_browser_that_verified_only(site: Site, meeting: Meeting):
    person, thief = meeting.newcomer(), Browser(site)
    person.prove()
    assert no_ticket(thief, person.path)
    thief_with_token = thief.ask("POST", f"{person.path}/ticket", X_CSRF_Token=person.browser.csrf)
    assert thief_with_token.status == 403
    assert ask_ticket(person.browser, person.path).status == 200


def test_verification_to_join_in_another_browser_gives_no_ticket_here(site: Site, meeting: Meeting):
    """The invitation was seen here, on a machine that others use too; the meeting was entered elsewhere."""
    person, elsewhere = meeting.newcomer(), Browser(site)
    person.prove("view")
    site.insider("prove", link=person.link, session=elsewhere.session)
    assert no_ticket(person.browser, person.path)
    assert ask_ticket(elsewhere, person.path).status == 200


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "OPTIONS"])
def test_ticket_is_only_posted_for(meeting: Meeting, method: str):
    person = meeting.newcomer()
    person.prove()
    answer = person.browser.ask(method, f"{person.path}/ticket", X_CSRF_Token=person.browser.csrf)
    assert answer.status in {403, 405}
    assert not re.search(TICKET, answer.text)
    assert person.browser.ask("POST", f"{person.path}/ticket").status == 403
    assert ask_ticket(person.browser, person.path).status == 200


def test_verification_for_one_invitation_gives_no_ticket_for_another(site: Site, meeting: Meeting):
    one, two = meeting.newcomer(), meeting.newcomer()
    one.prove()
    assert no_ticket(one.browser, two.path)
    assert ask_ticket(one.browser, one.path).status == 200


def test_same_phone_invited_to_another_meeting_proves_itself_there_again(site: Site, meeting: Meeting):
    person = meeting.newcomer()
    person.prove()
    other = meeting.organiser.meeting("Olle Berg").people[0]
    assert no_ticket(person.browser, other.path)
    assert no_ticket(person.browser, f"/i/{person.link}/../{other.link}")
    assert ask_ticket(person.browser, person.path).status == 200


def test_participants_session_opens_nothing_of_the_organisers(meeting: Meeting):
    person = meeting.newcomer()
    person.prove()
    assert ask_ticket(person.browser, person.path).status == 200
    url = f"/meetings/{meeting.id}"
    assert person.browser.get(url).location == "/sign-in"
    assert person.browser.get(f"{url}/room").location == "/sign-in"
    assert no_ticket(person.browser, url)
    for path in (f"{url}/end", f"{url}/verify", f"{url}/participants", "/meetings/new", "/sign-out/everywhere"):
        assert person.browser.post(path, {"code": "000000"}).status in {401, 403}, path


def test_organiser_needs_a_fresh_code_before_entering(site: Site):
    organiser = site.organiser()
    meeting = organiser.meeting("Anna Lindberg")
    url = f"/meetings/{meeting.id}"
    assert organiser.browser.get(url).status == 200
    assert no_ticket(organiser.browser, url)
    assert organiser.browser.post(f"{url}/verify", {"code": "000000"}).status != 303
    assert no_ticket(organiser.browser, url)
    code = pyotp.TOTP(organiser.secret).now()
    assert organiser.browser.post(f"{url}/verify", {"code": code}).status == 303
    assert ask_ticket(organiser.browser, url).status == 200
    second = organiser.meeting("Bo Ek")
    assert organiser.browser.post(f"/meetings/{second.id}/verify", {"code": code}).status != 303, "a code works once"
    assert no_ticket(organiser.browser, f"/meetings/{second.id}")


def test_other_organiser_gets_no_ticket(site: Site, meeting: Meeting):
    other = site.organiser("Olga Annan")
    own, url = other.meeting("Bo Ek"), f"/meetings/{meeting.id}"
    assert other.browser.post(f"{url}/verify", {"code": pyotp.TOTP(other.secret).now()}).status == 404
    assert ask_ticket(other.browser, url).status == 404
    assert other.browser.get(f"{url}/room").status == 404
    assert "token" in other.ticket(own)


def test_closed_invitation_gives_no_ticket_although_verified(meeting: Meeting):
    person = meeting.newcomer()
    person.prove()
    assert ask_ticket(person.browser, person.path).status == 200
    assert meeting.put_out(person).status == 303
    assert no_ticket(person.browser, person.path)
    assert person.browser.post(f"{person.path}/code").status == 303  # looks as ever
    assert not re.search(TICKET, person.browser.get(f"{person.path}/room").text)


def test_not_me_pressed_by_whoever_has_the_link_kills_it(meeting: Meeting):
    person = meeting.newcomer()
    person.prove()
    assert ask_ticket(person.browser, person.path).status == 200
    assert Browser(person.site).post(f"{person.path}/not-me").status == 303
    assert no_ticket(person.browser, person.path)


def test_proofs_by_a_number_that_was_changed_give_no_ticket(meeting: Meeting):
    person = meeting.newcomer()
    person.prove()
    changed = {"mobile": "+46701740999"}
    assert meeting.organiser.browser.post(f"/invitations/{meeting.invitation(person)}/number", changed).status == 303
    assert no_ticket(person.browser, person.path)


def test_replaced_link_gives_no_ticket(meeting: Meeting):
    person = meeting.newcomer()
    person.prove()
    old, before = person.path, len(meeting.site.messages("mail", person.email))
    assert meeting.organiser.browser.post(f"/invitations/{meeting.invitation(person)}/resend").status == 303
    meeting.site.message("mail", person.email, before)
    assert no_ticket(person.browser, old)
    person.read_mail()
    assert no_ticket(person.browser, person.path)
    person.prove()
    assert ask_ticket(person.browser, person.path).status == 200
