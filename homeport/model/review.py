"""
The review of a reprotect: what it would keep, rename, set aside, make and delete, and how long.

A pure function of the item and of what both sides hold. API, command line and job render the same
review; asking for one changes nothing. A review with problems is a refusal, all reasons at once.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta

from homeport.errors import RefusedError
from homeport.model.estimate import (
    DEFAULT_RATES,
    AsrEstimate,
    Estimate,
    Rates,
    asr_estimate,
    estimate,
)
from homeport.model.item import ReplicatedItem, Side
from homeport.model.machine import PowerState
from homeport.model.operations import Problem, SideFacts
from homeport.model.planning import DiskPlan, ResyncPlan, Way, plan_resync
from homeport.model.prerequisites import Grounds, check_all
from homeport.model.protection import State
from homeport.model.rehearsal import Rehearsal
from homeport.model.target import Setting, Target
from homeport.units import show_size

REPLICA_SUFFIX = "-ASRReplica"
NONE = "none"
ASR_DISK_MB_PER_S = 60.0
"""The article's example disk; shown with the estimate so that it can be judged."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """One line of the review's settings; `new` marks what would be made."""

    setting: str
    value: str
    new: bool = False
    fixed: str = ""  # why it cannot be another


@dataclass(frozen=True, kw_only=True, slots=True)
class DiskReview:
    """What happens to one disk, in words and figures (bytes)."""

    disk: str
    way: Way
    reason: str
    reads: int
    sends: int
    actions: tuple[str, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Review:
    """Everything a person needs to decide; `problems` empty means it can be started."""

    item: str
    direction: str
    way: Way
    reason: str
    reads: int
    sends: int
    rows: tuple[Row, ...]
    disks: tuple[DiskReview, ...]
    machine: tuple[str, ...]
    plan: ResyncPlan
    ours: Estimate
    asr: AsrEstimate
    problems: tuple[Problem, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class ReviewInput:
    """What the review is made from; either side's facts are None when it does not answer."""

    item: ReplicatedItem
    state: State
    running: SideFacts | None
    old: SideFacts | None
    cache: str
    target: Target = field(default_factory=Target)
    cache_is_new: bool = False
    lock: str = ""  # the name of ours
    old_pool: str = ""  # where the old disks were left
    moves: bool = False  # to another host than the one that has the old disks
    rates: Rates = DEFAULT_RATES
    enable_took: timedelta = timedelta(0)
    keep_machine: bool | None = None
    drill: bool = False  # a test failover has not been cleaned up
    rehearsal: Rehearsal | None = None  # of the failover that the reprotect makes possible


def review(given: ReviewInput) -> Review:
    """Make the review. Never raises for what it finds: it lists it."""
    running, old = given.running, given.old
    known = running is not None and old is not None
    plan = plan_resync(old, running) if running and old else ResyncPlan(common=None, disks=())
    return Review(
        item=given.item.name,
        direction=_direction(given.item),
        way=plan.way,
        reason=plan.reason if known else "not known until both sides answer",
        reads=plan.reads,
        sends=plan.sends,
        rows=_rows(given),
        disks=tuple(_disk(disk, given, old) for disk in plan.disks) if old else (),
        machine=_machine_actions(given, old) if old and running else (),
        plan=plan,
        ours=estimate(plan, given.rates),
        asr=_asr(given, plan),
        problems=_problems(given, plan),
        notes=(*given.target.notes, *_notes(given)),
    )


def _problems(given: ReviewInput, plan: ResyncPlan) -> tuple[Problem, ...]:
    return check_all(
        Grounds(
            item=given.item,
            state=given.state,
            running=given.running,
            old=given.old,
            target=given.target,
            needs=sum(disk.sends for disk in plan.disks) + _copied(given),
            lock=given.lock,
            old_pool=given.old_pool,
            moves=given.moves,
            drill=given.drill,
        )
    )


def _copied(given: ReviewInput) -> int:
    """Bytes of the OS disk's copy, where one is made; less where files can share blocks."""
    old = given.old
    if old is None or not old.disks or _is_managed(given, old.disks[0].disk):
        return 0
    system = old.disks[0]
    return system.allocated if system.exists and _machine_stays(given, old) else 0


def keeps_machine(item: ReplicatedItem, *, asked: bool | None) -> bool:
    """
    Whether the standby side's machine stays: the primary's always, the recovery site's on request.

    Raises:
        RefusedError: it was asked that the original machine be deleted.
    """
    if item.active is Side.RECOVERY:
        if asked is False:
            raise RefusedError(
                "The machine at the primary site is not deleted by a reprotect.",
                code="OriginalMachineKept",
                cause="It is the original, and failing back uses it.",
                remedy="Leave the option out.",
            )
        return True
    return bool(asked)


def _direction(item: ReplicatedItem) -> str:
    return f"{item.running.site} -> {item.standby.site}"


def _disk(plan: DiskPlan, given: ReviewInput, old: SideFacts) -> DiskReview:
    return DiskReview(
        disk=plan.disk,
        way=plan.way,
        reason=plan.reason,
        reads=plan.reads,
        sends=plan.sends,
        actions=_disk_actions(plan.disk, plan.way, given, old),
    )


def _rows(given: ReviewInput) -> tuple[Row, ...]:
    """The settings, in the order of ASR's table."""
    target = given.target
    networks = [f"{a} -> {b or 'not attached'}" for a, b in sorted(target.networks.items())]
    mapped = Setting(value=", ".join(networks) or "same names", new=bool(target.new_networks))
    return (
        Row(setting="direction", value=_direction(given.item)),
        _row("resource group", target.group),
        _row("virtual network", mapped),
        *(_row(name, target.pool) for name in _storage(given)),
        _row("cache store", Setting(value=given.cache, new=given.cache_is_new)),
        _row("availability set", target.availability_set),
        _row("capacity reservation", target.reservation),
    )


def _row(setting: str, chosen: Setting) -> Row:
    value = chosen.value or NONE
    return Row(setting=setting, value=value, new=chosen.new, fixed=chosen.fixed)


def _storage(given: ReviewInput) -> tuple[str, ...]:
    """What the pool is called: a storage account has unmanaged disks in it."""
    definition = given.running.definition if given.running else None
    managed = {disk.managed for disk in definition.disks} if definition else {True}
    names = ((False, "storage account"), (True, "replica managed disks"))
    return tuple(name for kind, name in names if kind in managed)


def _disk_actions(disk: str, way: Way, given: ReviewInput, old: SideFacts) -> tuple[str, ...]:
    there = next((facts for facts in old.disks if facts.disk == disk), None)
    managed = _is_managed(given, disk)
    if disk in old.taken.values():
        paths = sorted(path for path, name in old.taken.items() if name == disk)
        return (f"not touched: {', '.join(paths)}; no replica is made beside it",)
    if there is None or not there.exists:
        account = given.target.pool.value or old.pool
        return (f"created: {disk}{REPLICA_SUFFIX}" if managed else f"created: {disk} in {account}",)
    actions = []
    if there.unsent:
        actions.append(f"set aside: {show_size(there.unsent)} of unsent writes as {disk}-unsent-*")
    if managed:
        actions.append(f"renamed: {disk} becomes {disk}{REPLICA_SUFFIX}; no byte of it is copied")
    else:
        actions += _in_place(disk, given, old)
    if way is not Way.FULL:
        actions.append("kept: its content stays as it is until the first new point is listed")
    return tuple(actions)


def _in_place(disk: str, given: ReviewInput, old: SideFacts) -> tuple[str, ...]:
    """An unmanaged disk that is there: its machine, if it stays, has it no longer."""
    used = f"used in place: {disk} becomes the replica and keeps its name"
    if not _machine_stays(given, old):
        return (used,)
    name = given.item.standby.machine
    if disk != old.disks[0].disk:
        return (f"detached: {name} does not have {disk} until failback", used)
    return (f"copied: {name} has a copy of its OS disk {disk} until failback", used)


def _is_managed(given: ReviewInput, disk: str) -> bool:
    definition = given.running.definition if given.running else None
    disks = definition.disks if definition else ()
    return next((one.managed for one in disks if one.name == disk), True)


def _machine_stays(given: ReviewInput, old: SideFacts) -> bool:
    there = old.machine_state is not PowerState.ABSENT
    return there and keeps_machine(given.item, asked=given.keep_machine)


def _machine_actions(given: ReviewInput, old: SideFacts) -> tuple[str, ...]:
    name = given.item.standby.machine
    if old.stranger:
        return (f"not touched: {old.stranger} on {given.item.standby.site}, another machine",)
    if old.machine_state is PowerState.ABSENT:
        return (f"machine {name} is not on {given.item.standby.site}; only its disks are used",)
    off = [] if old.machine_state is PowerState.OFF else [f"switched off: {name}"]
    if keeps_machine(given.item, asked=given.keep_machine):
        return (*off, f"kept and locked until failback: {name}")
    return (*off, f"deleted: {name} on {given.item.standby.site} (keep it with --keep-machine)")


def _asr(given: ReviewInput, plan: ResyncPlan) -> AsrEstimate:
    return asr_estimate(
        checksum=given.enable_took,
        changed_gb=plan.sends / 2**30,
        disk_mb_per_s=ASR_DISK_MB_PER_S,
    )


def _notes(given: ReviewInput) -> tuple[str, ...]:
    checksum = "ASR's checksum term is this item's own enable job."
    found = given.rehearsal
    if found is None or found.counts or not found.failback:
        return (checksum,)
    drill = f"homeport test-failover {given.item.name}"
    advice = f"After it, test a failover at {found.site} before failing back ({drill})"
    return (f"{advice}: {found.missing}.", checksum)
