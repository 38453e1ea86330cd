"""
The header of a qcow2 file: reading it, and moving the backing name in place.

Everything that opens a layer starts here, and so does everything that renames a lower file: the
name in the layer above has to follow, without a tool run and without QEMU's lock. Field names and
rules are those of QEMU's `docs/interop/qcow2.txt`; where tables lie and what is in them is the
business of `qcow2_reader` and `qcow2_writer`.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from homeport.errors import IntegrityError, RefusedError
from homeport.units import KiB, MiB

MAGIC = b"QFI\xfb"
FIELDS = struct.Struct(">4sIQIIQIIQQIIQ")  # version 2 ends here, at byte 72
FIELDS_V3 = struct.Struct(">QQQII")  # features, refcount order, header length: up to byte 104
EXTENSION = struct.Struct(">II")
BACKING_FORMAT = 0xE2792ACA
FEATURE_NAMES = 0x6803F857
NAME_LIMIT = 1023  # of QEMU, in bytes
SECTOR = 512  # the largest write that a power cut leaves whole on every disk

DIRTY, CORRUPT, EXTERNAL_DATA, COMPRESSION_TYPE, EXTENDED_L2 = (1 << bit for bit in range(5))
UNDERSTOOD = DIRTY | CORRUPT | EXTERNAL_DATA | COMPRESSION_TYPE | EXTENDED_L2

_NAME_AT, _NAME_FIELDS = struct.Struct(">QI"), 8  # offset and length of the backing name
_LARGEST_CLUSTER = 2 * MiB
_LARGEST_L1 = 32 * MiB  # QEMU opens nothing larger


class Qcow2FormatError(IntegrityError):
    """A file is not the qcow2 it must be: cut, overwritten, or another format."""

    code = "Qcow2Format"
    default_cause = "The file was cut or altered, or is not a qcow2 image."

    def __init__(self, *, path: Path, found: str) -> None:
        super().__init__(f"{path}: {found}")
        self.path, self.found = path, found


class UnsupportedQcow2Error(RefusedError):
    """A sound qcow2 with a feature that Homeport does not read itself; QEMU may well do so."""

    code = "Qcow2Unsupported"
    default_cause = "The image uses a feature that layers made by Homeport never have."
    default_remedy = "Read it through qemu-nbd, or convert it: qemu-img convert -O qcow2 OLD NEW."

    def __init__(self, *, path: Path, feature: str) -> None:
        super().__init__(f"{path}: {feature}")
        self.path, self.feature = path, feature


@dataclass(frozen=True, kw_only=True, slots=True)
class Qcow2Header:
    """What a qcow2 file says about itself. Sizes and offsets are bytes."""

    version: int
    size: int  # of the disk the guest sees
    cluster_bits: int
    l1_entries: int
    l1_offset: int
    backing_name: str | None  # as written: nobody checks that it exists
    backing_format: str | None
    incompatible: int
    compatible: int
    autoclear: int
    snapshots: int  # internal ones, taken with qemu-img snapshot or savevm
    encryption: int  # 0 is none
    refcount_order: int
    header_length: int

    SUBCLUSTERS: ClassVar[int] = 32  # of an extended L2 entry, fixed by the format

    @property
    def cluster(self) -> int:
        """Bytes of a cluster."""
        return 1 << self.cluster_bits

    @property
    def extended_l2(self) -> bool:
        """Whether clusters have 32 subclusters that are allocated one by one."""
        return bool(self.incompatible & EXTENDED_L2)

    @property
    def dirty(self) -> bool:
        """Whether refcounts may lag (lazy refcounts and no clean close); the map is right."""
        return bool(self.incompatible & DIRTY)

    @property
    def corrupt(self) -> bool:
        """Whether QEMU found the image damaged and refuses to write to it."""
        return bool(self.incompatible & CORRUPT)

    @property
    def external_data(self) -> bool:
        """Whether guest data lies in another file."""
        return bool(self.incompatible & EXTERNAL_DATA)

    @property
    def granularity(self) -> int:
        """The smallest piece of the disk whose origin the map tells: subcluster or cluster."""
        return self.cluster // self.SUBCLUSTERS if self.extended_l2 else self.cluster

    @property
    def l2_entries(self) -> int:
        """Entries of one L2 table, which fills a cluster."""
        return self.cluster // (16 if self.extended_l2 else 8)


@dataclass(frozen=True, slots=True)
class Extension:
    """One header extension; `body` without its padding."""

    kind: int
    body: bytes

    def encoded(self) -> bytes:
        """The extension as it lies in the file."""
        padding = bytes(-len(self.body) % 8)
        return EXTENSION.pack(self.kind, len(self.body)) + self.body + padding


def read_header(path: Path) -> Qcow2Header:
    """
    Read and check the header of a file. Takes no lock, so it may be in use.

    Raises:
        Qcow2FormatError: not a qcow2 file, or its header contradicts itself.
        UnsupportedQcow2Error: a version or an incompatible feature unknown here.
        OSError: the file cannot be read.
    """
    with path.open("rb", buffering=0) as file:
        return parse_header(path, _first_cluster(path, file.fileno()))


def parse_header(path: Path, first: bytes) -> Qcow2Header:
    """The header in the first cluster of `path`; errors as of `read_header`."""
    fields = FIELDS.unpack_from(first)
    version, name_at, name_length, bits, size, crypt, l1_entries, l1_at = fields[1:9]
    incompatible, compatible, autoclear, order, length = _version_3(path, version, first)
    extensions = list(_extensions(path, first, length, name_at or len(first)))
    header = Qcow2Header(
        version=version,
        size=size,
        cluster_bits=bits,
        l1_entries=l1_entries,
        l1_offset=l1_at,
        backing_name=_name(path, first, name_at, name_length),
        backing_format=_format(path, extensions),
        incompatible=incompatible,
        compatible=compatible,
        autoclear=autoclear,
        snapshots=fields[11],
        encryption=crypt,
        refcount_order=order,
        header_length=length,
    )
    _check_l1(path, header)
    return header


def rewrite_backing(path: Path, name: str | None, backing_format: str | None) -> None:
    """
    Make `path` name another backing file, or none; the same again changes nothing.

    The new name is written and synced to bytes of the first cluster that nothing refers to, then
    one write of the first sector turns to it: after a power cut the file has the old name or the
    new one. Only where that is impossible (a full first cluster, or a format of another length
    before many extensions) is the whole head rewritten in one write.
    No lock is taken: nobody else may be rewriting this header.

    Raises:
        ValueError: the name is empty or longer than 1,023 bytes, or comes without its format.
        RefusedError: the cluster has no room for the name.
        Qcow2FormatError, UnsupportedQcow2Error, OSError: as of `read_header`.
    """
    encoded = check_backing(name, backing_format)
    handle = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    try:
        first = _first_cluster(path, handle)
        header = parse_header(path, first)
        if (header.backing_name, header.backing_format) != (name, backing_format):
            _move(path, handle, first, encoded, backing_format)
        os.fsync(handle)
    finally:
        os.close(handle)


def check_backing(name: str | None, backing_format: str | None) -> bytes:
    """The name as bytes, empty for none; ValueError if it cannot be a backing name."""
    if name is None:
        if backing_format is not None:
            raise ValueError("a backing format without a backing name")
        return b""
    encoded = os.fsencode(name)
    if not 0 < len(encoded) <= NAME_LIMIT:
        raise ValueError(f"a backing name has 1 to {NAME_LIMIT} bytes, not {len(encoded)}")
    if not backing_format:
        raise ValueError(f"backing file {name} without its format: QEMU would have to guess")
    return encoded


def _first_cluster(path: Path, handle: int) -> bytes:
    start = os.pread(handle, FIELDS.size, 0)
    if len(start) < FIELDS.size or start[:4] != MAGIC:
        raise Qcow2FormatError(path=path, found="no qcow2 header")
    bits = FIELDS.unpack(start)[4]
    if not 9 <= bits <= _LARGEST_CLUSTER.bit_length() - 1:
        raise Qcow2FormatError(path=path, found=f"clusters of 2^{bits} bytes are not possible")
    first = os.pread(handle, 1 << bits, 0)
    return first + bytes((1 << bits) - len(first))  # a file may end within its first cluster


def _version_3(path: Path, version: int, first: bytes) -> tuple[int, int, int, int, int]:
    """Features, refcount order and header length, with version 2's fixed values for it."""
    if version == 2:
        return 0, 0, 0, 4, FIELDS.size
    if version != 3:
        raise UnsupportedQcow2Error(path=path, feature=f"qcow2 version {version}")
    incompatible, compatible, autoclear, order, length = FIELDS_V3.unpack_from(first, FIELDS.size)
    if length < FIELDS.size + FIELDS_V3.size or length % 8 or length > len(first):
        raise Qcow2FormatError(path=path, found=f"header length {length} is not possible")
    if order > 6:
        raise Qcow2FormatError(path=path, found=f"refcount order {order} is not possible")
    unknown = incompatible & ~UNDERSTOOD
    if unknown:
        raise UnsupportedQcow2Error(path=path, feature=f"unknown feature bits {unknown:#x}")
    return incompatible, compatible, autoclear, order, length


def _check_l1(path: Path, header: Qcow2Header) -> None:
    if header.extended_l2 and header.cluster < 16 * KiB:
        raise Qcow2FormatError(path=path, found="extended L2 with clusters under 16 KiB")
    covered = header.l1_entries * header.l2_entries * header.cluster
    if covered < header.size or header.l1_entries * 8 > _LARGEST_L1:
        raise Qcow2FormatError(path=path, found="the L1 table does not fit the disk's size")
    if header.l1_offset % header.cluster or (header.l1_entries and not header.l1_offset):
        raise Qcow2FormatError(path=path, found=f"L1 table at impossible {header.l1_offset:#x}")


def _extensions(path: Path, first: bytes, start: int, limit: int) -> Iterator[Extension]:
    """The header extensions from `start` on, up to the end mark or to `limit`."""
    limit = min(limit, len(first))
    while start + EXTENSION.size <= limit:
        kind, length = EXTENSION.unpack_from(first, start)
        start += EXTENSION.size
        if kind == 0:
            return
        if start + length > limit:
            raise Qcow2FormatError(path=path, found=f"header extension {kind:#x} is cut")
        yield Extension(kind, first[start : start + length])
        start += -(-length // 8) * 8


def _name(path: Path, first: bytes, start: int, length: int) -> str | None:
    if start == 0:
        return None
    if length > NAME_LIMIT or start + length > len(first):
        raise Qcow2FormatError(path=path, found="the backing name lies outside its place")
    return os.fsdecode(first[start : start + length])


def _format(path: Path, extensions: list[Extension]) -> str | None:
    named = [extension.body for extension in extensions if extension.kind == BACKING_FORMAT]
    try:
        return named[0].decode("ascii") if named else None
    except UnicodeDecodeError as error:
        found = "the name of the backing format is not text"
        raise Qcow2FormatError(path=path, found=found) from error


def _move(path: Path, handle: int, first: bytes, name: bytes, backing_format: str | None) -> None:
    """Write the new name where nothing is, then turn to it with the first sector."""
    old_at, old_length = _NAME_AT.unpack_from(first, _NAME_FIELDS)
    length = parse_header(path, first).header_length
    kept = list(_extensions(path, first, length, old_at or len(first)))
    head = _head(first, length, kept, backing_format)
    behind = max(len(head), len(_assemble(first[:length], kept)))
    at = _free_place(len(first), behind, len(name), old_at, old_at + old_length)
    if at is None:
        slim = [one for one in kept if one.kind != FEATURE_NAMES]
        head = _assemble(first[:length], _with_format(slim, backing_format))
        at, head = len(head), head + name
        _check_room(path, len(head), len(first))
    elif name:
        os.pwrite(handle, name, at)
        os.fsync(handle)
    _NAME_AT.pack_into(head, _NAME_FIELDS, at if name else 0, len(name))
    os.pwrite(handle, head[: _last_change(first, head)], 0)


def _head(
    first: bytes, length: int, kept: list[Extension], backing_format: str | None
) -> bytearray:
    """Header and extensions with the new backing format, changed within the first sector only.

    The table of feature names merely words QEMU's messages, so it goes if it is in the way.
    """
    new = _with_format(kept, backing_format)
    head = _assemble(first[:length], new)
    if _last_change(first, head) <= SECTOR:
        return head
    return _assemble(first[:length], [one for one in new if one.kind != FEATURE_NAMES])


def _last_change(first: bytes, head: bytearray) -> int:
    """How much of `head` has to be written: up to a sector, or all if it differs behind that."""
    return min(len(head), SECTOR) if head[SECTOR:] == first[SECTOR : len(head)] else len(head)


def _free_place(cluster: int, behind: int, length: int, taken: int, free: int) -> int | None:
    """A place for `length` bytes from `behind` on, clear of the old name at `taken` to `free`."""
    for at in (behind, max(behind, -(-free // 8) * 8)):
        if at + length <= cluster and (at + length <= taken or at >= free):
            return at
    return None


def _check_room(path: Path, length: int, cluster: int) -> None:
    if length > cluster:
        raise RefusedError(
            f"{path}: no room for the backing name in a first cluster of {cluster} bytes",
            cause="QEMU looks for the name in the first cluster, behind the header.",
            remedy="Use a shorter (relative) name, or copy the image with larger clusters.",
        )


def _with_format(kept: list[Extension], backing_format: str | None) -> list[Extension]:
    """The format first, so that it lies in the first sector; the others in their order."""
    others = [one for one in kept if one.kind != BACKING_FORMAT]
    if backing_format is None:
        return others
    return [Extension(BACKING_FORMAT, backing_format.encode("ascii")), *others]


def _assemble(fields: bytes, extensions: list[Extension]) -> bytearray:
    body = b"".join(extension.encoded() for extension in extensions)
    return bytearray(fields + body + EXTENSION.pack(0, 0))
