"""
`make bench`, or `python -m benchmarks [--quick] [--only NAME] [--json FILE] [--scratch FOLDER]`.

Prints a table; the numbers are this machine's at this moment, so nothing fails by them. The scratch
folder needs about 20 GiB for the whole, 3 GiB with `--quick`, and is removed at the end.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from benchmarks import common_job, cycle, estimate, failover, memory, resync, seed
from benchmarks.ground import FULL, QUICK, Ground
from benchmarks.record import Row, show_seconds, table

BENCHES: Mapping[str, tuple[Callable[[Ground], Iterator[Row]], str]] = {
    "seed": (seed.run, seed.LIMIT),
    "cycle": (cycle.run, cycle.LIMIT),
    "exact": (resync.exact, resync.LIMIT),
    "differential": (resync.differential, resync.LIMIT),
    "failover": (failover.run, failover.LIMIT),
    "memory": (memory.run, memory.LIMIT),
    "common-job": (common_job.run, common_job.LIMIT),
    "estimate": (estimate.run, estimate.LIMIT),
}


def main() -> int:
    """Run what was asked for."""
    asked = _arguments()
    scale = QUICK if asked.quick else FULL
    folder = Path(tempfile.mkdtemp(prefix="homeport-bench-", dir=asked.scratch))
    print(f"{scale.name} scale on {_machine()}; below {folder.parent}\n", file=sys.stderr)
    rows: list[Row] = []
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as a hang-up by `timeout`
    try:
        for row in _rows(Ground(folder=folder, scale=scale), asked.only or list(BENCHES)):
            rows.append(row)  # noqa: PERF402 - what is done is shown, also when the rest is stopped
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
    finally:
        shutil.rmtree(folder)
    print(table(rows))
    if asked.json:
        Path(asked.json).write_text(_document(rows, scale.name))
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="benchmarks", description="Homeport beside plain tools.")
    parser.add_argument("--only", action="append", choices=list(BENCHES), help="one bench; again")
    parser.add_argument("--quick", action="store_true", help="small disks, few runs: for CI")
    parser.add_argument("--json", metavar="FILE", help="also write the rows there")
    parser.add_argument("--scratch", metavar="FOLDER", help="where disks lie; a folder in /tmp")
    return parser.parse_args()


def _rows(ground: Ground, names: list[str]) -> Iterator[Row]:
    for name in names:
        run, limit = BENCHES[name]
        print(f"{name}; limit: {limit}", file=sys.stderr)
        for row in run(ground):
            ours = show_seconds(row.ours.median) if row.ours else ""
            print(f"  {row.case}: {ours} {row.note}", file=sys.stderr, flush=True)
            yield row
        _clear(ground.folder)


def _clear(folder: Path) -> None:
    """Remove the rooms of a bench that is done; the disks they were made from stay."""
    for room in folder.iterdir():
        if room.is_dir():
            shutil.rmtree(room)


def _machine() -> str:
    return f"{os.cpu_count()} cores, Linux {platform.release()}, Python {platform.python_version()}"


def _document(rows: list[Row], scale: str) -> str:
    found = {"scale": scale, "machine": _machine(), "rows": [row.plain() for row in rows]}
    return json.dumps(found, indent=1, default=str) + "\n"


if __name__ == "__main__":
    sys.exit(main())
