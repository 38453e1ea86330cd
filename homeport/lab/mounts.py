"""
Mounts, by the system calls themselves: for a host's first process and for cutting folders off.

As a program (`python -m homeport.lab.mounts cut|heal FOLDER...`) it is run inside a host's mount
namespace, so that nobody outside sees what it does.
"""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

# <sys/mount.h>
MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_BIND = 2, 4, 8, 4096
MNT_DETACH, UMOUNT_NOFOLLOW = 2, 8

CUT_SOURCE = "homeport-cut"
"""What a cut folder's mount is called in /proc/mounts."""

_libc = ctypes.CDLL(None, use_errno=True)


def _check(status: int, path: str) -> None:
    if status != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), path)


def mount(source: str, target: str, kind: str = "", *, flags: int = 0, options: str = "") -> None:
    """Mount, as mount(2) does. Raises OSError."""
    status = _libc.mount(
        source.encode(), target.encode(), kind.encode() or None, flags, options.encode() or None
    )
    _check(status, target)


def bind(source: Path, target: Path) -> None:
    """Let `target` show what `source` holds. Raises OSError."""
    mount(str(source), str(target), flags=MS_BIND)


def detach(target: Path) -> None:
    """Take the topmost mount off `target`, even if it is in use or dead. Raises OSError."""
    _check(_libc.umount2(str(target).encode(), MNT_DETACH | UMOUNT_NOFOLLOW), str(target))


def is_cut(folder: Path, mounts: str) -> bool:
    """Whether a folder is cut off, by the text of /proc/mounts (which writes blanks in octal)."""
    place = str(folder).replace("\\", "\\134").replace(" ", "\\040")
    return any(line.split(" ")[:2] == [CUT_SOURCE, place] for line in mounts.splitlines())


def cut(folder: Path) -> None:
    """
    Make every access below `folder` fail with ENOTCONN, as on a network share whose server is gone.

    A FUSE file system is mounted over it and its daemon's end closed at once. An empty folder in
    its place would be worse than useless: it says "there is nothing", where nothing is known.
    Files that are open already stay usable.
    """
    handle = os.open("/dev/fuse", os.O_RDWR)
    try:
        options = f"fd={handle},rootmode=40000,user_id=0,group_id=0"
        mount(CUT_SOURCE, str(folder), "fuse", flags=MS_NOSUID | MS_NODEV, options=options)
    finally:
        os.close(handle)


def _each(folders: Sequence[str], act: Callable[[Path], None], *, wanted: bool) -> None:
    for folder in map(Path, folders):
        if is_cut(folder, Path("/proc/mounts").read_text()) is not wanted:
            act(folder)


def main(arguments: Sequence[str]) -> int:
    """Cut or heal the folders named; what is so already is left as it is."""
    actions: Mapping[str, tuple[bool, Callable[[Path], None]]] = {
        "cut": (True, cut),
        "heal": (False, detach),
    }
    wanted, act = actions[arguments[0]]
    _each(arguments[1:], act, wanted=wanted)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
