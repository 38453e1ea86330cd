"""The guest's OS disk: its partition table, byte by byte."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from homeport.lab.bootdisk import BOOT_START, SECTOR, DiskPlan, master_boot_record
from homeport.units import MiB

PLAN = DiskPlan(size=256 * MiB, boot_size=40 * MiB)


def entries(sector: bytes) -> list[tuple[int, int, int, int]]:
    """Flag, type, start and length in sectors of the four entries."""
    found = []
    for place in range(446, 510, 16):
        flag, _, kind, _, start, length = struct.unpack_from("<B3sB3sII", sector, place)
        found.append((flag, kind, start, length))
    return found


def test_the_record_is_one_sector_with_its_signature() -> None:
    sector = master_boot_record(PLAN, b"code", signature=0x01020304)
    assert len(sector) == SECTOR
    assert sector[:4] == b"code"
    assert sector[440:444] == b"\x04\x03\x02\x01"
    assert sector[510:] == b"\x55\xaa"


def test_the_boot_partition_is_active_and_the_root_one_fills_the_rest() -> None:
    boot, root, *empty = entries(master_boot_record(PLAN, b"", signature=0))
    assert boot == (0x80, 0x0E, 2048, 40 * 2048)
    assert root == (0, 0x83, 41 * 2048, 215 * 2048)
    assert empty == [(0, 0, 0, 0)] * 2


@given(st.integers(1, 64), st.integers(16, 4096))
def test_partitions_meet_and_end_with_the_disk(boot: int, root: int) -> None:
    plan = DiskPlan(size=(1 + boot + root) * MiB, boot_size=boot * MiB)
    assert plan.root_start == BOOT_START + plan.boot_size
    assert plan.root_start + plan.root_size == plan.size


@pytest.mark.parametrize(
    ("size", "boot"),
    [
        pytest.param(256 * MiB + 512, 40 * MiB, id="size not in MiB"),
        pytest.param(256 * MiB, 40 * MiB + 1, id="boot size not in MiB"),
        pytest.param(56 * MiB, 40 * MiB, id="15 MiB left for the root"),
        pytest.param(16 * MiB, 40 * MiB, id="smaller than its boot partition"),
    ],
)
def test_a_plan_that_cannot_be_is_refused(size: int, boot: int) -> None:
    with pytest.raises(ValueError, match=r"MiB|room"):
        DiskPlan(size=size, boot_size=boot)


def test_boot_code_must_end_before_the_signature() -> None:
    master_boot_record(PLAN, bytes(440), signature=0)
    with pytest.raises(ValueError, match="441"):
        master_boot_record(PLAN, bytes(441), signature=0)
