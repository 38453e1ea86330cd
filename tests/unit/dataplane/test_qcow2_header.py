from __future__ import annotations

import os
import struct
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from homeport.dataplane import qcow2_header as wire
from homeport.dataplane.qcow2 import (
    Qcow2FormatError,
    UnsupportedQcow2Error,
    create_overlay,
    read_header,
    rewrite_backing,
)
from homeport.errors import IntegrityError, RefusedError
from homeport.units import GiB, KiB, MiB, TiB

CLUSTER_BITS, SIZE, L1_ENTRIES, INCOMPATIBLE, LENGTH = 20, 24, 36, 72, 100  # field offsets
EXTRA = wire.Extension(0x23852875, b"bitmaps of somebody else")


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "layer.qcow2"
    create_overlay(path, size=GiB, backing="base.raw", backing_format="raw")
    return path


def patch(path: Path, offset: int, body: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(body)


def with_extensions(path: Path, extensions: list[wire.Extension], name: bytes) -> None:
    """Lay out the header again as another program might: these extensions, then the name."""
    head = path.read_bytes()[: wire.FIELDS.size + wire.FIELDS_V3.size].ljust(112, b"\0")
    head += b"".join(one.encoded() for one in extensions) + bytes(8)
    patch(path, 0, head + name)
    patch(path, 8, struct.pack(">QI", len(head) if name else 0, len(name)))


@pytest.mark.parametrize("size", [512, MiB + 512, 3 * TiB])
def test_a_header_says_what_was_written(tmp_path: Path, size: int) -> None:
    path = tmp_path / "layer.qcow2"
    create_overlay(path, size=size, backing="Basis-Größe.raw", backing_format="raw")
    header = read_header(path)
    assert (header.size, header.backing_name, header.backing_format) == (
        size,
        "Basis-Größe.raw",
        "raw",
    )
    assert (header.version, header.cluster, header.granularity) == (3, 128 * KiB, 4 * KiB)
    assert header.extended_l2
    assert header.incompatible == wire.EXTENDED_L2
    assert header.snapshots == 0


def test_a_header_without_backing(tmp_path: Path) -> None:
    create_overlay(tmp_path / "own.qcow2", size=MiB, backing=None, backing_format=None)
    header = read_header(tmp_path / "own.qcow2")
    assert (header.backing_name, header.backing_format) == (None, None)


@pytest.mark.parametrize(
    ("bit", "name"), [(wire.DIRTY, "dirty"), (wire.CORRUPT, "corrupt"), (4, "external_data")]
)
def test_flags_are_told(image: Path, bit: int, name: str) -> None:
    patch(image, INCOMPATIBLE, struct.pack(">Q", wire.EXTENDED_L2 | bit))
    assert getattr(read_header(image), name)


@pytest.mark.parametrize(
    ("offset", "body", "found"),
    [
        pytest.param(0, b"RAW!", "no qcow2 header", id="another format"),
        pytest.param(CLUSTER_BITS, struct.pack(">I", 8), "2\\^8", id="clusters too small"),
        pytest.param(CLUSTER_BITS, struct.pack(">I", 22), "2\\^22", id="clusters too large"),
        pytest.param(CLUSTER_BITS, struct.pack(">I", 13), "under 16 KiB", id="no room for bits"),
        pytest.param(LENGTH, struct.pack(">I", 96), "header length", id="a header too short"),
        pytest.param(LENGTH, struct.pack(">I", 1 << 30), "header length", id="a header too long"),
        pytest.param(LENGTH - 4, struct.pack(">I", 7), "refcount order", id="wide refcounts"),
        pytest.param(SIZE, struct.pack(">Q", 2 * GiB), "L1 table", id="an L1 table too short"),
        pytest.param(L1_ENTRIES, b"\xff" * 4, "L1 table", id="an L1 table too long"),
        pytest.param(40, struct.pack(">Q", 512), "L1 table at", id="an L1 table off its cluster"),
        pytest.param(40, bytes(8), "L1 table at", id="an L1 table at nothing"),
        pytest.param(8, struct.pack(">QI", 1 << 40, 4), "backing name", id="a name far away"),
        pytest.param(8, struct.pack(">QI", 200, 2000), "backing name", id="a name too long"),
        pytest.param(116, b"\xff" * 4, "is cut", id="an extension too long"),
        pytest.param(120, b"\xff", "is not text", id="a format that is no text"),
    ],
)
def test_headers_that_cannot_be_are_refused(
    image: Path, offset: int, body: bytes, found: str
) -> None:
    patch(image, offset, body)
    with pytest.raises(Qcow2FormatError, match=found) as caught:
        read_header(image)
    assert caught.value.path == image
    assert isinstance(caught.value, IntegrityError)


@pytest.mark.parametrize(
    ("offset", "body", "feature"),
    [
        pytest.param(4, struct.pack(">I", 4), "version 4", id="a newer version"),
        pytest.param(INCOMPATIBLE, b"\x80", "0x8000000000000000", id="an unknown feature"),
    ],
)
def test_headers_from_the_future_are_refused(
    image: Path, offset: int, body: bytes, feature: str
) -> None:
    patch(image, offset, body)
    with pytest.raises(UnsupportedQcow2Error, match=feature):
        read_header(image)


@pytest.mark.parametrize("length", [0, 3, 71])
def test_a_file_too_short_for_a_header_is_refused(tmp_path: Path, length: int) -> None:
    path = tmp_path / "short.qcow2"
    path.write_bytes((wire.MAGIC + bytes(100))[:length])
    with pytest.raises(Qcow2FormatError, match="no qcow2 header"):
        read_header(path)


names = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=340)


@settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.lists(st.tuples(names, st.sampled_from(["raw", "qcow2", "host_device"])), max_size=4))
def test_any_row_of_renames_ends_at_the_last(image: Path, moves: list[tuple[str, str]]) -> None:
    for name, backing_format in [*moves, ("last.raw", "raw")]:
        rewrite_backing(image, name, backing_format)
        header = read_header(image)
        assert (header.backing_name, header.backing_format) == (name, backing_format)
        assert header.size == GiB


def extensions_of(path: Path) -> list[wire.Extension]:
    first = path.read_bytes()[: 128 * KiB]
    name_at = struct.unpack_from(">Q", first, 8)[0]
    return list(wire._extensions(path, first, 112, name_at or len(first)))


@pytest.mark.parametrize("backing_format", ["raw", "qcow2", "host_device"])
@pytest.mark.parametrize("name", [b"", b"base.raw", b"b" * 900], ids=["none", "short", "long"])
def test_other_extensions_stay(image: Path, name: bytes, backing_format: str) -> None:
    named = [wire.Extension(wire.BACKING_FORMAT, b"raw")] if name else []
    with_extensions(image, [*named, EXTRA], name)
    rewrite_backing(image, "new.img", backing_format)
    format_now = wire.Extension(wire.BACKING_FORMAT, backing_format.encode())
    assert extensions_of(image) == [format_now, EXTRA]
    rewrite_backing(image, None, None)
    assert extensions_of(image) == [EXTRA]
    assert read_header(image).backing_name is None


def test_the_same_name_again_writes_nothing(image: Path) -> None:
    before = image.read_bytes()
    rewrite_backing(image, "base.raw", "raw")
    assert image.read_bytes() == before


@pytest.mark.parametrize(
    ("name", "backing_format", "why"),
    [
        pytest.param("", "raw", "1 to 1023", id="an empty name"),
        pytest.param("ä" * 512, "raw", "1 to 1023 bytes, not 1024", id="a name too long"),
        pytest.param("base.raw", None, "without its format", id="a name without format"),
        pytest.param(None, "raw", "without a backing name", id="a format without name"),
    ],
)
def test_impossible_names_are_refused(
    image: Path, name: str | None, backing_format: str | None, why: str
) -> None:
    before = image.read_bytes()
    with pytest.raises(ValueError, match=why):
        rewrite_backing(image, name, backing_format)
    assert image.read_bytes() == before


class PowerCutError(Exception):
    """The machine stopped here."""


MANY = wire.Extension(wire.FEATURE_NAMES, b"n" * 384)


@pytest.mark.parametrize("done", [0, 1, 2])
@pytest.mark.parametrize("new_format", ["raw", "qcow2", "host_device"])
@pytest.mark.parametrize(
    "extensions", [[], [EXTRA], [MANY], [MANY, EXTRA]], ids=["bare", "extra", "names", "both"]
)
def test_a_power_cut_leaves_the_old_name_or_the_new(
    image: Path,
    monkeypatch: pytest.MonkeyPatch,
    extensions: list[wire.Extension],
    new_format: str,
    done: int,
) -> None:
    """Cut after each write; a write that may be torn is the last and within one sector."""
    with_extensions(image, [wire.Extension(wire.BACKING_FORMAT, b"raw"), *extensions], b"base.raw")
    real, writes = os.pwrite, []

    def pwrite(handle: int, body: bytes, offset: int) -> int:
        if len(writes) == done:
            raise PowerCutError
        writes.append((offset, len(body)))
        return real(handle, body, offset)

    monkeypatch.setattr(os, "pwrite", pwrite)
    try:
        rewrite_backing(image, "another-place.img", new_format)
    except PowerCutError:
        assert done < 2
    header = read_header(image)
    whole = ("another-place.img", new_format) if done == 2 else ("base.raw", "raw")
    assert (header.backing_name, header.backing_format) == whole
    assert all(offset + length <= wire.SECTOR for offset, length in writes[1:])


def test_the_name_is_synced_before_anything_points_to_it(
    image: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []
    for name in ("pwrite", "fsync"):
        real = getattr(os, name)
        monkeypatch.setattr(
            os, name, lambda *of, name=name, real=real: calls.append(name) or real(*of)
        )
    rewrite_backing(image, "elsewhere.raw", "raw")
    assert calls == ["pwrite", "fsync", "pwrite", "fsync"]


def tiny_clusters(path: Path, extensions: list[wire.Extension], name: bytes) -> None:
    """A version 3 image of 512-byte clusters, as `qemu-img create` can make them."""
    end = bytes(8)
    body = b"".join(one.encoded() for one in extensions) + end
    fields = wire.FIELDS.pack(
        wire.MAGIC, 3, 112 + len(body), len(name), 9, 64 * KiB, 0, 2, 512, 1024, 1, 0, 0
    )
    head = (fields + wire.FIELDS_V3.pack(0, 0, 0, 4, 112)).ljust(112, b"\0") + body + name
    path.write_bytes(head.ljust(2048, b"\0"))


def test_a_full_first_cluster_is_made_compact(tmp_path: Path) -> None:
    path = tmp_path / "tiny.qcow2"
    names = wire.Extension(wire.FEATURE_NAMES, b"n" * 240)
    tiny_clusters(path, [wire.Extension(wire.BACKING_FORMAT, b"raw"), names], b"base.raw")
    rewrite_backing(path, "x" * 300, "raw")
    assert read_header(path).backing_name == "x" * 300
    rewrite_backing(path, "y" * 370, "raw")
    assert read_header(path).backing_name == "y" * 370
    assert path.stat().st_size == 2048


def test_a_name_without_room_is_refused_and_nothing_altered(tmp_path: Path) -> None:
    path = tmp_path / "tiny.qcow2"
    tiny_clusters(path, [], b"")
    before = path.read_bytes()
    with pytest.raises(RefusedError, match="no room") as caught:
        rewrite_backing(path, "x" * 400, "raw")
    assert "shorter" in caught.value.remedy
    assert path.read_bytes() == before
