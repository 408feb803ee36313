"""The attendance on its pages: the organiser's after a fresh code, the auditor's without what it was about."""

from __future__ import annotations

import pytest
from tests.unit.web.browser import Browser
from tests.unit.web.conftest import ANNA, Portal

from sluss.domain.accounts import AccountRole

TITLE = "Closing the Gävle plant"


@pytest.fixture
async def met(portal, meeting, link) -> str:
    """Anna was there for seven minutes. The meeting's path."""
    world = portal.world
    username = await world.inside(world.link(ANNA.email), to=ANNA.mobile)
    world.clock.forward(minutes=7)
    room = world.sql("SELECT room FROM meetings")[0]["room"]
    await portal.services.admission.left(world.event(room, username))
    return f"/meetings/{meeting}"


@pytest.fixture
async def auditor(portal, met) -> Browser:
    browser = portal.browser()
    _, browser.cookies["__Host-sluss"] = await portal.world.signed_in("audit@sluss.test", AccountRole.AUDITOR)
    return browser


async def proved(portal: Portal, organiser: Browser, met: str) -> None:
    await organiser.get(f"{met}/attendance")
    await organiser.submit(f"{met}/attendance", code=portal.authenticator())


async def test_organiser_gives_a_fresh_code_and_sees_who_was_there(portal, organiser, met):
    await organiser.get(met)
    assert f'href="{met}/attendance"' in organiser.page.html
    await organiser.get(f"{met}/attendance")
    assert "Prove once more" in organiser.page.text
    assert ANNA.name not in organiser.page.text
    await organiser.submit(f"{met}/attendance", code="000000")
    assert (organiser.page.status, ANNA.name in organiser.page.text) == (403, False)
    await organiser.submit(f"{met}/attendance", code=portal.authenticator())
    assert organiser.page.path == f"{met}/attendance"
    for shown in (ANNA.name, "7 minutes", "personal link and SMS code (assurance level 1 of 3)", "192.0.2.0/24"):
        assert shown in organiser.page.text
    assert "was not there" in organiser.page.text  # the organiser


async def test_page_is_in_swedish_too(portal, organiser, met):
    organiser.headers["Accept-Language"] = "sv"
    await proved(portal, organiser, met)
    for shown in ("Närvaro", "var inte där", "7 minuter", "Signerad förteckning"):
        assert shown in organiser.page.text


async def test_organiser_takes_the_table_and_the_signed_record_home(portal, organiser, met):
    for path in (f"{met}/attendance.csv", f"{met}/attendance.jws"):
        page = await organiser.ask("GET", path)
        assert (page.status, page.headers["Location"]) == (303, f"{met}/attendance")
    await proved(portal, organiser, met)
    table = await organiser.ask("GET", f"{met}/attendance.csv")
    assert table.headers["Content-Type"] == "text/csv; charset=utf-8"
    assert table.headers["Content-Disposition"].startswith("attachment; filename=attendance-")
    assert ANNA.name in table.html
    receipt = await organiser.ask("GET", f"{met}/attendance.jws")
    assert portal.world.keys.check_receipt(receipt.html)["people"][1]["name"] == ANNA.name


async def looks(portal: Portal, auditor: Browser, which: str) -> None:
    """Open an attendance, which takes a code of the last five minutes."""
    await auditor.get(f"/audit/{which}")
    assert auditor.page.path == f"/prove?next=/audit/{which}"
    assert ANNA.name not in auditor.page.text
    await auditor.submit("/account", code=portal.authenticator())


async def test_auditor_sees_ids_times_and_classes_and_who_was_there_and_not_what_it_was_about(portal, auditor, met):
    portal.world.clock.forward(minutes=6)
    await auditor.get("/")
    assert auditor.page.path == "/audit"
    which = met.rpartition("/")[2]
    assert which in auditor.page.text
    assert "Internal" in auditor.page.text
    assert TITLE not in auditor.page.html
    await looks(portal, auditor, which)
    assert auditor.page.path == f"/audit/{which}"
    assert ANNA.name in auditor.page.text
    assert TITLE not in auditor.page.html
    assert ".csv" not in auditor.page.html


async def test_organisers_and_auditors_pages_are_not_each_others(portal, organiser, auditor, met):
    which = met.rpartition("/")[2]
    for path in (met, f"{met}/attendance", f"{met}/attendance.csv", "/meetings/new", f"{met}/room", f"{met}/here"):
        assert (await auditor.ask("GET", path)).status == 404, path
    for path in ("/audit", "/audit/log", f"/audit/{which}"):
        assert (await organiser.ask("GET", path)).status == 404, path
        assert (await portal.browser().ask("GET", path)).status == 303, path
    await auditor.get("/audit")
    await auditor.submit("/sign-out")
    assert auditor.page.path == "/sign-in"


async def test_purged_meeting_is_listed_without_a_way_in(portal, auditor, met):
    portal.world.sql("UPDATE meetings SET purged_at = 1")
    await auditor.get("/audit")
    assert "purged" in auditor.page.text
    which = met.rpartition("/")[2]
    assert f"/audit/{which}" not in auditor.page.html
    assert (await auditor.ask("GET", f"/audit/{which}")).status == 404


async def test_auditor_reads_the_log_which_names_nobody(portal, auditor, met):
    which = met.rpartition("/")[2]
    await auditor.get("/audit/log")
    assert "attendance-read" not in auditor.page.text
    assert "organiser-added" not in auditor.page.text  # put in by hand
    assert "ticket-issued" in auditor.page.text
    for name in (ANNA.name, ANNA.email, TITLE, "Olle", "192.0.2.7"):
        assert name not in auditor.page.html
    await auditor.get(f"/audit/log?meeting={which}")
    assert "meeting-created" in auditor.page.text
    assert "audit-read" in auditor.page.text  # this look
    await auditor.get("/audit/log?meeting=<script>")
    assert "Nothing yet." in auditor.page.text
    assert "<script>" not in auditor.page.html.replace('<script type="module"', "")
