"""
Rotation: one more overlay under the running machine, so that the layer it closes is a point.

The intent is in the ledger before anything moves; whatever dies, the next look finds the overlays
in place or not, and finishes the rotation or takes it back. Called by the source's cycle.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from pathlib import Path

from homeport.agent.held import HeldItem
from homeport.agent.means import Means
from homeport.dataplane.points import disk_size, put_overlay, stamp
from homeport.errors import IntegrityError
from homeport.model.host import Rotation
from homeport.model.ledger import Captured, DiskChain, ItemLedger, Layer, RotateIntent
from homeport.model.machine import DiskFormat, PowerState
from homeport.model.manifest import Consistency
from homeport.model.position import Position

LAYER = "layer"
"""The way of a disk whose point is just the layer that was closed."""


RUNNING = frozenset({PowerState.RUNNING, PowerState.PAUSED})
"""States in which QEMU has the disks open."""


class ForeignLayerError(IntegrityError):
    """A machine that writes to another file than the ledger's topmost."""

    code = "ForeignLayer"

    def __init__(self, *, disk: str, found: str, expected: Path) -> None:
        super().__init__(
            f"Disk {disk} is written to {found}, not to {expected}.",
            cause="A snapshot was taken or the definition was changed by another tool.",
            remedy="Nothing was changed. Bring the disk back to that file (virsh blockcommit "
            "--active --pivot), or disable protection and enable it afresh.",
        )
        self.disk, self.found, self.expected = disk, found, expected


def next_position(ledger: ItemLedger) -> Position:
    """The position the next rotation gives: the sequence goes on within an epoch."""
    newest = max(
        (p for p in (ledger.newest_captured, ledger.stands_at) if p is not None),
        default=None,
    )
    if newest is None:
        return Position(ledger.epoch, 0)
    return newest.next() if newest.epoch == ledger.epoch else Position(ledger.epoch, 1)


def rotate(
    held: HeldItem,
    means: Means,
    *,
    quiesce: bool = False,
    ways: dict[str, str] | None = None,
    previous: Position | None = None,
    final: bool = False,
) -> Position:
    """
    Take a point: close what the machine has written and put empty overlays on top.

    `ways` and `previous` are given for the first point of a resync. Raises what
    `Compute.rotate` raises; then nothing has moved and the same call may be repeated.
    """
    recover_rotation(held, means)
    ledger = held.ledger
    position = next_position(ledger)
    intent = RotateIntent(
        position=position,
        overlays={chain.name: held.active_name(chain, position) for chain in ledger.disks},
        previous=previous if ways else (ledger.newest_captured or ledger.stands_at),
        ways=ways or {chain.name: LAYER for chain in ledger.disks},
        final=final,
        quiesce=quiesce,
    )
    held.save(rotating=intent)
    for chain in ledger.disks:
        below = chain.active or chain.top
        put_overlay(
            held.path(intent.overlays[chain.name]),
            below=held.path(below),
            below_format=held.format_of(chain, below),
            size=disk_size(held.path(below), held.format_of(chain, below)),
        )
    taken_at = means.clock.now()
    reached = means.compute.rotate(ledger.machine, _targets(held, intent), quiesce=quiesce)
    _close(held, intent, taken_at, reached)
    return position


def recover_rotation(held: HeldItem, means: Means) -> None:
    """
    Finish or take back a rotation that was cut short. Does nothing when none is open.

    The overlays in place: finished, at the time of the look. Not in place and the machine off or
    gone: adopted, for an empty overlay on top is always harmless. Not in place and running: taken
    back.
    """
    intent, machine = held.ledger.rotating, held.ledger.machine
    if intent is None:
        return
    state = means.compute.state(machine)
    if intent.quiesce and state in RUNNING:
        means.compute.thaw(machine)
    targets = _targets(held, intent)
    live = means.compute.sources(machine).live if state in RUNNING else {}
    made = all(path.exists() for path in targets.values())
    if made and (state not in RUNNING or _are_in_place(live, targets)):
        if state is not PowerState.ABSENT:
            means.compute.set_sources(machine, targets)
        reached = Rotation(consistency=Consistency.CRASH, reason="the rotation was cut short")
        _close(held, intent, means.clock.now(), reached)
        return
    held.save(rotating=None)
    held.drop(name for name in intent.overlays.values() if not _is_used(held.path(name), live))


def correct_definition(held: HeldItem, means: Means) -> bool:
    """
    Make the persistent definition name the ledger's tops; True when it did not.

    libvirt's persistent view can fall behind for good when its daemon dies in a call; the next cold
    start would then boot a closed layer and fork it.

    Raises:
        ForeignLayerError: QEMU writes to another file, or the definition names one that is not
            ours: correcting that would lose what is written there.
    """
    tops = {
        chain.disk.target: held.path(chain.active) for chain in held.ledger.disks if chain.active
    }
    if not tops:
        return False
    sources = means.compute.sources(held.ledger.machine)
    for chain in held.ledger.disks:
        if chain.active:
            _check_ours(held, chain, sources.live, sources.persistent)
    if _are_in_place(sources.persistent, tops):
        return False
    means.compute.set_sources(held.ledger.machine, tops)
    return True


def _check_ours(
    held: HeldItem, chain: DiskChain, live: Mapping[str, str], persistent: Mapping[str, str]
) -> None:
    """Raise unless QEMU writes to the active layer and the definition names a file of ours."""
    active = held.path(chain.active or chain.top)
    ours = {os.path.realpath(held.path(name)) for name in chain.all_names}
    written = live.get(chain.disk.target, str(active))
    named = persistent.get(chain.disk.target, str(active))
    if os.path.realpath(written) != os.path.realpath(active):
        raise ForeignLayerError(disk=chain.name, found=written, expected=active)
    if os.path.realpath(named) not in ours:
        raise ForeignLayerError(disk=chain.name, found=named, expected=active)


def _are_in_place(seen: Mapping[str, str], targets: Mapping[str, Path]) -> bool:
    return all(
        target in seen and os.path.realpath(seen[target]) == os.path.realpath(path)
        for target, path in targets.items()
    )


def _is_used(path: Path, live: Mapping[str, str]) -> bool:
    return os.path.realpath(path) in {os.path.realpath(one) for one in live.values()}


def _targets(held: HeldItem, intent: RotateIntent) -> dict[str, Path]:
    return {
        chain.disk.target: held.path(intent.overlays[chain.name])
        for chain in held.ledger.disks
        if chain.name in intent.overlays
    }


def _close(held: HeldItem, intent: RotateIntent, taken_at: datetime, reached: Rotation) -> None:
    captured = Captured(
        position=intent.position,
        previous=intent.previous,
        taken_at=taken_at,
        consistency=reached.consistency,
        reason=reached.reason,
        final=intent.final,
        ways=intent.ways,
    )
    held.keep_machine(intent.position)
    held.save_chains(
        [_closed(held, chain, intent) for chain in held.ledger.disks],
        captured=(*held.ledger.captured, captured),
        ended=held.ledger.ended or intent.final,
        rotating=None,
    )


def _closed(held: HeldItem, chain: DiskChain, intent: RotateIntent) -> DiskChain:
    active = intent.overlays[chain.name]
    disk = replace(chain.disk, size=disk_size(held.path(active), DiskFormat.QCOW2.value))
    if chain.active is None:  # the first rotation freezes the base itself
        seen = stamp(held.path(chain.base))
        return replace(chain, disk=disk, base_at=intent.position, base_stamp=seen, active=active)
    layer = Layer(path=chain.active, position=intent.position, stamp=stamp(held.path(chain.active)))
    return replace(chain, disk=disk, layers=(*chain.layers, layer), active=active)
