"""What machines ask: public keys on the portal; alive, ready and metrics on the internal listener."""

from __future__ import annotations

import hashlib

import pytest
from aiohttp.test_utils import TestClient, TestServer
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from prometheus_client import CollectorRegistry, Counter

from sluss.web import make_internal


async def test_each_key_of_the_set_can_be_had_by_the_hash_of_its_name(portal, browser):
    keys = (await (await browser.ask("GET", "/keys/jwks.json")).raw.json(content_type="application/jwk-set+json"))[
        "keys"
    ]
    assert [k["kty"] for k in keys] == ["RSA"]
    assert not {"d", "p", "q"} & set(keys[0])
    page = await browser.ask("GET", f"/keys/{hashlib.sha256(keys[0]['kid'].encode()).hexdigest()}.pem")
    assert load_pem_public_key(page.html.encode()).key_size >= 2048


@pytest.mark.parametrize("name", ["0" * 64, "..%2f..%2fetc%2fpasswd", "x"])
async def test_an_unknown_key_is_not_there(browser, name):
    assert (await browser.ask("GET", f"/keys/{name}.pem")).status == 404


async def test_keys_and_static_files_give_no_session(browser):
    for path in ("/keys/jwks.json", "/static/sluss.css", "/static/room.js"):
        page = await browser.ask("GET", path)
        assert page.status == 200
        assert "Set-Cookie" not in page.headers


@pytest.mark.parametrize("path", ["/static/", "/static/../security.py", "/static/%2e%2e/security.py"])
async def test_static_files_are_no_way_to_others(browser, path):
    assert (await browser.ask("GET", path)).status in (403, 404)


async def test_the_portal_has_no_health_and_no_metrics(browser):
    for path in ("/healthz", "/readyz", "/metrics"):
        assert (await browser.ask("GET", path)).status == 404


class Health:
    def __init__(self, **parts: bool) -> None:
        self.parts = parts

    async def check(self) -> dict[str, bool]:
        return self.parts


@pytest.mark.parametrize(("gate", "status"), [(True, 200), (False, 503)])
async def test_ready_means_every_part_works(gate, status):
    registry = CollectorRegistry()
    Counter("sluss_test", "A number.", registry=registry).inc()
    async with TestClient(TestServer(make_internal(Health(database=True, gate=gate), registry))) as client:
        ready = await client.get("/readyz")
        assert (ready.status, await ready.json()) == (status, {"database": True, "gate": gate})
        assert (await client.get("/healthz")).status == 200
        assert "sluss_test_total 1.0" in await (await client.get("/metrics")).text()
