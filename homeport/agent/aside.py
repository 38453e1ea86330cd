"""
Writes set aside: what one side had and the other has not is kept as an image anyone can open.

It stands on the point it was made after, so that point's files stay while it lives. It expires by
policy, and goes when the item is released.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from homeport.agent.held import HeldItem
from homeport.agent.means import Means
from homeport.dataplane.points import grown_bytes, rename_base, run_tool, sync_path
from homeport.dataplane.qcow2 import Qcow2FormatError, read_map
from homeport.errors import RefusedError
from homeport.model.compaction import carried
from homeport.model.item import Role
from homeport.model.ledger import DiskChain, Layer, Unsent
from homeport.model.messages import LedgerEntry, UnsentReport
from homeport.model.position import Position

CLOCKS_APART = timedelta(days=1)
"""How far images age beyond the newest point: longer than points stay away as a rule."""
ENTRY = "unsent"
"""Kind of an image's entry in the ledger; its name is the image's path."""


def set_aside(held: HeldItem, means: Means, keep: Position | None) -> tuple[UnsentReport, ...]:
    """
    Take everything above `keep` off every chain; what holds writes is kept, empty layers go.

    With `keep` None all layers stay and only the active one is taken off. Repeated, it finds
    nothing left to do. Nobody runs from the chains.
    """
    for name in [chain.name for chain in held.ledger.disks]:
        _set_aside_disk(held, means, held.ledger.chain(name), keep)
    return unsent_reports(held)


def unsent_bytes(
    held: HeldItem, chain: DiskChain, above: Position | None, *, in_use: bool = False
) -> int:
    """
    Bytes of data in the layers above a point, the active one too.

    The active one may be `in_use`, when QEMU has not written all its tables: where they show
    nothing yet, what the file has grown by is counted.
    """
    names = [layer.path for layer in chain.layers if above is None or layer.position > above]
    paths = [held.path(name) for name in names]
    total = sum(read_map(path).changed.total for path in paths if path.exists())
    return total + (_active_bytes(held.path(chain.active), in_use=in_use) if chain.active else 0)


def unsent_reports(held: HeldItem) -> tuple[UnsentReport, ...]:
    """The images set aside, as people are told of them."""
    keep = held.ledger.policy.unsent_retention
    return tuple(
        UnsentReport(
            disk=chain.name,
            path=str(held.path(unsent.path)),
            position=unsent.position or Position(1, 0),
            size=unsent.size,
            set_aside_at=unsent.set_aside_at,
            expires_at=unsent.set_aside_at + keep,
        )
        for chain in held.ledger.disks
        for unsent in chain.set_aside
    )


def expire_unsent(held: HeldItem, means: Means, *, everything: bool = False) -> int:
    """
    Remove images whose time is over; the number removed.

    A whole disk stays until the full copy that replaces it has landed: it is the last good one.
    While no points come, and a day has passed so, none goes.
    """
    now, keep = _no_later_than_points(held, means.clock.now()), held.ledger.policy.unsent_retention
    gone: list[Unsent] = []
    chains = []
    for chain in held.ledger.disks:
        ended = [u for u in chain.set_aside if u.set_aside_at + keep <= now]
        over = [
            u for u in chain.set_aside if everything or (u in ended and (chain.whole or not u.base))
        ]
        gone += over
        stays = tuple(unsent for unsent in chain.set_aside if unsent not in over)
        chains.append(replace(chain, set_aside=stays))
    held.save_chains(chains, made=unsent_gone(held, means, gone))
    held.drop(name for unsent in gone for name in unsent.names)
    return len(gone)


def _no_later_than_points(held: HeldItem, now: datetime) -> datetime:
    """
    The moment, if the other side's clock bears it out: its newest point is about as old.

    A host's clock may be years ahead until it is set after a boot, and what has expired is lost.
    """
    ledger = held.ledger
    if ledger.role is not Role.TARGET or not ledger.points:
        return now
    return min(now, ledger.points[-1].taken_at + CLOCKS_APART)


def unsent_made(held: HeldItem, unsent: Unsent) -> tuple[LedgerEntry, ...]:
    """The ledger's entries with an image's."""
    name = str(held.path(unsent.path))
    return held.made(ENTRY, name, "writes the other side has not", unsent.set_aside_at)


def unsent_gone(held: HeldItem, means: Means, images: Iterable[Unsent]) -> tuple[LedgerEntry, ...]:
    """The ledger's entries with those of some images marked as gone."""
    names = {str(held.path(unsent.path)) for unsent in images}
    return tuple(
        replace(entry, gone_at=means.clock.now())
        if entry.kind == ENTRY and entry.name in names and entry.gone_at is None
        else entry
        for entry in held.ledger.made
    )


def forget_beyond(held: HeldItem, **changes: Any) -> None:
    """
    Give up the points newer than the one booted, with other changes of the ledger in one.

    What is set aside on one of them keeps the layers it needs.
    """
    gone = {chain.name: chain.beyond for chain in held.ledger.disks}
    booted = held.ledger.booted
    chains = [
        replace(chain, beyond=(), set_aside=carried(chain, chain.beyond, booted))
        for chain in held.ledger.disks
    ]
    held.save_chains(chains, **changes)
    held.drop(layer.path for layers in gone.values() for layer in layers)


def set_whole_aside(held: HeldItem, means: Means, chain: DiskChain) -> tuple[str, ...]:
    """
    Keep a disk that a full copy replaces, under another name; what was done, in words.

    It is an image set aside like others, with all its layers. Repeated, it goes on where it was.
    """
    old = held.path(chain.base)
    new = old.with_name(f"{chain.name}-replaced-e{held.ledger.epoch:06d}{chain.disk.suffix}")
    if old.is_block_device():
        raise DeviceKeptError(chain.name, str(old))
    if not (old.exists() or new.exists()):
        return ()
    above = held.standing_on(chain, old, new)
    rename_base(old, new, above=above, base_format=chain.disk.format.value)
    base = held.name_of(new)
    names = (base, *(layer.path for layer in chain.layers))
    whole = Unsent(
        path=names[-1],
        position=chain.stands_at,
        size=sum(held.path(name).stat().st_blocks * 512 for name in names),
        set_aside_at=means.clock.now(),
        below=names[1:-1],
        base=base,
    )
    earlier = carried(chain, chain.layers, None, base=base)
    held.save_chains(
        [replace(chain, layers=(), base_at=None, whole=False, set_aside=(*earlier, whole))],
        made=unsent_made(held, whole),
    )
    return (f"kept as {new.name} until it expires: {old.name}",)


def give_back_whole(held: HeldItem, means: Means) -> None:
    """Undo `set_whole_aside` where the full copy has not become whole."""
    for chain in held.ledger.disks:
        kept = chain.set_aside[-1] if chain.set_aside else None
        if chain.whole or kept is None or not kept.base:
            continue
        layers = tuple(
            Layer(path=name, position=Position(1, number))
            for number, name in enumerate(name for name in kept.names if name != kept.base)
        )
        back = replace(
            chain, base=kept.base, layers=layers, whole=True, set_aside=chain.set_aside[:-1]
        )
        held.save_chains([back], made=unsent_gone(held, means, (kept,)))
        held.drop([chain.base])


def make_self_standing(held: HeldItem) -> tuple[str, ...]:
    """Copies of all images set aside beside the disks, which need nothing else; in words."""
    made = []
    for chain in held.ledger.disks:
        for unsent in chain.set_aside:
            image = held.path(unsent.path)
            source = chain.disk.format.value if unsent.path == unsent.base else "qcow2"
            final = held.path(chain.base).parent / f"{image.stem}.qcow2"
            if not final.exists():
                partial = final.with_name(final.name + ".partial")
                convert = ["qemu-img", "convert", "-q", "-f", source, "-O", "qcow2"]
                run_tool([*convert, str(image), str(partial)])
                sync_path(partial)
                partial.rename(final)
                sync_path(final.parent)
            made.append(f"unsent writes as {final}")
    return tuple(made)


class DeviceKeptError(RefusedError):
    """A full copy over a block device that holds the old disk."""

    code = "DeviceKept"

    def __init__(self, disk: str, path: str) -> None:
        super().__init__(
            f"A full copy of disk {disk} would be written over {path}.",
            cause="The old disk is kept until its successor is listed, and a block device cannot "
            "be renamed.",
            remedy="Use a differential resync (homeport reprotect --way differential), or move "
            "the device away.",
        )


def _set_aside_disk(held: HeldItem, means: Means, chain: DiskChain, keep: Position | None) -> None:
    above = [layer for layer in chain.layers if keep is not None and layer.position > keep]
    names = [layer.path for layer in above] + ([chain.active] if chain.active else [])
    if not names:
        return
    stays = tuple(layer for layer in chain.layers if layer not in above)
    written = [name for name in names if _size(held, name)]
    stands_on = stays[-1].position if stays else chain.base_at
    earlier = carried(chain, above, stands_on)
    if not written:
        held.save_chains([replace(chain, layers=stays, active=None, set_aside=earlier)])
        held.drop(names)
        return
    *below, top = names[: names.index(written[-1]) + 1]
    final = _unsent_name(held, chain, stands_on, top)
    if not held.path(final).exists():
        os.link(held.path(top), held.path(final))
        sync_path(held.path(final).parent)
    unsent = Unsent(
        path=final,
        position=stands_on,
        size=sum(_size(held, name) for name in (*below, final)),
        set_aside_at=means.clock.now(),
        below=tuple(below),
    )
    new = replace(chain, layers=stays, active=None, set_aside=(*earlier, unsent))
    held.save_chains([new], made=unsent_made(held, unsent))
    held.drop(names)


def _unsent_name(held: HeldItem, chain: DiskChain, at: Position | None, top: str) -> str:
    """`<disk>-unsent-<position>`; numbered when an earlier image stands on the same point."""
    taken = {unsent.path for unsent in chain.set_aside}
    number = 1
    while True:
        end = f"-{number}" if number > 1 else ""
        name = f"{chain.name}/{chain.name}-unsent-{at or 'unknown'}{end}.qcow2"
        path = held.path(name)
        # A crash before the ledger was saved leaves the file under both names: that one is ours.
        if name not in taken and (not path.exists() or path.samefile(held.path(top))):
            return name
        number += 1


def _active_bytes(path: Path, *, in_use: bool) -> int:
    try:
        return read_map(path).changed.total or (grown_bytes(path) if in_use else 0)
    except FileNotFoundError:
        return 0
    except Qcow2FormatError:
        return path.stat().st_blocks * 512


def _size(held: HeldItem, name: str) -> int:
    path = held.path(name)
    return read_map(path).changed.total if path.exists() else 0
