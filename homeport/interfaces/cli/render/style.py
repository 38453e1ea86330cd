"""
The few shapes and words that all output is made of, so that it looks and reads alike.

Columns have no lines, heads are capitals, moments are UTC, and what is not known is a dash. Colour
only repeats what a word says already: output without colour loses nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from homeport.units import show_size, show_span

DASH = "-"
LOUD = "bold white on red"
"""For what nobody may overlook."""
GOOD, BAD, WARN, QUIET = "green", "bold red", "yellow", "dim"
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


def table(*heads: str, right: Iterable[str] = ()) -> Table:
    """An empty table; the columns named in `right` hold figures."""
    made = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for head in heads:
        made.add_column(head, justify="right" if head in right else "left", overflow="fold")
    return made


def facts(pairs: Iterable[tuple[str, RenderableType]], *, indent: int = 2) -> RenderableType:
    """Names and values, one a line; a long value folds beside its name."""
    grid = Table.grid(padding=(0, 2, 0, 0))
    grid.add_column(style=QUIET, no_wrap=True)
    grid.add_column(overflow="fold")
    for name, value in pairs:
        grid.add_row(name, value)
    return Padding(grid, (0, 0, 0, indent))


def section(title: str, *lines: RenderableType, indent: int = 2) -> RenderableType:
    """A title with what belongs to it."""
    body = Padding(Group(*lines), (0, 0, 0, indent))
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


def problem(facts: Mapping[str, str], *, title: str = "Problem") -> RenderableType:
    """A problem as every surface shows it: what is, why, what to do."""
    lines = [Text.assemble((f"{title}: ", BAD), facts.get("message", ""))]
    for label, key in (("why", "cause"), ("do", "remedy"), ("code", "code")):
        if facts.get(key):
            lines.append(Text.assemble((f"{label:>6}  ", QUIET), facts[key]))
    return Group(*lines)


def bullets(lines: Iterable[str]) -> list[RenderableType]:
    """Lines, each with a dash before it that folded text does not go under."""
    made: list[RenderableType] = []
    for line in lines:
        grid = Table.grid(padding=(0, 1, 0, 0))
        grid.add_row("-", Text(line))
        made.append(grid)
    return made


def arrow(direction: str) -> Text:
    """A direction as an arrow between its sites."""
    source, _, target = direction.partition(" -> ")
    return Text.assemble((source, "bold"), (" ──▶ ", "cyan"), (target, "bold"))


def moment(at: datetime | None) -> str:
    """A moment, in UTC to the second."""
    return DASH if at is None else f"{at:%Y-%m-%d %H:%M:%S}Z"


def age(at: datetime | None, now: datetime) -> str:
    """How long ago."""
    return DASH if at is None else f"{show_span(whole(max(now - at, timedelta(0))))} ago"


def whole(span: timedelta) -> timedelta:
    """A span without its fractions of a second."""
    return timedelta(seconds=round(span.total_seconds()))


def seconds(value: float | None) -> str:
    """Seconds as a span; what is not known is a dash."""
    if value is None:
        return DASH
    return show_span(timedelta(seconds=value) if value < 10 else timedelta(seconds=round(value)))


def size(value: int | None) -> str:
    """Bytes; what is not known is a dash."""
    return DASH if value is None else show_size(value)


def listed(words: Iterable[str], *, none: str = DASH) -> str:
    """Words, separated by commas."""
    return ", ".join(words) or none
