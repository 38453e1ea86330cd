"""
Whether KVM really works here: by a probe boot, within a limit.

A `/dev/kvm` that opens may still hang its guests (nested virtualisation that is half there), so the
device alone proves nothing. A boot sector of a few instructions runs under KVM and ends QEMU
through `isa-debug-exit`; whatever does not end that way, in time, does not work.
"""

from __future__ import annotations

import subprocess
import tempfile
from pathlib import Path

from homeport.lab.commands import clean_environment
from homeport.lab.files import read_json, write_json

DEFAULT_LIMIT = 3.0

DEVICE = Path("/dev/kvm")
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")

_PORT = 0xF4
_WRITTEN = 0x2A
# QEMU ends with twice the value written to the port, plus one.
_EXPECTED_STATUS = _WRITTEN * 2 + 1
# Killing a QEMU that hangs in the kernel may itself take a moment; it is not waited for longer.
_GRACE = 0.3


def probe_sector() -> bytes:
    """A boot sector that loops a while, writes 0x2a to port 0xf4, and halts."""
    code = bytes(
        [
            *(0xB9, 0xFF, 0xFF),  # mov cx, 0xffff
            *(0xE2, 0xFE),  # loop: to itself, so that guest code runs for more than an instant
            *(0xB0, _WRITTEN),  # mov al, 0x2a
            *(0xE6, _PORT),  # out 0xf4, al
            0xF4,  # hlt
            *(0xEB, 0xFD),  # jmp back to it
        ]
    )
    return code.ljust(510, b"\0") + b"\x55\xaa"


def probe(accelerator: str, *, limit: float = DEFAULT_LIMIT) -> bool:
    """Whether a machine boots and runs its boot sector under this QEMU accelerator in time."""
    with tempfile.TemporaryDirectory(prefix="homeport-kvm-") as folder:
        disk = Path(folder) / "probe.raw"
        disk.write_bytes(probe_sector())
        return _run_probe(accelerator, disk, limit)


def _run_probe(accelerator: str, disk: Path, limit: float) -> bool:
    machine = ["-accel", accelerator, "-m", "16", "-nodefaults", "-display", "none", "-no-reboot"]
    ending = ["-device", f"isa-debug-exit,iobase={_PORT:#x},iosize=1"]
    drive = ["-drive", f"file={disk},format=raw,if=ide,readonly=off"]
    try:
        process = subprocess.Popen(
            ["qemu-system-x86_64", *machine, *ending, *drive],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=clean_environment(),
        )
    except OSError:
        return False
    return _ends_as_expected(process, limit)


def _ends_as_expected(process: subprocess.Popen[bytes], limit: float) -> bool:
    try:
        return process.wait(max(limit - _GRACE, 0.0)) == _EXPECTED_STATUS
    except subprocess.TimeoutExpired:
        process.kill()
    try:
        process.wait(_GRACE)
    except subprocess.TimeoutExpired:
        # It hangs in the kernel: whoever inherits it reaps it. The answer is known.
        process.returncode = -9
    return False


def kvm_works(cache: Path, *, limit: float = DEFAULT_LIMIT, device: Path = DEVICE) -> bool:
    """
    Whether guests run under KVM on this machine. Answers within `limit` seconds.

    The answer is kept in `cache` for as long as the machine stays booted.
    """
    if not device.exists():
        return False
    boot = BOOT_ID.read_text().strip()
    kept = read_json(cache / "kvm.json")
    if kept is not None and kept["boot"] == boot:
        return bool(kept["works"])
    works = probe("kvm", limit=limit)
    write_json(cache / "kvm.json", {"boot": boot, "works": works})
    return works


def domain_type(cache: Path) -> str:
    """libvirt's domain type for guests here: `kvm` where it works, else `qemu` (TCG)."""
    return "kvm" if kvm_works(cache) else "qemu"
