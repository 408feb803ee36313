#!/usr/bin/python3
# ruff: noqa: T201
"""Lets this host reach what its inventory names: adds the addresses that those names have now to the packet filter.

An address stays for a day after its name was last seen to lead to it, as a service may have more than it tells at once.
Run every minute; what cannot be looked up now is tried again then. Prints each endpoint with each address.
"""

import re
import socket
import subprocess
import sys
from pathlib import Path

ENDPOINTS = Path("/etc/sluss/outbound")
ENDPOINT = re.compile(r"\[?(?P<host>[^\]]+)\]?:(?P<port>\d+)(?:/(?P<protocol>tcp|udp))?")
NAME_SERVER = re.compile(r"^nameserver\s+([0-9a-fA-F.:]+)(?:%\S+)?(?:\s|$)", re.MULTILINE)
STAYS = "1d"


def name_servers() -> set[str]:
    """Those that are asked, behind systemd-resolved's stub as well."""
    found: set[str] = set()
    for path in (Path("/etc/resolv.conf"), Path("/run/systemd/resolve/resolv.conf")):
        if path.exists():
            found |= set(NAME_SERVER.findall(path.read_text()))
    return found


def let(name: str, element: str) -> bool:
    """Add it to a set of the filter, or have what is there stay for another day. Whether the filter took it."""
    lines = [
        f"{verb} element inet sluss {name} {{ {element}{stays} }}"
        for verb, stays in (("add", ""), ("delete", ""), ("add", f" timeout {STAYS}"))
    ]
    command = ["/usr/sbin/nft", "-f", "-"]
    done = subprocess.run(command, input="\n".join(lines), text=True, check=False, timeout=20)  # noqa: S603 - fixed
    return done.returncode == 0


def family(address: str) -> str:
    """The end of its set's name."""
    return "6" if ":" in address else "4"


def main() -> None:
    """Once."""
    taken = [let(f"resolvers{family(address)}", address) for address in name_servers()]
    for line in ENDPOINTS.read_text("ascii").split():
        endpoint = ENDPOINT.fullmatch(line)
        if endpoint is None:
            sys.exit(f"{ENDPOINTS}: {line}: must be host:port or host:port/udp")
        service = f"{endpoint['protocol'] or 'tcp'} . {endpoint['port']}"
        try:
            answers = socket.getaddrinfo(endpoint["host"], None, type=socket.SOCK_STREAM)
        except OSError as error:
            print(f"<4>{endpoint['host']}: {error}", file=sys.stderr)
            continue
        for address in sorted({str(answer[4][0]) for answer in answers}):
            print(line, address)
            taken.append(let(f"outbound{family(address)}", f"{address.partition('%')[0]} . {service}"))
    if not all(taken):
        sys.exit("the packet filter did not take all of them")


if __name__ == "__main__":
    main()
