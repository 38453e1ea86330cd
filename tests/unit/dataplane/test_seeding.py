from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from homeport.dataplane.bases import RawBase
from homeport.dataplane.layout import (
    DamagedObjectError,
    ForeignObjectError,
    ItemStore,
    RepeatedPositionError,
)
from homeport.dataplane.pipeline import Control
from homeport.dataplane.seeding import (
    SEED_PART,
    SeedPart,
    land_available_parts,
    land_seed,
    plan_parts,
    seed_positions,
    ship_part,
    ship_seed,
)
from homeport.errors import CancelledError
from homeport.model.extent import Extent, ExtentSet
from homeport.model.ids import Digest
from homeport.model.manifest import DiskImage, ImageKind, StoredObject, next_state
from homeport.providers.store.folder import open_folder
from homeport.units import GiB, KiB, MiB, TiB
from tests.unit.dataplane.points import (
    DISK,
    FREE,
    SIZE,
    at,
    flipped,
    items_of,
    overwrite,
    random_bytes,
    raw_reader,
    sparse,
    stored,
)

PART = MiB
DATA = {
    0: random_bytes(5 * KiB),
    3 * MiB - 2 * KiB: random_bytes(4 * KiB, "over the edge of two parts"),
    5 * MiB: bytes(64 * KiB),  # allocated, and zero
    7 * MiB: random_bytes(2 * MiB, "two whole parts"),
    10 * MiB: b"t" * 512,
}


@dataclass
class Seed:
    """One disk's seed, both sides; what is recorded outlives a crash, nothing else does."""

    folder: Path
    items: ItemStore = field(default_factory=items_of)
    size: int = SIZE
    part: int = PART
    shipped: dict[int, StoredObject] = field(default_factory=dict)
    landed: dict[int, Digest] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.disk = sparse(self.folder / "disk", DATA, size=self.size)
        self.base = self.folder / "base"

    def ship(
        self,
        *,
        record: Callable[[int, StoredObject], None] | None = None,
        control: Control = FREE,
        workers: int = 2,
    ) -> DiskImage:
        with raw_reader(self.disk) as reader:
            return ship_seed(
                self.items,
                position=at(0),
                disk=DISK,
                size=self.size,
                read=reader.read,
                allocated=reader.allocated(),
                done=dict(self.shipped),
                record=record or self.shipped.__setitem__,
                control=control,
                part=self.part,
                workers=workers,
            )

    def land(
        self,
        image: DiskImage,
        *,
        record: Callable[[int, Digest], None] | None = None,
        control: Control = FREE,
        workers: int = 2,
    ) -> None:
        base = RawBase(self.base, size=self.size)
        try:
            land_seed(
                self.items,
                image,
                position=at(0),
                base=base,
                done=dict(self.landed),
                record=record or self.landed.__setitem__,
                control=control,
                workers=workers,
            )
        finally:
            base.close()

    def land_early(self, *, control: Control = FREE) -> int:
        base = RawBase(self.base, size=self.size)
        try:
            return land_available_parts(
                self.items,
                position=at(0),
                disk=DISK,
                size=self.size,
                base=base,
                done=dict(self.landed),
                record=self.landed.__setitem__,
                control=control,
                part=self.part,
            )
        finally:
            base.close()

    def is_whole(self) -> bool:
        return self.base.read_bytes() == self.disk.read_bytes()


@pytest.fixture
def seed(tmp_path: Path) -> Seed:
    return Seed(tmp_path)


class TestThePlan:
    def test_leaves_out_what_holds_nothing(self) -> None:
        allocated = ExtentSet([Extent(0, 1), Extent(3 * MiB - 1, 2), Extent(10 * MiB, 512)])
        assert plan_parts(SIZE, allocated, MiB) == (
            SeedPart(0, 0, MiB),
            SeedPart(2, 2 * MiB, MiB),
            SeedPart(3, 3 * MiB, MiB),
            SeedPart(10, 10 * MiB, 512),
        )

    def test_of_an_empty_disk_is_empty(self) -> None:
        assert plan_parts(TiB, ExtentSet.empty()) == ()

    @given(st.lists(st.tuples(st.integers(0, SIZE), st.integers(0, MiB)), max_size=8))
    def test_covers_all_data_once_and_within_the_disk(self, drawn: list[tuple[int, int]]) -> None:
        allocated = ExtentSet(Extent(*one) for one in drawn)
        parts = plan_parts(SIZE, allocated, 640 * KiB)
        covered = ExtentSet(Extent(part.start, part.length) for part in parts)
        assert covered.covers(allocated.clipped(SIZE))
        assert covered.total == sum(part.length for part in parts)
        assert covered.end <= SIZE
        assert all(allocated.within(part.start, part.length) for part in parts)


class TestAWholeSeed:
    @pytest.mark.parametrize("workers", [1, 2, 5], ids="{} workers".format)
    def test_lands_as_the_disk_and_stays_sparse(self, seed: Seed, workers: int) -> None:
        image = seed.ship(workers=workers)
        seed.land(image, workers=workers)
        assert seed.is_whole()
        assert seed.base.stat().st_blocks <= seed.disk.stat().st_blocks
        assert [stored.start for stored in image.objects] == sorted(
            stored.start for stored in image.objects
        )
        assert (image.kind, image.size) == (ImageKind.SEED, SIZE)
        assert image.state == next_state(None, image.digest)

    def test_of_an_empty_disk_is_an_empty_base(self, seed: Seed) -> None:
        sparse(seed.disk, {})
        image = seed.ship()
        seed.land(image)
        assert image.objects == ()
        assert seed.is_whole()
        assert seed.base.stat().st_blocks == 0

    def test_does_not_depend_on_the_order_of_its_parts(self, tmp_path: Path) -> None:
        images = []
        for workers in (1, 4):
            folder = tmp_path / str(workers)
            folder.mkdir()
            images.append(Seed(folder).ship(workers=workers))
        assert images[0] == images[1]

    def test_reads_no_hole_and_nothing_twice(self, seed: Seed) -> None:
        with raw_reader(seed.disk) as reader:
            ship_seed(
                seed.items,
                position=at(0),
                disk=DISK,
                size=SIZE,
                read=reader.read,
                allocated=reader.allocated(),
                done={},
                record=seed.shipped.__setitem__,
                control=FREE,
                part=PART,
            )
            assert reader.bytes_read == reader.allocated().total

    def test_reports_up_to_the_whole_on_both_sides(self, seed: Seed) -> None:
        seen: list[tuple[int, int]] = []
        control = Control(progress=lambda *sums: seen.append(sums))
        image = seed.ship(control=control)
        assert seen == sorted(seen)
        assert seen[-1][0] == seen[-1][1] == sum(stored.length for stored in image.objects)
        seen.clear()
        seed.land(image, control=control)
        assert seen[-1][0] == seen[-1][1] == sum(stored.length for stored in image.objects)

    def test_cancelled_goes_on_with_what_is_recorded(self, seed: Seed) -> None:
        control = Control(cancelled=lambda: len(seed.shipped) >= 2)
        with pytest.raises(CancelledError):
            seed.ship(control=control, workers=1)
        assert len(seed.shipped) == 2
        image = seed.ship()
        seed.land(image)
        assert seed.is_whole()


PARTS = len(plan_parts(SIZE, ExtentSet(Extent(at, len(body)) for at, body in DATA.items()), PART))


class Killed(Exception):  # noqa: N818 - it stands for a process that is no more
    """The process ends here."""


def _killed(before: bool, nth: int, record: Callable[..., None]) -> Callable[..., None]:
    calls = 0

    def killing(*arguments: object) -> None:
        nonlocal calls
        calls += 1
        if calls == nth and before:
            raise Killed
        record(*arguments)
        if calls == nth:
            raise Killed

    return killing


@pytest.mark.parametrize("before", [True, False], ids=["before the record", "after the record"])
@pytest.mark.parametrize("nth", range(1, PARTS + 1), ids="at part {}".format)
@pytest.mark.parametrize("workers", [1, 2], ids="{} workers".format)
class TestG2AKill:
    def test_while_shipping_costs_one_part_a_worker(
        self, seed: Seed, before: bool, nth: int, workers: int
    ) -> None:
        whole = Seed.ship(seed, record=lambda *_: None)
        with pytest.raises(Killed):
            seed.ship(record=_killed(before, nth, seed.shipped.__setitem__), workers=workers)
        known = set(seed.shipped)
        assert len(known) >= nth - before
        again: dict[int, StoredObject] = {}

        def record(index: int, stored: StoredObject) -> None:
            again[index] = stored

        assert seed.ship(record=record) == whole
        assert known.isdisjoint(again)
        assert len(known | again.keys()) == PARTS

    def test_while_landing_costs_one_part_a_worker(
        self, seed: Seed, before: bool, nth: int, workers: int
    ) -> None:
        image = seed.ship()
        with pytest.raises(Killed):
            seed.land(
                image,
                record=_killed(before, nth, seed.landed.__setitem__),
                workers=workers,
            )
        known = set(seed.landed)
        seed.land(image, record=_checked_new(known, seed.landed))
        assert seed.is_whole()
        assert len(seed.landed) == PARTS


def _checked_new(known: set[int], landed: dict[int, Digest]) -> Callable[[int, Digest], None]:
    def record(index: int, digest: Digest) -> None:
        assert index not in known
        landed[index] = digest

    return record


def test_g2_a_part_is_recorded_only_when_it_is_on_disk(
    seed: Seed, monkeypatch: pytest.MonkeyPatch
) -> None:
    unsynced = False

    class Watched(RawBase):
        def write(self, offset: int, body: bytes) -> None:
            nonlocal unsynced
            unsynced = True
            super().write(offset, body)

        def flush(self) -> None:
            nonlocal unsynced
            super().flush()
            unsynced = False

    image = seed.ship()
    states: list[bool] = []
    monkeypatch.setattr("tests.unit.dataplane.test_seeding.RawBase", Watched)
    seed.land(image, record=lambda *_: states.append(unsynced), workers=1)
    assert states == [False] * PARTS


class TestBeforeTheManifest:
    def test_parts_land_as_they_come_and_only_once(self, seed: Seed) -> None:
        with pytest.raises(Killed):
            seed.ship(record=_killed(False, 3, seed.shipped.__setitem__), workers=1)
        assert seed_positions(seed.items) == (at(0),)
        assert seed.land_early() == 3
        assert seed.land_early() == 0
        image = seed.ship()
        assert seed.land_early() == PARTS - 3
        seed.land(image, record=_checked_new(set(range(100)), {}))  # nothing is left to land
        assert seed.is_whole()

    def test_a_part_that_is_not_the_manifests_is_landed_again(self, seed: Seed) -> None:
        image = seed.ship()
        sound = {stored.key: _body(seed, stored) for stored in image.objects}
        _put_part(seed, 7, random_bytes(MiB, "another content"))
        assert seed.land_early() == PARTS
        assert not seed.is_whole()
        overwrite(seed.items, seed.items.seed_key(at(0), DISK, 7), sound[_key(seed, 7)])
        again: dict[int, Digest] = {}
        seed.land(image, record=again.__setitem__)
        assert set(again) == {7}
        assert seed.is_whole()

    def test_what_the_manifest_does_not_have_is_emptied(self, seed: Seed) -> None:
        image = seed.ship()
        _put_part(seed, 6, random_bytes(MiB, "of an earlier plan"))
        seed.land_early()
        assert 6 in seed.landed
        seed.land(image)
        assert seed.is_whole()

    def test_an_attempt_that_broke_off_leaves_nothing_in_a_part(self, seed: Seed) -> None:
        image = seed.ship()
        base = RawBase(seed.base, size=SIZE)
        base.write(0, b"#" * SIZE)  # whatever was there and was not recorded
        base.close()
        seed.land(image)
        assert seed.is_whole()


def _key(seed: Seed, index: int) -> str:
    return seed.items.seed_key(at(0), DISK, index)


def _body(seed: Seed, one: StoredObject) -> bytes:
    return stored(seed.items, one.key)


def _put_part(seed: Seed, index: int, body: bytes, *, start: int | None = None) -> StoredObject:
    """A sound part with other content under a part's key."""
    begin = index * PART if start is None else start
    return ship_part(
        seed.items,
        position=at(0),
        disk=DISK,
        size=SIZE,
        part=SeedPart(index, begin, len(body)),
        read=lambda offset, length: body[offset - begin : offset - begin + length],
        allocated=ExtentSet.of(begin, len(body)),
        control=FREE,
        replace=True,
    )


class TestARepeatedPart:
    def test_is_kept(self, seed: Seed) -> None:
        first = seed.ship()
        seed.shipped.clear()
        assert seed.ship() == first

    def test_with_other_content_is_refused(self, seed: Seed) -> None:
        seed.ship()
        seed.shipped.clear()
        sparse(seed.disk, DATA | {0: b"other"})
        with pytest.raises(RepeatedPositionError) as caught:
            seed.ship()
        assert caught.value.key == _key(seed, 0)


class TestADamagedPart:
    @pytest.mark.parametrize(
        "damage",
        [
            *(lambda body, place=place: flipped(body, place / 6) for place in range(7)),
            lambda body: body[:-1],
            lambda body: body[: len(body) // 2],
            lambda body: body + b"\0",
            lambda body: None,
        ],
        ids=[
            *(f"a bit turned at {place}/6" for place in range(7)),
            "one byte cut",
            "half cut",
            "one byte more",
            "missing",
        ],
    )
    def test_g9_is_found_and_not_recorded_and_others_go_on(
        self, seed: Seed, damage: Callable[[bytes], bytes | None]
    ) -> None:
        image = seed.ship()
        key = _key(seed, 7)
        sound = stored(seed.items, key)
        body = damage(sound)
        seed.items.delete(key)
        if body is not None:
            overwrite(seed.items, key, body)
        with pytest.raises(DamagedObjectError) as caught:
            seed.land(image)
        assert caught.value.key == key
        assert 7 not in seed.landed
        overwrite(seed.items, key, sound)
        seed.land(image)
        assert seed.is_whole()

    def test_g9_of_another_item_is_refused(self, seed: Seed, tmp_path: Path) -> None:
        image = seed.ship()
        folder = tmp_path / "other"
        folder.mkdir()
        other = Seed(folder, items_of("vm-2"))
        other.ship()
        overwrite(seed.items, _key(seed, 7), stored(other.items, _key(other, 7)))
        with pytest.raises(ForeignObjectError) as caught:
            seed.land(image)
        assert caught.value.key == _key(seed, 7)

    def test_g9_in_the_place_of_another_is_refused(self, seed: Seed) -> None:
        image = seed.ship()
        overwrite(seed.items, _key(seed, 7), stored(seed.items, _key(seed, 8)))
        with pytest.raises(ForeignObjectError, match="reaches out"):
            seed.land(image)

    @pytest.mark.parametrize("name", ["x", "7", "0000007", "000099"], ids="named {}".format)
    def test_that_is_none_of_the_disk_is_refused(self, seed: Seed, name: str) -> None:
        seed.ship()
        key = seed.items.seed_prefix(at(0), DISK) + name
        overwrite(seed.items, key, stored(seed.items, _key(seed, 7)))
        with pytest.raises(ForeignObjectError) as caught:
            seed.land_early()
        assert caught.value.key == key

    def test_is_shipped_again_on_request(self, seed: Seed) -> None:
        image = seed.ship()
        overwrite(seed.items, _key(seed, 7), b"garbage")
        seed.shipped.pop(7)
        assert seed.ship() == image
        seed.land(image)
        assert seed.is_whole()


def _peak(folder: Path, size: int) -> int:
    """The most memory a seed of a disk takes, shipped and landed; a few MiB of it are data."""
    folder.mkdir()
    items = items_of(store=open_folder(folder / "store", create=True))
    seed = Seed(folder, items, size=size, part=SEED_PART)
    with seed.disk.open("r+b") as file:
        file.seek(size - 2 * MiB)
        file.write(random_bytes(2 * MiB, "the far end"))
    tracemalloc.start()
    try:
        seed.land(seed.ship())
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_memory_and_room_do_not_grow_with_the_disk(tmp_path: Path) -> None:
    small, large = _peak(tmp_path / "small", GiB), _peak(tmp_path / "large", TiB)
    # How two workers' frames of 1 MiB happen to overlap moves a peak by 1 to 2 MiB, at any size; a
    # byte kept for each 4 KiB or 16 for each MiB of the disk would be 16 MiB and more.
    assert large < small + 4 * MiB
    base, disk = tmp_path / "large" / "base", tmp_path / "large" / "disk"
    assert base.stat().st_size == TiB
    assert base.stat().st_blocks <= disk.stat().st_blocks
    with base.open("rb") as ours, disk.open("rb") as theirs:
        for place in (0, 7 * MiB, TiB - 2 * MiB):
            ours.seek(place)
            theirs.seek(place)
            assert ours.read(2 * MiB) == theirs.read(2 * MiB)
