"""
Failover, planned and unplanned, and between failover and commit: change of the recovery point.

Until `change the owner` nothing is lost by stopping: the item goes back to what it was. That step
raises the epoch, and from there on the old side may write nowhere; what fails after it leaves the
item as *Failover failed*, from where it can be failed over again or undone. The source site is
never needed, unless the failover is planned.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime

from homeport.errors import RefusedError
from homeport.model.codec import from_plain, to_plain
from homeport.model.ids import HostName, ItemId
from homeport.model.item import ReplicatedItem, Role
from homeport.model.machine import PowerState
from homeport.model.messages import OperationState, PointReport
from homeport.model.operations import (
    At,
    Fence,
    FenceFacts,
    FinalCapture,
    LandAll,
    Problem,
    Promote,
    PromoteFacts,
    Unfence,
)
from homeport.model.position import Position
from homeport.model.protection import Event, State
from homeport.model.rehearsal import rehearsed
from homeport.model.reports import LossReceipt
from homeport.orchestration.course import Course, plot
from homeport.orchestration.networks import towards
from homeport.orchestration.points import Choice, NoSuchPointError, choose, parse_choice
from homeport.orchestration.ports import JobRun, JobStoppedError, Json, Vault
from homeport.orchestration.program import (
    advance_item,
    ask,
    assign_roles,
    check_cancel,
    need,
    problem_of,
    raised_item,
    read_item,
    stop,
    unreachable,
)
from homeport.orchestration.receipt import Boot, Loss, downtime_of, write_receipt

TASKS = (
    "Prerequisite check",
    "Shut down virtual machine",
    "Synchronizing the latest changes",
    "Fencing the source",
    "Start the virtual machine",
    "Writing the loss receipt",
)
CHECK, SHUT_DOWN, SYNCHRONIZE, FENCE, START, RECEIPT = range(6)

FENCE_PATIENCE = 3.0
"""Seconds for a source that may be dead: one poll and a bit; an outage must not wait longer."""
LISTED_PATIENCE = 10.0
"""Seconds for the target's report to name the point it has just booted."""
LAND_PATIENCE = 60.0


def failover(run: JobRun) -> dict[str, Json]:
    """The program of `JobKind.FAILOVER` and `JobKind.PLANNED_FAILOVER`."""
    course = plot(read_item(run), run.job.request)
    try:
        run.task(CHECK)
        _check(run, course)
        point, stopping_at = _point(run, course)
        check_cancel(run)
    except JobStoppedError as stopped:
        _turn_back(run, course, stopped.error)
        raise
    try:
        item = _change_owner(run, course)
        return _take_over(run, course, item, point, stopping_at=stopping_at)
    except JobStoppedError as stopped:
        raise _broken(run, course.item.id, stopped.error) from stopped


def _check(run: JobRun, course: Course) -> None:
    """Refuse what cannot end well, before anything has changed."""
    asked, source, target = course.asked, course.source, course.target

    def act(vault: Vault) -> Json:
        there = vault.host_alive(source.host)
        return {"source": there, "target": vault.host_alive(target.host)}

    alive = run.step("who answers", act)
    if not alive["target"]:
        raise JobStoppedError(unreachable(target.host, f"{target.site} cannot take over."))
    if alive["source"] or course.again:
        return
    if asked.planned:
        raise JobStoppedError(unreachable(source.host, "A planned failover needs the source."))
    if not asked.confirm_source_down:
        raise stop(
            "SourceNotConfirmedDown",
            f"{source.host} in {source.site} does not answer, so it cannot be fenced.",
            cause="If the machine still ran there, two of it would run.",
            remedy="Make sure that it does not run, and confirm that the source is down.",
        )


def _point(run: JobRun, course: Course) -> tuple[Position, str | None]:
    """The point to boot, landed; and when the machine began to be shut down, if it was."""
    choice = parse_choice(course.asked.point)
    if course.asked.planned and not course.again:
        run.task(SHUT_DOWN)
        began = run.step("the machine is shut down", lambda vault: vault.now().isoformat())
        return _last_writes(run, course), began
    run.skip(SHUT_DOWN, "not planned: the source is not asked to shut down")
    if choice is Choice.LATEST and not course.again:
        run.task(SYNCHRONIZE)
        landed = _land(run, course, until=None)
        if landed is None:
            error = NoSuchPointError(course.item.name, str(choice), cause="Nothing has landed yet.")
            raise JobStoppedError(error.as_dict())
        return landed, None
    run.skip(SYNCHRONIZE, "the point is among those that have landed")
    listed = run.step("choose the point", lambda vault: _chosen(vault, course, choice))
    return Position.parse(listed), None


def _chosen(vault: Vault, course: Course, choice: Choice | Position) -> Json:
    points = listed_points(vault, course.item, course.target.host)
    return str(choose(points, choice, item=course.item.name).position)


def listed_points(vault: Vault, item: ReplicatedItem, host: HostName) -> tuple[PointReport, ...]:
    """The points a host has listed for the item."""
    report = vault.report_of(item.id, host)
    return report.points if report else ()


def _land(run: JobRun, course: Course, *, until: Position | None) -> Position | None:
    order = LandAll(item=course.item.id, epoch=course.item.epoch, until=until)
    name = "land everything"
    return need(run, name, course.target.host, order, At, patience=LAND_PATIENCE).position


def _last_writes(run: JobRun, course: Course) -> Position:
    """Shut the machine down, ship and land its last writes; if that fails, start it again."""
    order = FinalCapture(
        item=course.item.id, epoch=course.item.epoch, timeout=course.asked.guest_timeout
    )
    try:
        last = need(run, "final capture", course.source.host, order, At).position
        run.task(SYNCHRONIZE)
        landed = _land(run, course, until=last)
        if last is None or landed is None or landed < last:
            raise stop(
                "LastPointNotLanded",
                f"The last point {last} has not landed; {course.target.site} stands at {landed}.",
                cause="A planned failover loses nothing, so it does not go on without it.",
                remedy="Look at the target's problem, then ask again.",
            )
        check_cancel(run)
    except JobStoppedError:
        _restart_source(run, course)
        raise
    return last


def _restart_source(run: JobRun, course: Course) -> None:
    """After a final point its epoch has ended: the source goes on under a new one."""

    def act(vault: Vault) -> Json:
        item = raised_item(vault, course.item, run)
        roles = {course.source.host: (Role.SOURCE, True), course.target.host: (Role.TARGET, True)}
        assign_roles(vault, item.id, roles)
        return item.epoch

    epoch = run.step("the source goes on", act)
    order = Unfence(item=course.item.id, epoch=epoch, start=True)
    ask(run, "start the source again", course.source.host, order, patience=60.0, shielded=True)


def _change_owner(run: JobRun, course: Course) -> ReplicatedItem:
    """The irreversible step: epoch, owner and both assignments in one transaction."""

    def act(vault: Vault) -> Json:
        changed = replace(course.item, active=course.origin.other)
        item = raised_item(vault, changed, run)
        roles = {
            course.source.host: (Role.FENCED, False),
            course.target.host: (Role.RUNNING, False),
        }
        assign_roles(vault, item.id, roles)
        report = vault.report_of(item.id, course.source.host)
        facts = {
            "from": course.origin.value,
            "epoch": item.epoch,
            "planned": course.asked.planned,
            "fence": course.fenced,
            "captured": str(report.captured) if report and report.captured else None,
            "booted": False,
            "at": course.stopped_at or vault.now().isoformat(),
        }
        vault.put_facts(item.id, {"failover": facts, "problem": None})
        return to_plain(ReplicatedItem, item)

    return from_plain(ReplicatedItem, run.step("change the owner", act))


def _take_over(
    run: JobRun,
    course: Course,
    item: ReplicatedItem,
    point: Position,
    *,
    stopping_at: str | None,
) -> dict[str, Json]:
    fence = _fence(run, course, item)
    run.task(START)
    boot = _boot(run, course, item, point)
    run.task(RECEIPT)
    _wait_until_listed(run, course, point)
    end = End(course=course, item=item, point=point, fence=fence, boot=boot, began=stopping_at)
    receipt = run.step("write the receipt", lambda vault: _booted(vault, end))
    rto = (boot.ran_at - run.job.created_at).total_seconds()
    return {
        "point": str(point),
        "site": course.target.site,
        "host": course.target.host,
        "machine": course.target.machine,
        "rto": max(0.0, rto),
        "downtime": receipt["downtime"],
        "rehearsed": rehearsed(course.item, course.known.row.facts).counts,
        **to_plain(PromoteFacts, boot.facts),
        "receipt": receipt,
    }


def _boot(run: JobRun, course: Course, item: ReplicatedItem, point: Position) -> Boot:
    waited = course.asked.guest_timeout
    order = Promote(
        item=item.id,
        epoch=item.epoch,
        position=point,
        machine=course.target.machine,
        networks=towards(course.known.row.facts, course.origin.other),
        guest_timeout=waited,
    )
    host, patience = course.target.host, LAND_PATIENCE
    facts = need(run, "boot the point", host, order, PromoteFacts, patience=patience, shielded=True)
    told = run.step("the machine runs", lambda vault: vault.now().isoformat())
    return Boot(facts=facts, told_at=datetime.fromisoformat(told), waited=waited)


def _fence(run: JobRun, course: Course, item: ReplicatedItem) -> dict[str, Json]:
    """
    Make sure that the old side cannot write, and record how that is known.

    A host that does not answer is fenced when it comes back, by its assignment.
    """
    if course.fenced is not None:
        run.skip(FENCE, "the source was fenced by the failover before")
        return course.fenced
    run.task(FENCE, waits_for=f"{course.source.host} is told to switch the machine off")
    host = course.source.host
    order = Fence(item=item.id, epoch=item.epoch)
    outcome = ask(run, "fence the source", host, order, patience=FENCE_PATIENCE, shielded=True)
    silent = outcome.state is OperationState.LOST
    if not outcome.done and not (silent and _may_go_on(course)):
        raise JobStoppedError(problem_of(outcome, host, FENCE_PATIENCE))
    fence = {"answered": outcome.done, "facts": outcome.result if outcome.done else None}

    def act(vault: Vault) -> Json:
        before = vault.item(item.id).facts["failover"]
        vault.put_facts(item.id, {"failover": {**before, "fence": fence}})
        return {}

    run.step("record the fence", act)
    return fence


def _may_go_on(course: Course) -> bool:
    """A planned failover has shut the machine down itself; else a person vouches for it."""
    return course.asked.planned or course.asked.confirm_source_down


def _wait_until_listed(run: JobRun, course: Course, point: Position) -> None:
    """The receipt names the point's time: it comes with the target's next report."""

    def look(vault: Vault) -> Json | None:
        points = listed_points(vault, course.item, course.target.host)
        return {} if any(listed.position == point for listed in points) else None

    run.wait("the point is listed", look, patience=LISTED_PATIENCE, shielded=True)


@dataclass(frozen=True, kw_only=True, slots=True)
class End:
    """How a failover came out; `began` is when a planned one began to shut the machine down."""

    course: Course
    item: ReplicatedItem
    point: Position
    fence: dict[str, Json]
    boot: Boot
    began: str | None

    def down_since(self, owner_changed_at: str) -> datetime | None:
        """When the old machine's service ended, if this failover ended it."""
        if self.began is not None:
            return datetime.fromisoformat(self.began)
        ran = (self.fence["facts"] or {}).get("was") == PowerState.RUNNING
        return datetime.fromisoformat(owner_changed_at) if ran and not self.course.again else None


def _booted(vault: Vault, end: End) -> Json:
    course, item = end.course, end.item
    before = vault.item(item.id).facts["failover"]
    advance_item(vault, item.id, Event.BOOTED, seen=State.FAILING_OVER)
    facts = end.fence["facts"]
    receipt = write_receipt(
        Loss(
            point=end.point,
            listed=listed_points(vault, item, course.target.host),
            captured=Position.parse(before["captured"]) if before["captured"] else None,
            fence=from_plain(FenceFacts, facts) if facts else None,
            planned=course.asked.planned,
            stopped_at=datetime.fromisoformat(before["at"]),
            now=vault.now(),
            downtime=downtime_of(
                end.boot, began_at=end.down_since(before["at"]), host=course.target.host
            ),
        )
    )
    plain = to_plain(LossReceipt, receipt)
    changed = {**before, "booted": True, "point": str(end.point)}
    vault.put_facts(item.id, {"failover": changed, "receipt": plain, "problem": None})
    return plain


def _turn_back(run: JobRun, course: Course, problem: Problem) -> None:
    """Nothing has changed: the item is again what it was before the request."""

    def act(vault: Vault) -> Json:
        event = Event.REVERTED
        if course.again:
            event = Event.KEPT if course.booted else Event.BROKEN
        vault.move(course.item.id, event, seen=State.FAILING_OVER)
        if event is Event.BROKEN:
            vault.put_facts(course.item.id, {"problem": problem})
        return {}

    run.step("nothing has changed", act)


def _broken(run: JobRun, item: ItemId, problem: Problem) -> JobStoppedError:
    """The owner has changed, and no machine runs: say what can be done."""
    error = RefusedError(
        problem.get("message", ""),
        code=problem.get("code", "FailoverFailed"),
        cause=problem.get("cause", ""),
        remedy=f"{problem.get('remedy', '')} The source may write nowhere any more. Fail over "
        "again, to another point if this one does not boot, or undo.".strip(),
    ).as_dict()

    def act(vault: Vault) -> Json:
        vault.move(item, Event.BROKEN, seen=State.FAILING_OVER)
        vault.put_facts(item, {"problem": error})
        return {}

    run.step("the failover is broken", act)
    return JobStoppedError(error)
