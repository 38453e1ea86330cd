"""
What libguestfs needs beside itself: a kernel for its appliance.

It builds the appliance from this host's own packages and from the newest kernel in /boot. A machine
without an installed kernel (a container host, a small cloud guest) has none there: an unpacked
kernel package does as well, with a module index made for it, and with a /lib/modules that supermin
insists on; that one is laid over /usr/lib in a mount namespace of the program alone.
"""

from __future__ import annotations

import fcntl
import os
import shutil
from dataclasses import dataclass, field
from pathlib import Path

from homeport.errors import RefusedError
from homeport.providers.disks.watched import Deadline, run_within

OWN = ("LIBGUESTFS_PATH", "SUPERMIN_KERNEL")
"""Set by whoever runs the agent, these say all that is needed."""
_IN_NAMESPACE = 'mount -t overlay overlay -o lowerdir="$0":/usr/lib /usr/lib && exec "$@"'


class NoApplianceError(RefusedError):
    """libguestfs cannot work on this host; `reason` is part of a sentence."""

    code = "NoAppliance"

    def __init__(self, reason: str) -> None:
        super().__init__(
            f"libguestfs cannot be used on this host: {reason}.",
            remedy="Install libguestfs-tools and linux-image-amd64; or name the folder of an "
            "unpacked kernel package (HOMEPORT_AGENT__GUESTFS_KERNEL).",
        )
        self.reason = reason


@dataclass(frozen=True, kw_only=True, slots=True)
class Arrangement:
    """What to put before a libguestfs program, and into its environment."""

    before: tuple[str, ...] = ()
    environment: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Unpacked:
    version: str
    image: Path
    modules: Path


def arrange(
    unpacked: Path | None, cache: Path, deadline: Deadline, *, root: Path = Path("/")
) -> Arrangement:
    """
    How libguestfs can be run here; an unpacked kernel is prepared in `cache`, once.

    `unpacked` is the folder of a kernel package's files, or a folder of such folders.

    Raises:
        NoApplianceError: it cannot.
        ReadingToolError, FilesTimeoutError, CancelledError: preparing the kernel failed.
    """
    if shutil.which("guestfish") is None:
        raise NoApplianceError("guestfish is not installed")
    if any(name in os.environ for name in OWN) or _newest(root) is not None:
        return Arrangement()
    below = [] if unpacked is None else [unpacked, *sorted(unpacked.glob("*/"), reverse=True)]
    kernel = next((one for folder in below if (one := _newest(folder)) is not None), None)
    if kernel is None:
        where = "in /boot" if unpacked is None else f"in /boot and in {unpacked}"
        raise NoApplianceError(f"there is no kernel with its modules {where}")
    return _prepared(kernel, cache / kernel.version, deadline, root=root)


def _newest(root: Path) -> _Unpacked | None:
    for image in sorted((root / "boot").glob("vmlinuz-*"), reverse=True):
        version = image.name.removeprefix("vmlinuz-")
        modules = root / "lib/modules" / version
        if modules.is_dir() and os.access(image, os.R_OK):
            return _Unpacked(version=version, image=image, modules=modules)
    return None


def _prepared(kernel: _Unpacked, folder: Path, deadline: Deadline, *, root: Path) -> Arrangement:
    """The kernel with an index of its modules; the appliance is cached beside it."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with (folder.parent / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # the other image's reader wants the same
        if not folder.exists():
            _prepare(kernel, folder, deadline)
    environment = {
        "SUPERMIN_KERNEL": str(kernel.image),
        "SUPERMIN_MODULES": str(folder / "lib/modules" / kernel.version),
        "LIBGUESTFS_CACHEDIR": str(folder / "appliance"),
    }
    before = () if (root / "lib/modules").exists() else _with_modules(folder / "over")
    return Arrangement(before=before, environment=environment)


def _prepare(kernel: _Unpacked, folder: Path, deadline: Deadline) -> None:
    partial = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    # A link would be copied into the appliance as a link that leads nowhere.
    shutil.copytree(kernel.modules, partial / "lib/modules" / kernel.version, symlinks=True)
    run_within(["depmod", "-b", str(partial), kernel.version], deadline)
    (partial / "over/modules").mkdir(parents=True)
    (partial / "appliance").mkdir()
    partial.rename(folder)


def _with_modules(over: Path) -> tuple[str, ...]:
    return ("unshare", "--mount", "sh", "-c", _IN_NAMESPACE, str(over))
