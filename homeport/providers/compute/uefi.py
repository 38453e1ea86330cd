"""
A machine's UEFI variables: which file has them, and reading and writing it.

A definition may name the file, or leave firmware and file to libvirt (`firmware='efi'`). libvirt
from 9.2 on writes its choice into the definition; an older one chooses anew at each start and names
the file in the running machine's XML alone, so that its place is derived here.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from xml.etree import ElementTree as ET

import structlog

from homeport.providers.compute import domain_xml
from homeport.providers.compute.hook import sync_folder

log = structlog.get_logger("homeport.compute")

FOLDER = Path("/var/lib/libvirt/qemu/nvram")
"""Where libvirt's system daemon makes variables whose file is not named; not configurable."""
_LOOKS = 8
"""At most: a guest changes its variables seldom, at boot mostly, and in milliseconds."""


def path_of(root: ET.Element, folder: Path, *, name: str = "") -> Path | None:
    """
    The file of a machine's variables, which need not be there yet; None when it has none.

    `name` is what the machine is called, where that is not the definition's own name.
    """
    named = domain_xml.nvram_path(root)
    if named is not None:
        return Path(named)
    if not domain_xml.firmware_by_name(root):
        return None
    return libvirts_own(name or domain_xml.text_of(root, "name"), folder)


def path_in(definition: str, folder: Path) -> Path | None:
    """The same for a definition as XML; one that is not there yet, an empty text, has none."""
    return path_of(domain_xml.parse(definition), folder) if definition else None


def libvirts_own(machine: str, folder: Path) -> Path:
    """The file that libvirt takes for a machine's variables where none is named."""
    return folder / f"{machine}_VARS.fd"


def read(path: Path) -> bytes | None:
    """
    The file's content; None before the first start has made it.

    It is read until two looks agree: of a write in between, one look may have the later half alone,
    which no power cut would leave.
    """
    before = None
    for _ in range(_LOOKS):
        try:
            found = path.read_bytes()
        except FileNotFoundError:
            return None
        if found == before:
            break
        before = found
    return found


def lay(path: Path, content: bytes, *, own: Path | None) -> None:
    """
    Write the variables of a machine that is being defined; `own` is where it had them so far.

    A file that is found there and is not its own is somebody's, perhaps of a machine that was
    undefined and is to come back: it is kept under another name, which is logged.
    """
    if path != own and path.exists() and path.read_bytes() != content:
        aside = next(one for one in _names_beside(path) if not one.exists())
        path.rename(aside)
        log.warning("strange_variables_set_aside", path=str(path), kept_as=str(aside))
    write(path, content)


def _names_beside(path: Path) -> Iterator[Path]:
    return (path.with_name(f"{path.name}.aside-{number}") for number in count(1))


def write(path: Path, content: bytes) -> None:
    """
    Put a machine's variables in place, whole or not at all.

    A file that is replaced keeps its owner and mode: where libvirt does not change owners when a
    machine starts, QEMU could not open it otherwise. A new one is for its owner only.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    with partial.open("wb") as file:
        _take_after(file.fileno(), path)
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    partial.rename(path)
    sync_folder(path.parent)


def _take_after(descriptor: int, old: Path) -> None:
    try:
        was = old.stat()
    except FileNotFoundError:
        os.fchmod(descriptor, 0o600)
        return
    os.fchown(descriptor, was.st_uid, was.st_gid)
    os.fchmod(descriptor, was.st_mode & 0o777)
