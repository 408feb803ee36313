"""Invariant 12: only public halves of keys are given away, and only to who asks for one that exists."""

from __future__ import annotations

import hashlib

import pytest
from tests.attacks import forge
from tests.attacks.people import MEET, Browser, Person, Site, on_host, ready


def test_key_set_holds_public_halves_only(site: Site):
    answer = Browser(site).get("/keys/jwks.json")
    keys = answer.json()["keys"]
    assert keys
    for key in keys:
        assert set(key) == {"kty", "n", "e", "kid", "use", "alg", "key_ops"}
        assert (key["kty"], key["alg"], key["key_ops"]) == ("RSA", "RS256", ["verify"])
        assert len(forge.unb64(key["n"])) >= 256
        pem = forge.pem_of(site, key["kid"])
        assert pem.startswith("-----BEGIN PUBLIC KEY-----")


NAMES = [
    "KID.pem", "HASH", "HASH.pem.bak", "HASH.key", "UPPER.pem", "SHORT.pem", "..%2f..%2fHASH.pem", "../etc/passwd",
    "%00.pem", "HASH.pem%00", "HASH.active.pem", "ZEROS.pem", "", "*.pem",
]  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_other_file_beside_the_keys_is_not_there(site: Site, name: str):
    kid = Browser(site).get("/keys/jwks.json").json()["keys"][0]["kid"]
    hashed = hashlib.sha256(kid.encode()).hexdigest()
    assert Browser(site).get(f"/keys/{hashed}.pem").status == 200
    name = (
        name.replace("HASH", hashed).replace("KID", kid).replace("UPPER", hashed.upper()).replace("SHORT", hashed[:32])
    )
    answer = Browser(site).get(f"/keys/{name}")
    assert answer.status in {400, 404}
    assert "KEY-----" not in answer.text


@pytest.mark.parametrize("method", ["PUT", "POST", "DELETE", "PATCH"])
def test_key_is_not_changed_over_http(site: Site, method: str):
    before = Browser(site).get("/keys/jwks.json").text
    assert Browser(site).ask(method, "/keys/jwks.json", "{}").status in {403, 405}
    assert Browser(site).get("/keys/jwks.json").text == before


async def test_key_pointed_at_from_prosody_opens_nothing(site: Site, anna: Person):
    """Jitsi's convention would fetch keys by `kid`; here nothing does."""
    honest = anna.ticket()
    header, claims, _ = forge.parts(honest["token"])
    for kid in (f"https://{MEET}/x", hashlib.sha256(header["kid"].encode()).hexdigest()):
        assert await site.refused(honest | {"token": forge.own(header | {"kid": kid}, claims)}) == "bad-ticket"
    assert await site.refused(honest) is None


async def test_ticket_of_a_key_that_was_taken_out_is_worthless_at_once(site: Site, anna: Person):
    """Jitsi's own check goes on with it for 90 minutes, or until Prosody restarts, which it does not here."""
    ring, started = "/etc/sluss/credentials/ticket-keys", "systemctl show -P ActiveEnterTimestamp prosody"
    honest, since = anna.ticket(), site.server.run(started).stdout
    kid = forge.parts(honest["token"])[0]["kid"]
    hashed = hashlib.sha256(kid.encode()).hexdigest()
    site.server.run(f"mv {ring} {ring}.away && /opt/sluss/venv/bin/sluss keys init {ring}")
    try:
        site.server.run("systemctl restart sluss-bridge")
        ready(site)
        assert await site.refused(honest) == "bad-ticket"
        assert Browser(site).get(f"/keys/{hashed}.pem").status == 404
        assert forge.parts((fresh := anna.ticket())["token"])[0]["kid"] != kid
        assert await site.refused(fresh) is None
        assert site.server.run(started).stdout == since
    finally:
        site.server.run(f"rm -r {ring} && mv {ring}.away {ring} && systemctl restart sluss-bridge")
        ready(site)
    assert await site.refused(honest) is None


@pytest.mark.parametrize("user", ["nobody", "sluss", "prosody", "www-data", "turnserver"])
def test_private_keys_are_for_root_and_the_running_service(site: Site, user: str):
    script = """
import glob, os
for path in ("/etc/sluss/credentials/ticket-keys", "/etc/sluss/credentials"):
    try: print("read", os.listdir(path))
    except OSError: pass
print("tried")
"""
    assert on_host(site, script, user) == "tried\n"
    assert ".active.pem" in site.server.run("ls /etc/sluss/credentials/ticket-keys").stdout
