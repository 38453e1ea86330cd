"""
Planning a resync: the cheapest way that is *known* to be right, by one pure function.

Nothing here reads a disk. What both sides hold comes in as `SideFacts`, and each disk gets a way
with its reason and what will be read and sent. Not knowing is never taken for "nothing".
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum

from homeport.model.ids import Digest, DiskName
from homeport.model.operations import DiskFacts, HeldPoint, SideFacts
from homeport.model.position import Position
from homeport.units import GiB, MiB

DIGEST_BYTES = 16
"""Stored length of one block's digest at either level."""
WINDOW = 4 * GiB
"""
Bytes of a disk compared at a time, at most 16 MiB of digests at the fine level. What differs in one
window is shipped while the next is compared.
"""
UNTOLD = "both sides hold point {common}; what was written since is not known yet"
"""Of a disk that the running side has no figure of: that is not the figure 0."""


class Way(StrEnum):
    """How a disk of the other side is brought up to date, cheapest first."""

    NOTHING = "nothing"
    EXACT = "exact"
    DIFFERENTIAL = "differential"
    FULL = "full"

    @property
    def rank(self) -> int:
        """Higher moves or reads more."""
        return list(Way).index(self)


@dataclass(frozen=True, kw_only=True, slots=True)
class DiskPlan:
    """What one disk needs; bytes are upper bounds known before anything is read."""

    disk: DiskName
    way: Way
    reason: str
    reads: int  # bytes read on each side that must read
    sends: int  # bytes sent at most
    likely: int = 0  # bytes known to differ where `sends` is only a bound; 0 where none are


@dataclass(frozen=True, kw_only=True, slots=True)
class ResyncPlan:
    """The plan for a machine: `common` is the newest point both sides are known to share."""

    common: Position | None
    disks: tuple[DiskPlan, ...]

    @property
    def way(self) -> Way:
        """The dearest way any disk needs."""
        return max((disk.way for disk in self.disks), key=lambda way: way.rank, default=Way.NOTHING)

    @property
    def sends(self) -> int:
        """Bytes sent at most, all disks."""
        return sum(disk.sends for disk in self.disks)

    @property
    def reads(self) -> int:
        """Bytes read on a side at most, all disks."""
        return sum(disk.reads for disk in self.disks)

    @property
    def reason(self) -> str:
        """The reason of the disk that decided the way."""
        return next((disk.reason for disk in self.disks if disk.way is self.way), "no disks")


def common_point(old: SideFacts, running: SideFacts) -> Position | None:
    """
    The newest position that both sides hold with the same states, or None.

    Identity is the state digest of every disk: equal numbers alone prove nothing. The running
    side's held points are contiguous in maps, so any of them can be counted from.
    """
    known = {point.position: _states(point) for point in running.held}
    for point in reversed(old.held):
        if known.get(point.position) == _states(point):
            return point.position
    return None


def plan_resync(old: SideFacts, running: SideFacts) -> ResyncPlan:
    """Decide each disk's way from what both sides hold."""
    common = common_point(old, running)
    between = bytes_between(running, common)
    there = {disk.disk: disk for disk in old.disks}
    plans = []
    for disk in running.disks:
        differs = between.get(disk.disk, 0) + running.written.get(disk.disk, 0)
        plan = _plan_disk(disk, there.get(disk.disk), old, common, differs)
        if plan.way is Way.NOTHING and disk.disk not in running.written:
            plan = replace(plan, way=Way.EXACT, reason=UNTOLD.format(common=common))
        plans.append(plan)
    return ResyncPlan(common=common, disks=tuple(plans))


def bytes_between(running: SideFacts, common: Position | None) -> Mapping[str, int]:
    """Bytes by disk that lie in the points between `common` and where the machine was booted."""
    if common is None or running.stands_at is None:
        return {}
    low, high = sorted((common, running.stands_at))
    total: dict[str, int] = {}
    for point in running.held:
        if low < point.position <= high:
            for disk, count in point.changed.items():
                total[disk] = total.get(disk, 0) + count
    return total


def _plan_disk(
    disk: DiskFacts,
    there: DiskFacts | None,
    old: SideFacts,
    common: Position | None,
    differs: int,
) -> DiskPlan:
    if there is None or not there.exists:
        taken = disk.disk in old.taken.values()
        return DiskPlan(
            disk=disk.disk,
            way=Way.FULL,
            reason="a file of this name is in the way on the other side"
            if taken
            else "the other side has no disk of this name",
            reads=disk.allocated,
            sends=disk.allocated,
        )
    doubt = _doubt(disk, there, old, common)
    if doubt:
        digests = -(-disk.size // MiB) * DIGEST_BYTES
        return DiskPlan(
            disk=disk.disk,
            way=Way.DIFFERENTIAL,
            reason=doubt,
            reads=max(disk.allocated, there.allocated),
            sends=min(disk.size, disk.allocated + there.allocated) + digests,
            likely=differs,
        )
    if differs == 0:
        reason = f"both sides hold point {common} and nothing was written since"
        return DiskPlan(disk=disk.disk, way=Way.NOTHING, reason=reason, reads=0, sends=0)
    return DiskPlan(
        disk=disk.disk,
        way=Way.EXACT,
        reason=f"both sides hold point {common}; what differs is known from change maps",
        reads=differs,
        sends=differs,
    )


def _doubt(
    disk: DiskFacts, there: DiskFacts, old: SideFacts, common: Position | None
) -> str | None:
    """Why the difference is not known without reading, or None when it is."""
    if not old.tracked:
        return "the other side has no record of this item: its maps are lost"
    if not there.untouched:
        return there.reason or "the other side's disk was written to from outside"
    if common is None:
        return "no point is known to both sides"
    if there.size > disk.size:
        return "the other side's disk is larger: it was resized there"
    return None


def _states(point: HeldPoint) -> dict[DiskName, Digest]:
    return {state.disk: state.state for state in point.states}
