"""Every command against a real server: what it does, what it prints, and how it ends."""

from __future__ import annotations

from datetime import timedelta

import pytest

from homeport.interfaces.cli.failure import ExitCode
from homeport.model.codec import from_plain
from homeport.model.protection import State
from homeport.model.reports import ItemView, JobReport, LedgerLine, PointView, VmReport
from homeport.model.review import Review
from tests.hosts import REFUSED
from tests.unit.interfaces.cli.conftest import Shell

PROTECT = "protect east/shop --to west"
FAIL_OVER = "failover shop --yes"


def fail_over(shell: Shell) -> None:
    shell.run(PROTECT)
    shell.run(FAIL_OVER)


def commit(shell: Shell) -> None:
    fail_over(shell)
    shell.run("commit shop --yes")


def state(shell: Shell) -> State:
    return State(shell.data("show shop")["state"])


class TestTheWholeWay:
    def test_there_and_home_again(self, shell: Shell) -> None:
        shell.run(PROTECT)
        assert state(shell) is State.PROTECTED
        shell.run("failover shop --planned --yes")
        assert state(shell) is State.COMMIT_PENDING
        shell.run("commit shop --yes")
        assert state(shell) is State.COMMITTED
        shell.run("reprotect shop")
        assert shell.data("show shop")["direction"] == "west -> east"
        shell.run(FAIL_OVER)
        shell.run("commit shop --yes")
        shell.run("reprotect shop --keep-machine")
        assert shell.data("show shop")["direction"] == "east -> west"
        assert "done" in shell.run("disable shop --yes").stdout
        assert shell.data("items") == []

    def test_one_that_was_disabled_says_so_and_its_jobs_stay(self, shell: Shell) -> None:
        shell.run(PROTECT)
        shell.run("disable shop --yes")
        job = shell.data("jobs list --item shop")[0]
        assert job["kind"] == "Disable replication"
        error = shell.refusal("show shop", code=ExitCode.NOT_FOUND)
        assert (error["code"], job["id"] in error["cause"]) == ("ItemDisabled", True)
        assert "homeport protect" in error["remedy"]
        assert shell.refusal("show mail", code=ExitCode.NOT_FOUND)["code"] != "ItemDisabled"
        shell.run(PROTECT)
        assert state(shell) is State.PROTECTED

    def test_a_failback_that_was_not_rehearsed_is_warned_of(self, shell: Shell) -> None:
        shell.run(PROTECT)
        assert "No test failover" not in shell.run("failover shop --planned --yes").stderr
        for line in ("commit shop --yes", "reprotect shop"):
            shell.run(line)
        assert shell.data("show shop")["rehearsal"]["missing"] == "none has been made"
        warned = shell.run("failover shop --planned --yes")
        assert "No test failover at east has succeeded since the reprotect" in " ".join(
            warned.stderr.split()
        )

    def test_a_failback_that_was_rehearsed_is_not(self, shell: Shell) -> None:
        commit(shell)
        for line in ("reprotect shop", "test-failover shop", "test-cleanup shop"):
            shell.run(line)
        assert "a test failover at east succeeded" in shell.run("show shop").stdout
        assert shell.run("failover shop --planned --yes").stderr == ""

    def test_undo_gives_back_the_old_machine(self, shell: Shell) -> None:
        fail_over(shell)
        shell.run("undo shop")
        assert state(shell) is State.PROTECTED
        assert shell.data("show shop")["running"]["site"] == "east"

    def test_a_point_is_chosen_by_its_position(self, shell: Shell) -> None:
        shell.run(PROTECT)
        chosen = shell.data("points shop")[0]["position"]
        job = shell.data(f"{FAIL_OVER} --point {chosen}")
        assert job["request"]["point"] == chosen
        assert shell.data("receipt shop")["point"] == chosen

    def test_a_drill_is_booted_and_cleaned_up(self, shell: Shell) -> None:
        shell.run(PROTECT)
        shell.run("test-failover shop --network lan")
        assert shell.data("show shop")["test"]["machine"] == "shop-test"
        assert "clean up when done" in shell.run("show shop").stdout
        shell.run("test-cleanup shop")
        assert shell.data("show shop")["test"] is None
        assert state(shell) is State.PROTECTED


class TestUnprotected:
    @pytest.mark.parametrize("line", ["items", "show shop"])
    def test_it_is_said_loudly_wherever_the_item_is_shown(self, shell: Shell, line: str) -> None:
        commit(shell)
        assert "UNPROTECTED" in shell.run(line).stdout

    @pytest.mark.parametrize("line", [FAIL_OVER, "commit shop --yes"])
    def test_it_is_said_at_the_end_of_the_job_that_made_it_so(
        self, shell: Shell, line: str
    ) -> None:
        shell.run(PROTECT)
        if line != FAIL_OVER:
            shell.run(FAIL_OVER)
        assert "UNPROTECTED" in shell.run(line).stdout

    def test_a_protected_item_is_not_called_so(self, shell: Shell) -> None:
        shell.run(PROTECT)
        assert "UNPROTECTED" not in shell.run("items").stdout

    def test_a_failover_ends_with_its_receipt(self, shell: Shell) -> None:
        shell.run(PROTECT)
        assert "Loss receipt" in shell.run(FAIL_OVER).stdout


class TestJson:
    def test_reports_are_those_of_the_api(self, shell: Shell) -> None:
        fail_over(shell)
        assert from_plain(tuple[ItemView, ...], shell.data("items"))[0].name == "shop"
        assert from_plain(ItemView, shell.data("show shop")).unprotected
        assert from_plain(tuple[PointView, ...], shell.data("points shop"))
        assert from_plain(tuple[VmReport, ...], shell.data("vm list"))
        assert from_plain(tuple[LedgerLine, ...], shell.data("ledger"))
        assert from_plain(tuple[JobReport, ...], shell.data("jobs list"))
        shell.run("commit shop --yes")
        assert from_plain(Review, shell.data("review shop")).direction == "west -> east"

    def test_a_job_waited_for_is_one_document_of_its_end(self, shell: Shell) -> None:
        job = from_plain(JobReport, shell.data(PROTECT))
        assert job.succeeded

    def test_a_job_not_waited_for_is_its_id(self, shell: Shell) -> None:
        shell.deck.idles = True
        started = shell.data(f"{PROTECT} --no-wait")
        assert shell.data(f"jobs show {started['job']}")["state"] == "Not started"

    def test_an_id_alone_is_printed_for_a_shell_to_keep(self, shell: Shell) -> None:
        shell.deck.idles = True
        job = shell.run(f"{PROTECT} --no-wait").stdout.strip()
        assert shell.data("jobs list")[0]["id"] == job


class TestEndings:
    def test_what_is_named_does_not_exist(self, shell: Shell) -> None:
        assert shell.refusal("show nobody", code=ExitCode.NOT_FOUND)["code"]

    def test_a_refusal_says_what_why_and_what_to_do(self, shell: Shell) -> None:
        fail_over(shell)
        result = shell.run("reprotect shop", code=ExitCode.REFUSED)
        assert result.stdout == ""
        for words in ("error:", "why", "do", "homeport commit", "NotCommitted"):
            assert words in result.stderr

    def test_a_server_that_does_not_answer_is_transient(self, shell: Shell) -> None:
        line = "items --server http://127.0.0.1:9"
        assert shell.refusal(line, code=ExitCode.TRANSIENT)["code"] == "ServerUnreachable"

    def test_a_job_that_fails_ends_the_command_with_its_error(self, shell: Shell) -> None:
        shell.deck.west.pools = ()
        result = shell.run(PROTECT, code=ExitCode.JOB_FAILED)
        assert "error:" in result.stderr
        failed = shell.run(f"{PROTECT} --json", code=ExitCode.REFUSED)
        assert failed.stdout == ""

    def test_a_failed_job_is_on_stdout_and_its_error_on_stderr(self, shell: Shell) -> None:
        shell.deck.west.pools = ()
        result = shell.run(f"{PROTECT} --json", code=ExitCode.JOB_FAILED)
        assert '"state": "Failed"' in result.stdout
        assert '"error"' in result.stderr

    def test_a_cancelled_job_has_a_code_of_its_own(self, shell: Shell) -> None:
        shell.deck.idles = True
        job = shell.run(f"{PROTECT} --no-wait").stdout.strip()
        shell.run(f"jobs cancel {job}")
        shell.deck.idles = False
        shell.run("jobs list")
        with shell.deck.catalog.read() as rows:
            row = rows.job(job)  # type: ignore[arg-type]
        shell.deck.run(row)
        shell.run(f"jobs watch {job}", code=ExitCode.CANCELLED)

    @pytest.mark.parametrize(
        "line",
        [
            "show",
            "failover shop --point yesterday",
            "reprotect",
            "reprotect shop --all",
            "vm create shop --disk a=1G",
            "vm create east/new --disk a",
            "site map-network lan west/lan",
            "policy create slow --interval soon",
            "site add south --cache file:///s --option key",
            "protect east/shop --to west --network lan",
            "nonsense",
        ],
    )
    def test_a_line_that_is_not_understood(self, shell: Shell, line: str) -> None:
        shell.run(line, code=ExitCode.USAGE)
        assert shell.data("jobs list") == []


class TestSites:
    def test_a_site_is_made_with_a_token_and_how_to_use_it(self, shell: Shell) -> None:
        made = shell.run("site add south --cache file:///s --option key=value").stdout
        assert "homeport agent --site south" in made
        assert shell.data("site show south")["cache"]["options"] == ["key"]

    def test_a_site_without_a_cache_store_says_what_it_lacks(self, shell: Shell) -> None:
        assert "site set-cache south" in shell.run("site add south").stdout
        shell.run("site set-cache south file:///s")
        assert shell.data("site show south")["cache"]["url"] == "file:///s"

    def test_a_token_is_given_anew(self, shell: Shell) -> None:
        assert shell.data("site token east")["token"] != shell.data("site token east")["token"]

    def test_sites_are_listed_with_their_hosts(self, shell: Shell) -> None:
        assert "1 of 1 answer" in shell.run("site list").stdout

    def test_a_network_stands_for_another(self, shell: Shell) -> None:
        shell.run("site map-network east/lan west/dmz")
        assert shell.data("site show west")["network_mappings"][0]["to"] == "dmz"


class TestMachines:
    def test_one_is_made_stopped_started_and_deleted(self, shell: Shell) -> None:
        made = shell.data("vm create east/mail --disk mail0=1G,format=qcow2 --memory 512M")
        assert (made["name"], made["state"]) == ("mail", "running")
        shell.deck.tick()
        assert shell.data("vm stop east/mail --timeout 0")["state"] == "off"
        assert shell.data("vm start east/mail")["state"] == "running"
        assert shell.data("vm delete east/mail --yes") == {
            "deleted": "east/mail",
            "removed": [],
            "kept": {"/disks/mail.raw": ""},
        }

    @pytest.mark.parametrize(
        ("option", "told"),
        [
            ("", "Deleted: east/mail\n  kept: /disks/mail.raw\n"),
            (
                "--disks",
                "Deleted: east/mail\n  removed: /disks/mail.raw\n  kept: /iso (it is not a file)\n",
            ),
        ],
    )
    def test_deleting_one_tells_what_becomes_of_its_files(
        self, shell: Shell, option: str, told: str
    ) -> None:
        shell.deck.east.add_machine("mail")
        shell.deck.tick()
        assert shell.run(f"vm delete east/mail --yes {option}").stdout == told

    def test_a_name_alone_is_looked_up(self, shell: Shell) -> None:
        assert shell.data("vm show shop")["site"] == "east"
        error = shell.refusal("vm show nobody", code=ExitCode.NOT_FOUND)
        assert error["code"] == "UnknownMachine"

    def test_a_name_in_two_sites_has_to_be_told_apart(self, shell: Shell) -> None:
        shell.deck.west.add_machine("shop")
        shell.deck.tick()
        error = shell.refusal("vm show shop", code=ExitCode.REFUSED)
        assert error["code"] == "AmbiguousMachine"
        assert shell.data("vm show west/shop")["site"] == "west"

    def test_one_that_an_item_needs_is_not_deleted(self, shell: Shell) -> None:
        shell.run(PROTECT)
        error = shell.refusal("vm delete east/shop --yes", code=ExitCode.REFUSED)
        assert error["code"] == "MachineProtected"


class TestPolicies:
    def test_one_is_made_and_changed(self, shell: Shell) -> None:
        shell.run("policy create gold --rpo 30s --interval 10s --app-consistent 1h")
        changed = shell.data("policy update gold --commit-timer commit --commit-after 1h30m")
        assert (changed["interval"], changed["commit_after"]) == ("PT10S", "PT1H30M")
        assert [one["name"] for one in shell.data("policy list")] == ["default", "gold"]

    def test_an_update_of_none_makes_none(self, shell: Shell) -> None:
        shell.run("policy update gold --rpo 1h", code=ExitCode.NOT_FOUND)
        assert len(shell.data("policy list")) == 1

    def test_values_that_contradict_each_other_are_refused(self, shell: Shell) -> None:
        error = shell.refusal("policy create odd --rpo 5s --interval 1h", code=ExitCode.REFUSED)
        assert error["code"] == "InvalidPolicy"


class TestItems:
    def test_options_of_protect_reach_the_request(self, shell: Shell) -> None:
        asked = shell.data(f"{PROTECT} --name mine --pool disks --network lan=none")["request"]
        assert asked["name"] == "mine"
        assert asked["networks"] == {"lan": None}

    def test_the_ledger_hides_what_is_gone_unless_asked(self, shell: Shell) -> None:
        shell.run(PROTECT)
        assert shell.data("ledger shop")
        assert "folder" in shell.run("ledger --gone").stdout

    def test_unsent_writes_are_listed(self, shell: Shell) -> None:
        shell.run(PROTECT)
        assert shell.data("unsent shop") == []
        assert "Nothing is set aside" in shell.run("unsent shop").stdout

    def test_an_estimate_shows_the_other_formula_when_asked(self, shell: Shell) -> None:
        commit(shell)
        assert "ASR's formula" not in shell.run("estimate shop").stdout
        assert "ASR's formula" in shell.run("estimate shop --asr").stdout

    def test_a_receipt_there_is_none_of(self, shell: Shell) -> None:
        shell.run(PROTECT)
        shell.run("receipt shop", code=ExitCode.NOT_FOUND)

    def test_force_and_keep_unsent_reach_the_request(self, shell: Shell) -> None:
        shell.run(PROTECT)
        asked = shell.data("disable shop --force --keep-unsent --yes")["request"]
        assert asked["force"]
        assert asked["keep_unsent"]


class TestReviews:
    def test_everything_a_person_decides_by_is_on_it(self, shell: Shell) -> None:
        commit(shell)
        page = shell.run("review shop").stdout
        for words in ("west ──▶ east", "disk0", "way", "ASR's formula", "homeport reprotect shop"):
            assert words in page

    def test_problems_are_listed_and_nothing_is_changed(self, shell: Shell) -> None:
        fail_over(shell)
        page = shell.run("review shop").stdout
        assert "it cannot be started" in page
        assert "NotCommitted" in page
        assert state(shell) is State.COMMIT_PENDING

    def test_options_are_reviewed_as_they_are_asked(self, shell: Shell) -> None:
        commit(shell)
        assert shell.data("review shop --way full")["way"] == "full"


class TestJobs:
    def test_a_job_is_found_by_the_beginning_of_its_id(self, shell: Shell) -> None:
        shell.run(PROTECT)
        whole = shell.data("jobs list")[0]["id"]
        assert shell.data(f"jobs show {whole[:3]}")["id"] == whole
        assert "Enable replication of shop" in shell.run(f"jobs show {whole}").stdout

    def test_a_beginning_that_fits_none_or_several(self, shell: Shell) -> None:
        fail_over(shell)
        assert shell.refusal("jobs show zz", code=ExitCode.NOT_FOUND)["code"] == "UnknownJob"
        assert shell.refusal("jobs show id", code=ExitCode.REFUSED)["code"] == "AmbiguousJob"

    def test_jobs_are_filtered(self, shell: Shell) -> None:
        fail_over(shell)
        assert len(shell.data("jobs list --item shop --state Succeeded")) == 2
        assert shell.data("jobs list --state Failed") == []

    def test_one_that_failed_says_how_it_is_begun_again_and_is(self, shell: Shell) -> None:
        shell.run(PROTECT)
        shell.deck.west.fails["promote"] = REFUSED
        shell.run(FAIL_OVER, code=ExitCode.JOB_FAILED)
        shell.deck.west.fails.clear()
        job = shell.data("jobs list")[0]["id"]
        assert (
            f"begin it again: homeport jobs restart {job[:8]}"
            in shell.run(f"jobs show {job}").stdout
        )
        shell.run(f"jobs restart {job[:8]}")
        assert state(shell) is State.COMMIT_PENDING
        error = shell.refusal(f"jobs restart {shell.data('jobs list')[0]['id']}", code=4)
        assert error["code"] == "JobSucceeded"

    def test_one_at_work_says_until_when_it_can_be_cancelled(self, shell: Shell) -> None:
        shell.run(PROTECT)
        shell.deck.idles = True
        job = shell.run(f"{FAIL_OVER} --no-wait").stdout.strip()
        told = shell.data(f"jobs show {job}")
        assert told["cancellable"] is True
        assert "can be cancelled until 'Fencing the source' begins" in told["safety"]

    def test_a_job_that_has_ended_cannot_be_cancelled_any_more(self, shell: Shell) -> None:
        shell.run(PROTECT)
        job = shell.data("jobs list")[0]["id"]
        shell.run(f"jobs cancel {job}", code=ExitCode.REFUSED)


class TestManyReprotects:
    def prepare(self, shell: Shell, *names: str) -> None:
        for name in names:
            shell.deck.east.add_machine(name)
        shell.deck.tick()
        for name in names:
            shell.run(f"protect east/{name} --to west")
            shell.run(f"failover {name} --yes")
            shell.run(f"commit {name} --yes")

    def test_each_item_is_a_job_of_its_own(self, shell: Shell) -> None:
        self.prepare(shell, "a", "b", "c")
        done = shell.data("reprotect a b c --parallel 2")
        assert [one["item"] for one in done] == ["a", "b", "c"]
        assert {one["job"]["state"] for one in done} == {"Succeeded"}

    def test_all_takes_what_can_be_reprotected(self, shell: Shell) -> None:
        self.prepare(shell, "a", "b")
        shell.run(PROTECT)
        assert [one["item"] for one in shell.data("reprotect --all")] == ["a", "b"]
        assert shell.data("reprotect --all") == []
        assert "No item waits" in shell.run("reprotect --all").stdout

    def test_one_that_is_refused_does_not_stop_the_others(self, shell: Shell) -> None:
        self.prepare(shell, "a")
        fail_over(shell)
        done = shell.data("reprotect a shop", code=ExitCode.REFUSED)
        assert done[0]["job"]["state"] == "Succeeded"
        assert done[1]["error"]["code"] == "NotCommitted"

    def test_all_refused_is_a_refusal(self, shell: Shell) -> None:
        fail_over(shell)
        result = shell.run("reprotect shop nobody", code=ExitCode.REFUSED)
        assert "NotCommitted" in result.stderr

    def test_not_waiting_starts_them_all_at_once(self, shell: Shell) -> None:
        self.prepare(shell, "a", "b")
        shell.deck.idles = True
        lines = shell.run("reprotect a b --no-wait --parallel 1").stdout.splitlines()
        assert [line.split()[0] for line in lines] == ["a", "b"]

    def test_what_happens_is_told_item_by_item(self, shell: Shell) -> None:
        self.prepare(shell, "a", "b")
        told = shell.run("reprotect a b").stdout
        for name in ("a", "b"):
            assert f"{name}: succeeded" in told
        assert "ESTIMATED" in told


def test_time_and_place_of_the_newest_point_are_shown(shell: Shell) -> None:
    shell.run(PROTECT)
    shell.deck.tick(timedelta(hours=1).total_seconds())
    assert "latest" in shell.run("points shop").stdout
