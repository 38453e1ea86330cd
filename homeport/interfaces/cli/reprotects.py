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

from homeport.errors import HomeportError, describe
from homeport.interfaces.cli import parsing
from homeport.interfaces.cli.failure import ExitCode, words_of
from homeport.interfaces.cli.frame import NoWaitOption, Session, command
from homeport.interfaces.cli.items import Item
from homeport.interfaces.cli.render import items as items_render
from homeport.interfaces.cli.render import jobs as jobs_render
from homeport.interfaces.cli.render import review as render
from homeport.interfaces.cli.watching import EVERY, detaching, look, started
from homeport.model.codec import to_plain
from homeport.model.planning import Way
from homeport.model.reports import JobReport
from homeport.model.requests import CacheRequest, ReprotectRequest
from homeport.model.review import Review

PANEL = "Reprotect"
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
    def failed(self) -> bool:
        """Some item did not get what was asked for."""
        return bool(self.refused) or any(
            job.ended and not job.succeeded for job in self.jobs.values()
        )

    def begin(self, limit: int | None) -> None:
        """Start jobs while there are items and fewer than `limit` are running."""
        while self.waiting and (limit is None or len(self.running) < limit):
            name = self.waiting.pop(0)
            try:
                self.jobs[name] = self.session.client.reprotect(name, self.asked)
            except HomeportError as error:
                self.refused[name] = error

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
    if batch.failed:
        raise typer.Exit(ExitCode.JOB_FAILED if batch.jobs else ExitCode.REFUSED)


def run(batch: Batch, parallel: int) -> None:
    """Run all of it, drawn live or told in lines; raises as `detaching` does."""
    session = batch.session
    batch.begin(parallel)
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
    while batch.running or batch.waiting:
        yield
        batch.session.pause(EVERY)
        silent = 0.0 if batch.refresh(silent) else silent + EVERY
        batch.begin(parallel)
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
