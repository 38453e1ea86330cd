"""What an agent works with, joined in the wiring: hypervisor, clock, stores, readers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from homeport.agent.ledgers import Ledgers
from homeport.agent.ports import Compute
from homeport.clock import Clock
from homeport.dataplane.pipeline import Control
from homeport.dataplane.ports import ObjectStore
from homeport.dataplane.seeding import BaseWriter
from homeport.model.extent import ExtentSet
from homeport.model.ids import HostName, SiteName
from homeport.model.machine import DiskFormat
from homeport.model.messages import StoreAddress
from homeport.model.unsent import FilesCompared, ImageFile


class DiskReader(Protocol):
    """A disk read through its chain; offsets and lengths are bytes."""

    size: int

    @property
    def bytes_read(self) -> int:
        """Guest bytes read so far."""

    def read(self, offset: int, length: int) -> bytes:
        """Bytes of the disk as the guest would see them."""

    def allocated(self) -> ExtentSet:
        """What holds data anywhere in the chain."""

    def close(self) -> None:
        """Give everything back."""


class OpenBase(Protocol):
    """Opens a replica's base for a seed to land in; what is there already stays."""

    def __call__(
        self, path: Path, *, image_format: DiskFormat, size: int, cluster_size: int
    ) -> BaseWriter:
        """The writer; the caller closes it."""


class CompareFiles(Protocol):
    """Tells which files differ between two images of a disk; neither is altered."""

    def __call__(
        self,
        before: ImageFile,
        after: ImageFile,
        *,
        scratch: Path,
        limit: int,
        seconds: float,
        control: Control,
    ) -> FilesCompared:
        """
        At most `limit` files of each file system, all counted, within `seconds`.

        `scratch` is an empty folder; nothing is left in it.
        """


@dataclass(frozen=True, kw_only=True)
class Means:
    """Everything an agent's parts are given; nothing of it is made below the wiring."""

    site: SiteName
    host: HostName
    compute: Compute
    clock: Clock
    ledgers: Ledgers
    open_store: Callable[[StoreAddress], ObjectStore]
    make_store: Callable[[StoreAddress], None]  # where a direction begins: it may not exist yet
    open_reader: Callable[[tuple[Path, ...], str], DiskReader]
    open_base: OpenBase
    confirmed: Path | None = None  # the folder of marks of what may start after the host's boot
    immutable: bool = False  # files of a fenced machine are made so, where the file system can
    compare_files: CompareFiles | None = None  # None: this agent reads no file systems
