from __future__ import annotations

import tracemalloc
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from homeport.dataplane.findings import Findings
from homeport.dataplane.layout import DamagedObjectError, ItemStore, RepeatedPositionError
from homeport.dataplane.objects import StoreUnreachableError
from homeport.dataplane.pipeline import Control
from homeport.dataplane.qcow2 import ChainReader
from homeport.dataplane.resync import Comparison, answer_digests
from homeport.dataplane.shipping import ship_difference
from homeport.dataplane.wrappers import MeteredStore
from homeport.errors import CancelledError
from homeport.model.extent import Extent, ExtentSet, union_of
from homeport.model.position import Position
from homeport.providers.store.memory import MemoryStore
from homeport.units import GiB, KiB, MiB, TiB
from tests.faults import Fault, FaultyStore
from tests.unit.dataplane.points import (
    BLOCK,
    DISK,
    FREE,
    SIZE,
    at,
    content,
    flipped,
    items_of,
    land,
    manifest_of,
    overwrite,
    random_bytes,
    raw_reader,
    sparse,
    stored,
)

NEW = at(0, epoch=2)
WINDOW = 4 * MiB
SHARED = {MiB: random_bytes(4 * MiB, "shared"), 10 * MiB: b"t" * 512}
WRITTEN = {2 * MiB + 5: b"changed", 6 * MiB: b"new here", 10 * MiB + 511: b"!"}
DIFFERENT = ExtentSet([Extent(2 * MiB, BLOCK), Extent(6 * MiB, BLOCK), Extent(10 * MiB, 512)])


@dataclass
class Sides:
    """Two disks and what each side has read of its own."""

    folder: Path
    items: ItemStore = field(default_factory=items_of)
    size: int = SIZE
    old_size: int = SIZE
    window: int = WINDOW
    opened: list[ChainReader] = field(default_factory=list)

    def make(self, old: Mapping[int, bytes], running: Mapping[int, bytes]) -> None:
        self.old = sparse(self.folder / "old", old, size=self.old_size)
        self.running = sparse(self.folder / "running", running, size=self.size)
        self.reader = raw_reader(self.running)

    def comparison(
        self, position: Position = NEW, *, control: Control = FREE, size: int | None = None
    ) -> Comparison:
        return Comparison(
            self.items,
            position=position,
            disk=DISK,
            read=self.reader.read,
            size=size or self.size,
            allocated=self.reader.allocated(),
            control=control,
            window=self.window,
        )

    def answer(self, *, control: Control = FREE) -> bool:
        return answer_digests(self.items, disk=DISK, open_reader=self._open, control=control)

    def _open(self) -> ChainReader:
        self.opened.append(raw_reader(self.old))
        return self.opened[-1]

    def findings(self, *, control: Control = FREE) -> Findings:
        return Findings(
            lambda reins: self.comparison(control=reins), control=control, pause=self.answer
        )

    def find(self, *, control: Control = FREE) -> ExtentSet:
        with self.findings(control=control) as findings:
            return union_of(found.extents for found in findings)

    def truly_different(self) -> ExtentSet:
        ours, theirs = self.running.read_bytes(), self.old.read_bytes().ljust(self.size, b"\0")
        return ExtentSet(
            Extent(start, min(BLOCK, self.size - start))
            for start in range(0, self.size, BLOCK)
            if ours[start : start + BLOCK] != theirs[start : min(start + BLOCK, self.size)]
        )

    def close(self) -> None:
        self.reader.close()


@pytest.fixture
def sides(tmp_path: Path) -> Sides:
    made = Sides(tmp_path)
    made.make(SHARED, SHARED)
    with made.running.open("r+b") as file:
        for offset, body in WRITTEN.items():
            file.seek(offset)
            file.write(body)
    return made


def test_what_was_written_is_found_to_the_block(sides: Sides) -> None:
    assert sides.find() == DIFFERENT == sides.truly_different()


def test_the_fine_level_is_digested_while_the_other_side_does(sides: Sides) -> None:
    asking = sides.comparison()
    while asking.step():
        pass
    sides.answer()
    while asking.step():
        pass
    ahead = sides.reader.bytes_read
    while sides.answer() or asking.step():
        pass
    assert asking.found_between(0, SIZE) == DIFFERENT
    assert ahead > sides.reader.allocated().total
    windows = len({extent.start // WINDOW for extent in DIFFERENT})
    assert windows > 1
    assert sides.reader.bytes_read > ahead  # of one window at a time, not of all


def test_equal_disks_differ_nowhere_and_only_one_level_crosses(tmp_path: Path) -> None:
    sides = Sides(tmp_path)
    sides.make(SHARED, SHARED)
    assert sides.find() == ExtentSet.empty()
    assert not any("fine" in key for key in sides.items.list_keys())


def test_two_empty_disks_are_compared_without_reading(tmp_path: Path) -> None:
    sides = Sides(tmp_path)
    sides.make({}, {})
    assert sides.find() == ExtentSet.empty()
    assert sides.reader.bytes_read == sum(reader.bytes_read for reader in sides.opened) == 0


@settings(max_examples=15, deadline=None)
@given(st.data())
def test_any_two_disks_are_told_apart_exactly(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    drawn = st.dictionaries(st.integers(0, SIZE - 1), st.binary(min_size=1, max_size=3), max_size=6)
    grown = data.draw(st.sampled_from([0, -MiB, 512, 3 * MiB]), label="the old disk is longer by")
    sides = Sides(tmp_path_factory.mktemp("sides"), old_size=SIZE + grown)
    old, running = data.draw(drawn), data.draw(drawn)
    old = {place: body for place, body in old.items() if place + 3 < sides.old_size}
    running = {place: body for place, body in running.items() if place + 3 < SIZE}
    sides.make(SHARED | old if grown >= 0 else old, SHARED | running)
    found = sides.find()
    assert found == sides.truly_different()
    sides.close()


def test_each_side_reads_its_data_once_and_what_differs_once_more(sides: Sides) -> None:
    sides.find()
    for readers, path in (([sides.reader], sides.running), (sides.opened, sides.old)):
        assert 0 < sum(reader.bytes_read for reader in readers) <= _budget(path)


def _budget(path: Path) -> int:
    """Every MiB that holds something once, and once more those that differ."""
    with raw_reader(path) as reader:
        allocated = reader.allocated().aligned(MiB).clipped(SIZE)
    return allocated.total + (allocated & DIFFERENT.aligned(MiB)).total


def test_only_digests_cross(sides: Sides) -> None:
    metered = MeteredStore(sides.items.store)
    sides.items = items_of(store=metered)
    sides.find()
    blocks = SIZE // MiB + 3 * 256
    assert metered.counts().bytes_put < blocks * 16 + 16 * 300  # digests, and a head an object
    assert not any(b"changed" in stored(sides.items, key) for key in sides.items.list_keys())


def test_the_found_extents_shipped_make_the_old_disk_the_running_one(sides: Sides) -> None:
    shipped = ship_difference(
        sides.items,
        position=NEW,
        disk=DISK,
        read=sides.reader.read,
        extents=sides.find(),
        size=SIZE,
        before=None,
        control=FREE,
    )
    layer = sides.folder / "landed"
    land(sides.items, manifest_of(sides.items, NEW, at(5), shipped.image), layer)
    assert content(layer, sides.old) == sides.running.read_bytes()


def _step_until_waiting(comparison: Comparison) -> None:
    while comparison.step():
        pass


class TestSteps:
    def test_wait_for_the_other_side_without_blocking(self, sides: Sides) -> None:
        comparison = sides.comparison()
        _step_until_waiting(comparison)
        read = sides.reader.bytes_read
        assert read > 0  # it digested while it waited
        assert not comparison.step()
        assert not comparison.done
        assert sides.reader.bytes_read == read

    def test_the_other_side_has_nothing_to_do_before_it_is_asked_or_after_it_answered(
        self, sides: Sides
    ) -> None:
        assert not sides.answer()
        assert sides.opened == []
        sides.comparison().step()
        assert sides.answer()
        assert not sides.answer()
        assert len(sides.opened) == 1

    def test_read_only_so_far_ahead_of_the_other_side(self, tmp_path: Path) -> None:
        sides = Sides(tmp_path, size=40 * MiB, old_size=40 * MiB, window=MiB)
        body = {0: random_bytes(40 * MiB)}
        sides.make(body, body)
        comparison = sides.comparison()
        _step_until_waiting(comparison)
        assert sides.reader.bytes_read == 16 * MiB
        assert sides.find() == ExtentSet.empty()

    def test_wait_again_after_an_answer_was_found_damaged(self, sides: Sides) -> None:
        comparison = sides.comparison()
        comparison.step()
        sides.answer()
        overwrite(sides.items, sides.items.digest_key(NEW, DISK, "coarse-000000"), b"garbage")
        with pytest.raises(DamagedObjectError):
            _step_until_waiting(comparison)
        _step_until_waiting(comparison)  # nothing is raised for what is not there any more
        assert comparison.found_between(0, SIZE) != DIFFERENT
        for _ in range(9):
            sides.answer()
            _step_until_waiting(comparison)
        assert comparison.found_between(0, SIZE) == DIFFERENT

    @pytest.mark.parametrize("kind", ["coarse-000000", "fine-000000"])
    def test_do_not_make_again_what_nobody_needs_any_more(self, sides: Sides, kind: str) -> None:
        sides.find()
        sides.items.delete(sides.items.digest_key(NEW, DISK, kind))
        assert not sides.answer()

    def test_a_newer_question_ends_an_older_one(self, sides: Sides) -> None:
        sides.comparison(at(3, epoch=1)).step()
        sides.comparison().step()
        sides.answer()
        prefixes = {key.split("/")[1] for key in sides.items.list_keys("digests/")}
        answered = {key.split("/")[1] for key in sides.items.list_keys("digests/") if "held" in key}
        assert prefixes == {at(3).key, NEW.key}
        assert answered == {NEW.key}

    def test_another_size_under_the_same_position_is_refused(self, sides: Sides) -> None:
        sides.comparison().step()
        other = sides.comparison(size=SIZE + MiB)
        with pytest.raises(RepeatedPositionError):
            other.step()

    def test_a_version_with_other_windows_goes_on_in_those_of_the_question(
        self, sides: Sides
    ) -> None:
        sides.comparison().step()
        sides.answer()
        sides.window = 2 * WINDOW
        assert sides.find() == DIFFERENT

    @pytest.mark.parametrize("window", [0, MiB + 1], ids=["nought", "not whole MiB"])
    def test_an_impossible_window_is_refused(self, sides: Sides, window: int) -> None:
        sides.window = window
        with pytest.raises(ValueError, match="window"):
            sides.comparison()

    @pytest.mark.parametrize("side", ["running", "old"])
    def test_cancelled_stops_reading(self, sides: Sides, side: str) -> None:
        read: list[int] = []
        control = Control(cancelled=lambda: len(read) > 1, pace=read.append)
        if side == "running":
            with pytest.raises(CancelledError):
                sides.find(control=control)
        else:
            sides.comparison().step()
            with pytest.raises(CancelledError):
                sides.answer(control=control)
        assert len(read) <= 4
        assert sides.find() == DIFFERENT


class TestG2AKill:
    @pytest.mark.parametrize("nth", range(1, 16), ids="at object {}".format)
    @pytest.mark.parametrize("when", ["before", "after"])
    def test_at_any_object_loses_nothing_that_was_put(
        self, sides: Sides, nth: int, when: str
    ) -> None:
        store = MemoryStore()
        fault = Fault("put", nth=nth, when=when)  # type: ignore[arg-type]
        faulty = FaultyStore(store, (fault,))
        sides.items = items_of(store=faulty)
        try:
            sides.find()
        except StoreUnreachableError:
            before = sides.reader.bytes_read
            assert sides.find() == DIFFERENT  # everything in memory is gone
            assert sides.reader.bytes_read <= before + _budget(sides.running)
        else:
            assert nth > 10  # there are no more objects

    def test_after_the_end_answers_at_once(self, sides: Sides) -> None:
        assert sides.find() == DIFFERENT
        read, opened = sides.reader.bytes_read, len(sides.opened)
        assert sides.find() == DIFFERENT
        assert (sides.reader.bytes_read, len(sides.opened)) == (read, opened)


def _keys_of(sides: Sides) -> list[str]:
    sides.find()
    return [key for key in sides.items.list_keys() if "/same-" not in key]


@pytest.mark.parametrize(
    "damage",
    [
        lambda body: flipped(body, 0),
        lambda body: flipped(body, 0.5),
        lambda body: flipped(body, 1),
        lambda body: body[:-1],
        lambda body: b"",
    ],
    ids=["first bits", "middle", "last bits", "cut", "emptied"],
)
@pytest.mark.parametrize("kind", ["asked", "held", "coarse", "differ", "fine", "found"])
def test_g9_a_damaged_answer_is_found_and_made_again(
    sides: Sides, kind: str, damage: Callable[[bytes], bytes]
) -> None:
    """Damage the object as soon as it appears, once; both sides only go on with the next step."""
    comparison = sides.comparison()
    hurt: set[str] = set()
    refused: list[str] = []
    for _ in range(400):
        if comparison.done:
            break
        for turn in (comparison.step, sides.answer):
            try:
                turn()
            except DamagedObjectError as error:
                refused.append(error.key)
            for key in sides.items.list_keys():
                if f"/{kind}" in key and key not in hurt:
                    hurt.add(key)
                    overwrite(sides.items, key, damage(stored(sides.items, key)))
    assert hurt
    assert comparison.found_between(0, SIZE) == DIFFERENT
    assert all(f"/{kind}" in key for key in refused)
    if kind not in ("asked", "found"):  # those may never be read again in this run
        assert refused


def test_digests_of_other_blocks_are_not_compared(sides: Sides) -> None:
    keys = [key for key in _keys_of(sides) if "fine" in key]
    first, second = keys[:2]
    found = first.replace("fine", "found")
    sides.items.delete(found)
    overwrite(sides.items, first, stored(sides.items, second))
    with pytest.raises(DamagedObjectError, match="other blocks"):
        sides.find()
    assert not sides.items.exists(first)
    assert sides.find() == DIFFERENT


def _peak(folder: Path, size: int) -> int:
    folder.mkdir()
    sides = Sides(folder, size=size, old_size=size, window=4 * GiB)
    far = {size - MiB: random_bytes(64 * KiB)}
    sides.make(far, far | {size // 2: b"x"})
    tracemalloc.start()
    try:
        assert sides.find() == ExtentSet.of(size // 2, BLOCK)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_memory_does_not_grow_with_the_disk(tmp_path: Path) -> None:
    assert _peak(tmp_path / "large", TiB) < _peak(tmp_path / "small", 4 * GiB) + 2 * MiB
