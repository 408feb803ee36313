"""The way behind a personal link, as a participant walks it."""

from __future__ import annotations

import html
import json
import re
from dataclasses import replace

import pytest
from tests.unit.web.conftest import ANNA, BENGT

from sluss.domain.assurance import Method
from sluss.domain.policy import Encryption


def plain(page, link: str) -> str:
    """The page without what differs between any two requests."""
    return page.plain.replace(link, "LINK")


async def wrong(portal, link: str = "wrong") -> str:
    """The path of a link that is none, and does not look as if its person had a passkey or an authenticator."""
    while await portal.services.participation.methods(link) != (Method.SMS,):
        link += "A"
    return f"/i/{link}"


async def test_a_live_withdrawn_and_wrong_link_look_alike_to_the_byte(portal, organiser, link):
    await portal.meeting(organiser, BENGT)
    withdrawn = await portal.link(BENGT)
    await portal.services.participation.not_me(withdrawn.removeprefix("/i/"), "")
    pages = []
    for path in (link, withdrawn, await wrong(portal), await wrong(portal, "A" * 43)):
        stranger = portal.browser()
        page = await stranger.get(path)
        assert page.status == 200
        pages.append((plain(page, path), {k: v for k, v in page.headers.items() if k in ("Content-Language", "Vary")}))
    assert all(page == pages[0] for page in pages)
    assert "Closing" not in pages[0][0]


async def test_they_go_on_looking_alike_after_a_code_was_asked_for_and_typed(portal, organiser, link):
    seen = []
    for path in (link, await wrong(portal)):
        stranger = portal.browser()
        await stranger.get(path)
        form = await stranger.submit(f"{path}/code")
        refused = await stranger.submit(f"{path}/verify", code="123456")
        assert (form.status, refused.status) == (200, 403)
        assert "That did not match" in refused.text
        seen.append((plain(form, path), plain(refused, path)))
        asked_again = await stranger.submit(f"{path}/code")
        assert asked_again.status == 429
        seen[-1] += (plain(asked_again, path),)
    assert seen[0] == seen[1]


async def test_a_refusal_shows_the_reference_that_the_audit_log_has(portal, link):
    anna = portal.browser()
    await anna.get(link)
    await anna.submit(f"{link}/code")
    refused = await anna.submit(f"{link}/verify", code="123456")
    (reference,) = re.findall(r"<code>([0-9a-f]{16})</code>", refused.html)
    *_, last = await portal.services.audit.newest(10)
    assert (last.action, last.outcome, last.request_id) == ("verified", "refused", reference)


async def test_opening_a_link_sends_nothing_and_uses_nothing_up(portal, link):
    for path in (link, f"{link}/code", f"{link}/join/code", f"{link}/room", f"{link}/not-me"):
        await portal.browser().get(path)
    await portal.world.worker.deliver_due()
    assert portal.world.sms.sent == []
    anna = portal.browser()
    await portal.verify(anna, link)
    assert "Closing the Gävle plant" in anna.page.text


async def test_after_the_code_the_invitation_is_shown_with_its_lines_and_nothing_in_it_is_markup(portal, link):
    anna = portal.browser()
    await portal.verify(anna, link)
    assert '<p class="agenda">1. Why\n2. When\n&lt;3. Who&gt;</p>' in anna.page.html
    assert "Eva Ek" in anna.page.text
    assert re.search(
        r"Thursday, 15 October 2026, 12:1\d–13:1\d Central European Summer Time · 60 minutes", anna.page.text
    )


async def test_another_browser_with_the_same_link_sees_nothing(portal, link):
    await portal.verify(portal.browser(), link)
    assert "Closing" not in (await portal.browser().get(link)).text


async def test_the_code_field_is_one_that_phones_fill_in(portal, link):
    form = await portal.browser().get(f"{link}/code")
    field = re.search(r'<input id="code"[^>]+>', form.html)[0]
    assert 'autocomplete="one-time-code"' in field
    assert 'inputmode="numeric"' in field


@pytest.mark.parametrize(("said", "text"), [("accepted", "You have accepted."), ("declined", "You have declined.")])
async def test_answering(portal, link, said, text):
    anna = portal.browser()
    await portal.verify(anna, link)
    assert "Will you come?" in anna.page.text
    await anna.submit(f"{link}/answer", answer=said)
    assert text in anna.page.text


async def test_an_answer_that_is_none_is_refused(portal, link):
    anna = portal.browser()
    await portal.verify(anna, link)
    assert (await anna.submit(f"{link}/answer", answer="pending")).status == 422


async def test_answering_without_a_verification_leads_to_the_neutral_page(portal, link):
    stranger = portal.browser()
    csrf = (await stranger.get(link)).csrf
    page = await stranger.ask("POST", f"{link}/answer", body=f"csrf={csrf}&answer=accepted")
    assert (page.status, page.headers["Location"]) == (303, link)


async def test_this_is_not_me_locks_the_link_in_one_click(portal, link):
    anna = portal.browser()
    await portal.verify(anna, link)
    page = await anna.submit(f"{link}/not-me")
    assert page.path == f"{link}/not-me"
    assert "This link opens nothing any more" in page.text
    assert "This is a personal link" in (await anna.get(link)).text


async def test_not_me_says_the_same_of_a_wrong_link(portal, link):
    pages = []
    for path in (link, await wrong(portal)):
        stranger = portal.browser()
        await stranger.get(f"{path}/code")
        pages.append(plain(await stranger.submit(f"{path}/not-me"), path))
    assert pages[0] == pages[1]


async def test_before_the_door_opens_the_page_says_when_and_the_room_is_shut(portal, organiser):
    await portal.meeting(organiser, ANNA, starts_in=120)
    link, anna = await portal.link(), portal.browser()
    await portal.verify(anna, link)
    assert re.search(r"The door opens at 13:4\d on 15 Oct 2026", anna.page.text)
    assert "Enter the meeting" not in anna.page.text
    assert (await anna.get(f"{link}/room")).path == link


async def test_a_verification_to_see_the_invitation_is_not_one_to_enter(portal, link):
    anna = portal.browser()
    await portal.verify(anna, link)
    assert (await anna.get(f"{link}/room")).path == link
    page = await anna.ask("POST", f"{link}/ticket", X_CSRF_Token=anna.page.csrf, Accept="application/json")
    assert page.status == 403
    assert (await page.raw.json())["error"] == "NotVerified"
    assert (await anna.ask("GET", f"{link}/here", Accept="application/json")).status == 403


async def test_after_a_second_code_the_room_page_gets_a_ticket_by_script_alone(portal, link):
    anna = portal.browser()
    await portal.enter(anna, link)
    assert anna.page.path == f"{link}/room"
    page = await anna.ask("POST", f"{link}/ticket", X_CSRF_Token=anna.page.csrf, Accept="application/json")
    ticket = await page.raw.json()
    assert set(ticket) == {"token", "room", "domain", "expires_at"}
    assert ticket["domain"] == "meet.sluss.test"
    assert ticket["expires_at"] - portal.world.clock().timestamp() <= 120
    assert ticket["token"] not in anna.page.html
    assert ticket["room"] not in anna.page.html
    assert await (await anna.ask("GET", f"{link}/here")).raw.json() == {"people": []}


async def test_the_room_page_asks_why_it_is_over_and_a_link_alone_is_told_nothing(portal, organiser, meeting, link):
    anna = portal.browser()
    await portal.enter(anna, link)
    assert f'data-outside="{link}/outside"' in anna.page.html
    await anna.ask("POST", f"{link}/ticket", X_CSRF_Token=anna.page.csrf, Accept="application/json")
    await organiser.get(f"/meetings/{meeting}")
    await organiser.submit(f"/meetings/{meeting}/end")
    answer = await anna.ask("GET", f"{link}/outside", Accept="application/json")
    assert await answer.raw.json() == {"reason": "not-open"}
    told = []
    for path in (link, await wrong(portal)):
        refused = await portal.browser().ask("GET", f"{path}/outside", Accept="application/json")
        told.append((refused.status, {**await refused.raw.json(), "request_id": ""}))
    assert told[0] == told[1]
    assert told[0][0] == 403


async def test_reloading_the_room_page_does_not_ask_for_a_new_code(portal, link):
    anna = portal.browser()
    await portal.enter(anna, link)
    assert (await anna.get(f"{link}/room")).path == f"{link}/room"


async def test_a_withdrawn_person_gets_no_ticket_and_sees_the_neutral_page(portal, organiser, meeting, link):
    anna = portal.browser()
    await portal.enter(anna, link)
    await organiser.get(f"/meetings/{meeting}")
    action = next(f.action for f in organiser.page.forms if f.action.endswith("/withdraw"))
    await organiser.submit(action)
    page = await anna.ask("POST", f"{link}/ticket", X_CSRF_Token=anna.page.csrf, Accept="application/json")
    assert page.status in (403, 404)
    assert "This is a personal link" in (await anna.get(f"{link}/room")).text


async def test_an_odd_link_is_quoted_wherever_it_is_written(portal):
    page = await portal.browser().get("/i/%22%3E%3Cscript%3E")
    assert page.status == 200
    assert "<script>" not in page.html.replace('<script type="module"', "")
    assert '/i/%22%3E%3Cscript%3E/code"' in page.html


async def test_who_waits_for_the_organiser_is_told_so_and_seen_by_them(portal, organiser, meeting):
    portal.world.change_class(waiting_room=True)
    link, anna = await portal.link(), portal.browser()
    await portal.enter(anna, link)  # the room page, which waits
    ask = {"X_CSRF_Token": anna.page.csrf, "Accept": "application/json"}
    answer = await anna.ask("POST", f"{link}/ticket", **ask)
    assert answer.status == 409
    assert await answer.raw.json() == {
        "error": "Waiting",
        "message": "The organiser has not come yet. You will be let in as soon as they are here.",
        "waiting": [],
    }
    assert (await anna.ask("GET", f"{link}/here", Accept="application/json")).status == 409
    here = await (await organiser.ask("GET", f"/meetings/{meeting}/here", Accept="application/json")).raw.json()
    assert [person["name"] for person in here["waiting"]] == ["Anna Lindberg"]
    assert "personal link and SMS code" in here["waiting"][0]["method"]
    assert "waiting for you" in (await organiser.get(f"/meetings/{meeting}")).text


@pytest.mark.parametrize("shown", [True, False])
async def test_who_else_is_invited_is_shown_after_a_verification_where_the_class_shows_it(portal, organiser, shown):
    portal.world.change_class(attendees_shown=shown)
    meeting = await portal.meeting(organiser, ANNA, BENGT)
    link, anna = await portal.link(), portal.browser()
    assert BENGT.name not in (await anna.get(link)).text
    await portal.verify(anna, link)
    assert (BENGT.name in anna.page.text) is shown
    for hidden in (BENGT.email, BENGT.mobile):
        assert hidden not in anna.page.html
    (bengt,) = [p.invitation for p in await invited(portal, organiser, meeting) if p.invitation.name == BENGT.name]
    await portal.services.meetings.withdraw(await who(portal, organiser), bengt.id)
    assert BENGT.name not in (await anna.get(link)).text


async def test_room_page_is_told_what_the_class_allows(portal, organiser, meeting):
    features = portal.world.ground.policy.of("internal").features
    chosen = replace(features, recording=True, chat=False, end_to_end_encryption=Encryption.REQUIRED)
    portal.world.change_class(features=chosen)
    link, anna = await portal.link(), portal.browser()
    await portal.enter(anna, link)
    said = json.loads(html.unescape(re.search(r'data-features="([^"]*)"', anna.page.html)[1]))
    assert said == {
        "recording": True,
        "chat": False,
        "screen_sharing": True,
        "end_to_end_encryption": "required",
    }


async def who(portal, browser):
    return await portal.services.organisers.current(browser.cookies["__Host-sluss"])


async def invited(portal, browser, meeting):
    return (await portal.services.meetings.view(await who(portal, browser), meeting)).participants
