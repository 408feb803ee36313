"""The directory of ticket keys: `<kid>.<state>.pem`, and the ways of a key from one state to the next.

Whatever interrupts one of these, what is then in the directory is a ring that signs: the new key is written as `next`
first, and a `next` stands in for an active key that is gone.
"""

import os
import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from sluss.domain.errors import ConfigError

KEY_BITS = 2048
STILL_USED = timedelta(seconds=75)
"""So long after it was retired a key may have tickets that somebody is about to use: more than a ticket's life."""


class KeyState(StrEnum):
    """A key's life. What is gone after that is worth nothing."""

    NEXT = "next"
    """About to sign."""
    ACTIVE = "active"
    """Signs. Checks, as `NEXT` and `RETIRED` do."""
    RETIRED = "retired"
    """Signed before; its private half is gone."""
    ARCHIVED = "archived"
    """Checks attendance records from then, and no tickets."""


@dataclass(frozen=True, slots=True)
class KeyFile:
    """One file of the ring."""

    path: Path
    kid: str
    state: KeyState


def parse_name(name: str) -> tuple[str, KeyState]:
    """A file's name as kid and state. Raises `ConfigError`."""
    kid, _, state = name.removesuffix(".pem").rpartition(".")
    if not kid or state not in set(KeyState):
        raise ConfigError(f"ticket-keys: {name}: must be called <kid>.{'|'.join(KeyState)}.pem")
    return kid, KeyState(state)


def load_key(name: str, pem: bytes) -> tuple[rsa.RSAPublicKey, rsa.RSAPrivateKey | None]:
    """A key's public half, and the private one where it is there, as it must be of a key that signs or will.

    Raises `ConfigError`.
    """
    state = parse_name(name)[1]
    wanted = "public" if state in {KeyState.RETIRED, KeyState.ARCHIVED} else "private"
    try:
        if wanted == "private" or b"PRIVATE KEY" in pem:
            private = serialization.load_pem_private_key(pem, password=None)
            public = private.public_key()
        else:
            private, public = None, serialization.load_pem_public_key(pem)
    except ValueError:
        raise ConfigError(f"ticket-keys: {name}: not a {wanted} key in PEM") from None
    if not isinstance(public, rsa.RSAPublicKey) or public.key_size < KEY_BITS:
        raise ConfigError(f"ticket-keys: {name}: must be RSA of {KEY_BITS} bits or more")
    return public, private if isinstance(private, rsa.RSAPrivateKey) else None


def read_ring(directory: Path) -> list[KeyFile]:
    """What is there, by kid. Raises `ConfigError`."""
    if not directory.is_dir():
        raise ConfigError(f"ticket-keys: {directory}: there is no such directory")
    return [KeyFile(path, *parse_name(path.name)) for path in sorted(directory.glob("*.pem"))]


def create_first_key(directory: Path, now: datetime | None = None) -> tuple[str, bool]:
    """Make the first active key in `directory` unless there is one. Returns its kid and whether it is new."""
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    for file in read_ring(directory):
        if file.state is KeyState.ACTIVE:
            return file.kid, False
    new = _write_new(directory, now or datetime.now(UTC))
    _rename(new, KeyState.ACTIVE)
    return new.kid, True


def rotate(directory: Path, now: datetime) -> str:
    """Have a new key sign. The one before goes on to check, and its private half is destroyed. Returns the new kid.

    Finishes one that was interrupted. Raises `ConfigError`.
    """
    ring = read_ring(directory)
    new = next((file for file in ring if file.state is KeyState.NEXT), None) or _write_new(directory, now)
    for file in ring:
        if file.state is KeyState.ACTIVE:
            public, _ = load_key(file.path.name, file.path.read_bytes())
            pem = public.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
            _write(directory / f"{file.kid}.{KeyState.RETIRED}.pem", pem)
            file.path.unlink()
    _rename(new, KeyState.ACTIVE)
    return new.kid


def archive(directory: Path, now: datetime) -> tuple[list[str], timedelta]:
    """Let retired keys open nothing more once no ticket of theirs can be in use.

    Returns the kids, and how long it takes until the rest can follow: nothing, if none is left.
    """
    archived, rest = [], timedelta()
    for file in read_ring(directory):
        if file.state is KeyState.RETIRED:
            left = STILL_USED - (now - datetime.fromtimestamp(file.path.stat().st_mtime, UTC))
            if left > timedelta():
                rest = max(rest, left)
            else:
                _rename(file, KeyState.ARCHIVED)
                archived.append(file.kid)
    return archived, rest


def revoke(directory: Path, kids: Iterable[str], now: datetime) -> str:
    """Remove keys, or all if none is named: what they signed is worth nothing. Returns the kid that signs from now on.

    Raises `ConfigError` for those that are not there, when the others are gone.
    """
    ring = read_ring(directory)
    wanted = set(kids) or {file.kid for file in ring}
    signing = [file for file in ring if file.state in {KeyState.ACTIVE, KeyState.NEXT}]
    kept = sorted((file for file in signing if file.kid not in wanted), key=lambda file: file.state is KeyState.NEXT)
    new = kept[0] if kept else _write_new(directory, now)
    # The active one last: until then nothing stands in for it.
    for file in sorted(ring, key=lambda file: file.state is KeyState.ACTIVE):
        if file.kid in wanted:
            file.path.unlink()
    if new.state is KeyState.NEXT:
        _rename(new, KeyState.ACTIVE)
    _keep(directory)
    if unknown := wanted - {file.kid for file in ring}:
        raise ConfigError(f"ticket-keys: there is no key {', '.join(sorted(unknown))} in {directory}")
    return new.kid


def _write_new(directory: Path, now: datetime) -> KeyFile:
    kid = f"{now:%Y%m%d}-{secrets.token_hex(4)}"
    pem = rsa.generate_private_key(65537, KEY_BITS).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path = directory / f"{kid}.{KeyState.NEXT}.pem"
    _write(path, pem)
    return KeyFile(path, kid, KeyState.NEXT)


def _write(path: Path, pem: bytes) -> None:
    """The file appears whole or not at all, readable by its owner alone."""
    partial = path.with_name(f".{path.name}.partial")
    partial.unlink(missing_ok=True)
    with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(pem)
        file.flush()
        os.fsync(file.fileno())
    partial.rename(path)
    _keep(path.parent)


def _rename(file: KeyFile, state: KeyState) -> None:
    file.path.rename(file.path.with_name(f"{file.kid}.{state}.pem"))
    _keep(file.path.parent)


def _keep(directory: Path) -> None:
    """Have names on the disk (fsync(2) on the directory)."""
    opened = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)
