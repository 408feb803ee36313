"""A browser without a screen: keeps cookies, fills in and sends the forms of the page it is on."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from html.parser import HTMLParser
from urllib.parse import urlencode

from aiohttp.test_utils import TestClient
from tests.conftest import REFERENCE

PORTAL = "https://portal.sluss.test"


@dataclass
class Form:
    action: str | None
    fields: list[tuple[str, str]] = field(default_factory=list)


class _Reader(HTMLParser):
    """Collects forms with their values as they would be sent, and the text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.forms: list[Form] = []
        self.text: list[str] = []
        self._textarea = self._select = None
        self._chosen = False
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        a = dict(attrs)
        if tag == "form":
            self.forms.append(Form(a.get("action")))
        elif tag == "input" and a.get("name") and (a.get("type") != "radio" or "checked" in a):
            self.forms[-1].fields.append((a["name"], a.get("value") or ""))
        elif tag == "textarea":
            self._textarea = a["name"]
            self.forms[-1].fields.append((a["name"], ""))
        elif tag == "select":
            self._select = a["name"]
        elif tag == "option":
            self._chosen = "selected" in a

    def handle_endtag(self, tag):
        if tag == "textarea":
            self._textarea = None
        elif tag == "select":
            self._select = None

    def handle_data(self, data):
        if self._textarea:
            self.forms[-1].fields[-1] = (self._textarea, data.removeprefix("\n"))
        elif self._select and self._chosen and data.strip():
            self.forms[-1].fields.append((self._select, data.strip()))
        else:
            self.text.append(data)


@dataclass
class Page:
    path: str
    status: int
    headers: dict
    html: str
    raw: object

    def __post_init__(self):
        reader = _Reader(self.html)
        self.forms = reader.forms
        self.text = " ".join(" ".join(reader.text).split())

    def form(self, action: str) -> Form:
        found = [f for f in self.forms if f.action == action]
        assert found, f"no form to {action} on {self.path}: {[f.action for f in self.forms]}"
        return found[0]

    @property
    def csrf(self) -> str:
        return dict(self.forms[-1].fields)["csrf"]

    @property
    def plain(self) -> str:
        """The HTML without what differs between any two requests."""
        return re.sub(REFERENCE, "REFERENCE", self.html.replace(self.csrf, "CSRF"))

    @property
    def words(self) -> str:
        """The text without the reference that a refusal has."""
        return re.sub(r"\b[0-9a-f]{16}\b", "REFERENCE", self.text)


class Browser:
    """One person's browser. `page` is what it shows."""

    def __init__(self, client: TestClient, language: str = "en") -> None:
        self.client = client
        self.cookies: dict[str, str] = {}
        self.headers = {"Accept-Language": language, "Sec-Fetch-Site": "same-origin"}
        self.page: Page | None = None

    async def ask(self, method: str, path: str, *, body: str | None = None, **headers: str) -> Page:
        """One request, no redirect followed. Header names: `Accept="…"`, `X_Forwarded_For="…"`."""
        sent = self.headers | {k.replace("_", "-"): v for k, v in headers.items()}
        sent["Cookie"] = "; ".join(f"{k}={v}" for k, v in self.cookies.items())
        if body is not None:
            sent.setdefault("Content-Type", "application/x-www-form-urlencoded")
        async with self.client.request(method, path, data=body, headers=sent, allow_redirects=False) as answer:
            for name, morsel in answer.cookies.items():
                self.cookies[name] = morsel.value
            return Page(path, answer.status, answer.headers, await answer.text(), answer)

    async def get(self, path: str, **headers: str) -> Page:
        """Open a page and stay on it, through redirects."""
        self.page = await self.ask("GET", path, **headers)
        while self.page.status == 303:
            self.page = await self.ask("GET", self.page.headers["Location"])
        return self.page

    async def submit(self, action: str | None, **values: str | list[str]) -> Page:
        """Send the form to `action` of the page we are on, with `values` typed over what it holds."""
        form = self.page.form(action)
        fields = [(k, v) for k, v in form.fields if k not in values]
        fields += [(k, v) for k, vs in values.items() for v in ([vs] if isinstance(vs, str) else vs)]
        origin = self.page.path
        self.page = await self.ask("POST", action or self.page.path, body=urlencode(fields), Origin=PORTAL)
        if self.page.status == 303:
            return await self.get(self.page.headers["Location"])
        self.page.path = action or origin
        return self.page
