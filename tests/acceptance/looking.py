"""Booting what a disk holds on a throw-away overlay, beside everything Homeport knows of."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path

import libvirt

from homeport.lab.commands import run
from homeport.lab.domain import GuestDisk, GuestDomain, guest_domain_xml, mac_for
from homeport.lab.guestagent import ask_records
from homeport.lab.guests import wait_for_guest
from homeport.lab.layout import POOL_INSIDE
from homeport.lab.records import check_records
from homeport.model.position import Position
from tests.acceptance.pair import Pair

NAME = "look"


@contextmanager
def booted_aside(pair: Pair, site: str, position: Position) -> Iterator[Mapping[str, int]]:
    """
    Boot a point from its files on throw-away overlays; the last record each disk held of it.

    The guest's file systems must be sound and its records gap-free.
    """
    folder = pair.images(site).parent / NAME
    disks = overlays(pair, site, position, folder)
    guest = GuestDomain(name=NAME, disks=disks, mac=mac_for(NAME))
    with closing(libvirt.open(pair.stage.lab.libvirt_uri(site))) as connection:
        domain = connection.createXML(guest_domain_xml(guest))
        try:
            wait_for_guest(domain)
            records = ask_records(domain)
            verdict = check_records(records, pair.stage.acks(site, name=NAME))
            assert [disk.findings for disk in verdict.disks] == [(), ()], verdict
            yield pair.held_at_boot(site, name=NAME)
        finally:
            domain.destroy()
            for path in folder.iterdir():
                path.unlink()
            folder.rmdir()
            (pair.stage.lab.host_folder(site).guests / f"{NAME}.ack").unlink()


def overlays(pair: Pair, site: str, position: Position, folder: Path) -> tuple[GuestDisk, ...]:
    files = pair.files(site)
    folder.mkdir()
    found = []
    for disk, target in zip(files.disks, ("vda", "vdb"), strict=True):
        below, image_format = files.top(disk, position)
        inside = POOL_INSIDE / below.relative_to(pair.images(site).resolve())
        overlay = folder / f"{disk}.qcow2"
        options = ["-q", "-u", "-f", "qcow2", "-b", str(inside), "-F", image_format]
        run(["qemu-img", "create", *options, overlay, str(pair.sizes[disk])])
        place = POOL_INSIDE.parent / NAME / overlay.name
        found.append(GuestDisk(path=place, target=target, image_format="qcow2"))
    return tuple(found)
