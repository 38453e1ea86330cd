"""What the compute port promises, asked of libvirt with a real QEMU and of its in-memory twin."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol
from xml.etree import ElementTree as ET

import libvirt
import pytest

from homeport.agent.ports import Compute
from homeport.errors import IntegrityError, RefusedError, TransientError
from homeport.model.host import (
    DiskPlace,
    Note,
    Placement,
    UnknownMachineError,
    UnsupportedMachineError,
)
from homeport.model.machine import DiskFormat, Firmware, MachineDefinition, PowerState
from homeport.model.manifest import Consistency
from homeport.providers.compute.failures import (
    NotRunningError,
    SavedStateError,
    StartVetoedError,
    UnknownDiskError,
)
from homeport.providers.compute.images import OverlayMismatchError
from homeport.providers.compute.memory import MemoryCompute
from homeport.providers.compute.resources import PoolTakenError
from homeport.units import KiB, MiB
from tests.machines import (
    NIC,
    SIZE,
    UUID,
    disk_xml,
    machine_xml,
    overlay,
    qcow2_file,
    raw_file,
)
from tests.servers_libvirt import LibvirtHost

OTHER = "0a2d0c6f-6a3c-4a0f-9f0a-3f5f2d6c0001"
NETWORK = NIC.format(kind="network", source="<source network='lan'/>")
NOTE = Note(
    item="item-1", epoch=3, role="fenced", may_start=False, reason="it's <west>'s \"now\" & here"
)


class Rig(Protocol):
    """A host under test, with what a user and a guest may do to it."""

    @property
    def compute(self) -> Compute: ...

    @property
    def variables(self) -> Path: ...

    def define(self, xml: str) -> None: ...

    def write(self, target: str, offset: int, pattern: int, length: int) -> None: ...

    def holds(self, target: str, offset: int, pattern: int, length: int) -> bool: ...

    def resize(self, target: str, size: int) -> None: ...

    def save(self) -> None: ...

    def pause(self) -> None: ...

    def hold(self, target: str) -> None: ...

    def lasts(self, name: str) -> bool: ...


@dataclass
class MemoryRig:
    compute: MemoryCompute
    variables: Path

    def define(self, xml: str) -> None:
        self.compute.define(xml)

    def write(self, target: str, offset: int, pattern: int, length: int) -> None:
        self.compute.write("web", target, (offset, bytes([pattern]) * length))

    def holds(self, target: str, offset: int, pattern: int, length: int) -> bool:
        return self.compute.read("web", target, offset, length) == bytes([pattern]) * length

    def resize(self, target: str, size: int) -> None:
        self.compute.resize("web", target, size)

    def save(self) -> None:
        self.compute.stop("web", timeout=0)
        self.compute.machines["web"].saved = True

    def pause(self) -> None:
        self.compute.machines["web"].state = PowerState.PAUSED

    def hold(self, target: str) -> None:
        self.compute.machines["web"].busy.add(target)

    def lasts(self, name: str) -> bool:
        """What is made in memory is there for good."""
        found = self.compute.inventory()
        return name in {one.name for one in found.pools} | {one.name for one in found.networks}


@dataclass
class LibvirtRig:
    host: LibvirtHost
    compute: Compute
    link: Any

    @property
    def variables(self) -> Path:
        return self.host.variables

    def define(self, xml: str) -> None:
        self.link.defineXML(xml)

    def write(self, target: str, offset: int, pattern: int, length: int) -> None:
        said = self.host.guest_io("web", target, f"write -P {pattern} {offset} {length}")
        assert "failed" not in said, said

    def holds(self, target: str, offset: int, pattern: int, length: int) -> bool:
        said = self.host.guest_io("web", target, f"read -P {pattern} {offset} {length}")
        return "failed" not in said

    def resize(self, target: str, size: int) -> None:
        self.link.lookupByName("web").blockResize(target, size, 1)

    def save(self) -> None:
        self.link.lookupByName("web").managedSave()

    def pause(self) -> None:
        self.link.lookupByName("web").suspend()

    def hold(self, target: str) -> None:
        """A mirror to a copy, throttled to a byte a second: another tool's job."""
        domain = self.link.lookupByName("web")
        copy = self.host.folder / f"copy-{target}"
        copy.unlink(missing_ok=True)
        xml = f"<disk type='file'><driver type='raw'/><source file='{copy}'/></disk>"
        domain.blockCopy(target, xml, {"bandwidth": 1}, libvirt.VIR_DOMAIN_BLOCK_COPY_TRANSIENT_JOB)

    def lasts(self, name: str) -> bool:
        """Whether a pool or network outlives the host's restart."""
        made: list[Any] = [*self.link.listAllStoragePools(), *self.link.listAllNetworks()]
        (one,) = (one for one in made if one.name() == name)
        return bool(one.isPersistent() and one.autostart())


@pytest.fixture(params=["memory", pytest.param("libvirt", marks=pytest.mark.real)])
def rig(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Rig]:
    if request.param == "memory":
        folder = tmp_path / "nvram"
        compute = MemoryCompute(
            pools={"pool": tmp_path}, networks=("lan",), variables_folder=folder
        )
        yield MemoryRig(compute=compute, variables=folder)
        return
    host: LibvirtHost = request.getfixturevalue("libvirt_host")
    link = host.open()
    lan = link.networkCreateXML("<network><name>lan</name><bridge name='hplan0'/></network>")
    pool = link.storagePoolCreateXML(
        f"<pool type='dir'><name>pool</name><target><path>{tmp_path}</path></target></pool>"
    )
    real = host.compute()
    yield LibvirtRig(host=host, compute=real, link=link)
    host.clear()
    real.close()
    lan.destroy()
    pool.destroy()
    link.close()


@pytest.fixture
def two_disks(rig: Rig, tmp_path: Path) -> Path:
    """`web`, running, on a raw disk `vda` and a qcow2 disk `vdb`; its folder."""
    rig.define(
        machine_xml(
            disk_xml("vda", raw_file(tmp_path / "root.raw")),
            disk_xml("vdb", qcow2_file(tmp_path / "data.qcow2"), format="qcow2"),
            devices="<video><model type='vga'/></video>",
        )
    )
    rig.compute.start("web")
    return tmp_path


def with_flash(definition: MachineDefinition, folder: Path, variables: bytes) -> MachineDefinition:
    """The machine with UEFI firmware from a flash of its own, and with these variables."""
    code = raw_file(folder / "code.fd")
    flash = f"<features><acpi/></features><os><loader type='pflash' readonly='yes'>{code}</loader>"
    text = definition.domain_xml.replace("<os>", flash)
    return replace(definition, nvram=variables, domain_xml=text)


def left_to_libvirt(folder: Path) -> str:
    """A UEFI machine as `virt-install --boot uefi` defines it: no file of it is named."""
    disk = disk_xml("vda", raw_file(folder / "a.raw"))
    return machine_xml(disk, extra="<features><acpi/></features>", firmware="efi")


def file_of(rig: Rig) -> Path | None:
    """The file of the variables of `web`."""
    return rig.compute.variables(rig.compute.describe("web"), name="web")


def layers(folder: Path, count: int, rig: Rig) -> list[Path]:
    """Rotate `vda` that often, writing before each; its chain, base first."""
    chain = [folder / "root.raw"]
    for number in range(1, count + 1):
        kind = "raw" if number == 1 else "qcow2"
        chain.append(overlay(folder / f"root.{number}", chain[-1], kind))
        rig.compute.rotate("web", {"vda": chain[-1]}, quiesce=False)
        rig.write("vda", number * MiB, number, 64 * KiB)
    return chain


def backing(path: Path) -> str:
    told = subprocess.run(
        ["qemu-img", "info", "-U", "--output=json", str(path)], capture_output=True, check=True
    )
    return str(json.loads(told.stdout).get("full-backing-filename", ""))


def go_on(_current: int, _end: int) -> bool:
    return True


def place(path: Path, **changes: Any) -> Placement:
    values: dict[str, Any] = {
        "name": "web",
        "uuid": UUID,
        "disks": {"vda": DiskPlace(path=str(path), format="raw")},
    }
    return Placement(**(values | changes))


class TestDescribe:
    def test_disks_cards_and_order_are_those_of_the_definition(
        self, rig: Rig, tmp_path: Path
    ) -> None:
        rig.define(
            machine_xml(
                disk_xml("vda", qcow2_file(tmp_path / "data.qcow2", 5 * MiB), format="qcow2"),
                disk_xml("sda", None, device="cdrom"),
                disk_xml("vdb", raw_file(tmp_path / "boot.img", 3 * MiB + 512)),
                disk_xml("vdc", raw_file(tmp_path / "ro.raw"), extra="<readonly/>"),
                disk_xml("vdd", raw_file(tmp_path / "shared.raw"), extra="<shareable/>"),
                devices=NETWORK + NIC.format(kind="bridge", source="<source bridge='br7'/>"),
            )
        )
        found = rig.compute.describe("web")
        assert [(d.name, d.target, d.format, d.size, d.suffix, d.pool) for d in found.disks] == [
            ("data", "vda", DiskFormat.QCOW2, 5 * MiB, ".qcow2", "pool"),
            ("boot", "vdb", DiskFormat.RAW, 3 * MiB + 512, ".img", "pool"),
        ]
        assert [nic.network for nic in found.nics] == ["lan", "bridge:br7"]
        assert found.nics[0].mac == "52:54:00:11:22:33"
        assert found.nics[0].model == "e1000e"
        assert (found.uuid, found.memory, found.vcpus) == (UUID, 64 * MiB, 1)
        assert found.firmware is Firmware.BIOS

    def test_names_and_base_stay_when_layers_are_put_on_top(
        self, rig: Rig, two_disks: Path
    ) -> None:
        before = rig.compute.describe("web").disks
        names = {disk.target: disk.name for disk in before}
        layers(two_disks, 2, rig)
        assert rig.compute.describe("web", names=names).disks == before

    def test_our_note_is_not_part_of_it(self, rig: Rig, two_disks: Path) -> None:
        before = rig.compute.describe("web")
        rig.compute.set_note("web", NOTE)
        assert rig.compute.describe("web") == before

    def test_a_running_disk_has_the_size_it_has_now(self, rig: Rig, two_disks: Path) -> None:
        rig.resize("vda", 20 * MiB)
        assert rig.compute.describe("web").disks[0].size == 20 * MiB

    def test_every_problem_is_named_at_once(self, rig: Rig, tmp_path: Path) -> None:
        snapshotted = qcow2_file(tmp_path / "b.qcow2")
        subprocess.run(["qemu-img", "snapshot", "-c", "mine", str(snapshotted)], check=True)
        rig.define(
            machine_xml(
                disk_xml("vda", raw_file(tmp_path / "a.raw"), driver="copy_on_read='on'"),
                disk_xml("vdb", snapshotted, format="qcow2", driver="cache='unsafe'"),
                disk_xml("vdc", tmp_path / "missing.raw"),
            )
        )
        with pytest.raises(UnsupportedMachineError) as caught:
            rig.compute.describe("web")
        assert [problem.code for problem in caught.value.problems] == [
            "CopyOnRead",
            "UnsafeCache",
            "InternalSnapshots",
            "UnreadableImage",
        ]
        assert all(problem.remedy for problem in caught.value.problems)

    def test_what_it_runs_with_counts_although_its_definition_is_mended(
        self, rig: Rig, tmp_path: Path
    ) -> None:
        path = raw_file(tmp_path / "a.raw")
        rig.define(machine_xml(disk_xml("vda", path, driver="cache='unsafe'")))
        rig.compute.start("web")
        if isinstance(rig, MemoryRig):
            rig.compute.machines["web"].persistent = machine_xml(disk_xml("vda", path))
        else:
            rig.define(machine_xml(disk_xml("vda", path)))
        with pytest.raises(UnsupportedMachineError) as caught:
            rig.compute.describe("web")
        assert [problem.code for problem in caught.value.problems] == ["UnsafeCache"]

    def test_a_saved_state_is_a_problem(self, rig: Rig, two_disks: Path) -> None:
        rig.save()
        with pytest.raises(UnsupportedMachineError) as caught:
            rig.compute.describe("web")
        assert [problem.code for problem in caught.value.problems] == ["SavedState"]
        assert "managedsave-remove web" in caught.value.remedy

    def test_the_variables_of_a_uefi_machine_are_read(self, rig: Rig, tmp_path: Path) -> None:
        (tmp_path / "web.fd").write_bytes(b"variables" * 1000)
        loader = raw_file(tmp_path / "code.fd")
        acpi = "<features><acpi/></features>"
        flash = (
            "<type arch='x86_64' machine='q35'>hvm</type>"
            f"<loader readonly='yes' type='pflash'>{loader}</loader>"
            f"<nvram>{tmp_path}/web.fd</nvram>"
        )
        rig.define(machine_xml(disk_xml("vda", raw_file(tmp_path / "a.raw")), os=flash, extra=acpi))
        found = rig.compute.describe("web")
        assert found.firmware is Firmware.UEFI
        assert found.nvram == b"variables" * 1000
        assert file_of(rig) == tmp_path / "web.fd"

    def test_variables_are_found_where_libvirt_chose_their_file(
        self, rig: Rig, tmp_path: Path
    ) -> None:
        rig.define(left_to_libvirt(tmp_path))
        assert file_of(rig) == rig.variables / "web_VARS.fd"
        assert rig.compute.describe("web").nvram is None
        rig.compute.start("web")
        made = file_of(rig)
        assert made is not None
        made.parent.mkdir(exist_ok=True)
        made.write_bytes(b"variables" * 1000)  # as the guest's firmware does
        assert rig.compute.describe("web").nvram == b"variables" * 1000
        rig.compute.stop("web", timeout=0)
        found = rig.compute.describe("web")
        assert (found.firmware, found.nvram) == (Firmware.UEFI, b"variables" * 1000)

    def test_a_machine_without_uefi_has_no_variables(self, rig: Rig, two_disks: Path) -> None:
        del two_disks
        assert file_of(rig) is None

    def test_under_another_name_libvirt_takes_another_file(self, rig: Rig, tmp_path: Path) -> None:
        rig.define(left_to_libvirt(tmp_path))
        found = rig.compute.variables(rig.compute.describe("web"), name="db")
        assert found == rig.variables / "db_VARS.fd"


class TestRotate:
    def test_writes_go_to_the_overlay_and_the_layer_below_stands_still(
        self, rig: Rig, two_disks: Path
    ) -> None:
        rig.write("vda", 0, 1, 4 * KiB)
        top = overlay(two_disks / "root.1", two_disks / "root.raw", "raw")
        done = rig.compute.rotate("web", {"vda": top}, quiesce=False)
        rig.write("vda", 0, 2, 4 * KiB)
        assert (two_disks / "root.raw").read_bytes()[: 4 * KiB] == b"\1" * 4 * KiB
        assert rig.holds("vda", 0, 2, 4 * KiB)
        assert (done.consistency, done.reason) == (Consistency.CRASH, "")

    def test_both_views_have_every_overlay_and_unnamed_disks_stay(
        self, rig: Rig, two_disks: Path
    ) -> None:
        top = overlay(two_disks / "root.1", two_disks / "root.raw", "raw")
        rig.compute.rotate("web", {"vda": top}, quiesce=False)
        expected = {"vda": str(top), "vdb": str(two_disks / "data.qcow2")}
        found = rig.compute.sources("web")
        assert (found.live, found.persistent) == (expected, expected)

    def test_two_disks_in_one_call(self, rig: Rig, two_disks: Path) -> None:
        tops = {
            "vda": overlay(two_disks / "root.1", two_disks / "root.raw", "raw"),
            "vdb": overlay(two_disks / "data.1", two_disks / "data.qcow2"),
        }
        rig.compute.rotate("web", tops, quiesce=False)
        assert rig.compute.sources("web").live == {key: str(top) for key, top in tops.items()}

    def test_a_machine_that_is_off_rotates_its_definition(self, rig: Rig, two_disks: Path) -> None:
        rig.compute.stop("web", timeout=0)
        top = overlay(two_disks / "root.1", two_disks / "root.raw", "raw")
        rig.compute.rotate("web", {"vda": top}, quiesce=False)
        found = rig.compute.sources("web")
        assert (found.live, found.persistent["vda"]) == ({}, str(top))
        rig.compute.start("web")
        assert rig.compute.sources("web").live["vda"] == str(top)

    def test_the_same_again_leaves_it_so(self, rig: Rig, two_disks: Path) -> None:
        top = layers(two_disks, 1, rig)[-1]
        again = rig.compute.rotate("web", {"vda": top}, quiesce=True)
        assert rig.compute.sources("web").live["vda"] == str(top)
        assert again.consistency is Consistency.CRASH
        assert "in place already" in again.reason

    def test_in_place_on_one_disk_only_is_not_one_instant(self, rig: Rig, two_disks: Path) -> None:
        top = layers(two_disks, 1, rig)[-1]
        other = overlay(two_disks / "data.1", two_disks / "data.qcow2")
        with pytest.raises(IntegrityError, match="some disks"):
            rig.compute.rotate("web", {"vda": top, "vdb": other}, quiesce=False)

    def test_a_guest_that_cannot_freeze_gets_a_plain_one_that_says_why(
        self, rig: Rig, two_disks: Path
    ) -> None:
        top = overlay(two_disks / "root.1", two_disks / "root.raw", "raw")
        done = rig.compute.rotate("web", {"vda": top}, quiesce=True)
        assert done.consistency is Consistency.CRASH
        assert "guest agent" in done.reason
        assert rig.compute.sources("web").live["vda"] == str(top)

    def test_a_machine_powered_off_is_not_application_consistent(
        self, rig: Rig, two_disks: Path
    ) -> None:
        rig.compute.stop("web", timeout=0)
        top = overlay(two_disks / "root.1", two_disks / "root.raw", "raw")
        done = rig.compute.rotate("web", {"vda": top}, quiesce=True)
        assert done.consistency is Consistency.CRASH
        assert "off" in done.reason

    def test_after_a_resize_the_overlay_must_have_the_new_size(
        self, rig: Rig, two_disks: Path
    ) -> None:
        layers(two_disks, 1, rig)
        rig.resize("vda", 24 * MiB)
        small = overlay(two_disks / "small", two_disks / "root.1")
        with pytest.raises(OverlayMismatchError):
            rig.compute.rotate("web", {"vda": small}, quiesce=False)
        large = overlay(two_disks / "large", two_disks / "root.1", size=24 * MiB)
        rig.compute.rotate("web", {"vda": large}, quiesce=False)
        rig.write("vda", 20 * MiB, 9, 4 * KiB)
        assert rig.holds("vda", 20 * MiB, 9, 4 * KiB)

    @pytest.mark.parametrize(
        ("command", "reason"),
        [
            pytest.param("-b {base} -F raw {opts} {path} 8M", "bytes", id="of another size"),
            pytest.param("{opts} {path} 16M", "no backing file", id="without a backing name"),
            pytest.param("-b {other} -F qcow2 {opts} {path} 16M", "lies on", id="on another file"),
            pytest.param("-u -b {base} -F qcow2 {opts} {path} 16M", "raw", id="of another format"),
            pytest.param("-b {base} -F raw {path} 16M", "extended L2", id="without extended L2"),
        ],
    )
    def test_an_overlay_that_would_lose_data_is_refused(
        self, rig: Rig, two_disks: Path, command: str, reason: str
    ) -> None:
        path = two_disks / "bad"
        words = command.format(
            base=two_disks / "root.raw",
            other=two_disks / "data.qcow2",
            opts="-o cluster_size=128k,extended_l2=on",
            path=path,
        )
        subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", *words.split()], check=True)
        good = overlay(two_disks / "data.1", two_disks / "data.qcow2")
        before = rig.compute.sources("web")
        with pytest.raises(OverlayMismatchError, match=reason):
            rig.compute.rotate("web", {"vdb": good, "vda": path}, quiesce=False)
        assert rig.compute.sources("web") == before

    def test_an_overlay_that_was_written_to_is_refused(self, rig: Rig, two_disks: Path) -> None:
        top = overlay(two_disks / "used", two_disks / "root.raw", "raw")
        subprocess.run(["qemu-io", "-c", "write -q 0 4k", str(top)], check=True)
        with pytest.raises(OverlayMismatchError, match="written"):
            rig.compute.rotate("web", {"vda": top}, quiesce=False)

    def test_a_missing_overlay_moves_nothing(self, rig: Rig, two_disks: Path) -> None:
        with pytest.raises(RefusedError, match="nowhere"):
            rig.compute.rotate("web", {"vda": two_disks / "nowhere"}, quiesce=False)
        assert rig.compute.sources("web").live["vda"] == str(two_disks / "root.raw")

    def test_a_disk_the_machine_has_not_is_refused(self, rig: Rig, two_disks: Path) -> None:
        top = overlay(two_disks / "root.1", two_disks / "root.raw", "raw")
        with pytest.raises(UnknownDiskError):
            rig.compute.rotate("web", {"vdz": top}, quiesce=False)

    def test_a_saved_state_is_refused(self, rig: Rig, two_disks: Path) -> None:
        rig.save()
        top = overlay(two_disks / "root.1", two_disks / "root.raw", "raw")
        with pytest.raises(SavedStateError):
            rig.compute.rotate("web", {"vda": top}, quiesce=False)
        assert rig.compute.sources("web").persistent["vda"] == str(two_disks / "root.raw")

    def test_a_disk_with_another_tools_job_is_tried_later(self, rig: Rig, two_disks: Path) -> None:
        rig.hold("vda")
        top = overlay(two_disks / "root.1", two_disks / "root.raw", "raw")
        with pytest.raises(TransientError, match="job"):
            rig.compute.rotate("web", {"vda": top}, quiesce=True)
        assert rig.compute.sources("web").live["vda"] == str(two_disks / "root.raw")

    def test_a_paused_machine_rotates_and_is_crash_consistent(
        self, rig: Rig, two_disks: Path
    ) -> None:
        rig.pause()
        top = overlay(two_disks / "root.1", two_disks / "root.raw", "raw")
        done = rig.compute.rotate("web", {"vda": top}, quiesce=True)
        assert (done.consistency, bool(done.reason)) == (Consistency.CRASH, True)
        assert rig.compute.sources("web").live["vda"] == str(top)


class TestCommit:
    def test_the_oldest_layer_goes_into_the_base_and_the_next_one_names_it(
        self, rig: Rig, two_disks: Path
    ) -> None:
        base, first, second, top = layers(two_disks, 3, rig)
        assert rig.compute.commit("web", "vda", base=base, top=first, progress=go_on)
        assert backing(second) == str(base)
        assert first.exists()
        assert base.read_bytes()[MiB : MiB + 64 * KiB] == b"\1" * 64 * KiB
        assert not any(base.read_bytes()[2 * MiB : 4 * MiB])
        assert rig.compute.sources("web").live["vda"] == str(top)
        assert all(rig.holds("vda", n * MiB, n, 64 * KiB) for n in (1, 2, 3))

    def test_layer_by_layer_down_to_the_active_one(self, rig: Rig, two_disks: Path) -> None:
        base, *closed, top = layers(two_disks, 3, rig)
        for layer in closed:
            assert rig.compute.commit("web", "vda", base=base, top=layer, progress=go_on)
        assert backing(top) == str(base)
        assert all(rig.holds("vda", n * MiB, n, 64 * KiB) for n in (1, 2, 3))

    def test_done_already_is_done(self, rig: Rig, two_disks: Path) -> None:
        base, first, *_ = layers(two_disks, 2, rig)
        rig.compute.commit("web", "vda", base=base, top=first, progress=go_on)
        assert rig.compute.commit("web", "vda", base=base, top=first, progress=go_on)

    def test_rotation_goes_on_after_it(self, rig: Rig, two_disks: Path) -> None:
        base, first, top = layers(two_disks, 2, rig)
        rig.compute.commit("web", "vda", base=base, top=first, progress=go_on)
        newest = overlay(two_disks / "root.9", top)
        rig.compute.rotate("web", {"vda": newest}, quiesce=False)
        assert rig.compute.sources("web").persistent["vda"] == str(newest)

    @pytest.mark.parametrize(
        ("base", "top", "reason"),
        [
            pytest.param(0, 3, "active layer", id="the active layer"),
            pytest.param(0, 2, "does not lie on", id="not neighbours"),
            pytest.param(1, 0, "not lie|not in", id="upside down"),
        ],
    )
    def test_anything_but_a_closed_layer_into_its_neighbour_is_refused(
        self, rig: Rig, two_disks: Path, base: int, top: int, reason: str
    ) -> None:
        chain = layers(two_disks, 3, rig)
        with pytest.raises(UnknownDiskError, match=reason):
            rig.compute.commit("web", "vda", base=chain[base], top=chain[top], progress=go_on)

    def test_an_unknown_disk_is_refused(self, rig: Rig, two_disks: Path) -> None:
        base, first, _ = layers(two_disks, 2, rig)
        with pytest.raises(UnknownDiskError):
            rig.compute.commit("web", "vdz", base=base, top=first, progress=go_on)

    def test_a_machine_that_is_off_is_refused(self, rig: Rig, two_disks: Path) -> None:
        base, first, _ = layers(two_disks, 2, rig)
        rig.compute.stop("web", timeout=0)
        with pytest.raises(NotRunningError):
            rig.compute.commit("web", "vda", base=base, top=first, progress=go_on)

    def test_another_tools_job_is_waited_for_by_trying_later(
        self, rig: Rig, two_disks: Path
    ) -> None:
        base, first, _ = layers(two_disks, 2, rig)
        rig.hold("vda")
        with pytest.raises(TransientError):
            rig.compute.commit("web", "vda", base=base, top=first, progress=go_on)


class TestPivot:
    @pytest.mark.parametrize("running", [True, False], ids=["running", "off"])
    def test_everything_above_the_base_is_in_it_and_writes_go_there(
        self, rig: Rig, two_disks: Path, running: bool
    ) -> None:
        base = layers(two_disks, 3, rig)[0]
        if not running:
            rig.compute.stop("web", timeout=0)
        rig.compute.pivot("web", "vda", base=base)
        rig.compute.start("web")
        found = rig.compute.sources("web")
        assert (found.live["vda"], found.persistent["vda"]) == (str(base), str(base))
        assert all(rig.holds("vda", n * MiB, n, 64 * KiB) for n in (1, 2, 3))
        rig.write("vda", 0, 7, 4 * KiB)
        assert base.read_bytes()[: 4 * KiB] == b"\7" * 4 * KiB

    def test_the_base_is_opened_raw_again(self, rig: Rig, two_disks: Path) -> None:
        base = layers(two_disks, 1, rig)[0]
        rig.compute.pivot("web", "vda", base=base)
        assert rig.compute.describe("web").disks[0].format is DiskFormat.RAW

    def test_at_the_base_already_is_done(self, rig: Rig, two_disks: Path) -> None:
        base = layers(two_disks, 2, rig)[0]
        rig.compute.pivot("web", "vda", base=base)
        rig.compute.pivot("web", "vda", base=base)
        assert rig.compute.sources("web").live["vda"] == str(base)

    def test_a_file_that_is_not_below_is_refused(self, rig: Rig, two_disks: Path) -> None:
        layers(two_disks, 2, rig)
        with pytest.raises(UnknownDiskError):
            rig.compute.pivot("web", "vda", base=two_disks / "data.qcow2")


class TestSetSources:
    def test_the_definition_is_corrected_and_the_running_machine_left(
        self, rig: Rig, two_disks: Path
    ) -> None:
        base, first, top = layers(two_disks, 2, rig)
        rig.compute.set_sources("web", {"vda": first})
        found = rig.compute.sources("web")
        assert (found.live["vda"], found.persistent["vda"]) == (str(top), str(first))
        rig.compute.set_sources("web", {"vda": base})
        rig.compute.set_sources("web", {"vda": top})
        rig.compute.stop("web", timeout=0)
        rig.compute.start("web")
        assert all(rig.holds("vda", n * MiB, n, 64 * KiB) for n in (1, 2))

    def test_a_raw_disk_in_which_a_guest_wrote_a_header_stays_raw(
        self, rig: Rig, tmp_path: Path
    ) -> None:
        disk = raw_file(tmp_path / "root.raw")
        rig.define(machine_xml(disk_xml("vda", disk)))
        rig.compute.start("web")
        top = overlay(tmp_path / "root.1", disk, "raw")
        rig.compute.rotate("web", {"vda": top}, quiesce=False)
        rig.compute.stop("web", timeout=0)
        with disk.open("r+b") as file:
            file.write(qcow2_file(tmp_path / "evil").read_bytes()[: 64 * KiB])
        rig.compute.set_sources("web", {"vda": disk})
        assert rig.compute.describe("web").disks[0].format is DiskFormat.RAW

    def test_a_file_that_looks_like_qcow2_and_is_on_no_chain_is_not_guessed(
        self, rig: Rig, two_disks: Path
    ) -> None:
        with pytest.raises(RefusedError, match="not known"):
            rig.compute.set_sources("web", {"vda": qcow2_file(two_disks / "other")})

    def test_a_format_that_is_known_needs_no_chain(self, rig: Rig, two_disks: Path) -> None:
        other = qcow2_file(two_disks / "other")
        rig.compute.set_sources("web", {"vda": other}, formats={"vda": "qcow2"})
        assert rig.compute.describe("web").disks[0].format is DiskFormat.QCOW2

    def test_an_unknown_disk_is_refused(self, rig: Rig, two_disks: Path) -> None:
        with pytest.raises(UnknownDiskError):
            rig.compute.set_sources("web", {"vdz": two_disks / "root.raw"})


class TestCreate:
    @pytest.fixture
    def definition(self, rig: Rig, tmp_path: Path) -> MachineDefinition:
        """A machine with a card in `lan`, gone from this host again."""
        rig.define(machine_xml(disk_xml("vda", raw_file(tmp_path / "a.raw")), devices=NETWORK))
        definition = rig.compute.describe("web")
        rig.compute.delete("web")
        return definition

    def test_it_is_defined_as_placed_and_does_not_start_by_itself(
        self, rig: Rig, tmp_path: Path, definition: MachineDefinition
    ) -> None:
        elsewhere = raw_file(tmp_path / "elsewhere.raw")
        placement = place(elsewhere, name="web-test", uuid=OTHER, networks={"lan": None}, note=NOTE)
        rig.compute.create(definition, placement)
        found = rig.compute.describe("web-test")
        listed = {one.name: one for one in rig.compute.inventory().machines}
        assert (found.uuid, rig.compute.sources("web-test").persistent) == (
            OTHER,
            {"vda": str(elsewhere)},
        )
        assert (found.nics[0].mac, found.nics[0].network) == ("52:54:00:11:22:33", None)
        assert not listed["web-test"].autostart
        assert rig.compute.note("web-test") == NOTE

    def test_a_card_that_is_not_attached_still_starts_and_can_be_attached_again(
        self, rig: Rig, tmp_path: Path, definition: MachineDefinition
    ) -> None:
        path = tmp_path / "a.raw"
        rig.compute.create(definition, place(path, networks={"lan": None}))
        rig.compute.start("web")
        assert rig.compute.state("web") is PowerState.RUNNING
        rig.compute.create(definition, place(path, networks={"lan": "lan"}))
        assert rig.compute.describe("web").nics == definition.nics

    def test_the_same_again_redefines_it(
        self, rig: Rig, tmp_path: Path, definition: MachineDefinition
    ) -> None:
        for note in (NOTE, None):
            rig.compute.create(
                definition, place(tmp_path / "a.raw", networks={"lan": "lan"}, note=note)
            )
        assert rig.compute.note("web") is None
        assert [one.name for one in rig.compute.inventory().machines] == ["web"]
        assert rig.compute.describe("web") == definition

    @pytest.mark.parametrize(
        "changes",
        [
            pytest.param({"uuid": OTHER}, id="the name is another machine's"),
            pytest.param({"name": "web2"}, id="the uuid is another machine's"),
            pytest.param({"networks": {}}, id="a network has no place"),
            pytest.param({"disks": {}}, id="a disk has no place"),
        ],
    )
    def test_what_does_not_fit_is_refused(
        self,
        rig: Rig,
        tmp_path: Path,
        definition: MachineDefinition,
        changes: dict[str, Any],
    ) -> None:
        good = {"networks": {"lan": "lan"}}
        rig.compute.create(definition, place(tmp_path / "a.raw", **good))
        with pytest.raises(RefusedError):
            rig.compute.create(definition, place(tmp_path / "a.raw", **(good | changes)))
        assert [one.name for one in rig.compute.inventory().machines] == ["web"]

    def test_the_variables_are_written_and_go_with_the_machine(
        self, rig: Rig, tmp_path: Path, definition: MachineDefinition
    ) -> None:
        path = tmp_path / "vars" / "web.fd"
        placement = place(tmp_path / "a.raw", networks={"lan": None}, nvram_path=str(path))
        rig.compute.create(with_flash(definition, tmp_path, b"v" * 5000), placement)
        assert path.read_bytes() == b"v" * 5000
        assert rig.compute.describe("web").nvram == b"v" * 5000
        rig.compute.delete("web")
        assert not path.exists()

    def test_variables_that_are_not_its_own_are_kept_aside(
        self, rig: Rig, tmp_path: Path, definition: MachineDefinition
    ) -> None:
        path = tmp_path / "web.fd"
        placement = place(tmp_path / "a.raw", networks={"lan": None}, nvram_path=str(path))
        path.write_bytes(b"strange" * 100)
        for content in (b"first" * 100, b"second" * 100, b"second" * 100):
            rig.compute.create(with_flash(definition, tmp_path, content), placement)
            assert path.read_bytes() == content
        rig.compute.delete("web")
        path.write_bytes(b"stranger" * 100)
        rig.compute.create(with_flash(definition, tmp_path, b"third" * 100), placement)
        assert path.read_bytes() == b"third" * 100
        aside = {one.name: one.read_bytes() for one in tmp_path.glob("web.fd.*")}
        assert aside == {
            "web.fd.aside-1": b"strange" * 100,
            "web.fd.aside-2": b"stranger" * 100,
        }

    def test_the_choice_of_their_file_is_left_to_libvirt_again(
        self, rig: Rig, tmp_path: Path
    ) -> None:
        rig.define(left_to_libvirt(tmp_path))
        own = file_of(rig)
        assert own is not None
        own.parent.mkdir(exist_ok=True)
        own.write_bytes(b"first" * 1000)
        first = rig.compute.describe("web")
        away = str(tmp_path / "away.fd")
        for path, content in ((away, b"second" * 1000), (str(own), b"third" * 1000)):
            changed = replace(first, nvram=content)
            rig.compute.create(changed, place(tmp_path / "a.raw", nvram_path=path))
            assert file_of(rig) == Path(path)
            assert rig.compute.describe("web").nvram == content
        assert rig.compute.describe("web").domain_xml == first.domain_xml
        rig.compute.delete("web")
        assert not own.exists()

    def test_a_disk_is_taken_out_of_it_and_put_back(self, rig: Rig, two_disks: Path) -> None:
        rig.compute.stop("web", timeout=0)
        before = rig.compute.describe("web")
        root = ET.fromstring(before.domain_xml)
        devices = root.find("devices")
        assert devices is not None
        devices.remove(devices.findall("disk")[1])
        text = ET.tostring(root, encoding="unicode")
        alone = replace(before, disks=before.disks[:1], domain_xml=text)
        other = raw_file(two_disks / "other.raw")
        rig.compute.create(alone, place(other))
        assert rig.compute.sources("web").persistent == {"vda": str(other)}
        both = {
            "vda": DiskPlace(path=str(two_disks / "root.raw"), format="raw"),
            "vdb": DiskPlace(path=str(two_disks / "data.qcow2"), format="qcow2"),
        }
        rig.compute.create(before, place(other, disks=both))
        assert rig.compute.describe("web").disks == before.disks
        rig.compute.start("web")
        assert rig.compute.state("web") is PowerState.RUNNING

    def test_a_medium_this_host_has_not_is_taken_out(self, rig: Rig, tmp_path: Path) -> None:
        iso = raw_file(tmp_path / "setup.iso")
        disk = raw_file(tmp_path / "a.raw")
        rig.define(machine_xml(disk_xml("vda", disk), disk_xml("sda", iso, device="cdrom")))
        definition = rig.compute.describe("web")
        iso.unlink()
        rig.compute.create(definition, place(disk))
        assert rig.compute.sources("web").persistent == {"vda": str(disk)}


class TestLife:
    def test_states_and_repetition(self, rig: Rig, two_disks: Path) -> None:
        rig.compute.start("web")
        assert rig.compute.state("web") is PowerState.RUNNING
        rig.pause()
        assert rig.compute.state("web") is PowerState.PAUSED
        assert not rig.compute.stop("web", timeout=30)  # what stands cannot be asked
        assert rig.compute.state("web") is PowerState.OFF
        assert rig.compute.stop("web", timeout=0)

    def test_a_guest_that_goes_by_itself_is_told_from_one_that_is_cut_off(
        self, rig: Rig, two_disks: Path
    ) -> None:
        if isinstance(rig, MemoryRig):  # no guest boots under libvirt here to hear the request
            assert rig.compute.stop("web", timeout=1)
            rig.compute.machines["web"].obeys = False
            rig.compute.start("web")
        assert not rig.compute.stop("web", timeout=0.5)

    def test_a_note_that_forbids_it_keeps_it_from_starting(self, rig: Rig, two_disks: Path) -> None:
        assert rig.compute.install_hook()
        rig.compute.stop("web", timeout=0)
        rig.compute.set_note("web", NOTE)
        with pytest.raises(StartVetoedError) as caught:
            rig.compute.start("web")
        assert NOTE.reason in caught.value.message
        assert rig.compute.state("web") is PowerState.OFF
        rig.compute.set_note("web", replace(NOTE, may_start=True))
        rig.compute.start("web")
        assert rig.compute.state("web") is PowerState.RUNNING

    def test_a_saved_state_is_not_resumed(self, rig: Rig, two_disks: Path) -> None:
        rig.save()
        with pytest.raises(SavedStateError):
            rig.compute.start("web")

    def test_a_machine_without_its_disk_does_not_start(self, rig: Rig, two_disks: Path) -> None:
        rig.compute.stop("web", timeout=0)
        (two_disks / "root.raw").unlink()
        with pytest.raises(RefusedError, match=r"root\.raw"):
            rig.compute.start("web")

    def test_delete_powers_off_and_leaves_the_disks(self, rig: Rig, two_disks: Path) -> None:
        rig.compute.delete("web")
        rig.compute.delete("web")
        assert rig.compute.state("web") is PowerState.ABSENT
        assert (two_disks / "root.raw").exists()
        assert (two_disks / "data.qcow2").exists()

    def test_delete_takes_a_saved_state_with_it(self, rig: Rig, two_disks: Path) -> None:
        rig.save()
        rig.compute.delete("web")
        assert rig.compute.state("web") is PowerState.ABSENT

    @pytest.mark.parametrize("running", [True, False], ids=["running", "off"])
    def test_notes_are_kept_replaced_and_removed(
        self, rig: Rig, two_disks: Path, running: bool
    ) -> None:
        if not running:
            rig.compute.stop("web", timeout=0)
        assert rig.compute.note("web") is None
        rig.compute.set_note("web", None)
        for note in (NOTE, replace(NOTE, epoch=4, may_start=True, reason="", lock="SiteRecovery")):
            rig.compute.set_note("web", note)
            assert rig.compute.note("web") == note
        rig.compute.set_note("web", None)
        assert rig.compute.note("web") is None

    def test_autostart(self, rig: Rig, two_disks: Path) -> None:
        for on in (True, False):
            rig.compute.set_autostart("web", on=on)
            assert rig.compute.inventory().machines[0].autostart is on

    def test_nobody_answers_in_a_machine_without_an_agent(self, rig: Rig, two_disks: Path) -> None:
        assert not rig.compute.ping_guest("web", timeout=0.1)
        assert not rig.compute.thaw("web")

    def test_a_screenshot_is_a_png(self, rig: Rig, two_disks: Path) -> None:
        image = rig.compute.screenshot("web")
        assert image is not None
        assert image.startswith(b"\x89PNG\r\n")
        assert image.endswith(b"IEND\xaeB`\x82")

    def test_a_machine_that_is_off_has_no_screen(self, rig: Rig, two_disks: Path) -> None:
        rig.compute.stop("web", timeout=0)
        assert rig.compute.screenshot("web") is None


class TestInventory:
    def test_it_lists_what_is_there(self, rig: Rig, two_disks: Path) -> None:
        found = rig.compute.inventory()
        machine, pool, network = found.machines[0], found.pools[0], found.networks[0]
        assert (machine.name, machine.uuid, machine.state) == ("web", UUID, PowerState.RUNNING)
        assert (machine.memory, machine.vcpus, machine.autostart) == (64 * MiB, 1, False)
        assert machine.disks == ("root", "data")
        assert (pool.name, pool.path, pool.kind) == ("pool", str(two_disks), "dir")
        assert pool.writable
        assert pool.capacity >= pool.available > SIZE
        assert (network.name, network.active) == ("lan", True)
        assert found.memory >= found.memory_free > 0
        assert found.cpus > 0


class TestPools:
    @pytest.fixture
    def path(self, rig: Rig, tmp_path: Path) -> Iterator[Path]:
        yield tmp_path / "made here" / "westasr"
        rig.compute.delete_pool("westasr")

    def test_it_is_made_with_its_folder_and_can_be_used(self, rig: Rig, path: Path) -> None:
        rig.compute.make_pool("westasr", path)
        found = {pool.name: pool for pool in rig.compute.inventory().pools}
        made = found["westasr"]
        assert (made.path, made.kind, made.writable) == (str(path), "dir", True)
        assert made.available > 0
        assert path.stat().st_mode & 0o777 == 0o711
        assert rig.lasts("westasr")

    def test_the_same_again_is_once(self, rig: Rig, path: Path) -> None:
        rig.compute.make_pool("westasr", path)
        (path / "disk.raw").write_bytes(b"x")
        rig.compute.make_pool("westasr", path)
        assert sorted(pool.name for pool in rig.compute.inventory().pools) == ["pool", "westasr"]
        assert (path / "disk.raw").read_bytes() == b"x"

    def test_a_folder_that_is_there_is_taken(self, rig: Rig, path: Path) -> None:
        path.mkdir(parents=True, mode=0o750)
        rig.compute.make_pool("westasr", path)
        assert path.stat().st_mode & 0o777 == 0o750

    @pytest.mark.parametrize("taken", ["name", "folder"])
    def test_another_pools_name_or_folder_is_refused(
        self, rig: Rig, path: Path, tmp_path: Path, taken: str
    ) -> None:
        asked = ("pool", path) if taken == "name" else ("westasr", tmp_path)
        with pytest.raises(PoolTakenError, match="pool pool is in"):
            rig.compute.make_pool(*asked)
        assert [pool.name for pool in rig.compute.inventory().pools] == ["pool"]
        assert not path.exists()

    def test_it_goes_and_what_lies_in_it_stays(self, rig: Rig, path: Path) -> None:
        rig.compute.make_pool("westasr", path)
        (path / "disk.raw").write_bytes(b"x")
        for _ in range(2):
            rig.compute.delete_pool("westasr")
            assert [pool.name for pool in rig.compute.inventory().pools] == ["pool"]
        assert (path / "disk.raw").exists()

    def test_one_whose_folder_is_gone_cannot_be_written_to(self, rig: Rig, path: Path) -> None:
        rig.compute.make_pool("westasr", path)
        path.rmdir()
        found = {pool.name: pool.writable for pool in rig.compute.inventory().pools}
        assert found == {"pool": True, "westasr": False}
        rig.compute.make_pool("westasr", path)
        assert path.is_dir()


class TestNetworks:
    @pytest.fixture(autouse=True)
    def cleared(self, rig: Rig) -> Iterator[None]:
        yield
        for machine in rig.compute.inventory().machines:
            rig.compute.delete(machine.name)
        rig.compute.delete_network("lan-asr")

    def test_it_is_made_and_machines_can_be_on_it(self, rig: Rig, tmp_path: Path) -> None:
        rig.compute.make_network("lan-asr")
        made = next(one for one in rig.compute.inventory().networks if one.name == "lan-asr")
        assert made.active
        assert rig.lasts("lan-asr")
        card = NIC.format(kind="network", source="<source network='lan-asr'/>")
        rig.define(machine_xml(disk_xml("vda", raw_file(tmp_path / "root.raw")), devices=card))
        rig.compute.start("web")
        assert rig.compute.state("web") is PowerState.RUNNING

    def test_the_same_again_is_once_and_so_is_its_end(self, rig: Rig) -> None:
        for _ in range(2):
            rig.compute.make_network("lan-asr")
            assert sorted(one.name for one in rig.compute.inventory().networks) == [
                "lan",
                "lan-asr",
            ]
        for _ in range(2):
            assert rig.compute.delete_network("lan-asr")
            assert [one.name for one in rig.compute.inventory().networks] == ["lan"]

    def test_one_that_is_there_stays_what_it_is(self, rig: Rig) -> None:
        before = rig.compute.inventory().networks
        rig.compute.make_network("lan")
        assert rig.compute.inventory().networks == before

    @pytest.mark.parametrize("running", [True, False], ids=["running", "off"])
    def test_one_with_a_machine_on_it_stays(self, rig: Rig, tmp_path: Path, running: bool) -> None:
        rig.compute.make_network("lan-asr")
        card = NIC.format(kind="network", source="<source network='lan-asr'/>")
        rig.define(machine_xml(disk_xml("vda", raw_file(tmp_path / "root.raw")), devices=card))
        if running:
            rig.compute.start("web")
        assert not rig.compute.delete_network("lan-asr")
        assert "lan-asr" in {one.name for one in rig.compute.inventory().networks}
        rig.compute.delete("web")
        assert rig.compute.delete_network("lan-asr")


ABSENT = {
    "describe": lambda compute: compute.describe("nobody"),
    "sources": lambda compute: compute.sources("nobody"),
    "rotate": lambda compute: compute.rotate("nobody", {}, quiesce=False),
    "thaw": lambda compute: compute.thaw("nobody"),
    "set_sources": lambda compute: compute.set_sources("nobody", {}),
    "commit": lambda compute: compute.commit(
        "nobody", "vda", base=Path("a"), top=Path("b"), progress=go_on
    ),
    "pivot": lambda compute: compute.pivot("nobody", "vda", base=Path("a")),
    "start": lambda compute: compute.start("nobody"),
    "stop": lambda compute: compute.stop("nobody", timeout=0),
    "note": lambda compute: compute.note("nobody"),
    "set_note": lambda compute: compute.set_note("nobody", None),
    "set_autostart": lambda compute: compute.set_autostart("nobody", on=True),
    "ping_guest": lambda compute: compute.ping_guest("nobody", timeout=0),
    "screenshot": lambda compute: compute.screenshot("nobody"),
}


@pytest.mark.parametrize("call", ABSENT.values(), ids=ABSENT)
def test_a_machine_that_is_not_there_is_named(rig: Rig, call: Any) -> None:
    with pytest.raises(UnknownMachineError) as caught:
        call(rig.compute)
    assert caught.value.machine == "nobody"
