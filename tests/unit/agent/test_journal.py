"""The journal: begun once, ended once, told until it is heard."""

from __future__ import annotations

from pathlib import Path

import pytest

from homeport.agent.journal import Journal
from homeport.model.ids import OperationId
from homeport.model.messages import OperationOrder, OperationReport, OperationState, Progress
from tests.unit.model.builders import ITEM


def order(identity: str = "job:1:fence") -> OperationOrder:
    return OperationOrder(id=OperationId(identity), kind="fence", item=ITEM, args={"epoch": 2})


def done(identity: str = "job:1:fence") -> OperationReport:
    return OperationReport(id=OperationId(identity), state=OperationState.DONE, result={"a": 1})


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    journal = Journal(tmp_path / "operations")
    journal.load()
    return journal


def next_life(journal: Journal) -> Journal:
    again = Journal(journal.folder)
    again.load()
    return again


def test_an_order_is_begun_once_in_this_life_and_the_next(journal: Journal) -> None:
    assert journal.take(order())
    assert not journal.take(order())
    assert not next_life(journal).take(order())


def test_what_was_begun_is_open_after_a_crash(journal: Journal) -> None:
    journal.take(order("b"))
    journal.take(order("a"))
    journal.end("a", done("a"))
    again = next_life(journal)
    assert [one.id for one in again.open_orders()] == ["b"]
    assert again.open_orders()[0].args == {"epoch": 2}


def test_an_end_is_told_until_it_is_recorded(journal: Journal) -> None:
    journal.take(order())
    journal.end("job:1:fence", done())
    assert next_life(journal).reports() == (done(),)
    journal.recorded("job:1:fence")
    assert journal.reports() == ()
    assert next_life(journal).reports() == ()
    assert not list(journal.folder.iterdir())


def test_what_still_runs_is_not_forgotten_by_a_late_word(journal: Journal) -> None:
    journal.take(order())
    journal.recorded("job:1:fence")
    journal.recorded("never heard of")
    assert [report.state for report in journal.reports()] == [OperationState.RUNNING]


def test_progress_is_told_while_it_runs_and_lost_with_the_process(journal: Journal) -> None:
    journal.take(order())
    journal.progress("job:1:fence", Progress(done=1, total=2))
    assert journal.reports()[0].progress == Progress(done=1, total=2)
    assert next_life(journal).reports()[0].progress is None
    journal.end("job:1:fence", done())
    journal.progress("job:1:fence", Progress(done=2, total=2))
    assert journal.reports() == (done(),)


def test_the_end_of_something_unknown_changes_nothing(journal: Journal) -> None:
    journal.end("unknown", done("unknown"))
    assert journal.reports() == ()


def test_an_entry_that_cannot_be_read_was_never_begun(journal: Journal) -> None:
    journal.take(order())
    (path,) = journal.folder.iterdir()
    path.write_bytes(path.read_bytes()[:-4])
    again = next_life(journal)
    assert again.open_orders() == []
    assert again.take(order())


def test_ids_of_any_form_have_a_file(journal: Journal) -> None:
    for identity in ("a/../b", "a" * 300, "ü:1", "a b"):
        assert journal.take(order(identity))
    assert len(next_life(journal).reports()) == 4
