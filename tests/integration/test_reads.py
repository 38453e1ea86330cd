"""
What a resync reads, counted at the system calls: an exact one reads what differs and no disk whole.

Every `pread` of this process is counted by the file it reads, and every program that could read a
disk in its place is noted. The disks are full of bytes that do not compress.
"""

from __future__ import annotations

import os
import random
import subprocess
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from homeport.model.planning import Way
from homeport.units import KiB, MiB
from tests.world import World

pytestmark = pytest.mark.real

SIZE = 16 * MiB
BLOCK = 4 * KiB
TABLES = 512 * KiB
"""What header and tables of one layer may come to: four clusters, which do not grow with data."""


class Reads:
    """Which pages of which files were read, and the programs run meanwhile."""

    def __init__(self) -> None:
        self.pages: defaultdict[Path, set[int]] = defaultdict(set)
        self.programs: list[str] = []

    def saw(self, handle: int, offset: int, length: int) -> None:
        path = Path(f"/proc/self/fd/{handle}").readlink()
        self.pages[path] |= set(range(offset // BLOCK, -(-(offset + length) // BLOCK)))

    def below(self, folder: Path) -> dict[Path, int]:
        """Bytes read of each file below the folder, however often."""
        there = {path: pages for path, pages in self.pages.items() if path.is_relative_to(folder)}
        return {path: len(pages) * BLOCK for path, pages in there.items()}


@contextmanager
def counted(monkeypatch: pytest.MonkeyPatch) -> Iterator[Reads]:
    reads = Reads()
    preadv, pread, plain = os.preadv, os.pread, os.read

    def count_preadv(handle: int, buffers: Any, offset: int, *flags: int) -> int:
        got = preadv(handle, buffers, offset, *flags)
        reads.saw(handle, offset, got)
        return got

    def count_pread(handle: int, length: int, offset: int) -> bytes:
        got = pread(handle, length, offset)
        reads.saw(handle, offset, len(got))
        return got

    def count_read(handle: int, length: int) -> bytes:
        got = plain(handle, length)
        with suppress(OSError):  # a pipe has no place to be at
            reads.saw(handle, os.lseek(handle, 0, os.SEEK_CUR) - len(got), len(got))
        return got

    inner = subprocess.run

    def run(argv: Any, *args: Any, **named: Any) -> Any:
        reads.programs.append(" ".join(map(str, argv[:2])))
        return inner(argv, *args, **named)

    with monkeypatch.context() as patched:
        patched.setattr(os, "preadv", count_preadv)
        patched.setattr(os, "pread", count_pread)
        patched.setattr(os, "read", count_read)
        patched.setattr(subprocess, "run", run)
        yield reads


def noise(seed: int, length: int) -> bytes:
    return random.Random(seed).randbytes(length)


def scatter(world: World, seed: int, blocks: int) -> None:
    """The guest writes single blocks all over its first disk, and one run on the second."""
    for number in range(blocks):
        at = (number * 37 + seed) % (SIZE // BLOCK) * BLOCK
        world.write("vda", at, noise(seed + number, BLOCK))
    world.write("vdb", seed % 64 * BLOCK, noise(seed, 64 * KiB))


@pytest.fixture
def world(tmp_path: Path) -> World:
    world = World(tmp_path, formats={"vda": "qcow2", "vdb": "raw"}, size=SIZE)
    for number, dev in enumerate(("vda", "vdb")):
        for at in range(0, SIZE, 4 * MiB):
            world.write(dev, at, noise(number * SIZE + at, 4 * MiB))
    world.protect()
    world.replicate()
    return world


def planned(world: World) -> dict[str, bytes]:
    world.fail_over(planned=True)
    return world.remembered()


def unplanned(world: World) -> dict[str, bytes]:
    """What east never sent is set aside, and no part of the difference."""
    scatter(world, 1000, 40)
    world.fail_over()
    return world.remembered()


def older(world: World) -> dict[str, bytes]:
    """Points newer than the one booted are on the old side too: they must be undone there."""
    chosen = world.capture()
    scatter(world, 2000, 60)
    world.capture()
    newest = world.remembered()
    world.fail_over(chosen)
    return newest


def differing(one: dict[str, bytes], other: dict[str, bytes]) -> int:
    return BLOCK * sum(
        one[disk][at : at + BLOCK] != other[disk][at : at + BLOCK]
        for disk in one
        for at in range(0, SIZE, BLOCK)
    )


def resynced(world: World, monkeypatch: pytest.MonkeyPatch, way: Way | None = None) -> Reads:
    """
    What the resync reads, to its first point and the commits after it.

    The facts are asked before: with a clock that stands still they measure the disks' rate anew
    each time.
    """
    prepare, reverse = world.reprotect_orders(way=way)
    with counted(monkeypatch) as reads:
        world.standby.order(prepare)
        world.running.order(reverse)
        world.assign_target()
        world.replicate(3)
    return reads


FAILOVERS: list[Callable[[World], dict[str, bytes]]] = [planned, unplanned, older]


@pytest.mark.parametrize("fails_over", FAILOVERS, ids=lambda one: one.__name__)
def test_an_exact_resync_reads_and_sends_what_differs(
    world: World,
    fails_over: Callable[[World], dict[str, bytes]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    old = fails_over(world)
    scatter(world, 5000, 100)
    world.commit()
    differ = differing(old, world.remembered())
    assert differ >= 100 * BLOCK
    assert world.plan().way is Way.EXACT
    reads = resynced(world, monkeypatch)
    read = {**reads.below(world.running.pool), **reads.below(world.standby.pool)}
    assert differ <= sum(read.values()) <= differ * 1.05 + TABLES * len(read), (read, differ)
    bases = [path for path in read if path.parent in (world.east.pool, world.west.pool)]
    assert sum(read[path] for path in bases) <= TABLES * len(bases), "no disk is read whole"
    assert not [one for one in reads.programs if not harmless(one)], reads.programs
    assert world.running.ledger.bytes_moved <= differ * 1.05
    world.replicate()
    position = world.standby.ledger.stands_at
    assert position is not None
    for disk, content in world.remembered().items():
        assert world.standby.bytes_of(position, disk) == content


def harmless(program: str) -> bool:
    """Programs that make images, or read no more than one layer."""
    return program.partition(" ")[2] in {"create", "resize", "rebase", "commit"}


def test_a_differential_resync_reads_each_side_once(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The count can tell: here both disks are read, and no byte twice but where they differ."""
    planned(world)
    old = world.remembered()
    scatter(world, 5000, 100)
    world.commit()
    differ = differing(old, world.remembered())
    reads = resynced(world, monkeypatch, way=Way.DIFFERENTIAL)
    for host in (world.running, world.standby):
        read = sum(reads.below(host.pool).values())
        assert read >= 2 * SIZE, "each side digests both its disks"
    assert world.running.ledger.bytes_moved <= differ * 1.05
