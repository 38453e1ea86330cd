"""
Files of ext2, ext3 and ext4 read with e2fsprogs alone, where libguestfs or a kernel for it is
missing.

The image is flattened into a sparse scratch file, the journal replayed in that copy (as mounting
would), and `debugfs` asked for folders and inodes. The image is only read.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from homeport.dataplane.copying import free_bytes, measured
from homeport.errors import RefusedError
from homeport.model.filediff import HEAD
from homeport.model.unsent import ImageFile
from homeport.providers.disks.listings import Listing
from homeport.providers.disks.watched import (
    Deadline,
    ReadingToolError,
    UnreadableHereError,
    run_within,
)
from homeport.units import MiB, show_size

WAY = "e2fsprogs"
PROGRAMS = ("debugfs", "e2fsck", "blkid")
EXT = ("ext2", "ext3", "ext4")
AT_ONCE = 500
"""Folders asked for in one run of debugfs: what is held of them at a time."""
ROOM_LEFT = 64 * MiB
"""Bytes that stay free of the scratch folder's file system."""
_OTHERS = (
    "cannot be read here, because without libguestfs only ext2, ext3 and ext4 are; "
    "install libguestfs-tools and a kernel on this host, or export the image"
)
_ROOT = 2  # the inode of every ext file system's root
_FSCK_FINE = (0, 1, 2)
_LINE = re.compile(rb"/(\d+)/([0-7]{6})/\d+/\d+/(.*)/(\d*)/", re.DOTALL)
_CTIME = re.compile(rb"^ ctime: 0x([0-9a-f]+)(?::([0-9a-f]+))?", re.MULTILINE)
_MTIME = re.compile(rb"^ mtime: 0x([0-9a-f]+)(?::([0-9a-f]+))?", re.MULTILINE)
_KINDS = {0o04: "d", 0o10: "f", 0o12: "l", 0o06: "b", 0o02: "c", 0o01: "p"}


class NoScratchRoomError(RefusedError):
    """A scratch copy that would not fit."""

    code = "NoScratchRoom"

    def __init__(self, *, folder: Path, needed: int, free: int) -> None:
        super().__init__(
            f"Reading the files needs up to {show_size(needed)} in {folder}, and "
            f"{show_size(free)} are free.",
            cause="Without libguestfs the disk is copied to be read: its data, not its holes.",
            remedy="Make room there, install libguestfs-tools and a kernel, or export the image "
            "to another file system and open it there.",
        )
        self.folder, self.needed, self.free = folder, needed, free


def check_room(folder: Path, images: Sequence[ImageFile]) -> None:
    """Raise NoScratchRoomError unless copies of these images fit into the folder."""
    needed, free = sum(measured(image, "raw") for image in images), free_bytes(folder)
    if needed + ROOM_LEFT > free:
        raise NoScratchRoomError(folder=folder, needed=needed, free=free)


def missing_programs() -> list[str]:
    """Those of `PROGRAMS` that this host has not."""
    path = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"
    return [name for name in PROGRAMS if shutil.which(name, path=path) is None]


def list_files(image: ImageFile, scratch: Path, deadline: Deadline) -> list[Listing]:
    """
    The image's file systems; those that are no ext are named with the reason.

    Raises:
        UnreadableHereError: e2fsprogs is missing too.
        ReadingToolError, CancelledError, FilesTimeoutError: see there.
    """
    if missing := missing_programs():
        raise UnreadableHereError(f"{', '.join(missing)} is not installed")
    raw = scratch / "disk.raw"
    copy = ["qemu-img", "convert", "-U", "-f", image.format, "-O", "raw"]
    run_within([*copy, str(image.path), str(raw)], deadline)
    return [
        _listing(raw, part, scratch / f"part{number}", deadline)
        for number, part in enumerate(_parts(raw, deadline))
    ]


@dataclass(frozen=True, kw_only=True, slots=True)
class _Part:
    """Where a file system lies; `number` 0 is the whole disk."""

    number: int
    start: int

    @property
    def name(self) -> str:
        """As libguestfs names it, so that both ways tell of the same thing alike."""
        return f"/dev/sda{self.number or ''}"


def _parts(raw: Path, deadline: Deadline) -> list[_Part]:
    """The partitions, or the whole disk where there is no table."""
    try:
        told = run_within(["sfdisk", "--json", raw], deadline)
    except ReadingToolError:
        return [_Part(number=0, start=0)]  # it has no table, or a table of nothing
    table = json.loads(told)["partitiontable"]
    sector = int(table.get("sectorsize", 512))
    return [
        _Part(number=int(re.sub(r".*\D", "", part["node"])), start=int(part["start"]) * sector)
        for part in table.get("partitions", ())
        if part.get("type") not in ("5", "f", "85")  # an extended one only holds others
    ]


def _listing(raw: Path, part: _Part, work: Path, deadline: Deadline) -> Listing:
    type_ = _type_at(raw, part, deadline)
    if type_ not in EXT:
        known = type_ or "unknown"
        return Listing(name=part.name, type=known, unreadable=_OTHERS)
    where = f"{raw}?offset={part.start}" if part.start else str(raw)
    work.mkdir()
    try:
        run_within(["e2fsck", "-y", "-E", "journal_only", where], deadline, fine=_FSCK_FINE)
        _write_listing(_Reader(where, work, deadline), work)
    except ReadingToolError as error:
        return Listing(name=part.name, type=type_, unreadable=error.message)
    return Listing(name=part.name, type=type_, path=work / "sorted")


def _type_at(raw: Path, part: _Part, deadline: Deadline) -> str:
    argv: list[str | Path] = [
        "blkid",
        "-p",
        "-O",
        str(part.start),
        "-s",
        "TYPE",
        "-o",
        "value",
        raw,
    ]
    return run_within(argv, deadline, fine=(0, 2)).strip()


def _write_listing(reader: _Reader, work: Path) -> None:
    with (work / "listed").open("wb") as file:
        file.writelines(reader.records())
    with (work / "sorted").open("wb") as file:
        file.write(HEAD + b"\0")
    argv: list[str | Path] = ["env", "LC_ALL=C", "sort", "-z", "-T", work, work / "listed"]
    run_within(argv, reader.deadline, output=work / "sorted")
    with (work / "sorted").open("ab") as file:
        file.write(b"\0")


@dataclass(frozen=True, kw_only=True, slots=True)
class _Found:
    """A name in a folder."""

    inode: int
    mode: int
    size: int
    path: bytes

    @property
    def kind(self) -> str:
        return _KINDS.get(self.mode >> 12, "o")


class _Reader:
    """Walks a file system, some hundred folders at a time, and yields records as `find` prints."""

    def __init__(self, where: str, work: Path, deadline: Deadline) -> None:
        self._where = where
        self._commands = work / "commands"
        self.deadline = deadline

    def records(self) -> Iterator[bytes]:
        """One record for each file; order and end are the caller's."""
        todo: list[tuple[int, bytes]] = [(_ROOT, b"")]
        while todo:
            now, todo = todo[:AT_ONCE], todo[AT_ONCE:]
            found = list(self._names(now))
            todo += [(one.inode, one.path) for one in found if one.kind == "d"]
            yield from self._with_times(found)

    def _names(self, folders: Sequence[tuple[int, bytes]]) -> Iterator[_Found]:
        said = self._debugfs(f"ls -p <{inode}>" for inode, _path in folders)
        for (_inode, path), answer in zip(folders, said, strict=True):
            for line in answer.split(b"\n"):
                one = _LINE.fullmatch(line)
                if one is None or one[3] in (b".", b"..") or one[1] == b"0":
                    continue
                full = path + b"/" + one[3] if path else one[3]
                yield _Found(
                    inode=int(one[1]), mode=int(one[2], 8), size=int(one[4] or 0), path=full
                )

    def _with_times(self, found: Sequence[_Found]) -> Iterator[bytes]:
        rest = iter(found)
        while some := list(islice(rest, AT_ONCE * 20)):
            said = self._debugfs(f"stat <{one.inode}>" for one in some)
            for one, answer in zip(some, said, strict=True):
                yield _record(one, answer)

    def _debugfs(self, commands: Iterable[str]) -> Iterator[bytes]:
        """The answers to some commands, in their order."""
        self._commands.write_text("".join(f"{command}\n" for command in commands))
        answers = self._commands.with_name("answers")
        answers.unlink(missing_ok=True)
        run_within(["debugfs", "-f", self._commands, self._where], self.deadline, output=answers)
        return _split(answers)


def _split(answers: Path) -> Iterator[bytes]:
    """What debugfs said to each command: it repeats each behind its own name."""
    held: list[bytes] | None = None
    with answers.open("rb") as file:
        for line in file:
            if line.startswith((b"debugfs: ls -p <", b"debugfs: stat <")):
                if held is not None:
                    yield b"".join(held)
                held = []
            elif held is not None:
                held.append(line)
    if held is not None:
        yield b"".join(held)


def _record(one: _Found, told: bytes) -> bytes:
    changed, modified = _CTIME.search(told), _MTIME.search(told)
    if changed is None or modified is None:
        raise ReadingToolError("debugfs", f"it has not told of inode {one.inode}")
    facts = f"{one.kind} {one.size} {_time(modified)} {_time(changed)} {one.mode & 0o7777:o}"
    return one.path + b"//" + facts.encode() + b"\0"


def _time(found: re.Match[bytes]) -> str:
    """
    Seconds since 1970. Two bits of the extra field go on above the 32 of the first, the others are
    nanoseconds (Linux, Documentation/filesystems/ext4/inodes.rst).
    """
    seconds = int(found[1], 16)
    signed = seconds - (1 << 32) if seconds >= 1 << 31 else seconds
    extra = int(found[2] or b"0", 16)
    return f"{signed + ((extra & 3) << 32)}.{extra >> 2:09d}"
