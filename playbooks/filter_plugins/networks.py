# ruff: noqa: INP001
"""Questions about networks that playbooks ask."""

from ipaddress import ip_address, ip_network


def covers(networks: list[str], address: str) -> bool:
    """Whether an address is in one of the networks; an address that is not known ("") counts as covered.

    Raises `ValueError` naming whatever is no network.
    """
    read = [ip_network(network, strict=False) for network in networks]
    return not address or any(ip_address(address) in network for network in read)


class FilterModule:
    """What Ansible looks for."""

    def filters(self) -> dict[str, object]:
        """By the name that templates use."""
        return {"covers": covers}
