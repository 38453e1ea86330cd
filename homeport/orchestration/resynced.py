"""
The second half of a reprotect: following the resync by what both agents report, to its first point.

The resync itself is the agents' work, by their assignments, and goes on while no server runs; this
shows it as the job's tasks and knows when the item is protected again.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from homeport.model.codec import to_plain
from homeport.model.estimate import AsrEstimate, Estimate
from homeport.model.item import ReplicatedItem
from homeport.model.messages import ItemReport
from homeport.model.position import Position
from homeport.model.protection import Event, State
from homeport.model.review import Review
from homeport.orchestration.ports import JobRun, Json, Vault
from homeport.orchestration.program import (
    advance_item,
    fresh_report,
    stuck,
    waiting_on,
    watch,
)

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


ViewsOf = Callable[[Vault], Views]


def follow(
    run: JobRun, item: ReplicatedItem, review: Review, first: Position | None
) -> dict[str, Json]:
    """Follow to the first listed point, at least `first`; the result is what the resync came to."""

    def views(vault: Vault) -> Views:
        return _views(vault, item, first)

    run.task(RESYNC)
    watch(run, "the resync is shipped", lambda vault: _shipped(vault, run, item, views(vault)))
    _temporary(run, item, views_of=views)
    run.task(DELTA)
    watch(run, "delta replication is on", lambda vault: _delta(vault, run, item, views(vault)))
    run.task(FIRST_POINT)
    point = watch(run, "the first point", lambda vault: _listed(vault, run, item, views(vault)))
    return {
        **_summary(review),
        **run.step("resynced", lambda vault: _done(vault, run, item, review, point)),
    }


def _views(vault: Vault, item: ReplicatedItem, first: Position | None) -> Views:
    source = fresh_report(vault, item.id, item.running.host, item.epoch)
    target = fresh_report(vault, item.id, item.standby.host, item.epoch)
    listed = (point.position for point in target.points) if target else ()
    floor = first or Position(item.epoch, 0)
    return Views(source=source, target=target, new=tuple(sorted(p for p in listed if p >= floor)))


def _progress(vault: Vault, run: JobRun, task: int, report: ItemReport | None, waits: str) -> None:
    progress = report.progress if report else None
    vault.put_progress(run.job.id, task, progress, waits_for=waits)


def _shipped(vault: Vault, run: JobRun, item: ReplicatedItem, views: Views) -> Json | None:
    if problem := stuck(views.source, views.target):
        return {"error": problem}
    if views.shipped:
        return {"temporary": views.temporary}
    waits = waiting_on(vault, item.running, item.standby)
    _progress(vault, run, RESYNC, views.source, waits)
    return None


def _temporary(run: JobRun, item: ReplicatedItem, views_of: ViewsOf) -> None:
    """Temporary replicas end with the resync; a crash may leave one for the agent to find."""
    there = run.step("temporary replicas", lambda vault: views_of(vault).temporary)
    if not there:
        run.skip(TEMPORARY, "none is left")
        return
    run.task(TEMPORARY, waits_for=", ".join(there))

    def look(vault: Vault) -> Json | None:
        left = views_of(vault).temporary
        if not left:
            return {}
        waits = waiting_on(vault, item.running) or ", ".join(left)
        vault.put_progress(run.job.id, TEMPORARY, None, waits_for=waits)
        return None

    watch(run, "temporary replicas are gone", look)


def _delta(vault: Vault, run: JobRun, item: ReplicatedItem, views: Views) -> Json | None:
    if problem := stuck(views.source, views.target):
        return {"error": problem}
    if views.new or (views.source and views.source.phase == "replicating"):
        return {}
    _progress(vault, run, DELTA, views.source, waiting_on(vault, item.running))
    return None


def _listed(vault: Vault, run: JobRun, item: ReplicatedItem, views: Views) -> Json | None:
    if problem := stuck(views.source, views.target):
        return {"error": problem}
    if views.new:
        return str(views.new[0])
    waits = waiting_on(vault, item.standby) or f"{item.standby.site} lands the resync"
    _progress(vault, run, FIRST_POINT, views.target, waits)
    return None


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


def _done(vault: Vault, run: JobRun, item: ReplicatedItem, review: Review, point: str) -> Json:
    """The item is protected the other way; what the resync came to is kept as its fact."""
    advance_item(vault, item.id, Event.RESYNCED, seen=State.RESYNCING)
    source = fresh_report(vault, item.id, item.running.host, item.epoch)
    now = vault.now()
    began = run.job.started_at or run.job.created_at
    came_to = {
        "point": point,
        "bytes_moved": source.bytes_moved if source else None,
        "took": (now - began).total_seconds(),
        "ended_at": now.isoformat(),
    }
    vault.put_facts(item.id, {"resync": {**_summary(review), **came_to}, "problem": None})
    return came_to
