# ruff: noqa: INP001, T201
"""Tries to leave this host as each user who runs something on it, and prints whatever the packet filter did not refuse.

Not as those named as arguments, whom the filter lets out. Exit code 1 if anything got out. The addresses are
documentation's (RFC 5737, RFC 3849): nobody has them, so that whatever gets out reaches nobody.
"""

import errno
import os
import pwd
import re
import socket
import subprocess
import sys
from pathlib import Path

ADDRESSES = ("192.0.2.1", "198.51.100.1", "203.0.113.1", "2001:db8::1")
SERVICES = (("tcp", 443), ("tcp", 25), ("udp", 53), ("udp", 443))
NO_WAY = {errno.ENETUNREACH, errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT}
REFUSED = {errno.ECONNREFUSED, errno.EPERM, errno.EACCES, errno.EHOSTUNREACH}
WAS_REFUSED, NOWHERE = 0, 3


def refused_so_far() -> int:
    """What the filter has counted."""
    command = ["/usr/sbin/nft", "list", "counter", "inet", "sluss", "outbound_refused"]
    listed = subprocess.run(command, capture_output=True, text=True, check=True).stdout  # noqa: S603 - fixed
    found = re.search(r"packets (\d+)", listed)
    return int(found[1]) if found else 0


def send(protocol: str, address: str, port: int) -> int:
    """One packet. `WAS_REFUSED` at once, or `NOWHERE` if this host knows no way to such addresses."""
    kind = socket.SOCK_STREAM if protocol == "tcp" else socket.SOCK_DGRAM
    try:
        with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, kind) as trial:
            trial.settimeout(0.5)
            trial.connect((address, port))
            trial.send(b"x")
    except OSError as error:
        if error.errno in NO_WAY:
            return NOWHERE
        return WAS_REFUSED if error.errno in REFUSED else 1
    return 1


def send_as(user: pwd.struct_passwd, protocol: str, address: str, port: int) -> int:
    """The same, by a process of theirs."""
    if (child := os.fork()) == 0:
        os.setgroups([])
        os.setgid(user.pw_gid)
        os.setuid(user.pw_uid)
        os._exit(send(protocol, address, port))
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def users() -> list[pwd.struct_passwd]:
    """Those with a process, and nobody."""
    running = {path.stat().st_uid for path in Path("/proc").iterdir() if path.name.isdecimal()}
    return [
        user
        for user in pwd.getpwall()
        if (user.pw_uid in running or user.pw_name == "nobody") and user.pw_name not in sys.argv[1:]
    ]


def main() -> None:
    """Once."""
    refused, out = 0, []
    for user in users():
        for address in ADDRESSES:
            for protocol, port in SERVICES:
                before = refused_so_far()
                if (ended := send_as(user, protocol, address, port)) == NOWHERE:
                    continue
                if ended == WAS_REFUSED and refused_so_far() > before:
                    refused += 1
                else:
                    out.append(f"{user.pw_name} gets out to {address} by {protocol} port {port}")
    tried = f"{refused} tries by {', '.join(user.pw_name for user in users())}, all refused"
    print("\n".join(out) or (tried if refused else "no route leads out, so that nothing was there to refuse"))
    sys.exit(bool(out))


if __name__ == "__main__":
    main()
