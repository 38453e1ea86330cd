"""What a bench says: a row with times of ours and of its limit, and exact counts beside them."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from datetime import timedelta
from typing import Any

from homeport.units import show_size, show_span


@dataclass(frozen=True, slots=True)
class Spread:
    """Seconds of several runs."""

    runs: tuple[float, ...]

    @property
    def median(self) -> float:
        """The middle one."""
        return statistics.median(self.runs)

    def __str__(self) -> str:
        if len(self.runs) == 1:
            return show_seconds(self.median)
        low, high = show_seconds(min(self.runs)), show_seconds(max(self.runs))
        return f"{show_seconds(self.median)} ({low}..{high})"


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """
    One case of a bench. Counts are exact bytes; a field that does not apply is None.

    `differs` is what the two sides were made to differ in, `moved` what went into the cache store.
    """

    bench: str
    case: str
    ours: Spread | None = None
    limit: Spread | None = None
    moved: int | None = None
    differs: int | None = None
    note: str = ""
    facts: dict[str, Any] = field(default_factory=dict)

    @property
    def ratio(self) -> float | None:
        """How many times the limit we take: the median over pairs of runs, each made together."""
        if self.ours is None or self.limit is None:
            return None
        pairs = zip(self.ours.runs, self.limit.runs, strict=True)
        return statistics.median(ours / limit for ours, limit in pairs)

    @property
    def excess(self) -> float | None:
        """Bytes moved for each byte that differs."""
        return self.moved / self.differs if self.moved is not None and self.differs else None

    def plain(self) -> dict[str, Any]:
        """The row for machines."""
        return {**asdict(self), "ratio": self.ratio, "moved_per_byte": self.excess}


_HEADS = ("bench", "case", "ours", "limit", "ratio", "moved / differs", "note")


def table(rows: Iterable[Row]) -> str:
    """The rows for people, as a Markdown table."""
    lines = [_HEADS, tuple("---" for _ in _HEADS), *(_cells(row) for row in rows)]
    widths = [max(len(line[at]) for line in lines) for at in range(len(_HEADS))]
    return "\n".join(_line(cells, widths) for cells in lines)


def show_seconds(seconds: float) -> str:
    """A span for people."""
    return show_span(timedelta(seconds=seconds))


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    padded = (cell.ljust(width) for cell, width in zip(cells, widths, strict=True))
    return f"| {' | '.join(padded)} |"


def _cells(row: Row) -> tuple[str, ...]:
    ratio = "" if row.ratio is None else f"{row.ratio:.2f}"
    return row.bench, row.case, _shown(row.ours), _shown(row.limit), ratio, _bytes(row), row.note


def _shown(spread: Spread | None) -> str:
    return "" if spread is None else str(spread)


def _bytes(row: Row) -> str:
    if row.moved is None:
        return ""
    if row.excess is None:
        return show_size(row.moved)
    return f"{show_size(row.moved)} / {show_size(row.differs or 0)} = {row.excess:.4f}"
