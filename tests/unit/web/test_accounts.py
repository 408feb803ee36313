"""The pages of accounts: the admin's, one's own, and the way through a proof to what takes one."""

from __future__ import annotations

import re

import pyotp
import pytest
from tests.unit.authenticator import Authenticator
from tests.unit.web.browser import Browser
from tests.unit.web.conftest import ANNA, OLLE, Portal
from tests.unit.web.test_passkeys import use

from sluss.domain.accounts import AccountRole

ADMIN, SECOND = "admin@sluss.test", "second@sluss.test"


@pytest.fixture
async def admin(portal, browser) -> Browser:
    await portal.sign_in(browser, ADMIN, AccountRole.ADMIN)
    portal.admins_totp = portal.world.totp
    return browser


async def account_of(portal: Portal, email: str) -> str:
    """The path of an account on the admin's pages."""
    return f"/accounts/{(await portal.services.organisers.by_email(email)).id}"


async def test_admin_begins_with_the_accounts_and_sees_no_meeting_of_theirs(portal, admin):
    other = portal.browser()
    await portal.sign_in(other)
    await portal.meeting(other, ANNA)
    page = await admin.get("/accounts")
    assert f"Eva Ek {OLLE} · organiser · enrolled 15 Oct 2026" in page.text
    for path in ("/accounts", await account_of(portal, OLLE)):
        html = (await admin.get(path)).html
        assert not any(word in html for word in ("Gävle plant", ANNA.name, ANNA.email))


async def test_admin_invites_and_the_page_never_shows_the_link(portal, admin):
    await admin.get("/accounts")
    page = await admin.submit("/accounts", name="Nils Ny", email="nils@sluss.test", role="auditor")
    assert "Nils Ny nils@sluss.test · auditor · not enrolled" in page.text
    assert "/enrol/" not in page.html
    await portal.world.worker.deliver_due()
    ((to, mail),) = portal.world.mail.sent
    assert to == "nils@sluss.test"
    assert re.search(r"https://portal\.sluss\.test/enrol/[\w-]{43}\n", mail)
    await admin.submit("/accounts", name="", email="nils@sluss.test", role="auditor")
    assert (admin.page.status, "Write the person" in admin.page.text) == (422, True)
    assert (await admin.submit("/accounts", name="X", email="x@sluss.test", role="admin")).status == 422
    await admin.get(await account_of(portal, "nils@sluss.test"))
    await admin.submit(f"{admin.page.path}/link")
    await portal.world.worker.deliver_due()
    assert len(portal.world.mail.sent) == 2


async def test_admin_proves_it_and_comes_back_to_the_act(portal, admin):
    await portal.world.organiser(OLLE)
    at = await account_of(portal, OLLE)
    await admin.get(at)
    portal.world.clock.forward(minutes=6)
    await admin.submit(f"{at}/reset")
    assert admin.page.path == f"/prove?next={at}"
    assert "not enrolled" not in (await admin.get(at)).text
    await admin.submit(f"{at}/reset")
    assert (await admin.submit("/account", code="000000")).status == 403
    await admin.submit("/account", code=portal.admins_totp.at(portal.world.clock()))
    assert admin.page.path == at
    await admin.submit(f"{at}/reset")
    assert "not enrolled" in admin.page.text


async def test_two_admins_reset_who_has_a_secret_meeting_and_each_sees_what_is_missing(portal, admin):
    organiser, second = portal.browser(), portal.browser("sv")
    await portal.sign_in(organiser)
    portal.world.change_class(two_admins=True)
    await portal.meeting(organiser, ANNA)
    await portal.sign_in(second, SECOND, AccountRole.ADMIN)
    at = await account_of(portal, OLLE)
    await admin.get(at)
    await admin.submit(f"{at}/reset")
    assert "It was you. Another administrator has to do the same" in admin.page.text
    assert "a second administrator is needed" in (await admin.get("/accounts")).text
    assert (await organiser.get("/")).path == "/"
    await second.get(at)
    assert "En administratör vill återställa inloggningen." in second.page.text
    assert "Om du gör samma sak blir det gjort." in second.page.text
    await second.submit(f"{at}/reset")
    assert "inte klart" in second.page.text
    assert (await organiser.get("/")).path == "/sign-in"


async def test_second_admin_sees_by_the_address_who_would_have_the_meetings(portal, admin):
    """The first one can invite somebody who bears another organiser's name."""
    organiser, second = portal.browser(), portal.browser()
    await portal.sign_in(organiser)
    portal.world.change_class(two_admins=True)
    await portal.meeting(organiser, ANNA)
    namesake = await portal.world.organiser("olle@elsewhere.test", "Olle Ohlsson")
    await portal.sign_in(second, SECOND, AccountRole.ADMIN)
    at = await account_of(portal, OLLE)
    await admin.get(at)
    await admin.submit(f"{at}/remove", successor=namesake.id)
    assert "hand its meetings over to Olle Ohlsson (olle@elsewhere.test)." in (await second.get(at)).text


async def test_who_leaves_hands_the_meetings_to_whom_the_admin_chooses(portal, admin):
    leaver, other = portal.browser(), portal.browser()
    await portal.sign_in(leaver)
    meeting = await portal.meeting(leaver, ANNA)
    await portal.sign_in(other, "pia@sluss.test")
    at = await account_of(portal, OLLE)
    page = await admin.get(at)
    assert "nobody: those to come are withdrawn" in page.html
    pia = (await portal.services.organisers.by_email("pia@sluss.test")).id
    assert f'<option value="{pia}">' in page.html
    await admin.submit(f"{at}/remove", successor="nobody there")
    assert (admin.page.status, "Choose another organiser." in admin.page.text) == (422, True)
    await admin.get(at)
    await admin.submit(f"{at}/remove", successor=pia)
    assert admin.page.path == "/accounts"
    assert OLLE not in admin.page.text
    assert (await admin.get(at)).status == 404
    assert (await leaver.get("/")).path == "/sign-in"
    assert "Closing the Gävle plant" in (await other.get("/")).text
    assert (await other.get(f"/meetings/{meeting}")).status == 200


async def test_admins_own_account_has_no_button(portal, admin):
    at = await account_of(portal, ADMIN)
    page = await admin.get(at)
    assert [form.action for form in page.forms if "/accounts" in form.action] == []
    page = await admin.ask("POST", f"{at}/reset", body=f"csrf={page.csrf}")
    assert page.status == 422


async def test_organiser_adds_a_second_authenticator_and_removes_the_lost_one(portal, organiser):
    await organiser.get("/account")
    assert not [form for form in organiser.page.forms if "/authenticators/" in form.action]  # the last one stays
    await organiser.submit("/account/authenticators", name="Surfplattan")
    assert organiser.page.path == "/account/authenticators/new"
    totp = pyotp.TOTP(re.search(r'class="secret">([^<]+)<', organiser.page.html)[1].replace(" ", ""))
    page = await organiser.submit("/account/authenticators/new", code="000000")
    assert (page.status, "That code is not right." in page.text) == (422, True)
    await organiser.submit("/account/authenticators/new", code=totp.at(portal.world.clock()))
    assert "Surfplattan" in organiser.page.text
    first = next(form.action for form in organiser.page.forms if "/authenticators/" in form.action)
    await organiser.submit(first)
    assert "The first one" not in organiser.page.text
    portal.world.clock.forward(minutes=6)
    await organiser.get("/account")
    lost = portal.authenticator()
    assert (await organiser.submit("/account", code=lost)).status == 403
    await organiser.submit("/account", code=totp.at(portal.world.clock()))
    assert organiser.page.path == "/account"


async def test_without_a_proof_of_late_the_account_is_shown_and_nothing_can_be_changed(portal, organiser):
    portal.world.clock.forward(minutes=6)
    page = await organiser.get("/account")
    assert "Prove once more who you are before you add or remove something here." in page.text
    assert {form.action for form in page.forms} == {"/sign-out", "/sign-out/everywhere", "/account", "/language"}


async def test_account_shows_where_one_is_signed_in(portal, organiser):
    text = (await organiser.get("/account")).text
    assert "Where you are signed in Since 15 Oct 2026 10:00 UTC · this browser" in text


async def test_passkey_gets_the_name_that_was_typed_and_proves_it_on_the_way_to_an_act(portal, organiser, meeting):
    own = Authenticator()
    await organiser.get("/account")
    names = dict(organiser.page.form("/account/passkeys/new").fields)
    assert "name" in names
    organiser.page.form("/account/passkeys/new").fields.append(("name", "Nyckelknippan"))
    organiser.page.form("/account/passkeys/new").fields.remove(("name", ""))
    await use(organiser, own, "/account/passkeys/new", "/account/passkeys/add")
    assert "Nyckelknippan Added 15 Oct" in organiser.page.text
    portal.world.clock.forward(minutes=6)
    await organiser.get(f"/meetings/{meeting}")
    await organiser.submit(f"/meetings/{meeting}/end")
    assert organiser.page.path == f"/prove?next=/meetings/{meeting}"
    await use(organiser, own, "/account/passkey", "/account/passkey/verify")
    assert organiser.page.path == f"/meetings/{meeting}"
    assert "has ended" not in organiser.page.text
    await organiser.submit(f"/meetings/{meeting}/end")
    assert "The meeting has ended." in organiser.page.text


async def test_withdrawing_all_takes_a_proof_and_tells_those_who_are_invited(portal, organiser):
    at = f"/meetings/{await portal.meeting(organiser, ANNA, starts_in=60)}"
    portal.world.clock.forward(minutes=6)
    await organiser.get(at)
    await organiser.submit(f"{at}/withdraw")
    assert organiser.page.path == f"/prove?next={at}"
    await organiser.submit("/account", code=portal.authenticator())
    await organiser.submit(f"{at}/withdraw")
    assert "The meeting has ended." in organiser.page.text
    assert "Anna Lindberg withdrawn" in organiser.page.text
    await portal.world.worker.deliver_due()
    assert "A personal link that you were sent opens nothing any more." in portal.world.mail.sent[-1][1]


@pytest.mark.parametrize("path", ["/accounts", "/account", "/prove", "managed", "/audit/log"])
async def test_pages_are_in_swedish_too(portal, path):
    browser, role = portal.browser("sv"), AccountRole.AUDITOR if path == "/audit/log" else AccountRole.ADMIN
    await portal.world.organiser(OLLE)
    await portal.sign_in(browser, ADMIN, role)
    page = await browser.get(await account_of(portal, OLLE) if path == "managed" else path)
    words = {
        "/accounts": "Bjud in någon",
        "/account": "Dina autentiseringsappar",
        "/prove": "Sedan kommer du tillbaka.",
        "managed": "Återställ inloggningen",
        "/audit/log": "Granskningslogg",
    }
    assert words[path] in page.text
    assert "administrator" not in page.text.replace("administratör", "").casefold()
