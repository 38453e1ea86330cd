"""
Processes by id *and* start time, so that a reused id is never taken for its old owner.

Reads `/proc` of the root namespace; signals go through pidfds, opened first and checked after.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

PROC = Path("/proc")


@dataclass(frozen=True, kw_only=True, slots=True)
class ProcessId:
    """One process of this boot, for good: no later process equals it."""

    pid: int
    started: int
    """Clock ticks since boot, field 22 of /proc/PID/stat."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Seen:
    """A process as found in `/proc`."""

    identity: ProcessId
    inner_pid: int
    """Its id in the innermost pid namespace; equals the outer one outside of the lab."""
    argv: tuple[str, ...]

    @property
    def program(self) -> str:
        """The bare name of what it runs."""
        return Path(self.argv[0]).name if self.argv else ""


def stat_fields(text: str) -> tuple[str, int]:
    """State letter and start time from the text of /proc/PID/stat; the name may hold anything."""
    after_name = text.rpartition(")")[2].split()
    return after_name[0], int(after_name[19])


def inner_pid(status: str) -> int:
    """The last id of the NSpid line of /proc/PID/status."""
    line = next(line for line in status.splitlines() if line.startswith("NSpid:"))
    return int(line.split()[-1])


def identify(pid: int) -> ProcessId | None:
    """The process that has this id now; None if there is none or it is dead and unreaped."""
    try:
        state, started = stat_fields((PROC / str(pid) / "stat").read_text())
    except (OSError, IndexError):
        return None
    return None if state in {"Z", "X"} else ProcessId(pid=pid, started=started)


def parent_of(process: ProcessId) -> int | None:
    """The id of this process's parent; None if it is gone."""
    if not alive(process):
        return None
    try:
        text = (PROC / str(process.pid) / "stat").read_text()
    except OSError:
        return None
    return int(text.rpartition(")")[2].split()[1])


def alive(process: ProcessId | None) -> bool:
    """Whether this very process still runs."""
    return process is not None and identify(process.pid) == process


def send(process: ProcessId, number: signal.Signals) -> bool:
    """Signal this very process; False if it is gone. Whoever has its id now is not touched."""
    try:
        handle = os.pidfd_open(process.pid)
    except ProcessLookupError:
        return False
    try:
        if identify(process.pid) != process:
            return False
        signal.pidfd_send_signal(handle, number)
    except ProcessLookupError:
        return False
    finally:
        os.close(handle)
    return True


def _look(folder: Path) -> Seen | None:
    identity = identify(int(folder.name))
    if identity is None:
        return None
    try:
        words = (folder / "cmdline").read_bytes().decode(errors="replace").split("\0")
        inner = inner_pid((folder / "status").read_text())
    except (OSError, StopIteration):
        return None
    return Seen(identity=identity, inner_pid=inner, argv=tuple(words[:-1]))


def everything() -> Iterator[Seen]:
    """All processes of the machine, in no order; those that end meanwhile are left out."""
    for folder in PROC.iterdir():
        if folder.name.isdigit():
            seen = _look(folder)
            if seen is not None:
                yield seen


def _namespace(pid: int) -> str | None:
    try:
        return str((PROC / str(pid) / "ns" / "pid").readlink())
    except OSError:
        return None


def sharing_namespace_of(process: ProcessId) -> Iterator[Seen]:
    """Every process in the pid namespace of this one, itself included."""
    wanted = _namespace(process.pid)
    if wanted is None or not alive(process):
        return
    for seen in everything():
        if _namespace(seen.identity.pid) == wanted:
            yield seen
