"""
The few shapes and words that all output is made of, so that it looks and reads alike.

Columns have no lines, heads are capitals, moments are UTC, and what is not known is a dash. Colour
only repeats what a word says already: output without colour loses nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import Literal

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from homeport.units import show_size, show_span

DASH = "-"
LOUD = "bold white on red"
"""For what nobody may overlook."""
GOOD, BAD, WARN, QUIET = "green", "bold red", "yellow", "dim"
PROBLEM = (("why", "cause"), ("do", "remedy"), ("code", "code"))
"""What is told of a problem beside what it is, in this order."""
STATE_STYLES = {
    "Protected": GOOD,
    "Succeeded": GOOD,
    "Failed": BAD,
    "Failover failed": BAD,
    "Enable failed": BAD,
    "Disable failed": BAD,
    "Cancelled": WARN,
    "Skipped": QUIET,
    "Not started": QUIET,
    "running": GOOD,
    "crashed": BAD,
}


def table(*heads: str, right: Iterable[str] = (), whole: Iterable[str] = ()) -> Table:
    """An empty table; columns in `right` hold figures, those in `whole` are never folded."""
    made = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for head in heads:
        justify: Literal["left", "right"] = "right" if head in right else "left"
        made.add_column(head, justify=justify, overflow="fold", no_wrap=head in whole)
    return made


def facts(pairs: Iterable[tuple[str, RenderableType]], *, indent: int = 2) -> RenderableType:
    """Names and values, one a line; a long value folds beside its name."""
    grid = Table.grid(padding=(0, 2, 0, 0))
    grid.add_column(style=QUIET, no_wrap=True)
    grid.add_column(overflow="fold")
    for name, value in pairs:
        grid.add_row(name, value)
    return Padding(grid, (0, 0, 0, indent), expand=False)


def section(title: str, *lines: RenderableType, indent: int = 2) -> RenderableType:
    """A title with what belongs to it."""
    body = Padding(Group(*lines), (0, 0, 0, indent), expand=False)
    return Group(Text(title, style="bold"), body)


def spaced(*parts: RenderableType | None) -> RenderableType:
    """The parts there are, with an empty line between them."""
    shown: list[RenderableType] = []
    for part in parts:
        if part is not None:
            shown += [Text(""), part] if shown else [part]
    return Group(*shown)


def state(word: str) -> Text:
    """A state, in its colour."""
    return Text(word, style=STATE_STYLES.get(word, ""))


def unprotected(name: str, reason: str) -> Text:
    """What is said, loudly, of an item that a loss would cost more than allowed."""
    return Text.assemble((" UNPROTECTED ", LOUD), " ", (name, "bold"), f": {reason}")


def problem(told: Mapping[str, str], *, title: str = "Problem") -> RenderableType:
    """A problem as every surface shows it: what is, why, what to do."""
    return Group(
        Text.assemble((f"{title}: ", BAD), (told.get("message", ""), "bold")),
        facts((label, told[key]) for label, key in PROBLEM if told.get(key)),
    )


def bullets(lines: Iterable[str], *, indent: int = 0) -> RenderableType:
    """Lines, each with a dash before it that folded text does not go under."""
    grid = Table.grid(padding=(0, 1, 0, 0))
    for line in lines:
        grid.add_row("-", Text(line))
    return Padding(grid, (0, 0, 0, indent), expand=False)


def verbatim(line: str, *, style: str = "") -> Text:
    """A line that is copied from the screen: never folded, nor to be put into a section."""
    return Text(line, style=style, no_wrap=True, overflow="ignore")


def arrow(direction: str) -> Text:
    """A direction as an arrow between its sites."""
    source, _, target = direction.partition(" -> ")
    return Text.assemble((source, "bold"), (" ──▶ ", "cyan"), (target, "bold"))


def moment(at: datetime | None) -> str:
    """A moment, in UTC to the second."""
    return DASH if at is None else f"{at:%Y-%m-%d %H:%M:%S}Z"


def age(at: datetime | None, now: datetime) -> str:
    """How long since, in one unit: enough to compare lines by."""
    if at is None:
        return DASH
    past = max(0.0, (now - at).total_seconds())
    for limit, step, unit in ((100, 1, "s"), (6000, 60, "min"), (172800, 3600, "h")):
        if past < limit:
            return f"{past / step:.0f} {unit}"
    return f"{past / 86400:.0f} d"


def span(value: timedelta) -> str:
    """A span in two units at most, to the second."""
    rounded = timedelta(seconds=round(value.total_seconds()))
    return show_span(rounded).replace(".0 s", " s") if rounded else show_span(value)


def seconds(value: float | None) -> str:
    """Seconds as a span; what is not known is a dash."""
    return DASH if value is None else span(timedelta(seconds=value))


def short(consistency: str) -> str:
    """`crash` or `app`, where a column's head says that it is about consistency."""
    return consistency.removesuffix("-consistent")


def size(value: int | None) -> str:
    """Bytes; what is not known is a dash."""
    return DASH if value is None else show_size(value)


def listed(words: Iterable[str], *, none: str = DASH) -> str:
    """Words, separated by commas."""
    return ", ".join(words) or none
