"""A real Chromium that trusts the demo's authority and nothing else, and people with browsers of their own."""

import json
import os
import re
import shlex
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyotp
import pytest
import yaml
from playwright.sync_api import Browser, BrowserContext, Page, Playwright, expect, sync_playwright
from tests.browser.ways import ways
from tests.hosts.nspawn import Host

__all__ = ["ways"]  # a fixture

expect.set_options(timeout=15_000)  # a busy machine is slow; a rule about time says its own

POLICY = Path(__file__).parents[2] / "auth-bridge/src/sluss/default-policy.yml"
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
def playwright() -> Iterator[Playwright]:
    """One for all browsers: there cannot be two at a time."""
    with sync_playwright() as started:
        yield started


@contextmanager
def chromium_that_trusts(
    playwright: Playwright, ca_file: Path, home: Path, *flags: str, also: Sequence[Path] = (), card: Path | None = None
) -> Iterator[Browser]:
    """Debian's Chromium, with one certificate authority, or some more, in its trust store, and a card (PKCS #12)."""
    database = home / ".pki/nssdb"
    database.mkdir(parents=True)
    certutil = ["certutil", "-d", f"sql:{database}"]
    subprocess.run([*certutil, "-N", "--empty-password"], check=True, timeout=60)
    for number, authority in enumerate((ca_file, *also)):
        trust = ["-A", "-t", "C,,", "-n", f"sluss demo {number}", "-i", str(authority)]
        subprocess.run([*certutil, *trust], check=True, timeout=60)
    if card:
        put_in = ["pk12util", "-d", f"sql:{database}", "-i", str(card), "-W", "", "-K", ""]
        subprocess.run(put_in, check=True, timeout=60, stdout=subprocess.DEVNULL)
    browser = playwright.chromium.launch(
        executable_path=shutil.which("chromium"), args=[*FLAGS, *flags], env={**os.environ, "HOME": str(home)}
    )
    yield browser
    browser.close()


@pytest.fixture(scope="session")
def chromium(playwright, host, tmp_path_factory):
    """The browser for the server that all share."""
    with chromium_that_trusts(playwright, host.ca_file, tmp_path_factory.mktemp("home")) as browser:
        yield browser


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

    def __init__(self, machine: Host) -> None:
        self._machine = machine

    def messages(self, kind: str, to: str) -> list[dict]:
        read = (
            "from urllib.request import urlopen; print(urlopen('http://127.0.0.1:8025/messages.json').read().decode())"
        )
        everything = json.loads(self._machine.run(f'python3 -c "{read}"').stdout)
        return [message for message in everything if message["kind"] == kind and message["to"] == to]

    def link(self, to: str) -> str:
        """The personal link in the newest mail to somebody; waits for it."""

        def links() -> list[str]:
            found = (re.search(r"https://\S+/i/\S+", mail["body"]) for mail in self.messages("mail", to))
            return [link[0] for link in found if link]

        return _wait(links)[0]

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


class App:
    """An authenticator app that never shows a code twice, nor one that may be too old once it is typed."""

    def __init__(self, secret: str) -> None:
        self._totp, self._used = pyotp.TOTP(secret.replace(" ", "")), 0

    def code(self) -> str:
        """Of the steps that are accepted, before, now and after, the first; waits for the next when all were shown."""
        self._used = max(self._used + 1, self._totp.timecode(datetime.now(UTC) + timedelta(seconds=5)) - 1)
        while self._used > self._totp.timecode(datetime.now(UTC)) + 1:
            time.sleep(0.2)
        return self.last()

    def last(self) -> str:
        return self._totp.generate_otp(self._used)


@contextmanager
def changed_policy(host, **internal: object) -> Iterator[None]:
    """The class `internal` is otherwise meanwhile."""
    policy = yaml.safe_load(POLICY.read_text("utf-8"))
    policy["classes"]["internal"] |= internal
    text = yaml.safe_dump(policy, allow_unicode=True)
    host.run(f"printf %s {shlex.quote(text)} >/etc/sluss/policy.yml && systemctl restart sluss-bridge")
    try:
        yield
    finally:
        host.run("rm /etc/sluss/policy.yml && systemctl restart sluss-bridge")


@pytest.fixture(scope="session")
def outbox(host):
    return Outbox(host.machine)


@pytest.fixture(scope="session")
def picture():
    """`picture(page, "name")` keeps a screenshot, in SLUSS_SCREENSHOTS if that is set: the README's come from there."""
    folder = Path(os.environ.get("SLUSS_SCREENSHOTS") or Path(os.environ["SLUSS_RUN"]) / "screenshots")
    folder.mkdir(parents=True, exist_ok=True)

    def keep(page: Page, name: str, *, whole: bool = True) -> None:
        page.screenshot(path=folder / f"{name}.png", full_page=whole)

    return keep
