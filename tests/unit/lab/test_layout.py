"""Names, paths and addresses of a lab."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from homeport.lab import layout
from homeport.lab.errors import BadNameError, PathTooLongError

LAB = Path("/var/lib/homeport/lab/demo")


@pytest.mark.parametrize("name", ["a", "east", "east-2", "h" * 32, "a1-b2"])
def test_good_names_are_taken_as_they_are(name: str) -> None:
    assert layout.check_name(name) == name


@pytest.mark.parametrize(
    "name",
    [
        pytest.param("", id="empty"),
        pytest.param("h" * 33, id="33 bytes"),
        pytest.param("1east", id="begins with a digit"),
        pytest.param("-east", id="begins with a hyphen"),
        pytest.param("East", id="capital"),
        pytest.param("ea_st", id="underscore"),
        pytest.param("../east", id="leaves the folder"),
        pytest.param("east\n", id="line feed at the end"),
        pytest.param("öst", id="not ASCII"),
    ],
)
def test_bad_names_are_refused_with_a_remedy(name: str) -> None:
    with pytest.raises(BadNameError) as caught:
        layout.check_name(name)
    assert caught.value.name == name
    assert caught.value.remedy


def test_a_socket_path_may_have_107_bytes_and_no_more() -> None:
    layout.check_socket(Path("/" + "a" * 106))
    with pytest.raises(PathTooLongError) as caught:
        layout.check_socket(Path("/" + "a" * 107))
    assert "108 bytes" in caught.value.message


def test_bytes_count_not_letters() -> None:
    with pytest.raises(PathTooLongError):
        layout.check_socket(Path("/" + "ö" * 60))


def test_a_host_whose_libvirt_could_not_be_reached_is_refused() -> None:
    with pytest.raises(PathTooLongError):
        layout.LabFolder(path=Path("/" + "d" * 90)).host("east")


def test_everything_of_a_host_lies_in_its_folder() -> None:
    host = layout.LabFolder(path=LAB).host("east")
    places = [
        host.socket,
        host.images,
        host.guests,
        host.hooks,
        host.capabilities,
        host.agent,
        host.config,
        host.first,
        host.services,
        host.log("agent"),
    ]
    assert all(place.is_relative_to(LAB / "east") for place in places)
    assert len(set(places)) == len(places)


def test_outer_paths_are_what_the_inner_ones_are_bound_to() -> None:
    host = layout.LabFolder(path=LAB).host("east")
    outer = {inside: host.path / own for own, inside in layout.PRIVATE_FOLDERS}
    assert host.images == outer["/var/lib/libvirt"] / layout.POOL_INSIDE.relative_to(
        "/var/lib/libvirt"
    )
    assert host.guests == outer["/var/lib/libvirt"] / layout.GUESTS_INSIDE.relative_to(
        "/var/lib/libvirt"
    )
    assert host.hooks == outer["/etc/libvirt"] / "hooks"


def test_the_uri_names_the_socket() -> None:
    host = layout.LabFolder(path=LAB).host("east")
    assert host.uri == f"qemu+unix:///system?socket={LAB}/east/run/libvirt/libvirt-sock"


@given(st.text("abcdefghijk/", min_size=1, max_size=80), st.integers(0, 200))
def test_device_names_fit_into_15_bytes(folder: str, index: int) -> None:
    lab = Path("/" + folder)
    assert len(layout.bridge_name(lab)) <= 15
    assert len(layout.veth_name(lab, index)) <= 15
    assert layout.veth_name(lab, index).startswith(layout.veth_prefix(lab))


def test_two_labs_share_no_device_names() -> None:
    other = LAB.with_name("other")
    assert layout.bridge_name(LAB) != layout.bridge_name(other)
    assert layout.veth_prefix(LAB) != layout.veth_prefix(other)


def test_the_server_is_first_and_hosts_follow() -> None:
    network = IPv4Network("169.254.213.0/24")
    assert layout.gateway(network) == IPv4Address("169.254.213.1")
    assert layout.host_address(network, 0) == IPv4Address("169.254.213.2")
    assert layout.host_address(network, 7) == IPv4Address("169.254.213.9")


def test_default_ranges_are_link_local_and_leave_the_clouds_range_alone() -> None:
    assert layout.RANGES[0] == IPv4Network("169.254.213.0/24")
    assert all(each.is_link_local for each in layout.RANGES)
    assert not any(IPv4Address("169.254.169.254") in each for each in layout.RANGES)


def test_hosts_have_guest_networks_of_their_own() -> None:
    assert len({layout.guest_network(index) for index in range(100)}) == 100


def test_ids_are_stable_and_apart() -> None:
    assert layout.stable_uuid(LAB, "east") == layout.stable_uuid(LAB, "east")
    assert layout.stable_uuid(LAB, "east") != layout.stable_uuid(LAB, "west")
    assert layout.stable_uuid(LAB, "east") != layout.stable_uuid(LAB.with_name("o"), "east")
