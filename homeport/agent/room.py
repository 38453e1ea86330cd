"""
Whether the pool an item lies in is about to be full, said while something can still be done.

On the side that runs the machine its layers grow with what the guest writes, whatever the disk
below has allocated; when there is no room left QEMU pauses the machine. On the other side points
end.
"""

from __future__ import annotations

import os
from pathlib import Path

from homeport.errors import RefusedError
from homeport.model.item import Role
from homeport.units import GiB, show_size

LITTLE_PART = 0.05
LITTLE = 10 * GiB
"""A file system with less free than this and than `LITTLE_PART` of it is about to be full."""
CONSEQUENCE = {
    Role.SOURCE: "QEMU pauses the machine when its layers cannot grow.",
    Role.RUNNING: "QEMU pauses the machine when its layers cannot grow.",
    Role.TARGET: "When it is full no new points land, and the RPO grows.",
}


def room_problem(folder: Path, role: Role) -> dict[str, str] | None:
    """What is to be told of the pool's room, or None."""
    found = os.statvfs(folder)
    return shortage(
        folder, role, total=found.f_blocks * found.f_frsize, free=found.f_bavail * found.f_frsize
    )


def shortage(folder: Path, role: Role, *, total: int, free: int) -> dict[str, str] | None:
    """What is to be told where so many bytes of so many are free; nothing of a fenced side."""
    if role not in CONSEQUENCE or free >= min(LITTLE, LITTLE_PART * total):
        return None
    error = RefusedError(
        f"{folder} has {show_size(free)} of {show_size(total)} free.",
        code="PoolNearlyFull",
        cause=CONSEQUENCE[role],
        remedy="Free some space or extend the pool. Set-aside writes that nobody needs can be "
        "dropped (homeport unsent ITEM --discard); a shorter retention keeps fewer points.",
    )
    return error.as_dict()
