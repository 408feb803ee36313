"""Swedish BankID, as the relying party (API 6.0): begin an order, ask how it goes, take it back, tell its QR code.

https://developers.bankid.com has the published interface. BankID knows us by a client certificate, and we know it by
its own authority and no other. An order's secrets and a person's number are in values that do not print themselves.
"""

import base64
import hashlib
import hmac
import ssl
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TypeVar

import aiohttp
import msgspec

from sluss.domain.errors import ConfigError

URLS = {
    "production": "https://appapi2.bankid.com/rp/v6.0",
    "test": "https://appapi2.test.bankid.com/rp/v6.0",
}
UNAVAILABLE = "unavailable"
"""Our own word for: no answer, or none that can be read."""
_TIMEOUT_SECONDS = 8
_T = TypeVar("_T")


class BankIdError(Exception):
    """BankID did not do it. `code` is its word, such as `alreadyInProgress` or `Maintenance`, or `UNAVAILABLE`."""

    def __init__(self, code: str, detail: str = "") -> None:
        super().__init__(f"{code}: {detail}" if detail else code)
        self.code = code


class State(StrEnum):
    """How an order goes."""

    PENDING = "pending"
    FAILED = "failed"
    COMPLETE = "complete"


@dataclass(frozen=True, slots=True, repr=False)
class Order:
    """A begun order. Whoever has `qr_secret` can have somebody else's phone open it."""

    ref: str
    start_token: str
    qr_token: str
    qr_secret: str

    def qr_code(self, seconds: int) -> str:
        """What the QR code says so many whole seconds after the order began."""
        proof = hmac.new(self.qr_secret.encode(), str(seconds).encode(), hashlib.sha256).hexdigest()
        return f"bankid.{self.qr_token}.{seconds}.{proof}"


@dataclass(frozen=True, slots=True, repr=False)
class Person:
    """Who has completed an order: twelve digits, and the names in their certificate."""

    personal_number: str
    given_name: str
    surname: str


@dataclass(frozen=True, slots=True, repr=False)
class Answer:
    """How an order goes: BankID's hint while it is pending or has failed, the person when it is complete."""

    state: State
    hint: str = ""
    person: Person | None = None
    risk: str = ""
    """`low`, `moderate`, `high`, or nothing: BankID cannot always tell."""


class _Begun(msgspec.Struct, rename="camel"):
    order_ref: str
    auto_start_token: str
    qr_start_token: str
    qr_start_secret: str


class _User(msgspec.Struct, rename="camel"):
    personal_number: str
    given_name: str
    surname: str


class _Completion(msgspec.Struct):
    user: _User
    risk: str = ""


class _Collected(msgspec.Struct, rename="camel"):
    order_ref: str
    status: State
    hint_code: str = ""
    completion_data: _Completion | None = None


class _Refused(msgspec.Struct, rename="camel"):
    error_code: str


class BankId:
    """BankID's service."""

    def __init__(self, client: aiohttp.ClientSession, url: str, tls: ssl.SSLContext) -> None:
        self._client, self._url, self._tls = client, url.rstrip("/"), tls

    async def begin(self, address: str, text: str, return_url: str) -> Order:
        """Begin an order for whoever is at `address`. The app shows `text`; on the same device it ends at `return_url`.

        It names no personal number, so it is the same for everybody. Raises `BankIdError`.
        """
        asked = {
            "endUserIp": address,
            "userVisibleData": base64.b64encode(text.encode()).decode(),
            "userVisibleDataFormat": "simpleMarkdownV1",
            "returnUrl": return_url,
            "returnRisk": True,
        }
        begun = await self._ask("auth", asked, _Begun)
        return Order(begun.order_ref, begun.auto_start_token, begun.qr_start_token, begun.qr_start_secret)

    async def collect(self, order: Order) -> Answer:
        """How it goes; BankID wants to be asked every two seconds, and tells of a completed order once.

        Raises `BankIdError`.
        """
        told = await self._ask("collect", {"orderRef": order.ref}, _Collected)
        if told.order_ref != order.ref:
            raise BankIdError(UNAVAILABLE, "the answer is about another order")
        if told.status is not State.COMPLETE:
            return Answer(told.status, told.hint_code)
        if told.completion_data is None:
            raise BankIdError(UNAVAILABLE, "complete, by nobody")
        user = told.completion_data.user
        person = Person(user.personal_number, user.given_name, user.surname)
        return Answer(told.status, person=person, risk=told.completion_data.risk)

    async def cancel(self, order: Order) -> None:
        """Take a pending order back: the app closes it. Raises `BankIdError`."""
        await self._ask("cancel", {"orderRef": order.ref}, dict[str, object])

    async def _ask(self, verb: str, body: dict[str, object], kind: type[_T]) -> _T:
        try:
            async with self._client.post(
                f"{self._url}/{verb}",
                json=body,
                ssl=self._tls,
                allow_redirects=False,
                timeout=aiohttp.ClientTimeout(total=_TIMEOUT_SECONDS),
            ) as response:
                status, content = response.status, await response.read()
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise BankIdError(UNAVAILABLE, type(error).__name__) from None
        try:
            if status == 200:
                return msgspec.json.decode(content, type=kind)
            code = msgspec.json.decode(content, type=_Refused).error_code
        except msgspec.MsgspecError:
            raise BankIdError(UNAVAILABLE, f"status {status}, and nothing that can be read") from None
        raise BankIdError(code, f"status {status}")


def mutual_tls(authority: Path, certificate: Path, key: Path) -> ssl.SSLContext:
    """Trust `authority` alone, and show `certificate` (PEM files). Raises `ConfigError`."""
    try:
        context = ssl.create_default_context(cafile=authority)
    except OSError as error:  # ssl.SSLError is one
        raise ConfigError(f"bankid.authority: {authority}: no certificate that can be read: {_why(error)}") from None
    try:
        context.load_cert_chain(certificate, key, password=lambda: "")  # or OpenSSL would ask at a terminal
    except OSError as error:
        raise ConfigError(f"{certificate} and {key.name}: cannot be used: {_why(error)}") from None
    return context


def _why(error: OSError) -> str:
    return (error.strerror or type(error).__name__).partition(" (_ssl")[0]
