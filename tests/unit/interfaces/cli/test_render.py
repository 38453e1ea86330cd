"""What every report looks like at 80 and 120 columns, to the letter."""

from __future__ import annotations

import os
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console, RenderableType

from homeport.client import JobNotDoneError, UnreachableServerError
from homeport.interfaces.cli.failure import words_of
from homeport.interfaces.cli.render import items, jobs, labs, places, rescue, resources, review
from homeport.model.resources import ResourceKind
from tests.unit.interfaces.cli import samples as s

GOLDEN = Path(__file__).parents[3] / "golden" / "cli"
DRAW = "HOMEPORT_DRAW_GOLDEN"
"""Set, the files are written instead of compared: look at the difference before it is committed."""

DRAWN: dict[str, RenderableType] = {
    "items": items.items(s.ITEMS, s.NOW),
    "items-none": items.items((), s.NOW),
    "item-protected": items.item(s.item(), s.NOW),
    "item-unprotected": items.item(s.PENDING, s.NOW),
    "item-late": items.item(s.LATE, s.NOW),
    "item-not-rehearsed": items.item(s.HOME_SOON, s.NOW),
    "points": items.points(s.POINTS, s.NOW),
    "points-none": items.points((), s.NOW),
    "receipt": items.receipt(s.RECEIPT),
    "receipt-planned": items.receipt(s.PLANNED),
    "receipt-completed": items.receipt(s.COMPLETED),
    "ledger": items.ledger(s.LEDGER),
    "jobs": jobs.jobs(s.JOBS, s.NOW),
    "job-running": jobs.job(s.RUNNING_JOB, s.NOW),
    "job-failed": jobs.job(s.FAILED_JOB, s.NOW),
    "board": jobs.board(
        [
            ("shop", s.RUNNING_JOB, ""),
            ("mail", s.FAILED_JOB, ""),
            ("crm", None, jobs.WAITS),
            ("wiki", None, "not started: The failover has not been committed."),
        ],
        s.NOW,
    ),
    "review": review.review(s.REVIEW),
    "review-refused": review.review(s.REFUSED_REVIEW),
    "review-silent": review.review(s.SILENT_REVIEW),
    "estimate": review.estimate(s.ESTIMATE, with_asr=False),
    "estimate-asr": review.estimate(s.ESTIMATE, with_asr=True),
    "groups": resources.resources((s.GROUP,), ResourceKind.GROUP),
    "sets": resources.resources((s.SET,), ResourceKind.SET),
    "capacity": resources.resources((s.RESERVATION,), ResourceKind.RESERVATION),
    "capacity-none": resources.resources((), ResourceKind.RESERVATION),
    "sites": places.sites((s.SITE, s.BARE_SITE)),
    "site": places.site(s.SITE, s.NOW),
    "site-bare": places.site(s.BARE_SITE, s.NOW),
    "vms": places.vms(s.VMS),
    "vm": places.vm(s.VMS[0]),
    "policies": places.policies(s.POLICIES),
    "policy": places.policy(s.POLICIES[1]),
    "labs": labs.labs((s.LAB,)),
    "rescue": rescue.items([(s.FOUND, s.VERDICTS)], s.NOW),
    "rescue-chosen": rescue.chosen(
        s.FOUND.points[1],
        s.VERDICTS[s.FOUND.points[1].position],
        {s.FOUND.points[0].position: s.VERDICTS[s.FOUND.points[0].position]},
    ),
    "error-unreachable": words_of(UnreachableServerError("http://127.0.0.1:8740", "refused")),
    "error-job": words_of(JobNotDoneError(s.FAILED_JOB)),
}


def drawn(words: RenderableType, width: int) -> str:
    """The text of something, without colour."""
    console = Console(
        file=StringIO(), width=width, highlight=False, emoji=False, markup=False, color_system=None
    )
    console.print(words, crop=False)
    assert isinstance(console.file, StringIO)
    return "\n".join(line.rstrip() for line in console.file.getvalue().splitlines()) + "\n"


@pytest.mark.parametrize("width", [80, 120])
@pytest.mark.parametrize("name", DRAWN)
def test_drawn_as_agreed(name: str, width: int) -> None:
    path = GOLDEN / f"{name}.{width}.txt"
    text = drawn(DRAWN[name], width)
    if DRAW in os.environ:
        path.write_text(text)
    assert text == path.read_text()
