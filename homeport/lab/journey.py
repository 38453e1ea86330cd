"""
The demo: a real guest protected, lost, failed over, brought home and released, each claim proved.

`homeport demo` runs it. It ends with exit code 0 only if the guest's own records, its file systems
and the files on both sites' disks proved every claim.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

from rich.console import Console

from homeport.client import Client, JobNotDoneError
from homeport.lab import proofs
from homeport.lab.commands import wait_until
from homeport.lab.evidence import records_in_image, shape_of
from homeport.lab.layout import POOL_INSIDE
from homeport.lab.proofs import Crossing
from homeport.lab.stage import EAST, GUEST, POLICY, WEST, AckWatch, Stage
from homeport.lab.telling import Step, Story
from homeport.model.reports import ItemView, JobReport, LossReceipt
from homeport.model.requests import FailoverRequest, ProtectRequest
from homeport.model.review import Review
from homeport.units import MiB, show_size, show_span

DISK_SIZE = (256 + 512) * MiB
POINTS_WANTED = 3
WRITES_ON = 4.0
"""Seconds the guest is given to write on where the demo says that it does."""


def run_demo(*, keep: bool, as_json: bool, console: Console) -> None:
    """
    Run the whole journey on a stage of its own.

    Raises:
        NeedsRootError, MissingPackagesError: nothing was begun.
        SystemExit: with 1, when a claim did not hold.
    """
    story = Story(console=console, as_json=as_json)
    stage = Stage(tell=story.say)
    try:
        Journey(stage=stage, story=story).run()
    finally:
        if keep:
            story.say(f"Left up: {stage.folder}; take it down with: homeport lab down {stage.name}")
        else:
            stage.close()
    if not story.true:
        raise SystemExit(1)


@dataclass(kw_only=True)
class Journey:
    """The steps in their order; each leaves its figures and proofs in the story."""

    stage: Stage
    story: Story
    client: Client = field(default_factory=Client, init=False)  # the stage's, once it is open
    shape: dict[str, object] = field(init=False, default_factory=dict)
    crossed: Crossing = field(init=False)
    receipt: LossReceipt = field(init=False)

    def run(self) -> None:
        """All of it."""
        try:
            self._all()
        finally:
            self.client.close()

    def _all(self) -> None:
        began = time.monotonic()
        steps = (
            ("set up", "Two sites, a server, and a guest in east", self.set_up),
            ("protect", "Protect the guest to west", self.protect),
            ("fail over", "Lose east without warning, fail over to west", self.lose_and_fail_over),
            ("reprotect", "Commit, east comes back, reprotect", self.reprotect),
            ("fail back", "Fail back to east, planned", self.fail_back),
            ("protect again", "Reprotect again: all is as at first", self.reprotect_again),
            ("disable", "Disable: nothing is left", self.disable),
        )
        for number, (name, heading, act) in enumerate(steps, 1):
            self._step(Step(name=name), f"{number}  {heading}", act)
        whole = Step(name="all of it", seconds=time.monotonic() - began)
        self.story.steps.append(whole)
        self.story.end()

    def _step(self, step: Step, heading: str, act: Callable[[Step], None]) -> None:
        self.story.heading(heading)
        began = time.monotonic()
        act(step)
        step.seconds = time.monotonic() - began
        self.story.steps.append(step)

    # -- the steps --

    def set_up(self, _step: Step) -> None:
        """Sites, server, guest."""
        self.client = self.stage.open()
        self.story.say(f"server at {self.client.url}; sites east and west, each a host of its own")
        self.stage.add_guest()
        with self.stage.domain(EAST) as found:
            self.shape = shape_of(found.domain)
        self.watch = AckWatch(path=self.stage.ack_log(EAST))
        self.watch.start()
        self.story.say(f"guest {GUEST} runs, and writes a record to both disks again and again")

    def protect(self, step: Step) -> None:
        """Seed, then points every few seconds."""
        asked = ProtectRequest(vm=GUEST, source_site=EAST, target_site=WEST, policy=POLICY.name)
        job = self._job("protect", self.client.protect(asked))
        self._points(POINTS_WANTED)
        item = self.client.item(GUEST)
        step.rpo = item.current_rpo
        step.moved, step.size = _result(job).get("bytes_moved"), DISK_SIZE
        step.way = "first copy"
        self._tell_points()

    def lose_and_fail_over(self, step: Step) -> None:
        """The site goes; the newest point that had landed in west boots."""
        self.stage.lose(EAST)
        self.watch.stop()
        self.story.say("east is gone: its agent, libvirtd and QEMU killed, its cache store too")
        result = _result(self._job("fail over", self.client.failover(GUEST, FailoverRequest())))
        self.receipt = self.client.receipt(GUEST)
        step.rto, step.rpo = result.get("rto"), self.receipt.missing_seconds
        records = self.stage.records(WEST)
        self.crossed = proofs.crossing(self.stage.acks(EAST), self._acks_of(WEST))
        self._tell_receipt(self.receipt)
        self.story.prove(proofs.sound(records, self.stage.acks(WEST)))
        point_at = self.receipt.point_at
        known = self.watch.known_at(point_at) if point_at else {"os": 0, "data": 0}
        self.story.prove(proofs.up_to_the_point(self.crossed, known))
        self.story.prove(
            proofs.receipt_is_true(self.crossed, self.receipt.missing_seconds, self.stage.rate)
        )

    def reprotect(self, step: Step) -> None:
        """Commit; the other site returns; only what differs goes back."""
        self._job("commit", self.client.commit(GUEST))
        time.sleep(WRITES_ON)
        self.stage.bring_back(EAST)
        self.stage.wait_alive(self.client, EAST)
        self.story.say("east is back")
        wait_until(self._review_is_clear, awaited="east to tell what it holds", limit=60, pause=0.5)
        review = self.client.review(GUEST)
        self._tell_review(review)
        result = _result(self._job("reprotect", self.client.reprotect(GUEST)))
        self._resync_figures(step, result, review)
        self.receipt = self.client.receipt(GUEST)
        self._tell_receipt(self.receipt)
        self.story.prove(proofs.unsent_kept(self.crossed, self._unsent_records()))
        self._points(1)
        self._tell_points()

    def fail_back(self, step: Step) -> None:
        """Planned: the guest shuts down, its last writes cross, it boots at home."""
        start = self.stage.acks_end(EAST)
        asked = FailoverRequest(planned=True)
        result = _result(self._job("fail back", self.client.failover(GUEST, asked)))
        step.rto, step.rpo = result.get("rto"), 0.0
        self._tell_downtime(self.client.receipt(GUEST))
        records = self.stage.records(EAST)
        crossed = proofs.crossing(self.stage.acks(WEST), self._acks_of(EAST, start))
        self.story.prove(proofs.nothing_lost(crossed))
        self.story.prove(proofs.sound(records, self.stage.acks(EAST, start)))
        self.story.prove(proofs.denied(self.stage.start_by_hand(WEST)))
        self._job("commit", self.client.commit(GUEST))

    def reprotect_again(self, step: Step) -> None:
        """East to west, as at first; the recovery site's machine goes."""
        review = self.client.review(GUEST)
        self._tell_review(review)
        result = _result(self._job("reprotect", self.client.reprotect(GUEST)))
        self._resync_figures(step, result, review)
        self._points(POINTS_WANTED)
        item = self.client.item(GUEST)
        step.rpo = item.current_rpo
        self.story.prove(
            proofs.equal("it is protected from east to west again", "Protected", item.state)
        )

    def disable(self, _step: Step) -> None:
        """Everything Homeport made is gone, and the guest is as it was."""
        self._job("disable", self.client.disable(GUEST))
        left = [line.name for line in self.client.ledger() if line.gone_at is None]
        self.story.prove(proofs.equal("the ledger lists nothing that is left", [], left))
        with self.stage.domain(EAST) as found:
            self.story.prove(
                proofs.equal(
                    "the machine's shape is as at first", self.shape, shape_of(found.domain)
                )
            )
        disks = sorted(str(disk[1]) for disk in _disks(self.shape))
        self.story.prove(
            proofs.equal("east has its own disks and nothing else", disks, self.stage.left(EAST))
        )
        here = (self.stage.left(WEST), self.stage.machines(WEST))
        self.story.prove(proofs.equal("west has no file and no machine", ([], []), here))
        records = self.stage.records(EAST)
        self.story.prove(proofs.sound(records, self.stage.acks(EAST)))

    # -- the parts of steps --

    def _job(self, title: str, job: JobReport) -> JobReport:
        """Follow a job to its end, live; a job that fails ends the demo with its error."""
        with self.story.watcher(title) as watcher:
            for report in self.client.follow(job.id, pause=time.sleep, every=0.25):
                watcher.show(report)
                job = report
        if not job.succeeded:
            raise JobNotDoneError(job)
        return job

    def _points(self, count: int) -> None:
        awaited = f"{count} recovery points"
        wait_until(
            lambda: len(self.client.points(GUEST)) >= count, awaited=awaited, limit=120, pause=0.3
        )

    def _acks_of(self, site: str, start: int = 0) -> Any:
        """A site's acknowledgements, once the guest has given some on both disks there."""
        wait_until(
            lambda: all(self.stage.acks(site, start).numbers(disk) for disk in proofs.DISKS),
            awaited="the guest's records",
            limit=60,
            pause=0.2,
        )
        return self.stage.acks(site, start)

    def _review_is_clear(self) -> bool:
        return not self.client.review(GUEST).problems

    def _unsent_records(self) -> list[int]:
        images = self.stage.lab.host_folder(EAST).images
        found: list[int] = []
        for unsent in self.receipt.unsent:
            if unsent.disk.endswith("data"):
                found += records_in_image(images / Path(unsent.path).relative_to(POOL_INSIDE))
        return found

    def _resync_figures(self, step: Step, result: dict[str, Any], review: Review) -> None:
        step.moved, step.size = result.get("bytes_moved"), DISK_SIZE
        step.way, step.why = str(result.get("way")), str(result.get("reason"))
        record = self.client.item(GUEST).resyncs[-1]
        low, high = (show_span(timedelta(seconds=one)) for one in (record.low, record.high))
        self.story.say(
            f"estimated {show_span(timedelta(seconds=record.estimated))} ({low} to {high}), took "
            f"{show_span(timedelta(seconds=record.actual))}"
        )
        asr = review.asr
        step.asr = f"{show_span(asr.low)} to {show_span(asr.high)}"
        self.story.prove(
            proofs.only_what_differs(
                moved=int(result.get("bytes_moved") or 0),
                differs=int(result.get("bytes_planned") or 0),
                size=DISK_SIZE,
                way=str(result.get("way")),
            )
        )

    def _tell_points(self) -> None:
        points = self.client.points(GUEST)
        newest = points[-1]
        self.story.say(
            f"{len(points)} recovery points; the newest, {newest.position}, is "
            f"{newest.consistency} and changed {show_size(newest.changed)}"
        )
        item: ItemView = self.client.item(GUEST)
        self.story.say(f"{item.state}, {item.direction}, RPO now {item.current_rpo or 0:.1f} s")

    def _tell_receipt(self, receipt: LossReceipt) -> None:
        seconds = timedelta(seconds=receipt.missing_seconds or 0)
        self.story.say(
            f"loss receipt: point {receipt.point}; missing {show_span(seconds)} of writes; "
            f"{receipt.known}"
        )
        for unsent in receipt.unsent:
            self.story.say(f"set aside: {Path(unsent.path).name}, {show_size(unsent.size)}")

    def _tell_downtime(self, receipt: LossReceipt) -> None:
        if receipt.downtime is None:
            return
        ran = show_span(timedelta(seconds=receipt.downtime.started))
        answered = timedelta(seconds=receipt.downtime.answered or 0)
        guest = f", its guest answered after {show_span(answered)}" if answered else ""
        self.story.say(f"interrupted: the machine ran again after {ran}{guest}")

    def _tell_review(self, review: Review) -> None:
        self.story.say(f"review: {review.direction}, {review.way.value} resync: {review.reason}")
        self.story.say(
            f"        {show_size(review.sends)} to send, about "
            f"{show_span(review.ours.total.likely)}; ASR's formula: "
            f"{show_span(review.asr.low)} to {show_span(review.asr.high)}"
        )
        for disk in review.disks:
            for action in disk.actions:
                self.story.say(f"        {disk.disk}: {action}")
        for action in review.machine:
            self.story.say(f"        {action}")


def _result(job: JobReport) -> dict[str, Any]:
    return job.result or {}


def _disks(shape: dict[str, object]) -> list[tuple[str, str, str]]:
    found = shape["disks"]
    return found if isinstance(found, list) else []
