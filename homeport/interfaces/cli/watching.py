"""
Following a job that was started: live on a terminal, line by line elsewhere, never in its way.

Ctrl-C stops the watching and not the job, and says so. A server that goes away for a while is
waited for: jobs outlive it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import typer
from rich.live import Live
from rich.text import Text

from homeport.client import JobNotDoneError
from homeport.errors import NotFoundError, TransientError
from homeport.interfaces import told
from homeport.interfaces.cli.failure import ExitCode
from homeport.interfaces.cli.frame import Session
from homeport.interfaces.cli.render import items as items_render
from homeport.interfaces.cli.render import jobs as render
from homeport.interfaces.cli.render import resources as resources_render
from homeport.interfaces.cli.render.style import WARN, unprotected
from homeport.model.reports import ItemView, JobReport

EVERY = 0.5
"""Seconds between two looks: an agent reports as often."""
PATIENCE = 120.0
"""Seconds a server may be silent: longer than a restart or a take-over by another takes."""
REPROTECT = "Reprotect"
RECEIPTS = ("Failover", "Planned failover")


def started(session: Session, job: JobReport, *, wait: bool) -> None:
    """
    What every command does with the job it has started: watch it to its end, or give its id.

    Raises:
        JobNotDoneError: it was watched, and has failed or was cancelled.
    """
    if wait:
        finish(session, job)
    elif session.screen.as_json:
        session.screen.data({"job": job.id})
    else:
        session.screen.say(job.id)


def finish(session: Session, job: JobReport) -> JobReport:
    """Watch a job to its end and tell how things stand then. Raises as `started` does."""
    with detaching(session, lambda: [job.id]):
        last = watch(session, job)
    if session.screen.as_json:
        session.screen.show(JobReport, last, "")
    if not last.succeeded:
        raise JobNotDoneError(last)
    if not session.screen.as_json:
        _tell_outcome(session, last)
    return last


@contextmanager
def detaching(session: Session, jobs: Callable[[], Sequence[str]]) -> Iterator[None]:
    """While inside, Ctrl-C ends the command, says that `jobs` go on, and how to look again."""
    try:
        yield
    except KeyboardInterrupt:
        session.screen.err.print(
            Text("\nStopped watching. The job goes on; nothing was cancelled.", style=WARN)
        )
        for job in jobs():
            session.screen.err.print(f"  watch it again: homeport jobs watch {job}")
            session.screen.err.print(f"  stop it:        homeport jobs cancel {job}")
        raise typer.Exit(ExitCode.INTERRUPTED) from None


def watch(session: Session, job: JobReport) -> JobReport:
    """Follow a job to its end, drawn live or told in lines; silent where the answer is JSON."""
    if session.screen.live:
        return _watch_live(session, job)
    last: JobReport | None = None
    for report in follow(session, job.id):
        if not session.screen.as_json:
            for line in render.news(last, report):
                session.screen.out.print(line, soft_wrap=True)
        last = report
    return last or job


def _watch_live(session: Session, job: JobReport) -> JobReport:
    screen = session.screen
    with Live(console=screen.out, auto_refresh=False) as live:
        for report in follow(session, job.id):
            job = report
            # Its error ends the command, and is printed then as every other.
            live.update(render.job(report, session.now(), error=False), refresh=True)
    return job


def follow(session: Session, job: str) -> Iterator[JobReport]:
    """Reports until the job has ended; a silent server is asked again for as long as PATIENCE."""
    silent = 0.0
    while True:
        report = look(session, job, silent)
        if report is not None:
            silent = 0.0
            yield report
            if report.ended:
                return
        else:
            silent += EVERY
        session.pause(EVERY)


def look(session: Session, job: str, silent: float) -> JobReport | None:
    """One look at a job; None while the server is silent, an error once that has lasted."""
    try:
        return session.client.job(job)
    except TransientError:
        if silent >= PATIENCE:
            raise
        if silent == 0.0:
            words = "The server does not answer; jobs go on without it. Waiting for it."
            session.screen.err.print(Text(words, style=WARN))
        return None


def _tell_outcome(session: Session, job: JobReport) -> None:
    """Where the item stands after a job: loudly if it is unprotected, with what was lost."""
    view, screen = _item_of(session, job), session.screen
    if view is None:
        screen.say(f"{job.kind} of {job.item_name}: done.")
        return
    if job.kind in RECEIPTS and view.receipt:
        screen.say(Text(""))
        screen.say(items_render.receipt(view.receipt))
    if job.kind == REPROTECT and view.resyncs:
        screen.say(Text(""))
        screen.say(resources_render.resyncs(view.resyncs[-1:]))
    screen.say(Text(""))
    if told.is_alarming(view):
        screen.say(unprotected(view.name, view.unprotected_reason))
    else:
        screen.say(items_render.items([view], session.now()))


def _item_of(session: Session, job: JobReport) -> ItemView | None:
    """The job's item as it is now; None once it is disabled, or where nobody answers."""
    if job.item is None:
        return None
    try:
        return session.client.item(job.item)
    except (NotFoundError, TransientError):
        return None
