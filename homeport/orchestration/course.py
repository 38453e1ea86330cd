"""
The course of a failover: what is done, settled from what was known when its job began. Pure.

An undo goes the same way back, so it plots the same course.
"""

from __future__ import annotations

from dataclasses import dataclass

from homeport.model.codec import from_plain
from homeport.model.item import ReplicatedItem, Seat, Side
from homeport.model.requests import FailoverRequest
from homeport.orchestration.ports import Json
from homeport.orchestration.program import Known


@dataclass(frozen=True, kw_only=True, slots=True)
class Course:
    """
    What is done, settled before anything changes.

    `again`: the owner has changed already, by an earlier failover of this item; `fenced` is what
    that one's fence found, None when it was not reached.
    """

    known: Known
    asked: FailoverRequest
    origin: Side  # that ran the machine before the failover
    again: bool
    fenced: dict[str, Json] | None
    booted: bool  # a machine of an earlier failover runs
    stopped_at: str | None  # when the owner first changed: nothing was written there after it

    @property
    def item(self) -> ReplicatedItem:
        """The item as it was when the job began."""
        return self.known.item

    @property
    def source(self) -> Seat:
        """The side that is left."""
        return self.item.seat(self.origin)

    @property
    def target(self) -> Seat:
        """The side that takes over."""
        return self.item.seat(self.origin.other)


def plot(known: Known, request: dict[str, Json]) -> Course:
    """The course of a request: a pure function of what was known when the job began."""
    before = known.row.facts.get("failover")
    origin = Side(before["from"]) if before else known.item.active
    return Course(
        known=known,
        asked=from_plain(FailoverRequest, request),
        origin=origin,
        again=before is not None,
        fenced=before.get("fence") if before else None,
        booted=bool(before and before.get("booted")),
        stopped_at=before.get("at") if before else None,
    )
