"""`homeport jobs`: what was asked for, how far it is, and how it ended."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.text import Text

from homeport.client import Client
from homeport.errors import NotFoundError, RefusedError
from homeport.interfaces.cli.frame import NoWaitOption, Session, command
from homeport.interfaces.cli.render import jobs as render
from homeport.interfaces.cli.watching import finish, started
from homeport.model.reports import JobReport

app = typer.Typer(help="Jobs: list, watch, cancel, restart.", no_args_is_help=True)

WHOLE_ID = 32
"""Figures of a whole job id; fewer are looked up."""
Job = Annotated[str, typer.Argument(metavar="JOB", help="The job's id, or its beginning.")]


@command(app, "list")
def list_jobs(
    session: Session,
    *,
    item: Annotated[
        str | None, typer.Option("--item", metavar="ITEM", help="Only of this item.")
    ] = None,
    state: Annotated[
        str | None,
        typer.Option(
            "--state", metavar="STATE", help="Only in this state: 'In progress', Failed..."
        ),
    ] = None,
) -> None:
    """List jobs, newest first."""
    found = session.client.jobs(item=item, state=state)
    session.screen.show(tuple[JobReport, ...], found, render.jobs(found, session.now()))


@command(app, "show")
def show(session: Session, *, job: Job) -> None:
    """Show a job task by task."""
    found = session.client.job(find(session.client, job))
    session.screen.show(JobReport, found, render.job(found, session.now()))


@command(app, "watch")
def watch(session: Session, *, job: Job) -> None:
    """Follow a job to its end; the exit code tells how it ended. Ctrl-C stops only the watching."""
    finish(session, session.client.job(find(session.client, job)))


@command(app, "cancel")
def cancel(session: Session, *, job: Job) -> None:
    """Ask a job to stop at its next safe place."""
    asked = session.client.cancel(find(session.client, job))
    words = "It stops at the next safe place." if not asked.ended else "It had ended already."
    session.screen.show(JobReport, asked, Text(f"{asked.kind} of {asked.item_name}: {words}"))


@command(app, "restart")
def restart(session: Session, *, job: Job, no_wait: NoWaitOption = False) -> None:
    """Ask once more for what a failed or cancelled job did not do."""
    begun = session.client.restart(find(session.client, job))
    started(session, begun, wait=not no_wait)


def find(client: Client, text: str) -> str:
    """
    The id of a job as it was typed.

    Raises:
        NotFoundError: none begins like that.
        RefusedError: several do.
    """
    if len(text) >= WHOLE_ID:
        return text
    found = [job.id for job in client.jobs() if job.id.startswith(text)]
    if not found:
        raise NotFoundError(
            f"No job's id begins with {text!r}.",
            code="UnknownJob",
            cause="It was mistyped, or the job is of another server.",
            remedy="Look at: homeport jobs list",
        )
    if len(found) > 1:
        raise RefusedError(
            f"{len(found)} jobs' ids begin with {text!r}.",
            code="AmbiguousJob",
            cause="The beginning is too short.",
            remedy=f"Give more of it, for example {found[0][: len(text) + 4]}.",
        )
    return found[0]
