"""The measured rate of digesting: what it is taken from, how long it is kept, and what it costs."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Barrier
from types import SimpleNamespace
from typing import Any, cast

import pytest

from homeport.agent.held import HeldItem
from homeport.agent.ledgers import Ledgers, item_folder
from homeport.agent.means import Means
from homeport.agent.measuring import KEPT, PIECE, PIECES, SECONDS, digest_rate
from homeport.dataplane.qcow2 import Qcow2FormatError
from homeport.model.extent import ExtentSet
from homeport.model.position import Position
from homeport.units import GiB, MiB
from tests.unit.model.builders import ITEM, chain, ledger


@dataclass
class Ticking:
    """A clock that only reading a disk moves."""

    at: datetime = datetime(2026, 1, 1, tzinfo=UTC)
    seconds: float = 0.0

    def now(self) -> datetime:
        return self.at

    def monotonic(self) -> float:
        return self.seconds


@dataclass
class Disk:
    """A disk of that speed; what was read of it is counted."""

    clock: Ticking
    speed: float
    size: int
    data: ExtentSet
    read_at: list[int] = field(default_factory=list)
    closed: bool = False

    def read(self, offset: int, length: int) -> bytes:
        self.read_at.append(offset)
        self.clock.seconds += length / self.speed
        return bytes(length)

    def allocated(self) -> ExtentSet:
        return self.data

    def close(self) -> None:
        self.closed = True


class Bench:
    """An agent's means around one disk."""

    def __init__(self, folder: Path, *, size: int, data: ExtentSet | None = None) -> None:
        self.clock = Ticking()
        whole = ExtentSet.of(0, size)
        self.disk = Disk(self.clock, 200 * MiB, size, whole if data is None else data)
        self.fails: Exception | None = None
        self.ledgers = Ledgers(folder / "agent")
        self.held = HeldItem(item_folder(folder / "pool", "web", ITEM), ledger(chain()))

    @property
    def means(self) -> Means:
        named: Any = SimpleNamespace(
            clock=self.clock, ledgers=self.ledgers, open_reader=self._open_reader
        )
        return cast("Means", named)

    def _open_reader(self, paths: Sequence[Path], base_format: str) -> Disk:
        assert paths == (self.held.path("base"),)
        assert base_format == "raw"
        if self.fails:
            raise self.fails
        return self.disk

    @property
    def rate(self) -> float:
        return digest_rate(self.means, self.held)


def test_it_is_the_rate_at_which_the_disk_was_read_and_digested(tmp_path: Path) -> None:
    bench = Bench(tmp_path, size=64 * MiB)
    assert bench.rate == pytest.approx(200 * MiB)
    assert bench.disk.closed
    assert len(bench.disk.read_at) == 64


def test_a_large_disk_is_sampled_evenly_and_not_read_whole(tmp_path: Path) -> None:
    bench = Bench(tmp_path, size=10 * GiB)
    bench.disk.speed = 100 * GiB
    assert bench.rate > 0
    assert len(bench.disk.read_at) == PIECES * PIECE // MiB
    assert max(bench.disk.read_at) > 8 * GiB


def test_a_slow_disk_is_given_little_time(tmp_path: Path) -> None:
    bench = Bench(tmp_path, size=GiB)
    bench.disk.speed = 40 * MiB
    assert bench.rate == pytest.approx(40 * MiB)
    assert bench.clock.seconds <= SECONDS + PIECE / bench.disk.speed


def test_holes_are_not_taken_for_reading(tmp_path: Path) -> None:
    data = ExtentSet.of(0, PIECE) | ExtentSet.of(GiB, PIECE)
    bench = Bench(tmp_path, size=2 * GiB, data=data)
    assert bench.rate == pytest.approx(200 * MiB)
    assert len(bench.disk.read_at) == 2 * PIECE // MiB


TELLS_NOTHING = {
    "a small disk": lambda bench: setattr(bench.disk, "data", ExtentSet.of(0, PIECE // 2)),
    "an empty disk": lambda bench: setattr(bench.disk, "data", ExtentSet()),
    "a damaged disk": lambda bench: setattr(
        bench, "fails", Qcow2FormatError(path=Path("x"), found="cut")
    ),
    "a disk that is gone": lambda bench: setattr(bench, "fails", FileNotFoundError("gone")),
    "a disk that is being filled": lambda bench: bench.held.__setattr__(
        "ledger", ledger(chain(whole=False))
    ),
    "no item": lambda bench: setattr(bench, "held", None),
}


@pytest.mark.parametrize("spoil", TELLS_NOTHING.values(), ids=TELLS_NOTHING)
def test_memory_is_measured_where_a_disk_tells_nothing(tmp_path: Path, spoil: Any) -> None:
    bench = Bench(tmp_path, size=64 * MiB)
    spoil(bench)
    steps = iter(range(1000))
    bench.clock.monotonic = lambda: next(steps) / 10  # type: ignore[method-assign]
    assert bench.rate > 0
    assert digest_rate(bench.means, None) == bench.rate


def test_where_no_time_passes_nothing_is_known_and_nothing_kept(tmp_path: Path) -> None:
    bench = Bench(tmp_path, size=0)
    assert bench.rate == 0.0
    assert not bench.ledgers.state.exists()


@pytest.mark.parametrize(
    ("later", "measured"),
    [
        (timedelta(0), False),
        (KEPT - timedelta(seconds=1), False),
        (KEPT, True),
        (timedelta(seconds=-1), True),
    ],
    ids=["at once", "within a day", "a day later", "the clock was put back"],
)
def test_it_is_measured_once_a_day(tmp_path: Path, later: timedelta, measured: bool) -> None:
    bench = Bench(tmp_path, size=64 * MiB)
    first = bench.rate
    bench.disk.speed /= 2
    bench.clock.at += later
    assert bench.rate == pytest.approx(first / 2 if measured else first)


def test_a_figure_that_cannot_be_read_is_measured_again(tmp_path: Path) -> None:
    bench = Bench(tmp_path, size=64 * MiB)
    first = bench.rate
    (bench.ledgers.state / "digest-rate.json").write_bytes(b"{")
    assert bench.rate == pytest.approx(first)


def test_the_layers_are_read_too(tmp_path: Path) -> None:
    bench = Bench(tmp_path, size=64 * MiB)
    bench.held = HeldItem(bench.held.folder, ledger(chain(layers=(1,))))
    asked: list[tuple[Path, ...]] = []

    def opened(paths: tuple[Path, ...], base_format: str) -> Disk:
        asked.append(paths)
        return bench.disk

    means = cast("Any", bench.means)
    means.open_reader = opened
    assert digest_rate(means, bench.held) > 0
    top = bench.held.ledger.disks[0].layers[0]
    assert top.position == Position(1, 1)
    assert asked == [(bench.held.path(top.path), bench.held.path("base"))]


def test_asked_for_several_items_at_once_it_is_measured_once(tmp_path: Path) -> None:
    """Two writers of one file would be in each other's way, and their rates each half of it."""
    bench = Bench(tmp_path, size=64 * MiB)
    together = Barrier(8)

    def asked(_number: int) -> float:
        together.wait()
        return digest_rate(bench.means, bench.held)

    with ThreadPoolExecutor(8) as pool:
        rates = set(pool.map(asked, range(8)))
    assert len(rates) == 1
    assert len(bench.disk.read_at) == len(set(bench.disk.read_at))
