"""
The guest's kernel and modules, from Debian's package, never installed on this machine.

An installed kernel in /boot is taken where there is one with its modules; else the concrete package
behind `linux-image-cloud-amd64` is downloaded into the cache and unpacked there.
"""

from __future__ import annotations

import lzma
import os
import re
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from homeport.errors import RefusedError
from homeport.lab.commands import run

META_PACKAGE = "linux-image-cloud-amd64"

# In the order they must be loaded, as far as it matters; what they depend on is put before them.
WANTED_MODULES = (
    "virtio_ring",
    "virtio",
    "virtio_pci_modern_dev",
    "virtio_pci_legacy_dev",
    "virtio_pci",
    "virtio_blk",
    "virtio_console",
    "virtio_net",
    "button",
    "crc32c_generic",
    "ext4",
    "efivarfs",
)

_DEPENDS = re.compile(rb"\0?depends=([A-Za-z0-9_,-]*)\0")
_CONCRETE = re.compile(r"Depends: (linux-image-\S+)")


class NoKernelError(RefusedError):
    """There is no kernel for the guest."""

    code = "NoGuestKernel"
    default_remedy = (
        "Run apt-get update, or put a Debian kernel's .deb into the folder named above."
    )

    def __init__(self, *, folder: Path, reason: str) -> None:
        super().__init__(f"No kernel for the lab's guest: {reason} (looked in {folder}).")
        self.folder, self.reason = folder, reason


@dataclass(frozen=True, kw_only=True, slots=True)
class Kernel:
    """A kernel image and the folder of its modules."""

    version: str
    image: Path
    modules: Path


def concrete_package(depends: str) -> str | None:
    """The kernel package in the output of `apt-cache depends linux-image-cloud-amd64`."""
    found = _CONCRETE.search(depends)
    return found and found[1]


def module_name(file: str) -> str:
    """A module's name by its file's: `virtio-pci.ko.xz` is `virtio_pci`."""
    return file.split(".ko", 1)[0].replace("-", "_")


def dependencies(module: bytes) -> Sequence[str]:
    """The modules that this one (uncompressed) says it needs."""
    found = _DEPENDS.search(module)
    names = found[1].decode().split(",") if found else []
    return [name.replace("-", "_") for name in names if name]


def load_order(wanted: Sequence[str], needs: Callable[[str], Sequence[str] | None]) -> list[str]:
    """
    The modules to load, each after all it needs.

    `needs` gives a module's direct dependencies, or None if there is no such module: then the
    kernel has it built in, and it is left out.
    """
    ordered: list[str] = []

    def visit(name: str) -> None:
        below = needs(name)
        if below is None or name in ordered:
            return
        for each in below:
            visit(each)
        ordered.append(name)

    for name in wanted:
        visit(name)
    return ordered


def read_module(file: Path) -> bytes:
    """A module's bytes, uncompressed: busybox loads plain ones only."""
    if file.suffix == ".xz":
        return lzma.decompress(file.read_bytes())
    return file.read_bytes()


def modules_in_order(kernel: Kernel) -> Mapping[str, bytes]:
    """The modules the guest loads, by name, in the order it must load them."""
    files = {module_name(file.name): file for file in kernel.modules.rglob("*.ko*")}
    bodies: dict[str, bytes] = {}

    def needs(name: str) -> Sequence[str] | None:
        if name not in files:
            return None
        if name not in bodies:
            bodies[name] = read_module(files[name])
        return dependencies(bodies[name])

    return {name: bodies[name] for name in load_order(WANTED_MODULES, needs)}


def _kernels_below(root: Path) -> Iterator[Kernel]:
    for image in sorted((root / "boot").glob("vmlinuz-*"), reverse=True):
        version = image.name.removeprefix("vmlinuz-")
        modules = root / "lib/modules" / version
        if modules.is_dir():
            yield Kernel(version=version, image=image, modules=modules)


def _unpacked(cache: Path) -> Kernel | None:
    for root in sorted(cache.glob("linux-image-*.unpacked"), reverse=True):
        for kernel in _kernels_below(root):
            return kernel
    return None


def _download(cache: Path) -> None:
    package = concrete_package(run(["apt-cache", "depends", META_PACKAGE]))
    if package is None:
        raise NoKernelError(folder=cache, reason=f"apt knows no package {META_PACKAGE}")
    run(["apt-get", "download", package], folder=cache, limit=600.0)


def _unpack(package: Path) -> None:
    partial = package.with_name(f".{package.name}.{os.getpid()}")
    run(["dpkg-deb", "-x", package, partial])
    target = package.with_suffix(".unpacked")
    if target.exists():
        shutil.rmtree(partial)
    else:
        partial.rename(target)


def find_kernel(cache: Path, *, installed: Path = Path("/")) -> Kernel:
    """
    A kernel for the guest: from the cache, else installed below `installed`, else downloaded.

    Raises:
        NoKernelError: there is none, and apt knows of none.
        CommandFailedError: the download or the unpacking failed.
    """
    cache.mkdir(parents=True, exist_ok=True)
    known = _unpacked(cache) or next(_kernels_below(installed), None)
    if known is not None:
        return known
    if not any(cache.glob("linux-image-*.deb")):
        _download(cache)
    for package in cache.glob("linux-image-*.deb"):
        _unpack(package)
    unpacked = _unpacked(cache)
    if unpacked is None:
        raise NoKernelError(folder=cache, reason="the package holds no kernel with modules")
    return unpacked
