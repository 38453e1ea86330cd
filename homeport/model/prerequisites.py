"""
What must hold before a reprotect: one small check a condition, all of them shown at once.

Pure. A check looks at the grounds and yields a problem with code, message, cause and remedy for
each thing that stands in the way; where a side does not answer, a check that needs it has nothing
to say: that silence is a problem of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from homeport.errors import RefusedError
from homeport.model.host import foreign_lock_remedy
from homeport.model.item import ReplicatedItem, Seat
from homeport.model.operations import DiskFacts, Problem, SideFacts
from homeport.model.protection import Event, IllegalMoveError, State, advance
from homeport.model.target import Target
from homeport.units import show_size

TWO_WAYS = (
    "Disable and enable protection afresh, or move the old disks away and reprotect: a full copy "
    "to new replicas is made and the old disks are kept."
)
"""The ways on where the old side's disks are there, but not as they were left."""
ANOTHER_POOL = "homeport reprotect {item} --pool OTHER"
"""A full copy that leaves the old disks as they are."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Grounds:
    """
    What the checks look at; a side's facts are None when it does not answer.

    `lock` is the name of the lock that is ours, and `needs` the bytes that may be written.
    """

    item: ReplicatedItem
    state: State
    running: SideFacts | None
    old: SideFacts | None
    target: Target
    needs: int = 0
    lock: str = ""
    old_pool: str = ""  # where the old disks were left
    moves: bool = False  # to another host than the one that has the old disks
    drill: bool = False  # a test failover has not been cleaned up

    @property
    def seat(self) -> Seat:
        """Where the replica will be."""
        return self.item.standby

    @property
    def kept(self) -> tuple[DiskFacts, ...]:
        """The old disks that are there."""
        return tuple(disk for disk in self.old.disks if disk.exists) if self.old else ()


Check = Callable[[Grounds], Iterable[Problem]]


def check_all(grounds: Grounds) -> tuple[Problem, ...]:
    """Every problem there is; one that an agent has found too is told once."""
    found: dict[tuple[str, str], Problem] = {}
    agents: set[str] = set()
    for check in CHECKS:
        for problem in check(grounds):
            code = problem["code"]
            if check is agents_problems:
                agents.add(code)
            elif code in agents:
                continue
            found.setdefault((code, problem["message"]), problem)
    return tuple(found.values())


def failover_committed(grounds: Grounds) -> Iterator[Problem]:
    """The item is *Failover committed*; nothing else commits it, because that ends undo."""
    try:
        advance(grounds.state, Event.REPROTECT)
    except IllegalMoveError as error:
        yield error.as_dict()


def drill_cleaned_up(grounds: Grounds) -> Iterator[Problem]:
    """No test machine runs on the item's points."""
    if grounds.drill:
        yield _problem(
            "TestNotCleanedUp",
            f"{grounds.item.name} has a test failover that was not cleaned up.",
            "Its test machine runs on one of the item's points.",
            f"Clean it up first (homeport test-cleanup {grounds.item.name}).",
        )


def agents_alive(grounds: Grounds) -> Iterator[Problem]:
    """Both sides' agents answer."""
    sides = ((grounds.item.running, grounds.running), (grounds.seat, grounds.old))
    for seat, facts in sides:
        if facts is None:
            yield _problem(
                "SiteUnreachable",
                f"The agent on {seat.host} in {seat.site} does not answer.",
                "The host is off, cut off, or its agent does not run.",
                f"Bring {seat.host} back (homeport site show {seat.site}), then ask again.",
            )


def agents_problems(grounds: Grounds) -> Iterator[Problem]:
    """What the agents have found themselves."""
    for facts in (grounds.running, grounds.old):
        yield from facts.problems if facts else ()


def running_disks_readable(grounds: Grounds) -> Iterator[Problem]:
    """All disks of the running machine are there and can be read."""
    for disk in grounds.running.disks if grounds.running else ():
        if not (disk.exists and disk.readable):
            yield _problem(
                "SourceDiskUnreadable",
                f"Disk {disk.disk} of the running machine is missing or unreadable.",
                disk.reason or "Its file cannot be opened.",
                "Repair the disk first: what cannot be read cannot be replicated.",
            )


def running_disks_unaltered(grounds: Grounds) -> Iterator[Problem]:
    """The running machine has the item's disks, no more and no fewer."""
    running = grounds.running
    if running is None or running.disks_now is None:
        return
    known, now = {disk.disk for disk in running.disks}, set(running.disks_now)
    if known == now:
        return
    changes = [f"{name} was added" for name in sorted(now - known)]
    changes += [f"{name} is missing" for name in sorted(known - now)]
    yield _problem(
        "DisksChanged",
        f"The running machine has {len(now)} disks, the item {len(known)}: {', '.join(changes)}.",
        "Disks were attached or detached since the machine was protected.",
        "Give the machine the disks it had, or disable and enable protection afresh: that is a "
        "full copy with the disks it has now.",
    )


def old_disks_readable(grounds: Grounds) -> Iterator[Problem]:
    """The old side's disks can be read, or are wholly gone; there but unreadable is neither."""
    for disk in grounds.kept:
        if not disk.readable:
            yield _problem(
                "OldDiskUnreadable",
                f"Disk {disk.disk} is there on {grounds.seat.site}, but cannot be read.",
                disk.reason or "Its file or one of its layers cannot be opened.",
                TWO_WAYS,
            )


def old_disks_known(grounds: Grounds) -> Iterator[Problem]:
    """Disks that are there where they were left are in a ledger; without it none can be read."""
    if _is_ledger_lost(grounds) and grounds.old:
        host, name = grounds.seat.host, grounds.item.name
        yield _problem(
            "OldDisksUnknown",
            f"The old disks are there on {host}, which has no ledger of {name} that can be read: "
            f"{', '.join(sorted(grounds.old.taken))}.",
            "Without the ledger nobody can tell which files make up a disk, or up to which point; "
            "so they are neither read nor written over.",
            "Have a full copy made to new replicas in another pool, where the old disks are kept "
            f"as they are ({ANOTHER_POOL.format(item=name)}). Or disable and enable protection "
            "afresh, with another pool too.",
        )


def names_free(grounds: Grounds) -> Iterator[Problem]:
    """No file or machine of somebody else's has a name that the replica needs."""
    old = grounds.old
    if old is None:
        return
    for path, disk in () if _is_ledger_lost(grounds) else sorted(old.taken.items()):
        yield _problem(
            "NameTaken",
            f"{path} exists on {grounds.seat.host}, and is not this item's.",
            f"Disk {disk} gets this name there, now or after a failover."
            if disk
            else "A folder of that name is needed.",
            "Move it away, or choose another pool (--pool).",
        )
    if old.stranger:
        yield _problem(
            "NameTaken",
            f"{grounds.seat.host} has a machine {old.stranger} that is not of this item.",
            "It was made after protection had been enabled, or carries no note of Homeport's.",
            "Rename or remove that machine, then ask again.",
        )


def old_pool_unchanged(grounds: Grounds) -> Iterator[Problem]:
    """The old disks lie in the pool they were left in."""
    old, left_in = grounds.old, grounds.old_pool
    if old is None or not grounds.kept or not left_in or not old.tracked:
        return
    elsewhere = not old.pool.startswith("/") and old.pool != left_in
    if elsewhere or grounds.target.pool_gone:
        now = f"in pool {old.pool}" if elsewhere else f"in no pool of {grounds.seat.host}"
        yield _problem(
            "OldPlaceChanged",
            f"The old disks were left in pool {left_in} and are {now} now.",
            "The pool was changed, renamed or removed while the machine ran on the other side.",
            f"Put the pool back as it was. Or: {TWO_WAYS}",
        )


def group_unchanged(grounds: Grounds) -> Iterator[Problem]:
    """The old machine is in the resource group it was left in."""
    left_in, now = grounds.target.group_left_in, grounds.target.group_now
    if grounds.kept and left_in and left_in != now:
        yield _problem(
            "OldPlaceChanged",
            f"{grounds.seat.machine} was left in resource group {left_in} and is in "
            f"{now or 'none'} now.",
            "It was moved while the machine ran on the other side.",
            f"Move it back (homeport group create {grounds.seat.site}/{left_in} --member "
            f"{grounds.seat.machine}). Or: {TWO_WAYS}",
        )


def target_group_changeable(grounds: Grounds) -> Iterator[Problem]:
    """The target's group is not another when reprotecting to the original machine."""
    group, asked = grounds.target.group, grounds.target.group_asked
    if group.fixed and asked is not None and asked != group.value:
        yield _problem(
            "TargetGroupFixed",
            f"The resource group cannot be {asked or 'none'}: it is {group.value or 'none'}.",
            group.fixed,
            "Leave the option out. After the failback the machine can be moved to another group.",
        )


def no_foreign_lock(grounds: Grounds) -> Iterator[Problem]:
    """The original machine carries no lock, or ours."""
    lock = grounds.old.lock if grounds.old else None
    if lock and lock != grounds.lock:
        yield _problem(
            "ForeignLock",
            f"{grounds.seat.machine} on {grounds.seat.host} carries the lock {lock}.",
            "It was put there by somebody else, or left over from another vault or protection.",
            foreign_lock_remedy(grounds.seat.machine),
        )


def group_not_locked(grounds: Grounds) -> Iterator[Problem]:
    """The target's resource group carries no lock."""
    lock = grounds.target.group_lock
    if lock is not None:
        where = f"{grounds.seat.site}/{grounds.target.group.value}"
        yield _problem(
            "GroupLocked",
            f"Resource group {where} carries the {lock.level.value} lock {lock.name}.",
            "Somebody has locked it; disks and machines in it could not be changed or removed.",
            f"Have it lifted (homeport group unlock {where}), then ask again.",
        )


def networks_there(grounds: Grounds) -> Iterator[Problem]:
    """Each network the machine will be on is there, or can be made."""
    for network in grounds.target.networks_missing:
        yield _problem(
            "NetworkMissing",
            f"Network {network} does not exist on {grounds.seat.site}.",
            "It was asked for, or the reverse network mapping points at it, and it was not made.",
            "Make the network, or map another one (homeport site map-network).",
        )


def pool_there(grounds: Grounds) -> Iterator[Problem]:
    """The replica's pool is there and can be written to, or can be made."""
    old, pool = grounds.old, grounds.target.pool
    if old is None:
        return
    if pool.new and "pool" not in old.makes:
        yield _problem(
            "PoolMissing",
            f"{grounds.seat.host} has no storage account {pool.value}, and cannot make it.",
            "The original one is gone; a new one is named after the running side's.",
            f"Make a pool {pool.value} there, or name another one.",
        )
    elif not pool.new and not old.pool_writable:
        yield _problem(
            "PoolNotWritable",
            f"Pool {pool.value or old.pool} on {grounds.seat.site} cannot be written to.",
            "Its folder is missing, full or read-only.",
            "Repair the pool, then ask again.",
        )


def pool_large_enough(grounds: Grounds) -> Iterator[Problem]:
    """What the resync may write fits into the pool."""
    old, pool = grounds.old, grounds.target.pool
    if old is None or pool.new or old.pool_available >= grounds.needs:
        return
    yield _problem(
        "PoolTooSmall",
        f"Pool {pool.value or old.pool} on {grounds.seat.site} has "
        f"{show_size(old.pool_available)} free; up to {show_size(grounds.needs)} would be written.",
        "The resync and the writes set aside need room beside the old disks.",
        "Free some space or extend the pool.",
    )


def host_fits(grounds: Grounds) -> Iterator[Problem]:
    """The host has the memory and vCPUs beside reservations, and no other member of the set."""
    yield from grounds.target.problems


CHECKS: tuple[Check, ...] = (
    failover_committed,
    drill_cleaned_up,
    agents_alive,
    agents_problems,
    running_disks_readable,
    running_disks_unaltered,
    old_disks_readable,
    old_disks_known,
    names_free,
    old_pool_unchanged,
    group_unchanged,
    target_group_changeable,
    no_foreign_lock,
    group_not_locked,
    networks_there,
    pool_there,
    pool_large_enough,
    host_fits,
)
"""In the order people are shown them."""


def _is_ledger_lost(grounds: Grounds) -> bool:
    """Whether files lie where the old disks were left, on a host that knows nothing of the item."""
    old = grounds.old
    where_left = not grounds.moves and grounds.target.pool.value == grounds.old_pool
    return where_left and old is not None and not old.tracked and any(old.taken.values())


def _problem(code: str, message: str, cause: str, remedy: str) -> Problem:
    return RefusedError(message, code=code, cause=cause, remedy=remedy).as_dict()
