"""
Copying a point out: each disk flattened into one file, and a definition that uses those files.

A copy is written beside its place and renamed when it is whole and on disk; what the folder it is
taken from holds is only read.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree as ET

from homeport.dataplane.points import run_tool, sync_path
from homeport.errors import RefusedError
from homeport.model.machine import DiskFormat
from homeport.rescue.finding import FoundDisk, FoundPoint


class ExportExistsError(RefusedError):
    """A file is in the way of an export."""

    code = "ExportExists"

    def __init__(self, path: Path) -> None:
        super().__init__(
            f"{path} is there already.",
            cause="An export never replaces a file.",
            remedy="Move it away, or name another folder.",
        )
        self.path = path


class ExportIntoSourceError(RefusedError):
    """The copy would be written into what it is taken from."""

    code = "ExportIntoSource"

    def __init__(self, out: Path) -> None:
        super().__init__(
            f"{out} lies in the folder the point is taken from.",
            cause="Rescue alters nothing there.",
            remedy="Name a folder elsewhere.",
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Exported:
    """Files of a point that was copied out, by disk, and its firmware's variables."""

    disks: Mapping[str, Path]
    format: DiskFormat
    nvram: Path | None = None


def export(point: FoundPoint, folder: Path, out: Path, image_format: DiskFormat) -> Exported:
    """
    Copy every disk of the point into `out`, sparse, as `<disk>.<format>`.

    `folder` is where the point's item lies. Repeated after a crash it begins again.

    Raises:
        ExportExistsError, ExportIntoSourceError: nothing was written.
        ImageToolError: a disk could not be read or written; what is whole stays.
    """
    if out.resolve().is_relative_to(folder.resolve()):
        raise ExportIntoSourceError(out)
    paths: dict[str, Path] = {
        disk.disk.name: out / f"{disk.disk.name}.{image_format.value}" for disk in point.disks
    }
    nvram = out / f"{point.machine.name}.nvram.fd" if point.machine.nvram else None
    for path in (*paths.values(), *([nvram] if nvram else [])):
        if path.exists():
            raise ExportExistsError(path)
    out.mkdir(parents=True, exist_ok=True)
    for disk in point.disks:
        _flatten(disk, paths[disk.disk.name], image_format)
    if nvram:
        _put(nvram, point.machine.nvram or b"")
    return Exported(disks=paths, format=image_format, nvram=nvram)


def _flatten(disk: FoundDisk, path: Path, image_format: DiskFormat) -> None:
    partial = path.with_name(path.name + ".partial")
    partial.unlink(missing_ok=True)
    argv = ["qemu-img", "convert", "-O", image_format.value, "-S", "4k", chain_json(disk)]
    run_tool([*argv, str(partial)])
    _appear(partial, path)


def _put(path: Path, body: bytes) -> None:
    partial = path.with_name(path.name + ".partial")
    partial.write_bytes(body)
    _appear(partial, path)


def _appear(partial: Path, path: Path) -> None:
    sync_path(partial)
    partial.rename(path)
    sync_path(path.parent)


def chain_json(disk: FoundDisk) -> str:
    """The disk as one of QEMU's pseudo file names: what headers name is not followed."""
    return "json:" + json.dumps(chain_node(disk))


def chain_node(disk: FoundDisk) -> dict[str, object]:
    """The chain as QEMU's nodes, every file read-only and named in full."""
    node: dict[str, object] | None = None
    for index, path in enumerate(reversed(disk.files)):
        kind = disk.base_format if index == 0 else "qcow2"
        file = {"driver": "file", "filename": str(path), "read-only": True}
        above: dict[str, object] = {"driver": kind, "read-only": True, "file": file}
        if node is not None:
            above["backing"] = node
        elif kind == "qcow2":
            above["backing"] = None
        node = above
    return node or {}


def definition(point: FoundPoint, exported: Exported) -> str:
    """The machine's libvirt definition, its disks those that were copied out."""
    domain = ET.fromstring(point.machine.domain_xml)  # noqa: S314 - from a manifest, digest checked
    targets = {disk.disk.target: disk.disk.name for disk in point.disks}
    for disk in domain.findall("./devices/disk"):
        target = disk.find("target")
        name = targets.get(target.get("dev", "")) if target is not None else None
        if name is not None:
            _point_at(disk, exported.disks[name], exported.format)
    _firmware(domain, exported.nvram)
    ET.indent(domain)
    return ET.tostring(domain, encoding="unicode")


def _point_at(disk: ET.Element, path: Path, image_format: DiskFormat) -> None:
    disk.set("type", "file")
    for tag in ("source", "backingStore"):
        for old in disk.findall(tag):
            disk.remove(old)
    driver = disk.find("driver")
    if driver is None:
        driver = ET.SubElement(disk, "driver", {"name": "qemu"})
    driver.set("type", image_format.value)
    disk.append(ET.Element("source", {"file": str(path.resolve())}))


def _firmware(domain: ET.Element, nvram: Path | None) -> None:
    if nvram is None:
        return
    system = domain.find("os")
    if system is None:
        return
    variables = system.find("nvram")
    if variables is None:
        variables = ET.SubElement(system, "nvram")
    variables.text = str(nvram.resolve())
