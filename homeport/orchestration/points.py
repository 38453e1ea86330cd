"""
Choosing a recovery point: a pure decision over the points a target has listed.

`latest` first lands everything the cache store holds, so the newest point is known only after that;
the other choices are made from what is listed already.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum

from homeport.errors import NotFoundError
from homeport.model.manifest import Consistency
from homeport.model.messages import PointReport
from homeport.model.position import Position


class Choice(StrEnum):
    """The choices that name no point."""

    LATEST = "latest"
    LATEST_PROCESSED = "latest-processed"
    LATEST_APP_CONSISTENT = "latest-app-consistent"


class NoSuchPointError(NotFoundError):
    """The item has no point as asked for; one of another item is no point of this one."""

    code = "NoSuchPoint"

    def __init__(self, item: str, asked: str, *, cause: str) -> None:
        super().__init__(
            f"{item} has no recovery point {asked}.",
            cause=cause,
            remedy=f"Take one from its list (homeport points {item}), or {Choice.LATEST.value!r}.",
        )
        self.item = item
        self.asked = asked


def parse_choice(text: str) -> Choice | Position:
    """
    What a request names: one of the choices, or a position.

    Raises:
        InvalidPositionError: it is neither.
    """
    try:
        return Choice(text)
    except ValueError:
        return Position.parse(text)


def choose(points: Sequence[PointReport], choice: Choice | Position, *, item: str) -> PointReport:
    """
    The point that `choice` means among those listed for `item`, in any order.

    Raises:
        NoSuchPointError: there is none.
    """
    found = [point for point in points if _fits(point, choice)]
    if found:
        return max(found, key=lambda point: point.position)
    raise NoSuchPointError(item, str(choice), cause=_why_none(points, choice))


def _fits(point: PointReport, choice: Choice | Position) -> bool:
    if isinstance(choice, Position):
        return point.position == choice
    return choice is not Choice.LATEST_APP_CONSISTENT or point.consistency is Consistency.APP


def _why_none(points: Sequence[PointReport], choice: Choice | Position) -> str:
    if not points:
        return "Nothing has landed on the other side yet."
    if isinstance(choice, Position):
        return "It was pruned, or it is another item's."
    return (
        "None of its points is application-consistent: the policy asks for none, or the guest's "
        "agent did not answer."
    )
