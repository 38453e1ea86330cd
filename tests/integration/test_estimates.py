"""What a server tells beforehand, held against what its real agents then do with real disks."""

from __future__ import annotations

import os

import pytest

from homeport.model.reports import ResyncRecord
from homeport.units import KiB
from tests.integration.test_server_and_agents import Live, live, until

__all__ = ["live"]

pytestmark = [pytest.mark.real, pytest.mark.timeout(300)]


def write(live: Live, blocks: int) -> None:
    """The guest rewrites so many blocks, wherever it runs."""
    site = live.client.item("web").running.site
    host = live.world.east if site == "east" else live.world.west
    for block in range(blocks):
        host.compute.write("web", "vda", (block * 4 * KiB, os.urandom(4 * KiB)))


def round_trip(live: Live, *, way: str | None = None, blocks: int = 8) -> ResyncRecord:
    """Fail over, write, reprotect; estimated, and then done."""
    live.go_home()  # the other side, whichever that is
    write(live, blocks)
    told = live.client.review("web").ours.total
    live.reprotect(way=way)
    record = live.client.item("web").resyncs[-1]
    if way is None:
        assert record.low <= told.likely.total_seconds() <= record.high  # what was told, was kept
    return record


def well_formed(record: ResyncRecord) -> None:
    """Whether it was near is the benchmark's matter: a busy machine proves no estimate wrong."""
    assert 0 <= record.low < record.estimated < record.high
    assert 0 < record.preparing < record.actual
    assert record.changed is not None
    assert record.error == pytest.approx(record.estimated / record.actual - 1)


@pytest.mark.long
def test_after_the_first_resync_estimates_are_of_what_it_took(live: Live) -> None:
    live.protect()
    assert "time to prepare" in live.client.estimate("web").basis.partition("assumed: ")[2]
    first = round_trip(live)
    assert "time to prepare" in live.client.estimate("web").basis.partition("; ")[2]
    records = [round_trip(live, blocks=blocks) for blocks in (32, 1)]
    for record in records:
        well_formed(record)
    prepared = [record.preparing for record in (first, *records)]
    assert live.client.estimate("web").ours.preparing.total_seconds() == pytest.approx(prepared[-1])
    assert live.client.item("web").resyncs == (first, *records)
    assert live.client.estimate("web").resyncs == (first, *records)


@pytest.mark.long
def test_a_comparison_is_estimated_apart(live: Live) -> None:
    live.protect()
    round_trip(live)
    assert "comparisons" in live.client.estimate("web").basis.partition("assumed: ")[2]
    record = round_trip(live, way="differential")
    assert record.way == "differential"
    well_formed(record)


def test_a_planned_failover_tells_how_long_the_machine_was_away(live: Live) -> None:
    live.protect()
    live.go_home()
    receipt = live.client.item("web").receipt
    assert receipt is not None
    assert receipt.downtime is not None
    (job, *_) = (one for one in live.client.jobs(item="web") if one.kind == "Planned failover")
    assert job.result is not None
    assert job.ended_at is not None
    assert 0 < receipt.downtime.started <= (job.ended_at - job.created_at).total_seconds()
    assert job.result["downtime"]["started"] == receipt.downtime.started
    assert receipt.missing_bytes == 0


def test_a_failback_is_rehearsed_on_the_real_agents(live: Live) -> None:
    live.protect()
    round_trip(live)
    item = live.client.item("web")
    assert item.rehearsal is not None
    assert (item.rehearsal.site, item.rehearsal.failback) == ("east", True)
    assert not item.rehearsal.counts
    live.end(live.client.test_failover("web"))
    live.end(live.client.test_cleanup("web"))
    until(lambda: live.client.item("web").test is None)
    found = live.client.item("web").rehearsal
    assert found is not None
    assert "did not answer" in found.missing or found.counts
