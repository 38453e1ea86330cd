"""Jobs: in a list, task by task while they run, and as plain lines where nothing can be redrawn."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from rich.console import Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from homeport.interfaces.cli.render.style import BAD, GOOD, QUIET, WARN, problem, state, table
from homeport.interfaces.words import DASH, age, progress_words, took
from homeport.model.reports import JobReport, TaskReport
from homeport.units import show_span

MARKS = {
    "Not started": ("·", QUIET),
    "In progress": ("▶", "bold cyan"),
    "Succeeded": ("✓", GOOD),
    "Failed": ("✗", BAD),
    "Cancelled": ("■", WARN),
    "Skipped": ("-", QUIET),
}
SKIPPED = "Skipped"
CALM = {"Reprotect", "Disable replication"}
"""Kinds whose notes say what is usual."""
BAR = 24
WAITS = "waits its turn"
"""The word for an item whose job has not been asked for yet."""
STEP = 10
"""Percent between two plain lines of the same task."""


def jobs(reports: Sequence[JobReport], now: datetime) -> RenderableType:
    """Jobs, newest first."""
    if not reports:
        return Text("No jobs.")
    heads = ("JOB", "KIND", "ITEM", "STATE", "AGE", "TOOK", "NOW AT")
    made = table(*heads, right=("AGE",), whole=("JOB", "STATE", "AGE", "TOOK"))
    for job in reports:
        began = age(job.started_at or job.created_at, now)
        made.add_row(
            job.id[:8],
            job.kind,
            job.item_name,
            state(job.state),
            began,
            _took(job, now),
            _now_at(job),
        )
    return made


def _now_at(job: JobReport) -> str:
    if job.error:
        return job.error.get("code", DASH)
    current = current_task(job)
    return current.name if current and not job.ended else DASH


def current_task(job: JobReport) -> TaskReport | None:
    """The task in progress, if any."""
    return next((task for task in job.tasks if task.state == "In progress"), None)


def _took(job: JobReport | TaskReport, now: datetime) -> str:
    return took(job.started_at, job.ended_at, now)


def job(report: JobReport, now: datetime, *, error: bool = True) -> RenderableType:
    """A job task by task, with what it waits for; its error too, unless that is told elsewhere."""
    head = Text.assemble(
        (f"{report.kind} of {report.item_name}", "bold"),
        "  ",
        state(report.state),
        f"  {_took(report, now)}",
    )
    if report.attempt > 1:
        head.append(f"  attempt {report.attempt}", style=QUIET)
    if report.cancel_asked and not report.ended:
        head.append("  stopping at the next safe place", style=WARN)
    notes = (Text(note, style="" if report.kind in CALM else WARN) for note in report.notes)
    parts: list[RenderableType] = [head, *notes, *(_task(task, now) for task in report.tasks)]
    if report.error and error:
        parts += [Text(""), problem(report.error, title=report.state)]
    foot = [f"job {report.id}", *([report.safety] if report.safety else [])]
    return Group(*parts, *(Text(line, style=QUIET) for line in foot))


def _task(task: TaskReport, now: datetime) -> RenderableType:
    mark, style = MARKS.get(task.state, ("?", ""))
    skipped = task.state == SKIPPED
    began = f"{task.started_at:%H:%M:%S}  " if task.started_at else ""
    word = _skipped(task) if skipped else began + _took(task, now) if task.started_at else ""
    grid = Table.grid(padding=(0, 1, 0, 0))
    grid.add_column(width=2)
    grid.add_column(width=47, overflow="fold")
    grid.add_column(overflow="fold")
    name = Text(task.name, style=QUIET if skipped else "")
    grid.add_row(Text(f" {mark}", style=style), name, Text(word, style=QUIET))
    lines: list[RenderableType] = [grid]
    if task.state == "In progress":
        lines += _under(task)
    return Group(*lines)


def _skipped(task: TaskReport) -> str:
    """A skipped task keeps its reason where others have what they wait for."""
    return f"skipped: {task.waits_for}" if task.waits_for else "skipped"


def _under(task: TaskReport) -> list[RenderableType]:
    """What is told of a task in progress: how far it is, and what it waits for."""
    lines: list[RenderableType] = []
    if task.progress:
        row = Table.grid(padding=(0, 1, 0, 0))
        bar = task.progress.percent
        cells: list[RenderableType] = ["  ", Text(progress_words(task.progress), style="cyan")]
        if bar is not None:
            cells.insert(1, ProgressBar(total=100, completed=bar, width=BAR))
        row.add_row(*cells)
        lines.append(row)
    if task.waits_for:
        lines.append(Text(f"   waits: {task.waits_for}", style=WARN))
    return lines


def board(rows: Sequence[tuple[str, JobReport | None, str]], now: datetime) -> RenderableType:
    """Several items' jobs at once: item, job, and a word for an item that has none."""
    made = table("ITEM", "STATE", "TOOK", "NOW AT")
    for name, report, word in rows:
        if report is None:
            made.add_row(name, Text(word, style=QUIET if word == WAITS else BAD), DASH, "")
            continue
        current = current_task(report)
        at = current.name if current else ""
        if current and current.progress:
            at += f"  {progress_words(current.progress)}"
        made.add_row(name, state(report.state), _took(report, now), at or _end(report))
    return made


def _end(report: JobReport) -> str:
    return report.error.get("message", "") if report.error else ""


def news(before: JobReport | None, after: JobReport) -> list[str]:
    """Plain lines for what is new in `after`: tasks that moved on, progress by tens, waits."""
    known = {task.index: task for task in before.tasks} if before else {}
    lines = []
    if before is None:
        lines.append(f"{after.kind} of {after.item_name}: job {after.id}")
    for task in after.tasks:
        lines += _news_of(known.get(task.index), task)
    return lines


def _news_of(before: TaskReport | None, after: TaskReport) -> list[str]:
    old_state = before.state if before else "Not started"
    lines = []
    if after.state not in ("In progress", old_state):
        return [f"  {after.name}: {_ending(after)}"]
    if after.state == "In progress" and old_state != "In progress":
        lines.append(f"  {after.name}: in progress")
    if after.progress and _tens(after) > (_tens(before) if before else -1):
        lines.append(f"  {after.name}: {progress_words(after.progress)}")
    if after.waits_for and after.waits_for != (before.waits_for if before else ""):
        lines.append(f"  {after.name}: waits: {after.waits_for}")
    return lines


def _ending(task: TaskReport) -> str:
    if task.state == SKIPPED:
        return _skipped(task)
    took = task.ended_at - task.started_at if task.ended_at and task.started_at else None
    return task.state.lower() + (f" ({show_span(took)})" if took is not None else "")


def _tens(task: TaskReport) -> int:
    percent = task.progress.percent if task.progress else None
    return -1 if percent is None else int(percent) // STEP
