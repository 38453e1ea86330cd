"""Replicated items, their points, what was set aside, and what a failover lost."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from rich.console import Group, RenderableType
from rich.text import Text

from homeport.interfaces import told
from homeport.interfaces.cli.render.resources import resyncs
from homeport.interfaces.cli.render.style import (
    BAD,
    WARN,
    arrow,
    drawn,
    facts,
    problem,
    section,
    spaced,
    state,
    table,
    told_facts,
    unprotected,
)
from homeport.interfaces.words import DASH, age, listed, moment, short, size
from homeport.model.messages import UnsentReport
from homeport.model.reports import (
    ItemView,
    LedgerLine,
    LossReceipt,
    PointView,
)


def items(views: Sequence[ItemView], now: datetime) -> RenderableType:
    """All items, one a line; below, whatever somebody has to look at."""
    if not views:
        return Text(told.NO_ITEMS)
    heads = ("ITEM", "PROTECTION", "STATE", "DIRECTION", "RPO", "POINT", "AGE")
    made = table(*heads, whole=("PROTECTION", "DIRECTION", "RPO", "POINT", "AGE"))
    for view in views:
        newest = view.newest_point
        made.add_row(
            view.name,
            drawn(told.protection(view)),
            state(view.state),
            arrow(view.direction),
            drawn(told.rpo(view)),
            str(newest.position) if newest else DASH,
            age(newest.taken_at, now) if newest else DASH,
        )
    alarms = [line for view in views for line in _alarms(view)]
    return spaced(made, Group(*alarms) if alarms else None)


def _alarms(view: ItemView) -> list[RenderableType]:
    lines: list[RenderableType] = []
    if told.is_alarming(view):
        lines.append(unprotected(view.name, view.unprotected_reason))
    if view.problem:
        lines.append(problem(view.problem, title=f"Problem of {view.name}"))
    return lines


def item(view: ItemView, now: datetime) -> RenderableType:
    """One item with everything known of it."""
    head: list[RenderableType] = [
        Text.assemble((view.name, "bold"), "  ", state(view.state), "  ", arrow(view.direction))
    ]
    if told.is_alarming(view):
        head.append(unprotected(view.name, view.unprotected_reason))
    return spaced(
        Group(*head),
        problem(view.problem) if view.problem else None,
        told_facts(told.item_facts(view, now)),
        section("Set-aside writes", _unsent(view.unsent)) if view.unsent else None,
        section("Resyncs", resyncs(view.resyncs)) if view.resyncs else None,
        receipt(view.receipt) if view.receipt else None,
        facts([("you can", listed(view.allowed, none=told.NOTHING_ALLOWED))]),
    )


def points(views: Sequence[PointView], now: datetime) -> RenderableType:
    """Points, newest first."""
    if not views:
        return Text(told.NO_POINTS, style=BAD)
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
            told.marks(view),
        )
    return made


def _unsent(images: Sequence[UnsentReport]) -> RenderableType:
    made = table("DISK", "SIZE", "SINCE POINT", "SET ASIDE", "EXPIRES", right=("SIZE",))
    for image in images:
        dates = (moment(image.set_aside_at), moment(image.expires_at))
        made.add_row(image.disk, size(image.size), str(image.position), *dates)
    return made


def receipt(loss: LossReceipt) -> RenderableType:
    """What a failover is known to have lost."""
    body: list[RenderableType] = [told_facts(told.receipt_facts(loss), indent=0)]
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
