from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from homeport.dataplane.layout import RepeatedPositionError
from homeport.dataplane.objects import StoreUnreachableError
from homeport.dataplane.pipeline import Control
from homeport.dataplane.shipping import (
    reship_manifest,
    ship_difference,
    ship_layer,
    ship_manifest,
)
from homeport.dataplane.wrappers import RetryingStore
from homeport.errors import CancelledError
from homeport.model.extent import Extent, ExtentSet
from homeport.model.manifest import ImageKind, joint_digest, next_state
from homeport.providers.store.memory import MemoryStore
from homeport.units import KiB, MiB
from tests.faults import Fault, FaultyStore
from tests.unit.dataplane.points import (
    BLOCK,
    DISK,
    FREE,
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
    raw_reader,
    sparse,
    stored,
    write_layer,
)

DATA = {BLOCK: random_bytes(8 * KiB), 3 * MiB: random_bytes(2 * MiB), 10 * MiB: b"t" * 512}
ZERO = (Extent(64 * KiB, 128 * KiB),)


@pytest.fixture
def source(tmp_path: Path) -> Source:
    return Source(items_of(), tmp_path)


def test_a_layer_is_described_by_what_was_put(source: Source) -> None:
    layer = write_layer(source.folder / "layer", DATA, ZERO)
    shipped = source.ship_disk(at(1), layer)
    image = shipped.image
    key = source.items.delta_key(at(1), DISK)
    assert shipped.map == ExtentSet(
        [Extent(offset, len(body)) for offset, body in DATA.items()] + list(ZERO)
    )
    assert (image.kind, image.size, image.changed) == (
        ImageKind.DELTA,
        SIZE,
        sum(map(len, DATA.values())),
    )
    assert [stored.key for stored in image.objects] == [key]
    assert image.objects[0].size == len(stored(source.items, key))
    assert image.digest == joint_digest((image.objects[0].digest,))
    assert image.state == next_state(SEEDED, image.digest)


def test_a_layer_without_changes_is_a_delta_like_any_other(source: Source, tmp_path: Path) -> None:
    base = sparse(tmp_path / "base.raw", {0: random_bytes(BLOCK)})
    manifest = source.ship(at(1), {})
    path = tmp_path / "landed.qcow2"
    assert land(source.items, manifest, path) == ExtentSet.empty()
    assert content(path, base) == content(base)
    assert manifest.disks[0].state != SEEDED


def test_blocks_of_zeroes_are_not_sent_but_decide(source: Source, tmp_path: Path) -> None:
    base = sparse(tmp_path / "base.raw", {0: b"x" * MiB})
    manifest = source.ship(at(1), {0: bytes(MiB)})
    path = tmp_path / "landed.qcow2"
    assert land(source.items, manifest, path) == ExtentSet.of(0, MiB)
    assert manifest.disks[0].changed == 0
    assert content(path, base) == bytes(SIZE)


@pytest.mark.parametrize("grown", [SIZE + BLOCK - 512, 2 * SIZE], ids=["by a bit", "twofold"])
def test_a_layer_of_a_disk_that_has_grown_since_keeps_its_tail(
    source: Source, tmp_path: Path, grown: int
) -> None:
    layer = write_layer(tmp_path / "layer", {10 * MiB: b"t" * 512})
    shipped = ship_layer(
        source.items,
        position=at(1),
        disk=DISK,
        layer=layer,
        size=grown,
        before=SEEDED,
        control=FREE,
    )
    manifest = manifest_of(source.items, at(1), None, shipped.image)
    path = tmp_path / "landed.qcow2"
    land(source.items, manifest, path)
    base = sparse(tmp_path / "base.raw", {})
    assert content(path, base) == bytes(10 * MiB) + b"t" * 512 + bytes(grown - SIZE)


class TestARepeat:
    def test_of_the_same_layer_is_kept_as_it_is(self, source: Source) -> None:
        layer = write_layer(source.folder / "layer", DATA, ZERO)
        first = source.ship_disk(at(1), layer)
        before = source.items.store.head(
            source.items.prefix + source.items.delta_key(at(1), DISK)
        ).modified_at
        again = source.ship_disk(at(1), layer)
        key = source.items.prefix + source.items.delta_key(at(1), DISK)
        assert again == first
        assert source.items.store.head(key).modified_at == before

    def test_with_other_content_is_refused_and_overwrites_nothing(self, source: Source) -> None:
        first = source.ship_disk(at(1), write_layer(source.folder / "a", {0: b"a" * BLOCK}))
        before = stored(source.items, first.image.objects[0].key)
        with pytest.raises(RepeatedPositionError) as caught:
            source.ship_disk(at(1), write_layer(source.folder / "b", {0: b"b" * BLOCK}))
        assert caught.value.key == first.image.objects[0].key
        assert stored(source.items, first.image.objects[0].key) == before

    @pytest.mark.parametrize("replace", [False, True], ids=["found by itself", "on request"])
    @pytest.mark.parametrize("place", [0, 0.5, 1], ids="bit turned at {}".format)
    def test_over_a_damaged_object_puts_it_anew(
        self, source: Source, place: float, replace: bool
    ) -> None:
        layer = write_layer(source.folder / "layer", DATA)
        first = source.ship_disk(at(1), layer)
        key = first.image.objects[0].key
        sound = stored(source.items, key)
        overwrite(source.items, key, flipped(sound, place))
        assert source.ship_disk(at(1), layer, replace=replace) == first
        assert stored(source.items, key) == sound

    def test_of_a_manifest_with_other_content_is_refused(self, source: Source) -> None:
        manifest = source.ship(at(1))
        ship_manifest(source.items, manifest)
        other = manifest_of(source.items, at(1), at(0), *manifest.disks)
        with pytest.raises(RepeatedPositionError, match="manifest"):
            ship_manifest(source.items, other)
        reship_manifest(source.items, other)  # asked for by name

    def test_after_a_put_that_was_cut_off_succeeds(self, tmp_path: Path) -> None:
        store = MemoryStore()
        with FaultyStore(store, (Fault("put", when="after"),)) as faulty:
            source = Source(items_of(store=faulty), tmp_path)
            layer = write_layer(tmp_path / "layer", DATA)
            with pytest.raises(StoreUnreachableError):
                source.ship_disk(at(1), layer)
            assert source.ship_disk(at(1), layer).image.changed == sum(map(len, DATA.values()))

    def test_by_the_store_itself_sends_the_whole_body_again(self, tmp_path: Path) -> None:
        inner, slept = MemoryStore(), list[timedelta]()
        with FaultyStore(inner, (Fault("put"),)) as faulty:
            store = RetryingStore(faulty, delays=[timedelta(0)], sleep=slept.append)
            source = Source(items_of(store=store), tmp_path)
            manifest = source.ship(at(1), DATA)
        assert land(source.items, manifest, tmp_path / "landed") == source.maps[at(1)]


class TestADifference:
    @settings(max_examples=25, deadline=None)
    @given(
        wanted=st.lists(st.tuples(st.integers(0, SIZE - 1), st.integers(1, 300 * KiB)), max_size=6),
        knows=st.booleans(),
    )
    def test_lands_as_what_the_reader_sees(
        self, tmp_path_factory: pytest.TempPathFactory, wanted: list[tuple[int, int]], knows: bool
    ) -> None:
        tmp_path = tmp_path_factory.mktemp("difference")
        disk = sparse(tmp_path / "disk", {MiB: random_bytes(3 * MiB), 10 * MiB: b"t" * 512})
        old = sparse(tmp_path / "old", {0: random_bytes(SIZE, "old")})
        extents = ExtentSet(Extent(*one) for one in wanted).clipped(SIZE)
        items = items_of()
        with raw_reader(disk) as reader:
            shipped = ship_difference(
                items,
                position=at(1),
                disk=DISK,
                read=reader.read,
                extents=extents,
                size=SIZE,
                before=SEEDED,
                control=FREE,
                allocated=reader.allocated() if knows else None,
            )
            read, data = reader.bytes_read, reader.allocated().aligned(BLOCK).clipped(SIZE)
        assert shipped.map == extents.aligned(BLOCK).clipped(SIZE)
        assert read == (shipped.map & data if knows else shipped.map).total
        layer = tmp_path / "landed"
        land(items, manifest_of(items, at(1), None, shipped.image), layer)
        expected = bytearray(old.read_bytes())
        for extent in shipped.map:
            expected[extent.start : extent.end] = disk.read_bytes()[extent.start : extent.end]
        assert content(layer, old) == bytes(expected)


class TestControl:
    def test_progress_ends_at_the_whole(self, source: Source) -> None:
        seen: list[tuple[int, int]] = []
        layer = write_layer(source.folder / "layer", DATA, ZERO)
        total = sum(map(len, DATA.values())) + ZERO[0].length
        ship_layer(
            source.items,
            position=at(1),
            disk=DISK,
            layer=layer,
            size=SIZE,
            before=None,
            control=Control(progress=lambda *sums: seen.append(sums)),
        )
        assert seen == sorted(seen)
        assert seen[-1] == (total, total)

    def test_every_byte_read_is_paced(self, source: Source) -> None:
        paced: list[int] = []
        layer = write_layer(source.folder / "layer", DATA, ZERO)
        ship_layer(
            source.items,
            position=at(1),
            disk=DISK,
            layer=layer,
            size=SIZE,
            before=None,
            control=Control(pace=paced.append),
        )
        assert sum(paced) == sum(map(len, DATA.values()))
        assert max(paced) <= MiB

    def test_cancelling_half_way_leaves_nothing_in_the_store(self, source: Source) -> None:
        asked = 0

        def cancelled() -> bool:
            nonlocal asked
            asked += 1
            return asked > 2

        layer = write_layer(source.folder / "layer", DATA)
        with pytest.raises(CancelledError):
            ship_layer(
                source.items,
                position=at(1),
                disk=DISK,
                layer=layer,
                size=SIZE,
                before=None,
                control=Control(cancelled=cancelled),
            )
        assert list(source.items.list_keys()) == []
