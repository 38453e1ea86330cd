"""
The files of a disk's chain: overlays put on, bases renamed, layers committed down and merged.

Every function may be repeated after a crash at any moment: it looks first, writes beside, syncs,
and removes last. What the caller must record before and after is said with each. Nobody else may
have the files open, except where a function says so.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator, Sequence
from heapq import merge
from operator import itemgetter
from pathlib import Path

from homeport.dataplane.qcow2 import (
    SUBCLUSTER,
    LayerReader,
    LayerWriter,
    create_overlay,
    read_header,
    read_map,
    rewrite_backing,
)
from homeport.errors import IntegrityError, TransientError
from homeport.model.extent import Extent, ExtentSet
from homeport.model.ledger import Stamp

SECTOR = 512
"""QEMU rounds a raw file up to whole ones."""


class ImageToolError(TransientError):
    """qemu-img did not do what it was asked to."""

    code = "ImageToolFailed"

    def __init__(self, argv: Sequence[str], output: str) -> None:
        super().__init__(
            f"{' '.join(argv[:2])} failed: {output.strip() or 'it said nothing'}",
            cause="The disk is full, another process holds the image, or the image is damaged.",
            remedy="Look at the message; nothing was removed, and the step is repeated by itself.",
        )
        self.argv = tuple(argv)


class MissingLayerError(IntegrityError):
    """A file the ledger names is not there."""

    code = "LayerMissing"

    def __init__(self, path: Path) -> None:
        super().__init__(
            f"The file {path} is missing.",
            cause="It was deleted or moved from outside, or its pool is not mounted.",
            remedy="Mount the pool or put the file back; otherwise a resync repairs the replica.",
        )
        self.path = path


def sync_path(path: Path) -> None:
    """Make the content of a file, or the names in a folder, survive a power cut."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def stamp(path: Path) -> Stamp:
    """What the file looks like now; MissingLayerError when it is not there."""
    try:
        facts = path.stat()
    except FileNotFoundError as error:
        raise MissingLayerError(path) from error
    return Stamp(size=facts.st_size, mtime_ns=facts.st_mtime_ns, inode=facts.st_ino)


def relative(path: Path, seen_from: Path) -> str:
    """`path` as an image in the folder of `seen_from` names it: pools may be moved as a whole."""
    return os.path.relpath(path, seen_from.parent)


def disk_size(path: Path, image_format: str) -> int:
    """The disk's virtual bytes: a raw file's or block device's own, or what the header says."""
    if image_format != "raw":
        return read_header(path).size
    with path.open("rb") as file:
        return -(-file.seek(0, os.SEEK_END) // SECTOR) * SECTOR


def grown_bytes(path: Path) -> int:
    """
    How much longer an overlay's file is than an empty one's: data and tables, known to it or not.

    QEMU writes data at once and keeps what says where it lies to itself until the guest flushes.
    """
    header = read_header(path)
    tables = 3 + -(-8 * header.l1_entries // header.cluster)  # header, refcounts in two, L1
    return max(0, path.stat().st_size - tables * header.cluster)


def put_overlay(path: Path, *, below: Path, below_format: str, size: int) -> None:
    """
    An empty overlay on `below`; one that is there already stays, whatever was written to it.

    A name taken by something that does not stand on `below` is an IntegrityError.
    """
    if path.exists():
        if backing_of(path) != below:
            raise IntegrityError(
                f"{path} is there already and does not stand on {below}.",
                code="OverlayTaken",
                cause="Another attempt left it, or it was put there from outside.",
                remedy="Move the file away, then try again.",
            )
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    create_overlay(partial, size=size, backing=relative(below, path), backing_format=below_format)
    partial.rename(path)
    sync_path(path.parent)


def backing_of(path: Path) -> Path | None:
    """The file an image names below itself, absolute; None when it names none."""
    name = read_header(path).backing_name
    if name is None:
        return None
    return Path(os.path.normpath(path.parent / name.removeprefix("file:")))


def stand_on(path: Path, *, below: Path, below_format: str) -> None:
    """Make the image name `below`; nothing is written when it does already."""
    header = read_header(path)
    if backing_of(path) != below or header.backing_format != below_format:
        rewrite_backing(path, relative(below, path), below_format)


def rename_base(old: Path, new: Path, *, above: Sequence[Path], base_format: str) -> None:
    """
    Give a base another name while images stand on it.

    Both names exist until every image above names the new one, so no moment is without a base.
    Record `new` in the ledger only after this returns; repeated, it finishes what was begun.
    """
    if old == new:
        return
    if old.exists() and not new.exists():
        os.link(old, new)
        sync_path(new.parent)
    if not new.exists():
        raise MissingLayerError(old)
    if old.exists() and not old.samefile(new):
        raise IntegrityError(
            f"{old} cannot be renamed: {new} is another file.",
            code="NameTaken",
            cause="A file of that name was there before.",
            remedy=f"Move {new} away, then try again.",
        )
    for image in above:
        if image.exists():
            stand_on(image, below=new, below_format=base_format)
    old.unlink(missing_ok=True)
    sync_path(old.parent)


def commit_down(layer: Path, *, into: Path, into_format: str, above: Sequence[Path]) -> None:
    """
    Write a closed layer into the file it stands on; nobody may run from the chain.

    Until this returns `into` equals no point, but reading through `layer` stays right: record the
    intent before, close it after, and only then remove `layer`. Idempotent: layers are immutable.
    """
    stand_on(layer, below=into, below_format=into_format)
    fit(into, into_format, disk_size(layer, "qcow2"))
    run_tool(
        ["qemu-img", "commit", "-q", "-d", "-f", "qcow2", "-b", relative(into, layer), str(layer)]
    )
    sync_path(into)
    for image in above:
        stand_on(image, below=into, below_format=into_format)


def fit(path: Path, image_format: str, size: int) -> None:
    """
    Make a disk `size` bytes long, for a layer of that size to go into it.

    A longer one is cut: what lies beyond the layer's end cannot be seen through it, and would come
    back when the disk is made longer again. A block device stays as it is.
    """
    now = disk_size(path, image_format)
    if now == size or path.is_block_device():
        return
    shrink = ["--shrink"] if now > size else []
    run_tool(["qemu-img", "resize", "-q", *shrink, "-f", image_format, str(path), str(size)])


def merge_layers(lower: Path, upper: Path, *, below: Path, below_format: str) -> ExtentSet:
    """
    Make `upper` hold what both held, standing on `below`; `lower` can then be removed.

    The new file replaces `upper` in one rename, so every image standing on it stays right. Returns
    its change map. Repeated after the rename, when `upper` stands on `below`, it does nothing.
    """
    if backing_of(upper) == below:
        return read_map(upper).changed
    partial = upper.with_name(upper.name + ".merging")
    size = disk_size(upper, "qcow2")
    with (
        LayerReader(lower) as low,
        LayerReader(upper) as high,
        LayerWriter(
            partial, size=size, backing=relative(below, upper), backing_format=below_format
        ) as writer,
    ):
        _merge(low, high, writer, size)
        writer.finish()
    partial.rename(upper)
    sync_path(upper.parent)
    return read_map(upper).changed


def _merge(low: LayerReader, high: LayerReader, writer: LayerWriter, size: int) -> None:
    """
    Upper decides where it has anything. Behind the end of a lower one that is shorter the disk
    reads zero, whatever lies further below.
    """
    decided, end = high.map.changed, min(low.map.header.size, size)
    behind = ExtentSet.of(-(-end // SUBCLUSTER) * SUBCLUSTER, size).clipped(size)
    zero = high.map.zero | ((low.map.zero.clipped(end).aligned(SUBCLUSTER) | behind) - decided)
    pieces: tuple[Iterator[tuple[int, bytes | int]], ...] = (
        iter(high.scan(high.map.data.clipped(size))),
        iter(low.scan(low.map.data.clipped(end) - decided)),
        ((extent.start, extent.length) for extent in zero.clipped(size)),
    )
    for start, body in merge(*pieces, key=itemgetter(0)):
        if isinstance(body, int):
            writer.zero(start, body)
        else:  # a shorter disk may have ended within a block
            writer.data(start, body + bytes(min(-len(body) % SUBCLUSTER, size - start - len(body))))


def punch(path: Path, extents: ExtentSet) -> None:
    """Turn ranges of a raw file into holes: a live commit writes a guest's discards as zeroes."""
    for extent in extents:
        if extent.length >= 64 * 1024:
            _punch_one(path, extent)


def _punch_one(path: Path, extent: Extent) -> None:
    argv = ["fallocate", "--punch-hole", "-o", str(extent.start), "-l", str(extent.length)]
    try:
        run_tool([*argv, str(path)])
    except ImageToolError:
        return  # a file system without holes keeps the zeroes: right, only larger


def run_tool(argv: Sequence[str]) -> str:
    """Run a tool to its end and return what it printed; ImageToolError when it fails."""
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise ImageToolError(argv, done.stderr or done.stdout)
    return done.stdout
