"""
The estimate held against what it took, at sizes it was not calibrated with.

Everything is learned the way the product learns it, by its own functions: from the first copy, from
points of a few sizes, from what both sides digest, and from earlier resyncs. Then a resync of
another size is estimated, done, and not learned from. Calibration comes again and again, as points
do in an item's life, and sizes take turns: a machine's slow moments are not held against the model.
The error told is the median of a size's runs.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from itertools import chain
from shutil import rmtree
from statistics import median
from typing import Any

from benchmarks.ground import Ground, fetch_memory, scattered
from benchmarks.record import Row, Spread, show_seconds
from benchmarks.sites import Sites, two_sites
from homeport.agent.reporting import report_item
from homeport.agent.target import reports
from homeport.model.estimate import Estimate, Rates, estimate
from homeport.model.operations import AskFacts, SideFacts
from homeport.model.planning import ResyncPlan, Way, plan_resync
from homeport.model.reports import ResyncRecord
from homeport.orchestration.rates import as_sides_digest, by_points, learned, rates_of
from homeport.units import GiB, MiB, show_size
from tests.world import ITEM

LIMIT = "what it took"
RUNS = 7
"""Of each size; the scale's own runs are too few for a median of times that vary by a third."""
ROOM = 2 * GiB
"""Memory that a run may need, page cache included: thrice what it moves, and some."""
WANTED = 0.2
"""How far an estimate may be off."""
POINTS = (1, 6, 3)
"""Sizes of the points that teach a delta's rate, in 64ths of the data."""
HELD: dict[Way, Sequence[int]] = {
    Way.EXACT: (12, 20, 32),
    Way.DIFFERENTIAL: (2, 10, 20),
    Way.FULL: (36, 46, 58),
}
"""Sizes the estimate is held at, in 64ths: none of them is one it was calibrated with."""
TAUGHT = ((Way.DIFFERENTIAL, 4), (Way.EXACT, 9), (Way.DIFFERENTIAL, 14))
"""The resyncs that each round learns from, in 64ths; an odd round, so that cases change sides."""
SMALL = 1
"""The size of those that teach what preparing and listing take, in 64ths."""
FIRST, APART = 24, (4, 3, 5)
"""The data of the disk that full copies begin with, and how far below each the one taught is."""


@dataclass
class Pupil:
    """Two sites, and what the server would keep of the item."""

    sites: Sites
    unit: int  # a 64th of the data
    facts: dict[str, Any] = field(default_factory=dict)
    seeds: int = 0  # of the random places that the guest writes to

    def first_copy(self) -> None:
        """Protect; the first copy is what a link's rate is known by at first."""
        self.facts["seed_took"] = self.sites.seed()
        self.facts["enable_changed"] = sum(one.changed for one in self._points())

    def points(self) -> None:
        """A few points as they come in an item's life."""
        for size in POINTS:
            self._write(size)
            _make_ready()
            position = self.sites.rotate()
            self.sites.both(lambda at=position: self.sites.standby.ledger.stands_at == at)  # type: ignore[misc]
            self.sites.running.one_pass()

    def small_ones(self) -> None:
        """Resyncs that move next to nothing, one in each direction."""
        for _ in range(2):
            self.resync(Way.EXACT, SMALL, learn=True)

    def resync(self, way: Way, size: int, *, learn: bool) -> ResyncRecord:
        """Fail over, write, estimate, reprotect; learn from it as a job does at its end."""
        self.sites.fail_over_now()
        self._write(size, grow=way is Way.FULL)
        plan, rates = self._planned(way)
        found = estimate(plan, rates)
        _make_ready()
        orders, took = self.sites.resync(way)
        record = self._record(way, plan, found, orders=orders, took=took)
        if learn:
            self.facts["lessons"] = learned(self.facts, plan, record)
        return record

    def _write(self, size: int, *, grow: bool = False) -> None:
        """The guest rewrites so much of the data, scattered; or fills the disk up to so much."""
        self.seeds += 1
        if grow:
            there = sum(disk.allocated for disk in self._facts(self.sites.running).disks)
            blocks = range(there // MiB, size * self.unit // MiB)
            self.sites.guest([(block * MiB, MiB) for block in blocks])
        else:
            total, within = size * self.unit, 64 * self.unit
            self.sites.guest(list(scattered(total, within=within, seed=self.seeds)))

    def _planned(self, way: Way) -> tuple[ResyncPlan, Rates]:
        """The plan of a reprotect as if the old side's record, or all of it, were lost."""
        old, running = self._facts(self.sites.standby), self._facts(self.sites.running)
        seen = {
            Way.DIFFERENTIAL: replace(old, tracked=False),
            Way.FULL: replace(old, disks=()),
        }
        report = report_item(self.sites.running.shelf, ITEM)
        rates = as_sides_digest(rates_of(self.facts, report), old, running)
        self.facts["rates"] = {**by_points(self.facts, report), "digest": rates.digest}
        return plan_resync(seen.get(way, old), running), rates

    def _record(
        self, way: Way, plan: ResyncPlan, found: Estimate, *, orders: float, took: float
    ) -> ResyncRecord:
        total = found.total
        return ResyncRecord(
            direction="",
            way=way.value,
            planned=plan.sends,
            moved=None,
            estimated=total.likely.total_seconds(),
            low=total.low.total_seconds(),
            high=total.high.total_seconds(),
            actual=orders + took,
            ended_at=datetime.now(UTC),
            preparing=orders,
            changed=self._points()[-1].changed,
        )

    def _points(self) -> Sequence[Any]:
        return reports(self.sites.standby.ledger)

    def _facts(self, host: Any) -> SideFacts:
        facts: SideFacts = host.order(AskFacts(item=ITEM))
        return facts


def run(ground: Ground) -> Iterator[Row]:
    """A row for each way and size, and one that says how many were near enough."""
    unit, rows = ground.scale.estimated // 64, []
    for row in chain(_scattered(ground, unit), _whole(ground, unit)):
        rows.append(row)
        yield row
    errors = [row.facts["error"] for row in rows]
    near = sum(abs(error) <= WANTED for error in errors)
    yield Row(
        bench="estimate",
        case=f"within {WANTED:.0%}: {near} of {len(errors)}",
        note=f"median error {median(map(abs, errors)):.0%}",
        facts={"near": near, "of": len(errors)},
    )


def _scattered(ground: Ground, unit: int) -> Iterator[Row]:
    """Exact and differential, on a disk full of data; in rounds, so that a slow moment is shared"""
    pupil = Pupil(two_sites(ground, "estimate", ground.disk(used=64 * unit)), unit)
    pupil.first_copy()
    pupil.points()
    pupil.small_ones()
    pupil.resync(Way.DIFFERENTIAL, 0, learn=False)  # disks are in the page cache from here on
    held = [(way, size) for way in (Way.EXACT, Way.DIFFERENTIAL) for size in HELD[way]]
    records: dict[tuple[Way, int], list[ResyncRecord]] = {case: [] for case in held}
    for _ in range(RUNS):
        for way, size in TAUGHT:
            if way is Way.EXACT:
                pupil.points()
            pupil.resync(way, size, learn=True)
        for way, size in held:
            if way is Way.EXACT:
                pupil.points()
            records[way, size].append(pupil.resync(way, size, learn=False))
    for (way, size), found in records.items():
        yield _row(way, f"{show_size(size * unit)} of {show_size(64 * unit)}", found)


def _whole(ground: Ground, unit: int) -> Iterator[Row]:
    """Full copies of a disk that grows, anew in each round."""
    records: dict[int, list[ResyncRecord]] = {size: [] for size in HELD[Way.FULL]}
    disk, facts = ground.disk(used=FIRST * unit), dict[str, Any]()
    for number in range(RUNS):
        sites = two_sites(ground, f"estimate-full-{number}", disk)
        pupil = Pupil(sites, unit, facts)
        pupil.first_copy()
        pupil.small_ones()
        for size, below in zip(records, APART, strict=True):
            pupil.resync(Way.FULL, size - below, learn=True)
            records[size].append(pupil.resync(Way.FULL, size, learn=False))
        rmtree(sites.root)
    for size, found in records.items():
        yield _row(Way.FULL, show_size(size * unit), found)


def _make_ready() -> None:
    """What an earlier run left to be written, or the machine gave away, is no part of the next."""
    os.sync()
    fetch_memory(ROOM)


def _row(way: Way, amount: str, records: Sequence[ResyncRecord]) -> Row:
    error = median(record.error for record in records)
    estimated = median(record.estimated for record in records)
    bounded = sum(record.low <= record.actual <= record.high for record in records)
    return Row(
        bench="estimate",
        case=f"{way.value}, {amount}",
        ours=Spread(tuple(record.actual for record in records)),
        note=f"estimated {show_seconds(estimated)}: {error:+.0%}; in bounds: {bounded}",
        facts={"estimated": estimated, "error": error, "bounded": bounded},
    )
