"""
How fast this host digests, measured: what the estimate of a differential resync rests on.

A few pieces, spread evenly over a disk of the item, are read through its chain and digested as a
resync does it; a disk too small to tell anything is left to a piece of memory. The figure is kept
in the agent's own folder for a day, so that asking for a review costs nothing the second time.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from threading import Lock

from homeport.agent.held import HeldItem
from homeport.agent.ledgers import write_durably
from homeport.agent.means import Means
from homeport.dataplane.digest import COARSE, Read, digest_blocks
from homeport.errors import HomeportError
from homeport.model.codec import from_json, to_json
from homeport.model.extent import ExtentSet
from homeport.model.ledger import DiskChain
from homeport.units import MiB

KEPT = timedelta(days=1)
"""A host's disks get slower and faster, but not by the hour."""
PIECE = 16 * MiB  # two of the windows that the two threads of a digesting take
PIECES = 8
SECONDS = 0.5
"""A review waits for this; a disk of 30 MB/s still gets through one piece."""
ONE_AT_A_TIME = Lock()
"""Facts of several items may be asked at once: they would share the host's speed, and the file."""


@dataclass(frozen=True, kw_only=True, slots=True)
class DigestRate:
    """What was measured, in bytes a second, and when."""

    rate: float
    measured_at: datetime


def digest_rate(means: Means, held: HeldItem | None) -> float:
    """
    Bytes a second this host digests; 0 where no time passes that could be measured.

    Without an item, or with small disks only, it is the rate in memory. At most once a day.
    """
    with ONE_AT_A_TIME:
        now = means.clock.now()
        kept = _kept(_path(means))
        if kept is not None and timedelta(0) <= now - kept.measured_at < KEPT:
            return kept.rate
        rate = (_of_disks(means, held) if held else 0.0) or _of_memory(means)
        if rate > 0:
            _path(means).parent.mkdir(parents=True, exist_ok=True)
            body = to_json(DigestRate, DigestRate(rate=rate, measured_at=now))
            write_durably(_path(means), body)
        return rate


def _path(means: Means) -> Path:
    return means.ledgers.state / "digest-rate.json"


def _kept(path: Path) -> DigestRate | None:
    try:
        return from_json(DigestRate, path.read_bytes())
    except (HomeportError, OSError):
        return None  # measured anew


def _of_disks(means: Means, held: HeldItem) -> float:
    """The rate on the first disk that is large enough; 0 where there is none that can be read."""
    for chain in held.ledger.disks:
        try:
            rate = _of_disk(means, held, chain)
        except (HomeportError, OSError):
            continue  # the facts say of each disk whether it can be read
        if rate > 0:
            return rate
    return 0.0


def _of_disk(means: Means, held: HeldItem, chain: DiskChain) -> float:
    if not chain.whole:
        return 0.0
    names = [chain.base, *(layer.path for layer in chain.layers)]
    paths = tuple(held.path(name) for name in reversed(names))
    with closing(means.open_reader(paths, chain.disk.format.value)) as reader:
        return _measure(means, reader.read, reader.size, _spread(reader.allocated(), reader.size))


def _of_memory(means: Means) -> float:
    body = memoryview(bytes(PIECE))
    whole = [ExtentSet.of(0, PIECE)] * 2
    return _measure(means, lambda at, length: bytes(body[at : at + length]), PIECE, whole)


def _spread(allocated: ExtentSet, size: int) -> Iterable[ExtentSet]:
    """Pieces of what holds data, evenly spread: what the page cache has and what it has not."""
    data = allocated.aligned(COARSE).clipped(size)
    numbers = data.blocks(PIECE)
    chosen = numbers[:: max(1, len(numbers) // PIECES)][:PIECES]
    return (data.within(int(number) * PIECE, PIECE) for number in chosen)


def _measure(means: Means, read: Read, size: int, pieces: Iterable[ExtentSet]) -> float:
    """The rate over so many pieces as there is time for; 0 when they are no whole one together."""
    began = means.clock.monotonic()
    done = 0
    for piece in pieces:
        digest_blocks(read, size=size, block=COARSE, within=piece)
        done += piece.total
        if means.clock.monotonic() - began >= SECONDS:
            break
    took = means.clock.monotonic() - began
    return done / took if took > 0 and done >= PIECE else 0.0
