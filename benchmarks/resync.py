"""
The way back: an exact resync from change maps, and a differential one by digests.

Each run fails the machine over, lets the guest write, and reprotects; so sides change every time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from statistics import median

from blake3 import blake3

from benchmarks.ground import Ground, copies, paired, scattered, stopwatch
from benchmarks.record import Row, Spread, show_seconds
from benchmarks.sites import two_sites
from homeport.model.planning import Way
from homeport.units import show_size

LIMIT = (
    "exact: dd of the changed bytes into the folder and out of it, durably; differential: the same "
    "after both disks were read and digested by BLAKE3 alone, one core each side after the other"
)


def exact(ground: Ground) -> Iterator[Row]:
    """What was written since the common point."""
    yield from _bench(ground, "exact", Way.EXACT, lambda: _moved(ground))


def differential(ground: Ground) -> Iterator[Row]:
    """The same difference, found by digests."""

    def limit() -> float:
        digested = stopwatch(lambda: [_digest(ground) for _side in range(2)])
        return digested + _moved(ground)

    yield from _bench(ground, "differential", Way.DIFFERENTIAL, limit)


def _moved(ground: Ground) -> float:
    return copies(ground.blob(ground.scale.changed), ground.folder, 2)


def _digest(ground: Ground) -> bytes:
    """The data of the disk, as `b3sum` takes it; its holes are known and free."""
    hasher = blake3()
    left = ground.scale.used
    with ground.disk().open("rb", buffering=0) as file:
        while left > 0:
            body = file.read(min(left, 1 << 20))
            hasher.update(body)
            left -= len(body)
    return hasher.digest()


def _bench(ground: Ground, name: str, way: Way, limit: Callable[[], float]) -> Iterator[Row]:
    sites = two_sites(ground, name)
    sites.seed()
    scale, moved, seed = ground.scale, 0, 0
    prepared: list[float] = []

    def ours() -> float:
        nonlocal moved, seed
        seed += 1
        sites.fail_over_now()
        sites.guest(list(scattered(scale.changed, within=scale.used, seed=seed)))
        before = sites.moved
        orders, listed = sites.resync(way)
        prepared.append(orders)
        moved = sites.moved - before
        return listed

    mine, theirs = paired(scale.runs, ours, limit)
    yield Row(
        bench=name,
        case=f"{show_size(scale.changed)} of {show_size(scale.used)}",
        ours=Spread(tuple(mine)),
        limit=Spread(tuple(theirs)),
        moved=moved,
        differs=scale.changed,
        note=f"until the point is listed; orders before that {show_seconds(median(prepared))}",
    )
