# ruff: noqa: INP001, T201
"""Prints which TCP ports of a host can be reached from here, of those given: `reachable.py HOST PORT…`"""

import socket
import sys
from concurrent.futures import ThreadPoolExecutor

WITHIN = 3.0


def reachable(host: str, port: int) -> bool:
    """Whether a connection comes about. Raises `socket.gaierror` for a name that leads nowhere."""
    try:
        with socket.create_connection((host, port), timeout=WITHIN):
            return True
    except socket.gaierror:
        raise
    except OSError:
        return False


def main(host: str, ports: list[int]) -> None:
    """Once, all at the same time."""
    with ThreadPoolExecutor(len(ports)) as pool:
        found = pool.map(lambda port: reachable(host, port), ports)
    print(" ".join(str(port) for port, there in zip(ports, found, strict=True) if there))


if __name__ == "__main__":
    main(sys.argv[1], [int(port) for port in sys.argv[2:]])
