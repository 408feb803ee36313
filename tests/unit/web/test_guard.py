"""What stands before every page: private unless listed, no other site's forms, headers, cookies, addresses."""

from __future__ import annotations

import re
from urllib.parse import quote

import pytest
from tests.conftest import TICKET
from tests.unit.web.browser import PORTAL
from tests.unit.web.conftest import ANNA, MEET, OLLE
from tests.unit.world import PASSWORD

from sluss.domain.accounts import AccountRole
from sluss.web import security
from sluss.web.context import ADDRESS

FORM = "application/x-www-form-urlencoded"
PUBLIC_ROUTES = {
    "static", "jwks", "pem", "language", "enrol", "sign_in", "sign_in_code", "link", "code", "verify", "answer",
    "not_me", "join_code", "join_verify", "room", "ticket", "here", "outside",
    "sign_in_passkey", "sign_in_passkey_verify", "passkey", "passkey_verify", "passkey_new", "passkey_add",
    "passkey_remove", "join_passkey", "join_passkey_verify",
    "totp", "join_totp", "totp_new", "totp_add", "totp_remove",
    "bankid", "bankid_qr", "bankid_collect", "bankid_cancel", "join_bankid", "join_bankid_qr", "join_bankid_collect",
    "join_bankid_cancel", "bankid_returned",
    "ldap", "join_ldap",
    "organiser_sign_in", "sign_in_back", "provider_logout", "view_sign_in", "join_sign_in",
    "view_card", "join_card", "card_back",
}  # fmt: skip


def every_route(portal):
    for route in portal.client.app.router.routes():
        path = re.sub(r"\{[^}]+\}", "x", route.resource.canonical)
        yield route.method, path, route.name


async def test_every_route_has_a_name(portal):
    assert all(name for _, _, name in every_route(portal))


async def test_the_public_list_is_this_one_and_holds_no_name_that_is_no_route(portal):
    assert security.PUBLIC == PUBLIC_ROUTES
    assert PUBLIC_ROUTES - {name for _, _, name in every_route(portal)} == set()


async def test_every_other_route_needs_an_organiser(portal, browser):
    await browser.get("/sign-in")
    private = [(m, p) for m, p, name in every_route(portal) if name not in PUBLIC_ROUTES]
    assert len(private) > 15
    for method, path in private:
        if method in ("GET", "HEAD"):
            page = await browser.ask("GET", path)
            assert (page.status, page.headers.get("Location")) == (303, "/sign-in"), path
        else:
            page = await browser.ask(method, path, body=f"csrf={browser.page.csrf}", Origin=PORTAL)
            assert page.status == 401, path


async def test_a_password_alone_opens_no_private_page(portal):
    await portal.world.organiser(OLLE)
    other = portal.browser()
    await other.get("/sign-in")
    await other.submit("/sign-in", email=OLLE, password=PASSWORD)
    assert other.page.path == "/sign-in/code"
    assert (await other.ask("GET", "/")).headers["Location"] == "/sign-in"


async def test_every_post_without_the_form_token_is_refused_to_who_may_send_it(portal):
    browsers = {role: portal.browser() for role in AccountRole}
    for role, browser in browsers.items():
        await portal.sign_in(browser, f"{role}@sluss.test", role)
    # The provider has no form: what it sends is proved by its signature.
    posts = {(p, name) for m, p, name in every_route(portal) if m == "POST" and name != "provider_logout"}
    assert len(posts) > 50
    for path, name in posts:
        for body in ("", "csrf=", "csrf=" + "0" * 64):
            page = await browsers[security.role_of(name)].ask("POST", path, body=body, Origin=PORTAL)
            assert page.status == 403, (path, body)
            assert "This request was refused" in page.text


class AnyPage(dict):
    """Values for a path's parts."""

    def __missing__(self, key: str) -> str:
        return "x"


async def test_what_is_dangerous_takes_a_factor_of_the_last_minutes_and_leads_to_giving_it(portal):
    browsers = {role: portal.browser() for role in AccountRole}
    for role, browser in browsers.items():
        await portal.sign_in(browser, f"{role}@sluss.test", role)
    portal.world.clock.forward(minutes=5)
    assert security.PROOF.keys() <= {name for _, _, name in every_route(portal)}
    asked = 0
    for method, path, name in every_route(portal):
        if name in security.PROOF:
            browser = browsers[security.role_of(name)]
            csrf = (await browser.get("/account")).csrf
            page = await browser.ask(method, path, body=f"csrf={csrf}" if method == "POST" else None, Origin=PORTAL)
            onward = security.PROOF[name].format_map(AnyPage())
            assert (page.status, page.headers["Location"]) == (303, f"/prove?next={onward}"), (method, path)
            asked += 1
    assert asked >= len(security.PROOF)


@pytest.mark.parametrize("onward", ["https://evil.test", "//evil.test", "/\\evil.test", "javascript:x", "", "x"])
async def test_proving_who_one_is_leads_nowhere_else(portal, browser, onward):
    await portal.sign_in(browser)
    await browser.get(f"/prove?next={quote(onward, safe='')}")
    assert "evil" not in browser.page.html
    page = await browser.submit("/account", code=portal.authenticator(), next=onward)
    assert page.path == "/account"


async def test_every_cookie_of_ours_is_host_only_secure_and_out_of_scripts_reach(portal, browser):
    """The one that opens something ends with the browser."""
    await portal.world.organiser(OLLE)
    given = [*(await browser.get("/sign-in")).headers.getall("Set-Cookie")]
    csrf = browser.page.csrf
    given += (await browser.ask("POST", "/language", body=f"csrf={csrf}&lang=sv")).headers.getall("Set-Cookie")
    await browser.submit("/sign-in", email=OLLE, password=PASSWORD)
    body = f"csrf={browser.page.csrf}&code={portal.authenticator()}"
    given += (await browser.ask("POST", "/sign-in/code", body=body)).headers.getall("Set-Cookie")
    for cookie in given:
        name, _, flags = cookie.partition("; ")
        assert name.startswith("__Host-"), cookie
        assert {"Path=/", "Secure", "HttpOnly", "SameSite=Lax"} <= set(flags.split("; ")), cookie
        assert "Domain" not in flags
    assert {cookie.partition("=")[0] for cookie in given} == {"__Host-sluss", "__Host-lang", "__Host-known"}
    assert all(("Max-Age" in c) != c.startswith("__Host-sluss=") for c in given)


@pytest.mark.parametrize("role", AccountRole)
async def test_signing_in_gives_every_role_a_new_session_and_the_old_one_opens_nothing(portal, browser, role):
    await portal.world.organiser(OLLE, role=role)
    await browser.get("/sign-in")
    planted = browser.cookies["__Host-sluss"]
    await browser.submit("/sign-in", email=OLLE, password=PASSWORD)
    await browser.submit("/sign-in/code", code=portal.authenticator())
    assert browser.page.path == security.HOMES[role]
    assert browser.cookies["__Host-sluss"] != planted
    browser.cookies["__Host-sluss"] = planted
    assert (await browser.ask("GET", "/account")).headers["Location"] == "/sign-in"


@pytest.mark.parametrize("role", AccountRole)
async def test_no_page_of_anybody_is_kept_by_the_browser(portal, role):
    browser = portal.browser()
    await portal.sign_in(browser, role=role)
    for method, path, _ in every_route(portal):
        if method == "GET" and not path.startswith("/static"):
            assert (await browser.ask("GET", path)).headers["Cache-Control"] == "no-store", path


async def test_the_form_token_of_another_session_is_refused(portal, browser):
    mine = (await browser.get("/sign-in")).csrf
    other = portal.browser()
    await other.get("/sign-in")
    assert mine != other.page.csrf
    assert (await other.ask("POST", "/sign-in", body=f"csrf={mine}&email=a&password=b")).status == 403


@pytest.mark.parametrize(
    "headers",
    [
        {"Sec_Fetch_Site": "cross-site"},
        {"Sec_Fetch_Site": "same-site"},
        {"Origin": "https://evil.test"},
        {"Origin": MEET},
        {"Origin": PORTAL + ".evil.test"},
    ],
)
async def test_another_sites_form_is_refused_even_with_the_token(browser, headers):
    csrf = (await browser.get("/sign-in")).csrf
    page = await browser.ask("POST", "/sign-in", body=f"csrf={csrf}&email=a&password=b", **headers)
    assert page.status == 403
    assert "This request was refused" in page.text


async def test_a_form_that_is_not_url_encoded_is_refused(browser):
    csrf = (await browser.get("/sign-in")).csrf
    page = await browser.ask("POST", "/sign-in", body=f"csrf={csrf}", Content_Type="text/plain")
    assert page.status == 403


async def test_a_large_body_is_refused(browser):
    await browser.get("/sign-in")
    page = await browser.ask("POST", "/sign-in", body="email=" + "x" * 70_000)
    assert page.status == 413
    assert "more than fits" in page.text


async def test_the_session_cookie_is_host_only_secure_and_out_of_scripts_reach(browser):
    page = await browser.get("/sign-in")
    name, *flags = page.headers.getall("Set-Cookie")[0].split("; ")
    assert re.fullmatch(r"__Host-sluss=[A-Za-z0-9_-]{43}", name)
    assert set(flags) == {"Path=/", "Secure", "HttpOnly", "SameSite=Lax"}


async def test_a_known_session_is_kept_and_a_made_up_one_replaced(portal, browser):
    await browser.get("/sign-in")
    given = browser.cookies["__Host-sluss"]
    await browser.get("/sign-in")
    assert browser.cookies["__Host-sluss"] == given
    browser.cookies["__Host-sluss"] = "made up"
    await browser.get("/sign-in")
    assert len(browser.cookies["__Host-sluss"]) == 43


async def test_signing_in_and_out_each_give_a_new_session(portal, browser):
    await portal.world.organiser(OLLE)
    await browser.get("/sign-in")
    before = browser.cookies["__Host-sluss"]
    await browser.submit("/sign-in", email=OLLE, password=PASSWORD)
    await browser.submit("/sign-in/code", code=portal.authenticator())
    inside = browser.cookies["__Host-sluss"]
    await browser.submit("/sign-out")
    after = browser.cookies["__Host-sluss"]
    assert len({before, inside, after}) == 3
    browser.cookies["__Host-sluss"] = inside
    assert (await browser.ask("GET", "/")).headers["Location"] == "/sign-in"


@pytest.mark.parametrize("path", ["/sign-in", "/i/x", "/", "/nothing", "/static/sluss.css", "/keys/jwks.json"])
async def test_every_answer_carries_the_security_headers(browser, path):
    headers = (await browser.ask("GET", path)).headers
    assert headers["Content-Security-Policy"] == (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
        "frame-src 'none'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
    )
    assert headers["Referrer-Policy"] == "no-referrer"
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Cross-Origin-Opener-Policy"] == headers["Cross-Origin-Resource-Policy"] == "same-origin"
    assert headers["Permissions-Policy"].startswith("camera=(), microphone=(), display-capture=()")
    assert headers["Cache-Control"] == ("no-cache" if path.startswith("/static") else "no-store")
    assert re.fullmatch(r"[0-9a-f]{16}", headers["X-Request-Id"])
    assert "Server" not in headers


async def in_room(portal):
    browser = portal.browser()
    await portal.sign_in(browser)
    await portal.meeting(browser, ANNA)
    anna = portal.browser()
    await portal.enter(anna, await portal.link())
    return anna.page


async def test_only_the_room_page_reaches_the_meetings_origin_and_only_by_websocket(portal):
    room = await in_room(portal)
    policy = room.headers["Content-Security-Policy"]
    assert "connect-src 'self' wss://meet.sluss.test;" in policy
    assert "script-src 'self';" in policy
    assert "frame-src 'none';" in policy
    assert room.headers["Permissions-Policy"].startswith("camera=()")


async def test_with_jitsi_the_room_page_frames_it_and_lends_it_the_camera_but_runs_no_script_of_its_host(make):
    room = await in_room(await make(jitsi=True))
    policy = room.headers["Content-Security-Policy"]
    assert "script-src 'self';" in policy
    assert f"frame-src {MEET};" in policy
    assert "connect-src 'self';" in policy
    assert room.headers["Permissions-Policy"].startswith(f'camera=(self "{MEET}"), microphone=(self "{MEET}")')
    assert set(re.findall(r'<script[^>]* src="([^"]+)"', room.html)) == {"/jitsi/external_api.js", "/static/room.js"}


async def test_no_ticket_and_no_room_name_is_in_the_room_page(portal):
    room = await in_room(portal)
    assert not re.search(TICKET, room.html)
    assert not re.search(r"\b[0-9a-f]{32}\b", room.html.replace(room.csrf, ""))


async def seen_address(portal, **headers) -> str:
    """The address a handler would see."""
    seen = []

    async def note(request, handler):
        seen.append(request[ADDRESS])
        return await handler(request)

    note.__middleware_version__ = 1
    app = portal.client.app
    app._middlewares_handlers = ((note, True), *app._middlewares_handlers)
    await portal.browser().ask("GET", "/nothing", **headers)
    return seen[-1]


async def test_x_forwarded_for_counts_for_nothing_unless_a_trusted_proxy_says_it(portal):
    assert await seen_address(portal, X_Forwarded_For="203.0.113.9") == "127.0.0.1"


@pytest.mark.parametrize(
    ("header", "address"),
    [
        ("203.0.113.9", "203.0.113.9"),
        ("198.51.100.1, 203.0.113.9", "203.0.113.9"),  # the first is the visitor's own invention
        ("203.0.113.9, 127.0.0.1", "203.0.113.9"),
        ("2001:db8::7", "2001:db8::7"),
        ("nonsense", "127.0.0.1"),
        ("203.0.113.9, nonsense", "127.0.0.1"),
    ],
)
async def test_behind_a_trusted_proxy_the_nearest_address_it_does_not_own_is_the_visitors(proxied, header, address):
    assert await seen_address(proxied, X_Forwarded_For=header) == address


async def test_a_request_id_is_taken_from_a_trusted_proxy_only(portal, proxied):
    given = "0123456789abcdef0123"
    assert (await proxied.browser().ask("GET", "/sign-in", X_Request_Id=given)).headers["X-Request-Id"] == given
    assert (await portal.browser().ask("GET", "/sign-in", X_Request_Id=given)).headers["X-Request-Id"] != given
    bad = await proxied.browser().ask("GET", "/sign-in", X_Request_Id="a b\tc<script>")
    assert re.fullmatch(r"[0-9a-f]{16}", bad.headers["X-Request-Id"])


@pytest.mark.parametrize(("method", "path", "status"), [("GET", "/nothing", 404), ("GET", "/language", 405)])
async def test_an_error_page_says_its_status_and_the_requests_id(browser, method, path, status):
    page = await browser.ask(method, path)
    assert page.status == status
    assert str(status) in page.text
    assert page.headers["X-Request-Id"] in page.text


async def test_an_unexpected_error_shows_nothing_but_its_id(portal, browser, monkeypatch, capsys):
    async def fail(*_):
        raise RuntimeError("private detail")

    monkeypatch.setattr(type(portal.services.participation), "look", fail)
    page = await browser.ask("GET", "/i/a-personal-link")
    assert page.status == 500
    assert "private detail" not in page.html
    assert page.headers["X-Request-Id"] in page.text
    logged = capsys.readouterr().out
    assert page.headers["X-Request-Id"] in logged
    assert "route=link" in logged


async def test_the_log_names_routes_and_never_a_link_or_a_code(portal, browser, capsys):
    await portal.sign_in(browser)
    await portal.meeting(browser, ANNA)
    link, anna = await portal.link(), portal.browser()
    await portal.verify(anna, link)
    await anna.submit(f"{link}/answer", answer="accepted")
    code = await portal.code()
    logged = capsys.readouterr().out
    assert "route=verify" in logged
    assert link.removeprefix("/i/") not in logged
    assert not re.search(rf"(?<![\w.]){code}\b", logged)  # the fraction of a second is not the code
    assert ANNA.email not in logged


async def test_a_script_that_asks_gets_its_error_as_json(browser):
    page = await browser.ask("GET", "/meetings/x/here", Accept="application/json")
    assert page.status == 401
    body = await page.raw.json()
    assert body["error"] == "SignInRequired"
    assert body["message"] == "Please sign in."


def test_the_middlewares_stand_in_their_order():
    names = [m.__name__ for m in security.MIDDLEWARES]
    assert names == ["request_id", "error_page", "trusted_proxy", "session", "deny_by_default", "csrf", "proof"]


async def test_id_on_the_page_is_the_one_in_the_audit_log(portal, browser):
    await browser.get("/sign-in")
    await browser.submit("/sign-in", email="nobody@example.org", password="guessed")
    (refused,) = await portal.services.audit.newest(10)
    assert (refused.action, refused.outcome) == ("signed-in", "refused")
    assert refused.request_id == browser.page.headers["X-Request-Id"]


async def test_without_a_provider_there_is_no_sign_in_by_one(portal, browser, link):
    page = await browser.get("/sign-in")
    assert [form.action for form in page.forms] == ["/sign-in", "/sign-in/passkey", "/language"]
    for path in (f"{link}/sign-in", f"{link}/join/sign-in", "/sign-in/provider"):
        assert (await browser.ask("POST", path, body=f"csrf={page.csrf}")).status == 404, path
    assert (await browser.ask("GET", "/sign-in/back?state=x&code=y")).status == 404
    assert (await browser.ask("POST", "/sign-in/logout", body="logout_token=x")).status == 404
