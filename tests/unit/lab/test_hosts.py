"""What a lab refuses before it changes anything, and what it says about itself."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

import pytest

from homeport.lab import boot, state
from homeport.lab.errors import (
    BadNameError,
    HostDownError,
    NeedsRootError,
    NoSuchHostError,
    NoSuchLabError,
    PathTooLongError,
)
from homeport.lab.hosts import HostSpec, Lab, LabSettings, list_labs
from homeport.lab.processes import ProcessId, Seen
from homeport.lab.state import HostState, LabState

EAST = HostState(
    spec=HostSpec(name="east"), index=0, address=IPv4Address("169.254.213.2"), veth="hpv-0"
)


@pytest.fixture
def short_folder() -> Iterator[Path]:
    """A folder whose sockets have paths that fit; pytest's own has the user's name in it."""
    with tempfile.TemporaryDirectory(prefix="hp-") as folder:
        yield Path(folder)


@pytest.fixture
def settings(tmp_path: Path) -> LabSettings:
    return LabSettings(folder=Path("/tmp") / tmp_path.name, cache=tmp_path)


@pytest.fixture
def lab(short_folder: Path, tmp_path: Path) -> Lab:
    """A lab whose machine was restarted: known, with nothing running."""
    settings = LabSettings(folder=short_folder, cache=tmp_path)
    lab = Lab("demo", settings)
    known = LabState(
        network=IPv4Network("169.254.213.0/24"), bridge="hpb", dhcp=True, hosts={"east": EAST}
    )
    state.write(lab.folder.state, known)
    return lab


CHANGES: dict[str, Callable[[Lab], object]] = {
    "up": lambda lab: lab.up([HostSpec(name="east")]),
    "down": lambda lab: lab.down(),
    "kill": lambda lab: lab.kill("east"),
    "start": lambda lab: lab.start("east"),
    "cut": lambda lab: lab.cut("east"),
    "heal": lambda lab: lab.heal("east"),
    "kill_process": lambda lab: lab.kill_process("east", "agent"),
    "start_process": lambda lab: lab.start_process("east", "agent"),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_changes_are_roots_alone_and_say_so(
    lab: Lab, change: Callable[[Lab], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    before = lab.folder.state.read_bytes()
    with pytest.raises(NeedsRootError) as caught:
        change(lab)
    assert caught.value.code == "NeedsRoot"
    assert "sudo" in caught.value.remedy
    assert lab.folder.state.read_bytes() == before


@pytest.mark.parametrize("name", ["kill", "start", "cut", "heal", "kill_process"])
def test_an_unknown_lab_stays_unknown(
    settings: LabSettings, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    lab = Lab("absent", settings)
    with pytest.raises(NoSuchLabError) as caught:
        CHANGES[name](lab)
    assert caught.value.lab == "absent"
    assert not lab.folder.path.exists()


@pytest.mark.parametrize("name", ["kill", "start", "cut", "heal", "kill_process"])
def test_an_unknown_host_is_refused_with_the_known_ones(
    lab: Lab, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    state.write(
        lab.folder.state,
        LabState(network=IPv4Network("169.254.213.0/24"), bridge="b", dhcp=True, hosts={}),
    )
    with pytest.raises(NoSuchHostError) as caught:
        CHANGES[name](lab)
    assert "none" in caught.value.remedy


def test_bad_names_and_long_paths_change_nothing(
    settings: LabSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    with pytest.raises(BadNameError):
        Lab("Demo", settings)
    lab = Lab("demo", settings)
    with pytest.raises(BadNameError):
        lab.up([HostSpec(name="east"), HostSpec(name="no good")])
    deep = Lab("demo", LabSettings(folder=tmp_path / ("d" * 100), cache=tmp_path))
    with pytest.raises(PathTooLongError):
        deep.up([HostSpec(name="east")])
    assert not lab.folder.path.exists()
    assert not deep.folder.path.exists()


def test_a_host_that_is_down_runs_nothing(lab: Lab) -> None:
    with pytest.raises(HostDownError) as caught:
        lab.run("east", ["true"])
    assert caught.value.host == "east"


def test_a_restarted_machines_lab_is_shown_down(lab: Lab) -> None:
    report = lab.report()
    assert [(host.name, host.running, dict(host.services)) for host in report.hosts] == [
        ("east", False, {})
    ]
    assert report.gateway == IPv4Address("169.254.213.1")


def test_another_process_with_the_recorded_id_is_not_the_host(lab: Lab) -> None:
    reused = ProcessId(pid=os.getpid(), started=0)
    known = state.read(lab.folder.state)
    assert known is not None
    stale = HostState(spec=EAST.spec, index=0, address=EAST.address, veth=EAST.veth, first=reused)
    state.write(lab.folder.state, known.with_host(stale))
    assert not lab.report().hosts[0].running


def test_labs_are_listed_by_name(lab: Lab) -> None:
    other = Lab("alpha", lab.settings)
    known = state.read(lab.folder.state)
    assert known is not None
    state.write(other.folder.state, known)
    (lab.settings.folder / "no-lab").mkdir()
    assert [report.name for report in list_labs(lab.settings)] == ["alpha", "demo"]


def test_no_folder_is_no_labs(tmp_path: Path) -> None:
    assert list_labs(LabSettings(folder=tmp_path / "absent", cache=tmp_path)) == []


def test_the_agent_is_told_where_it_is(lab: Lab) -> None:
    lab.folder.host("east").config.parent.mkdir(parents=True)
    lab.set_agent("east", ["agent", "--x"], {"TOKEN": "t"})
    raw = lab.folder.host("east").config.read_text()
    for word in ("--x", '"TOKEN": "t"', '"HOMEPORT_GATEWAY": "169.254.213.1"', '"libvirtd"'):
        assert word in raw
    known = state.read(lab.folder.state)
    assert known is not None
    assert known.hosts["east"].spec.agent == ("agent", "--x")


def qemu(*words: str, program: str = "/usr/bin/qemu-system-x86_64") -> Seen:
    return Seen(identity=ProcessId(pid=9, started=1), inner_pid=9, argv=(program, *words))


@pytest.mark.parametrize(
    ("seen", "domain", "expected"),
    [
        (qemu("-name", "guest=web,debug-threads=on"), None, True),
        (qemu("-name", "guest=web,debug-threads=on"), "web", True),
        (qemu("-name", "guest=web2,debug-threads=on"), "web", False),
        (qemu("-name", "guest=web"), "guest", False),
        (qemu("-machine", "none"), None, False),
        (qemu("-name", "guest=web", program="/usr/sbin/libvirtd"), None, False),
    ],
    ids=["any", "by name", "a longer name", "not a name", "a probe", "not QEMU"],
)
def test_guests_are_known_by_program_and_name(
    seen: Seen, domain: str | None, expected: bool
) -> None:
    assert boot.is_guest(seen, domain) is expected


def test_a_host_that_does_not_run_has_no_first_process(lab: Lab) -> None:
    assert list(boot.first_processes(lab.folder.host("east"))) == []
    boot.halt(lab.folder.host("east"), None)


def test_commands_are_run_in_all_of_the_hosts_namespaces() -> None:
    words = boot.entering(ProcessId(pid=7, started=1))
    assert words[0] == "nsenter"
    assert words[-3:] == ["--target", "7", "--"]
    assert {"--mount", "--net", "--pid", "--uts"} < set(words)
    assert sys.executable not in words
