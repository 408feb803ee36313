"""The organiser's pages: enrolling, signing in, making a meeting, seeing what became of it."""

from __future__ import annotations

import re
from datetime import timedelta

import pyotp
import pytest
from tests.unit.web.browser import PORTAL
from tests.unit.web.conftest import ANNA, OLLE
from tests.unit.world import DOWN, PASSWORD

from sluss.domain.assurance import Method
from sluss.domain.errors import GateUnavailable
from sluss.domain.policy import Requirement


async def enrolment(portal) -> str:
    return (await portal.services.organisers.add("Eva Organiser", "eva@sluss.test")).removeprefix(PORTAL)


async def test_enrolment_shows_the_key_as_picture_and_as_text(portal, browser):
    page = await browser.get(await enrolment(portal))
    assert re.search(r'<img src="data:image/svg\+xml[^"]+" alt="QR code', page.html)
    assert re.search(r'class="secret">(?:[A-Z2-7]{4} ?){8}<', page.html)


@pytest.mark.parametrize(
    ("typed", "text"),
    [
        ({"password": PASSWORD, "again": "another", "code": ""}, "The two passwords are not the same."),
        ({"password": "short", "again": "short", "code": ""}, "A password needs at least 12 characters."),
        ({"password": PASSWORD, "again": PASSWORD, "code": "000000"}, "That code is not right."),
    ],
)
async def test_what_is_wrong_at_enrolment_is_said_and_no_password_is_sent_back(portal, browser, typed, text):
    await browser.get(await enrolment(portal))
    page = await browser.submit(None, **typed)
    assert page.status == 422
    assert text in page.text
    assert PASSWORD not in page.html


async def test_enrolling_shows_recovery_codes_once_and_uses_the_link_up(portal, browser):
    link = await enrolment(portal)
    await browser.get(link)
    totp = pyotp.TOTP(re.search(r'class="secret">([^<]+)<', browser.page.html)[1].replace(" ", ""))
    page = await browser.submit(None, password=PASSWORD, again=PASSWORD, code=totp.at(portal.world.clock()))
    assert len(re.findall(r"<code>[0-9a-f-]{19}</code>", page.html)) == 10
    assert (await browser.get(link)).status == 404
    portal.world.clock.forward(seconds=30)
    await browser.get("/sign-in")
    await browser.submit("/sign-in", email="eva@sluss.test", password=PASSWORD)
    assert (await browser.submit("/sign-in/code", code=totp.at(portal.world.clock()))).path == "/"


async def test_a_wrong_password_and_a_stranger_are_told_the_same(portal):
    await portal.world.organiser(OLLE)
    pages = []
    for email in (OLLE, "nobody@sluss.test"):
        stranger = portal.browser()
        await stranger.get("/sign-in")
        page = await stranger.submit("/sign-in", email=email, password="wrong")
        pages.append((page.status, page.plain.replace(email, "")))
    assert pages[0] == pages[1]
    assert pages[0][0] == 403


async def test_a_wrong_authenticator_code_is_refused(portal):
    await portal.world.organiser(OLLE)
    other = portal.browser()
    await other.get("/sign-in")
    await other.submit("/sign-in", email=OLLE, password=PASSWORD)
    page = await other.submit("/sign-in/code", code="000000")
    assert page.status == 403
    assert "That code did not match" in page.text


async def test_the_second_factor_without_the_first_leads_back_to_it(browser):
    await browser.get("/sign-in/code")
    assert (await browser.submit("/sign-in/code", code="123456")).path == "/sign-in"


async def test_signing_out_everywhere_ends_the_other_browsers_session(portal, organiser):
    other = portal.browser()
    await other.get("/sign-in")
    await other.submit("/sign-in", email=OLLE, password=PASSWORD)
    await other.submit("/sign-in/code", code=portal.authenticator())
    await organiser.get("/")
    await organiser.submit("/sign-out/everywhere")
    assert (await other.get("/")).path == "/sign-in"


PEOPLE = {
    "participant_name": ["Anna Lindberg", "Bengt Ek", ""],
    "participant_email": ["anna@example.org", "bengt@example.org", ""],
    "participant_mobile": ["070-174 06 05", "+46 70 174 06 06", ""],
}
MEETING = {
    "title": "Closing the Gävle plant",
    "agenda": "1. Why\n2. When",
    "date": "2026-10-20",
    "time": "09:30",
    "minutes": "45",
}


async def test_a_new_meeting_is_saved_and_each_participant_gets_a_mail_that_says_nothing(portal, organiser):
    await organiser.get("/meetings/new")
    page = await organiser.submit("/meetings/new", **MEETING, **PEOPLE)
    assert re.fullmatch(r"/meetings/[0-9a-f]{32}", page.path)
    assert "Tuesday, 20 October 2026, 09:30–10:15" in page.text
    assert "Anna Lindberg no answer yet anna@example.org · +46 70 174 06 05" in page.text
    await portal.world.worker.deliver_due()
    mails = portal.world.mail.sent
    assert {to for to, _ in mails} == {"anna@example.org", "bengt@example.org"}
    assert not any("Gävle" in text or "Organiser" in text for _, text in mails)
    assert "Closing the Gävle plant" in (await organiser.get("/")).text


@pytest.mark.parametrize(
    ("wrong", "field", "text"),
    [
        ({"title": ""}, "title", "Write a title."),
        ({"date": "soon"}, "date", "Write the date as 2026-01-31."),
        ({"minutes": "0"}, "minutes", "Write the length in minutes, 5 to 1440."),
        ({"participant_mobile": ["070-174 06 05", "123", ""]}, "mobile-2", "Write a mobile number"),
        ({"participant_email": ["anna@example.org", "bengt", ""]}, "email-2", "Write an e-mail address"),
    ],
)
async def test_an_error_stands_at_its_field_and_everything_typed_is_kept(portal, organiser, wrong, field, text):
    await organiser.get("/meetings/new")
    typed = MEETING | PEOPLE | wrong
    page = await organiser.submit("/meetings/new", **typed)
    assert page.status == 422
    assert re.search(
        rf'<input id="{field}"[^>]+aria-invalid="true"[^>]*>\s*<p class="error" id="{field}-error">{text}', page.html
    )
    kept = page.form("/meetings/new").fields
    for name, value in typed.items():
        assert [v for k, v in kept if k == name] == (value if isinstance(value, list) else [value])
    await portal.world.worker.deliver_due()
    assert portal.world.mail.sent == []


async def test_a_participant_can_be_added_and_a_mistake_is_shown_with_what_was_typed(portal, organiser, meeting):
    await organiser.get(f"/meetings/{meeting}")
    action = f"/meetings/{meeting}/participants"
    page = await organiser.submit(action, name="Bengt Ek", email="bengt@example.org", mobile="12")
    assert page.status == 422
    assert dict(page.form(action).fields)["email"] == "bengt@example.org"
    await organiser.submit(action, name="Bengt Ek", email="bengt@example.org", mobile="070-174 06 06")
    assert "Bengt Ek no answer yet" in organiser.page.text


async def test_another_organiser_sees_and_changes_nothing_of_it(portal, organiser, meeting):
    invitation = re.search(r"/invitations/([0-9a-f]+)/withdraw", (await organiser.get(f"/meetings/{meeting}")).html)[1]
    other = portal.browser()
    await portal.sign_in(other, "eva@sluss.test")
    csrf = other.page.csrf
    for path in (f"/meetings/{meeting}", f"/meetings/{meeting}/verify", f"/meetings/{meeting}/room"):
        assert (await other.get(path)).status == 404, path
    for path in (
        *(f"/invitations/{invitation}/{verb}" for verb in ("resend", "withdraw", "put-out")),
        f"/meetings/{meeting}/end",
    ):
        assert (await other.ask("POST", path, body=f"csrf={csrf}")).status == 404, path
    page = await other.ask("POST", f"/meetings/{meeting}/ticket", X_CSRF_Token=csrf)
    assert page.status == 404


async def test_a_new_link_kills_the_old_one(portal, organiser, meeting):
    old = await portal.link()
    await organiser.get(f"/meetings/{meeting}")
    await organiser.submit(next(f.action for f in organiser.page.forms if f.action.endswith("/resend")))
    new = await portal.link()
    assert new != old
    anna = portal.browser()
    await portal.verify(anna, new)
    await anna.get(old)
    assert "This is a personal link" in anna.page.text


async def test_the_page_says_how_each_participant_proved_who_they_are_and_at_which_level(portal, organiser, meeting):
    assert "Has not yet proved who they are." in (await organiser.get(f"/meetings/{meeting}")).text
    link, anna = await portal.link(), portal.browser()
    await portal.verify(anna, link)
    await anna.submit(f"{link}/answer", answer="accepted")
    page = await organiser.get(f"/meetings/{meeting}")
    assert re.search(
        r"Proved who they are 15 Oct 2026 12:\d\d: personal link and SMS code \(assurance level 1 of 3\)", page.text
    )
    assert "Anna Lindberg accepted" in page.text


async def test_the_organiser_sees_why_a_mail_still_waits(portal, organiser):
    portal.world.mail.down = DOWN
    meeting = await portal.meeting(organiser, ANNA)
    page = (await organiser.get(f"/meetings/{meeting}")).text
    assert f"The mail is waiting to be sent. {DOWN}" in page


async def test_the_organiser_is_told_of_not_me(portal, organiser, meeting):
    link, stranger = await portal.link(), portal.browser()
    await stranger.get(f"{link}/code")
    await stranger.submit(f"{link}/not-me")
    assert "reached the wrong person: “This is not me”" in (await organiser.get(f"/meetings/{meeting}")).text


async def test_the_organiser_too_proves_it_once_more_at_the_door(portal, organiser, meeting):
    page = await organiser.get(f"/meetings/{meeting}/room")
    assert page.path == f"/meetings/{meeting}/verify"
    ask = {"X_CSRF_Token": page.csrf, "Accept": "application/json"}
    assert (await organiser.ask("POST", f"/meetings/{meeting}/ticket", **ask)).status == 403
    assert (await organiser.submit(f"/meetings/{meeting}/verify", code="000000")).status == 403
    page = await organiser.submit(f"/meetings/{meeting}/verify", code=portal.authenticator())
    assert page.path == f"/meetings/{meeting}/room"
    ticket = await (await organiser.ask("POST", f"/meetings/{meeting}/ticket", **ask)).raw.json()
    assert ticket["token"].count(".") == 2


async def test_when_the_gate_does_not_answer_putting_out_says_so_and_the_person_is_shut_out_all_the_same(
    portal, organiser, meeting, link
):
    portal.world.door.connected = False
    page = await organiser.get(f"/meetings/{meeting}")
    invitation = re.search(r"/invitations/([0-9a-f]+)/withdraw", page.html)[1]
    path = f"/invitations/{invitation}/put-out"
    answer = await organiser.ask("POST", path, X_CSRF_Token=page.csrf, Accept="application/json")
    assert answer.status == GateUnavailable.status
    assert "door service is not answering" in (await answer.raw.json())["message"]
    assert "Anna Lindberg put out" in (await organiser.get(f"/meetings/{meeting}")).text
    assert "This is a personal link" in (await portal.browser().get(link)).text


async def test_putting_out_and_ending_reach_the_gate(portal, organiser, meeting):
    page = await organiser.get(f"/meetings/{meeting}")
    room = portal.world.sql("SELECT room FROM meetings")[0]["room"]
    invitation = re.search(r"/invitations/([0-9a-f]+)/withdraw", page.html)[1]
    path = f"/invitations/{invitation}/put-out"
    answer = await organiser.ask("POST", path, X_CSRF_Token=page.csrf, Accept="application/json")
    assert (answer.status, await answer.raw.json()) == (200, {"done": True})
    page = await organiser.submit(f"/meetings/{meeting}/end")
    assert "The meeting has ended." in page.text
    assert [r for r, _ in portal.world.door.expelled] == [room]
    assert portal.world.door.ended == [room]


async def test_who_is_here_is_told_to_the_organiser_with_the_means_to_put_them_out(portal, organiser, meeting, link):
    await portal.world.inside(link.removeprefix("/i/"))
    here = await (await organiser.ask("GET", f"/meetings/{meeting}/here", Accept="application/json")).raw.json()
    person = here["people"][0]
    assert (person["name"], person["role"]) == ("Anna Lindberg", "participant")
    assert person["method"] == "personal link and SMS code (assurance level 1 of 3)"
    page = await organiser.get(f"/meetings/{meeting}")
    assert "1 person is inside." in page.text
    assert page.form(f"/invitations/{person['invitation']}/put-out")


async def test_a_locked_person_is_seen_with_the_minutes_and_unlocked_with_a_button(portal, organiser, meeting, link):
    for _ in range(9):
        stranger = portal.browser()
        await stranger.get(link)
        await stranger.submit(f"{link}/code")
        portal.world.clock.forward(seconds=30)
    page = await organiser.get(f"/meetings/{meeting}")
    assert re.search(r"Too many codes were asked for with this link\. Locked for 1\d minutes\.", page.text)
    (unlock,) = [form.action for form in page.forms if form.action.endswith("/unlock")]
    page = await organiser.submit(unlock)
    assert "Locked" not in page.text
    assert not [form for form in page.forms if form.action.endswith("/unlock")]


async def test_the_organiser_reads_that_the_meetings_sms_are_used_up_and_sends_codes_again(portal, organiser, meeting):
    until = portal.world.clock.now + timedelta(days=1)
    await portal.world.store.run(lambda tx: tx.limits.put([("sms-meeting", meeting, meeting, until)]))
    page = await organiser.get(f"/meetings/{meeting}")
    assert "This meeting has used up its codes by SMS" in page.text
    page = await organiser.submit(f"/meetings/{meeting}/unlock")
    assert "used up" not in page.text
    assert not [form for form in page.forms if form.action.endswith("/unlock")]


async def test_a_number_in_a_country_that_gets_no_codes_is_refused_at_its_field(portal, organiser, meeting):
    page = await organiser.get(f"/meetings/{meeting}")
    page = await organiser.submit(
        f"/meetings/{meeting}/participants", name="Kari Nordmann", email="kari@example.org", mobile="+47 406 12 345"
    )
    assert page.status == 422
    assert re.search(r'id="mobile-error">Codes are not sent to numbers in this country\.', page.html)
    await organiser.get("/meetings/new")
    people = {"participant_name": "Kari", "participant_email": "k@example.org", "participant_mobile": "+4740612345"}
    page = await organiser.submit("/meetings/new", title="Budget", **people)
    assert re.search(r'id="mobile-1-error">Codes are not sent', page.html)


async def test_a_browser_that_has_signed_in_is_known_again_after_signing_out(portal, browser):
    await portal.world.organiser(OLLE)
    await browser.get("/sign-in")
    await browser.submit("/sign-in", email=OLLE, password=PASSWORD)
    page = await browser.ask("POST", "/sign-in/code", body=f"csrf={browser.page.csrf}&code={portal.authenticator()}")
    (cookie,) = [c for c in page.headers.getall("Set-Cookie") if c.startswith("__Host-known=")]
    assert {"Path=/", "Secure", "HttpOnly", "SameSite=Lax"} < set(cookie.split("; "))
    other = portal.browser()
    await other.get("/sign-in")
    for _ in range(5):
        await other.submit("/sign-in", email=OLLE, password="not it")
    assert (await other.submit("/sign-in", email=OLLE, password=PASSWORD)).status == 429
    await browser.get("/")
    await browser.submit("/sign-out")
    await browser.submit("/sign-in", email=OLLE, password=PASSWORD)
    assert browser.page.path == "/sign-in/code"


async def test_a_label_tells_namesakes_apart_and_without_one_the_form_says_where(portal, organiser, meeting):
    await organiser.get(f"/meetings/{meeting}")
    typed = {"name": "Anna Lindberg", "email": "anna2@example.org", "mobile": "070-174 06 06"}
    page = await organiser.submit(f"/meetings/{meeting}/participants", **typed)
    assert re.search(r'id="label-error">Two people have this name\.', page.html)
    page = await organiser.submit(f"/meetings/{meeting}/participants", **typed, label="Ekonomi")
    assert "Anna Lindberg (Ekonomi)" in page.text
    await organiser.get("/meetings/new")
    rows = {f"participant_{name}": [value, value] for name, value in typed.items()}
    rows["participant_email"][1] = "anna3@example.org"
    page = await organiser.submit("/meetings/new", title="Budget", **rows)
    assert re.search(r'id="label-2-error">Two people have this name', page.html)


async def test_classes_are_called_what_the_policy_calls_them_in_the_readers_language(portal, organiser):
    portal.world.change_class(title={"en": "House", "sv": "Huset"}, description={"en": "Ours.", "sv": "Vårt."})
    meeting = await portal.meeting(organiser)
    assert "House Ours." in (await organiser.get("/meetings/new")).text
    assert "Sensitivity class: House" in (await organiser.get(f"/meetings/{meeting}")).text
    swedish = portal.browser("sv")
    swedish.cookies |= organiser.cookies
    assert "Huset Vårt." in (await swedish.get("/meetings/new")).text


async def test_form_says_so_where_nobody_could_enter_any_class(portal, organiser):
    portal.world.change_class(join=Requirement((Method.BANKID,), timedelta(minutes=5)))
    assert "No class can be chosen" in (await organiser.get("/meetings/new")).text


async def test_the_organiser_gives_a_participant_another_number(portal, organiser, meeting, link):
    page = await organiser.get(f"/meetings/{meeting}")
    (at,) = [form.action for form in page.forms if form.action.endswith("/number")]
    page = await organiser.submit(at, mobile="12")
    assert (page.status, "Write a mobile number such as" in page.text) == (422, True)
    await organiser.get(f"/meetings/{meeting}")
    page = await organiser.submit(at, mobile="070-174 06 99")
    assert "+46 70 174 06 99" in page.text
    stranger = portal.browser()
    await stranger.get(link)
    await stranger.submit(f"{link}/code")
    await portal.world.worker.deliver_due()
    assert portal.world.sms.sent[-1][0] == "+46701740699"


async def test_code_page_says_when_another_code_can_be_asked_for_and_lets_the_phone_fill_it_in(portal, link):
    for language, after in (("en", "another code 1 minute after the last one"), ("sv", "en ny kod 1 minut efter")):
        browser = portal.browser(language)
        await browser.get(link)
        assert "after the last one" not in (await browser.get(f"{link}/code")).text
        await browser.get(link)
        await browser.submit(f"{link}/code")
        portal.world.clock.forward(seconds=30)
        page = await browser.submit(f"{link}/code")
        assert after in page.text
        assert 'autocomplete="one-time-code"' in page.html
        assert 'inputmode="numeric"' in page.html
        await portal.world.worker.deliver_due()
        assert re.search(r"^@portal\.sluss\.test #\d{6}$", portal.world.sms.sent[-1][1], re.MULTILINE)
        portal.world.clock.forward(seconds=30)
