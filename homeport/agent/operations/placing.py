"""
Where a reprotect's replica goes on this host: its pool, and the ledger in it.

Before the old side's disks are touched the item has its ledger in the pool that was asked for: the
one it has, one begun anew because nothing is left here, or one in another pool, where the old disks
are left as they are. A pool that is to be made gets the ledger first, which speaks of it.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from homeport.agent.held import HeldItem
from homeport.agent.immutable import lift
from homeport.agent.ledgers import FOLDER, LEDGER_FILE, item_folder
from homeport.agent.machine import NameTakenError, is_own
from homeport.agent.moving import (
    LEFT_FILE,
    begin_elsewhere,
    close_left,
    go_back,
    goes_back_to,
    kept_words,
    may_go_back,
    remove_folder,
    remove_strays,
)
from homeport.agent.operations.order import Bench
from homeport.agent.operations.protecting import begin_target, taken_names, taken_paths
from homeport.agent.places import is_here
from homeport.agent.resources import (
    POOL,
    make_networks,
    make_pool,
    open_entries,
    place_beside,
    pool_entry,
    pool_folders,
)
from homeport.agent.work import Work
from homeport.errors import RefusedError, from_dict
from homeport.model.machine import PowerState
from homeport.model.operations import AskFacts, PrepareReplica, PrepareTarget, Problem
from homeport.model.planning import Way


class PoolFixedByDisksError(RefusedError):
    """Another pool, for disks that are to be brought on where they are."""

    code = "PoolFixedByDisks"

    def __init__(self, pool: str, here: Path) -> None:
        super().__init__(
            f"Disks that lie in {here} are not brought on in pool {pool}.",
            cause="In another pool a replica begins anew, by a full copy.",
            remedy="Nothing was changed. Ask for the reprotect again: it is planned anew.",
        )
        self.pool = pool


def pool_folder(bench: Bench, order: PrepareReplica | AskFacts) -> Path:
    """
    The folder of the pool that the replica goes into, be it there or to be made.

    Raises:
        RefusedError: `PoolMissing`; the pool is not there and is not to be made.
    """
    there = pool_folders(bench.means).get(order.pool)
    here = _pool_of(bench, order)
    if there is not None:
        return there
    if not order.new_pool:
        if here is None:
            raise _missing(order.pool)
        return here
    if here is not None and _makes(bench.shelf.peek(order.item), order.pool):
        return here
    last = bench.means.ledgers.folder(order.item) if bench.shelf.has(order.item) else None
    return place_beside(
        bench.means.compute.inventory(), order.pool, last=last and last.parent.parent
    )


def adopt(bench: Bench, order: PrepareReplica, pool: Path) -> None:
    """
    Begin anew on a side that holds nothing, or nothing any more; what is there is not touched.

    Raises:
        RefusedError: a file or a machine that is not the item's has a name that is needed.
    """
    _check_names(pool, order)
    original = _has_machine(bench, order)
    begin_target(
        bench,
        PrepareTarget(
            item=order.item,
            name=order.name,
            vault=order.vault,
            epoch=order.epoch,
            definition=order.definition,
            pool=order.pool,
        ),
        pool,
        made=(pool_entry(order.pool, bench.means),) if order.new_pool else (),
        original=original,
    )


def names_taken(bench: Bench, order: AskFacts) -> dict[str, str]:
    """The paths for which `adopt` or `check_move` would refuse, each with the disk of it."""
    if order.definition is None:
        return {}
    try:
        pool = pool_folder(bench, order)
    except RefusedError:
        return {}  # that there is no such pool is told for itself
    if is_here(bench, order.item):
        held = bench.shelf.peek(order.item)
        if held.folder.parent.parent == pool or goes_back_to(held, pool):
            return {}
    taken = taken_paths(pool, order.definition)
    if order.new_pool and _is_used(pool):
        taken[pool] = ""
    return {str(path): disk for path, disk in taken.items()}


def machine_here(bench: Bench, order: AskFacts) -> tuple[str, bool]:
    """The machine on this host that has the item's name, empty for none, and whether it is its."""
    held = bench.shelf.peek(order.item) if is_here(bench, order.item) else None
    name = held.ledger.machine if held else order.name
    if not name or bench.means.compute.state(name) is PowerState.ABSENT:
        return "", False
    if held:
        return name, is_own(held, bench.means, name)
    return name, _is_noted(bench, name, order.item)


def check_move(held: HeldItem, order: PrepareReplica, pool: Path) -> None:
    """Raise unless the replica can begin anew in another pool."""
    if any(way != Way.FULL.value for way in order.ways.values()):
        raise PoolFixedByDisksError(order.pool, held.folder.parent.parent)
    if not goes_back_to(held, pool):
        _check_names(pool, order)


def move(bench: Bench, held: HeldItem, order: PrepareReplica, pool: Path) -> None:
    """Begin anew in another pool; full copies that were not whole yet are given up."""
    if may_go_back(held):
        go_back(bench.shelf, held)
    with bench.shelf.claim(order.item, bench.control) as work:
        if work.held.folder.parent.parent != pool:
            lift(work.held)  # the guard may have seen to the disks that are the item's again
            begin_elsewhere(bench.shelf, work.held, order, pool)


def furnish(work: Work, order: PrepareReplica) -> tuple[str, ...]:
    """Make the pool and the networks that are missing; what was made and left, in words."""
    held, means = work.held, work.means
    close_left(held)
    remove_strays(held)
    made = make_pool(held, means, order.pool) if order.new_pool else ()
    made += make_networks(held, means, order.new_networks)
    return made + (() if all(chain.whole for chain in held.ledger.disks) else kept_words(held))


def _pool_of(bench: Bench, order: PrepareReplica | AskFacts) -> Path | None:
    if not is_here(bench, order.item):
        return None
    return bench.shelf.peek(order.item).folder.parent.parent


def _makes(held: HeldItem, pool: str) -> bool:
    return any(entry.name == pool for entry in open_entries(held, POOL))


def _check_names(pool: Path, order: PrepareReplica) -> None:
    folder = item_folder(pool, order.name, order.item)
    problems = [*taken_names(pool, order.definition), *_strangers(pool, order)]
    if problems:
        raise from_dict(problems[0])
    if (folder / LEFT_FILE).exists() and not (folder / LEDGER_FILE).exists():
        remove_folder(folder)  # what was left here once has been taken away by hand


def _strangers(pool: Path, order: PrepareReplica) -> Iterable[Problem]:
    """What lies where a pool is to be made."""
    if order.new_pool and _is_used(pool):
        yield RefusedError(
            f"{pool} is there already, and not empty.",
            code="NameTaken",
            cause=f"The storage account {order.pool} would be made there.",
            remedy="Move the folder away, make a pool of it, or name another one (--pool).",
        ).as_dict()


def _is_used(pool: Path) -> bool:
    return pool.is_dir() and any(path.name != FOLDER for path in pool.iterdir())


def _has_machine(bench: Bench, order: PrepareReplica) -> bool:
    """Whether the item's machine is here although its ledger is not: it is kept."""
    if bench.means.compute.state(order.name) is PowerState.ABSENT:
        return False
    if not _is_noted(bench, order.name, order.item):
        raise NameTakenError(order.name)
    return True


def _is_noted(bench: Bench, machine: str, item: str) -> bool:
    """Whether the machine carries the item's note, which is all there is without a ledger."""
    note = bench.means.compute.note(machine)
    return note is not None and note.item == item


def _missing(pool: str) -> RefusedError:
    return RefusedError(
        f"This host has no storage pool {pool}.",
        code="PoolMissing",
        cause="It was removed since the reprotect was planned.",
        remedy="Ask for the reprotect again: it is planned anew.",
    )
