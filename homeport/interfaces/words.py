"""
The words that command line and portal have in common: sizes, spans, moments, and marked text.

A text is a row of bits, each with its tone. The tone only repeats what the words say: one surface
draws it as a colour, another drops it, and neither loses anything.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from homeport.model.messages import Progress
from homeport.units import show_size, show_span

DASH = "-"
"""What is shown for what is not known."""
PROBLEM = (("why", "cause"), ("do", "remedy"), ("code", "code"))
"""What is told of a problem beside what it is, in this order."""


class Tone(StrEnum):
    """What a bit of text is to the person who reads it."""

    PLAIN = "plain"
    STRONG = "strong"
    GOOD = "good"
    BAD = "bad"
    WARN = "warn"
    LOUD = "loud"
    QUIET = "quiet"


STATES = {
    "Protected": Tone.GOOD,
    "Succeeded": Tone.GOOD,
    "Failed": Tone.BAD,
    "Failover failed": Tone.BAD,
    "Enable failed": Tone.BAD,
    "Disable failed": Tone.BAD,
    "Cancelled": Tone.WARN,
    "Skipped": Tone.QUIET,
    "Not started": Tone.QUIET,
    "running": Tone.GOOD,
    "crashed": Tone.BAD,
}
"""The tones of items', jobs', tasks' and machines' states; others are plain."""


@dataclass(frozen=True, slots=True)
class Bit:
    """A bit of text. `at` is the moment that the text names, where it names one."""

    text: str
    tone: Tone = Tone.PLAIN
    at: datetime | None = None


Said = tuple[Bit, ...]
"""A text of bits, to be read without anything between them."""
Fact = tuple[str, Said]
"""A name and what is known under it: a line of a list."""


def said(*parts: str | Bit) -> Said:
    """A text of bits; strings are plain ones."""
    return tuple(part if isinstance(part, Bit) else Bit(part) for part in parts)


def state(word: str) -> Bit:
    """A state, in its tone."""
    return Bit(word, STATES.get(word, Tone.PLAIN))


def when(at: datetime | None) -> Bit:
    """A moment as a bit of text."""
    return Bit(moment(at), at=at)


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


def took(began_at: datetime | None, ended_at: datetime | None, now: datetime) -> str:
    """How long something has taken so far, or took; a dash for what has not begun."""
    if began_at is None:
        return DASH
    spent = (ended_at or now) - began_at
    return show_span(spent) if spent.total_seconds() < 10 else span(spent)


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
