"""
The estimate held against what it took, at sizes it was not calibrated with.

Rates are measured once in this run, on a disk of its own, as the product measures them: the link by
the first copy, digests by digesting. The time for preparing is apart: the estimate's is a fixed sum
for switching off a guest, which the twin does not do.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from functools import partial

from benchmarks.ground import Ground, scattered, stopwatch
from benchmarks.record import Row, Spread, show_seconds
from benchmarks.sites import Sites, two_sites
from homeport.dataplane.digest import COARSE, digest_blocks
from homeport.model.estimate import Rates, estimate
from homeport.model.operations import AskFacts
from homeport.model.planning import ResyncPlan, Way, plan_resync
from homeport.providers.disks.opening import open_reader
from homeport.units import GiB, MiB, show_size
from tests.world import ITEM

LIMIT = "what it took"


def run(ground: Ground) -> Iterator[Row]:
    """Rates, then a row for each size and way."""
    rates = _calibrated(ground)
    told = f"link {show_size(int(rates.link))}/s, digests {show_size(int(rates.digest))}/s"
    yield Row(bench="estimate", case="rates", note=told, facts={"rates": rates})
    used = ground.scale.used
    sites = two_sites(ground, "estimate")
    sites.seed()
    for number, total in enumerate((used // 64, used // 16, used // 4)):
        yield _case(sites, rates, Way.EXACT, total=total, within=used, seed=number)
    yield _case(sites, rates, Way.DIFFERENTIAL, total=used // 16, within=used, seed=9)


def _calibrated(ground: Ground) -> Rates:
    """The rates of a disk of an eighth of the run's size."""
    used = max(ground.scale.used // 8, 64 * MiB)
    disk = ground.disk(size=GiB, used=used)
    sites = two_sites(ground, "estimate-rates", disk)
    link = used / sites.seed()
    with closing(open_reader((disk,), "raw")) as reader:
        digest = partial(digest_blocks, reader.read, size=reader.size, block=COARSE)
        seconds = stopwatch(lambda: digest(allocated=reader.allocated()))
    return Rates(read=used / seconds, digest=used / seconds, link=link)


def _case(sites: Sites, rates: Rates, way: Way, *, total: int, within: int, seed: int) -> Row:
    sites.fail_over_now()
    sites.guest(list(scattered(total, within=within, seed=seed)))
    found = estimate(_planned(sites, way), rates)
    likely = (found.comparing + found.moving + found.catching_up).total_seconds()
    orders, took = sites.resync(way)
    error = (likely - took) / took
    return Row(
        bench="estimate",
        case=f"{way.value}, {show_size(total)} of {show_size(within)}",
        ours=Spread((took,)),
        note=f"estimated {show_seconds(likely)}: {error:+.0%}; preparing {show_seconds(orders)}",
        facts={"estimated": likely, "took": took, "error": error, "preparing": orders},
    )


def _planned(sites: Sites, way: Way) -> ResyncPlan:
    """The plan of a reprotect; a differential one as if the old side's record were lost."""
    plan = sites.plan()
    if way is not Way.DIFFERENTIAL:
        return plan
    old, running = (host.order(AskFacts(item=ITEM)) for host in (sites.standby, sites.running))
    return plan_resync(replace(old, tracked=False), running)
