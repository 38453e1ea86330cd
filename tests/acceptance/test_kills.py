"""
The whole journey on a real guest while server and agents are killed with -9 in the middle of jobs.

Each job of the demo is followed to its end with its processes dying under it; every claim of the
demo must hold all the same. Which process dies when is fixed, so a failure can be run again.
"""

from __future__ import annotations

import io
import os
import threading
import time
from collections.abc import Iterator
from contextlib import suppress

import pytest
from rich.console import Console

from homeport.client import JobNotDoneError
from homeport.errors import HomeportError, TransientError
from homeport.lab.journey import Journey
from homeport.lab.stage import EAST, WEST, Stage
from homeport.lab.telling import Story
from homeport.model.reports import JobReport

pytestmark = [pytest.mark.real, pytest.mark.guest, pytest.mark.long, pytest.mark.timeout(600)]

VICTIMS = {
    "protect": [(0.6, "server"), (1.5, EAST), (2.5, WEST)],
    "fail over": [(0.7, "server"), (2.0, WEST)],
    "commit": [(0.2, "server")],
    "reprotect": [(0.5, EAST), (1.2, "server"), (2.0, WEST)],
    "fail back": [(1.0, "server"), (2.5, EAST), (4.0, WEST)],
    "disable": [(0.3, "server"), (0.6, WEST)],
}
"""By job, what is killed how many seconds after its start. Services of hosts come up again."""
EAST_IS_LOST = ("fail over", "commit")
"""Jobs that the journey has done while there is no agent in east to wait for."""


class Killing(Journey):
    """The demo's journey with processes dying during its jobs."""

    def _job(self, title: str, job: JobReport) -> JobReport:
        killer = threading.Thread(target=self._kill, args=(title,), daemon=True)
        killer.start()
        report = self._to_the_end(job.id)
        killer.join(60)
        for site in (EAST, WEST):
            if title not in EAST_IS_LOST or site == WEST:
                self._eventually(lambda site=site: self.stage.wait_alive(self.client, site))
        if not report.succeeded:
            raise JobNotDoneError(report)
        return report

    def _kill(self, title: str) -> None:
        began = time.monotonic()
        for after, victim in VICTIMS[title]:
            time.sleep(max(0.0, began + after - time.monotonic()))
            if victim == "server":
                self.stage.restart_server()
                self.killed.append((title, victim))
                continue
            try:
                self.stage.lab.kill_process(victim, "agent")
                self.killed.append((title, victim))
            except HomeportError:
                continue  # that site is lost at the moment

    def _to_the_end(self, job: str) -> JobReport:
        for report in self._reports(job):
            if report.ended:
                return report
        raise AssertionError("a job is followed until it has ended")

    def _reports(self, job: str) -> Iterator[JobReport]:
        for _ in range(1200):
            with suppress(TransientError):
                yield self.client.job(job)
            time.sleep(0.25)

    def _eventually(self, act: object) -> None:
        for _ in range(200):
            try:
                act()  # type: ignore[operator]
            except TransientError:
                time.sleep(0.25)
            else:
                return
        raise AssertionError("the server did not come back")

    killed: list[tuple[str, str]]


def test_every_claim_holds_with_processes_dying_in_every_job() -> None:
    assert os.geteuid() == 0, "the lab needs root; CI runs as root"
    told = io.StringIO()
    story = Story(console=Console(file=told, width=120))
    stage = Stage(name="kills", tell=story.say)
    journey = Killing(stage=stage, story=story)
    journey.killed = []
    try:
        journey.run()
    finally:
        stage.close()
    assert story.true, told.getvalue()
    assert {victim for _, victim in journey.killed} == {"server", EAST, WEST}
