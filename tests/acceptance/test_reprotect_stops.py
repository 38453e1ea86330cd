"""A reprotect that is cancelled, fails, or dies at a task: nothing is lost, and it goes on."""

from __future__ import annotations

import pytest

from homeport.errors import HomeportError
from homeport.lab.stage import GUEST
from homeport.model.position import Position
from homeport.model.reports import JobReport
from homeport.orchestration.reprotect import TASKS
from tests.acceptance.pair import Pair

pytestmark = [pytest.mark.real, pytest.mark.guest, pytest.mark.long, pytest.mark.timeout(420)]
RESYNC = "Resynchronisation"
SKIPPED = ("Committing failover", "Removing temporary replicas")
"""Tasks at which nothing can die: they were done before."""
CANCELLED_AT = ("Discovering replica virtual machine", "Preparing replica disks", RESYNC)


def failed_over(pair: Pair) -> Position:
    """Committed, with writes of both sides; the point that they share."""
    pair.fail_over()
    pair.commit()
    common = pair.review(**pair.kept).plan.common
    assert common is not None
    return common


def stopped(pair: Pair, report: JobReport, common: Position, before: dict[str, str]) -> None:
    """The item is as it was, the old disks hold what they held, and nothing is left over."""
    assert not report.succeeded
    assert report.error is not None
    assert pair.client.item(GUEST).state == "Failover committed"
    assert pair.digests(pair.there, common) == before
    pair.nothing_orphaned()


def goes_on(pair: Pair) -> None:
    """The same request again."""
    assert (pair.done(pair.start_reprotect()).result or {})["way"] == "exact"
    pair.same_at_both()
    pair.records(pair.here)


def test_cancelled_at_a_task_it_leaves_the_old_disks_as_they_were(pair: Pair) -> None:
    common = failed_over(pair)
    before = pair.digests(pair.there, common)
    for task in CANCELLED_AT:
        with pair.store_cut(pair.here, seen_from=pair.there):
            job = pair.start_reprotect()
            pair.reaches(job, task)
            pair.cli("jobs", "cancel", job.id)
            report = pair.ended(job)
        assert report.state == "Cancelled", report
        stopped(pair, report, common, before)
    goes_on(pair)


def test_without_room_in_the_store_it_says_so_and_goes_on_when_there_is_some(pair: Pair) -> None:
    common = failed_over(pair)
    before = pair.digests(pair.there, common)
    with pair.no_room() as fill:
        job = pair.start_reprotect()

        def told() -> bool:
            fill()  # objects of the direction that ended go meanwhile
            words = " ".join(task.waits_for for task in pair.client.job(job.id).tasks)
            return f"{pair.stage.store(pair.here).as_uri()} is full" in words

        pair.until(told, "the job to say that the store is full")
        assert pair.digests(pair.there, common) == before
    assert (pair.done(job).result or {})["way"] == "exact"
    pair.same_at_both()
    pair.records(pair.here)


def killed_at(pair: Pair, task: str) -> None:
    """Both agents and the server die at a task of the job; the job goes on to its end."""
    job = pair.start_reprotect()
    pair.reaches(job, task)
    for site in (pair.here, pair.there):
        pair.stage.lab.kill_process(site, "agent")
    pair.stage.restart_server()
    for site in (pair.here, pair.there):
        pair.stage.wait_alive(pair.client, site)
    report = pair.ended(job)
    if not report.succeeded:
        assert pair.client.item(GUEST).state == "Failover committed", report
        goes_on(pair)
    pair.same_at_both()
    pair.records(pair.here)


def test_everything_dies_in_the_resync_and_it_goes_on(pair: Pair) -> None:
    failed_over(pair)
    killed_at(pair, RESYNC)


@pytest.mark.parametrize("task", [one for one in TASKS if one not in (RESYNC, *SKIPPED)])
def test_everything_dies_at_any_task_and_it_goes_on(pair: Pair, task: str) -> None:
    failed_over(pair)
    try:
        killed_at(pair, task)
    except HomeportError as error:
        raise AssertionError(f"at {task}: {error.message} {error.cause}") from error
