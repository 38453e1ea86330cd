"""Promote: from the order to a started machine; QEMU's own start comes on top."""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks.ground import Ground, paired, scattered, stopwatch, tool
from benchmarks.record import Row, Spread
from benchmarks.sites import Sites, two_sites
from homeport.units import GiB, MiB, show_size

LIMIT = "qemu-img create of one overlay, and qemu-img info that opens its chain"
_DEPTH = 5  # points above the base


def run(ground: Ground) -> Iterator[Row]:
    """A small and a large disk with the same data: the disk's size must not show."""
    for size in (GiB, 16 * GiB):
        yield _case(ground, size)


def _case(ground: Ground, size: int) -> Row:
    used = min(ground.scale.used, 128 * MiB)
    sites = two_sites(ground, f"failover-{size}", ground.disk(size=size, used=used))
    sites.seed()
    for seed in range(_DEPTH):
        sites.guest(list(scattered(4 * MiB, within=used, seed=seed)))
        sites.rotate()
        sites.running.one_pass()
        sites.standby.one_pass()
    points = [point.position for point in sites.standby.ledger.points]
    sites.fail_over(points[-1])
    seen: list[float] = []

    def ours() -> float:
        """Another point each time: the machine is stopped, its overlay goes, a new one boots."""
        sites.change_point(points[len(seen) % len(points)])
        seen.append(sites.promoted)
        return sites.promoted

    mine, theirs = paired(max(5, ground.scale.runs), ours, lambda: _limit(sites))
    return Row(
        bench="failover",
        case=f"disk of {show_size(size)}",
        ours=Spread(tuple(mine)),
        limit=Spread(tuple(theirs)),
        note=f"chain of {_DEPTH} points on a base; without QEMU's start",
    )


def _limit(sites: Sites) -> float:
    top = sites.running.compute.sources("web").live["vda"]
    overlay = sites.root / "overlay.qcow2"
    options = ("-q", "-f", "qcow2", "-F", "qcow2", "-b", top)
    seconds = stopwatch(lambda: tool("qemu-img", "create", *options, overlay))
    seconds += stopwatch(lambda: tool("qemu-img", "info", "-U", "--backing-chain", overlay))
    overlay.unlink()
    return seconds
