"""What a host finds on its disk before its libvirt starts."""

from __future__ import annotations

import os
import uuid
import xml.etree.ElementTree as ET
from dataclasses import replace
from ipaddress import IPv4Network
from pathlib import Path

import pytest

from homeport.lab import furnish
from homeport.lab.furnish import Furniture
from homeport.lab.layout import POOL_INSIDE, HostFolder

FURNITURE = Furniture(
    host_uuid=uuid.UUID(int=1),
    network_uuid=uuid.UUID(int=2),
    pool_uuid=uuid.UUID(int=3),
    guest_network=IPv4Network("192.168.122.0/24"),
    dhcp=True,
)


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> HostFolder:
    """A new host; what libvirt's packages bring is made up, for theirs is readable by root only."""
    packaged = tmp_path / "packaged"
    (packaged / "nwfilter").mkdir(parents=True)
    (packaged / "nwfilter/clean-traffic.xml").write_text("<filter/>")
    monkeypatch.setattr(furnish, "PACKAGED", packaged)
    return HostFolder(path=tmp_path / "east")


@pytest.mark.parametrize(
    "line",
    [
        'user = "root"',
        'group = "root"',
        'security_driver = "none"',
        "dynamic_ownership = 0",
        "remember_owner = 0",
        "namespaces = []",
        "cgroup_controllers = []",
        'stdio_handler = "file"',
    ],
)
def test_qemu_conf_has_every_line_that_a_lab_needs(line: str) -> None:
    assert line in furnish.QEMU_CONF.splitlines()


def test_hosts_on_one_machine_are_told_apart() -> None:
    assert f'host_uuid = "{uuid.UUID(int=1)}"' in furnish.libvirtd_conf(uuid.UUID(int=1))


def test_the_network_answers_guests() -> None:
    network = ET.fromstring(furnish.network_xml(FURNITURE))
    assert network.findtext("name") == "default"
    answers = network.find("ip/dhcp/range")
    assert answers is not None
    assert (answers.get("start"), answers.get("end")) == ("192.168.122.10", "192.168.122.254")
    assert network.find("forward") is None, "nothing leaves the host"


def test_a_network_without_answers_needs_no_dnsmasq() -> None:
    network = ET.fromstring(furnish.network_xml(replace(FURNITURE, dhcp=False)))
    assert network.find("ip") is None
    assert network.find("bridge") is not None


def test_the_pool_is_a_folder_of_the_host() -> None:
    pool = ET.fromstring(furnish.pool_xml(FURNITURE))
    assert pool.get("type") == "dir"
    assert pool.findtext("target/path") == str(POOL_INSIDE)


def test_a_new_host_gets_all_and_starts_it_by_itself(host: HostFolder) -> None:
    furnish.furnish(host, FURNITURE)
    etc = host.path / "etc/libvirt"
    for name, inside in (("qemu/networks", "qemu/networks"), ("storage", "storage")):
        link = etc / name / "autostart/default.xml"
        assert link.readlink() == Path(f"/etc/libvirt/{inside}/default.xml")
        assert (etc / name / "default.xml").read_text()
    assert (etc / "nwfilter/clean-traffic.xml").read_text() == "<filter/>"
    assert host.images.is_dir()
    assert host.guests.is_dir()
    assert host.hooks.is_dir()


def test_what_others_defined_since_is_left_alone(host: HostFolder) -> None:
    furnish.furnish(host, FURNITURE)
    networks = host.path / "etc/libvirt/qemu/networks"
    (networks / "default.xml").write_text("changed")
    (networks / "autostart/default.xml").unlink()
    furnish.furnish(host, FURNITURE)
    assert (networks / "default.xml").read_text() == "changed"
    assert not (networks / "autostart/default.xml").exists()


def test_settings_are_put_right_again(host: HostFolder) -> None:
    furnish.furnish(host, FURNITURE)
    (host.path / "etc/libvirt/qemu.conf").write_text("broken")
    furnish.furnish(host, FURNITURE)
    assert (host.path / "etc/libvirt/qemu.conf").read_text() == furnish.QEMU_CONF


def test_a_boot_forgets_run_and_keeps_the_rest(host: HostFolder) -> None:
    furnish.furnish(host, FURNITURE)
    host.socket.write_text("")
    host.first.write_text("{}")
    host.services.write_text("{}")
    (host.images / "disk").write_text("data")
    furnish.forget_last_boot(host)
    assert list((host.path / "run/libvirt").iterdir()) == []
    assert not host.first.exists()
    assert not host.services.exists()
    assert (host.images / "disk").read_text() == "data"
    furnish.forget_last_boot(host)


def test_capabilities_are_kept_and_given_with_their_times(host: HostFolder, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    assert not furnish.warm(host, cache), "nothing to give yet"
    learnt = host.capabilities / "a.xml"
    learnt.write_text("learnt")
    os.utime(learnt, (1_000_000, 1_000_000))
    assert furnish.keep_warm(host, cache) == 1
    assert furnish.keep_warm(host, cache) == 0, "twice is once"
    other = HostFolder(path=tmp_path / "west")
    assert furnish.warm(other, cache)
    given = other.capabilities / "a.xml"
    assert (given.read_text(), given.stat().st_mtime) == ("learnt", 1_000_000)


def test_what_a_host_has_learnt_itself_is_not_overwritten(host: HostFolder, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    cache.mkdir()
    (cache / "a.xml").write_text("old")
    host.capabilities.mkdir(parents=True)
    (host.capabilities / "a.xml").write_text("new")
    furnish.warm(host, cache)
    assert (host.capabilities / "a.xml").read_text() == "new"
