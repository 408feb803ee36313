"""A double of BankID's service: speaks its published relying-party API 6.0 over mutual TLS, with people who do as told.

What an order comes to is a story: what BankID says each time it is asked about it; the last goes on. Real BankID cannot
be had by a test: it wants a contract, its certificate and a person with a phone.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import hashlib
import hmac
import json
import ssl
import uuid
from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path

from aiohttp import web

API = "/rp/v6.0"
FIELDS = {
    "endUserIp", "requirement", "userVisibleData", "userNonVisibleData", "userVisibleDataFormat", "returnUrl",
    "returnRisk", "app", "web",
}  # fmt: skip
WAITS, STARTED, SIGNS = (
    {"status": "pending", "hintCode": h} for h in ("outstandingTransaction", "started", "userSign")
)
LONGEST_TEXT = 1500


def failed(hint: str) -> dict:
    return {"status": "failed", "hintCode": hint}


def refused(status: int, code: str) -> dict:
    return {"error": status, "errorCode": code}


def complete(number: str, given: str, surname: str, risk: str | None = "low") -> dict:
    """Somebody has signed; `risk` None: BankID could not tell."""
    data = {
        "user": {"personalNumber": number, "name": f"{given} {surname}", "givenName": given, "surname": surname},
        "device": {"ipAddress": "192.0.2.7", "uhi": "OZvYM9VvyiAmG7NA5jU5zqGcVpo="},
        "bankIdIssueDate": "2025-02-01",
        "stepUp": {"mrtd": False},
        "signature": base64.b64encode(b"<Signature/>").decode(),
        "ocspResponse": base64.b64encode(b"ocsp").decode(),
    }
    return {"status": "complete", "completionData": data | ({"risk": risk} if risk else {})}


@dataclass
class Order:
    """One order, as BankID keeps it."""

    asked: dict
    story: list[dict]
    ref: str = field(default_factory=lambda: str(uuid.uuid4()))
    start_token: str = field(default_factory=lambda: str(uuid.uuid4()))
    qr_token: str = field(default_factory=lambda: str(uuid.uuid4()))
    qr_secret: str = field(default_factory=lambda: str(uuid.uuid4()))
    cancelled: bool = False

    @property
    def text(self) -> str:
        """What the app shows."""
        return base64.b64decode(self.asked["userVisibleData"]).decode()

    def reads(self, qr: str) -> int:
        """The second of a QR code that the app accepts; it raises for any other."""
        scheme, token, seconds, proof = qr.split(".")
        right = hmac.new(self.qr_secret.encode(), seconds.encode(), hashlib.sha256).hexdigest()
        assert (scheme, token, proof) == ("bankid", self.qr_token, right)
        return int(seconds)


class BankIdDouble:
    """The service. `story` is that of orders, `on_auth` what it answers instead of one."""

    def __init__(self) -> None:
        self.story: list[dict] = [WAITS]
        self.stories: list[list[dict]] = []
        """Those of the next orders, before it is `story`'s turn."""
        self.on_auth: dict | None = None
        self.hold: asyncio.Event | None = None
        """While it is not set, nobody gets an answer."""
        self.arrived = asyncio.Event()
        self.orders: list[Order] = []
        self.collects = 0

    @property
    def last(self) -> Order:
        return self.orders[-1]

    def application(self) -> web.Application:
        app = web.Application()
        for verb in ("auth", "collect", "cancel"):
            app.router.add_post(f"{API}/{verb}", self._answer)
        return app

    async def _answer(self, request: web.Request) -> web.Response:
        if self.hold is not None:
            self.arrived.set()
            await self.hold.wait()
        if request.headers.get("Content-Type") != "application/json":
            return self._refuse(415, "unsupportedMediaType")
        try:
            body = await request.json()
        except json.JSONDecodeError:
            return self._refuse(400, "invalidParameters")
        said = getattr(self, request.path.rpartition("/")[2])(body)
        if "error" in said:
            return self._refuse(said["error"], said["errorCode"])
        return web.json_response(said)

    def auth(self, body: dict) -> dict:
        try:
            ip_address(body["endUserIp"])
            right = set(body) <= FIELDS and 0 < len(base64.b64decode(body["userVisibleData"])) <= LONGEST_TEXT
        except (KeyError, ValueError):
            right = False
        if not right or "personalNumber" in body:
            return refused(400, "invalidParameters")
        if self.on_auth:
            return self.on_auth
        order = Order(body, list(self.stories.pop(0) if self.stories else self.story))
        self.orders.append(order)
        return {
            "orderRef": order.ref,
            "autoStartToken": order.start_token,
            "qrStartToken": order.qr_token,
            "qrStartSecret": order.qr_secret,
        }

    def collect(self, body: dict) -> dict:
        self.collects += 1
        order = self._order(body)
        if order is None:
            return refused(400, "invalidParameters")
        said = order.story.pop(0) if len(order.story) > 1 else order.story[0]
        if "error" in said:
            return said
        if said["status"] != "pending":
            order.story = []  # told once
        return {"orderRef": order.ref} | said

    def cancel(self, body: dict) -> dict:
        order = self._order(body)
        if order is None:
            return refused(400, "invalidParameters")
        order.cancelled, order.story = True, []
        return {}

    def _order(self, body: dict) -> Order | None:
        return next((o for o in self.orders if o.ref == body.get("orderRef") and o.story), None)

    @staticmethod
    def _refuse(status: int, code: str) -> web.Response:
        return web.json_response({"errorCode": code, "details": "of the double"}, status=status)


def tls(certificate: str, key: str, clients: str) -> ssl.SSLContext:
    """Nobody connects without a certificate of the authority `clients`."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=clients)
    context.load_cert_chain(certificate, key)
    context.verify_mode = ssl.CERT_REQUIRED
    return context


def main() -> None:
    """Serve on a host: `double.py PORT CERTIFICATE KEY CLIENTS STORIES`. The last is a JSON file, a story an order."""
    parser = argparse.ArgumentParser()
    parser.add_argument("port", type=int)
    for name in ("certificate", "key", "clients", "stories"):
        parser.add_argument(name)
    told = parser.parse_args()
    double = BankIdDouble()
    double.stories = json.loads(Path(told.stories).read_text("utf-8"))
    context = tls(told.certificate, told.key, told.clients)
    web.run_app(double.application(), host="127.0.0.1", port=told.port, ssl_context=context, print=None)


if __name__ == "__main__":
    main()
