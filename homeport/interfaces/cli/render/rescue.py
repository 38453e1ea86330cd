"""What a folder holds for rescue: items, points, and what is wrong with which."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime

from rich.console import Group, RenderableType
from rich.text import Text

from homeport.interfaces.cli.render.style import (
    BAD,
    GOOD,
    LOUD,
    QUIET,
    WARN,
    spaced,
    table,
    verbatim,
)
from homeport.interfaces.words import DASH, age, moment, short, size
from homeport.model.position import Position
from homeport.rescue import Exported, FoundItem, FoundPoint, Verdict

Verdicts = Mapping[Position, Verdict]


def items(found: Sequence[tuple[FoundItem, Verdicts]], now: datetime) -> RenderableType:
    """All items of a folder."""
    return spaced(*(item(one, verdicts, now) for one, verdicts in found))


def item(found: FoundItem, verdicts: Verdicts, now: datetime) -> RenderableType:
    """One item with its points, newest first, each with its verdict."""
    head = Text.assemble((found.name, "bold"), (f"  {found.folder}", QUIET))
    lines: list[RenderableType] = [head]
    if found.problem:
        lines.append(Text(found.problem, style=WARN))
    if not found.points:
        return Group(*lines, Text("no points: nothing has landed here", style=WARN))
    heads = ("POINT", "TAKEN", "AGE", "CONSISTENT", "FILES", "PROVED", "VERDICT")
    made = table(*heads, right=("AGE", "FILES", "PROVED"), whole=heads)
    for point in found.points:
        verdict = verdicts[point.position]
        made.add_row(
            str(point.position),
            moment(point.taken_at),
            age(point.taken_at, now),
            short(point.consistency),
            str(verdict.files),
            str(verdict.proved) if verdict.proved else DASH,
            Text("whole", style=GOOD) if verdict.whole else Text("DAMAGED", style=LOUD),
        )
    return Group(*lines, Text(""), made, *_details(found, verdicts), *_next(found, verdicts))


def _details(found: FoundItem, verdicts: Verdicts) -> list[RenderableType]:
    lines: list[RenderableType] = []
    for position, verdict in verdicts.items():
        lines += [
            Text.assemble((f"{position}: ", BAD), words.replace(f"{found.folder}/", ""))
            for words in verdict.problems
        ]
    notes = dict.fromkeys(words for verdict in verdicts.values() for words in verdict.notes)
    lines += [Text.assemble(("note: ", WARN), words) for words in notes]
    return [Text(""), *lines] if lines else []


def _next(found: FoundItem, verdicts: Verdicts) -> list[RenderableType]:
    whole = [point.position for point in found.points if verdicts[point.position].whole]
    if not whole:
        return [Text(""), Text("No point is whole. Keep all files.", style=BAD)]
    place = f"homeport rescue {found.folder}"
    return [
        Text(""),
        Text(f"Start the newest whole one, {whole[0]}, or copy its disks out:", style=QUIET),
        verbatim(f"  {place} --boot", style=QUIET),
        verbatim(f"  {place} --export FOLDER", style=QUIET),
    ]


def chosen(point: FoundPoint, verdict: Verdict, passed: Verdicts) -> RenderableType:
    """Which point was taken, and why not a newer one."""
    lines: list[RenderableType] = []
    for position, bad in passed.items():
        lines.append(
            Text.assemble((f"Point {position} is DAMAGED: ", BAD), "; ".join(bad.problems))
        )
    if passed:
        lines.append(Text(f"Taking the next older whole one, {point.position}.", style=WARN))
    proof = (
        f", {verdict.proved} of {verdict.files} files proved by digest" if verdict.proved else ""
    )
    taken = f"Point {point.position}, taken {moment(point.taken_at)}, {point.consistency}{proof}"
    lines.append(Text(taken, style="bold"))
    lines += [Text.assemble(("note: ", WARN), words) for words in verdict.notes]
    return Group(*lines)


def exported(point: FoundPoint, made: Exported) -> RenderableType:
    """The files that were copied out."""
    out = table("DISK", "SIZE", "FILE", right=("SIZE",))
    for disk in point.disks:
        out.add_row(disk.disk.name, size(disk.disk.size), str(made.disks[disk.disk.name]))
    nvram = [Text(f"firmware variables: {made.nvram}")] if made.nvram else []
    return Group(out, *nvram)


def plain(found: FoundItem, verdicts: Verdicts) -> dict[str, object]:
    """An item as JSON values."""
    return {
        "name": found.name,
        "item": found.item,
        "folder": str(found.folder),
        "problem": found.problem,
        "points": [_plain_point(point, verdicts[point.position]) for point in found.points],
    }


def _plain_point(point: FoundPoint, verdict: Verdict) -> dict[str, object]:
    return {
        "position": str(point.position),
        "taken_at": point.taken_at.isoformat() if point.taken_at else None,
        "consistency": point.consistency,
        "label": point.label,
        **plain_verdict(verdict),
        "disks": {disk.disk.name: [str(path) for path in disk.files] for disk in point.disks},
    }


def plain_verdict(verdict: Verdict) -> dict[str, object]:
    """A verdict as JSON values."""
    return {
        "whole": verdict.whole,
        "problems": list(verdict.problems),
        "notes": list(verdict.notes),
        "proved": verdict.proved,
        "files": verdict.files,
    }
