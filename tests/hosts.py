"""
Two hosts of a lab in memory: what their agents hold of items, and how they answer operations.

They keep to the contract of `homeport.model.operations`: once per id, nothing for an older epoch,
looked at before acted. Disks are not here; positions, roles, machines and points are.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from homeport.errors import HomeportError, IntegrityError, RefusedError
from homeport.model import operations as ops
from homeport.model.codec import from_plain, to_plain
from homeport.model.filediff import Change, FileChange, FileSystemDifference
from homeport.model.host import HostInventory, MachineFacts, Network, Pool
from homeport.model.ids import Digest, DiskName, HostName, ItemId, SiteName
from homeport.model.item import DiskState, Role
from homeport.model.machine import (
    DiskDefinition,
    DiskFormat,
    Firmware,
    MachineDefinition,
    NicDefinition,
    PowerState,
)
from homeport.model.machine_orders import (
    CreateMachine,
    DeletedMachine,
    DeleteMachine,
    MachineName,
    MachineShape,
)
from homeport.model.manifest import Consistency
from homeport.model.messages import (
    Assignment,
    ItemReport,
    LedgerEntry,
    OperationOrder,
    OperationReport,
    OperationState,
    PointReport,
    Progress,
    UnsentReport,
)
from homeport.model.position import Position
from homeport.model.unsent import (
    Discarded,
    DiscardUnsent,
    ExportUnsent,
    UnsentCopy,
    UnsentDifference,
    UnsentFiles,
)
from homeport.units import GiB, MiB

DISK = DiskName("disk0")


def definition_of(name: str, network: str = "lan") -> MachineDefinition:
    """A machine with one disk and one card."""
    return MachineDefinition(
        name=name,
        uuid="00000000-0000-0000-0000-000000000001",
        memory=GiB,
        vcpus=1,
        firmware=Firmware.BIOS,
        disks=(
            DiskDefinition(
                name=DISK,
                target="vda",
                format=DiskFormat.RAW,
                size=GiB,
                suffix=".raw",
                pool="disks",
            ),
        ),
        nics=(NicDefinition(mac="52:54:00:00:00:01", network=network),),
        domain_xml="<domain/>",
    )


@dataclass
class Copy:
    """What a host holds of an item."""

    role: Role
    epoch: int
    machine: str
    points: list[PointReport] = field(default_factory=list)
    captured: Position | None = None
    unsent: int = 0  # bytes written and never landed
    aside: list[UnsentReport] = field(default_factory=list)
    booted: Position | None = None
    committed: bool = False
    lock: str = ""
    original: bool = False
    test: str | None = None
    resync_ways: dict[str, str] = field(default_factory=dict)
    made: list[LedgerEntry] = field(default_factory=list)
    untouched: bool = True
    readable: bool = True
    pool: str = "disks"


@dataclass
class Store:
    """The cache stores: points of items, in order, that were shipped."""

    points: dict[ItemId, list[PointReport]] = field(default_factory=dict)

    def put(self, item: ItemId, point: PointReport) -> None:
        shipped = self.points.setdefault(item, [])
        if all(known.position != point.position for known in shipped):
            shipped.append(point)


@dataclass
class FakeHost:
    """One host and its agent. `fails` makes a kind of operation fail; `deaf` makes it silent."""

    name: HostName
    site: SiteName
    store: Store
    now: Callable[[], datetime]
    machines: dict[str, PowerState] = field(default_factory=dict)
    definitions: dict[str, MachineDefinition] = field(default_factory=dict)
    networks: tuple[str, ...] = ("lan",)
    pools: tuple[str, ...] = ("disks",)
    available: int = 100 * GiB
    copies: dict[ItemId, Copy] = field(default_factory=dict)
    done: dict[str, OperationReport] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    fails: dict[str, HomeportError] = field(default_factory=dict)
    deaf: bool = False
    lands: bool = True
    ships: bool = True
    problem: dict[str, str] | None = None
    memory: int = 8 * GiB
    cpus: int = 2
    disks_now: tuple[DiskName, ...] | None = None
    makes: tuple[str, ...] = ()
    files: dict[str, tuple[str, ...]] = field(default_factory=dict)  # nobody's, by pool
    strangers: tuple[str, ...] = ()
    digest_rate: float = 0.0
    exported: list[ExportUnsent] = field(default_factory=list)
    pending: dict[ItemId, list[PointReport]] = field(default_factory=dict)  # not shipped yet

    def add_machine(self, name: str) -> None:
        self.machines[name] = PowerState.RUNNING
        self.definitions[name] = definition_of(name)

    # -- operations --

    def carry_out(self, order: OperationOrder) -> OperationReport:
        """Do it once; again, the same answer."""
        if order.id not in self.done:
            self.asked.append(order.kind)
            self.done[order.id] = self._answer(order)
        return self.done[order.id]

    def _answer(self, order: OperationOrder) -> OperationReport:
        taken, given = ops.OPERATIONS[order.kind]
        try:
            if order.kind in self.fails:
                raise self.fails[order.kind]
            args = from_plain(taken, order.args)
            result = getattr(self, "do_" + order.kind.replace("-", "_"))(args)
        except HomeportError as error:
            return OperationReport(id=order.id, state=OperationState.FAILED, error=error.as_dict())
        plain = to_plain(given, result)
        return OperationReport(id=order.id, state=OperationState.DONE, result=plain)

    def copy(self, args: Any) -> Copy:
        """The copy an order is for; an order of an older epoch is refused."""
        if args.item not in self.copies:
            raise RefusedError("This host has no such item.", code="UnknownItem")
        copy = self.copies[args.item]
        if getattr(args, "epoch", copy.epoch) < copy.epoch:
            raise RefusedError("An older epoch.", code="StaleEpoch")
        return copy

    def do_check_source(self, args: ops.CheckSource) -> ops.SourceFacts:
        if args.machine not in self.machines:
            problem = RefusedError("no such machine", code="UnknownMachine").as_dict()
            return ops.SourceFacts(problems=(problem,))
        return ops.SourceFacts(
            problems=(),
            definition=self.definitions[args.machine],
            state=self.machines[args.machine],
        )

    def do_prepare_target(self, args: ops.PrepareTarget) -> ops.TargetFacts:
        problems = []
        if args.pool not in self.pools:
            problems.append(RefusedError(f"no pool {args.pool}", code="PoolMissing").as_dict())
        for network in args.networks.values():
            if network is not None and network not in self.networks:
                problem = RefusedError(f"no network {network}", code="NetworkMissing")
                problems.append(problem.as_dict())
        if problems or args.only_check:
            return ops.TargetFacts(problems=tuple(problems))
        if args.item not in self.copies:
            self.copies[args.item] = Copy(
                role=Role.TARGET, epoch=args.epoch, machine=args.name, pool=args.pool
            )
            self._note(args.item, "folder", f"/pool/{args.name}")
        return ops.TargetFacts(problems=(), folder=f"/pool/{args.name}")

    def do_arm(self, args: ops.Arm) -> ops.At:
        copy = self.copies.setdefault(
            args.item,
            Copy(role=Role.SOURCE, epoch=args.epoch, machine=args.machine, original=True),
        )
        copy.epoch = args.epoch
        if copy.captured is None:
            self._note(args.item, "note", args.machine)
            self._capture(args.item, copy)
        return ops.At(position=copy.captured)

    def do_final_capture(self, args: ops.FinalCapture) -> ops.At:
        copy = self.copy(args)
        self.machines[copy.machine] = PowerState.OFF
        self._capture(args.item, copy)
        copy.unsent = 0
        return ops.At(position=copy.captured)

    def do_fence(self, args: ops.Fence) -> ops.FenceFacts:
        copy = self.copy(args)
        was = self.machines.get(copy.machine, PowerState.ABSENT)
        copy.role, copy.epoch, copy.lock = Role.FENCED, args.epoch, args.lock
        if was is not PowerState.ABSENT:
            self.machines[copy.machine] = PowerState.OFF
        return ops.FenceFacts(was=was, captured=copy.captured, unsent=copy.unsent)

    def do_unfence(self, args: ops.Unfence) -> ops.Nothing:
        copy = self.copy(args)
        copy.role, copy.epoch, copy.lock = Role.SOURCE, args.epoch, ""
        if args.start:
            self.machines[copy.machine] = PowerState.RUNNING
        return ops.Nothing()

    def do_land_all(self, args: ops.LandAll) -> ops.At:
        copy = self.copy(args)
        if self.lands:
            self._land(args.item, copy)
        newest = copy.points[-1].position if copy.points else None
        return ops.At(position=newest)

    def do_promote(self, args: ops.Promote) -> ops.PromoteFacts:
        copy = self.copy(args)
        if args.position not in {point.position for point in copy.points}:
            raise RefusedError("no such point", code="NoSuchPoint")
        copy.role, copy.epoch, copy.booted = Role.RUNNING, args.epoch, args.position
        copy.machine = args.machine
        self.machines[args.machine] = PowerState.RUNNING
        self.definitions[args.machine] = definition_of(
            args.machine, next(iter(args.networks.values())) or "none"
        )
        self._note(args.item, "machine", args.machine)
        return ops.PromoteFacts(started_at=self.now(), answered_at=self.now(), depth=1)

    def do_demote(self, args: ops.Demote) -> ops.ReplicaFacts:
        copy = self.copy(args)
        if copy.role is Role.RUNNING:
            del self.machines[copy.machine]
            copy.aside.append(self._aside(copy, "undone"))
        copy.role, copy.epoch, copy.booted = Role.TARGET, args.epoch, None
        return ops.ReplicaFacts(unsent=tuple(copy.aside), actions=("machine deleted",))

    def do_accept(self, args: ops.Accept) -> ops.Nothing:
        copy = self.copy(args)
        copy.committed = True
        copy.points = [replace(point, label="before failover") for point in copy.points]
        return ops.Nothing()

    def do_facts(self, args: ops.AskFacts) -> ops.SideFacts:
        missing = tuple(name for name in args.networks if name not in self.networks)
        copy = self.copies.get(args.item)
        if copy is None:
            return ops.SideFacts(
                item=args.item,
                machine_state=PowerState.ABSENT,
                disks=(),
                held=(),
                stands_at=None,
                pool=args.pool,
                pool_writable=args.pool in self.pools,
                pool_available=self.available,
                missing_networks=missing,
                tracked=False,
                makes=self.makes,
                taken={path: DISK for path in self.files.get(args.pool, ()) if args.definition},
                stranger=args.name if args.name in self.strangers else "",
            )
        return ops.SideFacts(
            item=args.item,
            machine_state=self.machines.get(copy.machine, PowerState.ABSENT),
            disks=(self._disk(copy),),
            held=tuple(self._held(args.item, copy)),
            stands_at=copy.booted or copy.captured,
            written={DISK: 5 * MiB},
            definition=self.definitions.get(copy.machine),
            pool=copy.pool,
            pool_available=self.available,
            missing_networks=missing,
            lock=copy.lock or None,
            disks_now=self.disks_now,
            makes=self.makes,
            digest_rate=self.digest_rate,
        )

    def do_prepare_replica(self, args: ops.PrepareReplica) -> ops.ReplicaFacts:
        if args.new_pool and args.pool not in self.pools:
            self.pools = (*self.pools, args.pool)
        self.networks = tuple(dict.fromkeys((*self.networks, *args.new_networks)))
        if args.item not in self.copies:
            self.copies[args.item] = Copy(
                role=Role.TARGET, epoch=args.epoch, machine=args.name, pool=args.pool
            )
        copy = self.copy(args)
        if copy.unsent:
            copy.aside.append(self._aside(copy, "unsent"))
            copy.unsent = 0
        if copy.role is not Role.TARGET:
            copy.points, copy.booted = [], None
        copy.role, copy.epoch, copy.lock = Role.TARGET, args.epoch, args.lock
        if copy.machine in self.machines and not args.keep_machine:
            del self.machines[copy.machine]
        return ops.ReplicaFacts(unsent=tuple(copy.aside), actions=("renamed",))

    def do_reverse(self, args: ops.Reverse) -> ops.At:
        copy = self.copy(args)
        copy.role, copy.epoch, copy.resync_ways = Role.SOURCE, args.epoch, dict(args.ways)
        self._capture(args.item, copy)
        return ops.At(position=copy.captured)

    def do_test_boot(self, args: ops.TestBoot) -> ops.PromoteFacts:
        copy = self.copy(args)
        copy.test = args.machine
        self.machines[args.machine] = PowerState.RUNNING
        return ops.PromoteFacts(started_at=self.now(), answered_at=self.now(), depth=2)

    def do_test_cleanup(self, args: ops.TestCleanup) -> ops.Nothing:
        copy = self.copy(args)
        copy.test = None
        self.machines.pop(args.machine, None)
        return ops.Nothing()

    def do_release(self, args: ops.Release) -> ops.LedgerFacts:
        copy = self.copies.pop(args.item, None)
        if copy is None:
            return ops.LedgerFacts(made=0, left=())
        if not args.owner and not copy.original:
            self.machines.pop(copy.machine, None)
        return ops.LedgerFacts(made=len(copy.made), left=())

    def do_create_machine(self, args: CreateMachine) -> ops.Nothing:
        self.add_machine(args.name)
        return ops.Nothing()

    def do_start_machine(self, args: MachineName) -> ops.Nothing:
        self.machines[args.name] = PowerState.RUNNING
        return ops.Nothing()

    def do_stop_machine(self, args: MachineName) -> ops.Nothing:
        self.machines[args.name] = PowerState.OFF
        return ops.Nothing()

    def do_delete_machine(self, args: DeleteMachine) -> DeletedMachine:
        self.machines.pop(args.name, None)
        path = f"/disks/{args.name}.raw"
        if args.disks:
            return DeletedMachine(removed=(path,), kept={"/iso": "it is not a file"})
        return DeletedMachine(kept={path: ""})

    def do_show_machine(self, args: MachineName) -> MachineShape:
        if args.name not in self.machines:
            raise RefusedError("no such machine", code="UnknownMachine")
        return MachineShape(definition=self.definitions[args.name], state=self.machines[args.name])

    # -- assignments --

    def settle(self, assignments: tuple[Assignment, ...]) -> None:
        """One pass: fences that are due, points shipped and landed."""
        for given in assignments:
            copy = self.copies.get(given.item)
            if copy is None or given.epoch < copy.epoch:
                continue
            if given.role is Role.FENCED and copy.role in {Role.SOURCE, Role.RUNNING}:
                if given.epoch > copy.epoch:
                    self.do_fence(ops.Fence(item=given.item, epoch=given.epoch))
                continue
            if given.role is not copy.role or not given.replicate:
                continue
            copy.epoch = given.epoch
            if copy.role is Role.SOURCE and self.ships:
                copy.unsent = 0
                self._ship(given.item, copy)
            if copy.role is Role.TARGET and self.lands:
                self._land(given.item, copy)

    def write(self, item: ItemId, size: int) -> None:
        """The guest writes; nothing of it has been shipped yet."""
        self.copies[item].unsent += size

    def capture(self, item: ItemId) -> Position:
        """One more point is taken and shipped."""
        copy = self.copies[item]
        self._capture(item, copy)
        self._ship(item, copy)
        assert copy.captured is not None
        return copy.captured

    def _capture(self, item: ItemId, copy: Copy) -> None:
        before = copy.captured
        sequence = before.sequence + 1 if before and before.epoch == copy.epoch else 0
        copy.captured = Position(copy.epoch, sequence)
        self.pending.setdefault(item, []).append(
            PointReport(
                position=copy.captured,
                taken_at=self.now(),
                landed_at=self.now(),
                consistency=Consistency.CRASH,
                changed=MiB,
                depth=1,
            )
        )
        if copy.role is Role.SOURCE and self.machines.get(copy.machine) is PowerState.OFF:
            self._ship(item, copy)

    def _ship(self, item: ItemId, _copy: Copy) -> None:
        for point in self.pending.pop(item, []):
            self.store.put(item, point)

    def _land(self, item: ItemId, copy: Copy) -> None:
        have = {point.position for point in copy.points}
        copy.points += [p for p in self.store.points.get(item, []) if p.position not in have]
        copy.points.sort(key=lambda point: point.position)

    # -- reports --

    def inventory(self) -> HostInventory:
        return HostInventory(
            memory=self.memory,
            memory_free=self.memory // 2,
            cpus=self.cpus,
            kvm=False,
            hypervisor="memory",
            pools=tuple(
                Pool(
                    name=name,
                    path=f"/{name}",
                    capacity=200 * GiB,
                    available=self.available,
                    writable=True,
                )
                for name in self.pools
            ),
            networks=tuple(Network(name=name, active=True) for name in self.networks),
            machines=tuple(
                MachineFacts(
                    name=name, uuid=name, state=state, memory=GiB, vcpus=1, autostart=False
                )
                for name, state in sorted(self.machines.items())
            ),
        )

    def reports(self) -> tuple[ItemReport, ...]:
        return tuple(self._report(item, copy) for item, copy in self.copies.items())

    def _report(self, item: ItemId, copy: Copy) -> ItemReport:
        phases = {Role.RUNNING: "running", Role.FENCED: "fenced"}
        waiting = copy.role is Role.SOURCE and item in self.pending
        return ItemReport(
            item=item,
            role=copy.role,
            epoch=copy.epoch,
            phase=phases.get(copy.role, "seeding" if waiting else "replicating"),
            captured=copy.captured if copy.role is not Role.TARGET else None,
            points=tuple(copy.points),
            unsent=tuple(copy.aside),
            progress=Progress(done=5, total=10) if waiting else None,
            problem=self.problem,
            bytes_moved=MiB,
            ledger=tuple(copy.made),
        )

    def _disk(self, copy: Copy) -> ops.DiskFacts:
        return ops.DiskFacts(
            disk=DISK,
            exists=True,
            readable=copy.readable,
            untouched=copy.untouched,
            size=GiB,
            allocated=100 * MiB,
            path="/pool/disk0",
            unsent=copy.unsent,
        )

    def _held(self, item: ItemId, copy: Copy) -> list[ops.HeldPoint]:
        """Positions up to where this side stands; equal positions have equal states."""
        stands = copy.booted or copy.captured
        shipped = self.store.points.get(item, [])
        return [
            ops.HeldPoint(
                position=point.position,
                states=(DiskState(disk=DISK, state=Digest(f"{point.position.key:a>64}")),),
                changed={DISK: point.changed},
            )
            for point in shipped
            if stands is None or point.position <= stands
        ]

    def _image(self, args: Any) -> UnsentReport:
        for told in self.copy(args).aside:
            if args.image in (None, Path(told.path).name):
                return told
        raise RefusedError("It has expired.", code="NoUnsent", remedy="none")

    def do_unsent_files(self, args: UnsentFiles) -> UnsentDifference:
        told = self._image(args)
        return UnsentDifference(
            disk=args.disk,
            image=Path(told.path).name,
            position=told.position,
            way="libguestfs",
            file_systems=(
                FileSystemDifference(
                    name="/dev/sda1",
                    type="ext4",
                    added=1,
                    files=(
                        FileChange(
                            path="/etc/new.conf",
                            change=Change.ADDED,
                            kind="file",
                            size=11,
                            size_before=None,
                            modified_at=self.now(),
                        ),
                    )[: args.limit],
                ),
            ),
            took=1.5,
        )

    def do_export_unsent(self, args: ExportUnsent) -> UnsentCopy:
        self._image(args)
        self.exported.append(args)
        return UnsentCopy(path=args.path, format=args.format, size=GiB, stored=7 * MiB)

    def do_discard_unsent(self, args: DiscardUnsent) -> Discarded:
        told = self._image(args)
        self.copy(args).aside.remove(told)
        return Discarded(files=(Path(told.path).name,), freed=told.size)

    def _aside(self, copy: Copy, why: str) -> UnsentReport:
        position = copy.captured or copy.booted or Position(copy.epoch, 0)
        return UnsentReport(
            disk=DISK,
            path=f"/{self.name}/{DISK}-{why}-{position}",
            position=position,
            size=copy.unsent,
            set_aside_at=self.now(),
            expires_at=None,
        )

    def _note(self, item: ItemId, kind: str, name: str) -> None:
        entry = LedgerEntry(kind=kind, name=name, reason="for tests", made_at=self.now())
        self.copies[item].made.append(entry)


REFUSED = RefusedError("It is refused.", code="Refused", cause="a test", remedy="none")
DAMAGED = IntegrityError("It is damaged.", code="Damaged")
