"""What stands in the cells of the portal's tables on a bad day."""

from __future__ import annotations

from dataclasses import replace

import pytest

from homeport.interfaces import told
from homeport.interfaces.portal import tables
from homeport.interfaces.portal.drawing import TEMPLATES, iso
from homeport.interfaces.portal.tables import SHOWN, Table
from homeport.interfaces.words import Bit, Tone, said, when
from homeport.model.reports import ItemView
from homeport.model.unsent import UnsentView
from tests.unit.interfaces.cli import samples as s
from tests.unit.interfaces.portal.reading import read


def rows(table: Table) -> list[dict[str, str]]:
    return [
        {
            head: "".join(bit.text for bit in cell)
            for head, cell in zip(table.heads, row.cells, strict=True)
        }
        for row in table.rows
    ]


@pytest.mark.parametrize(
    ("view", "health", "rpo", "wrong"),
    [
        pytest.param(s.item(), "protected", "12 s of 5 min", "nothing", id="all well"),
        pytest.param(
            s.PENDING,
            "UNPROTECTED",
            "-",
            "Nothing is replicated after a failover: commit, then reprotect. "
            "Host e1 in east does not answer.",
            id="failed over, the old side silent",
        ),
        pytest.param(
            s.LATE,
            "late",
            "15 min 12 s of 5 min",
            f"{s.PROBLEM['message']} (DamagedObject)",
            id="late, with a problem",
        ),
        pytest.param(
            replace(s.ITEMS[3], standby=replace(s.WEST, alive=False)),
            "ended",
            "-",
            "nothing",
            id="disabled: a silent host is no matter",
        ),
    ],
)
def test_an_items_row(view: ItemView, health: str, rpo: str, wrong: str) -> None:
    (row,) = rows(tables.items([view], s.NOW))
    assert (row["Health"], row["RPO now"], row["What is wrong"]) == (health, rpo, wrong)


def test_an_item_without_a_point_has_a_dash() -> None:
    (row,) = rows(tables.items([s.item(newest_point=None, current_rpo=None)], s.NOW))
    assert (row["Newest point"], row["RPO now"]) == ("-", "-")


def test_points_are_newest_first_with_what_they_are_to_a_failover() -> None:
    found = rows(tables.points(s.POINTS, s.NOW))
    assert [(row["Point"], row["Marks"]) for row in found] == [
        ("3-17", "latest"),
        ("3-16", ""),
        ("3-15", "latest app-consistent"),
        ("3-14", "before failover"),
    ]


def test_jobs_say_what_they_are_at_or_why_they_failed() -> None:
    running, failed, ended = rows(tables.jobs(s.JOBS, s.NOW))
    assert running["Now at"].endswith("7 s left; waits: e1 in east does not answer")
    assert failed["Now at"] == f"{s.PROBLEM['message']} (DamagedObject)"
    assert (ended["Took"], ended["Now at"]) == ("1 min", "-")


def test_a_resync_outside_of_its_bounds_is_told_with_its_error() -> None:
    full, exact = rows(tables.resyncs(s.RESYNCS))
    assert (full["Way"], full["Moved"], full["Error"]) == ("full", "-", "-97%")
    assert (exact["Way"], exact["Moved"], exact["Error"]) == ("exact", "390 MiB", "+7%")


@pytest.mark.parametrize(("alive", "host"), [(True, "e1"), (False, "e1 (silent)")])
def test_an_image_set_aside_names_its_host(*, alive: bool, host: str) -> None:
    image = UnsentView.of(s.UNSENT, site="east", host="e1", alive=alive)
    (row,) = rows(tables.unsent([image], s.NOW))
    assert (row["Host"], row["Expires"]) == (host, "in 6 d 22 h")


@pytest.mark.parametrize("count", [0, SHOWN, SHOWN + 1])
def test_no_row_is_lost_to_folding(count: int) -> None:
    made = replace(tables.points(s.POINTS, s.NOW), rows=(tables.Row(cells=()),) * count)
    assert len(made.first) + len(made.rest) == count
    assert len(made.rest) == max(0, count - SHOWN)


class TestMarkup:
    def draw(self, *bits: Bit) -> str:
        parts = TEMPLATES.get_template("parts.html").make_module()
        return str(parts.say(said(*bits)))  # type: ignore[attr-defined]

    def test_tones_are_classes_and_plain_text_has_none(self) -> None:
        assert self.draw(Bit("a"), Bit("b", Tone.BAD)) == 'a<span class="bad">b</span>'

    def test_a_moment_is_a_time(self) -> None:
        (time,) = read(self.draw(when(s.NOW))).all("time")
        assert (time.text, time.attributes["datetime"]) == (
            "2026-03-14 09:30:00Z",
            "2026-03-14T09:30:00Z",
        )
        assert iso(s.NOW) == time.attributes["datetime"]

    def test_whatever_stands_in_a_text_is_escaped(self) -> None:
        evil = "<img src=x onerror=alert(1)>\"'&"
        drawn = self.draw(Bit(evil, Tone.WARN, s.NOW))
        assert "<img" not in drawn
        assert read(drawn).one("time").text == evil


class TestWarning:
    def test_only_a_failback_that_can_be_made_now_is_warned_of(self) -> None:
        assert "homeport test-failover crm" in told.failback_warning(s.HOME_SOON)
        for view in (
            s.item(),
            replace(s.HOME_SOON, state="Failing over"),
            replace(s.HOME_SOON, rehearsal=None),
        ):
            assert told.failback_warning(view) == ""
