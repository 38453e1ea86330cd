"""
Undo a failover: the old machine goes on, and what the new one wrote is set aside.

Both hosts must answer before anything is changed: an undo that could not start the old machine, or
not stop the new one, would leave none or two.
"""

from __future__ import annotations

from dataclasses import replace

from homeport.model.codec import from_plain, to_plain
from homeport.model.item import ReplicatedItem, Role
from homeport.model.operations import (
    AskFacts,
    Demote,
    Nothing,
    Problem,
    ReplicaFacts,
    SideFacts,
    Unfence,
)
from homeport.model.protection import Event, State
from homeport.orchestration.course import Course, plot
from homeport.orchestration.ports import JobRun, JobStoppedError, Json, Vault
from homeport.orchestration.program import (
    advance_item,
    assign_roles,
    check_cancel,
    need,
    raised_item,
    read_item,
)

TASKS = (
    "Prerequisite check",
    "Removing the failed-over machine",
    "Start the original machine",
    "Resuming replication",
)
CHECK, REMOVE, START, RESUME = range(4)
PATIENCE = 120.0
"""Seconds for a host that answered a moment ago."""


def undo(run: JobRun) -> dict[str, Json]:
    """The program of `JobKind.UNDO`."""
    course = plot(read_item(run), {})
    try:
        _check(run, course)
    except JobStoppedError as stopped:
        event = Event.KEPT if course.booted else Event.BROKEN
        _end(run, course, event, stopped.error)
        raise
    try:
        return _go_back(run, course)
    except JobStoppedError as stopped:
        _end(run, course, Event.BROKEN, stopped.error)
        raise


def _check(run: JobRun, course: Course) -> None:
    """Ask both sides what they hold: this changes nothing, and shows that they answer."""
    run.task(CHECK)
    order = AskFacts(item=course.item.id)
    for seat in (course.source, course.target):
        need(run, f"facts of {seat.host}", seat.host, order, SideFacts)
    check_cancel(run)


def _go_back(run: JobRun, course: Course) -> dict[str, Json]:
    run.task(REMOVE)
    item = _give_back(run, course)
    demote = Demote(item=item.id, epoch=item.epoch)
    host = course.target.host
    gone = need(run, "demote", host, demote, ReplicaFacts, patience=PATIENCE, shielded=True)
    run.task(START)
    unfence = Unfence(item=item.id, epoch=item.epoch, start=True)
    host = course.source.host
    need(run, "unfence", host, unfence, Nothing, patience=PATIENCE, shielded=True)
    run.task(RESUME)
    run.step("replication goes on", lambda vault: _resume(vault, course, item))
    return {
        "site": course.source.site,
        "host": course.source.host,
        "machine": course.source.machine,
        **to_plain(ReplicaFacts, gone),
    }


def _give_back(run: JobRun, course: Course) -> ReplicatedItem:
    """The old side owns the machine again; until the new one is gone, neither may start it."""

    def act(vault: Vault) -> Json:
        item = raised_item(vault, replace(course.item, active=course.origin), run)
        roles = {course.source.host: (Role.FENCED, False), course.target.host: (Role.TARGET, False)}
        assign_roles(vault, item.id, roles)
        before = vault.item(item.id).facts["failover"]
        vault.put_facts(item.id, {"failover": {**before, "booted": False}})
        return to_plain(ReplicatedItem, item)

    return from_plain(ReplicatedItem, run.step("give the machine back", act))


def _resume(vault: Vault, course: Course, item: ReplicatedItem) -> Json:
    advance_item(vault, item.id, Event.UNDONE, seen=State.UNDOING)
    roles = {course.source.host: (Role.SOURCE, True), course.target.host: (Role.TARGET, True)}
    assign_roles(vault, item.id, roles)
    vault.put_facts(item.id, {"failover": None, "receipt": None, "problem": None})
    return {}


def _end(run: JobRun, course: Course, event: Event, problem: Problem) -> None:
    """After a check that failed the new machine runs on; after more, neither is sure to."""

    def act(vault: Vault) -> Json:
        vault.move(course.item.id, event, seen=State.UNDOING)
        if event is Event.BROKEN:
            vault.put_facts(course.item.id, {"problem": problem})
        return {}

    run.step("the undo has stopped", act)
