"""
The ground a bench stands on: a scratch folder, disks with known content, plain tools, a stopwatch.

Limits are made with `cp` and `dd` on the same file system and made durable as ours are; nothing is
read past the page cache, on either side of a comparison.
"""

from __future__ import annotations

import mmap
import multiprocessing
import os
import random
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from multiprocessing.queues import SimpleQueue
from pathlib import Path
from typing import TypeVar

from homeport.providers.disks.nbd import NbdDisk
from homeport.units import GiB, KiB, MiB

T = TypeVar("T")
FORK = multiprocessing.get_context("fork")
BLOCK = 64 * KiB  # what the common job's guest writes


@dataclass(frozen=True, kw_only=True, slots=True)
class Scale:
    """
    How large and how often: `disk` has `used` bytes of data, `changed` are rewritten.

    Estimates are held against disks with `estimated` bytes of data.
    """

    name: str
    disk: int
    used: int
    changed: int
    runs: int
    large: int  # the disk that memory and failover must not notice
    estimated: int


FULL = Scale(
    name="full",
    disk=4 * GiB,
    used=GiB,
    changed=64 * MiB,
    runs=3,
    large=64 * GiB,
    estimated=512 * MiB,
)
QUICK = Scale(
    name="quick",
    disk=512 * MiB,
    used=128 * MiB,
    changed=16 * MiB,
    runs=2,
    large=16 * GiB,
    estimated=128 * MiB,
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Ground:
    """A folder of the run's own, and its scale."""

    folder: Path
    scale: Scale

    def room(self, name: str) -> Path:
        """A new folder for one bench; an older one of the name must be gone."""
        path = self.folder / name
        path.mkdir()
        return path

    def disk(self, *, size: int | None = None, used: int | None = None) -> Path:
        """A sparse raw file whose first `used` bytes are random; made once, not to be written."""
        size, used = size or self.scale.disk, used or self.scale.used
        path = self.folder / f"disk-{size}-{used}.raw"
        if not path.exists():
            with path.open("wb") as file:
                for _ in range(used // MiB):
                    file.write(os.urandom(MiB))
                file.truncate(size)
                os.fsync(file.fileno())
        return path

    def blob(self, size: int) -> Path:
        """A file of random bytes: what a limit copies."""
        return self.disk(size=size, used=size)


def fetch_memory(size: int) -> None:
    """
    Touch so much memory and give it back, before something is timed.

    A virtual machine may return free memory to its host; what then touches it first pays for it,
    several times what a page takes otherwise, and one run more than the next.
    """
    with mmap.mmap(-1, size) as region:
        for at in range(0, size, mmap.PAGESIZE):
            region[at] = 1


def stopwatch(work: Callable[[], object]) -> float:
    """Seconds the work takes."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def beside(theirs: Callable[[], T], ours: Callable[[], object]) -> T:
    """
    What `theirs` gives, done in a process of its own while this one does `ours`.

    It has all that this process has, as it is now; what it changes in memory stays there.
    """
    answers: SimpleQueue[T] = FORK.SimpleQueue()
    process = FORK.Process(target=lambda: answers.put(theirs()))
    process.start()
    try:
        ours()
    except BaseException:
        process.terminate()
        raise
    finally:
        process.join()
    if process.exitcode:
        raise RuntimeError(f"the other side's process ended with {process.exitcode}")
    return answers.get()


def paired(
    runs: int, ours: Callable[[], float], limit: Callable[[], float]
) -> tuple[list[float], list[float]]:
    """Seconds of both, measured in turn, first one and then the other in front."""
    mine, theirs = [], []
    for number in range(runs):
        if number % 2:
            theirs.append(limit())
            mine.append(ours())
        else:
            mine.append(ours())
            theirs.append(limit())
    return mine, theirs


def tool(*argv: str | Path) -> None:
    """Run a plain tool to its end."""
    subprocess.run([str(part) for part in argv], check=True, capture_output=True)


def copy(source: Path, target: Path) -> None:
    """A durable copy of plain bytes, by `dd`."""
    tool("dd", f"if={source}", f"of={target}", "bs=4M", "conv=fsync")


def copy_sparse(source: Path, target: Path) -> None:
    """A durable copy that keeps holes, by `cp` and `sync`."""
    tool("cp", "--sparse=always", "--reflink=never", source, target)
    tool("sync", target)


def copies(source: Path, folder: Path, count: int) -> float:
    """Seconds for `count` durable copies one after the other: so many places a block lies in."""
    targets = [folder / f"copy-{number}" for number in range(count)]

    def work() -> None:
        before = source
        for target in targets:
            copy(before, target)
            before = target

    seconds = stopwatch(work)
    for target in targets:
        target.unlink()
    return seconds


def scattered(
    total: int, *, within: int, block: int = BLOCK, seed: int = 1
) -> Iterator[tuple[int, int]]:
    """Offset and length of random blocks, each once, in the random order a guest writes in."""
    chosen = random.Random(seed).sample(range(within // block), total // block)
    return ((number * block, block) for number in chosen)


def guest_writes(image: Path, blocks: Iterable[tuple[int, int]]) -> None:
    """Write fresh random bytes to each block through QEMU, in the order given, and flush."""
    with NbdDisk(image, image_format="qcow2", writable=True) as guest:
        for offset, length in blocks:
            guest.write(offset, os.urandom(length))
        guest.flush()


def peak_memory() -> int:
    """The most memory this process has held since `forget_peak`, in bytes."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * KiB
    raise RuntimeError("the kernel does not tell the peak of memory")


def forget_peak() -> None:
    """Begin to watch the peak anew."""
    Path("/proc/self/clear_refs").write_text("5")


def bytes_read() -> int:
    """What this process and its finished children have read by now, from disks and stores."""
    first = Path("/proc/self/io").read_text().splitlines()[0]
    return int(first.removeprefix("rchar: "))
