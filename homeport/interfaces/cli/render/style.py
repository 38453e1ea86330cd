"""
The few shapes and words that all output is made of, so that it looks and reads alike.

Columns have no lines, heads are capitals, moments are UTC, and what is not known is a dash. Colour
only repeats what a word says already: output without colour loses nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Literal

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from homeport.interfaces import words
from homeport.interfaces.words import PROBLEM, Bit, Fact, Said, Tone

LOUD = "bold white on red"
"""For what nobody may overlook."""
GOOD, BAD, WARN, QUIET = "green", "bold red", "yellow", "dim"
STYLES = {
    Tone.PLAIN: "",
    Tone.STRONG: "bold",
    Tone.GOOD: GOOD,
    Tone.BAD: BAD,
    Tone.WARN: WARN,
    Tone.LOUD: LOUD,
    Tone.QUIET: QUIET,
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


def drawn(said: Bit | Said) -> Text:
    """A text in the colours of its tones."""
    bits = (said,) if isinstance(said, Bit) else said
    return Text.assemble(*((bit.text, STYLES[bit.tone]) for bit in bits))


def state(word: str) -> Text:
    """A state, in its colour."""
    return drawn(words.state(word))


def told_facts(found: Iterable[Fact], *, indent: int = 2) -> RenderableType:
    """Facts that the portal tells as well, one a line."""
    return facts(((name, drawn(value)) for name, value in found), indent=indent)


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
