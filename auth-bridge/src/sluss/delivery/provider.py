"""Asking the organisation's identity provider over HTTPS: JSON, no redirects, not for long and not much."""

import json
import ssl
from collections.abc import Mapping
from typing import Any

import aiohttp

from sluss.domain.errors import SignInUnavailable

_TIMEOUT_SECONDS = 5
_MAX_BYTES = 256 * 1024


class HttpsAsker:
    """What `factors.sign_in.Asker` says, through aiohttp."""

    def __init__(self, client: aiohttp.ClientSession, trust: ssl.SSLContext | bool = True) -> None:
        """`trust`: the authorities in place of the system's."""
        self._client, self._trust = client, trust

    async def ask(
        self, url: str, *, form: Mapping[str, str] | None = None, authorization: str = ""
    ) -> tuple[int, dict[str, Any]]:
        """Status and JSON object of the answer. Raises `SignInUnavailable` for everything else."""
        headers = {"Accept": "application/json"} | ({"Authorization": authorization} if authorization else {})
        try:
            async with self._client.request(
                "GET" if form is None else "POST",
                url,
                data=form,
                headers=headers,
                allow_redirects=False,
                ssl=self._trust,
                timeout=aiohttp.ClientTimeout(total=_TIMEOUT_SECONDS),
            ) as response:
                status, body = response.status, await response.content.read(_MAX_BYTES + 1)
                while len(body) <= _MAX_BYTES and (more := await response.content.read(_MAX_BYTES)):
                    body += more
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise SignInUnavailable(f"identity provider: {type(error).__name__}") from None
        if status >= 500 or len(body) > _MAX_BYTES:
            raise SignInUnavailable(f"identity provider answered {status}, {len(body)} bytes")
        try:
            found = json.loads(body)
        except (ValueError, RecursionError):
            found = None
        if not isinstance(found, dict):
            raise SignInUnavailable(f"identity provider answered {status} without a JSON object")
        return status, found
