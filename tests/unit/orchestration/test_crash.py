"""
G10 for the programs: died at every boundary and resumed, the outcome is the undisturbed run's.

`EVERY` dies after every record, and once between every effect of an agent and its record, so that
everything that can run twice does. The drawn cases die at one boundary only.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from homeport.errors import NotFoundError
from homeport.model.codec import to_plain
from homeport.model.messages import ItemReport
from tests.hosts import DAMAGED, REFUSED, FakeHost
from tests.unit.orchestration.scripted import Deck
from tests.unit.orchestration.stages import (
    COMMITTED,
    HOME_PENDING,
    PENDING,
    PROTECTED,
    Request,
    clean_up,
    commit,
    disable,
    done,
    drill,
    failover,
    protect,
    reprotect,
    undo,
)

EVERY = [2, 3] * 120
"""Boundaries from the last record on: 2 is after an effect and before its record, 3 after it."""
MOMENT = re.compile(r"20\d\d-\d\d-\d\dT[\d:.]+(Z|\+00:00)")
SPANS = frozenset(
    {"took", "rto", "enable_took", "seed_took", "missing_seconds", "checksum", "low", "high"}
    | {"actual", "started", "answered", "preparing", "fixed"}
)

JOBS: dict[str, tuple[Sequence[Request], Request]] = {
    "protect": ((), protect()),
    "failover": (PROTECTED, failover()),
    "failover to a chosen point": (PROTECTED, failover(point="1-0")),
    "planned failover": (PROTECTED, failover(planned=True)),
    "change of point": (PENDING, failover(point="1-0")),
    "undo": (PENDING, undo()),
    "commit": (PENDING, commit()),
    "reprotect": (COMMITTED, reprotect()),
    "reprotect after failback": ((*HOME_PENDING, commit()), reprotect()),
    "test failover": (PROTECTED, drill()),
    "test cleanup": ((*PROTECTED, drill()), clean_up()),
    "disable": (PROTECTED, disable()),
    "disable after a commit": (COMMITTED, disable()),
}

FAILING: dict[str, tuple[Sequence[Request], Request, str, str]] = {
    "protect, arm refused": ((), protect(), "east", "arm"),
    "planned failover, no last capture": (
        PROTECTED,
        failover(planned=True),
        "east",
        "final-capture",
    ),
    "failover, fence refused": (PROTECTED, failover(), "east", "fence"),
    "failover, boot refused": (PROTECTED, failover(), "west", "promote"),
    "undo, old machine does not start": (PENDING, undo(), "east", "unfence"),
    "commit refused": (PENDING, commit(), "west", "accept"),
    "reprotect, replica refused": (COMMITTED, reprotect(), "east", "prepare-replica"),
    "reprotect, reverse refused": (COMMITTED, reprotect(), "west", "reverse"),
    "drill does not boot": (PROTECTED, drill(), "west", "test-boot"),
    "disable, release refused": (PROTECTED, disable(), "west", "release"),
}


def outcome(deck: Deck, job: Any) -> str:
    """All that may be looked at afterwards, less the times."""
    try:
        view: Any = deck.view()
    except NotFoundError:
        view = "gone"
    facts = {
        "job": (job.state.value, job.result, job.error),
        "tasks": [(task.name, task.state.value) for task in job.tasks],
        "item": view if view == "gone" else _plain_view(view),
        "hosts": [_host(deck.east), _host(deck.west)],
    }
    return MOMENT.sub("T", json.dumps(_timeless(facts), sort_keys=True, default=str))


def _plain_view(view: Any) -> Any:
    plain = to_plain(type(view), view)
    return {key: value for key, value in plain.items() if key != "current_rpo"}


def _host(host: FakeHost) -> Any:
    reports = to_plain(tuple[ItemReport, ...], host.reports())
    return (host.name, {name: state.value for name, state in host.machines.items()}, reports)


def _timeless(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _timeless(one) for key, one in value.items() if key not in SPANS}
    if isinstance(value, list | tuple):
        return [_timeless(one) for one in value]
    return value


def play(
    folder: Path,
    before: Sequence[Request],
    request: Request,
    crashes: list[int],
    failing: tuple[str, str] | None = None,
) -> str:
    folder.mkdir(parents=True, exist_ok=True)
    deck = Deck.open(folder)
    try:
        if before:
            done(deck, *before)
        if failing:
            host, kind = failing
            getattr(deck, host).fails[kind] = DAMAGED if kind == "promote" else REFUSED
        job = deck.accept(request)
        return outcome(deck, deck.run(job, crashes=crashes))
    finally:
        deck.catalog.close()


@pytest.mark.parametrize("name", JOBS)
def test_dying_at_every_step_changes_nothing(name: str, tmp_path: Path) -> None:
    before, request = JOBS[name]
    undisturbed = play(tmp_path / "a", before, request, [])
    assert play(tmp_path / "b", before, request, EVERY) == undisturbed
    assert '"Succeeded"' in undisturbed


@pytest.mark.parametrize("name", FAILING)
def test_dying_at_every_step_of_a_failure_changes_nothing(name: str, tmp_path: Path) -> None:
    before, request, host, kind = FAILING[name]
    undisturbed = play(tmp_path / "a", before, request, [], (host, kind))
    assert play(tmp_path / "b", before, request, EVERY, (host, kind)) == undisturbed
    assert '"Failed"' in undisturbed


@settings(max_examples=6, deadline=None)
@given(name=st.sampled_from(sorted(JOBS)), crashes=st.lists(st.integers(1, 60), max_size=3))
def test_dying_anywhere_changes_nothing(
    name: str, crashes: list[int], tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("crash")
    before, request = JOBS[name]
    undisturbed = play(folder / "a", before, request, [])
    assert play(folder / "b", before, request, crashes) == undisturbed
