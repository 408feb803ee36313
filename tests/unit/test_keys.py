"""Keys take each other's place without a ticket that is refused, and what is taken out is worth nothing at once."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.request import Request, urlopen

import pytest
from click.testing import CliRunner
from cryptography.hazmat.primitives import serialization
from tests.unit.settings import credentials, valid, written

from sluss import app
from sluss.cli import main
from sluss.config import load_credentials, load_settings
from sluss.domain.errors import ConfigError
from sluss.domain.gate import Refusal
from sluss.keyring import ring
from sluss.keyring.ring import KeyState, archive, create_first_key, read_ring, revoke, rotate
from sluss.keyring.tickets import BadTicketError, TicketKeys
from sluss.services.tickets import TICKET_LIFETIME
from sluss.store.database import upgrade

PORTAL = "portal.sluss.test"
NOW = datetime(2026, 3, 2, 9, tzinfo=UTC)
CLAIMS = {"iss": "i", "aud": "a", "sub": "s", "room": "r", "jti": "j", "nbf": 0, "iat": 0, "exp": 2**33}


@pytest.fixture
def keys(tmp_path) -> Path:
    create_first_key(tmp_path / "keys", NOW)
    return tmp_path / "keys"


def pems(directory: Path) -> dict[str, bytes]:
    return {file.path.name: file.path.read_bytes() for file in read_ring(directory)}


def states(directory: Path) -> dict[str, str]:
    return {file.kid: file.state.value for file in read_ring(directory)}


def opens(keys: TicketKeys, token: str) -> bool:
    try:
        keys.check(token, issuer="i", audience="a", now=NOW)
    except BadTicketError:
        return False
    return True


def age(directory: Path, by: timedelta) -> None:
    for path in directory.iterdir():
        at = path.stat().st_mtime - by.total_seconds()
        os.utime(path, (at, at))


def test_key_goes_from_active_to_retired_to_archived(keys):
    first = TicketKeys(pems(keys))
    ticket, record = first.sign(CLAIMS), first.sign_receipt({"who": "was there"})
    new = rotate(keys, NOW)
    assert states(keys) == {first.active_kid: "retired", new: "active"}
    second = TicketKeys(pems(keys))
    assert second.active_kid == new
    assert opens(second, ticket)
    assert opens(second, second.sign(CLAIMS))
    assert not opens(first, second.sign(CLAIMS))

    age(keys, ring.STILL_USED)
    assert archive(keys, datetime.now(UTC)) == ([first.active_kid], timedelta())
    assert states(keys) == {first.active_kid: "archived", new: "active"}
    third = TicketKeys(pems(keys))
    assert not opens(third, ticket)
    assert third.check_receipt(record) == {"who": "was there"}
    assert [key["kid"] for key in third.jwks()["keys"]] == [new]


def test_private_half_is_destroyed_when_a_key_is_retired(keys):
    rotate(keys, NOW)
    (retired,) = (file for file in read_ring(keys) if file.state is KeyState.RETIRED)
    assert retired.path.read_bytes().startswith(b"-----BEGIN PUBLIC KEY-----")
    assert {path.stat().st_mode & 0o777 for path in keys.iterdir()} == {0o600}
    assert len(list(keys.iterdir())) == 2


def test_retired_key_is_not_archived_while_a_ticket_of_it_can_be_in_use(keys):
    assert ring.STILL_USED > TICKET_LIFETIME
    rotate(keys, NOW)
    before = pems(keys)
    done, left = archive(keys, datetime.now(UTC))
    assert not done
    assert ring.STILL_USED - timedelta(seconds=20) < left <= ring.STILL_USED
    assert pems(keys) == before


def test_revoked_keys_are_gone_and_a_new_one_signs(keys):
    old = rotate(keys, NOW)
    stolen = TicketKeys(pems(keys))
    ticket, record = stolen.sign(CLAIMS), stolen.sign_receipt({})
    new = revoke(keys, [], NOW)
    assert states(keys) == {new: "active"}
    assert new != old
    left = TicketKeys(pems(keys))
    assert not opens(left, ticket)
    with pytest.raises(BadTicketError):
        left.check_receipt(record)


def test_one_key_is_revoked_and_the_others_stay(keys):
    (first,) = states(keys)
    second = rotate(keys, NOW)
    assert revoke(keys, [first], NOW) == second
    assert states(keys) == {second: "active"}
    third = rotate(keys, NOW)
    fourth = revoke(keys, [third], NOW)
    assert states(keys) == {second: "retired", fourth: "active"}


def test_key_that_is_not_there_is_named_and_the_others_are_revoked(keys):
    """In an emergency, and when it is done again after it was interrupted."""
    before, (kid,) = pems(keys), states(keys)
    with pytest.raises(ConfigError, match="no key gone, lost in"):
        revoke(keys, ["lost", "gone"], NOW)
    assert pems(keys) == before
    with pytest.raises(ConfigError, match="no key lost in"):
        revoke(keys, ["lost", kid], NOW)
    assert list(states(keys).values()) == ["active"]
    assert kid not in states(keys)
    for verb in (rotate, archive):
        with pytest.raises(ConfigError, match="no such directory"):
            verb(keys / "x", NOW)


@pytest.mark.parametrize("verb", [rotate, lambda where, now: revoke(where, [], now)])
def test_whatever_interrupts_it_the_ring_signs_and_it_can_be_done_again(keys, monkeypatch, verb):
    """Power is cut after each of its steps on the disk, one after the other."""
    steps = (Path, "rename"), (Path, "unlink")
    left = [0]

    def cut(do):
        def step(*args, **options):
            left[0] -= 1
            if left[0] < 0:
                raise KeyboardInterrupt
            return do(*args, **options)

        return step

    for owner, name in steps:
        monkeypatch.setattr(owner, name, cut(getattr(owner, name)))
    for after in range(20):
        left[0] = after
        try:
            kid = verb(keys, NOW)
            break
        except KeyboardInterrupt:
            assert TicketKeys(pems(keys)).active_kid
    assert after >= 3
    assert TicketKeys(pems(keys)).active_kid == kid
    assert list(states(keys).values()).count("active") == 1
    assert "next" not in states(keys).values()


def test_public_key_cannot_be_active(keys):
    (file,) = read_ring(keys)
    key = serialization.load_pem_private_key(file.path.read_bytes(), None).public_key()
    public = key.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    with pytest.raises(ConfigError, match="not a private key"):
        TicketKeys({file.path.name: public})


# The running bridge


@pytest.fixture
def run():
    """A directory that everybody can get to."""
    with TemporaryDirectory() as directory:
        Path(directory).chmod(0o777)
        yield Path(directory)


@pytest.fixture
async def bridge(tmp_path, run):
    """A running one, its settings file, and the directory where its keys are."""
    if os.getuid():
        pytest.skip("only root hands keys over")
    settings, secrets = valid(tmp_path), credentials(tmp_path)
    settings["listen"]["keys"] = str(run / "keys")
    upgrade(settings["database"])
    directory, found = tmp_path / "keys", load_settings(written(tmp_path, settings))
    create_first_key(directory, NOW)
    for path in secrets.glob("ticket-keys_*"):
        path.unlink()
    for name, pem in pems(directory).items():
        (secrets / f"ticket-keys_{name}").write_bytes(pem)
    async with app.running(found, load_credentials(found, {"CREDENTIALS_DIRECTORY": str(secrets)})) as running:
        yield running, tmp_path / "sluss.yml", directory


async def load(path: Path, directory: Path) -> tuple[int, str]:
    command = [sys.executable, "-m", "sluss.cli", "--config", path, "keys", "load", "--directory", directory]
    done = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, check=False, timeout=30)
    return done.returncode, done.stdout + done.stderr


async def served(running) -> list[str]:
    asked = urlopen, Request(f"http://127.0.0.1:{running.portal_port}/keys/jwks.json", headers={"Host": PORTAL})
    return [key["kid"] for key in json.load(await asyncio.to_thread(*asked))["keys"]]


async def test_running_bridge_takes_keys_and_says_so(bridge):
    running, path, directory = bridge
    (old,) = states(directory)
    new = rotate(directory, NOW)
    assert await served(running) == [old]
    assert await load(path, directory) == (0, f"active {new}\n")
    assert sorted(await served(running)) == sorted([old, new])
    (entry,) = [e for e in await running.services.audit.newest(5) if e.action == "keys-changed"]
    assert (entry.actor, entry.subject, entry.details) == (
        "admin",
        f"key:{new}",
        {"kids": " ".join(sorted([old, new]))},
    )


async def test_running_bridge_goes_on_with_the_keys_it_has_when_others_cannot_sign(bridge):
    running, path, directory = bridge
    before = await served(running)
    (file,) = read_ring(directory)
    file.path.rename(directory / f"{file.kid}.archived.pem")
    code, said = await load(path, directory)
    assert (code, "goes on with the keys it has: ticket-keys: there must be one active key, there are 0" in said) == (
        1,
        True,
    )
    assert await served(running) == before


async def test_nobody_but_root_hands_keys_over(bridge, run):
    """Whoever is let into the directory, by a mistake or by the bridge's own user."""
    running, path, directory = bridge
    before = await served(running)
    rotate(directory, NOW)
    (run / "keys").chmod(0o666)
    script = """
import os, socket, sys
os.setuid(65534)
s = socket.socket(socket.AF_UNIX)
s.connect(sys.argv[1])
s.sendall(b"PUT / HTTP/1.1\\r\\nHost: x\\r\\nConnection: close\\r\\nContent-Length: 2\\r\\n\\r\\n{}")
print(s.recv(1000).split()[1].decode())
"""
    command = [sys.executable, "-c", script, run / "keys"]
    done = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, check=True, timeout=30)
    assert done.stdout == "403\n"
    assert await served(running) == before
    assert (await load(path, directory))[0] == 0


async def test_bridge_that_does_not_answer_is_said(bridge, run):
    _, path, directory = bridge
    (run / "keys").unlink()
    code, said = await load(path, directory)
    assert (code, "the bridge does not answer" in said) == (1, True)


async def test_ticket_of_a_key_that_is_gone_is_worthless_at_once(world, tmp_path, monkeypatch):
    monkeypatch.setattr(world.keys, "_ring", world.keys._ring)  # other tests have the same
    organiser, _ = await world.signed_in()
    await world.meeting(organiser)
    ticket = await world.ticket(world.link())
    create_first_key(tmp_path / "new", NOW)
    assert await world.services.keys.take(pems(tmp_path / "new")) == world.keys.active_kid
    asked = {
        "token": ticket.token,
        "room": ticket.room,
        "session": "x",
        "transport": "websocket",
        "address": "192.0.2.1",
    }
    assert (await world.services.admission.authenticate(**asked)).reason is Refusal.BAD_TICKET


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["list"], 0, "active"),
        (["revoke"], 2, "name keys, or say --all"),
        (["revoke", "--all", "x"], 2, "name keys, or say --all"),
        (["revoke", "x"], 78, "there is no key x in"),
        (["revoke", "--all"], 0, "active "),
        (["archive"], 0, ""),
    ],
)
def test_command_says_what_it_did(keys, arguments, code, said):
    done = CliRunner().invoke(main, ["keys", *arguments, "--directory", str(keys)])
    assert (done.exit_code, said in done.output) == (code, True), done.output


def test_command_says_how_long_until_a_retired_key_can_be_archived(keys):
    CliRunner().invoke(main, ["keys", "rotate", "--directory", str(keys)])
    done = CliRunner().invoke(main, ["keys", "archive", "--directory", str(keys)])
    assert done.exit_code == os.EX_TEMPFAIL
    assert "may be in use for" in done.output
    age(keys, ring.STILL_USED - timedelta(seconds=2))
    done = CliRunner().invoke(main, ["keys", "archive", "--wait", "--directory", str(keys)])
    assert (done.exit_code, done.output[:9]) == (0, "archived "), done.output
