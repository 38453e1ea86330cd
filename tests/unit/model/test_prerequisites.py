"""Every prerequisite of a reprotect alone, and all that can fail together, in one answer."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from homeport.model import prerequisites
from homeport.model.ids import DiskName
from homeport.model.machine import PowerState
from homeport.model.operations import DiskFacts, SideFacts
from homeport.model.prerequisites import CHECKS, Grounds, check_all
from homeport.model.protection import State
from homeport.model.resources import GroupLock, LockLevel
from homeport.model.target import Setting, Target
from homeport.units import GiB, MiB
from tests.unit.model.builders import SHOP

OURS = "SiteRecovery-v-homeport-east"
PROBLEM = {"code": "NoTpm", "message": "no", "cause": "", "remedy": "x", "kind": "refused"}


DISK = DiskFacts(
    disk=DiskName("vda"),
    exists=True,
    readable=True,
    untouched=True,
    size=GiB,
    allocated=GiB,
    path="/disks/vda",
)
SIDE = SideFacts(
    item=SHOP.id,
    machine_state=PowerState.OFF,
    disks=(DISK,),
    held=(),
    stands_at=None,
    pool="disks",
    pool_available=GiB,
)
GOOD = Grounds(
    item=SHOP,
    state=State.COMMITTED,
    running=SIDE,
    old=SIDE,
    target=Target(
        group=Setting(value="rg", fixed="it stays"),
        pool=Setting(value="disks"),
        group_left_in="rg",
        group_now="rg",
    ),
    needs=MiB,
    lock=OURS,
    old_pool="disks",
)


def running(**changes: Any) -> Grounds:
    return replace(GOOD, running=replace(SIDE, **changes))


def old(**changes: Any) -> Grounds:
    return replace(GOOD, old=replace(SIDE, **changes))


def target(**changes: Any) -> Grounds:
    return replace(GOOD, target=replace(GOOD.target, **changes))


def disk(**changes: Any) -> tuple[DiskFacts, ...]:
    return (replace(DISK, **changes),)


LOCK = GroupLock(name="audit", level=LockLevel.READ_ONLY)
GONE: Any = {"disks": ()}


def lost() -> Grounds:
    """The old disks lie where they were left, and their host has no ledger of them."""
    return old(disks=(), tracked=False, taken={"/disks/vda.raw": "vda"})


FAILS: dict[str, tuple[Grounds, str, str]] = {
    "the failover is not committed": (
        replace(GOOD, state=State.COMMIT_PENDING),
        "NotCommitted",
        "homeport commit",
    ),
    "it is protected": (replace(GOOD, state=State.PROTECTED), "NotFailedOver", "Fail over"),
    "a drill is up": (replace(GOOD, drill=True), "TestNotCleanedUp", "test-cleanup shop"),
    "the running side is silent": (
        replace(GOOD, running=None),
        "SiteUnreachable",
        "homeport site show west",
    ),
    "the primary's agent is silent": (
        replace(GOOD, old=None),
        "SiteUnreachable",
        "homeport site show east",
    ),
    "an agent has found something": (running(problems=(PROBLEM,)), "NoTpm", "x"),
    "a running disk is missing": (
        running(disks=disk(exists=False)),
        "SourceDiskUnreadable",
        "Repair",
    ),
    "a running disk is unreadable": (
        running(disks=disk(readable=False)),
        "SourceDiskUnreadable",
        "Repair",
    ),
    "a disk was attached": (
        running(disks_now=(DiskName("vda"), DiskName("vdb"))),
        "DisksChanged",
        "disable and enable",
    ),
    "a disk was detached": (running(disks_now=()), "DisksChanged", "disable and enable"),
    "a disk was exchanged": (
        running(disks_now=(DiskName("vdz"),)),
        "DisksChanged",
        "disable and enable",
    ),
    "an old disk is there but unreadable": (
        old(disks=disk(readable=False, reason="bad sector")),
        "OldDiskUnreadable",
        "full copy",
    ),
    "the old disks are there, and no ledger of them": (
        lost(),
        "OldDisksUnknown",
        "homeport reprotect shop --pool OTHER",
    ),
    "without a ledger, protecting afresh is the other way": (
        lost(),
        "OldDisksUnknown",
        "disable and enable protection afresh",
    ),
    "a file is in the way in another pool": (
        replace(lost(), target=replace(GOOD.target, pool=Setting(value="fast"))),
        "NameTaken",
        "another pool",
    ),
    "a file is in the way on another host": (
        replace(lost(), moves=True),
        "NameTaken",
        "another pool",
    ),
    "a file is in the way of the item that moves": (
        old(taken={"/fast/vda.raw": "vda"}),
        "NameTaken",
        "another pool",
    ),
    "a file has the name of the folder": (
        old(**GONE, tracked=False, taken={"/disks/homeport": ""}),
        "NameTaken",
        "Move it away",
    ),
    "another machine has the name": (old(stranger="shop"), "NameTaken", "Rename or remove"),
    "the old disks are in another pool": (old(pool="other"), "OldPlaceChanged", "full copy"),
    "the old disks' pool is gone": (target(pool_gone=True), "OldPlaceChanged", "full copy"),
    "the old machine is in another group": (
        target(group_now="rg2"),
        "OldPlaceChanged",
        "group create east/rg",
    ),
    "the old machine is in no group": (target(group_now=""), "OldPlaceChanged", "Move it back"),
    "another group for the original machine": (
        target(group_asked="rg2"),
        "TargetGroupFixed",
        "Leave the option out",
    ),
    "no group for the original machine": (
        target(group_asked=""),
        "TargetGroupFixed",
        "Leave the option out",
    ),
    "somebody's lock": (old(lock="audit"), "ForeignLock", "virsh metadata shop --uri https://"),
    "a lock of another vault": (
        old(lock=OURS.replace("-v-", "-w-")),
        "ForeignLock",
        "never lifted by Homeport",
    ),
    "a locked group": (target(group_lock=LOCK), "GroupLocked", "homeport group unlock east/rg"),
    "no network": (target(networks_missing=("lan",)), "NetworkMissing", "map-network"),
    "a new storage account the agent cannot make": (
        target(pool=Setting(value="disksasr", new=True)),
        "PoolMissing",
        "disksasr",
    ),
    "a pool that cannot be written to": (old(pool_writable=False), "PoolNotWritable", "Repair"),
    "a pool too small": (old(pool_available=MiB - 1), "PoolTooSmall", "extend"),
    "the host is too small": (target(problems=(PROBLEM,)), "NoTpm", "x"),
}
HOLDS: dict[str, Grounds] = {
    "everything is well": GOOD,
    "our own lock": old(lock=OURS),
    "the disks are those of the item": running(disks_now=(DiskName("vda"),)),
    "the agent does not tell the disks": running(disks_now=None),
    "the group asked for is the one it is in": target(group_asked="rg"),
    "another group, but nothing is fixed": target(group_asked="x", group=Setting(value="x")),
    "the old disks are wholly gone": old(**GONE),
    "wholly gone, and the pool with them": replace(
        old(**GONE, makes=("pool",)),
        target=replace(GOOD.target, pool=Setting(value="p", new=True), pool_gone=True),
    ),
    "wholly gone from another group": replace(
        old(**GONE), target=replace(GOOD.target, group_now="rg2")
    ),
    "the pool is known by its folder": old(pool="/srv/disks"),
    "the pool it was left in is not known": replace(old(pool="other"), old_pool=""),
    "exactly enough room": old(pool_available=MiB),
    "a new pool has its own room": replace(
        old(pool_available=0, pool_writable=False, makes=("pool",)),
        target=replace(GOOD.target, pool=Setting(value="new", new=True)),
    ),
}


@pytest.mark.parametrize(("grounds", "code", "remedy"), FAILS.values(), ids=FAILS)
def test_alone_it_is_told_with_what_to_do(grounds: Grounds, code: str, remedy: str) -> None:
    (problem,) = check_all(grounds)
    assert problem["code"] == code
    assert remedy in problem["remedy"]
    assert problem["message"].endswith((".", "no"))


@pytest.mark.parametrize("grounds", HOLDS.values(), ids=HOLDS)
def test_nothing_stands_in_the_way(grounds: Grounds) -> None:
    assert check_all(grounds) == ()


def test_all_are_shown_at_once() -> None:
    worst = Grounds(
        item=SHOP,
        state=State.COMMIT_PENDING,
        running=replace(SIDE, disks=disk(readable=False), disks_now=(), problems=(PROBLEM,)),
        old=replace(
            SIDE,
            disks=disk(readable=False),
            taken={"/disks/vda.raw": "vda"},
            stranger="shop",
            pool="other",
            pool_writable=False,
            pool_available=0,
            lock="audit",
        ),
        target=replace(
            GOOD.target,
            group_now="rg2",
            group_asked="rg3",
            group_lock=LOCK,
            networks_missing=("lan", "dmz"),
            problems=({**PROBLEM, "code": "CapacityHeldBack"},),
        ),
        needs=GiB,
        lock=OURS,
        old_pool="disks",
        drill=True,
    )
    codes = [problem["code"] for problem in check_all(worst)]
    assert codes == [
        "NotCommitted",
        "TestNotCleanedUp",
        "NoTpm",
        "SourceDiskUnreadable",
        "DisksChanged",
        "OldDiskUnreadable",
        "NameTaken",
        "NameTaken",
        "OldPlaceChanged",
        "OldPlaceChanged",
        "TargetGroupFixed",
        "ForeignLock",
        "GroupLocked",
        "NetworkMissing",
        "NetworkMissing",
        "PoolNotWritable",
        "PoolTooSmall",
        "CapacityHeldBack",
    ]


def test_two_silent_sides_are_two_problems_and_hide_nothing_else() -> None:
    silent = replace(GOOD, running=None, old=None, state=State.COMMIT_PENDING)
    codes = [problem["code"] for problem in check_all(silent)]
    assert codes == ["NotCommitted", "SiteUnreachable", "SiteUnreachable"]


def test_what_an_agent_has_found_too_is_told_once() -> None:
    memory = {**PROBLEM, "code": "NotEnoughMemory"}
    ours = {**memory, "message": "the same in other words"}
    both = replace(
        GOOD,
        old=replace(SIDE, problems=(memory,)),
        target=replace(GOOD.target, problems=(ours,)),
    )
    assert check_all(both) == (memory,)


def test_every_check_of_the_module_is_made() -> None:
    made = {name for name, value in vars(prerequisites).items() if value in CHECKS}
    public = {
        name
        for name, value in vars(prerequisites).items()
        if callable(value)
        and getattr(value, "__module__", "") == prerequisites.__name__
        and not name.startswith("_")
    }
    assert public - made == {"Grounds", "check_all"}
