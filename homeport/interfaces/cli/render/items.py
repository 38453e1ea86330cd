"""Replicated items, their points, what was set aside, and what a failover lost."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

from rich.console import Group, RenderableType
from rich.text import Text

from homeport.interfaces.cli.render.resources import resyncs
from homeport.interfaces.cli.render.style import (
    BAD,
    DASH,
    GOOD,
    LOUD,
    QUIET,
    WARN,
    age,
    arrow,
    facts,
    listed,
    moment,
    problem,
    seconds,
    section,
    short,
    size,
    spaced,
    state,
    table,
    unprotected,
)
from homeport.model.messages import Progress, UnsentReport
from homeport.model.reports import ItemView, LedgerLine, LossReceipt, PointView, SeatReport
from homeport.units import show_size, show_span

DISABLED = "Disabled"


def items(views: Sequence[ItemView], now: datetime) -> RenderableType:
    """All items, one a line; below, whatever somebody has to look at."""
    if not views:
        return Text(
            "Nothing is replicated yet. Protect a machine: homeport protect SITE/VM --to SITE"
        )
    heads = ("ITEM", "PROTECTION", "STATE", "DIRECTION", "RPO", "POINT", "AGE")
    made = table(*heads, whole=("PROTECTION", "DIRECTION", "RPO", "POINT", "AGE"))
    for view in views:
        newest = view.newest_point
        made.add_row(
            view.name,
            _protection(view),
            state(view.state),
            arrow(view.direction),
            _rpo(view),
            str(newest.position) if newest else DASH,
            age(newest.taken_at, now) if newest else DASH,
        )
    alarms = [line for view in views for line in _alarms(view)]
    return spaced(made, Group(*alarms) if alarms else None)


def _protection(view: ItemView) -> Text:
    if view.state == DISABLED:
        return Text("ended", style=QUIET)
    if view.unprotected:
        return Text("UNPROTECTED", style=LOUD)
    return Text("protected", style=GOOD) if view.rpo_met else Text("late", style=BAD)


def _rpo(view: ItemView) -> Text:
    if view.current_rpo is None or view.state == DISABLED:
        return Text(DASH)
    return Text(seconds(view.current_rpo), style=GOOD if view.rpo_met else BAD)


def _rpo_now(view: ItemView) -> Text:
    if view.current_rpo is None:
        return Text("none while nothing is replicated", style=BAD)
    return Text.assemble(_rpo(view), " now")


def _alarms(view: ItemView) -> list[RenderableType]:
    lines: list[RenderableType] = []
    if view.unprotected and view.state != DISABLED:
        lines.append(unprotected(view.name, view.unprotected_reason))
    if view.problem:
        lines.append(problem(view.problem, title=f"Problem of {view.name}"))
    return lines


def item(view: ItemView, now: datetime) -> RenderableType:
    """One item with everything known of it."""
    head: list[RenderableType] = [
        Text.assemble((view.name, "bold"), "  ", state(view.state), "  ", arrow(view.direction))
    ]
    if view.unprotected and view.state != DISABLED:
        head.append(unprotected(view.name, view.unprotected_reason))
    return spaced(
        Group(*head),
        problem(view.problem) if view.problem else None,
        facts(_item_facts(view, now)),
        section("Set-aside writes", _unsent(view.unsent)) if view.unsent else None,
        section("Resyncs", resyncs(view.resyncs)) if view.resyncs else None,
        receipt(view.receipt) if view.receipt else None,
        facts([("you can", listed(view.allowed, none="nothing until the job has ended"))]),
    )


def _item_facts(view: ItemView, now: datetime) -> list[tuple[str, RenderableType]]:
    newest = view.newest_point
    target = show_span(timedelta(seconds=view.rpo_target))
    lines: list[tuple[str, RenderableType]] = [
        ("runs on", _seat(view.running)),
        ("standby", _seat(view.standby)),
        ("RPO", Text.assemble(_rpo_now(view), f", {target} allowed (policy {view.policy})")),
        (
            "newest point",
            f"{newest.position}, taken {age(newest.taken_at, now)} ago, {newest.consistency}"
            if newest
            else "none",
        ),
        ("points", str(view.points)),
        ("disks", listed(view.disks)),
        ("waiting to cross", size(view.backlog)),
        ("moved", f"{size(view.bytes_moved)} since this direction began"),
    ]
    if view.progress:
        lines.append(("at work", progress_words(view.progress)))
    if view.job:
        lines.append(("job", f"{view.job}  (homeport jobs watch {view.job[:8]})"))
    if view.last_resync:
        lines.append(("last resync", _resync(view.last_resync)))
    if view.test:
        lines.append(("test machine", _test(view.test)))
    return lines


def _seat(seat: SeatReport) -> Text:
    word = ("", "") if seat.alive else ("  DOES NOT ANSWER", BAD)
    phase = f", {seat.phase}" if seat.phase else ""
    return Text.assemble(
        (seat.site, "bold"),
        f"  host {seat.host}, machine {seat.machine}, pool {seat.pool}{phase}",
        word,
    )


def _resync(fact: dict[str, object]) -> str:
    reason = fact.get("reason")
    return f"{fact.get('way', DASH)}{f': {reason}' if reason else ''}"


def _test(fact: dict[str, object]) -> Text:
    parts = [str(fact[key]) for key in ("machine", "point", "position") if fact.get(key)]
    return Text(f"{' at '.join(parts) or 'up'}: clean up when done (test-cleanup)", style=WARN)


def progress_words(progress: Progress) -> str:
    """Percent, amounts, rate, time left, and what is being done: as far as known."""

    def amount(value: float) -> str:
        return show_size(round(value)) if progress.unit == "bytes" else f"{value:g} {progress.unit}"

    words = []
    if progress.percent is not None:
        words.append(f"{progress.percent:.0f} %")
        words.append(f"{amount(progress.done)} of {amount(progress.total)}")
    elif progress.done:
        words.append(amount(progress.done))
    if progress.rate > 0:
        words.append(f"{amount(progress.rate)}/s")
    if progress.seconds_left is not None:
        words.append(f"{seconds(progress.seconds_left)} left")
    return ", ".join([*words, progress.note] if progress.note else words)


def points(views: Sequence[PointView], now: datetime) -> RenderableType:
    """Points, newest first."""
    if not views:
        return Text("No recovery points: there is nothing to fail over to.", style=BAD)
    heads = ("POINT", "TAKEN", "AGE", "CONSISTENT", "CHANGED", "DEPTH", "")
    made = table(*heads, right=("AGE", "CHANGED", "DEPTH"), whole=heads[:6])
    for view in reversed(views):
        made.add_row(
            str(view.position),
            moment(view.taken_at),
            age(view.taken_at, now),
            short(view.consistency),
            size(view.changed),
            str(view.depth),
            _marks(view),
        )
    return made


def _marks(view: PointView) -> str:
    marks = [("latest", view.latest), ("latest app-consistent", view.latest_app)]
    return ", ".join(
        [word for word, marked in marks if marked] + ([view.label] if view.label else [])
    )


def _unsent(images: Sequence[UnsentReport]) -> RenderableType:
    made = table("DISK", "SIZE", "SINCE POINT", "SET ASIDE", "EXPIRES", right=("SIZE",))
    for image in images:
        dates = (moment(image.set_aside_at), moment(image.expires_at))
        made.add_row(image.disk, size(image.size), str(image.position), *dates)
    return made


def receipt(loss: LossReceipt) -> RenderableType:
    """What a failover is known to have lost."""
    missing = "not known" if loss.missing_bytes is None else size(loss.missing_bytes)
    lines: list[tuple[str, RenderableType]] = [
        (
            "failed over",
            f"{moment(loss.failed_over_at)}, {'planned' if loss.planned else 'unplanned'}",
        ),
        ("to point", f"{loss.point}, taken {moment(loss.point_at)}"),
        ("missing", Text(loss.known, style=GOOD if loss.missing_bytes == 0 else WARN)),
        ("bytes missing", missing),
        ("time missing", seconds(loss.missing_seconds)),
        (
            "left out",
            f"{size(loss.left_out)} in newer points" if loss.left_out else "nothing newer",
        ),
        ("the old side", loss.assumption),
        (
            "completed",
            moment(loss.completed_at) if loss.completed_at else "when the old side is back",
        ),
    ]
    body: list[RenderableType] = [facts(lines, indent=0)]
    if loss.unsent:
        body += [Text(""), _unsent(loss.unsent)]
    return section("Loss receipt", *body)


def ledger(lines: Sequence[LedgerLine]) -> RenderableType:
    """What was made, why, and what of it is gone."""
    if not lines:
        return Text("Nothing is left of what Homeport made.")
    made = table("ITEM", "HOST", "KIND", "MADE", "GONE", "WHY", "NAME", whole=("MADE",))
    for line in lines:
        gone = Text(f"{line.gone_at:%Y-%m-%d}" if line.gone_at else "there")
        if line.pending_removal:
            gone = Text("PENDING REMOVAL", style=WARN)
        made_on = f"{line.made_at:%Y-%m-%d}"
        made.add_row(line.item, line.host, line.kind, made_on, gone, line.reason, line.name)
    return made
