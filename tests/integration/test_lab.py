"""The lab with real libvirt, QEMU and namespaces: sites cut off and killed, a guest that tells."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import libvirt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from homeport.lab import kvm, state
from homeport.lab.commands import attempt, run, wait_until
from homeport.lab.domain import GuestDomain
from homeport.lab.errors import HostDownError, NoSuchProcessError
from homeport.lab.guestagent import ask_records, guest_answers
from homeport.lab.guestimage import SCRIPTS, GuestConfig, GuestSpec, build_guest, place_guest
from homeport.lab.guests import add_guest, guest_logs, wait_for_guest
from homeport.lab.hosts import HostSpec, Lab, LabSettings, list_labs
from homeport.lab.processes import everything
from homeport.lab.records import Acks, check_records, read_acks
from homeport.units import MiB

# Kernel and images outlive a run, so that only the first one downloads and builds.
CACHE = Path(os.environ.get("HOMEPORT_TEST_CACHE", "/var/tmp/homeport-test-cache"))

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="namespaces need root")
pytestmark = [pytest.mark.real, needs_root]

CONNECT = "import socket, sys; socket.create_connection((sys.argv[1], int(sys.argv[2])), 1).close()"


def settings_in(folder: Path) -> LabSettings:
    return LabSettings(folder=folder, cache=CACHE)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    # pytest's own folders have long paths; libvirt's sockets must fit into 107 bytes.
    return tmp_path_factory.mktemp("l", numbered=True)


@pytest.fixture(scope="module")
def store(folder: Path) -> Path:
    (folder / "store").mkdir()
    (folder / "store/object").write_text("there")
    return folder / "store"


@pytest.fixture(scope="module")
def lab(folder: Path, store: Path) -> Iterator[Lab]:
    lab = Lab("t", settings_in(folder / "labs"))
    try:
        lab.up(
            [
                HostSpec(name="east", agent=("sleep", "3600"), cut_folders=(store,)),
                HostSpec(name="west"),
            ]
        )
        yield lab
    finally:
        lab.down()


@contextmanager
def connected(lab: Lab, host: str) -> Iterator[libvirt.virConnect]:
    with closing(libvirt.open(lab.libvirt_uri(host))) as connection:
        yield connection


@pytest.fixture(scope="module")
def guest(lab: Lab) -> GuestDomain:
    """A guest that runs on east when a test begins."""
    return add_guest(lab, "east", GuestConfig(hostname="web", rate=20))


@contextmanager
def running(lab: Lab, guest: GuestDomain) -> Iterator[libvirt.virDomain]:
    with connected(lab, "east") as connection:
        domain = connection.lookupByName(guest.name)
        if not domain.isActive():
            domain.create()
        wait_for_guest(domain)
        yield domain


def acks_reach(lab: Lab, guest: GuestDomain, number: int) -> Acks:
    log = guest_logs(lab, "east", guest.name).acks
    wait_until(lambda: read_acks(log).last("data") >= number, awaited="acks", limit=30.0)
    return read_acks(log)


def reaches(lab: Lab, host: str, address: object, port: int) -> bool:
    command = [sys.executable, "-c", CONNECT, str(address), str(port)]
    return lab.run(host, command).returncode == 0


def traces(lab: Lab) -> list[str]:
    """What of a lab is still on this machine: processes, devices, mounts, folders."""
    tag = lab.folder.path
    found = [str(seen) for seen in everything() if any(str(tag) in word for word in seen.argv)]
    found += [line for line in Path("/proc/mounts").read_text().splitlines() if str(tag) in line]
    found += [str(path) for path in (tag,) if path.exists()]
    return found


class TestHosts:
    def test_both_answer_from_outside_as_hosts_of_their_own(self, lab: Lab) -> None:
        told = []
        for host in ("east", "west"):
            with connected(lab, host) as connection:
                told.append((connection.getHostname(), connection.getCapabilities()))
                assert connection.networkLookupByName("default").isActive()
                assert connection.storagePoolLookupByName("default").isActive()
        assert [name for name, _ in told] == ["east", "west"]
        uuids = {text.split("<uuid>")[1].split("<")[0] for _, text in told}
        assert len(uuids) == 2

    def test_up_again_changes_nothing(self, lab: Lab) -> None:
        before = lab.report()
        assert lab.up([HostSpec(name="west")]) == before

    def test_a_lab_is_listed(self, lab: Lab) -> None:
        assert [report.name for report in list_labs(lab.settings)] == ["t"]

    def test_a_second_lab_takes_another_range(self, lab: Lab, folder: Path) -> None:
        other = Lab("u", settings_in(folder / "others"))
        try:
            report = other.up([HostSpec(name="east")])
            assert report.network != lab.report().network
        finally:
            other.down()
        assert traces(other) == []

    def test_a_cut_site_reaches_neither_server_nor_store_and_others_do(
        self, lab: Lab, store: Path
    ) -> None:
        report = lab.report()
        with socket.create_server((str(report.gateway), 0)) as server:
            port = server.getsockname()[1]
            assert reaches(lab, "east", report.gateway, port)
            lab.cut("east")
            lab.cut("east")
            assert not reaches(lab, "east", report.gateway, port)
            assert b"not connected" in lab.run("east", ["cat", store / "object"]).stderr
            assert b"not connected" in lab.run("east", ["touch", store / "new"]).stderr
            assert reaches(lab, "west", report.gateway, port)
            assert lab.run("west", ["cat", store / "object"]).stdout == b"there"
            lab.heal("east")
            lab.heal("east")
            assert reaches(lab, "east", report.gateway, port)
            assert lab.run("east", ["cat", store / "object"]).stdout == b"there"

    def test_a_killed_agent_starts_again(self, lab: Lab) -> None:
        before = services(lab, "east")["agent"]
        assert lab.kill_process("east", "agent") == 1
        wait_until(
            lambda: services(lab, "east").get("agent", before) != before,
            awaited="another agent",
            limit=5.0,
        )

    def test_a_service_held_down_stays_down(self, lab: Lab) -> None:
        lab.kill_process("west", "libvirtd", again=False)
        wait_until(lambda: not services(lab, "west"), awaited="its end", limit=5.0)
        with pytest.raises(NoSuchProcessError):
            lab.kill_process("west", "libvirtd")
        with pytest.raises(libvirt.libvirtError):
            libvirt.open(lab.libvirt_uri("west"))
        lab.start_process("west", "libvirtd")
        wait_until(lambda: answers(lab, "west"), awaited="libvirtd", limit=20.0)

    def test_hooks_are_the_hosts_own(self, lab: Lab) -> None:
        (lab.host_folder("east").hooks / "mark").write_text("east")
        assert lab.run("east", ["cat", "/etc/libvirt/hooks/mark"]).stdout == b"east"
        assert lab.run("west", ["cat", "/etc/libvirt/hooks/mark"]).returncode != 0


def services(lab: Lab, host: str) -> dict[str, int]:
    return next(dict(each.services) for each in lab.report().hosts if each.name == host)


def answers(lab: Lab, host: str) -> bool:
    try:
        with connected(lab, host):
            return True
    except libvirt.libvirtError:
        return False


@pytest.mark.guest
class TestGuest:
    @pytest.mark.long
    def test_what_it_acknowledges_is_on_its_disks(self, lab: Lab, guest: GuestDomain) -> None:
        with running(lab, guest) as domain:
            acks = acks_reach(lab, guest, 20)
            records = ask_records(domain)
            verdict = check_records(records, acks)
        assert verdict.sound, verdict
        assert verdict.complete, verdict
        assert records.hostname == "web"
        assert [disk.device for disk in records.disks] == ["/dev/vda2", "/dev/vdb"]
        assert [nic.mac for nic in records.nics] == [guest.mac]
        numbers = acks.numbers("os")
        assert numbers == list(range(1, len(numbers) + 1))

    def test_it_can_be_seen(self, lab: Lab, guest: GuestDomain) -> None:
        with running(lab, guest) as domain:
            stream = domain.connect().newStream()
            assert domain.screenshot(stream, 0).startswith("image/")
            assert stream.recv(4)
            stream.abort()
        assert "is up after" in guest_logs(lab, "east", "web").serial.read_text()

    def test_it_outlives_its_libvirtd_and_is_found_again(
        self, lab: Lab, guest: GuestDomain
    ) -> None:
        with running(lab, guest):
            before = acks_reach(lab, guest, 1).last("data")
        old = services(lab, "east")["libvirtd"]
        lab.kill_process("east", "libvirtd")
        wait_until(
            lambda: services(lab, "east").get("libvirtd", old) != old,
            awaited="another libvirtd",
            limit=10.0,
        )
        wait_until(lambda: answers(lab, "east"), awaited="libvirtd", limit=20.0)
        with connected(lab, "east") as connection:
            assert connection.lookupByName("web").isActive()
        acks_reach(lab, guest, before + 5)

    def test_a_killed_qemu_is_noticed(self, lab: Lab, guest: GuestDomain) -> None:
        with running(lab, guest) as domain:
            with pytest.raises(NoSuchProcessError):
                lab.kill_process("east", "qemu", domain="other")
            assert lab.kill_process("east", "qemu", domain="web") == 1
            wait_until(lambda: not domain.isActive(), awaited="its end", limit=10.0)

    def test_a_killed_site_comes_back_with_all_it_had_acknowledged(
        self, lab: Lab, guest: GuestDomain
    ) -> None:
        with running(lab, guest) as domain:
            boots = ask_records(domain).disk("os").boots
            acks_reach(lab, guest, read_acks(guest_logs(lab, "east", "web").acks).last("data") + 10)
        cable = cable_of(lab, "east")
        assert Path("/sys/class/net", cable).exists()
        lab.kill("east")
        lab.kill("east")
        acks = read_acks(guest_logs(lab, "east", "web").acks)
        with pytest.raises(HostDownError):
            lab.run("east", ["true"])
        assert not lab.report().hosts[0].running
        assert not Path("/sys/class/net", cable).exists()
        assert answers(lab, "west")
        lab.start("east")
        with running(lab, guest) as domain:
            records = ask_records(domain)
        verdict = check_records(records, acks)
        assert verdict.sound, verdict
        assert verdict.complete, verdict
        assert all(disk.replayed for disk in records.disks)
        assert records.disk("os").boots == boots + 1

    def test_shut_down_in_order_it_leaves_clean_file_systems(
        self, lab: Lab, guest: GuestDomain
    ) -> None:
        with running(lab, guest) as domain:
            domain.shutdown()
            wait_until(lambda: not domain.isActive(), awaited="shutdown", limit=20.0)
            assert not guest_answers(domain)
        data = lab.host_folder("east").images / "web-data.raw"
        assert "clean" in run(["e2fsck", "-n", data])
        assert "needs_recovery" not in run(["dumpe2fs", "-h", data])


def cable_of(lab: Lab, host: str) -> str:
    known = state.read(lab.folder.state)
    assert known is not None
    return known.hosts[host].veth


class TestDown:
    """Labs of their own: what is left of them is looked at."""

    def test_nothing_is_left(self, folder: Path) -> None:
        lab = Lab("v", settings_in(folder / "down"))
        lab.up([HostSpec(name="east", agent=("sleep", "3600"))])
        bridge = lab.report().bridge
        assert Path("/sys/class/net", bridge).exists()
        lab.down()
        lab.down()
        assert traces(lab) == []
        assert not Path("/sys/class/net", bridge).exists()
        assert list_labs(lab.settings) == []

    def test_a_lab_whose_maker_was_killed_is_taken_down(self, folder: Path) -> None:
        lab = Lab("w", settings_in(folder / "half"))
        code = (
            "import sys; from pathlib import Path; from homeport.lab.hosts import *;"
            "Lab('w', LabSettings(folder=Path(sys.argv[1]), cache=Path(sys.argv[2])))"
            ".up([HostSpec(name='east'), HostSpec(name='west')])"
        )
        first = lab.folder.host("east").first
        maker = subprocess.Popen([sys.executable, "-c", code, str(lab.settings.folder), str(CACHE)])
        with maker:
            wait_until(first.exists, awaited="the first host", limit=20.0, pause=0.001)
            maker.send_signal(signal.SIGKILL)
        assert traces(lab)
        lab.down()
        assert traces(lab) == []

    def test_disks_marked_immutable_go_too(self, folder: Path) -> None:
        lab = Lab("y", settings_in(folder / "hard"))
        lab.up([HostSpec(name="east")])
        disk = lab.host_folder("east").images / "disk"
        disk.write_text("kept from harm")
        run(["chattr", "+i", disk])
        lab.down()
        assert traces(lab) == []

    def test_kept_folders_come_up_again(self, folder: Path) -> None:
        lab = Lab("x", settings_in(folder / "kept"))
        try:
            lab.up([HostSpec(name="east")])
            (lab.host_folder("east").images / "disk").write_text("kept")
            lab.down(keep_folders=True)
            assert not lab.report().hosts[0].running
            lab.up([HostSpec(name="east")])
            assert lab.run("east", ["cat", "/var/lib/libvirt/images/disk"]).stdout == b"kept"
        finally:
            lab.down()


def written(folder: Path) -> dict[Path, tuple[int, int]]:
    """Which files there are, and when each was written."""
    found = ((path, path.stat()) for path in folder.rglob("*") if path.is_file())
    return {path: (facts.st_ino, facts.st_mtime_ns) for path, facts in found}


class TestImages:
    def test_built_once_and_copied_sparse(self, tmp_path: Path) -> None:
        built = build_guest(CACHE)
        made = written(CACHE)
        assert build_guest(CACHE) == built
        assert written(CACHE) == made
        placed = place_guest(CACHE, tmp_path, GuestConfig(hostname="db"))
        assert placed.os_disk.stat().st_size == 256 * MiB
        assert placed.os_disk.stat().st_blocks * 512 < 64 * MiB
        assert {path.name for path in tmp_path.iterdir()} == {"db-os.raw", "db-data.raw"}
        assert b"homeport.hostname=db" in placed.os_disk.read_bytes()
        assert b"homeport.hostname=db" not in built.os_disk.read_bytes()

    def test_other_sizes_and_qcow2(self, tmp_path: Path) -> None:
        spec = GuestSpec(os_size=192 * MiB, data_size=64 * MiB, image_format="qcow2")
        placed = place_guest(CACHE, tmp_path, GuestConfig(hostname="db"), spec)
        for disk, size in ((placed.os_disk, 192), (placed.data_disk, 64)):
            run(["qemu-img", "check", disk])
            assert f"{size} MiB ({size * MiB} bytes)" in run(["qemu-img", "info", disk])

    def test_file_systems_are_sound(self, tmp_path: Path) -> None:
        built = build_guest(CACHE)
        assert attempt(["e2fsck", "-fn", built.data_disk]).returncode == 0
        assert attempt(["e2fsck", "-fn", f"{built.os_disk}?offset={41 * MiB}"]).returncode == 0


def next_sum(sum_before: int, *fields: int) -> int:
    for each in fields:
        sum_before = (sum_before * 65599 + each) % 4294967291
    return sum_before


def chain(stamps: list[int], boots: set[int]) -> list[str]:
    """Records as the guest's workload writes them, by another hand."""
    lines, total, boot = [], 0, 0
    for number, stamp in enumerate(stamps, 1):
        kind = "B" if number == 1 or number in boots else "R"
        boot += kind == "B"
        total = next_sum(total, {"R": 1, "B": 2}[kind], number, stamp, 1, boot)
        fields = f"{kind} {number:010d} {stamp:010d} os   {boot:06d} {total:010d}"
        lines.append(f"{fields} homeport-record.\n")
    return lines


def walk(text: bytes, folder: Path) -> dict[str, int]:
    file = folder / "os.rec"
    file.write_bytes(text)
    said = run(["busybox", "awk", "-v", "disk=os", "-f", SCRIPTS / "chain.awk", file])
    return {key: int(value) for key, value in (word.split("=") for word in said.split())}


def faults(found: dict[str, int]) -> int:
    return found["gaps"] + found["bad"] + found["breaks"]


stamps = st.lists(st.integers(0, 2**32 - 1), min_size=3, max_size=40)


class TestChain:
    """The guest's own check of its records, against another implementation and damaged files."""

    @settings(max_examples=25, deadline=None)
    @given(stamps, st.sets(st.integers(1, 40)))
    def test_a_whole_chain_is_found_whole(
        self, tmp_path_factory: pytest.TempPathFactory, stamps: list[int], boots: set[int]
    ) -> None:
        lines = chain(stamps, boots)
        assert all(len(line) == 64 for line in lines)
        found = walk("".join(lines).encode(), tmp_path_factory.mktemp("chain"))
        assert faults(found) == 0
        assert (found["first"], found["last"], found["count"]) == (1, len(lines), len(lines))
        assert found["sum"] == int(lines[-1].split()[5])

    @settings(max_examples=40, deadline=None)
    @given(stamps, st.data())
    def test_a_flipped_bit_is_found(
        self, tmp_path_factory: pytest.TempPathFactory, stamps: list[int], data: st.DataObject
    ) -> None:
        text = bytearray("".join(chain(stamps, set())).encode())
        place = data.draw(st.integers(0, len(text) - 1))
        text[place] ^= 1 << data.draw(st.integers(0, 7))
        assert faults(walk(bytes(text), tmp_path_factory.mktemp("chain"))) > 0

    @pytest.mark.parametrize(
        ("damage", "kind"),
        [
            pytest.param(lambda lines: lines[:4] + lines[5:], "gaps", id="one missing"),
            pytest.param(lambda lines: lines[:5] + lines[4:], "gaps", id="one twice"),
            pytest.param(lambda lines: [*lines[:4], "\0" * 63 + "\n", *lines[5:]], "bad", id="nul"),
            pytest.param(
                lambda lines: [*lines[:4], lines[4].replace("os  ", "data"), *lines[5:]],
                "bad",
                id="another disk's",
            ),
            pytest.param(
                lambda lines: lines[:4] + chain([9] * 10, {3})[4:], "breaks", id="another history"
            ),
        ],
    )
    def test_damage_is_counted_by_its_kind(self, tmp_path: Path, damage, kind: str) -> None:  # type: ignore[no-untyped-def]
        found = walk("".join(damage(chain([7] * 10, set()))).encode(), tmp_path)
        assert found[kind] > 0

    def test_no_records_are_no_fault(self, tmp_path: Path) -> None:
        found = walk(b"", tmp_path)
        assert (faults(found), found["count"], found["last"]) == (0, 0, 0)


class TestKvm:
    def test_the_probe_itself_works(self) -> None:
        assert kvm.probe("tcg", limit=20.0)

    def test_an_answer_comes_within_the_limit(self, tmp_path: Path) -> None:
        start = time.monotonic()
        works = kvm.kvm_works(tmp_path)
        assert time.monotonic() - start < kvm.DEFAULT_LIMIT + 0.5
        assert kvm.kvm_works(tmp_path) is works
