"""
Passages: empty folders through which QEMU knows the disks of a machine released while it ran.

A machine that was started on layers names its base by way of their folder
(`item/disk/../../../base`), also after all was committed into the base and the item's folder has
gone with the item. When the machine is protected again, QEMU opens the base by that name to put an
overlay on it. So the folders that are missing are made, empty, for as long as the new item lives.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from homeport.agent.held import HeldItem
from homeport.agent.means import Means

PASSAGE = "passage"
"""Kind of their entries in the ledger."""


def passage(name: str) -> Path | None:
    """The folder that a file's name leads through, if it goes up again."""
    parts = Path(name).parts
    return Path(*parts[: parts.index("..")]) if ".." in parts else None


def open_passages(held: HeldItem, means: Means) -> None:
    """Make what is missing of them, entered in the ledger first."""
    live = means.compute.sources(held.ledger.machine).live
    for folder in filter(None, map(passage, live.values())):
        if not folder.exists():
            reason = "QEMU knows a disk by a path through it"
            held.save(made=held.made(PASSAGE, str(folder), reason, means.clock.now()))
            folder.mkdir(parents=True)


def close_passages(held: HeldItem, means: Means) -> None:
    """Take them away: the folder of an item that was, too. Done twice is done once."""
    for entry in held.ledger.made:
        if entry.kind != PASSAGE or entry.gone_at is not None:
            continue
        for folder in (Path(entry.name), Path(entry.name).parent):
            with suppress(OSError):  # not there, or somebody uses it
                folder.rmdir()
        held.save(made=held.gone(PASSAGE, entry.name, means.clock.now()))
