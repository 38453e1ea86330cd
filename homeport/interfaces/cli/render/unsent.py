"""How writes set aside are drawn: the images, and the files they have otherwise."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime

from rich.console import Group, RenderableType
from rich.text import Text

from homeport.interfaces import told
from homeport.interfaces.cli.render import items as items_render
from homeport.interfaces.cli.render.style import (
    QUIET,
    WARN,
    problem,
    section,
    spaced,
    table,
    verbatim,
)
from homeport.interfaces.words import DASH, moment, size
from homeport.model.filediff import FileChange, FileSystemDifference
from homeport.model.operations import Problem
from homeport.model.reports import LossReceipt
from homeport.model.unsent import Discarded, UnsentDifference, UnsentView
from homeport.units import show_size

NOTHING = "Nothing is set aside."
NOTE = (
    "Each opens by itself, read-only, while it is listed. Which files: --files; keep one: "
    "--export PATH; drop one: --discard"
)


def unsent(images: Sequence[UnsentView], now: datetime) -> RenderableType:
    """Writes that one side had and the other has not, with the files they are in."""
    if not images:
        return Text(NOTHING)
    files = [verbatim(f"{image.host}:{image.path}") for image in images]
    return Group(_images(images, now), Text(""), *files, Text(NOTE, style=QUIET))


def _images(images: Sequence[UnsentView], now: datetime) -> RenderableType:
    heads = ("DISK", "SIZE", "SINCE POINT", "HOST", "SET ASIDE", "EXPIRES")
    made = table(*heads, right=("SIZE",), whole=("SET ASIDE",))
    for image in images:
        host = Text(image.host if image.alive else f"{image.host} (silent)")
        cells = (image.disk, size(image.size), str(image.position), host)
        made.add_row(*cells, moment(image.set_aside_at), told.unsent_end(image, now))
    return made


def files(found: Sequence[UnsentDifference], problems: Mapping[str, Problem]) -> RenderableType:
    """Which files each image has otherwise than its point, and which images could not be read."""
    if not found and not problems:
        return Text(NOTHING)
    parts = [_difference(one) for one in found]
    parts += [problem(told, title=image) for image, told in problems.items()]
    return spaced(*parts)


def _difference(one: UnsentDifference) -> RenderableType:
    since = f", since point {one.position}" if one.position else ""
    how = f"read by {one.way} in {one.took:.0f} s"
    head = [Text(how, style=QUIET)]
    if one.note:
        head.append(Text(one.note, style=QUIET))
    systems = [_file_system(system) for system in one.file_systems]
    body = systems or [Text("No file system was found on this disk.", style=WARN)]
    return section(f"{one.image}{since}", *head, *body)


def _file_system(one: FileSystemDifference) -> RenderableType:
    title = f"{one.name} ({one.type}): "
    if one.unreadable:
        return Text.assemble(title, (one.unreadable, WARN))
    if not one.total:
        return Text(f"{title}no file differs")
    lines: list[RenderableType] = [_files(one.files)] if one.files else []
    if one.left_out:
        lines.append(Text(f"and {one.left_out:,} more (--limit)", style=QUIET))
    return section(f"{title}{counts(one)}", *lines)


def counts(one: FileSystemDifference) -> str:
    """How many files differ, by what happened to them."""
    told = ((one.added, "added"), (one.changed, "changed"), (one.deleted, "deleted"))
    return ", ".join(f"{number:,} {word}" for number, word in told if number) or "no file differs"


def _files(changes: Sequence[FileChange]) -> RenderableType:
    made = table("WHAT", "SIZE", "WAS", "MODIFIED", "PATH", right=("SIZE", "WAS"))
    for one in changes:
        before = DASH if one.size_before is None else size(one.size_before)
        after = DASH if one.change == "deleted" else size(one.size)
        # A guest's file may be named so that a terminal would obey it.
        path = "".join(c if c.isprintable() else "?" for c in one.path)
        shown = Text(path + ("/" if one.kind == "folder" else ""))
        made.add_row(one.change.value, after, before, moment(one.modified_at), shown)
    return made


def reading(one: UnsentView, seconds: float) -> RenderableType:
    """What is said while a person waits."""
    return Text(f"{one.host} reads {one.image}; this may take {seconds:.0f} s ...", style=QUIET)


def discarded(one: UnsentView, done: Discarded) -> RenderableType:
    """What went."""
    if not done.files:
        return Text(f"{one.image} was gone already.")
    return Text(f"Discarded {one.image} on {one.host}; {show_size(done.freed)} are free again.")


def receipt(
    loss: LossReceipt,
    there: Sequence[UnsentView],
    found: Sequence[UnsentDifference],
    problems: Mapping[str, Problem],
) -> RenderableType:
    """The receipt with the files that were in what is missing."""
    gone = len(loss.unsent) - len(there)
    parts = [items_render.receipt(loss)]
    if found or problems:
        parts.append(section("Files in what was set aside", files(found, problems)))
    if gone:
        word = "image has" if gone == 1 else "images have"
        parts.append(Text(f"{gone} {word} expired or been discarded since.", style=WARN))
    if not loss.unsent:
        nothing = "Which files are missing is known when the old side is back and reprotected."
        parts.append(Text(nothing if loss.completed_at is None else NOTHING, style=QUIET))
    return spaced(*parts)
