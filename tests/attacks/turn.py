"""A small TURN client (RFC 8656 over RFC 8489, UDP or TCP): as much as an attacker needs."""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import os
import socket
import struct
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import Self

ALLOCATE, REFRESH, PERMISSION, BIND = 0x003, 0x004, 0x008, 0x009
BINDING, CONNECT = 0x001, 0x00A
COOKIE = 0x2112A442
USERNAME, INTEGRITY, ERROR, REALM, NONCE = 0x006, 0x008, 0x009, 0x014, 0x015
TRANSPORT, PEER, RELAYED, MAPPED, CHANNEL, LIFETIME = 0x019, 0x012, 0x016, 0x020, 0x00C, 0x00D
UDP, TCP = 17, 6


class TurnError(Exception):
    """The server's error; its text is the number."""


def attribute(kind: int, value: bytes) -> bytes:
    return struct.pack("!HH", kind, len(value)) + value + b"\0" * (-len(value) % 4)


def xored(address: str, port: int, transaction: bytes) -> bytes:
    ip = ip_address(address)
    mask = struct.pack("!I", COOKIE) + transaction
    raw = bytes(a ^ b for a, b in zip(ip.packed, mask, strict=False))
    return struct.pack("!BBH", 0, 1 if ip.version == 4 else 2, port ^ (COOKIE >> 16)) + raw


@dataclass
class Turn:
    """One five-tuple. Without a user it asks without credentials."""

    server: str
    port: int = 3478
    user: str = ""
    password: str = ""
    _realm: bytes = b""
    _nonce: bytes = b""
    kind: socket.SocketKind = socket.SOCK_DGRAM
    _socket: socket.socket = field(init=False)

    def __enter__(self) -> Self:
        self._socket = socket.socket(socket.AF_INET, self.kind)
        self._socket.settimeout(3)
        self._socket.connect((self.server, self.port))
        return self

    def __exit__(self, *_: object) -> None:
        """Give the relay back, if there is one."""
        with contextlib.suppress(TurnError, TimeoutError):
            self._ask(REFRESH, attribute(LIFETIME, bytes(4)))
        self._socket.close()

    def binding(self) -> None:
        """Prove that something is there."""
        self._ask(BINDING, b"")

    def allocate(self, transport: int = UDP) -> None:
        """Take a relay. Raises `TurnError`."""
        wanted = attribute(TRANSPORT, bytes([transport, 0, 0, 0]))
        try:
            self._ask(ALLOCATE, wanted)
        except TurnError as error:
            if str(error) != "401" or not self.user:
                raise
            self._ask(ALLOCATE, wanted)

    def permit(self, address: str) -> None:
        """Ask to send to an address and hear from it. Raises `TurnError`."""
        self._ask(PERMISSION, lambda transaction: attribute(PEER, xored(address, 9, transaction)))

    def bind_channel(self, address: str, port: int) -> None:
        """The other way to the same. Raises `TurnError`."""
        number = attribute(CHANNEL, struct.pack("!HH", 0x4000, 0))
        self._ask(BIND, lambda transaction: number + attribute(PEER, xored(address, port, transaction)))

    def connect(self, address: str, port: int) -> None:
        """TCP from the relay (RFC 6062). Raises `TurnError`."""
        self._ask(CONNECT, lambda transaction: attribute(PEER, xored(address, port, transaction)))

    def _ask(self, method: int, body: object) -> dict[int, bytes]:
        transaction = os.urandom(12)
        attributes = body if isinstance(body, bytes) else body(transaction)
        if self.user and self._nonce:
            attributes += attribute(USERNAME, self.user.encode())
            attributes += attribute(REALM, self._realm) + attribute(NONCE, self._nonce)
            # RFC 8489, 14.5: the length counts the attribute that is about to be added.
            head = struct.pack("!HHI", method, len(attributes) + 24, COOKIE) + transaction
            key = hashlib.md5(f"{self.user}:{self._realm.decode()}:{self.password}".encode()).digest()  # noqa: S324
            attributes += attribute(INTEGRITY, hmac.new(key, head + attributes, "sha1").digest())
        head = struct.pack("!HHI", method, len(attributes), COOKIE) + transaction
        self._socket.sendall(head + attributes)
        while True:
            answer = self._socket.recv(4096)
            if answer[8:20] == transaction:
                return self._read(answer)

    def _read(self, answer: bytes) -> dict[int, bytes]:
        kind, found, at = struct.unpack("!H", answer[:2])[0], {}, 20
        while at + 4 <= len(answer):
            name, length = struct.unpack("!HH", answer[at : at + 4])
            found[name] = answer[at + 4 : at + 4 + length]
            at += 4 + length + (-length % 4)
        if kind & 0x0110 == 0x0110:
            self._realm, self._nonce = found.get(REALM, self._realm), found.get(NONCE, self._nonce)
            raise TurnError(str(found[ERROR][2] * 100 + found[ERROR][3]))
        return found
