"""
The flag that makes a file immutable (`chattr +i`), set and lifted by ioctl.

Whose file gets it, and when it goes, is the agent's to say: see `homeport.agent.immutable`. ext4,
xfs, btrfs and, since Linux 6.6, tmpfs keep it; overlayfs, FUSE and NFS do not.
"""

from __future__ import annotations

import fcntl
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

GET_FLAGS = 0x80086601
"""FS_IOC_GETFLAGS of linux/fs.h, in the encoding of x86, Arm, RISC-V and s390."""
SET_FLAGS = 0x40086602
"""FS_IOC_SETFLAGS."""
IMMUTABLE = 0x10
"""FS_IMMUTABLE_FL: no write, no truncation, no link, no rename, no removal; root's neither."""


def is_immutable(path: Path) -> bool:
    """Whether the file carries the flag; False where it is gone or its file system has none."""
    try:
        with _opened(path) as handle:
            return bool(_read(handle) & IMMUTABLE)
    except OSError:
        return False


def set_immutable(path: Path, *, on: bool) -> bool:
    """
    Set or lift the flag; True if the file is as wished afterwards. Done twice is done once.

    False where the file is gone, is no regular one, its file system has no flags, or the kernel
    denies it (CAP_LINUX_IMMUTABLE). What was lifted stays so through a power cut.
    """
    try:
        with _opened(path) as handle:
            flags = _read(handle)
            if bool(flags & IMMUTABLE) is on:
                return True
            wanted = flags | IMMUTABLE if on else flags & ~IMMUTABLE
            fcntl.ioctl(handle, SET_FLAGS, wanted.to_bytes(8, sys.byteorder))
            if not on:
                os.fsync(handle)
            return True
    except OSError:
        return False


@contextmanager
def _opened(path: Path) -> Iterator[int]:
    """The file opened for looking at; a block device would have the flags of something else."""
    if not path.is_file():
        raise FileNotFoundError(path)
    handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        yield handle
    finally:
        os.close(handle)


def _read(handle: int) -> int:
    """The file's flags: the kernel fills an int, whatever the request's number says."""
    room = bytearray(8)
    fcntl.ioctl(handle, GET_FLAGS, room)
    return int.from_bytes(room[:4], sys.byteorder)
