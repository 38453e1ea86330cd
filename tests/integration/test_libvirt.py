"""
libvirt's own pitfalls: daemons that die in a call, views that fall behind, jobs, hooks, guests.

What the port promises is in `tests/contracts/test_compute.py`; this is what only a real libvirtd
can do to us.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import libvirt
import pytest

from homeport.errors import HomeportError, IntegrityError, TransientError
from homeport.model.host import Note, UnsupportedMachineError
from homeport.model.machine import PowerState
from homeport.model.manifest import Consistency
from homeport.providers.compute import hook
from homeport.providers.compute.failures import (
    DiskBusyError,
    HypervisorUnreachableError,
    StartVetoedError,
    ViewBehindError,
)
from homeport.providers.compute.hypervisor import LibvirtCompute
from homeport.units import KiB, MiB
from tests.machines import disk_xml, machine_xml, overlay, qcow2_file, raw_file
from tests.servers_libvirt import LibvirtHost, wait_until

pytestmark = pytest.mark.real

SHUTS_ITSELF_DOWN = bytes.fromhex(
    "b486 b91600 ba60e3 cd15"  # BIOS: wait 1.5 s
    "ba0406 b80020 ef"  # the PM1a control port of q35: power off
    "f4 ebfd"
)


@pytest.fixture
def host(libvirt_host: LibvirtHost) -> Iterator[LibvirtHost]:
    yield libvirt_host
    libvirt_host.clear()


@pytest.fixture
def compute(host: LibvirtHost) -> Iterator[LibvirtCompute]:
    opened = host.compute()
    yield opened
    opened.close()


@pytest.fixture
def link(host: LibvirtHost) -> Iterator[Any]:
    opened = host.open()
    yield opened
    with contextlib.suppress(libvirt.libvirtError):
        opened.close()


@pytest.fixture
def web(compute: LibvirtCompute, link: Any, tmp_path: Path) -> Path:
    """`web` running on one raw disk; its folder."""
    link.defineXML(machine_xml(disk_xml("vda", raw_file(tmp_path / "root.raw"))))
    compute.start("web")
    return tmp_path


def grow(compute: LibvirtCompute, folder: Path, name: str, *, size: int = 16 * MiB) -> Path:
    """One more rotation; the new top."""
    below = Path(compute.sources("web").live["vda"])
    kind = "raw" if below.suffix == ".raw" else "qcow2"
    top = overlay(folder / name, below, kind, size=size)
    compute.rotate("web", {"vda": top}, quiesce=False)
    return top


def go_on(_current: int, _end: int) -> bool:
    return True


def slow_commit(link: Any, base: Path, top: Path) -> None:
    """A commit of the layer at 1 MiB/s, begun as by an agent that died."""
    domain = link.lookupByName("web")
    domain.blockCommit("vda", str(base), str(top), 1, 0)
    assert domain.blockJobInfo("vda")


class TestViews:
    def test_qemu_a_layer_ahead_is_seen_refused_and_mended_by_a_restart(
        self, host: LibvirtHost, compute: LibvirtCompute, web: Path
    ) -> None:
        first = grow(compute, web, "o1")
        ahead = overlay(web / "o2", first)
        snapshot_behind_libvirts_back(host, ahead)
        host.guest_io("web", "vda", "write -P 5 0 4k")

        found = compute.sources("web")
        assert (found.live["vda"], found.persistent["vda"]) == (str(ahead), str(first))
        with pytest.raises(ViewBehindError, match="o2"):
            compute.rotate("web", {"vda": overlay(web / "o3", ahead)}, quiesce=False)

        compute.set_sources("web", {"vda": ahead})
        compute.stop("web", timeout=0)
        compute.start("web")
        assert "failed" not in host.guest_io("web", "vda", "read -P 5 0 4k")
        top = grow(compute, web, "o4")
        assert compute.sources("web").live["vda"] == str(top)

    def test_an_overlay_that_qemu_has_already_counts_as_rotated(
        self, host: LibvirtHost, compute: LibvirtCompute, web: Path
    ) -> None:
        ahead = overlay(web / "o1", web / "root.raw", "raw")
        snapshot_behind_libvirts_back(host, ahead)
        done = compute.rotate("web", {"vda": ahead}, quiesce=False)
        assert "in place already" in done.reason
        assert compute.sources("web").persistent["vda"] == str(ahead)

    def test_a_definition_a_layer_behind_is_corrected_by_the_next_rotation(
        self, compute: LibvirtCompute, link: Any, web: Path
    ) -> None:
        first = grow(compute, web, "o1")
        grow(compute, web, "o2")
        link.defineXML(machine_xml(disk_xml("vda", first, format="qcow2")))
        assert compute.sources("web").persistent["vda"] == str(first)
        top = grow(compute, web, "o3")
        assert compute.sources("web").persistent["vda"] == str(top)

    def test_a_definition_behind_is_corrected_by_a_pivot(
        self, compute: LibvirtCompute, link: Any, web: Path
    ) -> None:
        first = grow(compute, web, "o1")
        grow(compute, web, "o2")
        link.defineXML(machine_xml(disk_xml("vda", first, format="qcow2")))
        compute.pivot("web", "vda", base=web / "root.raw")
        assert compute.sources("web").persistent["vda"] == str(web / "root.raw")


def snapshot_behind_libvirts_back(host: LibvirtHost, top: Path) -> None:
    """What is left when libvirtd dies after QEMU's transaction."""
    device = host.qmp("web", "query-block")[0]["inserted"]["node-name"]
    file = {"driver": "file", "filename": str(top), "auto-read-only": True}
    host.qmp("web", "blockdev-add", **{"node-name": "ours-file", **file})
    host.qmp(
        "web",
        "blockdev-add",
        **{"node-name": "ours", "driver": "qcow2", "file": "ours-file", "backing": None},
    )
    host.qmp("web", "blockdev-snapshot", node=device, overlay="ours")


class TestJobs:
    @pytest.fixture
    def chain(self, host: LibvirtHost, compute: LibvirtCompute, web: Path) -> list[Path]:
        """base, a layer with 8 MiB in it, the active one."""
        first = grow(compute, web, "o1")
        host.guest_io("web", "vda", "write -P 6 0 8M")
        return [web / "root.raw", first, grow(compute, web, "o2")]

    def test_a_rotation_during_a_commit_is_tried_later(
        self, compute: LibvirtCompute, link: Any, chain: list[Path]
    ) -> None:
        slow_commit(link, *chain[:2])
        top = overlay(chain[0].parent / "o3", chain[2])
        with pytest.raises(DiskBusyError) as caught:
            compute.rotate("web", {"vda": top}, quiesce=False)
        assert "virsh blockjob" in caught.value.remedy
        assert compute.sources("web").live["vda"] == str(chain[2])

    def test_a_commit_from_before_a_crash_is_joined_and_told_of(
        self, compute: LibvirtCompute, link: Any, chain: list[Path]
    ) -> None:
        slow_commit(link, *chain[:2])
        seen: list[tuple[int, int]] = []

        def watch(current: int, end: int) -> bool:
            seen.append((current, end))
            if len(seen) == 3:
                link.lookupByName("web").blockJobSetSpeed("vda", 0)
            return True

        assert compute.commit("web", "vda", base=chain[0], top=chain[1], progress=watch)
        assert seen == sorted(seen)
        assert seen[0][1] == 16 * MiB
        assert chain[0].read_bytes()[: 8 * MiB] == b"\6" * 8 * MiB

    def test_an_aborted_commit_leaves_the_chain_right_and_can_be_done_again(
        self, host: LibvirtHost, compute: LibvirtCompute, link: Any, chain: list[Path]
    ) -> None:
        slow_commit(link, *chain[:2])
        base, top, _ = chain
        assert not compute.commit("web", "vda", base=base, top=top, progress=lambda *_: False)
        assert not link.lookupByName("web").blockJobInfo("vda")
        assert "failed" not in host.guest_io("web", "vda", "read -P 6 0 8M")
        grow(compute, base.parent, "o3")
        assert compute.commit("web", "vda", base=base, top=top, progress=go_on)
        assert "failed" not in host.guest_io("web", "vda", "read -P 6 0 8M")

    def test_a_job_that_is_not_a_commit_is_left_alone(
        self, compute: LibvirtCompute, link: Any, chain: list[Path], tmp_path: Path
    ) -> None:
        domain = link.lookupByName("web")
        copy = f"<disk type='file'><driver type='raw'/><source file='{tmp_path}/copy'/></disk>"
        flag = libvirt.VIR_DOMAIN_BLOCK_COPY_TRANSIENT_JOB
        domain.blockCopy("vda", copy, {"bandwidth": 1}, flag)
        with pytest.raises(TransientError):
            compute.commit("web", "vda", base=chain[0], top=chain[1], progress=lambda *_: False)
        with pytest.raises(TransientError):
            compute.pivot("web", "vda", base=chain[0])
        assert domain.blockJobInfo("vda")

    def test_a_pivot_cut_short_is_finished(
        self, host: LibvirtHost, compute: LibvirtCompute, link: Any, chain: list[Path]
    ) -> None:
        flag = libvirt.VIR_DOMAIN_BLOCK_COMMIT_ACTIVE
        link.lookupByName("web").blockCommit("vda", str(chain[0]), None, 0, flag)
        compute.pivot("web", "vda", base=chain[0])
        assert compute.sources("web").live["vda"] == str(chain[0])
        assert "failed" not in host.guest_io("web", "vda", "read -P 6 0 8M")

    def test_a_link_in_the_path_of_a_layer_does_not_matter(
        self, compute: LibvirtCompute, chain: list[Path], tmp_path: Path
    ) -> None:
        link = tmp_path / "linked"
        link.symlink_to(chain[0].parent)
        base, top = link / chain[0].name, link / chain[1].name
        assert compute.commit("web", "vda", base=base, top=top, progress=go_on)


class TestDaemon:
    def test_nobody_there_is_tried_later(self, tmp_path: Path) -> None:
        nobody = LibvirtCompute(f"qemu:///system?socket={tmp_path}/none", pause=time.sleep)
        with pytest.raises(HypervisorUnreachableError) as caught:
            nobody.inventory()
        assert "systemctl status libvirtd" in caught.value.remedy

    def test_while_it_is_down_calls_fail_and_afterwards_they_go_on(
        self, host: LibvirtHost, compute: LibvirtCompute, web: Path
    ) -> None:
        grow(compute, web, "o1")
        host.kill_daemon()
        with pytest.raises(TransientError):
            compute.state("web")
        host.start_daemon()
        assert compute.state("web") is PowerState.RUNNING
        top = grow(compute, web, "o2")
        assert compute.sources("web").live["vda"] == str(top)

    def test_killed_in_rotations_no_write_is_lost_and_the_truth_is_told(
        self, host: LibvirtHost, compute: LibvirtCompute, web: Path
    ) -> None:
        """
        Six kills aimed at rotations. After each the machine goes on, or is restarted as told.

        Whatever state a kill leaves, `sources` names the file QEMU writes to, so every pattern
        written before is read again.
        """
        for number in range(6):
            host.guest_io("web", "vda", f"write -P {number + 1} {number * 64}k 64k")
            below = Path(compute.sources("web").live["vda"])
            kind = "raw" if below.suffix == ".raw" else "qcow2"
            top = overlay(web / f"o{number}", below, kind)
            killer = threading.Timer(0.004 * number, host.kill_daemon)
            killer.start()
            with contextlib.suppress(TransientError):
                compute.rotate("web", {"vda": top}, quiesce=False)
            killer.join()
            host.start_daemon()
            self.recover(host, compute, top, below)
            for written in range(number + 1):
                said = host.guest_io("web", "vda", f"read -P {written + 1} {written * 64}k 64k")
                assert "failed" not in said, (number, written, said)

    @staticmethod
    def recover(host: LibvirtHost, compute: LibvirtCompute, top: Path, below: Path) -> None:
        """What an agent does with an open intent to rotate from `below` to `top`."""
        found = compute.sources("web").live["vda"]
        assert found in (str(top), str(below))
        if found == str(below):
            top.unlink()
        compute.set_sources("web", {"vda": Path(found)})
        probe = overlay(Path(f"{top}.next"), Path(found), "raw" if found.endswith("w") else "qcow2")
        try:
            compute.rotate("web", {"vda": probe}, quiesce=False)
        except (IntegrityError, TransientError):
            compute.stop("web", timeout=0)
            compute.start("web")
            assert compute.sources("web").live["vda"] == found
            compute.rotate("web", {"vda": probe}, quiesce=False)
        assert compute.sources("web").persistent["vda"] == str(probe)

    def test_killed_in_a_commit_it_is_joined_or_done_again(
        self, host: LibvirtHost, compute: LibvirtCompute, link: Any, web: Path
    ) -> None:
        base, first = web / "root.raw", grow(compute, web, "o1")
        host.guest_io("web", "vda", "write -P 6 0 8M")
        grow(compute, web, "o2")
        slow_commit(link, base, first)

        def kill_once(_current: int, _end: int) -> bool:
            host.kill_daemon()
            return True

        with pytest.raises(TransientError):
            compute.commit("web", "vda", base=base, top=first, progress=kill_once)
        host.start_daemon()
        again = host.open()
        again.lookupByName("web").blockJobSetSpeed("vda", 0)
        again.close()
        assert compute.commit("web", "vda", base=base, top=first, progress=go_on)
        assert base.read_bytes()[: 8 * MiB] == b"\6" * 8 * MiB


class TestHook:
    NOTE = Note(item="i", epoch=1, role="fenced", may_start=False, reason="it runs in <west>")

    def test_virsh_start_is_denied_with_the_reason(
        self, compute: LibvirtCompute, link: Any, web: Path
    ) -> None:
        compute.stop("web", timeout=0)
        compute.set_note("web", self.NOTE)
        with pytest.raises(libvirt.libvirtError, match="it runs in <west>") as caught:
            link.lookupByName("web").create()
        assert caught.value.get_error_code() == libvirt.VIR_ERR_HOOK_SCRIPT_FAILED
        assert "fail over in Homeport" in str(caught.value)

    def test_whether_hooks_run_is_known_only_after_a_restart(self, host: LibvirtHost) -> None:
        (host.hooks / "qemu.d" / hook.NAME).unlink()
        restart(host)
        compute = host.compute()
        assert not compute.install_hook()
        restart(host)
        assert compute.install_hook()
        assert compute.state(hook.PROBE) is PowerState.ABSENT
        compute.close()

    def test_a_users_own_hook_stays_and_its_veto_is_told_as_his(
        self, host: LibvirtHost, compute: LibvirtCompute, web: Path
    ) -> None:
        own = host.hooks / "qemu"
        own.write_text(
            '#!/bin/sh\n[ "$2" = prepare ] || exit 0\necho "by order of ops" >&2\nexit 1\n'
        )
        own.chmod(0o755)
        try:
            compute.stop("web", timeout=0)
            with pytest.raises(StartVetoedError, match="by order of ops"):
                compute.start("web")
            compute.install_hook()
            assert "by order of ops" in own.read_text()
        finally:
            own.unlink()
        compute.start("web")


def restart(host: LibvirtHost) -> None:
    host.kill_daemon(signal.SIGTERM)
    host.start_daemon()


class TestMachines:
    def test_a_guest_that_shuts_itself_down_is_application_consistent(
        self, compute: LibvirtCompute, link: Any, tmp_path: Path
    ) -> None:
        disk = raw_file(tmp_path / "root.raw")
        with disk.open("r+b") as file:
            file.write(SHUTS_ITSELF_DOWN.ljust(510, b"\0") + b"\x55\xaa")
        acpi = "<features><acpi/></features>"
        link.defineXML(machine_xml(disk_xml("vda", disk), extra=acpi))
        compute.start("web")
        assert compute.stop("web", timeout=60)
        top = overlay(tmp_path / "o1", disk, "raw")
        done = compute.rotate("web", {"vda": top}, quiesce=True)
        assert (done.consistency, done.reason) == (Consistency.APP, "")

    def test_a_killed_qemu_is_crashed_and_starts_from_the_top(
        self, host: LibvirtHost, compute: LibvirtCompute, web: Path
    ) -> None:
        top = grow(compute, web, "o1")
        os.kill(host.qemu_pid("web"), signal.SIGKILL)
        wait_until(lambda: compute.state("web") is PowerState.CRASHED)
        assert compute.sources("web").live == {}
        compute.start("web")
        assert compute.sources("web").live["vda"] == str(top)

    def test_cdroms_and_read_only_disks_stay_out_of_a_rotation(
        self, compute: LibvirtCompute, link: Any, tmp_path: Path
    ) -> None:
        iso, fixed = raw_file(tmp_path / "x.iso"), raw_file(tmp_path / "ro.raw")
        root = raw_file(tmp_path / "root.raw")
        link.defineXML(
            machine_xml(
                disk_xml("vda", root),
                disk_xml("vdb", fixed, extra="<readonly/>"),
                disk_xml("sda", iso, device="cdrom"),
            )
        )
        compute.start("web")
        compute.rotate("web", {"vda": overlay(tmp_path / "o1", root, "raw")}, quiesce=False)
        found = compute.sources("web").live
        assert (found["vdb"], found["sda"]) == (str(fixed), str(iso))

    def test_a_volume_of_a_pool_is_a_disk_like_any_other(
        self, compute: LibvirtCompute, link: Any, tmp_path: Path
    ) -> None:
        pool = link.storagePoolCreateXML(
            f"<pool type='dir'><name>p</name><target><path>{tmp_path}</path></target></pool>"
        )
        qcow2_file(tmp_path / "root.qcow2")
        pool.refresh()
        disk = disk_xml("vda", None, format="qcow2").replace("type='file'", "type='volume'", 1)
        disk = disk.replace("<target", "<source pool='p' volume='root.qcow2'/><target")
        link.defineXML(machine_xml(disk))
        compute.start("web")
        assert compute.describe("web").disks[0].name == "root"
        top = overlay(tmp_path / "root.1", tmp_path / "root.qcow2")
        compute.rotate("web", {"vda": top}, quiesce=False)
        assert compute.sources("web").persistent["vda"] == str(top)
        pool.destroy()

    def test_a_machine_that_is_only_running_is_a_problem(
        self, compute: LibvirtCompute, link: Any, tmp_path: Path
    ) -> None:
        link.createXML(machine_xml(disk_xml("vda", raw_file(tmp_path / "a.raw"))), 0)
        with pytest.raises(UnsupportedMachineError) as caught:
            compute.describe("web")
        assert [problem.code for problem in caught.value.problems] == ["TransientMachine"]

    def test_a_users_snapshot_with_metadata_does_not_keep_it_from_being_deleted(
        self, compute: LibvirtCompute, link: Any, web: Path
    ) -> None:
        flag = libvirt.VIR_DOMAIN_SNAPSHOT_CREATE_DISK_ONLY
        link.lookupByName("web").snapshotCreateXML(
            "<domainsnapshot><name>mine</name></domainsnapshot>", flag
        )
        compute.delete("web")
        assert compute.state("web") is PowerState.ABSENT

    def test_fifty_machines_are_listed_in_a_tenth_of_a_second(
        self, compute: LibvirtCompute, link: Any, tmp_path: Path
    ) -> None:
        disk = raw_file(tmp_path / "a.raw")
        for number in range(50):
            uuid = f"00000000-0000-4000-8000-{number:012}"
            link.defineXML(machine_xml(disk_xml("vda", disk), name=f"m{number}", uuid=uuid))
        spans = []
        while not spans or (min(spans) >= 0.1 and len(spans) < 50):  # a busy host gets more tries
            began = time.monotonic()
            assert len(compute.inventory().machines) == 50
            spans.append(time.monotonic() - began)
        assert min(spans) < 0.1, spans


def test_a_block_device_is_rotated_committed_and_pivoted(
    host: LibvirtHost, compute: LibvirtCompute, link: Any, tmp_path: Path
) -> None:
    disk = raw_file(tmp_path / "lv.raw")
    made = subprocess.run(
        ["losetup", "--find", "--show", str(disk)], capture_output=True, text=True, check=True
    )
    device = Path(made.stdout.strip())
    try:
        link.defineXML(machine_xml(disk_xml("vda", device)))
        compute.start("web")
        assert compute.describe("web").disks[0].suffix == ""
        first = overlay(tmp_path / "o1", device, "raw")
        compute.rotate("web", {"vda": first}, quiesce=False)
        host.guest_io("web", "vda", "write -P 4 0 64k")
        second = overlay(tmp_path / "o2", first)
        compute.rotate("web", {"vda": second}, quiesce=False)
        assert compute.commit("web", "vda", base=device, top=first, progress=go_on)
        compute.pivot("web", "vda", base=device)
        found = compute.sources("web")
        assert (found.live["vda"], found.persistent["vda"]) == (str(device), str(device))
        with device.open("rb") as file:
            assert file.read(64 * KiB) == b"\4" * 64 * KiB
    finally:
        host.clear()
        subprocess.run(["losetup", "--detach", str(device)], check=True)


def test_every_error_says_what_and_what_to_do(compute: LibvirtCompute) -> None:
    with pytest.raises(HomeportError) as caught:
        compute.start("nobody")
    assert caught.value.as_dict()["remedy"]
    assert "nobody" in caught.value.message
