"""Choosing a range nobody uses."""

from __future__ import annotations

import json
from ipaddress import IPv4Address, IPv4Network

import pytest

from homeport.lab import network
from homeport.lab.errors import NoFreeNetworkError

RANGES = [IPv4Network("169.254.213.0/24"), IPv4Network("169.254.214.0/24")]


def shown(*addresses: tuple[str, str]) -> str:
    info = [{"family": family, "local": local} for family, local in addresses]
    return json.dumps([{"ifname": "lo"}, {"ifname": "eth0", "addr_info": info}])


@pytest.mark.parametrize(
    ("output", "expected"),
    [
        pytest.param("", set(), id="nothing said"),
        pytest.param("[]", set(), id="no devices"),
        pytest.param(shown(), set(), id="devices without addresses"),
        pytest.param(shown(("inet6", "fe80::1")), set(), id="IPv6 only"),
        pytest.param(shown(("inet", "10.0.0.1")), {IPv4Address("10.0.0.1")}, id="one"),
        pytest.param(
            shown(("inet", "10.0.0.1"), ("inet6", "::1"), ("inet", "10.0.0.2")),
            {IPv4Address("10.0.0.1"), IPv4Address("10.0.0.2")},
            id="several on one device",
        ),
    ],
)
def test_addresses_are_read_from_what_ip_shows(output: str, expected: set[IPv4Address]) -> None:
    assert network.addresses_of(output) == expected


@pytest.mark.parametrize(
    ("taken", "expected"),
    [
        ([], RANGES[0]),
        (["192.168.1.1"], RANGES[0]),
        (["169.254.213.1"], RANGES[1]),
        (["169.254.213.255"], RANGES[1]),
        (["169.254.214.9"], RANGES[0]),
    ],
)
def test_the_first_range_without_an_address_in_it(taken: list[str], expected: IPv4Network) -> None:
    assert network.first_free(map(IPv4Address, taken), RANGES) == expected


def test_no_range_left_says_what_was_tried() -> None:
    with pytest.raises(NoFreeNetworkError) as caught:
        network.first_free(map(IPv4Address, ["169.254.213.1", "169.254.214.1"]), RANGES)
    assert caught.value.tried == ("169.254.213.0/24", "169.254.214.0/24")
    assert caught.value.remedy


def test_loopback_exists_and_others_do_not() -> None:
    assert network.exists("lo")
    assert not network.exists("hpv-absent-0")
    network.remove("hpv-absent-0")
