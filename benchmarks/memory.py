"""
Peak memory by the disk's size: the same data in a small and in a large, sparse disk.

Each size runs in a process of its own, which tells the most it held in each phase.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from benchmarks.ground import Ground, Scale, forget_peak, peak_memory, scattered
from benchmarks.record import Row
from benchmarks.sites import two_sites
from homeport.model.planning import Way
from homeport.units import GiB, KiB, show_size

LIMIT = "the same work on the small disk: the large one must not need more"


def run(ground: Ground) -> Iterator[Row]:
    """A row for each phase: the peak at either size."""
    small, large = (_in_own_process(ground, size) for size in (GiB, ground.scale.large))
    for phase in small:
        yield Row(
            bench="memory",
            case=phase,
            note=f"{show_size(small[phase])} at {show_size(GiB)}, "
            f"{show_size(large[phase])} at {show_size(ground.scale.large)}",
            facts={"small": small[phase], "large": large[phase]},
        )


def _in_own_process(ground: Ground, size: int) -> dict[str, int]:
    folder = ground.room(f"memory-{size}")
    argv = [
        sys.executable,
        "-m",
        "benchmarks.memory",
        str(folder),
        str(size),
        str(ground.scale.used // 4),
    ]
    done = subprocess.run(argv, check=True, capture_output=True, text=True)
    found: dict[str, int] = json.loads(done.stdout)
    return found


def measure(folder: Path, size: int, used: int) -> dict[str, int]:
    """Peaks by phase, of the process that held more; in a cycle both sites are in one."""
    scale = Scale(
        name="memory", disk=size, used=used, changed=used // 16, runs=1, large=size, estimated=used
    )
    ground = Ground(folder=folder, scale=scale)
    sites = two_sites(ground, "sites")
    peaks = {"before": peak_memory()}
    blocks = list(scattered(scale.changed, within=used, block=4 * KiB))

    def watch(phase: str, work: Callable[[], object]) -> None:
        forget_peak()
        for site in sites.metered:
            site.peak = 0
        work()
        peaks[phase] = max(peak_memory(), *(site.peak for site in sites.metered))

    def cycle() -> None:
        sites.rotate()
        sites.running.one_pass()
        sites.standby.one_pass()
        sites.running.one_pass()

    watch("seed", sites.seed)
    sites.guest(blocks)
    watch("cycle", cycle)
    sites.fail_over_now()
    sites.guest(blocks)
    watch("exact", lambda: sites.resync(Way.EXACT))
    sites.fail_over_now()
    sites.guest(blocks)
    watch("differential", lambda: sites.resync(Way.DIFFERENTIAL))
    return peaks


if __name__ == "__main__":
    print(json.dumps(measure(Path(sys.argv[1]), *map(int, sys.argv[2:]))))
