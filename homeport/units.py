"""Sizes and spans: the units the code counts in, and how people are shown them."""

from __future__ import annotations

from datetime import timedelta

KiB = 1024
MiB = 1024 * KiB
GiB = 1024 * MiB
TiB = 1024 * GiB

_STEPS = ((TiB, "TiB"), (GiB, "GiB"), (MiB, "MiB"), (KiB, "KiB"))


def show_size(size: int) -> str:
    """`size` bytes for people: three figures at most, binary units ("12.5 MiB")."""
    for step, name in _STEPS:
        if abs(size) >= step:
            value = size / step
            return f"{value:.0f} {name}" if value >= 100 else f"{value:.3g} {name}"
    return f"{size} B"


def show_span(span: timedelta) -> str:
    """A span for people: two units at most ("2 h 52 min", "1.4 s", "35 ms")."""
    seconds = span.total_seconds()
    if seconds < 0:
        return "-" + show_span(-span)
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s" if rest else f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    if hours < 48:
        return f"{hours} h {minutes} min" if minutes else f"{hours} h"
    days, hours = divmod(hours, 24)
    return f"{days} d {hours} h" if hours else f"{days} d"
