from __future__ import annotations

import os
import random
import struct
import time
import tracemalloc
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from homeport.dataplane.qcow2 import (
    CLUSTER,
    ChainReader,
    LayerReader,
    LayerWriter,
    NotInLayerError,
    Qcow2FormatError,
    UnsupportedQcow2Error,
    create_overlay,
    read_map,
)
from homeport.model.extent import Extent, ExtentSet
from homeport.units import GiB, KiB, MiB, TiB

BLOCK = 4 * KiB
Part = tuple[int, int, int]  # offset, length, fill; fill 0 is a zero extent


def write(path: Path, size: int, parts: list[Part], backing: str | None = "base.raw") -> Path:
    backing_format = "raw" if backing else None
    with LayerWriter(path, size=size, backing=backing, backing_format=backing_format) as writer:
        for offset, length, fill in parts:
            if fill:
                writer.data(offset, bytes([fill]) * length)
            else:
                writer.zero(offset, length)
        writer.finish()
    return path


def parts_of(fills: list[int | None], start: int, size: int) -> list[Part]:
    """One part a block; None is a block left alone."""
    blocks = ((start + number * BLOCK, fill) for number, fill in enumerate(fills))
    return [
        (offset, min(BLOCK, size - offset), fill)
        for offset, fill in blocks
        if fill is not None and offset < size
    ]


fills = st.lists(st.sampled_from([None, None, 0, 1, 2, 3]), max_size=80)
quick = settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@quick
@given(fills, st.sampled_from([0, 31 * BLOCK, GiB - 20 * BLOCK]), st.integers(0, 7))
def test_a_layer_has_exactly_what_was_written(
    tmp_path: Path, blocks: list[int | None], start: int, tail: int
) -> None:
    size = start + 12 * BLOCK + tail * 512
    parts = parts_of(blocks, start, size)
    with LayerReader(write(tmp_path / "layer.qcow2", size, parts)) as reader:
        assert reader.map.data == ExtentSet(Extent(at, n) for at, n, fill in parts if fill)
        assert reader.map.zero == ExtentSet(Extent(at, n) for at, n, fill in parts if not fill)
        for at, length, fill in parts:
            assert reader.read(at, length) == bytes([fill]) * length


@pytest.mark.parametrize("fill", [0, 1], ids=["zeroes", "data"])
@pytest.mark.parametrize("length", [512, BLOCK + 512, MiB + 512])
def test_maps_end_where_the_disk_ends(tmp_path: Path, fill: int, length: int) -> None:
    size = GiB + MiB + 512
    made = read_map(write(tmp_path / "layer.qcow2", size, [(size - length, length, fill)]))
    assert made.changed == ExtentSet.of(size - length, length)
    assert made.runs.lengths.sum() == (length if fill else 0)


@quick
@given(st.lists(st.tuples(fills, st.integers(1, 40)), min_size=1, max_size=4), st.booleans())
def test_a_chain_reads_as_its_layers_laid_over_each_other(
    tmp_path: Path, layers: list[tuple[list[int | None], int]], raw: bool
) -> None:
    """Layers of different sizes over a base; a shorter one hides what lies behind its end."""
    base = bytes(random.Random(1).randbytes(20 * BLOCK + 512))
    (tmp_path / "base.raw").write_bytes(base)
    model, paths = base if raw else b"", [tmp_path / "base.raw"] if raw else []
    for number, (blocks, length) in enumerate(layers):
        size = length * BLOCK
        disk = bytearray(model[:size].ljust(size, b"\0"))
        parts = parts_of(blocks, 0, size)
        for at, count, fill in parts:
            disk[at : at + count] = bytes([fill]) * count
        model = bytes(disk)
        paths.insert(0, write(tmp_path / f"{number}.qcow2", size, parts))
    with ChainReader(paths, base_format="raw" if raw else "qcow2") as chain:
        assert chain.read(0, chain.size) == model
        assert (
            chain.read(chain.size // 3, chain.size // 2)
            == model[chain.size // 3 :][: chain.size // 2]
        )
        outside = chain.allocated().complement(chain.size)
        assert not any(any(model[hole.start : hole.end]) for hole in outside)


@quick
@given(fills, fills, st.integers(0, 60), st.integers(1, 80))
def test_scans_give_what_reads_give(
    tmp_path: Path, lower: list[int | None], upper: list[int | None], start: int, length: int
) -> None:
    size = 100 * BLOCK + 512
    base = write(tmp_path / "base.qcow2", size, parts_of(lower, 0, size), backing=None)
    top = write(tmp_path / "top.qcow2", size, parts_of(upper, 0, size))
    wanted = ExtentSet.of(start * BLOCK + 512, length * BLOCK).clipped(size)
    with ChainReader([top, base], base_format="qcow2") as chain, LayerReader(top) as layer:
        for reader, held in ((chain, chain.allocated()), (layer, layer.map.data)):
            found = list(reader.scan(wanted))
            assert ExtentSet(Extent(at, len(body)) for at, body in found) == held & wanted
            assert found == sorted(found)
            assert all(reader.read(at, len(body)) == body for at, body in found)
        assert sum(len(body) for _, body in layer.scan()) == layer.map.data.total


def test_a_scan_of_many_windows_hands_out_small_parts(tmp_path: Path) -> None:
    parts = [(at * 8 * BLOCK, BLOCK, at % 250 + 1) for at in range(600)]
    path = write(tmp_path / "layer.qcow2", GiB, [*parts, (64 * MiB, 40 * MiB, 9)])
    with LayerReader(path) as layer:
        found = list(layer.scan())
        assert [(at, len(body), body[0]) for at, body in found[:600]] == parts
        assert max(len(body) for _, body in found) == MiB
        assert layer.bytes_read == 600 * BLOCK + 40 * MiB
    with LayerWriter(path, size=GiB, backing=None, backing_format=None) as writer:
        body = random.Random(1).randbytes(3 * MiB)
        writer.data(BLOCK, body)
        writer.finish()
    with LayerReader(path) as layer:
        assert b"".join(part for _, part in layer.scan()) == body
        os.truncate(path, 3 * CLUSTER)
        with pytest.raises(Qcow2FormatError, match="the file ends"):
            list(layer.scan())


def test_a_chain_reads_only_what_is_asked_and_there(tmp_path: Path) -> None:
    base = tmp_path / "base.raw"
    with base.open("wb") as file:
        file.truncate(GiB)
        file.seek(512 * MiB)
        file.write(b"x" * MiB)
    top = write(tmp_path / "top.qcow2", GiB, [(0, MiB, 5), (512 * MiB, BLOCK, 0)])
    with ChainReader([top, base], base_format="raw") as chain:
        assert chain.allocated() == ExtentSet(
            [Extent(0, MiB), Extent(512 * MiB + BLOCK, MiB - BLOCK)]
        )
        assert chain.bytes_read == 0
        assert chain.read(MiB - BLOCK, 2 * BLOCK) == b"\5" * BLOCK + bytes(BLOCK)
        assert chain.read(512 * MiB, 2 * BLOCK) == bytes(BLOCK) + b"x" * BLOCK
        assert chain.bytes_read == 3 * BLOCK


def test_many_threads_may_read_one_chain(tmp_path: Path) -> None:
    top = write(
        tmp_path / "top.qcow2", MiB, [(at * BLOCK, BLOCK, at % 255 + 1) for at in range(256)]
    )
    with ChainReader([top], base_format="qcow2") as chain, ThreadPoolExecutor(4) as pool:
        read = list(pool.map(lambda at: chain.read(at * BLOCK, BLOCK), range(256)))
        assert read == [bytes([at % 255 + 1]) * BLOCK for at in range(256)]
        assert chain.bytes_read == MiB


@pytest.mark.parametrize(("offset", "length"), [(-1, 2), (0, MiB + 1), (MiB, 1), (5, -1)])
def test_reads_outside_the_disk_are_refused(tmp_path: Path, offset: int, length: int) -> None:
    top = write(tmp_path / "top.qcow2", MiB, [])
    with ChainReader([top], base_format="qcow2") as chain:
        with pytest.raises(ValueError, match="is not within a disk"):
            chain.read(offset, length)


def test_a_chain_that_cannot_be_opened_gives_all_files_back(tmp_path: Path) -> None:
    top = write(tmp_path / "top.qcow2", MiB, [])
    before = len(list(Path("/proc/self/fd").iterdir()))
    with pytest.raises(FileNotFoundError):
        ChainReader([top, tmp_path / "gone.raw"], base_format="raw")
    with pytest.raises(ValueError, match="at least one"):
        ChainReader([], base_format="raw")
    chain = ChainReader([top], base_format="qcow2")
    chain.close()
    chain.close()
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_bytes_of_lower_layers_are_not_made_up(tmp_path: Path) -> None:
    with LayerReader(write(tmp_path / "l.qcow2", MiB, [(0, BLOCK, 1), (BLOCK, BLOCK, 0)])) as layer:
        assert layer.read(BLOCK - 2, 4) == b"\1\1\0\0"
        with pytest.raises(NotInLayerError, match="does not hold"):
            layer.read(BLOCK, 2 * BLOCK)
        buffer = bytearray(b"-" * 3 * BLOCK)
        layer.read_into(0, buffer)
        assert buffer == b"\1" * BLOCK + b"-" * 2 * BLOCK
        assert layer.bytes_read == 2 + BLOCK


@pytest.mark.parametrize(
    ("parts", "why"),
    [
        pytest.param([(BLOCK, BLOCK, 1), (0, BLOCK, 1)], "not between", id="descending"),
        pytest.param([(0, 2 * BLOCK, 0), (BLOCK, BLOCK, 1)], "not between", id="overlapping"),
        pytest.param([(0, 2 * MiB, 0)], "not between", id="beyond the disk"),
        pytest.param([(512, BLOCK, 1)], "whole", id="starting within a block"),
        pytest.param([(0, 512, 1)], "whole", id="ending within a block"),
    ],
)
def test_what_cannot_be_written_is_refused_and_leaves_no_file(
    tmp_path: Path, parts: list[Part], why: str
) -> None:
    with pytest.raises(ValueError, match=why):
        write(tmp_path / "layer.qcow2", MiB, parts)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("size", [0, -512, 100])
def test_disks_are_whole_sectors(tmp_path: Path, size: int) -> None:
    with pytest.raises(ValueError, match="multiple of 512"):
        create_overlay(tmp_path / "o.qcow2", size=size, backing=None, backing_format=None)


def test_a_layer_not_finished_is_no_image_and_goes(tmp_path: Path) -> None:
    path = tmp_path / "layer.qcow2"
    with LayerWriter(path, size=GiB, backing=None, backing_format=None) as writer:
        writer.data(0, b"x" * MiB)
        with pytest.raises(Qcow2FormatError, match="no qcow2 header"):
            read_map(path)
    assert not path.exists()


def test_what_an_earlier_attempt_left_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "layer.qcow2"
    path.write_bytes(b"\xff" * MiB)
    write(path, MiB, [])
    assert not read_map(path).changed
    assert path.stat().st_size == 4 * CLUSTER


def test_subclusters_that_were_not_written_are_holes(tmp_path: Path) -> None:
    path = write(tmp_path / "layer.qcow2", GiB, [(at * CLUSTER, BLOCK, 1) for at in range(1000)])
    assert path.stat().st_size > 1000 * CLUSTER
    assert path.stat().st_blocks * 512 < 1000 * BLOCK + MiB


# Damage: the L1 table lies in cluster 1, the first data cluster in 2, its L2 table in 3.
L1, DATA, L2 = CLUSTER, 2 * CLUSTER, 3 * CLUSTER


def word(value: int) -> bytes:
    return struct.pack(">Q", value)


@pytest.mark.parametrize(
    ("offset", "body", "found"),
    [
        pytest.param(L1, word(1 << 63 | 512), "table at impossible", id="L2 off its cluster"),
        pytest.param(L1, word(1 << 63 | 1 << 40), "the file ends", id="L2 behind the end"),
        pytest.param(
            L2, word(1 << 63 | 512), "cluster at an impossible", id="data off its cluster"
        ),
        pytest.param(L2, word(1 << 63 | 1 << 40), "the file ends", id="data behind the end"),
        pytest.param(L2, word(0), "no place", id="data nowhere"),
        pytest.param(L2 + 8, word(1 << 32 | 1), "both data and zeroes", id="both at once"),
        pytest.param(72, word(16 | 2), "marked the image as corrupt", id="marked by QEMU"),
    ],
)
def test_tables_that_contradict_themselves_are_refused(
    tmp_path: Path, offset: int, body: bytes, found: str
) -> None:
    path = write(tmp_path / "layer.qcow2", MiB, [(0, BLOCK, 1)])
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(body)
    with pytest.raises(Qcow2FormatError, match=found):
        read_map(path)


@pytest.mark.parametrize("length", [DATA, DATA + BLOCK // 2, L1 + 4, L2 + 100])
def test_a_cut_file_is_refused(tmp_path: Path, length: int) -> None:
    path = write(tmp_path / "layer.qcow2", MiB, [(0, BLOCK, 1)])
    os.truncate(path, length)
    with pytest.raises(Qcow2FormatError, match="the file ends"):
        read_map(path)


def test_a_file_cut_while_open_is_noticed(tmp_path: Path) -> None:
    path = write(tmp_path / "layer.qcow2", MiB, [(0, BLOCK, 1)])
    with LayerReader(path) as layer, ChainReader([path], base_format="qcow2") as chain:
        os.truncate(path, DATA + 100)
        for read in (layer.read, chain.read):
            with pytest.raises(Qcow2FormatError, match="the file ends"):
                read(0, BLOCK)


def test_compressed_clusters_are_left_to_qemu(tmp_path: Path) -> None:
    path = write(tmp_path / "layer.qcow2", MiB, [(0, BLOCK, 1)])
    with path.open("r+b") as file:
        file.seek(L2)
        file.write(word(1 << 62 | DATA))
    with pytest.raises(UnsupportedQcow2Error, match="compressed"):
        read_map(path)


def test_contiguous_data_is_one_run_across_tables(tmp_path: Path) -> None:
    path = write(tmp_path / "layer.qcow2", 2 * GiB, [(GiB - MiB, 2 * MiB, 1)])
    runs = read_map(path).runs
    assert len(runs.guest) == 2  # the first table lies between
    assert runs.lengths.tolist() == [MiB, MiB]
    assert len(runs.extents) == 1


def traced(work: Callable[[], None]) -> int:
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_memory_follows_the_map_and_not_the_disk(tmp_path: Path) -> None:
    path = tmp_path / "layer.qcow2"
    scattered: list[Part] = [(at * 20 * GiB, BLOCK, 1) for at in range(150)]
    assert traced(lambda: write(path, 3 * TiB, scattered) and None) < 2 * MiB
    assert traced(lambda: read_map(path) and None) < 4 * MiB


def test_a_map_of_many_scattered_blocks_is_quick(tmp_path: Path) -> None:
    path = write(tmp_path / "l.qcow2", 8 * GiB, [(at * 256 * KiB, BLOCK, 1) for at in range(32768)])
    began = time.process_time()
    assert len(read_map(path).data) == 32768
    assert time.process_time() - began < 1  # 0.02 s here
