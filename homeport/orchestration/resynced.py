"""
The second half of a reprotect: following the resync by what both agents report, to its first point.

The resync itself is the agents' work, by their assignments, and goes on while no server runs; this
shows it as the job's tasks and knows when the item is protected again.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from functools import partial

from homeport.model.codec import to_plain
from homeport.model.estimate import AsrEstimate, Estimate
from homeport.model.item import ReplicatedItem
from homeport.model.messages import ItemReport
from homeport.model.position import Position
from homeport.model.protection import Event, State
from homeport.model.reports import ResyncRecord
from homeport.model.review import Review
from homeport.orchestration.ports import JobRun, Json, Vault
from homeport.orchestration.program import (
    Stubborn,
    advance_item,
    fresh_report,
    show,
    waiting_on,
    watch,
)
from homeport.orchestration.rates import learned, remember_resync

RESYNC_TASKS = (
    "Resynchronisation",
    "Removing temporary replicas",
    "Delta replication",
    "First recovery point",
)
RESYNC, TEMPORARY, DELTA, FIRST_POINT = range(7, 11)
"""Their places among the reprotect's tasks."""
TEMPORARY_PREFIX = "ms-asr-"
AT_WORK = ("resyncing", "waiting", "running", "fenced", "seeding")
"""Phases of the source in which the resync has not been shipped."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Views:
    """What both hosts say in one look, and the points of the new direction that are listed."""

    source: ItemReport | None
    target: ItemReport | None
    new: tuple[Position, ...]

    @property
    def shipped(self) -> bool:
        """The resync has left the source, or has arrived."""
        return bool(self.new) or (self.source is not None and self.source.phase not in AT_WORK)

    @property
    def temporary(self) -> list[str]:
        """Temporary replicas that are still there."""
        entries = self.source.ledger if self.source else ()
        names = (entry.name.rsplit("/", 1)[-1] for entry in entries if entry.gone_at is None)
        return [name for name in names if name.startswith(TEMPORARY_PREFIX)]


@dataclass(frozen=True, kw_only=True, slots=True)
class Following:
    """What every look needs."""

    run: JobRun
    item: ReplicatedItem
    first: Position | None
    stubborn: Stubborn

    def views(self, vault: Vault) -> Views:
        """Both hosts' reports of this direction."""
        item = self.item
        source = fresh_report(vault, item.id, item.running.host, item.epoch)
        target = fresh_report(vault, item.id, item.standby.host, item.epoch)
        listed = (point.position for point in target.points) if target else ()
        floor = self.first or Position(item.epoch, 0)
        new = tuple(sorted(position for position in listed if position >= floor))
        return Views(source=source, target=target, new=new)

    def wait_on(self, vault: Vault, task: int, views: Views) -> Json | None:
        """Show what is being waited for; the answer that ends the wait, if a problem stays."""
        item, arriving = self.item, task == FIRST_POINT
        report = views.target if arriving else views.source
        waits = waiting_on(vault, item.running, item.standby)
        show(vault, self.run, task, report, waits_for=waits)
        return self.stubborn.ends(vault, views.source, views.target)


def follow(
    run: JobRun, item: ReplicatedItem, review: Review, first: Position | None
) -> dict[str, Json]:
    """Follow to the first listed point, at least `first`; the result is what the resync came to."""
    following = Following(run=run, item=item, first=first, stubborn=Stubborn())
    run.task(RESYNC)
    began = run.step("the resync begins", lambda vault: vault.now().isoformat())
    watch(run, "the resync is shipped", partial(_shipped, following=following))
    _temporary(run, following)
    run.task(DELTA)
    watch(run, "delta replication is on", partial(_delta, following=following))
    run.task(FIRST_POINT)
    point = watch(run, "the first point is listed", partial(_listed, following=following))
    end = End(review=review, point=point, began=datetime.fromisoformat(began))
    came_to = run.step("resynced", lambda vault: _done(vault, run, item, end))
    return {**_summary(review), **came_to}


def _shipped(vault: Vault, following: Following) -> Json | None:
    views = following.views(vault)
    return {} if views.shipped else following.wait_on(vault, RESYNC, views)


def _temporary(run: JobRun, following: Following) -> None:
    """Temporary replicas end with the resync; a crash may leave one for the agent to find."""
    there = run.step("temporary replicas", lambda vault: following.views(vault).temporary)
    if not there:
        run.skip(TEMPORARY, "none is left")
        return
    run.task(TEMPORARY, waits_for=", ".join(there))
    watch(run, "temporary replicas are gone", partial(_gone, following=following))


def _gone(vault: Vault, following: Following) -> Json | None:
    views = following.views(vault)
    return following.wait_on(vault, TEMPORARY, views) if views.temporary else {}


def _delta(vault: Vault, following: Following) -> Json | None:
    views = following.views(vault)
    if views.new or (views.source and views.source.phase == "replicating"):
        return {}
    return following.wait_on(vault, DELTA, views)


def _listed(vault: Vault, following: Following) -> Json | None:
    views = following.views(vault)
    return str(views.new[0]) if views.new else following.wait_on(vault, FIRST_POINT, views)


def _summary(review: Review) -> dict[str, Json]:
    return {
        "way": review.way.value,
        "reason": review.reason,
        "bytes_read": review.reads,
        "bytes_planned": review.sends,
        "direction": review.direction,
        "estimate": to_plain(Estimate, review.ours),
        "asr": to_plain(AsrEstimate, review.asr),
        "disks": {disk.disk: disk.way.value for disk in review.disks},
    }


@dataclass(frozen=True, kw_only=True, slots=True)
class End:
    """What a resync was to be, when it began, and the point it ended with."""

    review: Review
    point: str
    began: datetime


def _done(vault: Vault, run: JobRun, item: ReplicatedItem, end: End) -> Json:
    """The item is protected the other way; what the resync came to is kept as its fact."""
    advance_item(vault, item.id, Event.RESYNCED, seen=State.RESYNCING)
    record = _record(vault, run, item, end)
    facts, plan = vault.item(item.id).facts, end.review.plan
    came_to = {
        "point": end.point,
        "bytes_moved": record.moved,
        "took": record.actual,
        "preparing": record.preparing,
        "ended_at": record.ended_at.isoformat(),
    }
    kept = {
        "resync": {**_summary(end.review), **came_to},
        "resyncs": remember_resync(facts, record),
        "lessons": learned(facts, plan, record),
        "problem": None,
        "expected": None,
    }
    vault.put_facts(item.id, kept)
    return came_to


def _record(vault: Vault, run: JobRun, item: ReplicatedItem, end: End) -> ResyncRecord:
    source = fresh_report(vault, item.id, item.running.host, item.epoch)
    target = fresh_report(vault, item.id, item.standby.host, item.epoch)
    listed = {str(point.position): point.changed for point in target.points} if target else {}
    review, now, began_at = end.review, vault.now(), run.job.created_at
    total = review.ours.total
    return ResyncRecord(
        direction=review.direction,
        way=review.way.value,
        planned=review.sends,
        moved=source.bytes_moved if source else None,
        estimated=total.likely.total_seconds(),
        low=total.low.total_seconds(),
        high=total.high.total_seconds(),
        actual=(now - began_at).total_seconds(),
        ended_at=now,
        preparing=(end.began - began_at).total_seconds(),
        changed=listed.get(end.point),
    )
