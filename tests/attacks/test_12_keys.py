"""Invariant 12: keys change and nobody is refused for it; those taken out are worthless; private halves stay."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Iterator

import jwt
import pytest
from tests.attacks import forge
from tests.attacks.people import MEET, Browser, Meeting, Person, Site, on_host, ready
from tests.hosts.provision import play

RING = "/etc/sluss/credentials/ticket-keys"


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
    ring, started = RING, "systemctl show -P ActiveEnterTimestamp prosody"
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


# The playbooks


@pytest.fixture
def stolen(site: Site) -> Iterator[str]:
    """The private half of the key that signs now. The ring is as it was afterwards."""
    site.server.run(f"cp -a {RING} {RING}.before")
    yield site.server.run(f"cat {RING}/*.active.pem").stdout
    site.server.run(f"rm -r {RING} && mv {RING}.before {RING} && sluss keys load")


def kid_of(ticket: dict[str, str]) -> str:
    return forge.parts(ticket["token"])[0]["kid"]


def signed_by(stolen: str, kid: str, ticket: dict[str, str]) -> dict[str, str]:
    """A ticket that the bridge made and nobody used yet, signed again by whoever has that key."""
    claims = forge.parts(ticket["token"])[1]
    return ticket | {"token": jwt.encode(claims, stolen, "RS256", headers={"kid": kid})}


RUNNING = "systemctl show -P MainPID -P ActiveEnterTimestamp sluss-bridge prosody"


async def test_keys_rotate_and_nobody_is_refused(site: Site, meeting: Meeting, stolen: str):
    """People enter all the while, each by a ticket that is a moment old."""
    anna, bo, nora = *meeting.people[:2], meeting.newcomer()
    held, kids, refused, since = anna.ticket(), [], [], site.server.run(RUNNING).stdout
    old = kid_of(held)
    assert await site.refused(signed_by(stolen, old, bo.ticket())) is None, "the stolen key is the real one"
    async with nora.enter() as inside:
        rotating = asyncio.create_task(asyncio.to_thread(play, site.server.machine, "rotate-keys.yml"))
        while not rotating.done():
            if len(kids) - kids.count(old) == 31:  # no ticket here waits for a minute, so the old key need not either
                site.server.run(f"touch -d '-2 minutes' {RING}/*.retired.pem")
            following = await asyncio.to_thread(anna.ticket if len(kids) % 2 else bo.ticket)
            kids.append(kid_of(held))
            refused.append(await site.refused(held))
            held = following
        played = await rotating
        await inside.ping()
    assert not played.failed, played.failure
    assert set(refused) == {None}
    new = kid_of(held)
    assert set(kids) == {old, new}
    assert kids.count(new) > 30
    assert kids == sorted(kids, key=lambda kid: kid == new), "one after the other"
    assert site.server.run(RUNNING).stdout == since, "nothing was restarted"

    assert [key["kid"] for key in Browser(site).get("/keys/jwks.json").json()["keys"]] == [new]
    assert await site.refused(signed_by(stolen, old, held)) == "bad-ticket"
    assert await site.refused(held) is None
    found = site.server.run(f"cd {RING} && grep -l 'PRIVATE KEY' * && ls && sluss keys list").stdout.split()
    assert found[0] == f"{new}.active.pem"
    assert sorted(found[1:3]) == sorted([f"{old}.archived.pem", f"{new}.active.pem"])
    assert "keys-changed" in site.server.run("sluss audit show --limit 2000").stdout


async def test_revoked_keys_are_worthless_at_once(site: Site, anna: Person, bo: Person, stolen: str):
    honest, since = anna.ticket(), site.server.run(RUNNING).stdout
    old = kid_of(honest)
    async with bo.enter() as inside:
        played = await asyncio.to_thread(play, site.server.machine, "revoke-keys.yml")
        assert not played.failed, played.failure
        assert await site.refused(honest) == "bad-ticket"
        fresh = anna.ticket()
        assert kid_of(fresh) != old
        assert await site.refused(signed_by(stolen, old, fresh)) == "bad-ticket"
        assert await site.refused(fresh) is None
        await inside.ping()
    assert site.server.run(RUNNING).stdout == since
    assert old not in Browser(site).get("/keys/jwks.json").text
    assert old not in site.server.run(f"ls {RING}").stdout


AWAY = {
    "the bridge is away": "systemctl stop sluss-bridge",
    "the bridge waits for Prosody": "systemctl stop prosody && systemctl restart --no-block sluss-bridge",
}


@pytest.mark.parametrize("what", AWAY)
async def test_revoked_keys_are_worthless_whatever_the_bridge_was_doing(
    site: Site, anna: Person, stolen: str, what: str
):
    old = kid_of(anna.ticket())
    site.server.run(AWAY[what])
    try:
        played = await asyncio.to_thread(play, site.server.machine, "revoke-keys.yml")
        assert not played.failed, played.failure
    finally:
        site.server.run("systemctl start prosody; systemctl start --no-block sluss-bridge")
        ready(site)
    fresh = anna.ticket()
    assert await site.refused(signed_by(stolen, old, fresh)) == "bad-ticket"
    assert await site.refused(fresh) is None


def test_key_that_is_not_there_is_named_and_the_others_stay(site: Site, stolen: str):
    before = site.server.run(f"ls {RING}").stdout
    played = play(site.server.machine, "revoke-keys.yml", "demo", "-e", "kids=20200101-00000000")
    assert played.failed
    assert "there is no key 20200101-00000000" in played.failure
    assert site.server.run(f"ls {RING}").stdout == before


@pytest.mark.parametrize("user", ["sluss", "www-data", "nobody"])
def test_other_user_hands_no_keys_over(site: Site, user: str):
    script = """
import socket
s = socket.socket(socket.AF_UNIX)
try:
    s.connect("/run/sluss/keys")
    s.sendall(b"PUT / HTTP/1.1\\r\\nHost: x\\r\\nConnection: close\\r\\nContent-Length: 2\\r\\n\\r\\n{}")
    print(s.recv(1000).split()[1].decode())
except PermissionError:
    print("no way there")
"""
    assert on_host(site, script, user) in {"403\n", "no way there\n"}
    assert (on_host(site, script, user) == "403\n") == (user == "sluss"), "the socket is there"
