"""What only the machines in memory have: their guest, their crashes, and faults on request."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from homeport.model.host import Note, Placement
from homeport.model.machine import PowerState
from homeport.model.manifest import Consistency
from homeport.providers.compute.failures import HypervisorUnreachableError, NotRunningError
from homeport.providers.compute.files import ImageToolError
from homeport.providers.compute.guest import png_of
from homeport.providers.compute.memory import MemoryCompute
from homeport.providers.compute.memory_machine import MemoryMachine
from homeport.units import KiB, MiB
from tests.machines import disk_xml, machine_xml, overlay, raw_file

EMPTY = MemoryCompute(machines=[MemoryMachine(persistent=machine_xml())]).describe("web")


@pytest.fixture
def machine(tmp_path: Path) -> MemoryMachine:
    """`web`, running on a raw disk."""
    return MemoryMachine(persistent=machine_xml(disk_xml("vda", raw_file(tmp_path / "base.raw"))))


@pytest.fixture
def compute(machine: MemoryMachine) -> MemoryCompute:
    made = MemoryCompute(machines=[machine])
    made.start("web")
    return made


def rotate(compute: MemoryCompute, folder: Path, name: str, *, quiesce: bool = False) -> Any:
    below = Path(compute.sources("web").live["vda"])
    kind = "raw" if below.suffix == ".raw" else "qcow2"
    return compute.rotate("web", {"vda": overlay(folder / name, below, kind)}, quiesce=quiesce)


class TestGuest:
    def test_many_writes_in_one_go_and_later_ones_win(self, compute: MemoryCompute) -> None:
        compute.write("web", "vda", (0, b"a" * 100), (50, b"b" * 100), (MiB, b"c" * 5 * KiB))
        assert compute.read("web", "vda", 0, 151) == b"a" * 50 + b"b" * 100 + b"\0"
        assert compute.read("web", "vda", MiB, 5 * KiB) == b"c" * 5 * KiB

    def test_discarded_ranges_read_as_zeroes(self, compute: MemoryCompute, tmp_path: Path) -> None:
        compute.write("web", "vda", (0, b"a" * 256 * KiB))
        rotate(compute, tmp_path, "o1")
        compute.zero("web", "vda", 0, 128 * KiB)
        assert compute.read("web", "vda", 0, 256 * KiB) == bytes(128 * KiB) + b"a" * 128 * KiB

    @pytest.mark.parametrize("state", [PowerState.OFF, PowerState.PAUSED])
    def test_only_one_that_runs_writes(
        self, compute: MemoryCompute, machine: MemoryMachine, state: PowerState
    ) -> None:
        machine.state = state
        with pytest.raises(NotRunningError):
            compute.write("web", "vda", (0, b"x"))

    def test_a_write_past_the_end_fails(self, compute: MemoryCompute) -> None:
        with pytest.raises(ImageToolError):
            compute.write("web", "vda", (64 * MiB, b"x"))

    @pytest.mark.parametrize(
        ("agent", "frozen", "paused", "expected"),
        [
            pytest.param(True, False, False, Consistency.APP, id="an agent that answers"),
            pytest.param(False, False, False, Consistency.CRASH, id="no agent"),
            pytest.param(True, True, False, Consistency.CRASH, id="frozen by somebody else"),
            pytest.param(True, False, True, Consistency.CRASH, id="paused"),
        ],
    )
    def test_what_a_freeze_reaches(
        self,
        compute: MemoryCompute,
        machine: MemoryMachine,
        tmp_path: Path,
        agent: bool,
        frozen: bool,
        paused: bool,
        expected: Consistency,
    ) -> None:
        machine.guest_agent, machine.frozen = agent, frozen
        machine.state = PowerState.PAUSED if paused else PowerState.RUNNING
        done = rotate(compute, tmp_path, "o1", quiesce=True)
        assert done.consistency is expected
        assert bool(done.reason) == (expected is Consistency.CRASH)

    def test_thaw_and_ping_need_an_agent(
        self, compute: MemoryCompute, machine: MemoryMachine
    ) -> None:
        machine.frozen = True
        assert (compute.thaw("web"), machine.frozen) == (False, True)
        machine.guest_agent = True
        assert (compute.thaw("web"), machine.frozen) == (True, False)
        assert compute.ping_guest("web", timeout=1)

    def test_one_that_shut_itself_down_is_application_consistent(
        self, compute: MemoryCompute, tmp_path: Path
    ) -> None:
        assert compute.stop("web", timeout=1)
        top = overlay(tmp_path / "o1", tmp_path / "base.raw", "raw")
        done = compute.rotate("web", {"vda": top}, quiesce=True)
        assert done.consistency is Consistency.APP


CALLS: dict[str, Callable[[MemoryCompute], Any]] = {
    "inventory": lambda compute: compute.inventory(),
    "state": lambda compute: compute.state("web"),
    "sources": lambda compute: compute.sources("web"),
    "rotate": lambda compute: compute.rotate("web", {}, quiesce=False),
    "start": lambda compute: compute.start("web"),
    "delete": lambda compute: compute.delete("web"),
    "install_hook": lambda compute: compute.install_hook(),
    "create": lambda compute: compute.create(EMPTY, Placement(name="web", uuid="x", disks={})),
}


class TestHost:
    def test_machines_outlive_the_object(
        self, compute: MemoryCompute, machine: MemoryMachine, tmp_path: Path
    ) -> None:
        rotate(compute, tmp_path, "o1")
        again = MemoryCompute(machines=[machine])
        assert again.state("web") is PowerState.RUNNING
        assert again.sources("web") == compute.sources("web")

    @pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
    def test_cut_off_every_call_is_tried_later(
        self, compute: MemoryCompute, call: Callable[[MemoryCompute], Any]
    ) -> None:
        compute.stop("web", timeout=0)
        compute.reachable = False
        with pytest.raises(HypervisorUnreachableError):
            call(compute)

    def test_without_hooks_a_note_denies_nothing(self, machine: MemoryMachine) -> None:
        compute = MemoryCompute(machines=[machine], hooks=False)
        compute.set_note("web", Note(item="i", epoch=1, role="fenced", may_start=False))
        assert not compute.install_hook()
        compute.start("web")
        assert compute.state("web") is PowerState.RUNNING

    def test_memory_in_use_is_not_free(self, compute: MemoryCompute) -> None:
        found = compute.inventory()
        assert found.memory - found.memory_free == 64 * MiB

    def test_a_machine_without_a_screen_has_no_picture(self, compute: MemoryCompute) -> None:
        assert compute.screenshot("web") is None


class TestChains:
    @settings(
        max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
    )
    @given(
        moves=st.lists(
            st.one_of(
                st.tuples(st.just("write"), st.integers(0, 31), st.integers(1, 255)),
                st.tuples(st.just("zero"), st.integers(0, 31), st.just(0)),
                st.tuples(st.sampled_from(["rotate", "commit", "pivot"]), st.just(0), st.just(0)),
            ),
            max_size=12,
        )
    )
    def test_the_guest_reads_what_it_wrote_whatever_is_done_below(
        self, tmp_path_factory: pytest.TempPathFactory, moves: list[tuple[str, int, int]]
    ) -> None:
        folder = tmp_path_factory.mktemp("chain")
        base = raw_file(folder / "base.raw", 2 * MiB)
        compute = MemoryCompute()
        compute.define(machine_xml(disk_xml("vda", base)))
        compute.start("web")
        layers, content, step = [base], bytearray(2 * MiB), 64 * KiB
        for number, (move, block, value) in enumerate(moves):
            at = slice(block * step, (block + 1) * step)
            if move == "write":
                content[at] = bytes([value]) * step
                compute.write("web", "vda", (block * step, bytes(content[at])))
            elif move == "zero":
                content[at] = bytes(step)
                compute.zero("web", "vda", block * step, step)
            elif move == "rotate":
                kind = "raw" if layers[-1] == base else "qcow2"
                layers.append(overlay(folder / f"o{number}", layers[-1], kind, size=2 * MiB))
                compute.rotate("web", {"vda": layers[-1]}, quiesce=False)
            elif move == "commit" and len(layers) > 2:
                top = layers.pop(1)
                assert compute.commit("web", "vda", base=base, top=top, progress=lambda *_: True)
            elif move == "pivot":
                compute.pivot("web", "vda", base=base)
                layers = [base]
        assert compute.read("web", "vda", 0, 2 * MiB) == content
        assert compute.sources("web").live["vda"] == str(layers[-1])

    def test_a_commit_that_progress_declines_changes_nothing(
        self, compute: MemoryCompute, tmp_path: Path
    ) -> None:
        for name in ("o1", "o2"):
            rotate(compute, tmp_path, name)
        before = [image.path for image in compute.machines["web"].chain("vda")]
        assert not compute.commit(
            "web",
            "vda",
            base=tmp_path / "base.raw",
            top=tmp_path / "o1",
            progress=lambda *_: False,
        )
        assert [image.path for image in compute.machines["web"].chain("vda")] == before


class TestPng:
    @pytest.mark.parametrize("body", [bytes(18), bytes(range(18)), b" \n\t" * 6])
    def test_a_pixmap_becomes_a_png_of_the_same_pixels(self, body: bytes) -> None:
        image = png_of(b"P6\n3 2\n255\n" + body)
        assert image[16:24] == struct.pack(">II", 3, 2)
        length = struct.unpack(">I", image[33:37])[0]
        rows = zlib.decompress(image[41 : 41 + length])
        assert rows == b"\0" + body[:9] + b"\0" + body[9:]

    @pytest.mark.parametrize("pixmap", [b"P5\n1 1\n255\nx", b"P6\n1 1\n65535\nxxxxxx"])
    def test_other_pixmaps_are_refused(self, pixmap: bytes) -> None:
        with pytest.raises(ValueError, match="8 bits"):
            png_of(pixmap)
