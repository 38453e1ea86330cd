"""Whether KVM works is found out within a limit and kept for the boot."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path

import pytest

from homeport.lab import kvm
from homeport.lab.files import read_json, write_json


def fake_qemu(folder: Path, body: str) -> Path:
    program = folder / "qemu-system-x86_64"
    program.write_text(f"#!/bin/sh\necho run >> {folder}/runs\n{body}\n")
    program.chmod(0o755)
    return program


@pytest.fixture
def device(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    device = tmp_path / "kvm"
    device.touch()
    return device


def test_the_sector_is_bootable_and_writes_what_is_expected() -> None:
    sector = kvm.probe_sector()
    assert len(sector) == 512
    assert sector[510:] == b"\x55\xaa"
    assert b"\xb0\x2a\xe6\xf4" in sector


@pytest.mark.parametrize(
    ("body", "works"),
    [
        pytest.param("exit 85", True, id="the sector ran"),
        pytest.param("exit 0", False, id="ended by itself"),
        pytest.param("exit 1", False, id="no such accelerator"),
        pytest.param("kill -9 $$", False, id="killed"),
    ],
)
def test_only_the_expected_end_counts(device: Path, body: str, works: bool) -> None:
    fake_qemu(device.parent, body)
    assert kvm.kvm_works(device.parent, device=device) is works
    assert kvm.kvm_works(device.parent, device=device) is works
    assert (device.parent / "runs").read_text() == "run\n", "asked once for the boot"


def test_a_probe_that_hangs_is_no_within_the_limit(device: Path) -> None:
    fake_qemu(device.parent, "exec sleep 60")
    start = time.monotonic()
    assert not kvm.kvm_works(device.parent, limit=0.5, device=device)
    assert time.monotonic() - start < 30


def test_without_the_device_nothing_is_run(device: Path) -> None:
    fake_qemu(device.parent, "exit 85")
    device.unlink()
    assert not kvm.kvm_works(device.parent, device=device)
    assert not (device.parent / "runs").exists()


def test_after_a_new_boot_it_is_asked_again(device: Path) -> None:
    fake_qemu(device.parent, "exit 85")
    write_json(device.parent / "kvm.json", {"boot": "an earlier one", "works": False})
    assert kvm.kvm_works(device.parent, device=device)
    assert read_json(device.parent / "kvm.json")["works"] is True


def test_the_domain_type_follows(device: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kvm, "kvm_works", lambda _: True)
    assert kvm.domain_type(device.parent) == "kvm"
    monkeypatch.setattr(kvm, "kvm_works", lambda _: False)
    assert kvm.domain_type(device.parent) == "qemu"


def test_no_qemu_is_no(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(*_: object, **__: object) -> None:
        raise FileNotFoundError

    monkeypatch.setattr(subprocess, "Popen", absent)
    assert not kvm.probe("kvm")
