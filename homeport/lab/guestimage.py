"""
The lab's guest as disk images: a small Linux made of Debian's packages, that boots by itself.

Built once into a cache, without root and without mounting anything; every machine gets a sparse
copy with its own name and pace. The guest's workload is the proof of what a disk held: see
`homeport/lab/guest/workload`, and `homeport.lab.records` for how it is asked.
"""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from homeport.lab import packages
from homeport.lab.bootdisk import BOOT_START, DiskPlan, master_boot_record
from homeport.lab.commands import clean_environment, run
from homeport.lab.files import sync_folder, whole_file
from homeport.lab.kernel import Kernel, find_kernel, modules_in_order
from homeport.model.machine import Firmware
from homeport.units import MiB

SCRIPTS = Path(__file__).parent / "guest"
"""What runs in the guest; package data."""

# Any value does; a fixed one keeps images of the same spec alike.
_SIGNATURE = 0x484F4D45
_BOOT_CODE = Path("/usr/lib/syslinux/mbr/mbr.bin")
# Where UEFI looks on a disk that it has no boot entry for (UEFI specification, section 3.5.1.1).
_EFI_FOLDER = "::/EFI/BOOT"
_EFI_LOADER = Path("/usr/lib/SYSLINUX.EFI/efi64/syslinux.efi")
_EFI_CORE = Path("/usr/lib/syslinux/modules/efi64/ldlinux.e64")
# Kernel and initrd take some 20 MiB.
_BOOT_SIZE = 40 * MiB

_ROOT_PLACES = {
    "inittab": "etc/inittab",
    "boot": "etc/boot",
    "stop": "etc/stop",
    "leased": "etc/leased",
    "chain.awk": "etc/chain.awk",
    "port": "sbin/port",
    "guest-agent": "sbin/guest-agent",
    "network": "sbin/network",
    "shutdown": "sbin/shutdown",
    "workload": "sbin/workload",
    "records": "sbin/records",
    "variable": "sbin/variable",
}
_ROOT_FOLDERS = ("bin", "sbin", "etc", "dev", "proc", "sys", "run", "tmp", "data", "var/records")
_INITRD_FOLDERS = ("bin", "sbin", "dev", "proc", "sys", "run", "root", "modules", "etc")


@dataclass(frozen=True, kw_only=True, slots=True)
class GuestSpec:
    """What the images are like; sizes in bytes, multiples of 1 MiB."""

    os_size: int = 256 * MiB
    data_size: int = 512 * MiB
    image_format: str = "raw"
    """`raw` (sparse) or `qcow2`."""
    firmware: Firmware = Firmware.BIOS
    """What boots it; the images for UEFI have one more boot loader and boot by BIOS too."""

    def __post_init__(self) -> None:
        if self.image_format not in {"raw", "qcow2"}:
            raise ValueError(f"images are raw or qcow2, not {self.image_format!r}")


@dataclass(frozen=True, kw_only=True, slots=True)
class GuestConfig:
    """What differs from machine to machine; on its kernel's command line."""

    hostname: str = "guest"
    rate: int = 5
    """Pairs of records (one on each disk) a second, at most."""


@dataclass(frozen=True, kw_only=True, slots=True)
class GuestImage:
    """A guest's two disks."""

    os_disk: Path
    data_disk: Path
    image_format: str
    firmware: Firmware = Firmware.BIOS


def boot_menu(config: GuestConfig) -> str:
    """The boot loader's configuration: no menu, no waiting, one kernel."""
    words = [
        "initrd=/initrd",
        "console=tty0",
        "console=ttyS0",
        "quiet",
        "panic=5",
        "mitigations=off",
        f"homeport.hostname={config.hostname}",
        f"homeport.rate={config.rate}",
    ]
    return (
        f"DEFAULT homeport\nPROMPT 0\nLABEL homeport\n KERNEL /vmlinuz\n APPEND {' '.join(words)}\n"
    )


def libraries(shown: str) -> list[Path]:
    """The files in the output of `ldd`, loader included."""
    words = [line.split("=>")[-1].split() for line in shown.splitlines()]
    return [Path(line[0]) for line in words if line and line[0].startswith("/")]


def _program(name: str) -> Path:
    found = shutil.which(name, path=clean_environment()["PATH"])
    assert found is not None, f"{name} was required before"
    return Path(found)


def _put(root: Path, source: Path, place: str, mode: int = 0o755) -> None:
    target = root / place.lstrip("/")
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)
    target.chmod(mode)


def _put_program(root: Path, program: Path, place: str) -> None:
    """Copy a program with all its libraries, each to the path the loader looks at."""
    _put(root, program, place)
    for library in libraries(run(["ldd", program])):
        _put(root, library, str(library))


def _put_busybox(root: Path) -> None:
    busybox = _program("busybox")
    _put(root, busybox, "bin/busybox")
    for applet in run([busybox, "--list"]).split():
        link = root / "bin" / applet
        if applet != "busybox":
            link.symlink_to("busybox")


def _make_folders(root: Path, folders: Iterable[str]) -> None:
    for folder in folders:
        (root / folder).mkdir(parents=True, exist_ok=True)


def make_root(root: Path) -> None:
    """Fill a folder with the guest's root file system."""
    _make_folders(root, _ROOT_FOLDERS)
    _put_busybox(root)
    (root / "sbin/init").symlink_to("/bin/busybox")
    _put_program(root, _program("qemu-ga"), "bin/qemu-ga")
    for script, place in _ROOT_PLACES.items():
        _put(root, SCRIPTS / script, place)


def make_initrd(folder: Path, kernel: Kernel, target: Path) -> None:
    """Write the initrd: modules, e2fsck, and the script that mounts the root file system."""
    _make_folders(folder, _INITRD_FOLDERS)
    _put_busybox(folder)
    _put_program(folder, _program("e2fsck"), "sbin/e2fsck")
    _put(folder, SCRIPTS / "init", "init")
    (folder / "etc/mtab").symlink_to("/proc/mounts")
    modules = modules_in_order(kernel)
    for name, body in modules.items():
        (folder / "modules" / name).write_bytes(body)
    (folder / "modules/order").write_text("".join(f"{name}\n" for name in modules))
    names = sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))
    archive = ["cpio", "--quiet", "-o", "-H", "newc", "-R", "0:0", "--file", str(target)]
    run(archive, folder=folder, given="\n".join(names).encode())


def _make_ext4(disk: Path, label: str, size: int, *, start: int = 0, filled: Path | None) -> None:
    content = ["-d", str(filled)] if filled else []
    options = f"offset={start},root_owner=0:0,lazy_itable_init=0,nodiscard"
    make = ["mkfs.ext4", "-q", "-F", "-L", label, "-E", options, *content]
    run([*make, disk, f"{size // 1024}k"])


def _fat(disk: Path) -> str:
    return f"{disk}@@{BOOT_START}"


def _make_boot(disk: Path, plan: DiskPlan, kernel: Kernel, initrd: Path) -> None:
    sectors = str(plan.boot_size // 512)
    hidden = str(BOOT_START // 512)
    run(["mformat", "-i", _fat(disk), "-T", sectors, "-H", hidden, "-h", "255", "-s", "63", "::"])
    run(["mcopy", "-i", _fat(disk), kernel.image, "::/vmlinuz"])
    run(["mcopy", "-i", _fat(disk), initrd, "::/initrd"])
    run(["syslinux", "--install", "-t", str(BOOT_START), disk])


def _add_efi_loader(disk: Path) -> None:
    """The same boot loader for UEFI; it reads the same configuration."""
    run(["mmd", "-i", _fat(disk), "::/EFI", _EFI_FOLDER])
    run(["mcopy", "-i", _fat(disk), _EFI_LOADER, f"{_EFI_FOLDER}/BOOTX64.EFI"])
    run(["mcopy", "-i", _fat(disk), _EFI_CORE, f"{_EFI_FOLDER}/{_EFI_CORE.name}"])


def configure(os_disk: Path, config: GuestConfig) -> None:
    """Write a guest's configuration into its raw OS disk, which must not be in use."""
    menu = boot_menu(config).encode()
    run(["mcopy", "-o", "-i", _fat(os_disk), "-", "::/syslinux.cfg"], given=menu)


def _make_os_disk(disk: Path, spec: GuestSpec, kernel: Kernel, scratch: Path) -> None:
    plan = DiskPlan(size=spec.os_size, boot_size=_BOOT_SIZE)
    make_root(scratch / "root")
    make_initrd(scratch / "initrd.d", kernel, scratch / "initrd")
    with disk.open("wb") as file:
        file.truncate(spec.os_size)
        file.write(master_boot_record(plan, _BOOT_CODE.read_bytes(), signature=_SIGNATURE))
    root = scratch / "root"
    _make_ext4(disk, "root", plan.root_size, start=plan.root_start, filled=root)
    _make_boot(disk, plan, kernel, scratch / "initrd")
    if spec.firmware is Firmware.UEFI:
        _add_efi_loader(disk)
    configure(disk, GuestConfig())


def _make_data_disk(disk: Path, size: int) -> None:
    with disk.open("wb") as file:
        file.truncate(size)
    _make_ext4(disk, "data", size, filled=None)


def _sources(kernel: Kernel) -> Iterable[bytes]:
    """All that the images are made from, as bytes that change when it does."""
    yield kernel.version.encode()
    for module in (Path(__file__), *sorted(SCRIPTS.iterdir())):
        yield module.read_bytes()
    for name in ("busybox", "qemu-ga", "e2fsck", "mkfs.ext4", "syslinux"):
        there = _program(name).stat()
        yield f"{name} {there.st_size} {there.st_mtime_ns}".encode()


def image_key(spec: GuestSpec, sources: Iterable[bytes]) -> str:
    """Names a built pair of images: the same key, the same content to all intents."""
    digest = hashlib.sha256(f"{spec.os_size} {spec.data_size} {spec.firmware.value}".encode())
    for source in sources:
        digest.update(hashlib.sha256(source).digest())
    return digest.hexdigest()[:16]


def build_guest(cache: Path, spec: GuestSpec | None = None) -> GuestImage:
    """
    The pristine raw images of a spec, from the cache; built first if they are not there.

    They belong to the cache: use `place_guest` for disks that a machine may write to. Several
    processes may build at once; the first to finish wins.

    Raises:
        MissingPackagesError: names the line that installs what building needs.
        NoKernelError, CommandFailedError: see there; the cache is as before.
    """
    spec = spec or GuestSpec()
    packages.require(packages.guest_packages(spec.firmware))
    kernel = find_kernel(cache / "kernel")
    folder = cache / "guest" / image_key(spec, _sources(kernel))
    if not folder.exists():
        _build(folder, spec, kernel)
    return GuestImage(
        os_disk=folder / "os.raw",
        data_disk=folder / "data.raw",
        image_format="raw",
        firmware=spec.firmware,
    )


def _build(folder: Path, spec: GuestSpec, kernel: Kernel) -> None:
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".building-") as name:
        scratch = Path(name)
        made = scratch / "made"
        made.mkdir()
        _make_os_disk(made / "os.raw", spec, kernel, scratch)
        _make_data_disk(made / "data.raw", spec.data_size)
        run(["sync", *made.iterdir()])
        try:
            made.rename(folder)
        except OSError:
            if not folder.exists():
                raise
    sync_folder(folder.parent)


def copy_sparse(source: Path, target: Path) -> None:
    """Copy an image, holes as holes, by reflink where that can be; whole or not at all."""
    with whole_file(target) as partial:
        run(["cp", "--sparse=always", "--reflink=auto", source, partial])


def _place(source: Path, target: Path, image_format: str) -> None:
    if image_format == "raw":
        copy_sparse(source, target)
        return
    with whole_file(target) as partial:
        run(["qemu-img", "convert", "-f", "raw", "-O", image_format, source, partial])


def place_guest(
    cache: Path, folder: Path, config: GuestConfig, spec: GuestSpec | None = None
) -> GuestImage:
    """
    Disks for one machine: `<hostname>-os` and `<hostname>-data` in `folder`, with the format's
    suffix. Older files of these names are replaced.

    Raises what `build_guest` raises.
    """
    spec = spec or GuestSpec()
    built = build_guest(cache, spec)
    folder.mkdir(parents=True, exist_ok=True)
    places = _places(folder, config.hostname, spec.image_format)
    with tempfile.TemporaryDirectory(dir=folder, prefix=".placing-") as name:
        own = Path(name) / "os.raw"
        copy_sparse(built.os_disk, own)
        configure(own, config)
        if spec.image_format == "raw":
            own.rename(places[0])
        else:
            _place(own, places[0], spec.image_format)
    _place(built.data_disk, places[1], spec.image_format)
    return replace(built, os_disk=places[0], data_disk=places[1], image_format=spec.image_format)


def _places(folder: Path, hostname: str, image_format: str) -> Sequence[Path]:
    return [folder / f"{hostname}-{disk}.{image_format}" for disk in ("os", "data")]


__all__ = [
    "GuestConfig",
    "GuestImage",
    "GuestSpec",
    "boot_menu",
    "build_guest",
    "copy_sparse",
    "image_key",
    "libraries",
    "place_guest",
]
