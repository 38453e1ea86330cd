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
from homeport.model.planning import ResyncPlan, Way, plan_resync
from homeport.model.protection import Event, IllegalMoveError, State, advance
from homeport.units import show_size

REPLICA_SUFFIX = "-ASRReplica"
ASR_DISK_MB_PER_S = 60.0
"""The article's example disk; shown with the estimate so that it can be judged."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """One line of the review's settings; `new` marks what would be made."""

    setting: str
    value: str
    new: bool = False


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
    cache_is_new: bool = False
    networks: dict[str, str | None] = field(default_factory=dict)
    rates: Rates = DEFAULT_RATES
    enable_took: timedelta = timedelta(0)
    keep_machine: bool | None = None


def review(given: ReviewInput) -> Review:
    """Make the review. Never raises for what it finds: it lists it."""
    problems = [*_state_problems(given.state), *_reach_problems(given)]
    running, old = given.running, given.old
    if running is None or old is None:
        return _unreachable(given, tuple(problems))
    problems += _side_problems(given, running, old)
    plan = plan_resync(old, running)
    need = sum(disk.sends for disk in plan.disks)
    if old.pool_available < need:
        problems.append(_no_room(given, old, need))
    return Review(
        item=given.item.name,
        direction=f"{given.item.running.site} -> {given.item.standby.site}",
        way=plan.way,
        reason=plan.reason,
        reads=plan.reads,
        sends=plan.sends,
        rows=_rows(given, old),
        disks=tuple(
            DiskReview(
                disk=disk.disk,
                way=disk.way,
                reason=disk.reason,
                reads=disk.reads,
                sends=disk.sends,
                actions=_disk_actions(disk.disk, disk.way, old),
            )
            for disk in plan.disks
        ),
        machine=_machine_actions(given, old),
        plan=plan,
        ours=estimate(plan, given.rates),
        asr=_asr(given, plan),
        problems=tuple(problems),
        notes=_notes(given),
    )


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


def _state_problems(state: State) -> list[Problem]:
    try:
        advance(state, Event.REPROTECT)
    except IllegalMoveError as error:
        return [error.as_dict()]
    return []


def _problem(code: str, message: str, cause: str, remedy: str) -> Problem:
    return RefusedError(message, code=code, cause=cause, remedy=remedy).as_dict()


def _reach_problems(given: ReviewInput) -> list[Problem]:
    found = []
    for seat, facts in ((given.item.running, given.running), (given.item.standby, given.old)):
        if facts is None:
            found.append(
                _problem(
                    "SiteUnreachable",
                    f"The agent on {seat.host} in {seat.site} does not answer.",
                    "The host is off, cut off, or its agent does not run.",
                    f"Bring {seat.host} back (homeport site show {seat.site}), then ask again.",
                )
            )
    return found


def _side_problems(given: ReviewInput, running: SideFacts, old: SideFacts) -> list[Problem]:
    found = [*running.problems, *old.problems]
    found += [
        _problem(
            "SourceDiskUnreadable",
            f"Disk {disk.disk} of the running machine is missing or unreadable.",
            disk.reason or "Its file cannot be opened.",
            "Repair the disk first: what cannot be read cannot be replicated.",
        )
        for disk in running.disks
        if not (disk.exists and disk.readable)
    ]
    found += [
        _problem(
            "OldDiskUnreadable",
            f"Disk {disk.disk} is there on {given.item.standby.site}, but cannot be read.",
            disk.reason or "Its file or one of its layers cannot be opened.",
            "Disable and enable protection afresh, or move the old disk away and reprotect: a "
            "full copy to a new replica is made and the old disk is kept.",
        )
        for disk in old.disks
        if disk.exists and not disk.readable
    ]
    found += [
        _problem(
            "NetworkMissing",
            f"Network {network} does not exist on {given.item.standby.site}.",
            "The reverse network mapping points at it.",
            "Make the network, or map another one (homeport site map-network).",
        )
        for network in old.missing_networks
    ]
    if not old.pool_writable:
        found.append(
            _problem(
                "PoolNotWritable",
                f"Pool {old.pool} on {given.item.standby.site} cannot be written to.",
                "Its folder is missing, full or read-only.",
                "Repair the pool, then ask again.",
            )
        )
    return found


def _no_room(given: ReviewInput, old: SideFacts, need: int) -> Problem:
    return _problem(
        "PoolTooSmall",
        f"Pool {old.pool} on {given.item.standby.site} has {show_size(old.pool_available)} free; "
        f"up to {show_size(need)} would be written.",
        "The resync and the writes set aside need room beside the old disks.",
        "Free some space or extend the pool.",
    )


def _rows(given: ReviewInput, old: SideFacts) -> tuple[Row, ...]:
    networks = [f"{a} -> {b or 'not attached'}" for a, b in sorted(given.networks.items())]
    return (
        Row(setting="direction", value=f"{given.item.running.site} -> {given.item.standby.site}"),
        Row(setting="target pool", value=old.pool),
        Row(setting="virtual network", value=", ".join(networks) or "same names"),
        Row(setting="cache store", value=given.cache, new=given.cache_is_new),
        Row(setting="policy", value=given.item.policy),
    )


def _disk_actions(disk: str, way: Way, old: SideFacts) -> tuple[str, ...]:
    there = next((facts for facts in old.disks if facts.disk == disk), None)
    if there is None or not there.exists:
        return (f"created: {disk}{REPLICA_SUFFIX}",)
    actions = []
    if there.unsent:
        actions.append(f"set aside: {show_size(there.unsent)} of unsent writes as {disk}-unsent-*")
    actions.append(f"renamed: {disk} becomes {disk}{REPLICA_SUFFIX}; no byte of it is copied")
    if way is not Way.FULL:
        actions.append("kept: its content stays as it is until the first new point is listed")
    return tuple(actions)


def _machine_actions(given: ReviewInput, old: SideFacts) -> tuple[str, ...]:
    name = given.item.standby.machine
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
    if given.item.active is Side.RECOVERY:
        return (
            "After it, test a failover at the primary before failing back: none has succeeded yet.",
            checksum,
        )
    return (checksum,)


def _unreachable(given: ReviewInput, problems: tuple[Problem, ...]) -> Review:
    plan = ResyncPlan(common=None, disks=())
    return Review(
        item=given.item.name,
        direction=f"{given.item.running.site} -> {given.item.standby.site}",
        way=Way.NOTHING,
        reason="not known until both sides answer",
        reads=0,
        sends=0,
        rows=(),
        disks=(),
        machine=(),
        plan=plan,
        ours=estimate(plan, given.rates),
        asr=_asr(given, plan),
        problems=problems,
        notes=_notes(given),
    )
