"""Each page as a browser gets it: what it says of an item in each state, and that it only looks."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from io import StringIO
from itertools import pairwise
from typing import Any

import pytest
from rich.console import Console, RenderableType
from sqlalchemy.exc import OperationalError

from homeport.errors import RefusedError
from homeport.interfaces.api.items import show_review
from homeport.interfaces.cli.render import items as cli_items
from homeport.interfaces.cli.render import review as cli_review
from homeport.interfaces.portal.drawing import HEADERS
from homeport.model.rehearsal import warning_of, words_of
from tests.unit.interfaces.api.test_unsent import set_aside
from tests.unit.interfaces.portal.conftest import Portal
from tests.unit.interfaces.portal.reading import Element, facts, read, table
from tests.unit.orchestration.stages import (
    COMMITTED,
    HOME_PENDING,
    PENDING,
    clean_up,
    disable,
    done,
    drill,
    protect,
    reprotect,
)

EVIL = "<script>alert('x')</script>\"&"
PAGES = ("/", "/items/shop", "/items/shop/review")
STAGES: dict[str, tuple[Any, ...]] = {
    "protected": (protect(),),
    "failed over": PENDING,
    "committed": COMMITTED,
    "on the way home": (*COMMITTED, reprotect()),
    "home, to be committed": HOME_PENDING,
}


def row_of(portal: Portal) -> dict[str, str]:
    (row,) = table(portal.page(), "Replicated items")
    return row


def lines(words: RenderableType) -> list[str]:
    """What the command line draws, with single spaces."""
    console = Console(file=StringIO(), width=400, color_system=None)
    console.print(words)
    assert isinstance(console.file, StringIO)
    return [" ".join(line.split()) for line in console.file.getvalue().splitlines()]


def land(portal: Portal, count: int) -> None:
    """Have so many more points landed, a minute apart."""
    (shipped,) = portal.deck.west.store.points.values()
    for _ in range(count):
        last, later = shipped[-1], timedelta(minutes=1)
        position = replace(last.position, sequence=last.position.sequence + 1)
        shipped.append(replace(last, position=position, taken_at=last.taken_at + later))
    portal.deck.tick(count * 60)


def commands(page: Element) -> list[str]:
    (listed,) = (one for one in page.all("ul") if "commands" in one.classes)
    return [one.text for one in listed.all("code")]


class TestItems:
    def test_with_none_it_says_how_to_protect_one(self, portal: Portal) -> None:
        page = portal.page()
        assert not page.all("table")
        assert "Protect a machine: homeport protect SITE/VM --to SITE" in page.one("main").text

    def test_a_protected_one_has_its_figures(self, portal: Portal) -> None:
        done(portal.deck, protect())
        row = row_of(portal)
        view = portal.deck.view()
        assert row.pop("Newest point").startswith(f"{view.newest_point.position}, ")
        assert row.pop("RPO now").endswith(" of 5 min")
        assert row == {
            "Item": "shop",
            "Health": "protected",
            "State": "Protected",
            "Direction": "east → west",
            "What is wrong": "nothing",
        }

    def test_its_name_leads_to_its_page(self, portal: Portal) -> None:
        done(portal.deck, protect())
        links = {one.text: one.attributes["href"] for one in portal.page().one("main").all("a")}
        assert links == {"shop": "/portal/items/shop"}
        assert read(portal.http.get(links["shop"]).text).one("h1").text == "shop"

    def test_a_late_one_says_so_in_words(self, portal: Portal) -> None:
        done(portal.deck, protect())
        portal.deck.west.lands = False
        portal.deck.tick(600)
        row = row_of(portal)
        assert row["Health"] == "late"
        assert row["RPO now"].startswith("10 min")

    def test_one_failed_over_is_unprotected_with_the_reason(self, portal: Portal) -> None:
        done(portal.deck, *PENDING)
        row = row_of(portal)
        assert (row["Health"], row["RPO now"]) == ("UNPROTECTED", "-")
        assert row["State"] == "Failover, commit pending"
        reason = portal.deck.view().unprotected_reason
        assert row["What is wrong"].lower() == f"{reason}.".lower()

    def test_a_silent_host_is_named(self, portal: Portal) -> None:
        done(portal.deck, protect())
        portal.deck.west.deaf = True
        portal.deck.tick(120)
        assert "Host w1 in west does not answer." in row_of(portal)["What is wrong"]

    def test_a_problem_comes_with_cause_remedy_and_code(self, portal: Portal) -> None:
        done(portal.deck, protect())
        portal.deck.east.problem = RefusedError(
            "It is cut.", code="DamagedObject", cause="Altered.", remedy="Wait."
        ).as_dict()
        portal.deck.tick()
        assert row_of(portal)["What is wrong"] == "It is cut. (DamagedObject)"
        (told,) = portal.page().of_class("bad-note")
        assert told.one("h2").text == "Problem of shop: It is cut."
        assert facts(told) == {"why": "Altered.", "do": "Wait.", "code": "DamagedObject"}

    def test_one_disabled_by_force_goes_when_its_host_has_cleaned_up(self, portal: Portal) -> None:
        done(portal.deck, protect())
        portal.deck.west.deaf = True
        portal.deck.tick(120)
        done(portal.deck, disable(force=True))
        row = row_of(portal)
        assert (row["Health"], row["State"]) == ("ended", "Disabled")
        portal.deck.west.deaf = False
        with portal.deck.catalog.write() as rows:
            (order,) = rows.operation_rows.orders("w1", [])
            rows.operation_rows.record("w1", portal.deck.west.carry_out(order))
        before = portal.vault()
        assert not portal.page().all("table")
        assert portal.vault() == before  # the API's list forgets it, a page does not


class TestItem:
    def test_it_tells_what_the_command_line_tells(self, portal: Portal) -> None:
        done(portal.deck, *COMMITTED, reprotect())
        view = portal.deck.view()
        page = facts(portal.page("/items/shop"))
        drawn = lines(cli_items.item(view, portal.deck.clock[0]))
        told = {f"{name} {value}" for name, value in page.items()}
        for name in ("runs on", "standby", "RPO", "newest point", "points", "disks", "moved"):
            (line,) = [line for line in drawn if line.startswith(f"{name} ")]
            assert line in told

    def test_points_and_jobs_are_listed_newest_first(self, portal: Portal) -> None:
        done(portal.deck, protect())
        land(portal, 2)
        page = portal.page("/items/shop")
        points = table(page, "Recovery points, newest first")
        assert len(points) == portal.deck.view().points > 1
        assert [row["Point"] for row in points] == sorted(
            (row["Point"] for row in points), key=lambda key: int(key.split("-")[1]), reverse=True
        )
        assert points[0]["Marks"].startswith("latest")
        (job,) = table(page, "Jobs, newest first")
        assert (job["Kind"], job["State"], job["Now at"]) == (
            "Enable replication",
            "Succeeded",
            "-",
        )

    def test_many_points_are_folded_away_and_none_is_lost(self, portal: Portal) -> None:
        done(portal.deck, protect())
        land(portal, 13)
        page = portal.page("/items/shop")
        count = portal.deck.view().points
        assert count > 10
        assert len(table(page, "Recovery points, newest first")) == count
        assert page.one("details").one("summary").text == f"{count - 10} more"
        assert len(page.one("details").one("tbody").all("tr")) == count - 10

    def test_what_can_be_done_is_shown_as_commands(self, portal: Portal) -> None:
        done(portal.deck, *PENDING)
        allowed = portal.deck.view().allowed
        assert commands(portal.page("/items/shop")) == [f"homeport {word} shop" for word in allowed]
        assert "homeport undo shop" in commands(portal.page("/items/shop"))

    def test_an_enabling_that_failed_is_begun_again_by_its_machine(self, portal: Portal) -> None:
        portal.deck.west.fails["prepare-target"] = RefusedError("No room.", code="PoolTooSmall")
        portal.deck.do(protect())
        assert portal.deck.view().state == "Enable failed"
        page = portal.page("/items/shop")
        assert "homeport protect east/shop --to west" in commands(page)
        (job,) = table(page, "Jobs, newest first")
        assert job["State"] == "Failed"
        assert job["Now at"].endswith("(PoolTooSmall)")

    def test_after_a_failover_there_is_the_receipt(self, portal: Portal) -> None:
        assert "failed over" not in self._facts(portal, protect())
        told = self._facts(portal, *PENDING[1:])
        assert told["failed over"].endswith("unplanned")
        assert told["missing"] == portal.deck.view().receipt.known

    def _facts(self, portal: Portal, *requests: Any) -> dict[str, str]:
        done(portal.deck, *requests)
        return facts(portal.page("/items/shop"))

    def test_writes_set_aside_are_listed_with_their_host(self, portal: Portal) -> None:
        done(portal.deck, protect())
        assert table(portal.page("/items/shop"), "Writes set aside") == []
        set_aside(portal.deck.east, "unsent")
        portal.deck.tick()
        portal.deck.east.deaf = True
        portal.deck.tick(120)
        (row,) = table(portal.page("/items/shop"), "Writes set aside")
        assert (row["Disk"], row["Size"], row["Host"]) == ("disk0", "7 MiB", "e1 (silent)")

    def test_resyncs_are_told_with_what_they_took(self, portal: Portal) -> None:
        done(portal.deck, *COMMITTED, reprotect())
        (record,) = portal.deck.view().resyncs
        (row,) = table(portal.page("/items/shop"), "Resyncs, newest first")
        assert (row["Direction"], row["Way"]) == (record.direction, record.way)

    def test_a_job_at_work_says_what_it_waits_for(self, portal: Portal) -> None:
        done(portal.deck, protect())
        told: list[str] = []
        real = portal.deck.tick
        portal.deck.west.lands = False

        def tick(seconds: float = 1.0) -> None:
            real(seconds)
            rows = table(portal.page("/items/shop"), "Jobs, newest first")
            told.extend(row["Now at"] for row in rows if row["State"] == "In progress")
            portal.deck.west.lands = len(told) > 2

        portal.deck.tick = tick  # type: ignore[method-assign]
        done(portal.deck, COMMITTED[1])
        assert told
        assert all(words != "-" for words in told)


class TestRehearsal:
    """A failback that nobody has rehearsed: page, review, API and command line say the same."""

    def test_not_rehearsed_is_told_on_the_item_and_its_review(self, portal: Portal) -> None:
        done(portal.deck, *COMMITTED, reprotect())
        view = portal.deck.view()
        words = warning_of(view.rehearsal, "shop")
        assert words
        for path in PAGES[1:]:
            (note,) = portal.page(path).of_class("warn-note")
            assert note.text == f"Not rehearsed. {words}"
        assert facts(portal.page("/items/shop"))["rehearsal"] == words_of(view.rehearsal)

    def test_a_drill_that_waits_for_its_cleanup_does_not_count(self, portal: Portal) -> None:
        done(portal.deck, *COMMITTED, reprotect(), drill())
        (note,) = portal.page("/items/shop").of_class("warn-note")
        assert "has not been cleaned up" in note.text
        assert "homeport test-cleanup shop" in commands(portal.page("/items/shop"))

    def test_rehearsed_is_told_without_a_warning(self, portal: Portal) -> None:
        done(portal.deck, *COMMITTED, reprotect(), drill(), clean_up())
        for path in PAGES[1:]:
            assert not portal.page(path).of_class("warn-note")
        told = facts(portal.page("/items/shop"))["rehearsal"]
        assert told.startswith("a test failover at east succeeded, ")

    def test_the_first_failover_away_is_no_failback(self, portal: Portal) -> None:
        done(portal.deck, protect())
        assert not portal.page("/items/shop").of_class("warn-note")
        told = facts(portal.page("/items/shop"))["rehearsal"]
        assert told == "no test failover at west counts: none has been made"

    def test_before_the_reprotect_the_review_advises_it(self, portal: Portal) -> None:
        done(portal.deck, *COMMITTED)
        (notes,) = portal.page("/items/shop/review").of_class("notes")
        assert "test a failover at east before failing back" in notes.text


class TestReview:
    def test_it_tells_what_the_command_line_tells(self, portal: Portal) -> None:
        done(portal.deck, *COMMITTED)
        made = show_review("shop", portal.deck)
        drawn = lines(cli_review.review(made))
        assert len(drawn) > 15
        page = portal.page("/items/shop/review").one("main")
        words = set(page.text.split())
        for line in drawn:
            known = line.removeprefix("- ").removeprefix("note: ").split()
            assert set(known) <= words, line

    def test_settings_disks_and_both_estimates_are_there(self, portal: Portal) -> None:
        done(portal.deck, *COMMITTED)
        made = show_review("shop", portal.deck)
        page = portal.page("/items/shop/review")
        told = facts(page)
        for row in made.rows[1:]:
            assert told[row.setting].startswith(row.value)
            assert told[row.setting].count("(new)") == int(row.new)
        assert [head.text for head in page.all("h3")] == [disk.disk for disk in made.disks]
        for disk in made.disks:
            for action in (disk.reason, *disk.actions):
                assert action in [line.text for line in page.all("li")]
        assert told["way"] == f"{made.way.value}: {made.reason}"
        assert "20 to 30 min to begin" in told["time, ASR's formula"]
        assert told["time, ours"]

    def test_with_nothing_in_the_way_it_gives_the_command(self, portal: Portal) -> None:
        done(portal.deck, *COMMITTED)
        (note,) = portal.page("/items/shop/review").of_class("good-note")
        assert note.text == "Nothing stands in the way. Start it: homeport reprotect shop"

    def test_all_problems_are_told_at_once(self, portal: Portal) -> None:
        done(portal.deck, *PENDING)
        portal.deck.east.available = 0
        made = show_review("shop", portal.deck)
        page = portal.page("/items/shop/review")
        sections = [one for one in page.all("section") if "bad-note" in one.classes]
        assert [facts(one)["code"] for one in sections] == [one["code"] for one in made.problems]
        assert "NotCommitted" in [facts(one)["code"] for one in sections]
        for one, problem in zip(sections, made.problems, strict=True):
            assert one.one("h2").text == f"Problem: {problem['message']}"
            assert (facts(one)["why"], facts(one)["do"]) == (problem["cause"], problem["remedy"])

    def test_a_silent_side_is_a_problem_with_its_remedy(self, portal: Portal) -> None:
        done(portal.deck, *COMMITTED)
        portal.deck.east.deaf = True
        portal.deck.tick(120)
        page = portal.page("/items/shop/review")
        assert "1 problem stands in the way; it cannot be started." in page.one("main").text
        assert not page.all("h3")

    def test_a_question_an_agent_refuses_is_a_page(self, portal: Portal) -> None:
        done(portal.deck, *COMMITTED)
        portal.deck.east.fails["facts"] = RefusedError(EVIL, code="LedgerAway", remedy="Mount it.")
        page = portal.page("/items/shop/review", status=409)
        assert page.one("h1").text == f"Not shown: {EVIL}"
        assert facts(page)["code"] == "LedgerAway"


@pytest.mark.parametrize("stage", STAGES)
def test_no_page_changes_anything_in_any_state(portal: Portal, stage: str) -> None:
    done(portal.deck, *STAGES[stage])
    portal.deck.clock[0] += timedelta(seconds=1)
    before = portal.vault()
    for path in PAGES:
        portal.page(path)
    assert portal.vault() == before


@pytest.mark.parametrize("path", [*PAGES, "/items/none", "/portal.css"])
@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
def test_pages_are_only_read(portal: Portal, path: str, method: str) -> None:
    answer = portal.http.request(method, f"/portal{path}", json={})
    assert answer.status_code == 405
    assert set(answer.headers["allow"].split(", ")) == {"GET", "HEAD"}
    told = facts(read(answer.text))
    assert told["why"] == "The portal shows, and changes nothing."


class TestRefusals:
    @pytest.mark.parametrize(
        ("path", "status", "code"),
        [
            ("/items/none", 404, "NotFound"),
            ("/items/none/review", 404, "NotFound"),
            ("/items/a..b", 422, "InvalidName"),
            ("/items/%3Cscript%3E", 422, "InvalidName"),
            ("/nowhere", 404, "NotFound"),
            ("/items/", 404, "NotFound"),
            ("/%3Cscript%3E/%22x", 404, "NotFound"),
        ],
    )
    def test_they_are_pages_with_code_and_remedy(
        self, portal: Portal, path: str, status: int, code: str
    ) -> None:
        page = portal.page(path, status=status)
        assert facts(page)["code"] == code
        assert facts(page)["do"]
        assert f"HTTP status {status}." in page.one("main").text
        assert not page.all("script")

    def test_an_item_that_was_disabled_is_told_as_such(self, portal: Portal) -> None:
        done(portal.deck, protect(), disable())
        portal.http.get("/v1/items")  # it is forgotten as the list is asked for
        page = portal.page("/items/shop", status=404)
        assert facts(page)["code"] == "ItemDisabled"
        assert "homeport jobs show" in facts(page)["do"]

    def test_a_database_that_is_away_is_told(
        self, portal: Portal, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def away() -> None:
            raise OperationalError("select", {}, OSError("gone"))

        monkeypatch.setattr(portal.deck, "look", away)
        assert facts(portal.page("/", status=503))["code"] == "DatabaseAway"

    def test_what_was_not_foreseen_is_a_page_too(
        self, portal: Portal, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def broken() -> None:
            raise ZeroDivisionError(EVIL)

        monkeypatch.setattr(portal.deck, "look", broken)
        page = portal.page("/", status=500)
        assert facts(page)["code"] == "Internal"
        assert EVIL in page.one("h1").text
        assert not page.all("script")


class TestSafety:
    def test_what_agents_say_is_text_on_every_page(self, portal: Portal) -> None:
        done(portal.deck, *COMMITTED)
        portal.deck.east.problem = {
            key: f"{key} {EVIL}" for key in ("code", "message", "cause", "remedy")
        } | {"kind": "refused"}
        portal.deck.tick()
        for path in PAGES:
            answer = portal.http.get(f"/portal{path}")
            assert "<script" not in answer.text
        assert f"message {EVIL}" in portal.page("/items/shop").one("main").text
        assert f"message {EVIL}" in portal.page("/").one("main").text

    @pytest.mark.parametrize("path", [*PAGES, "/items/none", "/nowhere", "/portal.css"])
    def test_every_answer_carries_the_headers(self, portal: Portal, path: str) -> None:
        done(portal.deck, protect())
        answer = portal.http.get(f"/portal{path}")
        for name, value in HEADERS.items():
            assert answer.headers[name] == value
        policy = dict(
            part.strip().split(" ", 1) for part in HEADERS["Content-Security-Policy"].split(";")
        )
        assert policy["default-src"] == policy["frame-ancestors"] == "'none'"
        assert policy["style-src"] == "'self'"
        assert "unsafe" not in HEADERS["Content-Security-Policy"]

    @pytest.mark.parametrize("stage", STAGES)
    def test_nothing_runs_is_sent_or_styled_in_a_page(self, portal: Portal, stage: str) -> None:
        done(portal.deck, *STAGES[stage])
        for path in PAGES:
            page = portal.page(path)
            assert not page.all("script", "form", "input", "button", "style", "iframe", "object")
            for one in page.all("a", "p", "span", "td", "th", "div", "section", "table", "main"):
                names = one.attributes.keys()
                assert not [name for name in names if name == "style" or name.startswith("on")]


class TestReadable:
    @pytest.mark.parametrize("stage", STAGES)
    def test_pages_have_the_landmarks_and_order_of_headings(
        self, portal: Portal, stage: str
    ) -> None:
        done(portal.deck, *STAGES[stage])
        for path in PAGES:
            page = portal.page(path)
            assert page.one("html").attributes["lang"] == "en"
            assert page.one("title").text.endswith("· Homeport")
            for landmark in ("header", "nav", "main", "footer", "h1"):
                assert len(page.all(landmark)) == 1
            levels = [int(one.tag[1]) for one in page.all("h1", "h2", "h3")]
            assert levels[0] == 1
            assert all(after <= before + 1 for before, after in pairwise(levels))

    def test_the_keyboard_can_skip_to_the_content(self, portal: Portal) -> None:
        page = portal.page()
        first = page.one("body").all("a")[0]
        assert first.attributes["href"] == f"#{page.one('main').attributes['id']}"

    def test_tables_have_captions_and_scopes(self, portal: Portal) -> None:
        done(portal.deck, *COMMITTED, reprotect())
        for path in PAGES[:2]:
            tables = portal.page(path).all("table")
            assert tables
            for one in tables:
                assert one.one("caption").text
                scopes = {head.attributes["scope"] for head in one.one("thead").all("th")}
                assert scopes == {"col"}
                heads = [row.one("th") for row in one.one("tbody").all("tr")]
                assert {head.attributes["scope"] for head in heads} == {"row"}
                roles = {row.attributes["role"] for row in one.all("tr")}
                assert (one.attributes["role"], roles) == ("table", {"row"})

    def test_moments_can_be_read_by_programs(self, portal: Portal) -> None:
        done(portal.deck, protect())
        times = portal.page("/items/shop").all("time")
        assert len(times) > 3
        newest = portal.deck.view().newest_point.taken_at
        assert f"{newest:%Y-%m-%dT%H:%M:%SZ}" in [one.attributes["datetime"] for one in times]

    def test_where_one_is_can_be_gone_back_from(self, portal: Portal) -> None:
        done(portal.deck, protect())
        trail = portal.page("/items/shop/review").one("nav")
        links = [one.attributes["href"] for one in trail.all("a")]
        assert links == ["/portal/", "/portal/items/shop"]
        assert trail.all("li")[-1].attributes["aria-current"] == "page"


class TestPlaces:
    def test_the_root_leads_to_the_portal(self, portal: Portal) -> None:
        for path in ("/", "/portal"):
            answer = portal.http.get(path, follow_redirects=False)
            assert answer.status_code == 307
            assert answer.headers["location"].endswith("/portal/")
        assert read(portal.http.get("/").text).one("h1").text == "Replicated items"

    def test_links_hold_below_a_prefix_of_a_proxy(self, portal: Portal) -> None:
        portal.http.app.root_path = "/dr"  # type: ignore[attr-defined]
        page = read(portal.http.get("/dr/portal/").text)
        hrefs = [one.attributes["href"] for one in page.all("link", "a")]
        assert {href for href in hrefs if href[0] == "/"} == {
            "/dr/portal/portal.css",
            "/dr/portal/",
        }

    def test_a_head_request_has_the_headers_alone(self, portal: Portal) -> None:
        answer = portal.http.head("/portal/")
        assert (answer.status_code, answer.text) == (200, "")

    def test_the_api_goes_on_answering_in_json(self, portal: Portal) -> None:
        assert portal.http.get("/v1/items").json() == []
        assert portal.http.get("/nowhere").json()["error"]["code"] == "NotFound"
        paths = portal.http.get("/openapi.json").json()["paths"]
        assert not [path for path in paths if path == "/" or path.startswith("/portal")]
