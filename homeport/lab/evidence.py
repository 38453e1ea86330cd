"""Evidence from outside the guest: a machine's shape by libvirt, records read out of an image."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from xml.etree import ElementTree as ET

import libvirt

from homeport.lab.commands import attempt, run

RECORD = 64
"""Bytes of one record, of which the second word is its number."""


def shape_of(domain: libvirt.virDomain) -> dict[str, object]:
    """What must be the same after any number of round trips: name, id, firmware, cards, disks."""
    root = ET.fromstring(domain.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE))  # noqa: S314 - libvirt's
    disks = []
    for disk in root.iterfind("devices/disk"):
        target, source, driver = disk.find("target"), disk.find("source"), disk.find("driver")
        if target is not None and source is not None and driver is not None:
            name, size = target.get("dev", ""), domain.blockInfo(target.get("dev", ""))[0]
            disks.append((name, Path(source.get("file", "")).name, driver.get("type"), size))
    return {
        "name": domain.name(),
        "uuid": domain.UUIDString(),
        "memory": root.findtext("memory"),
        "vcpus": root.findtext("vcpu"),
        "firmware": [ET.tostring(one, encoding="unicode").strip() for one in root.findall("os")],
        "macs": [mac.get("address") for mac in root.iterfind("devices/interface/mac")],
        "disks": disks,
        "notes": len(root.findall("metadata/*")),
    }


def records_in_image(image: Path) -> Sequence[int]:
    """
    Numbers of the records on a data disk's image, read without the guest.

    A copy is flattened and its journal replayed, as a boot would; the image itself is only read.
    """
    with tempfile.TemporaryDirectory(prefix="homeport-evidence-") as folder:
        raw = Path(folder) / "disk.raw"
        run(["qemu-img", "convert", "-U", "-O", "raw", image, raw], limit=120)
        attempt(["e2fsck", "-fy", raw], limit=120)
        shown = subprocess.run(
            ["debugfs", "-R", "cat /records/data.rec", str(raw)],
            capture_output=True,
            check=False,
            timeout=60,
        )
    lines = [shown.stdout[at : at + RECORD] for at in range(0, len(shown.stdout), RECORD)]
    words = [line.split() for line in lines]
    return [int(word[1]) for word in words if len(word) > 1 and word[1].isdigit()]
