"""When a pool is said to be about to be full, and what is said."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from homeport.agent.room import room_problem, shortage
from homeport.model.item import Role
from homeport.units import GiB, MiB, TiB

POOL = Path("/var/lib/libvirt/images")


@pytest.mark.parametrize(
    ("total", "free", "told"),
    [
        pytest.param(20 * GiB, 2 * GiB, False, id="a small pool with a tenth free"),
        pytest.param(20 * GiB, 1023 * MiB, True, id="a small pool with less than a twentieth"),
        pytest.param(20 * GiB, 1 * GiB, False, id="just a twentieth"),
        pytest.param(100 * TiB, 11 * GiB, False, id="a large pool with room for hours"),
        pytest.param(100 * TiB, 9 * GiB, True, id="a large pool with a few GiB"),
        pytest.param(20 * GiB, 0, True, id="full"),
    ],
)
def test_when_it_is_told(total: int, free: int, told: bool) -> None:
    assert (shortage(POOL, Role.SOURCE, total=total, free=free) is not None) is told


@pytest.mark.parametrize(
    ("role", "words"),
    [
        (Role.SOURCE, "QEMU pauses the machine"),
        (Role.RUNNING, "QEMU pauses the machine"),
        (Role.TARGET, "no new points land"),
        (Role.FENCED, None),
    ],
)
def test_what_it_means_where(role: Role, words: str | None) -> None:
    problem = shortage(POOL, role, total=20 * GiB, free=100 * MiB)
    if words is None:
        assert problem is None
        return
    assert problem is not None
    assert problem["code"] == "PoolNearlyFull"
    assert "100 MiB of 20 GiB free" in problem["message"]
    assert words in problem["cause"]
    assert "--discard" in problem["remedy"]


def test_the_file_system_is_asked(tmp_path: Path) -> None:
    room = os.statvfs(tmp_path)
    free, total = room.f_bavail * room.f_frsize, room.f_blocks * room.f_frsize
    told = room_problem(tmp_path, Role.TARGET) is not None
    assert told is (free < min(10 * GiB, total / 20))
