"""Processes are known by id and start time."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from dataclasses import replace

import pytest

from homeport.lab import processes
from homeport.lab.processes import ProcessId, Seen


@pytest.fixture
def child() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(["sleep", "60"]) as process:
        yield process
        process.kill()


def identity(child: subprocess.Popen[bytes]) -> ProcessId:
    found = processes.identify(child.pid)
    assert found is not None
    return found


TAIL = "S 1 " + " ".join(str(n) for n in range(3, 20)) + " 4711 0 0"


@pytest.mark.parametrize("name", ["sleep", "a b", "(sd-pam)", "x) R 1 2 (", ""], ids=repr)
def test_a_process_name_cannot_confuse_its_start_time(name: str) -> None:
    assert processes.stat_fields(f"12 ({name}) {TAIL}") == ("S", 4711)


@pytest.mark.parametrize(
    ("line", "expected"), [("NSpid:\t12", 12), ("NSpid:\t12\t1", 1), ("NSpid:\t9\t8\t7", 7)]
)
def test_the_innermost_id_is_the_last(line: str, expected: int) -> None:
    assert processes.inner_pid(f"Name:\tx\n{line}\nThreads:\t1\n") == expected


def test_a_running_process_is_alive_until_it_ends(child: subprocess.Popen[bytes]) -> None:
    known = identity(child)
    assert processes.alive(known)
    child.kill()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert not processes.alive(known), "dead but not reaped is dead"
    child.wait()
    assert not processes.alive(known)


def test_nobody_is_not_alive() -> None:
    assert not processes.alive(None)
    assert processes.identify(2**22 + 1) is None


def test_the_one_meant_gets_the_signal(child: subprocess.Popen[bytes]) -> None:
    assert processes.send(identity(child), signal.SIGTERM)
    assert child.wait() == -signal.SIGTERM


def test_whoever_has_a_reused_id_is_left_alone(child: subprocess.Popen[bytes]) -> None:
    earlier = replace(identity(child), started=identity(child).started - 1)
    assert not processes.send(earlier, signal.SIGKILL)
    assert not processes.alive(earlier)
    assert child.poll() is None


def test_a_signal_to_the_dead_says_so(child: subprocess.Popen[bytes]) -> None:
    known = identity(child)
    child.kill()
    child.wait()
    assert not processes.send(known, signal.SIGKILL)


def test_parents_are_known(child: subprocess.Popen[bytes]) -> None:
    assert processes.parent_of(identity(child)) == os.getpid()
    assert processes.parent_of(ProcessId(pid=child.pid, started=0)) is None


def test_everything_includes_the_child_with_its_words(child: subprocess.Popen[bytes]) -> None:
    found = {seen.identity: seen for seen in processes.everything()}[identity(child)]
    assert found.program == "sleep"
    assert found.argv[-1] == "60"
    assert found.inner_pid == child.pid or found.inner_pid > 0


def test_the_namespace_holds_this_process_and_its_child(child: subprocess.Popen[bytes]) -> None:
    pids = {seen.identity.pid for seen in processes.sharing_namespace_of(identity(child))}
    assert {child.pid, os.getpid()} <= pids


def test_the_dead_share_no_namespace(child: subprocess.Popen[bytes]) -> None:
    gone = replace(identity(child), started=1)
    assert list(processes.sharing_namespace_of(gone)) == []


def test_a_kernel_thread_has_no_program() -> None:
    seen = Seen(identity=ProcessId(pid=2, started=0), inner_pid=2, argv=())
    assert seen.program == ""
