"""Fingerprints of OpenPGP keys (RFC 9580, 5.5.4), so that a fetched key can be held against a pinned one."""
# ruff: noqa: INP001 - Ansible loads this file by its path

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Iterator

from ansible.errors import AnsibleFilterError

PUBLIC_KEY = 6
ARMOUR = re.compile(
    r"-----BEGIN PGP PUBLIC KEY BLOCK-----\r?\n(?:[^\r\n]+: [^\r\n]*\r?\n)*\r?\n(.+?)-----END", re.DOTALL
)

CHECKSUM = re.compile(r"\n=[A-Za-z0-9+/]{4}\s*$")


def packets(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield (type, body) of each packet (RFC 9580, 4.2). Raises ValueError on what no public key has."""
    while data:
        head, data = data[0], data[1:]
        if not head & 0x80:
            raise ValueError("not an OpenPGP packet")
        if head & 0x40:  # the present format
            kind, first = head & 0x3F, data[0]
            if first < 192:
                size, data = first, data[1:]
            elif first < 224:
                size, data = ((first - 192) << 8) + data[1] + 192, data[2:]
            elif first == 255:
                size, data = int.from_bytes(data[1:5], "big"), data[5:]
            else:
                raise ValueError("a packet in parts")
        else:  # the legacy format, which gpg still writes
            kind, length = (head >> 2) & 0xF, 1 << (head & 3)
            if length == 8:
                raise ValueError("a packet without a length")
            size, data = int.from_bytes(data[:length], "big"), data[length:]
        if len(data) < size:
            raise ValueError("a packet cut short")
        yield kind, data[:size]
        data = data[size:]


def fingerprint(body: bytes) -> str:
    """Return the fingerprint of a public-key packet, in upper-case hexadecimal."""
    if body[0] == 4:
        return hashlib.sha1(b"\x99" + len(body).to_bytes(2, "big") + body, usedforsecurity=False).hexdigest().upper()
    if body[0] == 6:
        return hashlib.sha256(b"\x9b" + len(body).to_bytes(4, "big") + body).hexdigest().upper()
    raise ValueError(f"a key of version {body[0]}")


def openpgp_fingerprints(text: str) -> list[str]:
    """Return the fingerprints of the primary keys in ASCII-armoured text, in their order."""
    blocks = ARMOUR.findall(text)
    if not blocks:
        raise AnsibleFilterError("this is not an ASCII-armoured OpenPGP public key")
    try:
        return [
            fingerprint(body)
            for block in blocks
            for kind, body in packets(base64.b64decode(CHECKSUM.sub("", block)))
            if kind == PUBLIC_KEY
        ]
    except (ValueError, IndexError, binascii.Error) as error:
        raise AnsibleFilterError(f"this OpenPGP public key cannot be read: {error}") from error


class FilterModule:
    """What Ansible loads."""

    def filters(self) -> dict[str, object]:
        """Name the filters."""
        return {"openpgp_fingerprints": openpgp_fingerprints}
