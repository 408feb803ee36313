"""Every route and everybody: an organiser, an auditor, an admin and nobody, as the router has it."""

from __future__ import annotations

import re

import pytest
from tests.unit.web.browser import PORTAL, Browser

from sluss.domain.accounts import AccountRole
from sluss.web import routes, security

NOBODY = "nobody"
EVERYBODY = [*AccountRole, NOBODY]
PRIVATE = sorted(
    {
        (route.method, re.sub(r"\{[^}]+\}", "x", route.path), route.kwargs["name"])
        for route in routes()
        if hasattr(route, "method") and route.kwargs["name"] not in security.PUBLIC
    }
)
# Written out here once more, so that a page that gets onto a wrong list shows.
AUDITORS = {("GET", "/audit"), ("GET", "/audit/log"), ("GET", "/audit/x")}
ADMINS = {("GET", "/accounts"), ("POST", "/accounts"), ("GET", "/accounts/x")} | {
    ("POST", f"/accounts/x/{act}") for act in ("link", "unlock", "reset", "remove")
}
OWN = re.compile(r"/account(/.*)?|/prove(/.*)?|/sign-out(/everywhere)?")


def whose(method: str, path: str) -> set[str]:
    """The roles whose page it is."""
    if OWN.fullmatch(path):
        return set(AccountRole)
    if (method, path) in AUDITORS:
        return {AccountRole.AUDITOR}
    return {AccountRole.ADMIN} if (method, path) in ADMINS else {AccountRole.ORGANISER}


@pytest.fixture
async def people(portal) -> dict[str, Browser]:
    browsers = {who: portal.browser() for who in EVERYBODY}
    for role in AccountRole:
        await portal.sign_in(browsers[role], f"{role}@sluss.test", role)
    await browsers[NOBODY].get("/sign-in")
    return browsers


@pytest.mark.parametrize("who", EVERYBODY)
async def test_everybody_gets_their_own_pages_and_for_all_others_what_is_not_there(people, who, capsys):
    """Of one's own pages many are not there either, for there is no meeting x: the log tells the two apart."""
    browser, csrf = people[who], people[who].page.csrf
    assert len(PRIVATE) > 45
    for method, path, name in PRIVATE:
        if path.startswith("/sign-out"):
            continue  # would end it; see below
        body = f"csrf={csrf}" if method == "POST" else None
        page = await browser.ask(method, path, body=body, Origin=PORTAL)
        got = page.status, page.headers.get("Location")
        if who == NOBODY:
            assert got == ((401, None) if method == "POST" else (303, "/sign-in")), (method, path)
        elif name == "meetings":
            assert got == ((200, None) if who is AccountRole.ORGANISER else (303, security.HOMES[who])), who
        else:
            turned_away = "a page of another role" in capsys.readouterr().out
            assert turned_away is (who not in whose(method, path)), (method, path)
            assert page.status == 404 or not turned_away, (method, path)


@pytest.mark.parametrize("who", AccountRole)
async def test_everybody_can_sign_out(people, who):
    browser, session = people[who], people[who].cookies["__Host-sluss"]
    await browser.get("/account")
    await browser.submit("/sign-out/everywhere")
    assert browser.cookies["__Host-sluss"] != session
    assert (await browser.ask("GET", "/account")).headers["Location"] == "/sign-in"


async def test_lists_of_routes_do_not_overlap_and_name_routes_alone(portal):
    lists = [security.PUBLIC, security.AUDITORS, security.ADMINS, security.ALL_ROLES]
    names = {route.name for route in portal.client.app.router.routes()}
    assert sum(map(len, lists)) == len(set().union(*lists))
    assert set().union(*lists) <= names
