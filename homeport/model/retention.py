"""
Which points to keep: everything lately, then one an hour, then nothing.

What is pinned (held by a person, tested, in use, or labelled) is kept whatever its age, and the
newest point is always kept: if no new one can be made, old ones outlive the retention.

Each point is a layer of its disks, and libvirt refuses to start a machine on more than 200 images
upon each other. So beyond `MOST_LAYERS` points are thinned, whatever the policy says: those go
whose neighbours are nearest for their age, which leaves the recent ones dense and the old ones
sparse.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime, timedelta

from homeport.model.messages import PointReport
from homeport.model.policy import ReplicationPolicy
from homeport.model.position import Position

HOUR = timedelta(hours=1)
MOST_LAYERS = 150
"""Layers of a replica disk that points may need; the rest to 200 is for what a failover adds."""
NEWEST = 20
"""Points that are never thinned out, whatever else needs layers."""
APP_WORTH = 4.0
"""An app-consistent point stays where crash-consistent ones as near to each other go."""


def to_prune(
    points: Sequence[PointReport],
    policy: ReplicationPolicy,
    now: datetime,
    pinned: Collection[Position] = (),
    *,
    most: int = MOST_LAYERS,
) -> tuple[Position, ...]:
    """
    Positions of the points that may go, oldest first. `points` are in order of position.

    Of each hour beyond `keep_all` the newest point stays, an app-consistent one before others; and
    of all that stay, at most `most`, unless more are pinned.
    """
    over = set(_over(points, policy, now, pinned))
    left = [point for point in points if point.position not in over]
    over |= _thinned(left, now, pinned, most)
    return tuple(point.position for point in points if point.position in over)


def _over(
    points: Sequence[PointReport],
    policy: ReplicationPolicy,
    now: datetime,
    pinned: Collection[Position],
) -> tuple[Position, ...]:
    """Those whose time is over."""
    if not points:
        return ()
    newest = points[-1].position
    best: dict[datetime, PointReport] = {}
    candidates = []
    for point in points[:-1]:
        age = now - point.taken_at
        if point.position in pinned or age <= policy.keep_all or point.position == newest:
            continue
        candidates.append(point)
        if age <= policy.retention:
            hour = point.taken_at.replace(minute=0, second=0, microsecond=0)
            kept = best.get(hour)
            if kept is None or _worth(point) >= _worth(kept):
                best[hour] = point
    kept_positions = {point.position for point in best.values()}
    return tuple(p.position for p in candidates if p.position not in kept_positions)


def _thinned(
    points: Sequence[PointReport], now: datetime, pinned: Collection[Position], most: int
) -> set[Position]:
    """Those that go for their number alone; the oldest and the newest ones stay."""
    left, gone = list(points), set()
    while len(left) > most:
        inner = range(1, len(left) - NEWEST)
        free = [number for number in inner if left[number].position not in pinned]
        if not free:
            break
        least = min(free, key=lambda number: _spacing(left, number, now))
        gone.add(left.pop(least).position)
    return gone


def _spacing(points: Sequence[PointReport], number: int, now: datetime) -> float:
    """How far apart its neighbours are, for its age: what would be missed without it."""
    apart = (points[number + 1].taken_at - points[number - 1].taken_at).total_seconds()
    age = max((now - points[number].taken_at).total_seconds(), 1.0)
    worth = APP_WORTH if points[number].consistency.value.startswith("app") else 1.0
    return worth * apart / age


def _worth(point: PointReport) -> tuple[bool, datetime]:
    return (point.consistency.value.startswith("app"), point.taken_at)
