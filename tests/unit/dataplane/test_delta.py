from __future__ import annotations

import itertools
import os
import tracemalloc
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from homeport.dataplane import delta_frames as wire
from homeport.dataplane.delta import (
    DataItem,
    DeltaFormatError,
    DeltaHeader,
    DeltaResult,
    Item,
    ZeroItem,
    decode_delta,
    encode_delta,
)
from homeport.errors import IntegrityError
from homeport.model.extent import Extent, ExtentSet
from homeport.units import GiB, KiB, MiB, TiB

GOLDEN = Path(__file__).parents[2] / "golden" / "delta"
BLOCK = 4 * KiB
BLOCKS = 40
SIZE = BLOCKS * BLOCK + 512  # the disk's tail is shorter than a block

Disk = dict[int, bytes]  # block number -> its bytes


def header(size: int = SIZE) -> DeltaHeader:
    return DeltaHeader(disk="vda", size=size, facts={"epoch": 3, "base": "3:7", "app": False})


def encoded(
    items: Iterable[Item], *, size: int = SIZE, level: int = 3
) -> tuple[bytes, DeltaResult]:
    encoding = encode_delta(header(size), items, level=level)
    return b"".join(encoding), encoding.result


def decoded(chunks: Iterable[bytes]) -> tuple[list[Item], DeltaResult]:
    stream = decode_delta(chunks)
    return list(stream), stream.result


def content(items: Iterable[Item]) -> Disk:
    """What a disk's blocks are after the items; block by block, the slow and certain way."""
    disk: Disk = {}
    for item in items:
        body = item.data if isinstance(item, DataItem) else bytes(item.length)
        for at in range(0, len(body), BLOCK):
            disk[(item.offset + at) // BLOCK] = body[at : at + BLOCK]
    return disk


def bytes_of(seed: int, length: int) -> bytes:
    return np.random.default_rng(seed).bytes(length)


@st.composite
def item_lists(draw: st.DrawFn) -> list[Item]:
    """Ascending items; data has blocks of zeroes in it; the tail is sometimes reached."""
    items: list[Item] = []
    at = 0
    for gap, kinds in draw(
        st.lists(st.tuples(st.integers(0, 3), st.lists(st.integers(0, 9), min_size=1, max_size=5)))
    ):
        start = at + gap
        end = min(start + len(kinds), BLOCKS + 1)
        if start >= end:
            break
        length = min(end * BLOCK, SIZE) - start * BLOCK
        body = b"".join(bytes_of(kind, BLOCK) if kind > 2 else bytes(BLOCK) for kind in kinds)
        items.append(
            ZeroItem(start * BLOCK, length)
            if kinds[0] == 9
            else DataItem(start * BLOCK, body[:length])
        )
        at = end
    return items


@given(item_lists(), st.integers(1, 5000))
def test_decoding_gives_the_content_that_was_encoded(items: list[Item], cut: int) -> None:
    stored, sent = encoded(items)
    out, received = decoded(stored[at : at + cut] for at in range(0, len(stored), cut))
    assert content(out) == content(items)
    assert received == sent
    assert sent.changed == ExtentSet(Extent(item.offset, item.length) for item in items)
    assert sent.data_bytes + sent.zero_bytes == sent.changed.total
    assert sent.stored_bytes == len(stored)


@given(item_lists())
def test_blocks_of_zeroes_are_never_sent_as_data(items: list[Item]) -> None:
    out, _ = decoded([encoded(items)[0]])
    assert all(
        any(body) for item in out if isinstance(item, DataItem) for body in blocks(item.data)
    )
    assert all(a.offset + a.length <= b.offset for a, b in itertools.pairwise(out))


def blocks(body: bytes) -> Iterator[bytes]:
    return (body[at : at + BLOCK] for at in range(0, len(body), BLOCK))


@given(item_lists(), st.sampled_from([1, 9]))
def test_the_digest_is_of_the_content_alone(items: list[Item], level: int) -> None:
    """Cut into single blocks, zeroes as data, another level, other facts: the same digest."""
    whole = content(items)
    singly = [DataItem(at * BLOCK, whole[at]) for at in sorted(whole)]
    assert encoded(singly, level=level)[1].digest == encoded(items)[1].digest


@pytest.mark.parametrize(
    "other",
    [
        pytest.param([DataItem(0, b"\2" * BLOCK)], id="other data"),
        pytest.param([DataItem(BLOCK, b"\1" * BLOCK)], id="another place"),
        pytest.param([DataItem(0, b"\1" * BLOCK), ZeroItem(BLOCK, BLOCK)], id="zeroes besides"),
        pytest.param([ZeroItem(0, BLOCK)], id="zeroes instead"),
        pytest.param([], id="nothing"),
    ],
)
def test_other_content_has_another_digest(other: list[Item]) -> None:
    one = [DataItem(0, b"\1" * BLOCK)]
    assert encoded(other)[1].digest != encoded(one)[1].digest
    assert encoded(one, size=MiB)[1].digest != encoded(one)[1].digest


def test_the_header_comes_back_before_any_item() -> None:
    stream = decode_delta([encoded([ZeroItem(0, SIZE)])[0]])
    assert stream.header == header()
    with pytest.raises(RuntimeError, match="before its end"):
        _ = stream.result


@pytest.mark.parametrize(
    ("items", "why"),
    [
        pytest.param([ZeroItem(BLOCK, BLOCK), ZeroItem(0, BLOCK)], "is not in", id="descending"),
        pytest.param(
            [ZeroItem(0, 2 * BLOCK), DataItem(BLOCK, bytes(BLOCK))], "is not in", id="overlapping"
        ),
        pytest.param([ZeroItem(0, SIZE + 512)], "is not in", id="beyond the disk"),
        pytest.param([ZeroItem(512, BLOCK)], "whole blocks", id="starting within a block"),
        pytest.param([DataItem(0, bytes(512))], "whole blocks", id="ending within a block"),
        pytest.param([ZeroItem(0, -BLOCK)], "is not in", id="negative"),
    ],
)
def test_items_that_cannot_be_a_delta_are_refused(items: list[Item], why: str) -> None:
    with pytest.raises(ValueError, match=why):
        encoded(items)


def test_too_many_facts_are_refused() -> None:
    with pytest.raises(ValueError, match="fit"):
        list(encode_delta(DeltaHeader(disk="vda", size=0, facts={"a": "b" * 70_000}), []))


TINY = [DataItem(0, b"\1" * BLOCK), ZeroItem(2 * BLOCK, 3 * BLOCK)]


def test_every_flipped_bit_of_a_small_object_is_found() -> None:
    stored, _ = encoded(TINY)
    for at in range(len(stored) * 8):
        damaged = bytearray(stored)
        damaged[at // 8] ^= 1 << at % 8
        with pytest.raises(IntegrityError):
            decoded([bytes(damaged)])


def test_every_cut_of_a_small_object_is_found() -> None:
    stored, _ = encoded(TINY)
    for length in range(len(stored)):
        with pytest.raises(DeltaFormatError):
            decoded([stored[:length]])


@pytest.fixture(scope="module")
def large() -> bytes:
    """Several frames, scattered and continuous, with zeroes between."""
    body = bytes_of(1, 3 * MiB)
    items: list[Item] = [DataItem(at * 8 * KiB, bytes_of(at, BLOCK)) for at in range(300)]
    return encoded([*items, ZeroItem(4 * MiB, MiB), DataItem(5 * MiB, body)], size=8 * MiB)[0]


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_any_flipped_bit_of_a_large_object_is_found(large: bytes, data: st.DataObject) -> None:
    damaged = bytearray(large)
    at = data.draw(st.integers(0, len(large) - 1))
    damaged[at] ^= 1 << data.draw(st.integers(0, 7))
    with pytest.raises(IntegrityError):
        decoded([bytes(damaged)])


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_any_cut_of_a_large_object_is_found(large: bytes, data: st.DataObject) -> None:
    with pytest.raises(DeltaFormatError, match="cut off"):
        decoded([large[: data.draw(st.integers(0, len(large) - 1))]])


@pytest.mark.parametrize("extra", [b"\0", b"HPDELTA\0", bytes(MiB)], ids=["zero", "magic", "long"])
def test_what_follows_the_end_is_found(extra: bytes) -> None:
    stored, _ = encoded(TINY)
    with pytest.raises(DeltaFormatError, match="follows its end"):
        decoded([stored, extra])
    assert decoded([stored, b"", b""])[0] == TINY  # empty chunks are nothing


def frames_of(stored: bytes) -> tuple[bytes, list[bytes]]:
    """Prologue and frames of an object, apart."""
    reader = wire.FrameReader([stored])
    reader.prologue()
    marks = [reader.bytes_taken]
    while reader.frame().kind != wire.END:
        marks.append(reader.bytes_taken)
    marks.append(reader.bytes_taken)
    pairs = itertools.pairwise(marks)
    return stored[: marks[0]], [stored[start:end] for start, end in pairs]


@pytest.mark.parametrize(
    "shuffle",
    [
        pytest.param(lambda frames: [frames[1], frames[0], *frames[2:]], id="swapped"),
        pytest.param(lambda frames: [frames[0], *frames], id="doubled"),
        pytest.param(lambda frames: frames[1:], id="without the first"),
        pytest.param(lambda frames: [*frames[:-2], frames[-1]], id="without the last"),
    ],
)
def test_whole_frames_out_of_place_are_found(
    large: bytes, shuffle: Callable[[list[bytes]], list[bytes]]
) -> None:
    prologue, frames = frames_of(large)
    assert len(frames) > 3
    with pytest.raises(DeltaFormatError, match="in place of"):
        decoded([prologue, *shuffle(frames)])


def forged(rows: list[tuple[int, int, int]], data: bytes = b"") -> bytes:
    """An object whose seals are right and whose rows are not."""
    table = np.array(rows, np.int64).reshape(-1, 3)
    content = wire.Content(SIZE)
    packer = zstandard.ZstdCompressor()
    frame = wire.encode_frame(table, data, number=0, packer=packer)
    return wire.encode_prologue(header()) + frame + wire.encode_end(content, number=1)


@pytest.mark.parametrize(
    ("rows", "data", "why"),
    [
        pytest.param([], b"", "without extents", id="an empty frame"),
        pytest.param([(0, 0, 1)], b"", "without bytes", id="an empty extent"),
        pytest.param([(BLOCK, BLOCK, 1), (0, BLOCK, 1)], b"", "out of order", id="descending"),
        pytest.param([(0, 2 * BLOCK, 1), (BLOCK, BLOCK, 1)], b"", "overlap", id="overlapping"),
        pytest.param([(0, SIZE + 512, 1)], b"", "beyond", id="too long"),
        pytest.param([(2**62, 2**62, 1)], b"", "beyond", id="sums that overflow"),
        pytest.param([(512, BLOCK, 1)], b"", "whole blocks", id="starting within a block"),
        pytest.param([(0, 512, 1)], b"", "whole blocks", id="ending within a block"),
        pytest.param([(0, BLOCK, 0)], b"\1" * 512, "do not fit", id="too little data"),
        pytest.param([(0, BLOCK, 1)], b"\1" * BLOCK, "do not fit", id="data for zeroes"),
        pytest.param([(0, BLOCK, 1)], b"", "as its end says", id="an end that counted otherwise"),
    ],
)
def test_rows_that_make_no_sense_are_refused_though_sealed(
    rows: list[tuple[int, int, int]], data: bytes, why: str
) -> None:
    with pytest.raises(DeltaFormatError, match=why):
        decoded([forged(rows, data)])


def test_impossible_lengths_make_no_memory() -> None:
    head = wire._HEAD.pack(wire.EXTENTS, 1, 2**31, 2**31, 0)
    with pytest.raises(DeltaFormatError, match="impossibly large"):
        decoded([wire.encode_prologue(header()), head, bytes(64)])


@pytest.mark.parametrize(
    ("start", "why"),
    [
        pytest.param(b"", "cut off", id="nothing"),
        pytest.param(b"QFI\xfb" + bytes(200), "not a delta", id="a qcow2"),
        pytest.param(wire._PROLOGUE.pack(wire.MAGIC, 2, 0) + bytes(99), "version 1", id="newer"),
        pytest.param(wire._PROLOGUE.pack(wire.MAGIC, 1, 2**30), "a header of", id="long header"),
    ],
)
def test_what_is_no_delta_is_told_at_once(start: bytes, why: str) -> None:
    with pytest.raises(DeltaFormatError, match=why):
        decode_delta([start])


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"[]", id="no object"),
        pytest.param(b"{", id="no JSON"),
        pytest.param(b'{"disk":1,"size":1,"facts":{}}', id="a name that is a number"),
        pytest.param(b'{"disk":"a","size":true,"facts":{}}', id="a size that is a flag"),
        pytest.param(b'{"disk":"a","size":-1,"facts":{}}', id="a negative size"),
    ],
)
def test_headers_that_make_no_sense_are_refused_though_sealed(body: bytes) -> None:
    from blake3 import blake3

    start = wire._PROLOGUE.pack(wire.MAGIC, 1, len(body)) + body
    with pytest.raises(DeltaFormatError):
        decode_delta([start + blake3(start).digest()])


def test_scattered_blocks_share_frames() -> None:
    items = (DataItem(at * 64 * KiB, bytes_of(at, BLOCK)) for at in range(1024))
    stored, _ = encoded(items, size=64 * MiB)
    assert len(frames_of(stored)[1]) == 4 + 1


def test_a_long_run_of_zeroes_is_one_extent_however_it_is_given() -> None:
    zeroes = (DataItem(at * MiB, bytes(MiB)) for at in range(200))
    stored, result = encoded(zeroes, size=TiB)
    assert len(stored) < 400
    assert decoded([stored])[0] == [ZeroItem(0, 200 * MiB)]
    assert result.data_bytes == 0


def test_memory_stays_that_of_a_frame() -> None:
    """300 MiB through encoder and decoder, one feeding the other."""
    body = os.urandom(MiB)
    items = (DataItem(at * 2 * MiB, body) for at in range(300))
    tracemalloc.start()
    try:
        for item in decode_delta(encode_delta(header(GiB), items, level=1)):
            assert item.length <= MiB
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 16 * MiB


def test_an_object_of_the_first_version_stays_readable() -> None:
    stored = bytes.fromhex((GOLDEN / "v1-data-and-zeroes.hex").read_text())
    items, result = decoded([stored])
    assert items == TINY
    assert result.digest.hex() == (GOLDEN / "v1-data-and-zeroes.digest").read_text().strip()
