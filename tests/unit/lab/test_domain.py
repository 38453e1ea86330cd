"""The libvirt definition of a lab's guest."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from dataclasses import replace
from pathlib import Path

import pytest

from homeport.lab.domain import (
    ACK_PORT,
    AGENT_PORT,
    GuestDisk,
    GuestDomain,
    disks_of,
    guest_domain_xml,
    mac_for,
)
from homeport.lab.guestimage import GuestImage
from homeport.model.machine import Firmware
from homeport.units import MiB

GUEST = GuestDomain(
    name="web",
    disks=(
        GuestDisk(path=Path("/images/web-os.raw"), target="vda"),
        GuestDisk(path=Path("/images/web-data.qcow2"), target="vdb", image_format="qcow2"),
    ),
    mac="52:54:00:aa:bb:cc",
)


def xml(guest: GuestDomain = GUEST) -> ET.Element:
    return ET.fromstring(guest_domain_xml(guest))


def attribute(root: ET.Element, path: str, name: str) -> str | None:
    element = root.find(path)
    assert element is not None, path
    return element.get(name)


@pytest.mark.parametrize(
    ("index", "file", "target", "image_format"),
    [(1, "/images/web-os.raw", "vda", "raw"), (2, "/images/web-data.qcow2", "vdb", "qcow2")],
)
def test_disks_keep_order_path_and_format(
    index: int, file: str, target: str, image_format: str
) -> None:
    disk = f"devices/disk[{index}]"
    assert attribute(xml(), f"{disk}/source", "file") == file
    assert attribute(xml(), f"{disk}/target", "dev") == target
    driver = xml().find(f"{disk}/driver")
    assert driver is not None
    assert driver.attrib == {
        "name": "qemu",
        "type": image_format,
        "cache": "none",
        "io": "threads",
        "discard": "unmap",
    }


def test_a_guest_boots_by_bios_unless_it_is_told_otherwise() -> None:
    assert attribute(xml(), "os", "firmware") is None
    assert attribute(xml(), "os/type", "machine") == "pc"


def test_the_files_of_uefi_are_left_to_libvirt_and_check_no_signature() -> None:
    root = xml(replace(GUEST, firmware=Firmware.UEFI))
    assert attribute(root, "os", "firmware") == "efi"
    assert attribute(root, "os/type", "machine") == "q35"
    assert attribute(root, "os/firmware/feature", "name") == "secure-boot"
    assert attribute(root, "os/firmware/feature", "enabled") == "no"
    assert (root.find("os/nvram"), root.find("os/loader")) == (None, None)


@pytest.mark.parametrize("accelerator", ["qemu", "kvm"])
def test_the_accelerator_is_the_domains_type(accelerator: str) -> None:
    guest = GuestDomain(name="web", disks=(), mac=GUEST.mac, accelerator=accelerator)
    assert xml(guest).get("type") == accelerator


def test_memory_is_told_in_kib() -> None:
    guest = GuestDomain(name="web", disks=(), mac=GUEST.mac, memory=512 * MiB)
    assert xml(guest).findtext("memory") == str(512 * 1024)


def test_the_nic_has_its_mac_and_network() -> None:
    assert attribute(xml(), "devices/interface/mac", "address") == "52:54:00:aa:bb:cc"
    assert attribute(xml(), "devices/interface/source", "network") == "default"


def test_both_ports_are_there_and_acks_go_to_a_file_of_the_host() -> None:
    channels = {
        channel.find("target").get("name"): channel  # type: ignore[union-attr]
        for channel in xml().findall("devices/channel")
    }
    assert set(channels) == {AGENT_PORT, ACK_PORT}
    assert channels[AGENT_PORT].get("type") == "unix"
    source = channels[ACK_PORT].find("source")
    assert source is not None
    assert source.attrib == {"path": str(GUEST.ack_log), "append": "on"}


def test_there_is_a_screen_to_look_at() -> None:
    assert attribute(xml(), "devices/video/model", "type") == "vga"


def test_names_that_xml_would_misread_are_quoted() -> None:
    guest = GuestDomain(name="a<b>&\"'", disks=(), mac=GUEST.mac)
    assert xml(guest).findtext("name") == "a<b>&\"'"


def test_macs_are_stable_apart_and_in_qemus_range() -> None:
    assert mac_for("web") == mac_for("web") != mac_for("db")
    assert re.fullmatch(r"52:54:00(:[0-9a-f]{2}){3}", mac_for("web"))


def test_an_images_disks_are_named_by_the_hosts_own_folder() -> None:
    image = GuestImage(os_disk=Path("/out/o.raw"), data_disk=Path("/out/d.raw"), image_format="raw")
    first, second = disks_of(image, Path("/in"))
    assert (first.path, first.target) == (Path("/in/o.raw"), "vda")
    assert (second.path, second.target) == (Path("/in/d.raw"), "vdb")
