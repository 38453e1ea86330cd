"""
Reprotect: the review before it, and the job itself, for one item or for many.

Many items are many jobs, some at a time; one that is refused or fails does not stop the others.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Annotated, Any

import typer
from rich.live import Live
from rich.text import Text

from homeport.client import JobNotDoneError, UnreachableServerError
from homeport.errors import HomeportError, describe
from homeport.interfaces.cli import parsing
from homeport.interfaces.cli.failure import ExitCode, exit_code, words_of
from homeport.interfaces.cli.frame import NoWaitOption, Session, command
from homeport.interfaces.cli.items import Item
from homeport.interfaces.cli.render import items as items_render
from homeport.interfaces.cli.render import jobs as jobs_render
from homeport.interfaces.cli.render import resources as resources_render
from homeport.interfaces.cli.render import review as render
from homeport.interfaces.cli.watching import EVERY, PATIENCE, detaching, look, started
from homeport.model.codec import to_plain
from homeport.model.planning import Way
from homeport.model.reports import JobReport
from homeport.model.requests import CacheRequest, ReprotectRequest
from homeport.model.review import Review

PANEL = "Reprotect"
WORST_FIRST = (
    ExitCode.INTERNAL,
    ExitCode.JOB_FAILED,
    ExitCode.CANCELLED,
    ExitCode.INTEGRITY,
    ExitCode.REFUSED,
    ExitCode.NOT_FOUND,
    ExitCode.TRANSIENT,
)
"""Codes by how much is left to do: the worst item's is the command's."""
AT_ONCE = 4
"""Jobs at a time unless told: each reads and writes disks on both sides."""


class DearerWay(StrEnum):
    """Resyncs that can be asked for; the cheaper ones are found, or not possible."""

    DIFFERENTIAL = Way.DIFFERENTIAL.value
    FULL = Way.FULL.value


KeepMachine = Annotated[
    bool | None,
    typer.Option(
        "--keep-machine/--delete-machine",
        help="After a failback: keep the recovery site's machine.",
        show_default=False,
    ),
]
WayOption = Annotated[
    DearerWay | None, typer.Option("--way", help="Force a dearer resync than the cheapest.")
]
Networks = Annotated[
    list[str] | None,
    typer.Option(
        "--network", metavar="HERE=THERE", help="THERE may be none: unplugged. May be repeated."
    ),
]
Pool = Annotated[
    str | None, typer.Option("--pool", metavar="NAME", help="Pool for the replica disks.")
]
Cache = Annotated[
    str | None,
    typer.Option("--cache", metavar="URL", help="The running site's cache store."),
]
Host = Annotated[
    str | None, typer.Option("--host", metavar="HOST", help="Another host: a full copy there.")
]
Group = Annotated[
    str | None,
    typer.Option("--group", metavar="NAME", help="Resource group; fixed for the original machine."),
]
Apart = Annotated[
    str | None, typer.Option("--set", metavar="NAME", help="Availability set, or none.")
]
Capacity = Annotated[
    str | None, typer.Option("--capacity", metavar="NAME", help="Capacity reservation, or none.")
]


def register(app: typer.Typer) -> None:
    """Add the commands to the program."""
    command(app, "review", rich_help_panel=PANEL)(review)
    command(app, "reprotect", rich_help_panel=PANEL)(reprotect)


def review(
    session: Session,
    *,
    item: Item,
    keep_machine: KeepMachine = None,
    way: WayOption = None,
    network: Networks = None,
    pool: Pool = None,
    cache: Cache = None,
    host: Host = None,
    group: Group = None,
    availability_set: Apart = None,
    capacity: Capacity = None,
) -> None:
    """Show what a reprotect would keep, rename, make and delete, and how long it would take."""
    asked = _request(
        network,
        cache,
        keep_machine=keep_machine,
        way=way.value if way else None,
        pool=pool,
        host=host,
        resource_group=group,
        availability_set=parsing.or_none(availability_set),
        capacity_reservation=parsing.or_none(capacity),
    )
    made = session.client.review(item, asked)
    session.screen.show(Review, made, render.review(made))


def reprotect(
    session: Session,
    *,
    items: Annotated[list[str] | None, typer.Argument(metavar="ITEM", help="Names or ids.")] = None,
    every: Annotated[
        bool, typer.Option("--all", help="All items whose failover has been committed.")
    ] = False,
    parallel: Annotated[
        int,
        typer.Option("--parallel", metavar="N", min=1, help="Jobs at a time, of several items."),
    ] = AT_ONCE,
    keep_machine: KeepMachine = None,
    way: WayOption = None,
    network: Networks = None,
    pool: Pool = None,
    cache: Cache = None,
    host: Host = None,
    group: Group = None,
    availability_set: Apart = None,
    capacity: Capacity = None,
    no_wait: NoWaitOption = False,
) -> None:
    """Protect the machine the other way. With no options: reverse everything."""
    asked = _request(
        network,
        cache,
        keep_machine=keep_machine,
        way=way.value if way else None,
        pool=pool,
        host=host,
        resource_group=group,
        availability_set=parsing.or_none(availability_set),
        capacity_reservation=parsing.or_none(capacity),
    )
    if bool(items) == every:
        raise typer.BadParameter("name the items, or give --all")
    chosen = _all(session) if every else list(dict.fromkeys(items or ()))
    if len(chosen) == 1 and not every:
        started(session, session.client.reprotect(chosen[0], asked), wait=not no_wait)
    else:
        _reprotect_many(session, chosen, asked, parallel=parallel, wait=not no_wait)


def _request(network: Sequence[str] | None, cache: str | None, **named: Any) -> ReprotectRequest:
    return ReprotectRequest(
        networks=parsing.networks(network or ()),
        cache=CacheRequest(url=cache) if cache else None,
        **named,
    )


def _all(session: Session) -> list[str]:
    """Every item that can be reprotected now."""
    return [view.name for view in session.client.items() if "reprotect" in view.allowed]


@dataclass
class Batch:
    """
    Several items' jobs. Owned by the command that runs it; nothing here is shared.

    An item waits in `waiting`, then has a job or the error with which it was refused.
    """

    session: Session
    asked: ReprotectRequest
    waiting: list[str]
    order: list[str] = field(default_factory=list)
    jobs: dict[str, JobReport] = field(default_factory=dict)
    refused: dict[str, HomeportError] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.order = list(self.waiting)

    @property
    def running(self) -> list[str]:
        """Items whose job has not ended."""
        return [name for name, job in self.jobs.items() if not job.ended]

    @property
    def worst(self) -> ExitCode:
        """The code of the item that came off worst; OK when all have what was asked for."""
        ended = [JobNotDoneError(job) for job in self.jobs.values() if job.ended]
        failed = [exit_code(error) for error in ended if not error.job.succeeded]
        codes = {*failed, *map(exit_code, self.refused.values())}
        return next((code for code in WORST_FIRST if code in codes), ExitCode.OK)

    def begin(self, limit: int | None, silent: float = 0.0) -> bool:
        """Start jobs while fewer than `limit` are running; False while the server is silent."""
        while self.waiting and (limit is None or len(self.running) < limit):
            name = self.waiting[0]
            try:
                self.jobs[name] = self.session.client.reprotect(name, self.asked)
            except UnreachableServerError:
                if limit is None or silent >= PATIENCE:
                    raise
                return False
            except HomeportError as error:
                self.refused[name] = error
            del self.waiting[0]
        return True

    def refresh(self, silent: float) -> bool:
        """Look at all running jobs; False while the server is silent."""
        for name in self.running:
            report = look(self.session, self.jobs[name].id, silent)
            if report is None:
                return False
            self.jobs[name] = report
        return True

    def left_behind(self) -> Sequence[str]:
        """Ids of the jobs that go on without this command; what has no job yet is told."""
        if self.waiting:
            self.session.screen.err.print(f"Not started: {', '.join(self.waiting)}")
        return [self.jobs[name].id for name in self.running]

    def rows(self) -> list[tuple[str, JobReport | None, str]]:
        """What the board shows."""
        return [(name, self.jobs.get(name), self._word(name)) for name in self.order]

    def _word(self, name: str) -> str:
        error = self.refused.get(name)
        return f"not started: {error.message}" if error else jobs_render.WAITS

    def plain(self) -> list[dict[str, object]]:
        """One entry an item, for programs."""
        return [
            {
                "item": name,
                "job": to_plain(JobReport, self.jobs[name]) if name in self.jobs else None,
                "error": describe(self.refused[name]) if name in self.refused else None,
            }
            for name in self.order
        ]


def _reprotect_many(
    session: Session, items: list[str], asked: ReprotectRequest, *, parallel: int, wait: bool
) -> None:
    batch = Batch(session=session, asked=asked, waiting=items)
    if wait:
        run(batch, parallel)
    else:
        batch.begin(None)  # nobody is there to start the others later
    _tell(batch, wait=wait)
    if batch.worst is not ExitCode.OK:
        raise typer.Exit(batch.worst)


def run(batch: Batch, parallel: int) -> None:
    """Run all of it, drawn live or told in lines; raises as `detaching` does."""
    session = batch.session
    with detaching(session, batch.left_behind):
        if session.screen.live:
            with Live(console=session.screen.out, auto_refresh=False) as live:
                for _ in steps(batch, parallel):
                    live.update(jobs_render.board(batch.rows(), session.now()), refresh=True)
        else:
            _print_steps(batch, parallel)


def _print_steps(batch: Batch, parallel: int) -> None:
    told: dict[str, str] = {}
    for _ in steps(batch, parallel):
        for name, job in batch.jobs.items():
            if not batch.session.screen.as_json and told.get(name) != job.state:
                batch.session.screen.out.print(f"{name}: {job.state.lower()}  (job {job.id})")
                told[name] = job.state


def steps(batch: Batch, parallel: int) -> Iterator[None]:
    """One turn after each look, until no job runs and none waits."""
    silent = 0.0
    answers = batch.begin(parallel)
    while batch.running or batch.waiting:
        yield
        batch.session.pause(EVERY)
        silent = 0.0 if answers else silent + EVERY
        answers = batch.refresh(silent) and batch.begin(parallel, silent)
    yield


def _tell(batch: Batch, *, wait: bool) -> None:
    screen = batch.session.screen
    if screen.as_json:
        screen.data(batch.plain())
        return
    if not batch.order:
        screen.say("No item waits for a reprotect.")
        return
    for name, error in batch.refused.items():
        screen.err.print(f"{name}:")
        screen.err.print(words_of(error))
    if not wait:
        for name, job in batch.jobs.items():
            screen.say(f"{name}  {job.id}")
        return
    names = set(batch.order)
    views = [view for view in batch.session.client.items() if {view.name, view.id} & names]
    screen.say(items_render.items(views, batch.session.now()))
    took = [(view.name, view.resyncs[-1]) for view in views if view.resyncs]
    if took:
        screen.say(Text(""))
        screen.say(resources_render.batch(took))
