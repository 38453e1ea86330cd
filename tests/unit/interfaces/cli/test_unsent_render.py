"""How writes set aside are drawn at 80 and 120 columns, to the letter."""

from __future__ import annotations

import os

import pytest
from rich.console import RenderableType

from homeport.interfaces.cli.render import unsent
from homeport.model.filediff import Change, FileChange, FileSystemDifference
from homeport.model.ids import DiskName
from homeport.model.position import Position
from homeport.model.unsent import UnsentDifference, UnsentView
from homeport.units import MiB
from tests.unit.interfaces.cli import samples as s
from tests.unit.interfaces.cli.test_render import DRAW, GOLDEN, drawn

UNSENT_VIEWS = (
    UnsentView.of(s.UNSENT, site="east", host="east-1", alive=True),
    UnsentView(
        site="east",
        host="east-1",
        disk="shop-vdb",
        image="shop-vdb-unsent-3-17.qcow2",
        path=f"{s.FOLDER}/shop-vdb/shop-vdb-unsent-3-17.qcow2",
        position=Position(3, 17),
        size=4096,
        set_aside_at=s.ago(hours=2),
        expires_at=None,
        alive=False,
    ),
)
DIFFERENCES = (
    UnsentDifference(
        disk=DiskName("shop-vda"),
        image="shop-vda-unsent-3-17.qcow2",
        position=Position(3, 17),
        way="e2fsprogs",
        note="libguestfs cannot be used on this host: there is no kernel in /boot.",
        took=2.4,
        file_systems=(
            FileSystemDifference(
                name="/dev/sda1",
                type="ext4",
                added=2,
                changed=1203,
                deleted=1,
                files=(
                    FileChange(
                        path="/srv/shop/orders",
                        change=Change.ADDED,
                        kind="folder",
                        size=4096,
                        size_before=None,
                        modified_at=s.ago(hours=2, minutes=10),
                    ),
                    FileChange(
                        path="/srv/shop/orders/2026-03-14 a name with a bell \x07.json",
                        change=Change.ADDED,
                        kind="file",
                        size=1834,
                        size_before=None,
                        modified_at=s.ago(hours=2, minutes=10),
                    ),
                    FileChange(
                        path="/var/lib/shop/journal",
                        change=Change.CHANGED,
                        kind="file",
                        size=9 * MiB,
                        size_before=8 * MiB,
                        modified_at=s.ago(hours=2, minutes=9),
                    ),
                    FileChange(
                        path="/var/lib/shop/lock",
                        change=Change.DELETED,
                        kind="file",
                        size=0,
                        size_before=0,
                        modified_at=None,
                    ),
                ),
            ),
            FileSystemDifference(name="/dev/sda2", type="vfat"),
            FileSystemDifference(
                name="/dev/sda3",
                type="xfs",
                unreadable="cannot be read here, because without libguestfs only ext2, ext3 and "
                "ext4 are; install libguestfs-tools and a kernel on this host, or export the image",
            ),
        ),
    ),
)
SILENT = {
    "code": "SiteUnreachable",
    "message": "The agent on east-1 in east does not answer.",
    "cause": "The host is off, cut off, or its agent does not run.",
    "remedy": "Bring east-1 back (homeport site show east), then ask again.",
    "kind": "refused",
}

DRAWN: dict[str, RenderableType] = {
    "unsent": unsent.unsent(UNSENT_VIEWS, s.NOW),
    "unsent-none": unsent.unsent((), s.NOW),
    "unsent-files": unsent.files(DIFFERENCES, {"shop-vdb-unsent-3-17.qcow2": SILENT}),
    "receipt-files": unsent.receipt(s.COMPLETED, UNSENT_VIEWS[:1], DIFFERENCES, {}),
    "receipt-files-expired": unsent.receipt(s.COMPLETED, (), (), {}),
    "receipt-files-open": unsent.receipt(s.RECEIPT, (), (), {}),
}


@pytest.mark.parametrize("width", [80, 120])
@pytest.mark.parametrize("name", DRAWN)
def test_drawn_as_agreed(name: str, width: int) -> None:
    path = GOLDEN / f"{name}.{width}.txt"
    text = drawn(DRAWN[name], width)
    if DRAW in os.environ:
        path.write_text(text)
    assert text == path.read_text()
