"""What people type, as values: sizes, spans, pairs, points, disks; checked before it is sent."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import timedelta

import typer

from homeport.errors import HomeportError
from homeport.model.position import Position
from homeport.model.requests import DiskRequest
from homeport.units import GiB, KiB, MiB, TiB

POINT_CHOICES = ("latest", "latest-processed", "latest-app-consistent")
NOT_ATTACHED = "none"
"""What is typed for a network card that is to stay unplugged."""

_SIZES = {"": 1, "k": KiB, "m": MiB, "g": GiB, "t": TiB}
_SIZE = re.compile(r"(\d+)([kmgt]?)(?:ib|b)?", re.IGNORECASE)
_SPANS = {"s": 1, "m": 60, "min": 60, "h": 3600, "d": 86400}
_SPAN = re.compile(r"(\d+)(s|min|m|h|d)")


def size(text: str) -> int:
    """Bytes: `512M`, `10G`, `1048576`; units are binary."""
    found = _SIZE.fullmatch(text.strip())
    if not found or not int(found[1]):
        raise typer.BadParameter(f"{text!r} is not a size. Write it as 512M, 10G or in bytes.")
    return int(found[1]) * _SIZES[found[2].lower()]


def span(text: str) -> timedelta:
    """A span: `30s`, `5m`, `2h`, `1d`, or several in a row: `1h30m`."""
    found = _SPAN.findall(text)
    if not found or "".join(number + unit for number, unit in found) != text:
        raise typer.BadParameter(f"{text!r} is not a span. Write it as 30s, 5m, 2h, 1d or 1h30m.")
    return timedelta(seconds=sum(int(number) * _SPANS[unit] for number, unit in found))


def pairs(texts: Sequence[str], *, what: str) -> dict[str, str]:
    """Pairs typed as `a=b`; the same name twice is refused."""
    made: dict[str, str] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not (name and equals and value):
            raise typer.BadParameter(f"{text!r} is not a {what}. Write it as NAME=VALUE.")
        if name in made:
            raise typer.BadParameter(f"{what} {name} is given twice.")
        made[name] = value
    return made


def networks(texts: Sequence[str]) -> dict[str, str | None]:
    """Networks typed as `here=there`; `here=none` leaves the card unplugged."""
    found = pairs(texts, what="network mapping")
    return {name: None if value == NOT_ATTACHED else value for name, value in found.items()}


def or_none(text: str | None) -> str | None:
    """A name; what is typed as `none` asks for none, what is left out for what there is."""
    return "" if text == NOT_ATTACHED else text


def point(text: str) -> str:
    """A point as the API takes it: a word, or a position."""
    if text in POINT_CHOICES:
        return text
    try:
        return str(Position.parse(text))
    except HomeportError as error:
        words = ", ".join(POINT_CHOICES)
        raise typer.BadParameter(
            f"{text!r} is not a point: {words}, or one from: homeport points ITEM."
        ) from error


def position(text: str) -> Position:
    """A point by its position: `3-17`."""
    try:
        return Position.parse(text)
    except HomeportError as error:
        raise typer.BadParameter(f"{text!r} is not a point's position, as 3-17 is.") from error


def disk(text: str) -> DiskRequest:
    """A disk typed as `NAME=SIZE[,format=qcow2][,image=PATH]`."""
    first, *more = text.split(",")
    name, _, bytes_text = first.partition("=")
    options = pairs(more, what="disk option")
    unknown = set(options) - {"format", "image"}
    if not (name and bytes_text) or unknown:
        raise typer.BadParameter(
            f"{text!r} is not a disk. Write it as NAME=SIZE[,format=qcow2][,image=PATH]."
        )
    return DiskRequest(
        name=name,
        size=size(bytes_text),
        format=options.get("format", "raw"),
        image=options.get("image"),
    )


def place(text: str) -> tuple[str | None, str]:
    """A machine typed as `SITE/NAME`, or `NAME` where that is clear."""
    site, slash, name = text.partition("/")
    return (site, name) if slash else (None, site)
