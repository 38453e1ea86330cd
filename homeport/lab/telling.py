"""How the demo is told: a heading a step, live progress, proofs, and the table at the end."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from datetime import timedelta

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table

from homeport.lab.proofs import Proof
from homeport.model.reports import JobReport, TaskReport
from homeport.units import show_size, show_span


@dataclass(kw_only=True)
class Step:
    """One step's figures; None where a step has none."""

    name: str
    seconds: float = 0.0
    rpo: float | None = None  # seconds
    rto: float | None = None
    moved: int | None = None  # bytes
    size: int | None = None
    way: str = ""
    why: str = ""  # the way's reason
    asr: str = ""


@dataclass(kw_only=True)
class Story:
    """Everything that was told; owner of the console."""

    console: Console
    as_json: bool = False
    steps: list[Step] = field(default_factory=list)
    proofs: list[Proof] = field(default_factory=list)

    def heading(self, text: str) -> None:
        """Begin a step."""
        if not self.as_json:
            self._print(f"\n[bold]{text}[/bold]")

    def say(self, text: str) -> None:
        """One line about what happens."""
        if not self.as_json:
            self._print(f"  {text}")

    def prove(self, proof: Proof) -> None:
        """A claim and whether it held."""
        self.proofs.append(proof)
        mark = "[green]proved[/green]" if proof.held else "[bold red]NOT SO[/bold red]"
        self.say(f"{mark}  {proof.claim}\n          [dim]{escape(proof.evidence)}[/dim]")

    def _print(self, text: str) -> None:
        """Markup is ours here, whatever the console was made with; figures stay as they are."""
        self.console.print(text, markup=True, highlight=False)

    @property
    def true(self) -> bool:
        """Whether every claim held."""
        return bool(self.proofs) and all(proof.held for proof in self.proofs)

    def watcher(self, title: str) -> JobWatcher:
        """Live progress of a job."""
        return JobWatcher(self, title)

    def end(self) -> None:
        """The table, and whether it all was so."""
        if self.as_json:
            text = {
                "proved": self.true,
                "steps": [asdict(step) for step in self.steps],
                "proofs": [asdict(proof) for proof in self.proofs],
            }
            self.console.print_json(json.dumps(text))
            return
        self.console.print()
        self.console.print(_table(self.steps))
        for step in self.steps:
            if step.why:
                self._print(f"[dim]{step.name}, {step.way}: {step.why}[/dim]")
        count = sum(proof.held for proof in self.proofs)
        if self.true:
            self._print(f"\n[bold green]All {count} claims were proved.[/bold green]")
        else:
            self._print(
                f"\n[bold red]{len(self.proofs) - count} of {len(self.proofs)} claims did not "
                "hold; see NOT SO above.[/bold red]"
            )


class JobWatcher:
    """Shows a job's tasks as they go: a bar where bytes are counted, else a line a task."""

    def __init__(self, story: Story, title: str) -> None:
        self._story, self._title = story, title
        quiet = story.as_json or not story.console.is_terminal
        self._bar = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            TextColumn("{task.percentage:>3.0f} %  {task.fields[rate]}"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=story.console,
            transient=True,
            disable=quiet,
        )
        self._row = self._bar.add_task(title, total=None, rate="")
        self._told: set[int] = set()

    def __enter__(self) -> JobWatcher:
        self._bar.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._bar.stop()

    def show(self, job: JobReport) -> None:
        """The job as it is now."""
        for task in job.tasks:
            if task.ended_at is not None and task.index not in self._told:
                self._told.add(task.index)
                self._tell(task)
            elif task.state == "In progress":
                self._live(task)

    def _live(self, task: TaskReport) -> None:
        progress = task.progress
        rate = f"{show_size(round(progress.rate))}/s" if progress and progress.rate else ""
        self._bar.update(
            self._row,
            description=f"{self._title}: {task.waits_for or task.name}"[:60],
            total=progress.total if progress and progress.total else None,
            completed=progress.done if progress else 0,
            rate=rate,
        )

    def _tell(self, task: TaskReport) -> None:
        if task.started_at is None or task.ended_at is None or task.state == "Skipped":
            return
        took = show_span(task.ended_at - task.started_at)
        self._story.say(f"[dim]{task.name:<52}{took:>10}[/dim]")


def _table(steps: Sequence[Step]) -> Table:
    table = Table(
        title="The journey, measured", title_justify="left", show_edge=False, box=SIMPLE_HEAD
    )
    for name in ("step", "time", "RPO", "RTO", "moved", "of disks", "by", "ASR's formula"):
        right = name in {"time", "RPO", "RTO", "moved", "of disks"}
        table.add_column(name, justify="right" if right else "left", no_wrap=True)
    for step in steps:
        table.add_row(
            step.name,
            _span(step.seconds),
            _span(step.rpo),
            _span(step.rto),
            "" if step.moved is None else show_size(step.moved),
            "" if step.size is None else show_size(step.size),
            step.way,
            step.asr,
        )
    return table


def _span(seconds: float | None) -> str:
    return "" if seconds is None else show_span(timedelta(seconds=seconds))
