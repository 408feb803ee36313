# ruff: noqa: INP001
"""Questions about networks that playbooks ask."""

import re
from ipaddress import ip_address, ip_network
from urllib.parse import urlsplit

ENDPOINT = re.compile(r"(?:[A-Za-z0-9.-]+|\[[0-9a-fA-F:]+\]):([0-9]{1,5})(?:/(?:tcp|udp))?")
PORTS = {"http": 80, "https": 443, "ldap": 389, "ldaps": 636}


def covers(networks: list[str], address: str) -> bool:
    """Whether an address is in one of the networks; an address that is not known ("") counts as covered.

    Raises `ValueError` naming whatever is no network.
    """
    read = [ip_network(network, strict=False) for network in networks]
    return not address or any(ip_address(address) in network for network in read)


def endpoint(url: str) -> str:
    """Where a URL leads, as `host:port`. Raises `ValueError` for what one cannot connect to."""
    parts = urlsplit(url)
    if not parts.hostname or not (port := parts.port or PORTS.get(parts.scheme)):
        raise ValueError(f"{url}: not an address that one can connect to")
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    return f"{host}:{port}"


def no_endpoints(given: list[str]) -> list[str]:
    """Those that are not `host:port` or `host:port/udp`, IPv6 in brackets."""

    def right(text: str) -> bool:
        found = ENDPOINT.fullmatch(text)
        return found is not None and 0 < int(found[1]) < 65536

    return [text for text in given if not right(text)]


class FilterModule:
    """What Ansible looks for."""

    def filters(self) -> dict[str, object]:
        """By the name that templates use."""
        return {"covers": covers, "endpoint": endpoint, "no_endpoints": no_endpoints}
