"""The review of a reprotect: everything a person decides by, on one page."""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.text import Text

from homeport.interfaces.cli.render.resources import resyncs
from homeport.interfaces.cli.render.style import (
    BAD,
    GOOD,
    WARN,
    arrow,
    bullets,
    facts,
    problem,
    section,
    size,
    spaced,
    span,
)
from homeport.model.estimate import AsrEstimate, Estimate
from homeport.model.reports import EstimateReport
from homeport.model.review import DiskReview, Review, Row

DIRECTION = "direction"
"""The review's first row, which stands in the title already."""


def review(made: Review) -> RenderableType:
    """A review as the page of the portal has it: nothing has been changed."""
    known = bool(made.disks)
    return spaced(
        Text.assemble(("Reprotect of ", ""), (made.item, "bold"), "   ", arrow(made.direction)),
        _settings(made) if made.rows else None,
        section("Disks", *(_disk(disk) for disk in made.disks)) if known else None,
        section("Machine", bullets(made.machine)) if made.machine else None,
        section("Resync", facts(_resync(made), indent=0)) if known else None,
        Group(*(_note(note) for note in made.notes)) if made.notes else None,
        _verdict(made),
    )


def _settings(made: Review) -> RenderableType:
    new = (" (new)", WARN)
    return facts(
        [
            (row.setting, Text.assemble(row.value, new if row.new else "", _fixed(row)))
            for row in made.rows
            if row.setting != DIRECTION
        ],
        indent=0,
    )


def _fixed(row: Row) -> str:
    return f" (fixed: {row.fixed})" if row.fixed else ""


def _disk(disk: DiskReview) -> RenderableType:
    head = Text.assemble(
        (disk.disk, "bold"),
        f"  {disk.way.value}, reads {size(disk.reads)}, sends {size(disk.sends)}",
    )
    return Group(head, bullets((disk.reason, *disk.actions), indent=2))


def _resync(made: Review) -> list[tuple[str, RenderableType]]:
    return [
        ("way", Text.assemble((made.way.value, "bold"), f": {made.reason}")),
        ("bytes", f"reads {size(made.reads)} on a side, sends {size(made.sends)} at most"),
        ("time, ours", ours(made.ours)),
        ("time, ASR's formula", asr(made.asr)),
    ]


def ours(found: Estimate) -> Text:
    """Our estimate with its bounds."""
    total = found.total
    bounds = f" ({span(total.low)} to {span(total.high)})"
    return Text.assemble((span(total.likely), "bold"), bounds)


def asr(found: AsrEstimate) -> Text:
    """ASR's published formula, with its terms."""
    return Text(
        f"{span(found.low)} to {span(found.high)} (checksum {span(found.checksum)}, difference "
        f"{span(found.difference)}, backlog {span(found.backlog)}, 20 to 30 min to begin)"
    )


def _note(note: str) -> Text:
    return Text.assemble(("note: ", WARN), note)


def _verdict(made: Review) -> RenderableType:
    if not made.problems:
        return Text(
            "Nothing stands in the way. Start it: homeport reprotect " + made.item, style=GOOD
        )
    count = len(made.problems)
    words = "1 problem stands" if count == 1 else f"{count} problems stand"
    head = Text(f"{words} in the way; it cannot be started.", style=BAD)
    return Group(head, *(problem(one) for one in made.problems))


def estimate(found: EstimateReport, *, with_asr: bool) -> RenderableType:
    """How long a reprotect would take."""
    phases = found.ours
    lines: list[tuple[str, RenderableType]] = [
        ("way", Text.assemble((found.way, "bold"), f": {found.reason}")),
        ("bytes", f"reads {size(found.reads)} on a side, sends {size(found.sends)} at most"),
        ("time", ours(phases)),
        ("of it", _phases(phases)),
    ]
    if with_asr:
        lines.append(("ASR's formula", asr(found.asr)))
    earlier = section("Earlier resyncs", resyncs(found.resyncs)) if found.resyncs else None
    return spaced(facts([*lines, ("rests on", found.basis)], indent=0), earlier)


def _phases(found: Estimate) -> str:
    named = (
        ("preparing", found.preparing),
        ("comparing", found.comparing),
        ("moving", found.moving),
        ("catching up", found.catching_up),
    )
    return ", ".join(f"{name} {span(part)}" for name, part in named if part)
