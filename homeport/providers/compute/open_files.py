"""
Which files a running QEMU has open for writing: the truth where libvirt's view may be behind.

When libvirtd dies in a rotation, QEMU may write to the new overlay while libvirt, started again,
still takes the file below for the top, for good. QEMU keeps the file it writes to open for
writing and those below it for reading only, and the kernel shows which: no call to QEMU is needed,
and no monitor command that would mark the machine as tampered with.
"""

from __future__ import annotations

import os
from pathlib import Path

from homeport.providers.compute.images import (
    UnreadableImageError,
    chain,
    is_qcow2,
    same_file,
)

_MODE = 0o3  # the access mode's bits in the flags of open(2): 0 reading, 1 writing, 2 both


def written_files(pid: int, proc: Path = Path("/proc")) -> frozenset[str]:
    """Files that process has open for writing; empty when it is gone or not to be seen."""
    found = set()
    folder = proc / str(pid)
    try:
        handles = [path.name for path in (folder / "fd").iterdir()]
    except OSError:
        return frozenset()
    for handle in handles:
        try:
            target = str((folder / "fd" / handle).readlink())
            flags = (folder / "fdinfo" / handle).read_text().split("flags:\t")[1].split()[0]
        except (OSError, IndexError):
            continue  # closed since it was listed
        if target.startswith("/") and int(flags, 8) & _MODE:
            found.add(target)
    return frozenset(found)


def true_top(source: str, written: frozenset[str]) -> str:
    """
    The file QEMU writes to, where libvirt says `source`.

    It is `source` as long as that is open for writing, and also where nothing is known.
    """
    if os.path.realpath(source) in written:
        return source
    above = [(_height(path, source), path) for path in written]
    height, top = max(above, default=(0, source))
    return top if height else source


def _height(path: str, below: str) -> int:
    """How many layers `path` lies above `below`; 0 if it does not."""
    file = Path(path)
    try:
        if not file.is_file() or not is_qcow2(file):
            return 0
        for height, image in enumerate(chain(file, "qcow2")):
            if same_file(image.path, below):
                return height
    except UnreadableImageError:
        return 0
    return 0
