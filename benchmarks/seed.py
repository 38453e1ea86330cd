"""The first copy: from the frozen disk into the cache store and out of it, both sides at work."""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks.ground import Ground, copy_sparse, paired, stopwatch, tool
from benchmarks.record import Row, Spread
from benchmarks.sites import two_sites
from homeport.units import show_size

LIMIT = "cp --sparse=always into the folder and out of it, synced: two durable copies"


def run(ground: Ground) -> Iterator[Row]:
    """One row."""
    scale, moved = ground.scale, 0

    def ours() -> float:
        nonlocal moved
        sites = two_sites(ground, "seed")
        seconds = sites.seed()
        moved = sites.moved
        tool("rm", "-r", sites.root)
        return seconds

    def limit() -> float:
        room = ground.room("seed-limit")
        seconds = stopwatch(lambda: copy_sparse(ground.disk(), room / "store"))
        seconds += stopwatch(lambda: copy_sparse(room / "store", room / "target"))
        tool("rm", "-r", room)
        return seconds

    mine, theirs = paired(scale.runs, ours, limit)
    yield Row(
        bench="seed",
        case=f"{show_size(scale.used)} in {show_size(scale.disk)}",
        ours=Spread(tuple(mine)),
        limit=Spread(tuple(theirs)),
        moved=moved,
        differs=scale.used,
    )
