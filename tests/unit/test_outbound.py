"""What the packet filter is told is what the bridge asks, and can be read."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

from sluss.factors.bankid import URLS

REPOSITORY = Path(__file__).resolve().parents[2]


def module(path: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(Path(path).stem, REPOSITORY / path)
    found = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(found)
    return found


networks, outbound = module("playbooks/filter_plugins/networks.py"), module("roles/firewall/files/outbound.py")


def test_addresses_of_bankid_are_the_same_in_the_wiring():
    wiring = (REPOSITORY / "playbooks/group_vars/all.yml").read_text("utf-8")
    for environment, url in URLS.items():
        assert f"'{environment}': '{url.partition('/rp/')[0]}'" in wiring


@pytest.mark.parametrize(
    ("url", "endpoint"),
    [
        ("https://login.example.org/realms/staff", "login.example.org:443"),
        ("http://192.0.2.1:8025/sms?to={to}", "192.0.2.1:8025"),
        ("ldaps://ldap1.example.org", "ldap1.example.org:636"),
        ("ldap://[2001:db8::1]", "[2001:db8::1]:389"),
    ],
)
def test_url_becomes_an_endpoint_that_the_filter_reads(url, endpoint):
    assert networks.endpoint(url) == endpoint
    read = outbound.ENDPOINT.fullmatch(endpoint)
    assert f"{read['host']}:{read['port']}" == endpoint.replace("[", "").replace("]", "")


@pytest.mark.parametrize(
    "endpoint", ["relay.example.org:0", "relay.example.org:70000", "[2001:db8::1]", "a b:1", "a:1/sctp"]
)
def test_what_is_no_endpoint_is_found(endpoint):
    right = ["relay.example.org:587", "[2001:db8::1]:1/udp"]
    assert networks.no_endpoints([right[0], endpoint, right[1]]) == [endpoint]
    assert all(outbound.ENDPOINT.fullmatch(one) for one in right), "the host reads what the inventory may say"


def test_name_servers_are_found_however_they_are_written():
    text = "nameserver 192.0.2.1 # dc1\n#nameserver 192.0.2.2\nnameserver\tfe80::1%eth0\n nameserver x\nnameserver ::1"
    assert outbound.NAME_SERVER.findall(text) == ["192.0.2.1", "fe80::1", "::1"]


@pytest.mark.parametrize("url", ["pigeon://example.org", "example.org", "https://"])
def test_url_that_leads_nowhere_is_named(url):
    with pytest.raises(ValueError, match=url):
        networks.endpoint(url)
