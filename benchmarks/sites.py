"""
Two sites on real files, as the tests have them, with meters and without a memory.

The agents' own handlers and passes run here; machines are the hypervisor's in-memory twin, so that
what is measured is Homeport's work and not a guest's. The guest writes through QEMU, so layers look
as QEMU leaves them. What both sides do at once they do in a process each, as two agents do. Passes
follow each other at once: the pauses a running agent makes between them are not in any figure.
"""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Event

from benchmarks.ground import (
    Ground,
    beside,
    bytes_read,
    copy_sparse,
    forget_peak,
    guest_writes,
    peak_memory,
    stopwatch,
)
from homeport.agent import source
from homeport.agent.ledgers import Ledgers
from homeport.agent.means import Means
from homeport.agent.shelf import Shelf
from homeport.dataplane.pipeline import Control
from homeport.dataplane.wrappers import MeteredStore
from homeport.model.ids import HostName, SiteName
from homeport.model.messages import StoreAddress
from homeport.model.planning import Way
from homeport.model.policy import ReplicationPolicy
from homeport.model.position import Position
from homeport.providers.disks.opening import open_base, open_reader
from homeport.providers.store.object_store import open_store
from tests.machines import disk_xml, machine_xml
from tests.world import ITEM, Host, ManualClock, World

DEV, DISK = "vda", "web-vda"
_PAUSE = 0.005  # seconds: where an agent would wait for the other side


class BenchClock(ManualClock):
    """The machine's own time, with short waits."""

    def now(self) -> datetime:
        """The moment."""
        return datetime.now(UTC)

    def monotonic(self) -> float:
        """Seconds that never go back."""
        return time.monotonic()

    def sleep(self, seconds: float, wake: Event | None = None) -> bool:
        """A pause, however long a wait was asked for."""
        del wake
        time.sleep(min(seconds, _PAUSE))
        return False


def _keep_as_it_is(address: StoreAddress) -> None:
    """Both stores are made with their hosts."""
    del address


@dataclass(frozen=True, kw_only=True, slots=True)
class Landed:
    """What the other side's process tells at its end: when, bytes so far, and its peak memory."""

    at: float
    put: int
    got: int
    peak: int


class Site(Host):
    """A host whose cache stores are metered."""

    def __post_init__(self) -> None:
        """A host that has done nothing yet, in this process or in one of its own."""
        self.elsewhere = (0, 0)
        self.peak = 0  # bytes of memory that its last process of its own held at most
        super().__post_init__()

    def go_on(self, landed: Landed) -> None:
        """Take over from the process that it had for a while: its files, and its counts."""
        self.restart()
        self.elsewhere, self.peak = (landed.put, landed.got), landed.peak

    def restart(self) -> None:
        """Begin afresh on the same files."""
        self.stores: dict[str, MeteredStore] = {}
        means = Means(
            site=SiteName(self.name),
            host=HostName(f"{self.name}-1"),
            compute=self.compute,
            clock=self.clock,
            ledgers=Ledgers(self.root / self.name / "agent"),
            open_store=self._store,
            make_store=_keep_as_it_is,
            open_reader=open_reader,
            open_base=open_base,
        )
        self.shelf = Shelf(means)

    def _store(self, address: StoreAddress) -> MeteredStore:
        if address.url not in self.stores:
            self.stores[address.url] = MeteredStore(open_store(address.url, address.options))
        return self.stores[address.url]

    @property
    def put(self) -> int:
        """Bytes put into cache stores so far."""
        return self.elsewhere[0] + sum(one.counts().bytes_put for one in self.stores.values())

    @property
    def got(self) -> int:
        """Bytes read from cache stores so far."""
        return self.elsewhere[1] + sum(one.counts().bytes_read for one in self.stores.values())


class Sites(World):
    """Two metered sites with one machine of one raw disk, a copy of a given one."""

    def __init__(self, folder: Path, disk: Path) -> None:
        day = timedelta(days=1)
        policy = ReplicationPolicy(name="bench", interval=day, rpo_target=day)
        self._disk = disk
        self.promoted = 0.0  # seconds the last promote took
        size = disk.stat().st_size
        super().__init__(folder, formats={DEV: "raw"}, size=size, clock=BenchClock(), policy=policy)

    def __post_init__(self) -> None:
        """Two hosts and the machine; nothing here remembers what the disk must hold."""
        self.east = Site("east", self.root, self.clock)
        self.west = Site("west", self.root, self.clock)
        self.running, self.standby = self.east, self.west
        path = self.east.pool / f"{DISK}.raw"
        copy_sparse(self._disk, path)
        self.east.compute.define(machine_xml(disk_xml(DEV, path)))
        self.east.compute.start("web")

    def believe(self, position: Position) -> None:
        """Nothing is remembered."""

    def guest(self, blocks: Sequence[tuple[int, int]]) -> None:
        """The guest writes fresh random bytes to the blocks and syncs."""
        top = self.running.compute.sources("web").live[DEV]
        guest_writes(Path(top), blocks)

    def seed(self) -> float:
        """Protect the machine and land the first copy; seconds until it is listed."""
        seconds = stopwatch(self.protect)
        seconds += self.both(lambda: self.standby.ledger.stands_at is not None)
        self.running.one_pass()
        return seconds

    def resync(self, way: Way | None = None) -> tuple[float, float]:
        """
        Reprotect: seconds of the orders, and from there until the first point is listed.

        What makes chains short afterwards is done, and in neither figure.
        """
        orders = stopwatch(lambda: self.reprotect(way=way))
        listed = self.both(lambda: not self.standby.ledger.resyncing)
        self.running.one_pass()
        return orders, listed

    def both(self, listed: Callable[[], bool]) -> float:
        """A pass of the running side beside passes of the other one; seconds until `listed`."""
        began = time.perf_counter()
        landed = beside(lambda: self._land_until(listed), self.running.one_pass)
        assert isinstance(self.standby, Site)
        self.standby.go_on(landed)
        return landed.at - began

    def _land_until(self, listed: Callable[[], bool]) -> Landed:
        forget_peak()
        while not listed():
            self.standby.one_pass()
            time.sleep(_PAUSE)
        assert isinstance(self.standby, Site)
        at = time.perf_counter()  # one clock for all processes
        return Landed(at=at, put=self.standby.put, got=self.standby.got, peak=peak_memory())

    def rotate(self) -> Position:
        """A point of this moment, captured and not shipped."""
        with self.running.shelf.claim(ITEM, Control()) as work:
            return source.capture(work)

    def fail_over_now(self) -> None:
        """Fail over to the newest point there is; the other side is fenced, nothing is sent."""
        point = self.standby.ledger.stands_at
        self.fail_over(point)
        self.commit()

    def _promote(self, host: Host, position: Position) -> None:
        promote = super()._promote
        self.promoted = stopwatch(lambda: promote(host, position))

    @property
    def moved(self) -> int:
        """Bytes both sides have put into cache stores."""
        return sum(site.put for site in self.metered)

    @property
    def metered(self) -> list[Site]:
        """Both sites, as what they are here."""
        return [site for site in (self.east, self.west) if isinstance(site, Site)]


class ReadMeter:
    """Bytes one side reads from its disks: all this process reads, less what a store gave it."""

    def __init__(self) -> None:
        self.total = 0

    def watch(self, site: Host, work: Callable[[], object]) -> float:
        """Seconds of the work of one side; nobody else works meanwhile."""
        assert isinstance(site, Site)
        before, got = bytes_read(), site.got
        seconds = stopwatch(work)
        self.total += bytes_read() - before - (site.got - got)
        return seconds


def same_content(first: Path, second: Path) -> bool:
    """Whether QEMU sees the same disk through both layers."""
    argv = ["qemu-img", "compare", "-q", "-U", "-f", "qcow2", "-F", "qcow2", first, second]
    return subprocess.run([str(part) for part in argv], check=False).returncode == 0


def two_sites(ground: Ground, name: str, disk: Path | None = None) -> Sites:
    """Sites in a room of their own."""
    return Sites(ground.room(name), disk or ground.disk())
