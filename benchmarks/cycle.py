"""
A cycle: capture, ship, land and commit of what a guest wrote in scattered blocks.

The commit is told apart: it is QEMU's own work (`qemu-img commit` under the twin, a block job under
libvirt), with our ledger, syncs and sweeping around it.
"""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks.ground import BLOCK, Ground, copies, paired, scattered, stopwatch
from benchmarks.record import Row, Spread, show_seconds
from benchmarks.sites import Sites, two_sites
from homeport.units import KiB, MiB, show_size

LIMIT = "dd of as many bytes into the folder and out of it, durably; commit: once more, into a file"
_STEPS = ("rotate", "ship", "land", "commit")


def run(ground: Ground) -> Iterator[Row]:
    """The changed bytes in 64 KiB blocks, a quarter in 4 KiB blocks, 1 MiB, and nothing."""
    sites = two_sites(ground, "cycle")
    sites.seed()
    scale = ground.scale
    fine = scale.changed // 4  # as many blocks as a guest writes in a moment
    cases = ((scale.changed, BLOCK), (fine, 4 * KiB), (MiB, BLOCK), (0, BLOCK))
    for total, block in cases:
        yield from _case(ground, sites, total, block)


def _case(ground: Ground, sites: Sites, total: int, block: int) -> Iterator[Row]:
    steps: dict[str, list[float]] = {name: [] for name in _STEPS}
    copied: list[float] = []
    moved = 0

    def ours() -> float:
        nonlocal moved
        seed = len(steps["ship"]) + total + block
        sites.guest(list(scattered(total, within=ground.scale.used, block=block, seed=seed)))
        before = sites.moved
        passes = (sites.rotate, sites.running.one_pass, sites.standby.one_pass)
        for name, step in zip(_STEPS, (*passes, sites.running.one_pass), strict=True):
            steps[name].append(stopwatch(step))
        moved = sites.moved - before
        return sum(steps[name][-1] for name in _STEPS[:3])

    def limit() -> float:
        blob = ground.blob(total or block)
        copied.append(copies(blob, ground.folder, 1))
        return copies(blob, ground.folder, 2)

    mine, theirs = paired(ground.scale.runs, ours, limit)
    case = f"{show_size(total)} in {show_size(block)} blocks" if total else "nothing written"
    medians = {name: Spread(tuple(runs)).median for name, runs in steps.items()}
    yield Row(
        bench="cycle",
        case=case,
        ours=Spread(tuple(mine)),
        limit=Spread(tuple(theirs)) if total else None,
        moved=moved,
        differs=total,
        note=", ".join(f"{name} {show_seconds(medians[name])}" for name in _STEPS[:3]),
        facts={"seconds": medians},
    )
    yield Row(
        bench="commit",
        case=case,
        ours=Spread(tuple(steps["commit"])),
        limit=Spread(tuple(copied)) if total else None,
        note="most of it QEMU's own" if total else "",
    )
