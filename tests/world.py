"""
Two sites in one process, on real files: agents' handlers and cycles, machines in memory, a store.

The world plays the server by giving orders in the order that the job programs give them. Its
machines are the hypervisor's in-memory twin, so a "crash" of an agent is a new `Shelf` on the same
files while machines run on. A plain bytearray beside each disk says what it must hold.
"""

from __future__ import annotations

import subprocess
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from homeport.agent import guard, source
from homeport.agent.handlers import carry_out
from homeport.agent.ledgers import Ledgers, UnknownItemError
from homeport.agent.loop import one_pass
from homeport.agent.means import Means
from homeport.agent.operations.order import Bench
from homeport.agent.shelf import Shelf
from homeport.agent.temporary import sweep as sweep_temporary
from homeport.dataplane.pipeline import Control
from homeport.errors import from_dict
from homeport.model.codec import UnreadableDocumentError, from_plain, to_plain
from homeport.model.ids import HostName, ItemId, OperationId, SiteName, VaultId
from homeport.model.ledger import ItemLedger
from homeport.model.messages import OperationOrder, OperationState, StoreAddress
from homeport.model.operations import (
    OPERATIONS,
    Accept,
    Arm,
    AskFacts,
    CheckSource,
    Demote,
    Fence,
    FinalCapture,
    LandAll,
    LedgerFacts,
    PrepareReplica,
    PrepareTarget,
    Promote,
    Release,
    Reverse,
    Unfence,
)
from homeport.model.planning import ResyncPlan, Way, plan_resync
from homeport.model.policy import ReplicationPolicy
from homeport.model.position import Position
from homeport.providers.compute.memory import MemoryCompute
from homeport.providers.disks.opening import open_base, open_reader
from homeport.providers.store.object_store import open_store
from homeport.units import MiB
from tests.machines import NIC, disk_xml, machine_xml

VAULT = VaultId("vault-1")
ITEM = ItemId(uuid.UUID(int=7).hex)
NETWORKS: dict[str, str | None] = {"lan": "lan"}
KINDS = {taken: kind for kind, (taken, _given) in OPERATIONS.items()}


@dataclass
class ManualClock:
    """Time that moves when told to."""

    at: datetime = datetime(2026, 1, 1, tzinfo=UTC)

    def now(self) -> datetime:
        return self.at

    def monotonic(self) -> float:
        return self.at.timestamp()

    def sleep(self, seconds: float, wake: Any = None) -> bool:
        """Two sides wait for each other in a comparison: no time of theirs passes meanwhile."""
        time.sleep(0.001)
        return False

    def pass_time(self, seconds: float) -> None:
        self.at += timedelta(seconds=seconds)


@dataclass
class Host:
    """One site with one host: pool, machines, cache store, agent state."""

    name: str
    root: Path
    clock: ManualClock
    immutable: bool = False
    confirmed: Path | None = None
    compute: MemoryCompute = field(init=False)
    shelf: Shelf = field(init=False)

    def __post_init__(self) -> None:
        self.pool.mkdir(parents=True, exist_ok=True)
        self.variables.mkdir(parents=True)
        self.compute = MemoryCompute(
            pools={"default": self.pool}, networks=("lan",), variables_folder=self.variables
        )
        open_store(self.cache.url, create=True)
        self.restart()

    @property
    def pool(self) -> Path:
        return self.root / self.name / "pool"

    @property
    def variables(self) -> Path:
        return self.root / self.name / "nvram"

    @property
    def cache(self) -> StoreAddress:
        return StoreAddress(name=self.name, url=f"file://{self.root / self.name / 'cache'}")

    def restart(self) -> None:
        """The agent's process dies and begins again; machines run on."""
        means = Means(
            site=SiteName(self.name),
            host=HostName(f"{self.name}-1"),
            compute=self.compute,
            clock=self.clock,
            ledgers=Ledgers(self.root / self.name / "agent"),
            open_store=lambda address: open_store(address.url, address.options),
            make_store=lambda address: None,
            open_reader=open_reader,
            open_base=open_base,
            immutable=self.immutable,
            confirmed=self.confirmed,
        )
        self.shelf = Shelf(means)
        for item in self.shelf.items():
            with suppress(UnknownItemError, UnreadableDocumentError):  # released, or spoiled
                sweep_temporary(self.shelf.peek(item), means)
                self.shelf.peek(item).sweep_files()

    @property
    def ledger(self) -> ItemLedger:
        return self.shelf.peek(ITEM).ledger

    def order(self, args: Any, kind: str | None = None) -> Any:
        """Have the agent do something once; its error is raised here."""
        kind = kind or KINDS[type(args)]
        taken, given = OPERATIONS[kind]
        order = OperationOrder(
            id=OperationId(uuid.uuid4().hex), kind=kind, item=ITEM, args=to_plain(taken, args)
        )
        report = carry_out(Bench(shelf=self.shelf, control=Control()), order)
        if report.state is not OperationState.DONE:
            raise from_dict(report.error or {})
        return from_plain(given, report.result)

    def one_pass(self) -> None:
        """One pass of the item's loop."""
        with self.shelf.turn(ITEM, Control()) as work:
            one_pass(work)

    def guard(self) -> list[str]:
        """One round of the guard; what was not as it should be."""
        found: list[str] = []

        def mend(item: str) -> None:
            with self.shelf.claim(item, Control()) as work:
                found.extend(guard.put_right(work))

        guard.go_round(self.shelf, mend)
        return found

    def assign(self, **changes: Any) -> None:
        """What an assignment changes in the ledger."""
        self.shelf.peek(ITEM).save(**changes)

    def bytes_of(self, position: Position, disk: str) -> bytes:
        """A point's disk as QEMU reads it."""
        held = self.shelf.peek(ITEM)
        chain = held.ledger.chain(disk)
        top = held.chain_files(chain, position)[0]
        return read_image(top, held.format_of(chain, chain.file_at(position)))


def read_image(path: Path, image_format: str) -> bytes:
    """The disk's whole content, by qemu-img."""
    raw = path.with_name(path.name + ".read")
    subprocess.run(
        ["qemu-img", "convert", "-U", "-f", image_format, "-O", "raw", str(path), str(raw)],
        check=True,
    )
    try:
        return raw.read_bytes()
    finally:
        raw.unlink()


@dataclass
class World:
    """Two hosts, one machine `web`, and what its disks must hold."""

    root: Path
    formats: dict[str, str] = field(default_factory=lambda: {"vda": "raw", "vdb": "raw"})
    size: int = 4 * MiB
    unmanaged: bool = False  # of the machine's disks, from its protection on
    clock: ManualClock = field(default_factory=ManualClock)
    epoch: int = 0
    policy: ReplicationPolicy = field(
        default_factory=lambda: ReplicationPolicy(
            name="fast", interval=timedelta(seconds=5), rpo_target=timedelta(seconds=30)
        )
    )

    def __post_init__(self) -> None:
        self.east = Host("east", self.root, self.clock)
        self.west = Host("west", self.root, self.clock)
        self.running, self.standby = self.east, self.west
        disks = []
        for dev, image_format in self.formats.items():
            path = self.east.pool / f"web-{dev}.{image_format}"
            make_disk(path, image_format, self.size)
            disks.append(disk_xml(dev, path, format=image_format))
        nic = NIC.format(kind="network", source="<source network='lan'/>")
        self.east.compute.define(machine_xml(*disks, devices=nic))
        self.east.compute.start("web")
        self.truth = {dev: bytearray(self.size) for dev in self.formats}

    @property
    def disks(self) -> list[str]:
        return [f"web-{dev}" for dev in self.formats]

    # -- the guest --

    def write(self, dev: str, offset: int, data: bytes) -> None:
        """The guest writes and syncs, wherever it runs."""
        self.running.compute.write("web", dev, (offset, data))
        self.truth[dev][offset : offset + len(data)] = data

    def zero(self, dev: str, offset: int, length: int) -> None:
        """The guest discards."""
        self.running.compute.zero("web", dev, offset, length)
        self.truth[dev][offset : offset + length] = bytes(length)

    def remembered(self) -> dict[str, bytes]:
        """The disks as they are now."""
        return {f"web-{dev}": bytes(data) for dev, data in self.truth.items()}

    # -- what the server orders --

    def protect(self) -> None:
        """Check, prepare, arm, assign; the seed is landed by `replicate`."""
        self.epoch += 1
        facts = self.east.order(CheckSource(machine="web"))
        assert not facts.problems, facts.problems
        made = self.west.order(
            PrepareTarget(
                item=ITEM,
                name="web",
                vault=VAULT,
                epoch=self.epoch,
                definition=facts.definition.unmanaged() if self.unmanaged else facts.definition,
                pool="default",
                networks=NETWORKS,
            )
        )
        assert not made.problems, made.problems
        self.arm()
        self.assign_target()

    def arm(self) -> None:
        """The running side begins to track."""
        self.east.order(
            Arm(
                item=ITEM,
                name="web",
                vault=VAULT,
                epoch=self.epoch,
                machine="web",
                cache=self.east.cache,
                policy=self.policy,
                unmanaged=self.unmanaged,
            )
        )

    def assign_target(self) -> None:
        """The standby side lands from the running side's store."""
        self.standby.assign(cache=self.running.cache, policy=self.policy, epoch=self.epoch)

    def replicate(self, passes: int = 2) -> None:
        """Let time pass and both loops work."""
        for _ in range(passes):
            self.clock.pass_time(self.policy.interval.total_seconds())
            self._both()
            self.running.one_pass()

    def _both(self) -> None:
        """A pass of each side; at once in a differential resync, where they wait for each other."""
        if not self.compares:
            self.running.one_pass()
            self.standby.one_pass()
            return
        with ThreadPoolExecutor(1) as pool:
            running = pool.submit(self.running.one_pass)
            while not running.done():
                self.standby.one_pass()
            running.result()
        self.standby.one_pass()

    @property
    def compares(self) -> bool:
        """Whether the running side has a point to ship that both sides must compare for."""
        waiting = [point for point in self.running.ledger.captured if not point.shipped]
        return any(Way.DIFFERENTIAL.value in point.ways.values() for point in waiting)

    def capture(self) -> Position:
        """A point of this moment, landed."""
        with self.running.shelf.claim(ITEM, Control()) as work:
            position = source.capture(work)
        self.replicate(1)
        return position

    def fail_over(
        self,
        position: Position | None = None,
        *,
        planned: bool = False,
        source_answers: bool = True,
    ) -> Position:
        """
        Boot a point at the standby side; the machine is lost where it ran.

        A source that does not answer is not fenced: it may run on, and ship.
        """
        old, new = self.running, self.standby
        if planned:
            old.order(FinalCapture(item=ITEM, epoch=self.epoch, timeout=0))
        landed = new.order(LandAll(item=ITEM, epoch=self.epoch)).position
        chosen = position or landed
        self.epoch += 1
        if source_answers:
            old.order(Fence(item=ITEM, epoch=self.epoch))
        self._promote(new, chosen)
        self.running, self.standby = new, old
        self.believe(chosen)
        return chosen

    def change_point(self, position: Position) -> None:
        """Another point instead of the one booted."""
        self.epoch += 1
        self._promote(self.running, position)
        self.believe(position)

    def _promote(self, host: Host, position: Position) -> None:
        host.order(
            Promote(
                item=ITEM,
                epoch=self.epoch,
                position=position,
                machine="web",
                networks=NETWORKS,
                guest_timeout=0,
            )
        )

    def believe(self, position: Position) -> None:
        """The guest's disks are those of the point from here on."""
        self.truth = {
            dev: bytearray(self.running.bytes_of(position, f"web-{dev}")) for dev in self.formats
        }

    def undo(self, truth: dict[str, bytes]) -> None:
        """Back to the old machine, whose disks were `truth` when it was fenced."""
        self.epoch += 1
        self.running.order(Demote(item=ITEM, epoch=self.epoch))
        self.standby.order(Unfence(item=ITEM, epoch=self.epoch))
        self.running, self.standby = self.standby, self.running
        self.assign_target()
        self.truth = {dev: bytearray(truth[f"web-{dev}"]) for dev in self.formats}

    def commit(self) -> None:
        """No way back but reprotect."""
        self.running.order(Accept(item=ITEM, epoch=self.epoch))

    def plan(self) -> ResyncPlan:
        """The resync that a reprotect would do."""
        old = self.standby.order(AskFacts(item=ITEM))
        running = self.running.order(AskFacts(item=ITEM))
        return plan_resync(old, running)

    def reprotect(self, *, way: Way | None = None, keep_machine: bool = True) -> ResyncPlan:
        """Reverse the direction; the resync is landed by `replicate`."""
        plan = self.plan()
        prepare, reverse = self.reprotect_orders(way=way, keep_machine=keep_machine)
        self.standby.order(prepare)
        self.running.order(reverse)
        self.assign_target()
        return plan

    def reprotect_orders(
        self, *, way: Way | None = None, keep_machine: bool = True
    ) -> tuple[PrepareReplica, Reverse]:
        """What a reprotect orders at the standby side, and at the running one."""
        plan = self.plan()
        ways = {disk.disk: (way or disk.way).value for disk in plan.disks}
        running = self.running.order(AskFacts(item=ITEM))
        prepare = PrepareReplica(
            item=ITEM,
            name="web",
            vault=VAULT,
            epoch=self.epoch,
            common=plan.common,
            ways=ways,
            definition=running.definition,
            pool="default",
            lock="lock",
            keep_machine=keep_machine,
        )
        reverse = Reverse(
            item=ITEM,
            epoch=self.epoch,
            common=plan.common,
            ways=ways,
            cache=self.running.cache,
            policy=self.policy,
        )
        return prepare, reverse

    def disable(self) -> tuple[LedgerFacts, LedgerFacts]:
        """Take everything away; facts of the owner and of the other side."""
        owner = self.running.order(Release(item=ITEM, epoch=self.epoch, owner=True))
        other = self.standby.order(Release(item=ITEM, epoch=self.epoch, owner=False))
        return owner, other


def make_disk(path: Path, image_format: str, size: int) -> None:
    """An empty disk as a user makes it."""
    subprocess.run(
        ["qemu-img", "create", "-q", "-f", image_format, str(path), str(size)], check=True
    )
