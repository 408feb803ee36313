"""A real Chromium that trusts the demo's authority and nothing else, and people with browsers of their own."""

import json
import os
import re
import shutil
import ssl
import subprocess
import threading
import time
import urllib.request
from dataclasses import dataclass
from pathlib import Path

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright

PHONE = {"viewport": {"width": 390, "height": 780}, "has_touch": True, "device_scale_factor": 2}
DESK = {"viewport": {"width": 1200, "height": 820}}
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--use-fake-device-for-media-stream",
    "--use-fake-ui-for-media-stream",
]


@pytest.fixture(scope="session")
def chromium(host, tmp_path_factory):
    """Debian's Chromium, with the demo's certificate authority in its own trust store."""
    home = tmp_path_factory.mktemp("home")
    database = home / ".pki/nssdb"
    database.mkdir(parents=True)
    certutil = ["certutil", "-d", f"sql:{database}"]
    subprocess.run([*certutil, "-N", "--empty-password"], check=True, timeout=60)
    trust = ["-A", "-t", "C,,", "-n", "sluss demo", "-i", str(host.ca_file)]
    subprocess.run([*certutil, *trust], check=True, timeout=60)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=FLAGS, env={**os.environ, "HOME": str(home)}
        )
        yield browser
        browser.close()


@dataclass
class People:
    """Opens browsers that share nothing, and closes them after the test."""

    browser: Browser
    contexts: list[BrowserContext]

    def come(self, device=None, locale: str = "en-GB") -> Page:
        context = self.browser.new_context(locale=locale, timezone_id="Europe/Stockholm", **(device or DESK))
        context.set_default_timeout(15_000)
        self.contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: print(message.type, message.text))
        page.on("pageerror", lambda error: print("page error", error))
        return page


@pytest.fixture
def people(chromium):
    group = People(chromium, [])
    yield group
    for context in group.contexts:
        context.close()


class Outbox:
    """What the host's real SMTP server and SMS gateway have received."""

    def __init__(self, url: str, ca_file: Path) -> None:
        self._url = f"{url}/messages.json"
        self._tls = ssl.create_default_context(cafile=ca_file)

    def messages(self, kind: str, to: str) -> list[dict]:
        with urllib.request.urlopen(self._url, context=self._tls, timeout=10) as answer:
            return [m for m in json.load(answer) if m["kind"] == kind and m["to"] == to]

    def link(self, to: str) -> str:
        """The personal link in the newest mail to somebody; waits for it."""
        body = _wait(lambda: self.messages("mail", to))[0]["body"]
        return re.search(r"https://\S+/i/\S+", body)[0]

    def code(self, to: str, after: int) -> str:
        """The code in the newest SMS to a number, once there are more than `after`."""
        text = _wait(lambda: self.messages("sms", to)[: -after or None])[0]["body"]
        return re.search(r"\b\d{6}\b", text)[0]


def _wait(what, seconds: float = 30):
    until = time.monotonic() + seconds
    while not (found := what()):
        if time.monotonic() > until:
            pytest.fail("the message did not arrive")
        threading.Event().wait(0.2)
    return found


@pytest.fixture(scope="session")
def outbox(host):
    return Outbox(host.outbox_url, host.ca_file)


@pytest.fixture(scope="session")
def picture():
    """`picture(page, "name")` keeps a screenshot, in SLUSS_SCREENSHOTS if that is set: the README's come from there."""
    folder = Path(os.environ.get("SLUSS_SCREENSHOTS") or Path(os.environ["SLUSS_RUN"]) / "screenshots")
    folder.mkdir(parents=True, exist_ok=True)

    def keep(page: Page, name: str, *, whole: bool = True) -> None:
        page.screenshot(path=folder / f"{name}.png", full_page=whole)

    return keep
