"""
Files of any file system Linux knows, read in libguestfs's appliance: a small machine of its own.

Each image has an appliance to itself, because two disks with the same volume groups or file system
ids do not go together in one kernel. It sees the image through a read-only server and writes to a
throw-away overlay of QEMU's, so journals are replayed there and the image stays as it is. Listings
come back through a sparse scratch disk: answers to commands are limited to 4 MiB.
"""

from __future__ import annotations

import base64
import os
import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from homeport.model.filediff import HEAD
from homeport.model.unsent import ImageFile
from homeport.providers.disks.guestfs_kernel import Arrangement, arrange
from homeport.providers.disks.listings import Listing
from homeport.providers.disks.watched import Deadline, Dialogue, ReadingToolError, served
from homeport.units import MiB

WAY = "libguestfs"
MOST = 32
"""File systems looked at; more are named and not read."""
SLOT = 256 * MiB
"""Room of one listing on the scratch disk: two million files. It is sparse."""
MEMORY = "512"
"""MiB of the appliance: sorting a listing is what needs most of it."""
_FOUND = re.compile(r"((?:/dev/|btrfsvol:)\S+): (\S+)")
_PASSED_OVER = ("swap",)
# find's %C@ is the inode's own time of change; sorted as `parse_listing` wants it. The scratch disk
# is named by its label: guestfish's commands know it as /dev/sdb, the appliance's kernel may not.
_LIST = (
    "set -e; cd /sysroot; printf '{head}\\0' > /tmp/listing;"
    " find . -xdev -mindepth 1 -printf '%P//%y %s %T@ %C@ %m\\0' | LC_ALL=C sort -z -T /tmp"
    " >> /tmp/listing; printf '\\0' >> /tmp/listing; test $(stat -c %s /tmp/listing) -le {slot};"
    " dd if=/tmp/listing of=/dev/disk/guestfs/listings bs=1M seek={seek} oflag=seek_bytes"
    " conv=fsync status=none; echo listed"
)


@dataclass(frozen=True, kw_only=True)
class Guestfs:
    """
    Reads images by libguestfs. `kernel` is an unpacked kernel package for hosts that have none in
    /boot; `kvm` tells whether guests run under KVM here: an appliance that hangs costs all the
    time there is. `cache` is where a prepared kernel and its appliance are kept.
    """

    cache: Path
    kvm: Callable[[], bool]
    kernel: Path | None = None

    def list_files(self, image: ImageFile, scratch: Path, deadline: Deadline) -> list[Listing]:
        """
        The image's file systems with their files.

        Raises:
            NoApplianceError: libguestfs cannot be used here.
            ReadingToolError, CancelledError, FilesTimeoutError: see there.
        """
        arrangement = arrange(self.kernel, self.cache, deadline)
        listings = scratch / "listings.raw"
        with listings.open("wb") as file:
            os.truncate(file.fileno(), MOST * SLOT)
        with self._appliance(image, scratch, arrangement, deadline) as appliance:
            _must(appliance.ask(f"add-drive {listings} format:raw label:listings", "run"))
            found = _file_systems(appliance)
            return [
                _listed(appliance, name, type_, number, listings)
                for number, (name, type_) in enumerate(found)
            ]

    @contextmanager
    def _appliance(
        self, image: ImageFile, scratch: Path, arrangement: Arrangement, deadline: Deadline
    ) -> Iterator[Dialogue]:
        environment = {
            "LIBGUESTFS_BACKEND": "direct",
            "LIBGUESTFS_MEMSIZE": MEMORY,
            "LIBGUESTFS_TMPDIR": str(scratch),
            **({} if self.kvm() else {"LIBGUESTFS_BACKEND_SETTINGS": "force_tcg"}),
            **arrangement.environment,
        }
        with ExitStack() as stack:
            socket = stack.enter_context(served(image, scratch / "image.socket", deadline))
            drive = ["--ro", "--format=raw", "-a", f"nbd:///?socket={socket}"]
            argv = [*arrangement.before, "guestfish", *drive]
            yield stack.enter_context(Dialogue(argv, deadline, environment=environment))


def _must(said: list[str]) -> None:
    """Raise ReadingToolError if guestfish told of an error."""
    if any("error:" in line for line in said):
        raise ReadingToolError("guestfish", " ".join(said))


def _file_systems(appliance: Dialogue) -> list[tuple[str, str]]:
    said = appliance.ask("-list-filesystems")
    found = [match.groups() for line in said if (match := _FOUND.fullmatch(line))]
    if not found:
        _must(said)
    ours = [(name, type_) for name, type_ in found if not name.startswith("/dev/sdb")]
    return [(name, type_) for name, type_ in ours if type_ not in _PASSED_OVER]


def _listed(appliance: Dialogue, name: str, type_: str, number: int, listings: Path) -> Listing:
    if number >= MOST:
        return Listing(name=name, type=type_, unreadable=f"only {MOST} file systems are looked at")
    if type_ == "unknown":
        return Listing(name=name, type=type_, unreadable="holds no file system that is known")
    said = appliance.ask(f"-mount-ro {name} /")
    if said:
        return Listing(name=name, type=type_, unreadable=_reason(said))
    script = _LIST.format(head=HEAD.decode(), seek=number * SLOT, slot=SLOT)
    coded = base64.b64encode(script.encode()).decode()
    told = appliance.ask(f'-debug sh "echo {coded} | base64 -d | sh"')
    appliance.ask("-umount-all")
    if "listed" not in told:
        return Listing(name=name, type=type_, unreadable=_reason(told))
    return Listing(name=name, type=type_, path=listings, offset=number * SLOT)


def _reason(said: list[str]) -> str:
    words = " ".join(said).partition("error: ")[2] or " ".join(said)
    return f"cannot be read here, because libguestfs says: {words[:300]}; export it"
