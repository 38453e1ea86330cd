"""
What the header of an image file says: size, backing file, what it was made with.

Rotation checks an overlay by it before the call, because libvirt accepts one of another size or
without a backing file and the guest then loses what lay below; `describe` reads a disk's chain by
it. Only headers and L1 tables are read, never data, and no lock is taken. Formats come from the
definition or from the header above, never from the content: a guest may write what it likes into
a raw disk, also a qcow2 header.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from homeport.dataplane.qcow2_header import (
    MAGIC,
    Qcow2FormatError,
    Qcow2Header,
    UnsupportedQcow2Error,
    read_header,
)
from homeport.errors import RefusedError

_SECTOR = 512  # QEMU rounds a raw file up to whole ones


@dataclass(frozen=True, kw_only=True, slots=True)
class Image:
    """One file of a chain. What only qcow2 has is 0, False or None in a raw one."""

    path: Path
    format: str
    size: int  # virtual bytes
    backing: Path | None = None
    backing_format: str | None = None
    cluster_size: int = 0
    extended_l2: bool = False
    encrypted: bool = False
    snapshots: int = 0  # internal ones
    empty: bool = False  # qcow2: no cluster is allocated


class UnreadableImageError(RefusedError):
    """An image file that is missing, cut, or not of the format it should have."""

    code = "UnreadableImage"

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(
            f"The disk file {path} cannot be used: {reason}.",
            cause="A file of the disk's chain was moved, removed or replaced.",
            remedy="Put the file back where it was, or correct the machine's definition.",
        )
        self.path = path
        self.reason = reason


def is_qcow2(path: Path) -> bool:
    """Whether the content looks like qcow2. Not to be asked of a disk that a guest writes raw."""
    try:
        with path.open("rb") as file:
            return file.read(len(MAGIC)) == MAGIC
    except OSError as error:
        raise UnreadableImageError(path, error.strerror or str(error)) from error


def read_image(path: Path, format: str) -> Image:  # noqa: A002
    """
    The facts of one file of that format, a block device too.

    Raises:
        UnreadableImageError: it is not there, or not of that format.
    """
    try:
        if format == "qcow2":
            return _read_qcow2(path)
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
    except OSError as error:
        raise UnreadableImageError(path, error.strerror or str(error)) from error
    return Image(path=path, format=format, size=-(-size // _SECTOR) * _SECTOR)


def chain(path: Path, format: str) -> Iterator[Image]:  # noqa: A002
    """
    The files of a disk from `path` down to its base.

    Raises:
        UnreadableImageError: a file of it is missing, or the chain names itself.
    """
    seen: set[str] = set()
    below: Path | None = path
    while below is not None:
        if os.path.realpath(below) in seen:
            raise UnreadableImageError(below, "the chain of backing files leads back to it")
        seen.add(os.path.realpath(below))
        image = read_image(below, format)
        yield image
        below, format = image.backing, image.backing_format or "raw"  # noqa: A001


def _read_qcow2(path: Path) -> Image:
    try:
        header = read_header(path)
    except (Qcow2FormatError, UnsupportedQcow2Error) as error:
        raise UnreadableImageError(path, str(error)) from error
    return Image(
        path=path,
        format="qcow2",
        size=header.size,
        backing=_resolve(path, header.backing_name),
        backing_format=header.backing_format,
        cluster_size=header.cluster,
        extended_l2=header.extended_l2,
        encrypted=header.encryption != 0,
        snapshots=header.snapshots,
        empty=_is_empty(path, header),
    )


def _is_empty(path: Path, header: Qcow2Header) -> bool:
    with path.open("rb") as file:
        file.seek(header.l1_offset)
        return not any(file.read(8 * header.l1_entries))


def _resolve(path: Path, name: str | None) -> Path | None:
    """Where a backing name leads: it is relative to the folder of the file that has it."""
    if name is None:
        return None
    if name.startswith("json:") or "://" in name:
        raise UnreadableImageError(path, f"its backing file is not a local file ({name})")
    return path.parent / name.removeprefix("file:")


class OverlayMismatchError(RefusedError):
    """A prepared overlay that must not be put under a guest."""

    code = "OverlayMismatch"

    def __init__(self, overlay: Path, reason: str) -> None:
        super().__init__(
            f"The overlay {overlay} must not go under the machine: {reason}.",
            cause="The disk was resized or its chain was changed after the overlay was made.",
            remedy="Nothing was changed. Make the overlay anew from what the disk is now.",
        )
        self.overlay = overlay
        self.reason = reason


def check_overlay(overlay: Path, *, size: int, below: Path, below_format: str) -> None:
    """
    Raise unless `overlay` is a fresh one of ours for a disk whose top file is `below`.

    Raises:
        OverlayMismatchError: with what is wrong; UnreadableImageError: it is no image.
    """
    image = read_image(overlay, "qcow2")
    if image.size != size:
        raise OverlayMismatchError(overlay, f"it has {image.size} bytes, the disk {size}")
    if image.backing is None:
        raise OverlayMismatchError(overlay, f"it names no backing file; it must name {below}")
    if not same_file(image.backing, below):
        raise OverlayMismatchError(overlay, f"it lies on {image.backing}, the disk on {below}")
    if image.backing_format != below_format:
        raise OverlayMismatchError(
            overlay, f"it takes {below} for {image.backing_format}, which is {below_format}"
        )
    if not image.extended_l2:
        raise OverlayMismatchError(overlay, "it was made without extended L2 entries")
    if not image.empty:
        raise OverlayMismatchError(overlay, "something was written to it already")


def same_file(one: Path | str | None, other: Path | str | None) -> bool:
    """Whether two paths lead to one file, links followed; None is no file."""
    if one is None or other is None:
        return False
    return os.path.realpath(one) == os.path.realpath(other)
