"""Invariant 5: no role reaches what is another's: an organiser, an auditor, an admin and nobody walk every route.

The table is made of the router itself; whose a page is stands here once more.
"""

from __future__ import annotations

import re
import secrets

import pyotp
import pytest
from tests.attacks.people import PASSWORD, Browser, Meeting, Organiser, Site

from sluss.web import routes, security

NOBODY = "nobody"
AUDITORS, ADMINS, EVERYBODYS = r"/audit(/.*)?", r"/accounts(/.*)?", r"/(account|prove|sign-out)(/.*)?"
PRIVATE = sorted(
    (route.method, route.path, route.kwargs["name"])
    for route in routes()
    if hasattr(route, "method") and route.kwargs["name"] not in security.PUBLIC
)
# Signing out would end the walk, and the acts on accounts have attacks of their own below.
WALKED = [(method, path) for method, path, name in PRIVATE if not name.startswith(("sign_out", "managed_account_"))]
WALKED += [("GET", "/accounts/{account}")]


@pytest.fixture(scope="module")
def meeting(site: Site) -> Meeting:
    return site.organiser().meeting("Anna Lindberg", title=f"Kassett {secrets.token_hex(4)}", agenda="Klarinett")


@pytest.fixture(scope="module")
def people(site: Site, meeting: Meeting) -> dict[str, Browser]:
    others = {role: site.organiser(role=role).browser for role in ("auditor", "admin")}
    return {"organiser": meeting.organiser.browser, NOBODY: Browser(site)} | others


def whose(path: str) -> set[str]:
    if re.fullmatch(EVERYBODYS, path):
        return {"organiser", "auditor", "admin"}
    if re.fullmatch(AUDITORS, path):
        return {"auditor"}
    return {"admin"} if re.fullmatch(ADMINS, path) else {"organiser"}


@pytest.mark.parametrize("who", ["organiser", "auditor", "admin", NOBODY])
def test_route_is_there_for_whose_it_is_and_for_nobody_else(people: dict[str, Browser], meeting: Meeting, who: str):
    real = {"meeting": meeting.id, "account": meeting.organiser.id, "invitation": meeting.invitation(meeting.people[0])}
    browser, walked = people[who], 0
    for method, template in WALKED:
        path = re.sub(r"\{(\w+)[^}]*\}", lambda part: real.get(part[1], "x" * 32), template)
        if method == "POST" and who in whose(path):
            continue  # it would be done
        answer = browser.get(path) if method == "GET" else browser.post(path, {"code": "000000", "response": "{}"})
        told = f"{who}: {method} {template}: {answer.status} {answer.location}"
        if who == NOBODY:
            assert (answer.status, answer.location) in {(303, "/sign-in"), (401, None)}, told
        elif path == "/":
            assert (answer.status, answer.location) == ((200, None) if who == "organiser" else (303, HOMES[who])), told
        elif who not in whose(path):
            assert answer.status == 404, told
        elif path != "/account/authenticators/new":  # is there while one waits for its first code
            assert answer.status in {200, 303, 403}, told  # 403: at the door without a fresh proof
            assert answer.location != "/sign-in", told
        assert HEADERS.items() <= dict(answer.headers).items(), told
        assert answer.headers["Content-Security-Policy"].startswith("default-src 'none'; script-src 'self'; "), told
        walked += 1
        if who != "organiser":
            assert meeting.organiser.email not in answer.text or who == "admin", told
            assert not re.search("Kassett|Klarinett", answer.text), told
    assert walked > 15


HEADERS = {
    "Cache-Control": "no-store",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "Strict-Transport-Security": "max-age=63072000",
    "X-Content-Type-Options": "nosniff",
}
HOMES = {"auditor": "/audit", "admin": "/accounts"}


def proved(site: Site, who: Organiser, ago: int = 0) -> Organiser:
    site.insider("age_proof", session=who.browser.session, ago=ago)
    return who


def enrolled(admin: Organiser, account: str) -> bool:
    return "not enrolled" not in admin.browser.get(f"/accounts/{account}", Accept_Language="en").text


def test_act_of_an_admin_without_a_proof_just_before_is_not_done(site: Site, meeting: Meeting):
    admin, eva = proved(site, site.organiser(role="admin"), ago=301), site.organiser()
    for act in ("reset", "remove", "unlock", "link"):
        answer = admin.browser.post(f"/accounts/{eva.id}/{act}")
        assert (answer.status, answer.location) == (303, f"/prove?next=/accounts/{eva.id}"), act
    assert admin.browser.post("/accounts", {"name": "X", "email": "x@sluss.test", "role": "organiser"}).status == 303
    assert "x@sluss.test" not in admin.browser.get("/accounts").text
    assert eva.browser.get("/").status == 200


def test_meeting_is_not_ended_for_all_with_a_session_that_somebody_left_open(site: Site):
    eva = site.organiser()
    meeting = eva.meeting("Anna Lindberg")
    answer = proved(site, eva, ago=301).browser.post(f"/meetings/{meeting.id}/end")
    assert answer.location == f"/prove?next=/meetings/{meeting.id}"
    assert "has ended" not in eva.browser.get(f"/meetings/{meeting.id}", Accept_Language="en").text
    assert eva.browser.post("/account", {"code": "000000", "next": f"/meetings/{meeting.id}"}).status == 403
    code = pyotp.TOTP(eva.secret).now()
    assert eva.browser.post("/account", {"code": code, "next": f"/meetings/{meeting.id}"}).status == 303
    eva.browser.post(f"/meetings/{meeting.id}/end")
    assert "has ended" in eva.browser.get(f"/meetings/{meeting.id}", Accept_Language="en").text


def test_one_admin_alone_does_not_reset_who_has_a_secret_meeting(site: Site):
    admin, second, eva = site.organiser(role="admin"), site.organiser(role="admin"), site.organiser()
    site.insider("classify", meeting_id=eva.meeting("Anna Lindberg").id, sensitivity="secret")
    for _ in range(3):
        admin.browser.post(f"/accounts/{eva.id}/reset")
    assert enrolled(admin, eva.id)
    assert eva.browser.get("/").status == 200
    second.browser.post(f"/accounts/{eva.id}/reset")
    assert not enrolled(admin, eva.id)
    assert eva.browser.get("/").location == "/sign-in"


def test_one_admin_alone_does_not_hand_a_secret_meeting_to_an_organiser_of_their_own(site: Site):
    admin, eva, accomplice = site.organiser(role="admin"), site.organiser(), site.organiser("Olle Ohlsson")
    meeting = eva.meeting("Anna Lindberg", title=f"Kassett {secrets.token_hex(4)}")
    site.insider("classify", meeting_id=meeting.id, sensitivity="secret")
    for _ in range(3):
        admin.browser.post(f"/accounts/{eva.id}/remove", {"successor": accomplice.id})
    assert accomplice.browser.get(f"/meetings/{meeting.id}").status == 404
    assert "Kassett" not in accomplice.browser.get("/").text
    assert eva.browser.get(f"/meetings/{meeting.id}").status == 200


def test_admin_does_not_make_a_second_admin(site: Site):
    admin = site.organiser(role="admin")
    mail = f"{secrets.token_hex(4)}@sluss.test"
    answer = admin.browser.post("/accounts", {"name": "Ada Alm", "email": mail, "role": "admin"})
    assert answer.status == 422
    assert site.messages("mail", mail) == []


def test_who_was_removed_is_out_and_does_not_come_back(site: Site):
    admin, eva = site.organiser(role="admin"), site.organiser()
    meeting = eva.meeting("Anna Lindberg")
    answer = admin.browser.post(f"/accounts/{eva.id}/remove")
    assert answer.location == "/accounts"
    for path in ("/", "/account", f"/meetings/{meeting.id}"):
        assert eva.browser.get(path).location == "/sign-in"
    again = Browser(site)
    assert again.post("/sign-in", {"email": eva.email, "password": PASSWORD}).status == 403
    assert "A personal link" in site.message("mail", meeting.people[0].email, before=1)
