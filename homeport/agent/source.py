"""
The source's cycle: rotate, ship what was captured, hear what has landed, commit it.

Each call of `cycle` does what is due and returns; after a crash the next one goes on from the
ledger. It needs the hypervisor and the cache store, never the server.
"""

from __future__ import annotations

from dataclasses import replace

from homeport.agent.aside import forget_beyond
from homeport.agent.committing import compact, finish_commit
from homeport.agent.held import HeldItem
from homeport.agent.means import Means
from homeport.agent.resyncing import ship_resync
from homeport.agent.rotation import (
    LAYER,
    RUNNING,
    correct_definition,
    recover_rotation,
    rotate,
)
from homeport.agent.seeds import forget_records, record_of, ship_first
from homeport.agent.temporary import sweep as sweep_temporary
from homeport.agent.work import Work
from homeport.clock import has_passed
from homeport.dataplane.landing import (
    acknowledged,
    clear_wanted,
    read_manifest,
    sweep,
    wanted,
)
from homeport.dataplane.layout import RepeatedPositionError
from homeport.dataplane.points import disk_size
from homeport.dataplane.shipping import reship_manifest, ship_layer, ship_manifest
from homeport.errors import RefusedError
from homeport.model.ids import Digest
from homeport.model.ledger import Captured, DiskChain, PastPoint
from homeport.model.machine import MachineDefinition
from homeport.model.manifest import DiskImage, Manifest
from homeport.model.position import Position


class DiskNotReplicatedError(RefusedError):
    """A machine that was given a disk after its protection had begun."""

    code = "DiskNotReplicated"

    def __init__(self, machine: str, targets: tuple[str, ...]) -> None:
        super().__init__(
            f"{machine} has a disk that is not replicated: {', '.join(targets)}.",
            cause="It was attached after protection had been enabled. The other disks' points go "
            "on; a machine booted from them does not have this disk.",
            remedy="Detach it, or disable protection and enable it afresh.",
        )
        self.targets = targets


BACKLOG = 8
"""Captured points that may wait to be landed: above it captures pause, so chains stay short."""
LONGEST = 180
"""
Layers of a disk above which captures pause until some are committed: libvirt does not start a
machine on more than 200 images. After a failover there may be as many as the target has kept.
"""
GROWN = 16
"""
Layers of a disk above which commits no longer give way to a point that is due. Where a pass takes
longer than the policy's interval one always is, and a commit cut short begins anew.
"""


def cycle(work: Work) -> None:
    """
    One pass at the source. Raises TransientError when something does not answer: try again later.
    """
    held, means = work.held, work.means
    settle(held, means)
    hear(work)
    if due(work):
        capture(work)
    _answer_wanted(work)
    for captured in held.ledger.captured:
        if not captured.shipped:
            ship(work, captured)
    hear(work)
    _compact(work)
    if work.state.unprotected:
        raise DiskNotReplicatedError(held.ledger.machine, work.state.unprotected)


def _compact(work: Work) -> None:
    """Chains grown long lose a layer each, however late it is; all else waits for a quiet time."""
    held, means = work.held, work.means
    if max(len(chain.layers) for chain in held.ledger.disks) > GROWN:
        compact(held, means, go_on=lambda: not work.control.cancelled(), most=1)
    compact(held, means, go_on=lambda: not work.control.cancelled() and not due(work))


def settle(held: HeldItem, means: Means) -> None:
    """
    Finish what a crash left open before the machine's chain is used; the definition is corrected.

    A commit is finished here only while the machine is off: while it runs, its turn comes after
    what is due, and reading through the layer is right meanwhile.
    """
    sweep_temporary(held, means)
    recover_rotation(held, means)
    if means.compute.state(held.ledger.machine) not in RUNNING:
        finish_commit(held, means)
    correct_definition(held, means)


def hear(work: Work) -> None:
    """
    Take in what the target says has landed; what it needs no longer is removed from the store.

    With the first landed point of a direction the points from before it end.
    """
    held = work.held
    landed = acknowledged(work.items)
    ledger = held.ledger
    if landed is None or landed.position == ledger.acknowledged:
        return
    known = {captured.position for captured in ledger.captured}
    if landed.position not in known:
        return
    rest = tuple(c for c in ledger.captured if c.position > landed.position)
    forget_beyond(
        held,
        acknowledged=landed.position,
        captured=rest,
        points=(),
        booted=None,
        resyncing=False,
    )
    held.tidy()
    forget_records(held)
    sweep(work.items, up_to=landed.position)


def ship(work: Work, captured: Captured) -> Manifest:
    """Put a captured point into the cache store, its manifest last; repeated it changes nothing."""
    watched = work.watched()
    images = [_ship_disk(watched, captured, chain) for chain in work.held.ledger.disks]
    manifest = _put_manifest(work, _manifest(work.held, captured, images))
    _shipped(work.held, captured, images)
    work.state.progress = None
    work.state.phase = "replicating"
    return manifest


def _ship_disk(
    work: Work, captured: Captured, chain: DiskChain, *, again: bool = False
) -> DiskImage:
    if captured.ways.get(chain.name, LAYER) != LAYER:
        work.state.phase = "resyncing"
        return ship_resync(work, captured, chain, again=again)
    if chain.base_at == captured.position:
        work.state.phase = "seeding"
        if again:
            record_of(work.held, chain, captured.position, "shipped").forget()
        return ship_first(work, chain, captured.position)
    work.state.phase = "replicating"
    layer = next(item for item in chain.layers if item.position == captured.position)
    path = work.held.path(layer.path)
    return ship_layer(
        work.items,
        position=captured.position,
        disk=chain.name,
        layer=path,
        size=disk_size(path, "qcow2"),
        before=_state_before(chain, captured.position),
        control=work.control,
        replace=again,
    ).image


def _put_manifest(work: Work, manifest: Manifest) -> Manifest:
    """
    Put a point's manifest; one from before a crash stays, if it is of the same disks.

    What else it says may have changed meanwhile: the machine's definition, or that it was final.
    """
    try:
        ship_manifest(work.items, manifest)
    except RepeatedPositionError:
        there = read_manifest(work.items, manifest.position)
        if (there.previous, there.disks) != (manifest.previous, manifest.disks):
            raise
        return there
    return manifest


def due(work: Work) -> bool:
    """Whether a point is to be taken now."""
    ledger = work.held.ledger
    if ledger.ended or len(ledger.captured) >= BACKLOG:
        return False
    if ledger.acknowledged is None or ledger.resyncing:
        return False  # the first point of a direction is taken by the operation that begins it
    if max(len(chain.layers) for chain in ledger.disks) > LONGEST:
        return False
    last = work.state.rotated_at or (ledger.captured[-1].taken_at if ledger.captured else None)
    return last is None or has_passed(
        ledger.policy.interval, since=last, now=work.means.clock.now()
    )


def capture(work: Work) -> Position:
    """Take a point as policy says, application-consistent where it is time for one."""
    held, means = work.held, work.means
    now = means.clock.now()
    definition, work.state.unprotected = describe_here(held, means)
    held.save(definition=definition)
    every = held.ledger.policy.app_consistent_interval
    last = work.state.app_at
    quiesce = every is not None and (last is None or has_passed(every, since=last, now=now))
    position = rotate(held, means, quiesce=quiesce)
    work.state.rotated_at = now
    if quiesce:
        work.state.app_at = now
    return position


def describe_here(held: HeldItem, means: Means) -> tuple[MachineDefinition, tuple[str, ...]]:
    """The machine's definition as it is now, its disks as the item knows them; disks it has more"""
    ledger = held.ledger
    names = {chain.disk.target: chain.name for chain in ledger.disks}
    now = means.compute.describe(ledger.machine, names=names)
    known = {chain.name: chain for chain in ledger.disks}
    disks = tuple(
        replace(known[disk.name].disk, size=disk.size) for disk in now.disks if disk.name in known
    )
    more = tuple(disk.target for disk in now.disks if disk.name not in known)
    return replace(now, disks=disks), more


def _state_before(chain: DiskChain, position: Position) -> Digest | None:
    before = chain.base_state
    for layer in chain.layers:
        if layer.position == position:
            return before
        before = layer.state
    return before


def _manifest(held: HeldItem, captured: Captured, images: list[DiskImage]) -> Manifest:
    ledger = held.ledger
    return Manifest(
        vault=ledger.vault,
        item=ledger.item,
        position=captured.position,
        previous=captured.previous,
        taken_at=captured.taken_at,
        consistency=captured.consistency,
        machine=held.machine_at(captured.position),
        disks=tuple(images),
        reason=captured.reason,
        final=captured.final,
    )


def _shipped(held: HeldItem, captured: Captured, images: list[DiskImage]) -> None:
    """Record what was shipped: states make the next delta's chain, and later proves identity."""
    by_disk = {image.disk: image for image in images}
    chains = []
    for chain in held.ledger.disks:
        image = by_disk[chain.name]
        if chain.base_at == captured.position:
            chains.append(replace(chain, base_state=image.state))
            continue
        layers = tuple(
            replace(layer, state=image.state, changed=image.changed)
            if layer.position == captured.position
            else layer
            for layer in chain.layers
        )
        chains.append(replace(chain, layers=layers))
    past = PastPoint(
        position=captured.position,
        states={image.disk: image.state for image in images},
        changed={image.disk: image.changed for image in images},
    )
    moved = sum(stored.size for image in images for stored in image.objects)
    held.save_chains(
        chains,
        captured=tuple(
            replace(c, shipped=True) if c.position == captured.position else c
            for c in held.ledger.captured
        ),
        past=held.with_past(past),
        bytes_moved=held.ledger.bytes_moved + moved,
    )


def _answer_wanted(work: Work) -> None:
    """Ship again what the target found damaged or missing, from the same immutable layers."""
    for position in wanted(work.items):
        captured = next((c for c in work.held.ledger.captured if c.position == position), None)
        if captured is not None and captured.shipped:
            disks = work.held.ledger.disks
            images = [_ship_anew(work, captured, chain) for chain in disks]
            reship_manifest(work.items, _manifest(work.held, captured, images))
        clear_wanted(work.items, position)


def _ship_anew(work: Work, captured: Captured, chain: DiskChain) -> DiskImage:
    """Ship a disk again; what is there under its keys and is another's is removed before."""
    while True:
        try:
            return _ship_disk(work, captured, chain, again=True)
        except RepeatedPositionError as error:
            work.items.delete(error.key)
