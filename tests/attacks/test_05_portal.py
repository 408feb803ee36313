"""Invariant 5: the portal has no other door: not another site's forms, another's session, nor odd requests."""

from __future__ import annotations

import re
import secrets
import socket
import ssl

import pytest
from tests.attacks.people import COOKIE, FORM, MEET, PORTAL, Browser, Meeting, Organiser, Person, Site

# Cross-site requests


@pytest.fixture(scope="module")
def eva(meeting: Meeting) -> Organiser:
    return meeting.organiser


TOKENS = {
    "missing": "",
    "empty": "csrf=",
    "zeros": "csrf=" + "0" * 64,
    "short": "csrf=0",
    "of_another_session": "csrf=OTHER",
    "the_cookie_itself": "csrf=COOKIE",
    "not_ascii": "csrf=%C3%A5",
    "twice_wrong_first": "csrf=0&csrf=0",
    "as_a_list": "csrf[]=TOKEN",
    "in_capitals": "csrf=UPPER",
}


@pytest.mark.parametrize("name", TOKENS)
def test_form_token_that_is(site: Site, meeting: Meeting, eva: Organiser, name: str):
    body = TOKENS[name].replace("OTHER", Browser(site).csrf).replace("COOKIE", eva.browser.session)
    body = body.replace("TOKEN", eva.browser.csrf).replace("UPPER", eva.browser.csrf.upper())
    for path in (f"/meetings/{meeting.id}/end", "/meetings/new", "/sign-out/everywhere", "/language"):
        answer = eva.browser.ask("POST", path, body, Content_Type=FORM, Origin=f"https://{PORTAL}")
        assert answer.status == 403, path
    assert eva.browser.get(f"/meetings/{meeting.id}").status == 200


FOREIGN = [
    {"Origin": "https://evil.example"},
    {"Origin": f"https://{MEET}"},
    {"Origin": f"http://{PORTAL}"},
    {"Origin": f"https://{PORTAL}.evil.example"},
    {"Origin": f"https://{PORTAL}:8443"},
    {"Origin": "https://outbox.sluss.test"},
    {"Sec_Fetch_Site": "cross-site"},
    {"Sec_Fetch_Site": "same-site"},
    {"Origin": f"https://{PORTAL}", "Sec_Fetch_Site": "cross-site"},
]


@pytest.mark.parametrize("headers", FOREIGN)
def test_another_sites_page_cannot_act_even_with_the_token(eva: Organiser, meeting: Meeting, headers: dict[str, str]):
    assert eva.browser.post(f"/meetings/{meeting.id}/end", **headers).status == 403
    assert (
        "token"
        not in eva.browser.ask("POST", f"/meetings/{meeting.id}/ticket", X_CSRF_Token=eva.browser.csrf, **headers).text
    )
    assert "has ended" not in eva.browser.get(f"/meetings/{meeting.id}", Accept_Language="en").text


TYPES = ["text/plain", "application/json", "multipart/form-data; boundary=x", "application/xml", "", "text/html"]


@pytest.mark.parametrize("kind", TYPES)
def test_body_of_another_type_is_no_form(eva: Organiser, meeting: Meeting, kind: str):
    for body in (f"csrf={eva.browser.csrf}", f'{{"csrf":"{eva.browser.csrf}"}}'):
        assert eva.browser.ask("POST", f"/meetings/{meeting.id}/end", body, Content_Type=kind).status in {400, 403, 415}
    assert eva.browser.get(f"/meetings/{meeting.id}").status == 200


@pytest.mark.parametrize("header", ["X_HTTP_Method_Override", "X_HTTP_Method", "X_Method_Override"])
def test_get_does_not_become_a_post(eva: Organiser, meeting: Meeting, header: str):
    csrf = eva.browser.csrf
    for path in (f"/meetings/{meeting.id}/end", f"/meetings/{meeting.id}/end?_method=POST&csrf={csrf}", "/sign-out"):
        assert eva.browser.get(path, **{header: "POST"}).status in {404, 405}
    assert eva.browser.get(f"/meetings/{meeting.id}").status == 200


@pytest.mark.parametrize("origin", ["https://evil.example", "null", f"https://{MEET}"])
def test_no_other_origin_reads_answers(eva: Organiser, meeting: Meeting, origin: str):
    for method in ("GET", "OPTIONS"):
        answer = eva.browser.ask(
            method, f"/meetings/{meeting.id}/here", Origin=origin, Access_Control_Request_Method="POST"
        )
        assert not [name for name in answer.headers if name.lower().startswith("access-control-")]
    assert Browser(eva.site, host=MEET).get("/http-bind", Origin=origin).headers["Access-Control-Allow-Origin"] is None


# Sessions


def test_cookie_is_for_this_host_over_tls_and_out_of_scripts_reach(site: Site):
    for path in ("/sign-in", "/i/x", "/"):
        browser = Browser(site)
        browser.session = "made up"
        given = browser.get(path).headers.get_all("Set-Cookie")
        assert len(given) == 1
        name, *flags = given[0].split("; ")
        assert re.fullmatch(rf"{COOKIE}=[A-Za-z0-9_-]{{43}}", name)
        assert set(flags) == {"Path=/", "Secure", "HttpOnly", "SameSite=Lax"}


def test_session_that_the_attacker_planted_is_not_the_one_that_gets_signed_in(site: Site):
    """Fixation: whoever knows the cookie from before the sign-in has nothing afterwards."""
    import pyotp

    organiser = site.organiser()
    planted = Browser(site, secrets.token_urlsafe(32))
    assert planted.post("/sign-in", {"email": organiser.email, "password": "wrong password 12"}).status in {
        200,
        401,
        403,
    }
    first = planted.post("/sign-in", {"email": organiser.email, "password": "segel mot lugnt vatten 58"})
    assert first.location == "/sign-in/code"
    assert planted.get("/").location == "/sign-in"
    answer = planted.post("/sign-in/code", {"code": pyotp.TOTP(organiser.secret).now()})
    assert answer.status == 303
    given = "\n".join(answer.headers.get_all("Set-Cookie"))
    fresh = re.search(rf"^{COOKIE}=([A-Za-z0-9_-]+)", given, re.MULTILINE)[1]
    assert fresh != planted.session
    assert planted.get("/").location == "/sign-in"
    assert Browser(site, fresh).get("/").status == 200


def test_session_is_dead_after_signing_out(site: Site):
    organiser = site.organiser()
    assert organiser.browser.get("/").status == 200
    csrf = organiser.browser.csrf
    assert organiser.browser.post("/sign-out").status == 303
    assert organiser.browser.get("/").location == "/sign-in"
    assert organiser.browser.ask("POST", "/meetings/new", f"csrf={csrf}", Content_Type=FORM).status == 401


@pytest.mark.parametrize(
    "session", ["", "x", "A" * 43, "A" * 44, "' OR 1=1 --", "A" * 4000, "../" * 14 + "x", "é" * 43, "null"]
)
def test_made_up_session_is_nobodys(eva: Organiser, session: str):
    assert eva.browser.get("/").status == 200
    answer = Browser(eva.site).ask("GET", "/", Cookie=f"{COOKIE}={session}".encode().decode("latin-1"))
    assert (answer.status, answer.location) == (303, "/sign-in")


def test_session_in_a_query_or_under_another_name_is_no_session(eva: Organiser):
    value = eva.browser.session
    stranger = Browser(eva.site)
    for path in (f"/?{COOKIE}={value}", f"/?session={value}", f"/;{COOKIE}={value}"):
        assert stranger.get(path).status in {303, 404}
    for cookie in (f"sluss={value}", f"__host-sluss={value}", f"__Secure-sluss={value}", f" {COOKIE} ={value}x"):
        assert stranger.ask("GET", "/", Cookie=cookie).location == "/sign-in"
    assert eva.browser.get("/").status == 200


# Frames, redirects, names


@pytest.mark.parametrize("path", ["/sign-in", "/i/x", "/", "/nothing", "/static/sluss.css", "/keys/jwks.json", "/%ff"])
def test_page_is_framed_by_nobody_and_refers_nowhere(site: Site, path: str):
    answer = Browser(site).get(path)
    policy = answer.headers["Content-Security-Policy"]
    assert "frame-ancestors 'none'" in policy
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert answer.headers["X-Frame-Options"] == "DENY"
    assert answer.headers["Referrer-Policy"] == "no-referrer"
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["Strict-Transport-Security"].startswith("max-age=6")
    assert "Python" not in str(answer.headers)
    assert not re.search(r"nginx/|aiohttp", str(answer.headers))


AWAY = [
    "https://evil.example", "//evil.example", "/\\evil.example", "\\\\evil.example", "/\t/evil.example",
    "javascript:alert(1)",
    "/%0d%0aLocation:%20https://evil.example", "/x\r\nSet-Cookie: a=b", "///evil.example", "/@evil.example",
    "/.//evil.example",
    "https:evil.example", "data:text/html,x", f"https://{PORTAL}.evil.example", "/i/x?return=https://evil.example", "",
]  # fmt: skip


@pytest.mark.parametrize("back", AWAY)
def test_choice_of_language_leads_nowhere_else(site: Site, back: str):
    browser = Browser(site)
    assert browser.post("/language", {"lang": "sv", "return": "/sign-in"}).location == "/sign-in"
    answer = browser.post("/language", {"lang": "sv", "return": back})
    assert answer.status == 303
    assert re.fullmatch(r"/(?:[A-Za-z0-9_.~%-][A-Za-z0-9_.~%/-]*)?", answer.location)
    assert "a=b" not in str(answer.headers.get_all("Set-Cookie"))
    for path in ("/sign-in", "/"):
        assert "evil.example" not in (
            Browser(site).get(f"{path}?return={back.encode().hex()}&next=//evil.example").location or ""
        )


@pytest.mark.parametrize("headers", [
    {"Host": "evil.example"}, {"X_Forwarded_Host": "evil.example"}, {"Forwarded": "host=evil.example;proto=http"},
    {"X_Forwarded_Proto": "http"}, {"X_Original_URL": "/meetings/new"}, {"X_Rewrite_URL": "/meetings/new"},
    {"X_Forwarded_Prefix": "//evil.example"}, {"X_Host": "evil.example"}, {"X_Forwarded_Server": "evil.example"},
])  # fmt: skip
def test_mail_and_pages_name_this_portal_whatever_the_request_says(
    site: Site, eva: Organiser, meeting: Meeting, headers
):
    mail = f"{secrets.token_hex(6)}@example.org"
    fields = {"name": f"Kalle {secrets.token_hex(3)}", "email": mail, "mobile": "+46701740605"}
    if "Host" in headers:
        with pytest.raises(Exception, match=r"(?i)closed|reset|EOF"):
            eva.browser.post(f"/meetings/{meeting.id}/participants", fields, **headers)
        assert site.messages("mail", mail) == []
        assert eva.browser.post(f"/meetings/{meeting.id}/participants", fields).status == 303
    else:
        assert eva.browser.post(f"/meetings/{meeting.id}/participants", fields, **headers).status == 303
    body = site.message("mail", mail)
    assert f"https://{PORTAL}/i/" in body
    assert "evil.example" not in body
    assert "evil.example" not in eva.browser.get("/", **{k: v for k, v in headers.items() if k != "Host"}).text


INJECTED = [
    ("name", "Kalle\r\nBcc: evil@evil.example"), ("name", "Kalle\nX: y"), ("name", "Kalle\u2028x"),
    ("name", "\u202eellaK"),
    ("email", "a@example.org\r\nBcc: evil@evil.example"), ("email", "a@example.org,evil@evil.example"),
    ("email", "a@example.org>\r\nRCPT TO:<evil@evil.example"), ("email", '"a@evil.example"@example.org'),
    ("email", "a@example.org%0aBcc:evil@evil.example"), ("email", "<a@example.org>"), ("email", "a@[127.0.0.1]"),
    ("mobile", "+46701740605\r\nx"), ("mobile", "+46701740605,+46701740606"), ("mobile", "+46 900 123 45 67"),
    ("mobile", "112"), ("mobile", "0046701740605;ext=1"), ("mobile", "tel:+46701740605;phone-context=evil.example"),
]  # fmt: skip


@pytest.mark.parametrize(("field", "value"), INJECTED)
def test_field_cannot_carry_a_header_or_a_second_recipient(site: Site, eva: Organiser, meeting: Meeting, field, value):
    mail = f"{secrets.token_hex(6)}@example.org"
    honest = {"name": f"Kalle {secrets.token_hex(3)}", "email": mail, "mobile": "+46701740605"}
    answer = eva.browser.post(f"/meetings/{meeting.id}/participants", honest | {field: value})
    if answer.status == 303:  # taken, then as one line of plain text
        assert field in {"name", "mobile"}
        site.message("mail", mail)
    assert [m for m in Browser(site, host="outbox.sluss.test").get("/messages.json").json() if "evil" in m["to"]] == []
    assert (
        eva.browser.post(
            f"/meetings/{meeting.id}/participants", honest | {"name": "X" + honest["name"], "email": f"x{mail}"}
        ).status
        == 303
    )


SCRIPTS = [
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "{{7919*7927}}",
    "{% raw %}",
    "${7919*7927}",
    "</title><svg/onload=x>",
]


@pytest.mark.parametrize("script", SCRIPTS)
def test_text_stays_text(site: Site, eva: Organiser, script: str):
    meeting = eva.meeting(f"Anna {script}"[:90], title=script, agenda=f"1. {script}")
    person = meeting.people[0]
    person.prove()
    for page in (
        person.browser.get(person.path),
        eva.browser.get(f"/meetings/{meeting.id}"),
        person.browser.get(f"{person.path}/room"),
    ):
        assert page.status == 200
        assert "<script>alert" not in page.text
        assert "<img src=x" not in page.text
        assert "<svg" not in page.text
        assert str(7919 * 7927) not in page.text
        assert re.search(r"&lt;|\{\{7919|\{% raw|\$\{7919", page.text)


# Odd requests


@pytest.mark.parametrize("size", [70_000, 300_000, 3_000_000])
def test_oversized_form_is_refused(site: Site, size: int):
    browser = Browser(site)
    assert browser.post("/language", {"lang": "sv"}).status == 303
    answer = None
    try:
        answer = browser.post("/sign-in", {"email": "x" * size})
    except OSError:
        assert size > 256_000
    assert answer is None or answer.status == 413
    assert Browser(site).get("/sign-in").status == 200


def test_form_of_many_fields_is_refused_or_read_quickly(site: Site):
    answer = Browser(site).post("/sign-in", [(f"f{n}", "") for n in range(9_000)])
    assert answer.status in {200, 400, 413}


SMUGGLED = [
    b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n",
    b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n",
    b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
    b"Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
    b"Transfer-Encoding:\x0bchunked\r\n\r\n0\r\n\r\n",
    b"Content-Length: 0\r\nContent-Length: 5\r\n\r\nabcde",
    b"Content-Length: +0\r\n\r\n",
    b"Content-Length: -1\r\n\r\n",
    b"Content-Length: 0x1\r\n\r\na",
    b"X: y\r\n Transfer-Encoding: chunked\r\n\r\n",
    b"Transfer-Encoding: chunked\r\n\r\nffffffffffffffff1\r\n",
]


@pytest.mark.parametrize("rest", SMUGGLED)
def test_request_does_not_hide_another_one(site: Site, rest: bytes):
    """What follows an ambiguous request on the same connection is answered by nobody."""
    with (
        socket.create_connection((site.server.address, 443), timeout=5) as plain,
        site.trust.wrap_socket(plain, server_hostname=PORTAL) as connection,
    ):
        connection.sendall(f"POST /language HTTP/1.1\r\nHost: {PORTAL}\r\n".encode() + rest)
        connection.settimeout(2)
        said = b""
        try:
            while chunk := connection.recv(65536):
                said += chunk
        except (TimeoutError, ssl.SSLError, ConnectionError):
            pass
    answers = re.findall(rb"^HTTP/1\.1 (\d+)", said, re.MULTILINE)
    assert len(answers) <= 1 or answers[1:] == [b"400"]
    assert not answers or answers[0] in {b"400", b"403", b"411", b"413", b"501"}
    assert Browser(site).get("/sign-in").status == 200


@pytest.mark.parametrize("given", ["127.0.0.1", "::1", "unknown", "127.0.0.1, 127.0.0.1", "x" * 4000, "' OR 1=1"])
def test_forwarded_address_is_not_believed(site: Site, given: str):
    """Nginx writes it; what the visitor says is thrown away, so nobody becomes the proxy or another address."""
    answer = Browser(site).get(
        "/metrics", X_Forwarded_For=given, X_Real_IP=given, Client_IP=given, True_Client_IP=given
    )
    assert answer.status == 404
    assert Browser(site).get("/sign-in", X_Forwarded_For=given).status == 200


@pytest.mark.parametrize("accept", ["application/json", "text/html", "*/*", "text/xml", "x"])
def test_error_page_tells_nothing_and_is_of_its_type(site: Site, meeting: Meeting, anna: Person, accept: str):
    for path in (f"/i/{anna.link}/here", "/nothing<script>", f"/meetings/{'x' * 300}", "/i/%ff"):
        answer = Browser(site).get(path, Accept=accept)
        assert answer.status in {303, 400, 401, 403, 404} or path == "/i/%ff"  # a link like any other
        assert not re.search(r"Traceback|sqlite|/opt/|\.py\b|<script>", answer.text)
        if answer.text and answer.text[0] == "{":
            assert answer.headers.get_content_type() == "application/json"
