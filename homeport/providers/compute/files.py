"""What both implementations of the port do with files: fitting, flattening, formats."""

from __future__ import annotations

import subprocess
from collections.abc import Iterable, Mapping
from pathlib import Path
from xml.etree import ElementTree as ET

from homeport.errors import RefusedError, TransientError
from homeport.model.host import DiskPlace, Placement
from homeport.model.machine import MachineDefinition
from homeport.providers.compute import domain_xml, uefi
from homeport.providers.compute.describing import Host, disk_path, top_files
from homeport.providers.compute.failures import UnknownDiskError
from homeport.providers.compute.images import (
    Image,
    UnreadableImageError,
    chain,
    is_qcow2,
    read_image,
    same_file,
)


class ImageToolError(TransientError):
    """`qemu-img` failed: base and layers together are right still."""

    code = "ImageTool"

    def __init__(self, doing: str, reason: str) -> None:
        super().__init__(
            f"qemu-img could not {doing}: {reason}",
            cause=reason,
            remedy="Look for room and errors on the disk's storage. It is tried again by itself.",
        )


class UnknownFormatOfDiskError(RefusedError):
    """A file that no chain of the machine names, so that its format would have to be guessed."""

    code = "UnknownFormatOfDisk"

    def __init__(self, path: Path) -> None:
        super().__init__(
            f"It is not known whether {path} is a raw disk or an overlay.",
            cause="It looks like qcow2 but lies on no file of this disk, and a guest may write "
            "such a header into a raw disk.",
            remedy="Define the machine anew, which names every disk's format.",
        )
        self.path = path


def fitted(definition: MachineDefinition, placement: Placement, *, variables: Path) -> str:
    """The definition fitted to this host, as `domain_xml.place` does; raises what that raises."""
    return domain_xml.place(
        definition.domain_xml,
        placement,
        replicated=frozenset(disk.target for disk in definition.disks),
        exists=lambda path: Path(path).exists(),
        own_variables=str(uefi.libvirts_own(placement.name, variables)),
    )


def flatten(top: Path, base: Path) -> None:
    """
    Commit everything above `base` down to it, while no QEMU has the files open.

    The layers stay; done twice it has the effect of once.
    """
    command = ["qemu-img", "commit", "-q", "-f", "qcow2", "-d", "-b", str(base), str(top)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise ImageToolError(f"commit {top} into {base}", done.stderr.strip())


def format_in(path: Path, chains: Iterable[Iterable[Image]]) -> str:
    """
    The format of a file that one of a disk's chains has, or that lies on one of them.

    Raises:
        UnknownFormatOfDiskError: neither, and it looks like qcow2.
    """
    known = [image for images in chains for image in images]
    for image in known:
        if same_file(image.path, path):
            return image.format
    if not is_qcow2(path):
        return "raw"
    below = read_image(path, "qcow2").backing
    if below is None or not any(
        same_file(image.path, lower.path) for lower in chain(path, "qcow2") for image in known
    ):
        raise UnknownFormatOfDiskError(path)
    return "qcow2"


def with_sources(
    machine: str,
    persistent: str,
    live: str,
    paths: Mapping[str, Path],
    host: Host,
    *,
    formats: Mapping[str, str],
) -> str | None:
    """
    The persistent definition with other disk files; None if it has them already.

    Formats that are not given are taken from the disks' chains as both views have them.
    """
    root, running = domain_xml.parse(persistent), domain_xml.parse(live)
    current = top_files(root, host)
    changed = False
    for target, path in paths.items():
        if target not in current:
            raise UnknownDiskError(machine, target, "its definition has no such disk")
        # After a live commit libvirt names a base by way of the folder of the layers above it,
        # which goes at release: the definition would name a file that cannot be found.
        if same_file(current[target], path) and ".." not in Path(current[target]).parts:
            continue
        chains = (_chain_of(view, target, host) for view in (root, running))
        place = DiskPlace(path=str(path), format=formats.get(target) or format_in(path, chains))
        domain_xml.point_disk(domain_xml.disk_element(root, target), place)
        changed = True
    return domain_xml.print_xml(root) if changed else None


def _chain_of(root: ET.Element, target: str, host: Host) -> list[Image]:
    found = []
    for facts in domain_xml.disks(root):
        path = disk_path(facts, host)
        if facts.target != target or path is None:
            continue
        try:
            for image in chain(Path(path), facts.format):
                found.append(image)  # noqa: PERF402 - what was read before a file failed counts
        except UnreadableImageError:
            break
    return found
