"""
Rotation: one more overlay under the running machine, so that the layer it closes is a point.

The intent is in the ledger before anything moves; whatever dies, the next look finds the overlays
in place or not, and finishes the rotation or takes it back. Called by the source's cycle.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from pathlib import Path

from homeport.agent.held import HeldItem
from homeport.agent.means import Means
from homeport.dataplane.points import disk_size, put_overlay, stamp
from homeport.model.host import Rotation
from homeport.model.ledger import Captured, DiskChain, ItemLedger, Layer, RotateIntent
from homeport.model.machine import PowerState
from homeport.model.manifest import Consistency
from homeport.model.position import Position

LAYER = "layer"
"""The way of a disk whose point is just the layer that was closed."""


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

    The overlays in place: finished, at the time of the look. Not in place and the machine off:
    adopted, for an empty overlay on top is always harmless. Not in place and running: taken back.
    """
    intent = held.ledger.rotating
    if intent is None:
        return
    if intent.quiesce:
        means.compute.thaw(held.ledger.machine)
    targets = _targets(held, intent)
    sources = means.compute.sources(held.ledger.machine)
    off = means.compute.state(held.ledger.machine) in {PowerState.OFF, PowerState.CRASHED}
    made = all(path.exists() for path in targets.values())
    seen = sources.persistent if off else sources.live
    if made and (off or all(seen.get(t) == str(p) for t, p in targets.items())):
        means.compute.set_sources(held.ledger.machine, targets)
        reached = Rotation(consistency=Consistency.CRASH, reason="the rotation was cut short")
        _close(held, intent, means.clock.now(), reached)
        return
    for path in targets.values():
        if str(path) not in sources.live.values():
            path.unlink(missing_ok=True)
    held.save(rotating=None)


def correct_definition(held: HeldItem, means: Means) -> bool:
    """
    Make the persistent definition name the ledger's tops; True when it did not.

    libvirt's persistent view can fall behind for good when its daemon dies in a call; the next cold
    start would then boot a closed layer and fork it.
    """
    tops = {
        chain.disk.target: held.path(chain.active) for chain in held.ledger.disks if chain.active
    }
    seen = means.compute.sources(held.ledger.machine).persistent
    if all(seen.get(target) == str(path) for target, path in tops.items()):
        return False
    means.compute.set_sources(held.ledger.machine, tops)
    return True


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
    held.save_chains(
        [_closed(held, chain, intent) for chain in held.ledger.disks],
        captured=(*held.ledger.captured, captured),
        rotating=None,
    )


def _closed(held: HeldItem, chain: DiskChain, intent: RotateIntent) -> DiskChain:
    active = intent.overlays[chain.name]
    if chain.active is None:  # the first rotation freezes the base itself
        seen = stamp(held.path(chain.base))
        return replace(chain, base_at=intent.position, base_stamp=seen, active=active)
    layer = Layer(path=chain.active, position=intent.position, stamp=stamp(held.path(chain.active)))
    return replace(chain, layers=(*chain.layers, layer), active=active)
