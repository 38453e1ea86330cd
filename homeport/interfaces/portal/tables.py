"""The tables of the portal: which columns there are, and what stands in each cell."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from homeport.interfaces import told
from homeport.interfaces.words import (
    DASH,
    Bit,
    Said,
    Tone,
    age,
    progress_words,
    said,
    short,
    size,
    state,
    took,
    when,
)
from homeport.model.reports import ItemView, JobReport, PointView, ResyncRecord, SeatReport
from homeport.model.unsent import UnsentView
from homeport.units import show_span

NBSP = "\N{NO-BREAK SPACE}"
SHOWN = 10
"""Rows that are open at once; the others are folded away below them."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """A row. `link` is what its first cell, the row's head, leads to."""

    cells: tuple[Said, ...]
    link: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Table:
    """A table; `figures` are the columns that hold numbers."""

    caption: str
    heads: tuple[str, ...]
    rows: tuple[Row, ...]
    figures: frozenset[str] = frozenset()

    @property
    def first(self) -> tuple[Row, ...]:
        """The rows that are open."""
        return self.rows[:SHOWN]

    @property
    def rest(self) -> tuple[Row, ...]:
        """The rows that are folded away."""
        return self.rows[SHOWN:]


def items(views: Iterable[ItemView], now: datetime) -> Table:
    """All items, what is wrong with each in its own row; all are open."""
    return Table(
        caption="Replicated items",
        heads=("Item", "Health", "State", "Direction", "RPO now", "Newest point", "What is wrong"),
        rows=tuple(_item(view, now) for view in views),
    )


def _item(view: ItemView, now: datetime) -> Row:
    newest = view.newest_point
    point = said(str(newest.position), ", ", _ago(newest.taken_at, now)) if newest else said(DASH)
    return Row(
        cells=(
            said(view.name),
            said(told.protection(view)),
            said(state(view.state)),
            said(view.direction.replace(" -> ", f"{NBSP}→{NBSP}")),
            _rpo(view),
            point,
            _wrong(view),
        ),
        link=f"/items/{view.name}",
    )


def _rpo(view: ItemView) -> Said:
    """What a loss would cost now, against what is allowed."""
    if view.current_rpo is None or view.state == told.DISABLED:
        return said(told.rpo(view))
    return said(told.rpo(view), f" of {told.rpo_target(view)}")


def _wrong(view: ItemView) -> Said:
    reason = view.unprotected_reason
    found = [Bit(f"{reason[:1].upper()}{reason[1:]}.")] if told.is_alarming(view) else []
    if view.problem:
        found.append(Bit(f"{view.problem.get('message', '')} ({view.problem.get('code', '')})"))
    if view.state != told.DISABLED:
        found += [_silent(seat) for seat in (view.running, view.standby) if not seat.alive]
    spaced = [bit for one in found for bit in (one, Bit(" "))]
    return tuple(spaced[:-1]) or said(Bit("nothing", Tone.QUIET))


def _silent(seat: SeatReport) -> Bit:
    return Bit(f"Host {seat.host} in {seat.site} does not answer.", Tone.BAD)


def points(views: Sequence[PointView], now: datetime) -> Table:
    """Recovery points, newest first."""
    return Table(
        caption="Recovery points, newest first",
        heads=("Point", "Taken", "Age", "Consistent", "Changed", "Depth", "Marks"),
        rows=tuple(_point(view, now) for view in reversed(views)),
        figures=frozenset({"Age", "Changed", "Depth"}),
    )


def _point(view: PointView, now: datetime) -> Row:
    words = (short(view.consistency), size(view.changed), str(view.depth), told.marks(view))
    return Row(
        cells=(
            said(str(view.position)),
            said(when(view.taken_at)),
            said(age(view.taken_at, now)),
            *(said(word) for word in words),
        )
    )


def unsent(images: Iterable[UnsentView], now: datetime) -> Table:
    """Images of writes set aside."""
    return Table(
        caption="Writes set aside",
        heads=("Disk", "Size", "Since point", "Host", "Set aside", "Expires", "File"),
        rows=tuple(_image(image, now) for image in images),
        figures=frozenset({"Size"}),
    )


def _image(image: UnsentView, now: datetime) -> Row:
    return Row(
        cells=(
            said(image.disk),
            said(size(image.size)),
            said(str(image.position)),
            said(image.host if image.alive else f"{image.host} (silent)"),
            said(when(image.set_aside_at)),
            said(Bit(told.unsent_end(image, now), at=image.expires_at)),
            said(image.path),
        )
    )


def jobs(reports: Iterable[JobReport], now: datetime) -> Table:
    """Jobs of an item, newest first."""
    return Table(
        caption="Jobs, newest first",
        heads=("Job", "Kind", "State", "Began", "Took", "Now at"),
        rows=tuple(_job(report, now) for report in reports),
        figures=frozenset({"Took"}),
    )


def _job(report: JobReport, now: datetime) -> Row:
    return Row(
        cells=(
            said(report.id[:8]),
            said(report.kind),
            said(state(report.state)),
            said(when(report.started_at or report.created_at)),
            said(took(report.started_at, report.ended_at, now)),
            _at(report),
        )
    )


def _at(report: JobReport) -> Said:
    """The task a job is at, with its progress and what it waits for; of one that failed, why."""
    if report.error:
        return said(f"{report.error.get('message', '')} ({report.error.get('code', '')})")
    current = next((task for task in report.tasks if task.state == "In progress"), None)
    if current is None or report.ended:
        return said(DASH)
    progress = f": {progress_words(current.progress)}" if current.progress else ""
    waits = (Bit(f"; waits: {current.waits_for}", Tone.WARN),) if current.waits_for else ()
    return (Bit(f"{current.name}{progress}"), *waits)


def resyncs(records: Sequence[ResyncRecord]) -> Table:
    """What resyncs were to be and what they came to, newest first."""
    return Table(
        caption="Resyncs, newest first",
        heads=("Ended", "Direction", "Way", "Moved", "Estimated", "Took", "Error"),
        rows=tuple(_record(one) for one in reversed(records)),
        figures=frozenset({"Moved", "Estimated", "Took", "Error"}),
    )


def _record(one: ResyncRecord) -> Row:
    estimated, actual = (
        show_span(timedelta(seconds=count)) for count in (one.estimated, one.actual)
    )
    words = (one.direction, one.way, size(one.moved), estimated, actual, f"{one.error:+.0%}")
    return Row(cells=(said(when(one.ended_at)), *(said(word) for word in words)))


def _ago(at: datetime, now: datetime) -> Bit:
    return Bit(f"{age(at, now)} ago", at=at)
