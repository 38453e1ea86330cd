"""What a comparison finds is shipped while it goes on, in the disk's order, and nothing is lost."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from homeport.dataplane.findings import Findings
from homeport.dataplane.objects import StoreUnreachableError
from homeport.dataplane.pipeline import Control
from homeport.dataplane.ports import Body, ObjectStore
from homeport.dataplane.resync import Comparison, answer_digests
from homeport.dataplane.shipping import Shipped, ship_difference, ship_found
from homeport.dataplane.wrappers import RetryingStore
from homeport.errors import CancelledError
from homeport.model.extent import Extent, ExtentSet, union_of
from homeport.providers.store.memory import MemoryStore
from homeport.units import MiB
from tests.faults import Fault, FaultyStore, unreachable
from tests.unit.dataplane.points import BLOCK, DISK, FREE, at, items_of, raw_reader, sparse

WINDOW = 4 * MiB
SIZE = 3 * WINDOW
NEW = at(0, epoch=2)
SHARED = {number * WINDOW: b"shared" for number in range(3)}
FIRST, LAST = Extent(MiB, BLOCK), Extent(2 * WINDOW + MiB, BLOCK)
WRITTEN = {FIRST.start: b"first", LAST.start: b"last"}
PATIENCE = 15.0  # seconds after which the old side answers after all: what waits for it has failed


class Pair:
    """The running side's disk and the old one, which is digested while `answering` is set."""

    def __init__(
        self, folder: Path, written: Mapping[int, bytes], store: ObjectStore | None = None
    ) -> None:
        self.items = items_of(store=store or MemoryStore())
        self.old = sparse(folder / "old", SHARED, size=SIZE)
        self.running = raw_reader(sparse(folder / "running", {**SHARED, **written}, size=SIZE))
        self.answering = threading.Event()
        self.answering.set()
        self.taken: list[Extent] = []  # what was read to be shipped
        self.first_taken = threading.Event()

    def findings(self, control: Control = FREE) -> Findings:
        return Findings(self._begin, control=control, pause=self._pause)

    def _begin(self, control: Control) -> Comparison:
        return Comparison(
            self.items,
            position=NEW,
            disk=DISK,
            read=self.running.read,
            size=SIZE,
            allocated=self.running.allocated(),
            control=control,
            window=WINDOW,
        )

    def _pause(self) -> None:
        if self.answering.wait(0.01):
            answer_digests(
                self.items, disk=DISK, open_reader=lambda: raw_reader(self.old), control=FREE
            )

    def known_but_the_last(self) -> None:
        """An earlier try knew all but the last window, and nobody answers for a long time now."""
        with self.findings() as findings:
            list(findings)
        for key in self.items.list_keys("digests/"):
            if key.endswith(("found-000002", "fine-000002")):
                self.items.delete(key)
        self.answering.clear()
        late = threading.Timer(PATIENCE, self.answering.set)
        late.daemon = True
        late.start()

    def ship(self, findings: Findings, control: Control = FREE) -> Shipped:
        return ship_found(
            self.items,
            position=NEW,
            disk=DISK,
            read=self._take,
            findings=findings,
            size=SIZE,
            control=control,
        )

    def _take(self, offset: int, length: int) -> bytes:
        self.taken.append(Extent(offset, length))
        self.first_taken.set()
        return self.running.read(offset, length)

    def as_known_before(self, extents: ExtentSet) -> Shipped:
        """The delta of extents that need no comparison."""
        return ship_difference(
            items_of(),
            position=NEW,
            disk=DISK,
            read=self.running.read,
            extents=extents,
            size=SIZE,
            before=None,
            control=FREE,
        )

    @property
    def put(self) -> bool:
        """Whether the delta is in the store."""
        return self.items.exists(self.items.delta_key(NEW, DISK))


@pytest.fixture
def pair(tmp_path: Path) -> Pair:
    return Pair(tmp_path, WRITTEN)


def test_windows_come_out_while_the_last_is_not_compared(pair: Pair) -> None:
    pair.known_but_the_last()
    with pair.findings() as findings:
        coming = iter(findings)
        first, second = next(coming), next(coming)
        assert not pair.answering.is_set(), "it waited for the last one"
        assert (first.upto, first.extents) == (WINDOW, ExtentSet([FIRST]))
        assert (second.upto, second.extents) == (2 * WINDOW, ExtentSet.empty())
        pair.answering.set()
        (last,) = coming
    assert (last.upto, last.extents) == (SIZE, ExtentSet([LAST]))


def test_what_is_known_is_shipped_while_the_last_window_is_not_compared(pair: Pair) -> None:
    pair.known_but_the_last()
    with pair.findings() as findings, ThreadPoolExecutor(1) as pool:
        shipping = pool.submit(pair.ship, findings)
        assert pair.first_taken.wait(2 * PATIENCE)
        assert not pair.answering.is_set(), "it waited for the last one"
        assert pair.taken == [FIRST]
        assert not pair.put  # nothing half done is seen
        pair.answering.set()
        shipped = shipping.result(2 * PATIENCE)
    assert pair.taken == [FIRST, LAST]
    assert shipped == pair.as_known_before(ExtentSet([FIRST, LAST]))


@settings(max_examples=30, deadline=None)
@given(st.sets(st.integers(0, SIZE // BLOCK - 1), max_size=12))
def test_the_delta_is_that_of_extents_known_before(blocks: set[int]) -> None:
    with TemporaryDirectory() as folder:
        pair = Pair(Path(folder), {block * BLOCK: b"written" for block in blocks})
        with pair.findings() as findings:
            shipped = pair.ship(findings)
            found = list(findings)
    different = ExtentSet(Extent(block * BLOCK, BLOCK) for block in blocks)
    assert union_of(one.extents for one in found) == different
    ends = [0, *(one.upto for one in found)]
    assert ends == sorted(set(ends))
    assert ends[-1] == SIZE
    for (start, end), one in zip(pairwise(ends), found, strict=True):
        assert one.extents == different.within(start, end - start)
    assert shipped == pair.as_known_before(different)


class BreaksOff(MemoryStore):
    """The first delta breaks off behind its first frame."""

    broken = False

    def put(self, key: str, body: Body, *, create_only: bool = False) -> None:
        if key.endswith("delta") and not self.broken:
            self.broken = True
            for _ in zip(range(2), body, strict=False):  # what it is, and a frame
                pass
            raise unreachable()
        super().put(key, body, create_only=create_only)


def test_a_put_that_breaks_off_is_repeated_from_the_disks_start(tmp_path: Path) -> None:
    store = BreaksOff()
    pair = Pair(tmp_path, WRITTEN, RetryingStore(store, [timedelta(0)], lambda _: None))
    with pair.findings() as findings:
        shipped = pair.ship(findings)
    assert store.broken
    assert pair.taken == [FIRST, LAST, FIRST, LAST]
    assert shipped == pair.as_known_before(ExtentSet([FIRST, LAST]))


class TestProgress:
    def test_is_of_the_disk_and_ends_at_its_end(self, pair: Pair) -> None:
        seen: list[tuple[int, int]] = []
        control = Control(progress=lambda *sums: seen.append(sums))
        with pair.findings(control) as findings:
            pair.ship(findings, control)
        assert seen == sorted(set(seen))
        assert seen[-1] == (SIZE, SIZE)

    def test_is_told_where_nothing_differs(self, tmp_path: Path) -> None:
        seen: list[tuple[int, int]] = []
        control = Control(progress=lambda *sums: seen.append(sums))
        pair = Pair(tmp_path, {LAST.start: b"last"})
        with pair.findings(control) as findings:
            pair.ship(findings, control)
        assert [done for done, _ in seen[:2]] == [WINDOW, 2 * WINDOW]


class TestAnEnd:
    def test_of_the_context_stops_the_comparison(self, pair: Pair) -> None:
        pair.answering.clear()  # it would wait for ever
        with pair.findings():
            pass
        assert not [one for one in threading.enumerate() if one.name == "compare"]

    def test_by_who_takes_stops_it_too(self, pair: Pair) -> None:
        pair.answering.clear()
        with pytest.raises(ZeroDivisionError), pair.findings():
            raise ZeroDivisionError
        assert not [one for one in threading.enumerate() if one.name == "compare"]

    def test_asked_for_ends_the_shipping(self, pair: Pair) -> None:
        pair.known_but_the_last()
        control = Control(cancelled=pair.first_taken.is_set)
        with pair.findings(control) as findings, pytest.raises(CancelledError):
            pair.ship(findings, control)
        assert not pair.put

    def test_by_a_store_that_is_away_is_told_to_who_takes(self, tmp_path: Path) -> None:
        away = FaultyStore(MemoryStore(), (Fault("put", nth=3, when="before"),))
        pair = Pair(tmp_path, WRITTEN, away)
        with pair.findings() as findings, pytest.raises(StoreUnreachableError):
            pair.ship(findings)
        assert not pair.put
        with pair.findings() as findings:  # the next try goes on
            assert pair.ship(findings) == pair.as_known_before(ExtentSet([FIRST, LAST]))
