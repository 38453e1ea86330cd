"""
Reprotect at both hosts: what each holds, the old disks made replicas, the running side made source.

Until the first point of the new direction is listed the old disks' content, read through the chain,
is what it was: writes the other side never had are set aside, names change, and nothing else.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from homeport.agent.aside import forget_beyond, set_aside, set_whole_aside
from homeport.agent.bases import base_name, name_bases
from homeport.agent.committing import finish_commit
from homeport.agent.definitions import KEPT_FILE, keep_definition
from homeport.agent.held import HeldItem
from homeport.agent.immutable import lift
from homeport.agent.ledgers import UnknownItemError
from homeport.agent.machine import check_lock, check_name_free, delete_own, forbid
from homeport.agent.operations.failing_over import need_role
from homeport.agent.operations.order import Bench
from homeport.agent.operations.placing import adopt, check_move, furnish, move, pool_folder
from homeport.agent.operations.protecting import store_prefix, without_seed
from homeport.agent.places import is_away, is_here
from homeport.agent.rotation import recover_rotation, rotate
from homeport.agent.source import describe_here, settle
from homeport.agent.stamps import restamped
from homeport.agent.unmanaged import use_in_place
from homeport.agent.work import Work
from homeport.dataplane.landing import sweep_all
from homeport.errors import RefusedError, TransientError
from homeport.model.item import Role
from homeport.model.ledger import DiskChain, ItemLedger, PointRecord
from homeport.model.machine import PowerState
from homeport.model.operations import (
    At,
    PrepareReplica,
    ReplicaFacts,
    Reverse,
)
from homeport.model.planning import Way
from homeport.model.position import Position


def prepare_replica(bench: Bench, order: PrepareReplica) -> ReplicaFacts:
    """Make the old side's disks replicas; repeated, it finds what is done and goes on."""
    pool = pool_folder(bench, order)
    if is_away(bench, order.item, bench.means.compute.inventory()):
        raise UnknownItemError(order.item)  # nothing is begun anew below where it is mounted
    if not is_here(bench, order.item):
        adopt(bench, order, pool)
    actions = _move(bench, order, pool)
    with bench.shelf.claim(order.item, bench.control) as work:
        held, means = work.held, work.means
        _check(held, order)
        actions += furnish(work, order)
        actions += _end_direction(work, order)
        if held.ledger.role is not Role.TARGET:
            actions += use_in_place(held, means) if order.keep_machine else ()
            forget_beyond(held, booted=None, committed=False, role=Role.TARGET)
        unsent = set_aside(held, means, order.common)
        actions += _replace_whole(work, order)
        held.save_chains(
            [_for_way(held, chain, order) for chain in held.ledger.disks],
            resyncing=True,
            ended=False,
            captured=(),
            points=_kept_points(held.ledger, order),
            acknowledged=order.common,
            past=tuple(past for past in held.ledger.past if past.position == order.common),
            definition=order.definition,
        )
        actions += name_bases(held, replica=True)
        actions += _machine_afterwards(work, order)
        held.sweep_files()
        return ReplicaFacts(unsent=unsent, actions=actions)


def _move(bench: Bench, order: PrepareReplica, pool: Path) -> tuple[str, ...]:
    """To another pool, if it was asked for: the old disks are left as they are."""
    with bench.shelf.claim(order.item, bench.control) as work:
        held = work.held
        _check(held, order)
        if held.folder.parent.parent == pool:
            return ()
        check_move(held, order, pool)
        actions = _end_direction(work, order)
        move(bench, held, order, pool)
        return actions


def _check(held: HeldItem, order: PrepareReplica) -> None:
    held.check_epoch(order.epoch)
    need_role(held, Role.FENCED, Role.SOURCE, Role.TARGET, Role.RUNNING)
    _check_common(held, order)


def _end_direction(work: Work, order: PrepareReplica) -> tuple[str, ...]:
    """The machine is off, and nothing of the direction that ended is open."""
    actions = _switch_off(work, order)
    lift(work.held)
    recover_rotation(work.held, work.means)
    finish_commit(work.held, work.means)
    if work.held.ledger.role is not Role.TARGET:
        _leave_store(work)
    return actions


def reverse(bench: Bench, order: Reverse) -> At:
    """Be the source; the first point is a resync. Asked again, a new first point is taken."""
    with bench.shelf.claim(order.item, bench.control) as work:
        held, means = work.held, work.means
        held.check_epoch(order.epoch)
        need_role(held, Role.RUNNING, Role.SOURCE)
        settle(held, means)
        now = means.clock.now()
        means.make_store(order.cache)
        sweep_all(work.items_in(order.cache))  # what an earlier direction or attempt left there
        held.save(
            role=Role.SOURCE,
            epoch=order.epoch,
            cache=order.cache,
            policy=order.policy,
            resyncing=True,
            captured=(),
            acknowledged=None,
            bytes_moved=0,
            definition=describe_here(held, means)[0],
            made=held.made(
                "objects", store_prefix(order.cache, held.ledger.vault, held.item), "the cache", now
            ),
        )
        ways = {
            name: Way.EXACT.value if way == Way.NOTHING.value else way
            for name, way in order.ways.items()
        }
        anew = all(way == Way.FULL.value for way in ways.values())
        position = rotate(held, means, ways=ways, previous=None if anew else order.common)
        return At(position=position)


def _leave_store(work: Work) -> None:
    """
    Empty this side's part of its own store: what it holds was landed, or is set aside here.

    A store that does not answer keeps it, and the ledger goes on saying so.
    """
    held = work.held
    if held.ledger.cache is None or held.ledger.role is Role.RUNNING:
        return
    try:
        sweep_all(work.items)
    except TransientError:
        return
    prefix = store_prefix(held.ledger.cache, held.ledger.vault, held.item)
    held.save(made=held.gone("objects", prefix, work.means.clock.now()))


def _switch_off(work: Work, order: PrepareReplica) -> tuple[str, ...]:
    """Own nothing here any more: off, forbidden to start, locked."""
    held, compute = work.held, work.means.compute
    check_lock(held, work.means, held.ledger.machine, lock=order.lock)
    check_name_free(held, work.means, held.ledger.machine)
    held.save(epoch=order.epoch, fencing=True)
    was = compute.state(held.ledger.machine)
    if was is not PowerState.ABSENT:
        forbid(held, work.means, held.ledger.machine, lock=order.lock)
        keep_definition(held, work.means)
    held.save(lock=order.lock, fencing=False)
    running = was in {PowerState.RUNNING, PowerState.PAUSED}
    return (f"switched off: {held.ledger.machine}",) if running else ()


def _machine_afterwards(work: Work, order: PrepareReplica) -> tuple[str, ...]:
    held, compute = work.held, work.means.compute
    machine = held.ledger.machine
    if not order.keep_machine:
        (held.folder / KEPT_FILE).unlink(missing_ok=True)
    if compute.state(machine) is PowerState.ABSENT:
        held.save(guarded=held.ledger.guarded and order.keep_machine)
        return ()
    if order.keep_machine:
        held.save(guarded=True)  # also of a ledger that was begun anew
        return (f"kept and locked until failback: {machine}",)
    delete_own(held, work.means, machine)
    held.save(made=held.gone("machine", machine, work.means.clock.now()))
    return (f"deleted: {machine}",)


def _replace_whole(work: Work, order: PrepareReplica) -> tuple[str, ...]:
    """Keep the disks that full copies will replace: nothing is written over them."""
    held = work.held
    kept: list[str] = []
    for chain in held.ledger.disks:
        if _way_of(chain, order) is Way.FULL and chain.whole:
            kept += set_whole_aside(held, work.means, chain)
    return tuple(kept)


def _check_common(held: HeldItem, order: PrepareReplica) -> None:
    """Raise unless every disk that is to be brought on from the common point can be taken there."""
    for chain in held.ledger.disks:
        exact = _way_of(chain, order) in {Way.EXACT, Way.NOTHING}
        here = (chain.base_at, *(layer.position for layer in chain.layers))
        if exact and order.common not in here:
            raise CommonPointGoneError(chain.name, order.common)


class CommonPointGoneError(RefusedError):
    """An order made from what this side no longer holds."""

    code = "CommonPointGone"

    def __init__(self, disk: str, common: Position | None) -> None:
        super().__init__(
            f"Disk {disk} cannot be taken back to point {common} here.",
            cause="Newer points have landed or were merged since that was asked.",
            remedy="Nothing was changed. Ask for the reprotect again: it is planned anew.",
        )
        self.disk, self.common = disk, common


def _kept_points(ledger: ItemLedger, order: PrepareReplica) -> tuple[PointRecord, ...]:
    """Points that lie in the chains stay bootable until the first new one is listed."""
    here = [{chain.base_at, *(one.position for one in chain.layers)} for chain in ledger.disks]
    return tuple(
        point
        for point in ledger.points
        if all(point.position in positions for positions in here)
        and (order.common is None or point.position <= order.common)
    )


def _way_of(chain: DiskChain, order: PrepareReplica) -> Way:
    return Way(order.ways.get(chain.name, Way.FULL.value))


def _for_way(held: HeldItem, chain: DiskChain, order: PrepareReplica) -> DiskChain:
    """
    What of a chain is known stays. A disk that is compared is what it is now: if somebody wrote to
    it, that has been noticed. Without a common point it proves none.
    """
    way = _way_of(chain, order)
    if way is Way.FULL:
        disk = replace(chain.disk, size=order.definition.disk(chain.name).size)
        base = held.path(chain.base).with_name(base_name(disk, replica=True))
        if not chain.whole and base.is_file() and not base.is_block_device():
            base.unlink()  # begun by an earlier attempt: its parts are of another point
        return without_seed(replace(chain, disk=disk, base=held.name_of(base)))
    if way is Way.DIFFERENTIAL:
        return replace(restamped(held, chain), proven=order.common is not None)
    return chain
