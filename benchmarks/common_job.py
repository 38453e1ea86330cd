"""
The job that peers are compared by: a disk of 4 GiB with 1 GiB of data, lost and brought home.

(1) first copy; (2) 64 MiB rewritten in blocks of 64 KiB, replicated; (3) 1 MiB written and never
sent, the site lost, the machine failed over, 64 MiB written there, reprotected. What peers took for
it is in `docs/benchmarks.md`. The two sides work one after the other here, so that what each of
them reads can be told apart: beside each other they take less.
"""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks.ground import Ground, scattered, stopwatch
from benchmarks.record import Row, Spread
from benchmarks.sites import DISK, ReadMeter, Sites, same_content, two_sites
from homeport.dataplane.qcow2 import read_map
from homeport.model.operations import LandAll
from homeport.units import MiB, show_size
from tests.world import ITEM

LIMIT = "none of its own: the parts have theirs; this is for comparison with peers"


def run(ground: Ground) -> Iterator[Row]:
    """A row for each part of the job."""
    scale = ground.scale
    sites = two_sites(ground, "common-job")
    yield _row("first copy", sites.seed(), moved=sites.moved, differs=scale.used)
    yield _replicate(ground, sites)
    sites.guest(list(scattered(MiB, within=scale.used, seed=31)))
    yield _row("failover, 1 MiB unsent", stopwatch(sites.fail_over_now))
    sites.guest(list(scattered(scale.changed, within=scale.used, seed=32)))
    yield _reprotect(ground, sites)


def _replicate(ground: Ground, sites: Sites) -> Row:
    sites.guest(list(scattered(ground.scale.changed, within=ground.scale.used, seed=30)))
    before = sites.moved

    def work() -> None:
        sites.rotate()
        sites.running.one_pass()
        _land(sites)

    seconds = stopwatch(work)
    changed = ground.scale.changed
    row = _row("delta", seconds, moved=sites.moved - before, differs=changed)
    sites.standby.one_pass()
    sites.running.one_pass()
    return row


def _reprotect(ground: Ground, sites: Sites) -> Row:
    before = sites.moved
    running, standby = ReadMeter(), ReadMeter()
    begin = stopwatch(sites.reprotect)
    ship = running.watch(sites.running, sites.running.one_pass)
    land = standby.watch(sites.standby, lambda: _land(sites))
    if sites.standby.ledger.resyncing:
        raise RuntimeError("the first point of the new direction has not landed")
    moved = sites.moved - before
    kept = _unsent(sites)
    alike = _alike(sites)
    return _row(
        "unplanned reprotect",
        begin + ship + land,
        moved=moved,
        differs=ground.scale.changed,  # the unsent blocks are set aside, not overwritten
        note=f"reads {show_size(running.total)} running side, {show_size(standby.total)} old side; "
        f"unsent kept: {show_size(kept)}; disks equal: {'yes' if alike else 'NO'}",
        facts={"running_read": running.total, "old_read": standby.total, "unsent": kept},
    )


def _land(sites: Sites) -> None:
    """Land what is there; what makes chains short comes later."""
    sites.standby.order(LandAll(item=ITEM, epoch=sites.epoch))


def _unsent(sites: Sites) -> int:
    """Bytes in the images set aside at the old side, as their own files tell."""
    held = sites.standby.shelf.peek(ITEM)
    kept = held.ledger.chain(DISK).set_aside
    return sum(read_map(held.path(one.path)).changed.total for one in kept)


def _alike(sites: Sites) -> bool:
    """Whether QEMU reads the same disk on both sides at the newest point."""
    point = sites.standby.ledger.stands_at
    held = [host.shelf.peek(ITEM) for host in (sites.running, sites.standby)]
    images = [one.path(one.ledger.chain(DISK).file_at(point)) for one in held if point]
    return same_content(*images)


def _row(
    case: str,
    seconds: float,
    *,
    moved: int | None = None,
    differs: int | None = None,
    note: str = "",
    facts: dict[str, int] | None = None,
) -> Row:
    return Row(
        bench="common job",
        case=case,
        ours=Spread((seconds,)),
        moved=moved,
        differs=differs,
        note=note,
        facts=dict(facts or {}),
    )
