from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from homeport.dataplane.landing import (
    ForkedHistoryError,
    OutdatedEpochError,
    next_manifest,
    read_manifest,
)
from homeport.dataplane.layout import DamagedObjectError, ForeignObjectError, ItemStore
from homeport.dataplane.pipeline import Control
from homeport.dataplane.shipping import ship_manifest
from homeport.errors import CancelledError, HomeportError, IntegrityError
from homeport.model.extent import Extent
from homeport.model.ids import Digest
from homeport.model.manifest import (
    HistoryMismatchError,
    ImageKind,
    Manifest,
    UnknownFormatError,
    encode_manifest,
)
from homeport.model.position import Position, PositionMismatchError
from homeport.units import KiB, MiB
from tests.unit.dataplane.points import (
    BLOCK,
    DISK,
    SEEDED,
    SIZE,
    Source,
    at,
    content,
    flipped,
    items_of,
    land,
    manifest_of,
    overwrite,
    random_bytes,
    sparse,
    stored,
    write_layer,
)

BEFORE = {DISK: SEEDED}


@pytest.fixture
def source(tmp_path: Path) -> Source:
    """A source whose replica stands at 1-0."""
    return Source(items_of(), tmp_path, position=at(0))


def following(items: ItemStore, after: Position | None = None, epoch: int = 1) -> Manifest | None:
    return next_manifest(items, after=after or at(0), states=BEFORE, epoch=epoch)


class TestWhatComesNext:
    def test_nothing_in_an_empty_store(self) -> None:
        assert following(items_of()) is None

    def test_points_come_in_order_until_there_are_no_more(self, source: Source) -> None:
        shipped = [source.ship(at(sequence)) for sequence in (1, 2, 3)]
        position, states, landed = at(0), dict(BEFORE), []
        while found := next_manifest(source.items, after=position, states=states, epoch=1):
            landed.append(found)
            position, states = found.position, dict(found.states)
        assert landed == shipped

    def test_what_has_landed_is_not_looked_at_again(self, source: Source) -> None:
        first = source.ship(at(1))
        overwrite(source.items, source.items.manifest_key(at(1)), b"garbage")
        assert next_manifest(source.items, after=at(1), states=first.states, epoch=1) is None

    def test_objects_without_a_manifest_are_no_point(self, source: Source) -> None:
        source.ship_disk(at(1), write_layer(source.folder / "layer", {0: b"x" * BLOCK}))
        assert following(source.items) is None

    def test_a_first_point_follows_nothing(self, tmp_path: Path) -> None:
        source = Source(items_of(), tmp_path)
        shipped = source.ship(at(0))
        found = next_manifest(source.items, after=None, states=BEFORE, epoch=1)
        assert found == shipped

    def test_a_new_epoch_goes_on_from_the_last_point_of_the_old_one(self, source: Source) -> None:
        shipped = source.ship(at(0, epoch=3))
        assert following(source.items, epoch=3) == shipped

    def test_a_long_backlog_is_not_read_at_every_step(self, source: Source) -> None:
        for sequence in range(1, 9):
            source.ship(at(sequence))
        for sequence in range(4, 9):  # would be found damaged if it were read
            overwrite(source.items, source.items.manifest_key(at(sequence)), b"garbage")
        assert following(source.items) is not None


def _gap(source: Source) -> None:
    source.ship(at(1))
    source.ship(at(2))
    source.items.delete(source.items.manifest_key(at(1)))


def _other_history(source: Source) -> None:
    source.state = Digest("99" * 32)
    source.ship(at(1))


def _fork_in_an_epoch(source: Source) -> None:
    source.ship(at(1))
    source.position, source.state = at(0), SEEDED
    source.ship(at(2))


def _fork_of_a_later_owner(source: Source) -> None:
    for sequence in (1, 2, 3):
        source.ship(at(sequence))
    source.position, source.state = at(0), SEEDED
    source.ship(at(0, epoch=2))


def _later_owner(source: Source) -> None:
    source.ship(at(1, epoch=3))


def _manifest_of_another_position(source: Source) -> None:
    source.ship(at(1))
    source.ship(at(2))
    second = stored(source.items, source.items.manifest_key(at(2)))
    overwrite(source.items, source.items.manifest_key(at(1)), second)


def _manifest_of_another(field: str) -> Callable[[Source], None]:
    def put(source: Source) -> None:
        manifest = replace(source.ship(at(1)), **{field: "another"})  # type: ignore[arg-type]
        overwrite(source.items, source.items.manifest_key(at(1)), encode_manifest(manifest))

    return put


def _named_otherwise(source: Source) -> None:
    source.items.put("points/1-1/manifest", b"x")


def _damaged_manifest(place: float) -> Callable[[Source], None]:
    def put(source: Source) -> None:
        source.ship(at(1))
        key = source.items.manifest_key(at(1))
        overwrite(source.items, key, flipped(stored(source.items, key), place))

    return put


def _cut_manifest(source: Source) -> None:
    source.ship(at(1))
    key = source.items.manifest_key(at(1))
    overwrite(source.items, key, stored(source.items, key)[:-1])


def _objects_elsewhere(source: Source) -> None:
    manifest = source.ship(at(1))
    image = manifest.disks[0]
    elsewhere = replace(image.objects[0], key="points/000001-0000000009/root.delta")
    forged = replace(manifest, disks=(replace(image, objects=(elsewhere,)),))
    overwrite(source.items, source.items.manifest_key(at(1)), encode_manifest(forged))


def _digest_not_of_its_objects(source: Source) -> None:
    manifest = source.ship(at(1))
    image = manifest.disks[0]
    other = replace(image.objects[0], digest=Digest("77" * 32))
    forged = replace(manifest, disks=(replace(image, objects=(other,)),))
    overwrite(source.items, source.items.manifest_key(at(1)), encode_manifest(forged))


def _newer_format(source: Source) -> None:
    manifest = replace(source.ship(at(1)), format=99)
    overwrite(source.items, source.items.manifest_key(at(1)), encode_manifest(manifest))


@pytest.mark.parametrize(
    ("arrange", "expected", "named"),
    [
        (_gap, PositionMismatchError, "1-1"),
        (_other_history, HistoryMismatchError, "1-1"),
        (_fork_in_an_epoch, ForkedHistoryError, "0000000002/manifest"),
        (_fork_of_a_later_owner, ForkedHistoryError, "000002-0000000000/manifest"),
        (_later_owner, OutdatedEpochError, "3-1"),
        (_manifest_of_another_position, ForeignObjectError, "0000000001/manifest"),
        (_manifest_of_another("item"), ForeignObjectError, "0000000001/manifest"),
        (_manifest_of_another("vault"), ForeignObjectError, "0000000001/manifest"),
        (_named_otherwise, ForeignObjectError, "points/1-1/manifest"),
        (_damaged_manifest(0), DamagedObjectError, "0000000001/manifest"),
        (_damaged_manifest(0.5), DamagedObjectError, "0000000001/manifest"),
        (_damaged_manifest(1), DamagedObjectError, "0000000001/manifest"),
        (_cut_manifest, DamagedObjectError, "0000000001/manifest"),
        (_objects_elsewhere, ForeignObjectError, "0000000001/manifest"),
        (_digest_not_of_its_objects, DamagedObjectError, "0000000001/manifest"),
        (_newer_format, UnknownFormatError, "99"),
    ],
    ids=[
        "a gap",
        "another history",
        "two points after one, same owner",
        "two points after one, a later owner",
        "an owner not heard of",
        "the manifest of another position",
        "the manifest of another item",
        "the manifest of another vault",
        "a position written otherwise",
        "a bit of the seal",
        "a bit in the middle",
        "the last bit",
        "a cut tail",
        "objects of another point",
        "a digest that is not its objects'",
        "a newer format",
    ],
)
def test_g5_g9_what_may_not_be_landed_is_refused_by_name(
    source: Source,
    arrange: Callable[[Source], None],
    expected: type[HomeportError],
    named: str,
) -> None:
    arrange(source)
    with pytest.raises(expected) as caught:
        following(source.items)
    assert named in caught.value.message
    assert caught.value.remedy or isinstance(caught.value, IntegrityError)


def test_a_missing_manifest_is_named(source: Source) -> None:
    with pytest.raises(DamagedObjectError, match="missing"):
        read_manifest(source.items, at(7))


def test_a_repair_follows_on_a_disk_whose_history_proves_nothing(source: Source) -> None:
    source.state = None  # type: ignore[assignment]
    layer = write_layer(source.folder / "layer", {0: b"x" * BLOCK})
    image = replace(source.ship_disk(at(1), layer).image, kind=ImageKind.REPAIR)
    ship_manifest(source.items, manifest_of(source.items, at(1), at(0), image))
    found = next_manifest(source.items, after=at(0), states={}, epoch=1)
    assert found is not None
    assert found.disks == (image,)


class TestADelta:
    @settings(max_examples=20, deadline=None)
    @given(st.data())
    def test_lands_as_the_layer_it_was(
        self, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
    ) -> None:
        folder = tmp_path_factory.mktemp("delta")
        blocks = data.draw(
            st.dictionaries(
                st.integers(0, SIZE // BLOCK), st.sampled_from(["data", "zero"]), max_size=40
            )
        )
        written, zeroed = {}, []
        for number, kind in sorted(blocks.items()):
            length = min(BLOCK, SIZE - number * BLOCK)
            if kind == "data":
                written[number * BLOCK] = random_bytes(length, number)
            else:
                zeroed.append(Extent(number * BLOCK, length))
        source = Source(items_of(), folder, position=at(0))
        base = sparse(folder / "base.raw", {0: random_bytes(SIZE, "base")})
        manifest = source.ship(at(1), written, *zeroed)
        path = folder / "landed.qcow2"
        assert land(source.items, manifest, path) == source.maps[at(1)]
        assert content(path, base) == content(source.layers[at(1)], base)

    def test_is_landed_again_over_itself(self, source: Source, tmp_path: Path) -> None:
        manifest = source.ship(at(1))
        path = tmp_path / "landed.qcow2"
        land(source.items, manifest, path)
        first = path.read_bytes()
        land(source.items, manifest, path)
        assert path.read_bytes() == first

    def test_replaces_what_a_crash_left_at_the_partial_name(
        self, source: Source, tmp_path: Path
    ) -> None:
        manifest = source.ship(at(1))
        path = tmp_path / "landed.qcow2"
        partial = path.with_name("landed.qcow2.partial")
        partial.write_bytes(random_bytes(3 * MiB))
        assert land(source.items, manifest, path) == source.maps[at(1)]
        assert not partial.exists()

    def test_takes_no_more_room_than_its_data(self, source: Source, tmp_path: Path) -> None:
        manifest = source.ship(at(1), {number * MiB: random_bytes(BLOCK) for number in range(10)})
        path = tmp_path / "landed.qcow2"
        land(source.items, manifest, path)
        assert path.stat().st_blocks * 512 < 10 * BLOCK + 300 * KiB

    def test_g2_is_on_disk_before_it_has_its_name_and_its_name_before_it_is_done(
        self, source: Source, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        manifest = source.ship(at(1))
        path = tmp_path / "landed.qcow2"
        synced: list[tuple[str, bool]] = []
        really = os.fsync

        def noted(handle: int) -> None:
            really(handle)
            synced.append((Path(f"/proc/self/fd/{handle}").readlink().name, path.exists()))

        monkeypatch.setattr(os, "fsync", noted)
        land(source.items, manifest, path)
        assert synced[-2:] == [("landed.qcow2.partial", False), (tmp_path.name, True)]

    def test_reports_and_paces_what_comes_in(self, source: Source, tmp_path: Path) -> None:
        manifest = source.ship(at(1), {0: random_bytes(3 * MiB)})
        seen: list[tuple[int, int]] = []
        paced: list[int] = []
        control = Control(progress=lambda *sums: seen.append(sums), pace=paced.append)
        land(source.items, manifest, tmp_path / "landed", control=control)
        assert seen[-1] == (3 * MiB, 3 * MiB)
        assert sum(paced) == manifest.disks[0].objects[0].size

    def test_cancelled_half_way_leaves_no_file(self, source: Source, tmp_path: Path) -> None:
        manifest = source.ship(at(1), {0: random_bytes(4 * MiB)})
        taken: list[int] = []
        control = Control(cancelled=lambda: sum(taken) > MiB, pace=taken.append)
        folder = tmp_path / "target"
        folder.mkdir()
        with pytest.raises(CancelledError):
            land(source.items, manifest, folder / "landed", control=control)
        assert taken
        assert list(folder.iterdir()) == []


def _turned(place: float) -> Callable[[ItemStore, str, bytes], None]:
    return lambda items, key, body: overwrite(items, key, flipped(body, place))


def _cut(length: int) -> Callable[[ItemStore, str, bytes], None]:
    return lambda items, key, body: overwrite(items, key, body[: len(body) - length])


def _from(other: ItemStore, position: Position, folder: Path, data: bytes) -> bytes:
    source = Source(other, folder, position=at(0))
    source.ship(position, {0: data})
    return stored(other, other.delta_key(position, DISK))


class TestADamagedObject:
    @pytest.mark.parametrize(
        "damage",
        [
            *(_turned(place / 10) for place in range(11)),
            _cut(1),
            _cut(5000),
            lambda items, key, _: items.delete(key),
            lambda items, key, _: overwrite(items, key, b""),
            lambda items, key, body: overwrite(items, key, body + b"\0"),
            lambda items, key, body: overwrite(items, key, body + body),
        ],
        ids=[
            *(f"a bit turned at {place * 10} %" for place in range(11)),
            "one byte cut",
            "5,000 bytes cut",
            "missing",
            "empty",
            "one byte more",
            "twice over",
        ],
    )
    def test_g9_is_found_and_named_and_nothing_is_landed(
        self,
        source: Source,
        tmp_path: Path,
        damage: Callable[[ItemStore, str, bytes], None],
    ) -> None:
        manifest = source.ship(at(1), {0: random_bytes(2 * MiB), 5 * MiB: random_bytes(BLOCK)})
        key = manifest.disks[0].objects[0].key
        damage(source.items, key, stored(source.items, key))
        folder = tmp_path / "target"
        folder.mkdir()
        with pytest.raises(DamagedObjectError) as caught:
            land(source.items, manifest, folder / "landed.qcow2")
        assert caught.value.key == key
        assert list(folder.iterdir()) == []

    def test_leaves_the_layer_that_was_there(self, source: Source, tmp_path: Path) -> None:
        manifest = source.ship(at(1))
        path = tmp_path / "landed.qcow2"
        land(source.items, manifest, path)
        whole = path.read_bytes()
        source.items.delete(manifest.disks[0].objects[0].key)
        with pytest.raises(DamagedObjectError):
            land(source.items, manifest, path)
        assert path.read_bytes() == whole

    @pytest.mark.parametrize(
        ("item", "position"),
        [("another", at(1)), ("vm-1", at(2))],
        ids=["of another item", "of another point"],
    )
    def test_g9_that_is_sound_but_foreign_is_refused(
        self, source: Source, tmp_path: Path, item: str, position: Position
    ) -> None:
        manifest = source.ship(at(1), {0: b"x" * BLOCK})
        elsewhere = tmp_path / "elsewhere"
        elsewhere.mkdir()
        body = _from(items_of(item), position, elsewhere, b"x" * BLOCK)  # the very same content
        overwrite(source.items, manifest.disks[0].objects[0].key, body)
        with pytest.raises(ForeignObjectError):
            land(source.items, manifest, tmp_path / "landed")
        assert not (tmp_path / "landed").exists()

    def test_g5_of_this_point_with_other_content_is_refused(
        self, source: Source, tmp_path: Path
    ) -> None:
        manifest = source.ship(at(1), {0: b"x" * BLOCK})
        elsewhere = tmp_path / "elsewhere"
        elsewhere.mkdir()
        body = _from(items_of("vm-1"), at(1), elsewhere, b"y" * BLOCK)
        overwrite(source.items, manifest.disks[0].objects[0].key, body)
        with pytest.raises(DamagedObjectError, match="not what the manifest names"):
            land(source.items, manifest, tmp_path / "landed")
        assert not (tmp_path / "landed").exists()
