"""SMS through an operator's HTTP interface, or the organisation's own modem (gammu-smsd)."""

import asyncio
import contextlib
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

import aiohttp

from sluss.delivery.mail import RefusedForGood
from sluss.domain.errors import DeliveryFailed

_TIMEOUT_SECONDS = 10
_PLACEHOLDER = re.compile(r"\{(to|text)\}")


class SmsSender(Protocol):
    """Something that hands over an SMS."""

    async def send(self, to: str, text: str) -> None:
        """`to` is E.164. Raises `DeliveryFailed`; `RefusedForGood` if another try is no use."""


class HttpSms:
    """Fills in and sends the request that the YAML describes."""

    def __init__(
        self,
        client: aiohttp.ClientSession,
        url: str,
        *,
        method: str = "POST",
        headers: Mapping[str, str] | None = None,
        json: Mapping[str, str] | None = None,
        form: Mapping[str, str] | None = None,
        username: str | None = None,
        password: str | None = None,
    ) -> None:
        self._client, self._url, self._method = client, url, method
        self._headers = {name: value.replace("{password}", password or "") for name, value in (headers or {}).items()}
        self._json, self._form = json, form
        if username:
            self._headers["Authorization"] = aiohttp.encode_basic_auth(username, password or "")

    async def send(self, to: str, text: str) -> None:
        """Any 2xx is taken as handed over; redirects are not followed."""
        filled = {"to": to, "text": text}
        try:
            async with self._client.request(
                self._method,
                self._url,
                headers=self._headers,
                json=_fill(self._json, filled) if self._json else None,
                data=_fill(self._form, filled) if self._form else None,
                allow_redirects=False,
                timeout=aiohttp.ClientTimeout(total=_TIMEOUT_SECONDS),
            ) as response:
                status = response.status
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise DeliveryFailed(f"SMS gateway: {type(error).__name__}") from None
        if 400 <= status < 500 and status not in (401, 403, 408, 429):
            raise RefusedForGood(f"SMS gateway answered {status}")
        if not 200 <= status < 300:
            raise DeliveryFailed(f"SMS gateway answered {status}")


class GammuSms:
    """Queues the message with gammu-smsd, as one SMS if it fits into 160 characters of GSM 03.38.

    The text goes through standard input. The number can only be an argument: this server's list of processes shows it
    for the milliseconds that the command takes.
    """

    def __init__(self, inject: Path, config: Path) -> None:
        self._command = (str(inject), "-c", str(config), "TEXT")
        self._environment = os.environ | {"LC_ALL": "C.UTF-8"}  # in another character set the text ends at an “å”

    async def send(self, to: str, text: str) -> None:
        """Handed over when gammu-smsd has it in its queue."""
        try:
            process = await asyncio.create_subprocess_exec(
                *self._command,
                to,
                "-len",  # a longer text is several SMS; without it, the first
                "400",
                env=self._environment,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.DEVNULL,
                stderr=asyncio.subprocess.DEVNULL,
            )
        except OSError as error:
            raise DeliveryFailed(f"gammu-smsd-inject: {error.strerror}") from None
        try:
            async with asyncio.timeout(_TIMEOUT_SECONDS):
                await process.communicate(text.encode())
        except TimeoutError:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
            raise DeliveryFailed("gammu-smsd-inject did not end in time") from None
        if process.returncode:
            raise DeliveryFailed(f"gammu-smsd-inject ended with {process.returncode}")


def _fill(template: Mapping[str, str], values: Mapping[str, str]) -> dict[str, str]:
    # In one pass: a text that itself contains a placeholder is not filled in again.
    return {name: _PLACEHOLDER.sub(lambda found: values[found[1]], value) for name, value in template.items()}
