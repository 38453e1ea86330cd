"""A cycle: capture, ship, land and commit of what a guest wrote in scattered blocks."""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks.ground import BLOCK, Ground, copies, paired, scattered, stopwatch
from benchmarks.record import Row, Spread, show_seconds
from benchmarks.sites import Sites, two_sites
from homeport.units import KiB, MiB, show_size

LIMIT = "dd of as many bytes into the folder, out of it, and into the base: three durable copies"


def run(ground: Ground) -> Iterator[Row]:
    """The changed bytes in 64 KiB and in 4 KiB blocks, 1 MiB, and nothing at all."""
    sites = two_sites(ground, "cycle")
    sites.seed()
    scale = ground.scale
    for total, block in (
        (scale.changed, BLOCK),
        (scale.changed, 4 * KiB),
        (MiB, BLOCK),
        (0, BLOCK),
    ):
        yield _case(ground, sites, total, block)


def _case(ground: Ground, sites: Sites, total: int, block: int) -> Row:
    phases: dict[str, list[float]] = {name: [] for name in ("rotate", "ship", "land", "commit")}
    moved = 0

    def ours() -> float:
        nonlocal moved
        seed = len(phases["ship"]) + total + block
        sites.guest(list(scattered(total, within=ground.scale.used, block=block, seed=seed)))
        before = sites.moved
        steps = (sites.rotate, sites.running.one_pass, sites.standby.one_pass)
        for name, step in zip(phases, (*steps, sites.running.one_pass), strict=True):
            phases[name].append(stopwatch(step))
        moved = sites.moved - before
        return sum(runs[-1] for runs in phases.values())

    def limit() -> float:
        return copies(ground.blob(total or block), ground.folder, 3)

    mine, theirs = paired(ground.scale.runs, ours, limit)
    medians = {name: Spread(tuple(runs)).median for name, runs in phases.items()}
    return Row(
        bench="cycle",
        case=f"{show_size(total)} in {show_size(block)} blocks" if total else "nothing written",
        ours=Spread(tuple(mine)),
        limit=Spread(tuple(theirs)) if total else None,
        moved=moved,
        differs=total,
        note=", ".join(f"{name} {show_seconds(seconds)}" for name, seconds in medians.items()),
        facts={"seconds": medians},
    )
