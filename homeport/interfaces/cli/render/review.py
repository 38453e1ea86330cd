"""The review of a reprotect: everything a person decides by, on one page."""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.text import Text

from homeport.interfaces import told
from homeport.interfaces.cli.render.resources import resyncs
from homeport.interfaces.cli.render.style import (
    WARN,
    arrow,
    bullets,
    drawn,
    facts,
    problem,
    section,
    spaced,
    told_facts,
)
from homeport.interfaces.words import size
from homeport.model.estimate import Estimate
from homeport.model.reports import EstimateReport
from homeport.model.review import DiskReview, Review
from homeport.units import show_span


def review(made: Review) -> RenderableType:
    """A review as the page of the portal has it: nothing has been changed."""
    known = bool(made.disks)
    return spaced(
        Text.assemble(("Reprotect of ", ""), (made.item, "bold"), "   ", arrow(made.direction)),
        told_facts(told.setting_facts(made), indent=0) if made.rows else None,
        section("Disks", *(_disk(disk) for disk in made.disks)) if known else None,
        section("Machine", bullets(made.machine)) if made.machine else None,
        section("Resync", told_facts(told.resync_facts(made), indent=0)) if known else None,
        Group(*(_note(note) for note in made.notes)) if made.notes else None,
        _verdict(made),
    )


def _disk(disk: DiskReview) -> RenderableType:
    head = Text.assemble(
        (disk.disk, "bold"),
        f"  {disk.way.value}, reads {size(disk.reads)}, sends {size(disk.sends)}",
    )
    return Group(head, bullets((disk.reason, *disk.actions), indent=2))


def _note(note: str) -> Text:
    return Text.assemble(("note: ", WARN), note)


def _verdict(made: Review) -> RenderableType:
    head = drawn(told.verdict(made))
    return Group(head, *(problem(one) for one in made.problems)) if made.problems else head


def estimate(found: EstimateReport, *, with_asr: bool) -> RenderableType:
    """How long a reprotect would take."""
    phases = found.ours
    lines: list[tuple[str, RenderableType]] = [
        ("way", Text.assemble((found.way, "bold"), f": {found.reason}")),
        ("bytes", f"reads {size(found.reads)} on a side, sends {size(found.sends)} at most"),
        ("time", drawn(told.ours(phases))),
        ("of it", _phases(phases)),
    ]
    if with_asr:
        lines.append(("ASR's formula", told.asr(found.asr)))
    earlier = section("Earlier resyncs", resyncs(found.resyncs)) if found.resyncs else None
    return spaced(facts([*lines, ("rests on", found.basis)], indent=0), earlier)


def _phases(found: Estimate) -> str:
    named = (
        ("preparing", found.preparing),
        ("comparing", found.comparing),
        ("moving", found.moving),
        ("listing", found.listing),
    )
    phases = ", ".join(f"{name} {show_span(part)}" for name, part in named if part)
    after = f"; then catching up {show_span(found.catching_up)}" if found.catching_up else ""
    return phases + after
