"""The life of an item, program by program, on a real vault with two hosts in memory."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from homeport.model.item import Role, Side
from homeport.model.machine import PowerState
from homeport.model.protection import State
from homeport.orchestration.ports import JobState
from homeport.units import MiB
from tests.hosts import DAMAGED, REFUSED
from tests.unit.orchestration.scripted import Deck
from tests.unit.orchestration.stages import (
    COMMITTED,
    HOME_PENDING,
    PENDING,
    PROTECTED,
    clean_up,
    commit,
    copies,
    disable,
    done,
    drill,
    failover,
    item_of,
    protect,
    reprotect,
    undo,
)

RUNNING, OFF = PowerState.RUNNING, PowerState.OFF


def states(job: Any) -> dict[str, str]:
    return {task.name: task.state.value for task in job.tasks}


class TestProtect:
    def test_ends_with_a_listed_point_and_both_roles(self, deck: Deck) -> None:
        job = done(deck, protect())
        view = deck.view()
        east, west = copies(deck)
        assert (view.state, view.unprotected, view.points) == ("Protected", False, 1)
        assert (east.role, west.role) == (Role.SOURCE, Role.TARGET)
        assert job.result is not None
        assert job.result["point"] == "1-0"
        assert view.facts["enable_took"] == job.result["enable_took"] > 0
        assert view.disks == ("disk0",)
        assert view.running.pool == "disks"

    def test_all_problems_of_both_sides_come_at_once_and_nothing_is_made(self, deck: Deck) -> None:
        deck.west.networks = ()
        job = deck.accept(protect(networks={"lan": "prod"}))
        deck.west.pools = ("other",)
        job = deck.run(job)
        assert job.error is not None
        assert job.error["code"] == "NotProtectable"
        assert "no pool disks" in job.error["message"]
        assert "no network prod" in job.error["message"]
        assert deck.view().state == "Enable failed"
        assert (deck.east.copies, deck.west.copies) == ({}, {})
        assert deck.east.asked == ["check-source"]

    @pytest.mark.parametrize("kind", ["prepare-target", "arm"])
    def test_a_failure_takes_away_what_was_made_and_the_same_request_goes_on(
        self, deck: Deck, kind: str
    ) -> None:
        host = deck.west if kind == "prepare-target" else deck.east
        job = deck.accept(protect())
        if kind == "prepare-target":
            real = host.do_prepare_target

            def fail(args: Any) -> Any:
                if args.only_check:
                    return real(args)
                raise REFUSED

            host.do_prepare_target = fail  # type: ignore[method-assign]
        else:
            host.fails["arm"] = REFUSED
        assert deck.run(job).state is JobState.FAILED
        assert deck.view().state == "Enable failed"
        assert (deck.east.copies, deck.west.copies) == ({}, {})
        host.fails.clear()
        if kind == "prepare-target":
            host.do_prepare_target = real  # type: ignore[method-assign]
        before = item_of(deck).id
        done(deck, protect())
        assert item_of(deck).id == before
        assert deck.view().state == "Protected"

    def test_cancelled_while_seeding_it_releases_both_sides(self, deck: Deck) -> None:
        deck.east.ships = False
        job = deck.accept(protect())
        real = deck.east.do_arm

        def arm(args: Any) -> Any:
            deck.cancel(job)
            return real(args)

        deck.east.do_arm = arm  # type: ignore[method-assign]
        assert deck.run(job).state is JobState.CANCELLED
        assert deck.view().state == "Enable failed"
        assert (deck.east.copies, deck.west.copies) == ({}, {})
        assert deck.east.machines["shop"] is RUNNING

    def test_the_seeds_progress_is_the_tasks(self, deck: Deck) -> None:
        deck.east.ships = False
        job = deck.run(deck.accept(protect()))
        task = next(task for task in job.tasks if task.name == "Initial replication")
        assert task.progress is not None
        assert task.progress.percent == 50
        assert job.error is not None
        assert job.error["code"] == "TookTooLong"

    def test_a_problem_that_stays_ends_it_and_one_that_passes_does_not(self, deck: Deck) -> None:
        deck.east.ships = False
        deck.east.problem = DAMAGED.as_dict()
        job = deck.accept(protect())
        real = deck.tick
        deck.tick = lambda seconds=1.0: real(60)  # type: ignore[method-assign,misc]
        ended = deck.run(job)
        assert ended.error is not None
        assert ended.error["code"] == "Damaged"
        deck.east.problem = None
        deck.east.ships = True
        done(deck, protect())

    def test_a_silent_host_is_left_an_order(self, deck: Deck) -> None:
        deck.east.fails["arm"] = REFUSED
        job = deck.accept(protect())
        real = deck.west.do_prepare_target

        def prepare(args: Any) -> Any:
            answer = real(args)
            deck.west.deaf = not args.only_check
            return answer

        deck.west.do_prepare_target = prepare  # type: ignore[method-assign]
        assert deck.run(job).state is JobState.FAILED
        with deck.catalog.read() as rows:
            assert rows.left_orders(item_of(deck).id) == {"w1": None}


class TestFailover:
    def test_a_planned_one_reports_how_long_the_machine_was_away(self, deck: Deck) -> None:
        done(deck, *COMMITTED, reprotect())
        deck.tick(30)
        job = done(deck, failover(planned=True))
        shown = deck.view().receipt.downtime
        assert job.result is not None
        assert job.result["downtime"]["started"] == shown.started > 0
        assert shown.answered >= shown.started
        assert shown.began_at >= job.created_at
        assert "the server's clock" in shown.measured
        assert job.result["rehearsed"] is False

    @pytest.mark.parametrize(("deaf", "told"), [(False, True), (True, False)])
    def test_one_that_was_lost_before_is_not_told(self, deck: Deck, deaf: bool, told: bool) -> None:
        done(deck, protect())
        deck.east.deaf = deaf
        done(deck, failover())
        assert (deck.view().receipt.downtime is not None) is told

    def test_another_point_interrupts_nothing_that_served(self, deck: Deck) -> None:
        done(deck, *PENDING, failover(point="latest-processed"))
        assert deck.view().receipt.downtime is None

    def test_latest_lands_fences_and_boots(self, deck: Deck) -> None:
        done(deck, protect())
        deck.east.capture(item_of(deck).id)
        job = done(deck, failover())
        east, west = copies(deck)
        assert job.result is not None
        assert job.result["point"] == "1-1"
        assert (east.role, west.role) == (Role.FENCED, Role.RUNNING)
        assert (deck.east.machines["shop"], deck.west.machines["shop"]) == (OFF, RUNNING)
        assert (item_of(deck).active, item_of(deck).epoch) == (Side.RECOVERY, 2)
        view = deck.view()
        assert (view.state, view.unprotected) == ("Failover, commit pending", True)
        assert "reprotect" in view.unprotected_reason
        assert states(job)["Shut down virtual machine"] == "Skipped"

    @pytest.mark.parametrize(
        ("choice", "taken"), [("latest-processed", "1-1"), ("1-0", "1-0"), ("1-1", "1-1")]
    )
    def test_a_chosen_point_is_booted_without_landing_more(
        self, deck: Deck, choice: str, taken: str
    ) -> None:
        done(deck, protect())
        deck.east.capture(item_of(deck).id)
        deck.tick()
        deck.west.lands = False
        deck.east.capture(item_of(deck).id)
        job = done(deck, failover(point=choice))
        assert job.result is not None
        assert job.result["point"] == taken
        assert "land-all" not in deck.west.asked

    def test_a_source_that_is_gone_does_not_stop_it_and_the_receipt_says_so(
        self, deck: Deck
    ) -> None:
        done(deck, protect())
        deck.east.deaf = True
        job = done(deck, failover())
        receipt = deck.view().receipt
        assert receipt.missing_bytes is None
        assert "not known" in receipt.known
        assert "taken to be down" in receipt.assumption
        assert deck.west.machines["shop"] is RUNNING
        deck.east.deaf = False
        deck.tick()
        assert deck.east.machines["shop"] is OFF
        assert states(job)["Fencing the source"] == "Succeeded"

    def test_it_is_refused_where_nobody_confirms_that_the_source_is_down(self, deck: Deck) -> None:
        done(deck, protect())
        job = deck.accept(failover(confirm_source_down=False))
        deck.east.deaf = True
        deck.tick(120)
        job = deck.run(job)
        assert job.error is not None
        assert job.error["code"] == "SourceNotConfirmedDown"
        assert deck.view().state == "Protected"
        assert item_of(deck).epoch == 1

    def test_the_receipt_counts_what_never_arrived(self, deck: Deck) -> None:
        done(deck, protect())
        deck.east.ships = False
        deck.east.write(item_of(deck).id, 3 * MiB)
        deck.tick(30)
        done(deck, failover())
        receipt = deck.view().receipt
        assert receipt.missing_bytes == 3 * MiB
        assert receipt.missing_seconds >= 30
        assert receipt.assumption.startswith("the source answered")
        assert receipt.completed_at is None

    def test_planned_loses_nothing(self, deck: Deck) -> None:
        done(deck, protect())
        deck.east.write(item_of(deck).id, 3 * MiB)
        job = done(deck, failover(planned=True))
        receipt = deck.view().receipt
        assert (receipt.missing_bytes, receipt.missing_seconds) == (0, 0.0)
        assert receipt.known.startswith("nothing")
        assert states(job)["Shut down virtual machine"] == "Succeeded"

    @pytest.mark.parametrize("failing", ["final-capture", "land"])
    def test_a_planned_one_that_cannot_carry_over_starts_the_source_again(
        self, deck: Deck, failing: str
    ) -> None:
        done(deck, protect())
        if failing == "land":
            deck.west.lands = False
        else:
            deck.east.fails["final-capture"] = REFUSED
            deck.east.machines["shop"] = OFF
        job = deck.do(failover(planned=True))
        assert job.state is JobState.FAILED
        assert deck.view().state == "Protected"
        assert deck.east.machines["shop"] is RUNNING
        assert "shop" not in deck.west.machines
        deck.west.lands = True
        east, west = copies(deck)
        deck.east.capture(item_of(deck).id)
        deck.tick()
        assert (east.role, west.role) == (Role.SOURCE, Role.TARGET)
        assert str(west.points[-1].position).startswith("2-")

    def test_a_fence_that_the_source_refuses_stops_it_before_the_boot(self, deck: Deck) -> None:
        done(deck, protect())
        deck.east.fails["fence"] = REFUSED
        job = deck.do(failover())
        assert job.error is not None
        assert "undo" in job.error["remedy"]
        assert deck.view().state == "Failover failed"
        assert "shop" not in deck.west.machines
        deck.east.fails.clear()
        done(deck, failover())
        assert deck.east.machines["shop"] is OFF

    def test_a_point_that_does_not_boot_leaves_ways_on(self, deck: Deck) -> None:
        done(deck, protect())
        deck.west.fails["promote"] = DAMAGED
        job = deck.do(failover())
        view = deck.view()
        assert job.state is JobState.FAILED
        assert (view.state, view.problem["code"]) == ("Failover failed", "Damaged")
        assert set(view.allowed) >= {"failover", "undo", "disable"}
        deck.west.fails.clear()
        done(deck, undo())
        assert deck.east.machines["shop"] is RUNNING
        assert deck.view().state == "Protected"

    def test_the_change_of_point_boots_another_under_a_new_epoch(self, deck: Deck) -> None:
        done(deck, protect())
        deck.east.capture(item_of(deck).id)
        done(deck, failover())
        fences = deck.east.asked.count("fence")
        job = done(deck, failover(point="1-0"))
        view = deck.view()
        assert (view.epoch, view.receipt.point.sequence, view.receipt.left_out) == (3, 0, MiB)
        assert deck.east.asked.count("fence") == fences
        assert states(job)["Fencing the source"] == "Skipped"
        assert copies(deck)[1].booted == view.receipt.point

    def test_a_change_of_point_that_changed_nothing_keeps_the_machine(self, deck: Deck) -> None:
        done(deck, *PENDING)
        job = deck.accept(failover(point="1-0"))
        deck.cancel(job)
        assert deck.run(job).state is JobState.CANCELLED
        assert deck.view().state == "Failover, commit pending"
        assert deck.view().epoch == 2

    def test_after_the_fence_a_cancel_does_not_stop_it(self, deck: Deck) -> None:
        done(deck, protect())
        job = deck.accept(failover())
        real = deck.east.do_fence

        def fence(args: Any) -> Any:
            deck.cancel(job)
            return real(args)

        deck.east.do_fence = fence  # type: ignore[method-assign]
        assert deck.run(job).state is JobState.SUCCEEDED
        assert deck.west.machines["shop"] is RUNNING


class TestUndoAndCommit:
    def test_undo_gives_the_machine_back_and_replication_goes_on(self, deck: Deck) -> None:
        done(deck, *PENDING)
        job = done(deck, undo())
        east, west = copies(deck)
        assert (east.role, west.role) == (Role.SOURCE, Role.TARGET)
        assert deck.east.machines["shop"] is RUNNING
        assert "shop" not in deck.west.machines
        assert job.result is not None
        assert job.result["unsent"][0]["path"].startswith("/w1/disk0-undone")
        view = deck.view()
        assert (view.state, view.receipt, view.epoch) == ("Protected", None, 3)
        deck.east.capture(item_of(deck).id)
        deck.tick()
        assert str(west.points[-1].position) == "3-0"

    @pytest.mark.parametrize("side", ["east", "west"])
    def test_undo_without_both_sides_changes_nothing(self, deck: Deck, side: str) -> None:
        done(deck, *PENDING)
        job = deck.accept(undo())
        getattr(deck, side).deaf = True
        job = deck.run(job)
        assert job.error is not None
        assert job.error["code"] == "HostUnreachable"
        assert deck.view().state == "Failover, commit pending"
        assert deck.west.machines["shop"] is RUNNING
        assert item_of(deck).epoch == 2

    def test_undo_that_cannot_start_the_old_machine_can_be_asked_again(self, deck: Deck) -> None:
        done(deck, *PENDING)
        deck.east.fails["unfence"] = REFUSED
        assert deck.do(undo()).state is JobState.FAILED
        assert deck.view().state == "Failover failed"
        deck.east.fails.clear()
        done(deck, undo())
        assert deck.east.machines["shop"] is RUNNING

    def test_commit_accepts_and_keeps_the_points(self, deck: Deck) -> None:
        done(deck, *COMMITTED)
        view = deck.view()
        assert view.state == "Failover committed"
        assert copies(deck)[1].committed
        assert {p.label for p in copies(deck)[1].points} == {"before failover"}
        assert set(view.allowed) == {"reprotect", "disable"}

    def test_a_commit_that_is_refused_can_still_be_undone(self, deck: Deck) -> None:
        done(deck, *PENDING)
        deck.west.fails["accept"] = REFUSED
        assert deck.do(commit()).state is JobState.FAILED
        assert deck.view().state == "Failover, commit pending"
        done(deck, undo())


class TestReprotect:
    def test_the_tasks_are_those_of_asr(self, deck: Deck) -> None:
        done(deck, *COMMITTED)
        job = done(deck, reprotect())
        assert [task.name for task in job.tasks][:5] == [
            "Prerequisite check",
            "Committing failover",
            "Discovering replica virtual machine",
            "Getting reprotection requirements",
            "Reprotecting virtual machine",
        ]
        skipped = {name for name, state in states(job).items() if state == "Skipped"}
        assert skipped == {"Committing failover", "Removing temporary replicas"}
        assert job.result is not None
        assert job.result["way"] == "exact"
        assert job.result["bytes_moved"] == MiB

    def test_it_turns_the_direction_and_keeps_the_owner(self, deck: Deck) -> None:
        done(deck, *COMMITTED)
        done(deck, reprotect())
        east, west = copies(deck)
        view = deck.view()
        assert (east.role, west.role) == (Role.TARGET, Role.SOURCE)
        assert (view.active, view.epoch, view.direction) == ("recovery", 2, "west -> east")
        assert (view.state, view.unprotected) == ("Protected", False)
        assert east.lock.startswith("SiteRecovery-")
        assert deck.east.machines["shop"] is OFF

    def test_it_completes_the_receipt_with_what_the_old_side_had(self, deck: Deck) -> None:
        done(deck, protect())
        deck.east.ships = False
        deck.east.write(item_of(deck).id, 7 * MiB)
        deck.east.deaf = True
        done(deck, failover(), commit())
        deck.east.deaf = False
        deck.tick()
        done(deck, reprotect())
        receipt = deck.view().receipt
        assert receipt.missing_bytes == 7 * MiB
        assert receipt.completed_at is not None
        assert [image.size for image in receipt.unsent] == [7 * MiB]

    def test_all_problems_at_once_and_nothing_changed(self, deck: Deck) -> None:
        done(deck, *COMMITTED)
        deck.east.networks, deck.east.available = (), 1
        deck.tick()
        job = deck.do(reprotect())
        assert job.error is not None
        assert job.error["code"] == "NotReprotectable"
        assert "Network lan does not exist" in job.error["message"]
        assert "free" in job.error["message"]
        assert deck.view().state == "Failover committed"
        assert copies(deck)[0].role is Role.FENCED
        assert "prepare-replica" not in deck.east.asked

    def test_an_unreachable_side_is_named(self, deck: Deck) -> None:
        done(deck, *COMMITTED)
        job = deck.accept(reprotect())
        deck.east.deaf = True
        job = deck.run(job)
        assert job.error is not None
        assert job.error["code"] == "SiteUnreachable"
        assert "e1 in east" in job.error["message"]
        assert deck.view().state == "Failover committed"

    @pytest.mark.parametrize(
        ("host", "kind"), [("east", "fence"), ("east", "prepare-replica"), ("west", "reverse")]
    )
    def test_stopped_anywhere_the_same_request_goes_on(
        self, deck: Deck, host: str, kind: str
    ) -> None:
        done(deck, *COMMITTED)
        getattr(deck, host).fails[kind] = REFUSED
        assert deck.do(reprotect()).state is JobState.FAILED
        assert deck.view().state == "Failover committed"
        assert deck.west.machines["shop"] is RUNNING
        getattr(deck, host).fails.clear()
        done(deck, reprotect())
        assert deck.view().state == "Protected"

    def test_cancelled_during_the_resync_it_is_committed_again(self, deck: Deck) -> None:
        done(deck, *COMMITTED)
        job = deck.accept(reprotect())
        real = deck.west.do_reverse
        deck.east.lands = False

        def reverse(args: Any) -> Any:
            answer = real(args)
            deck.cancel(job)
            return answer

        deck.west.do_reverse = reverse  # type: ignore[method-assign]
        assert deck.run(job).state is JobState.CANCELLED
        assert deck.view().state == "Failover committed"
        deck.west.do_reverse = real  # type: ignore[method-assign]
        deck.east.lands = True
        done(deck, reprotect())

    def test_a_side_that_lost_everything_gets_a_full_copy(self, deck: Deck) -> None:
        done(deck, *COMMITTED)
        deck.east.copies.clear()
        deck.east.machines.clear()
        job = done(deck, reprotect())
        assert job.result is not None
        assert job.result["way"] == "full"
        assert states(job)["Switching off and locking the original machine"] == "Skipped"

    @pytest.mark.parametrize("way", ["differential", "full"])
    def test_a_dearer_way_can_be_asked_for(self, deck: Deck, way: str) -> None:
        done(deck, *COMMITTED)
        job = done(deck, reprotect(way=way))
        assert job.result is not None
        assert job.result["way"] == way
        assert "asked for" in job.result["reason"]
        assert copies(deck)[1].resync_ways == {"disk0": way}

    def test_a_network_that_is_asked_for_rewrites_the_reverse_mapping(self, deck: Deck) -> None:
        deck.east.networks = ("lan", "dmz")
        done(deck, *COMMITTED)
        done(deck, reprotect(networks={"lan": "dmz"}))
        with deck.catalog.read() as rows:
            assert rows.network_map("west", "east") == {"lan": "dmz"}
        done(deck, failover(planned=True))
        assert deck.east.definitions["shop"].nics[0].network == "dmz"

    def test_temporary_replicas_are_waited_for(self, deck: Deck) -> None:
        from homeport.model.messages import LedgerEntry

        done(deck, *COMMITTED)
        job = deck.accept(reprotect())
        real, item = deck.west.do_reverse, item_of(deck).id
        entry = LedgerEntry(
            kind="file", name="/pool/ms-asr-1", reason="resync", made_at=deck.clock[0]
        )

        def reverse(args: Any) -> Any:
            deck.west.copies[item].made.append(entry)
            return real(args)

        def settle(assignments: Any) -> None:
            type(deck.west).settle(deck.west, assignments)
            if deck.clock[0] - entry.made_at > timedelta(seconds=20):
                deck.west.copies[item].made[:] = []

        deck.west.do_reverse, deck.west.settle = reverse, settle  # type: ignore[method-assign]
        job = deck.run(job)
        assert states(job)["Removing temporary replicas"] == "Succeeded"

    def test_home_again_the_recovery_machine_goes_by_default(self, deck: Deck) -> None:
        done(deck, *HOME_PENDING, commit(), reprotect())
        assert "shop" not in deck.west.machines
        assert deck.east.machines["shop"] is RUNNING
        view = deck.view()
        assert (view.direction, view.active, view.state) == ("east -> west", "primary", "Protected")

    def test_home_again_the_recovery_machine_stays_when_asked(self, deck: Deck) -> None:
        done(deck, *HOME_PENDING, commit(), reprotect(keep_machine=True))
        assert deck.west.machines["shop"] is OFF


class TestDrill:
    def test_it_boots_beside_and_counts_only_after_the_cleanup(self, deck: Deck) -> None:
        done(deck, protect(), drill())
        assert deck.west.machines["shop-test"] is RUNNING
        assert deck.view().test["state"] == "running"
        assert "last_drill" not in deck.view().facts
        assert deck.view().state == "Protected"
        done(deck, clean_up())
        assert "shop-test" not in deck.west.machines
        assert deck.view().test is None
        assert deck.view().facts["last_drill"]["verified"] is True

    def test_a_failback_is_rehearsed_only_by_a_drill_since_the_reprotect(self, deck: Deck) -> None:
        done(deck, protect(), drill(), clean_up())
        assert deck.view().rehearsal.counts
        done(deck, failover(), commit(), reprotect())
        found = deck.view().rehearsal
        assert (found.site, found.failback, found.counts) == ("east", True, False)
        assert "earlier direction" in found.missing
        done(deck, drill())
        assert "has not been cleaned up" in deck.view().rehearsal.missing
        done(deck, clean_up())
        assert deck.view().rehearsal.counts

    def test_one_that_a_failover_came_upon_is_cleaned_up_where_it_runs(self, deck: Deck) -> None:
        done(deck, protect(), drill(), failover())
        deck.east.deaf = True
        done(deck, clean_up())
        assert "shop-test" not in deck.west.machines
        assert deck.view().test is None

    def test_one_that_does_not_boot_leaves_nothing(self, deck: Deck) -> None:
        done(deck, protect())
        deck.west.fails["test-boot"] = REFUSED
        assert deck.do(drill()).state is JobState.FAILED
        assert deck.view().test is None
        assert deck.west.asked[-1] == "test-cleanup"

    def test_one_whose_host_went_away_is_to_be_cleaned_up(self, deck: Deck) -> None:
        done(deck, protect())
        job = deck.accept(drill())
        deck.west.deaf = True
        assert deck.run(job).state is JobState.FAILED
        assert deck.view().test["state"] == "to be cleaned up"
        deck.west.deaf = False
        done(deck, clean_up())
        assert deck.view().test is None

    def test_latest_lands_first(self, deck: Deck) -> None:
        done(deck, protect())
        deck.west.lands = False
        deck.east.capture(item_of(deck).id)
        deck.tick()
        deck.west.lands = True
        job = done(deck, drill(point="latest"))
        assert job.result is not None
        assert job.result["point"] == "1-1"


class TestDisable:
    @pytest.mark.parametrize("stage", [PROTECTED, COMMITTED], ids=["protected", "committed"])
    def test_everything_is_gone_except_the_active_machine(self, deck: Deck, stage: Any) -> None:
        done(deck, *stage)
        active = deck.west if stage is COMMITTED else deck.east
        job = done(deck, disable())
        assert (deck.east.copies, deck.west.copies) == ({}, {})
        assert active.machines["shop"] is RUNNING
        assert job.result is not None
        assert (job.result["left"], job.result["pending"]) == ([], [])
        with deck.catalog.read() as rows:
            assert rows.items() == ()

    def test_by_force_a_silent_host_keeps_its_things_listed_until_it_is_back(
        self, deck: Deck
    ) -> None:
        done(deck, protect())
        deck.west.deaf = True
        deck.tick(120)
        job = done(deck, disable(force=True))
        assert job.result is not None
        assert job.result["pending"] == ["w1"]
        view = deck.view()
        assert (view.state, view.facts["pending_hosts"]) == ("Disabled", ["w1"])
        with deck.catalog.read() as rows:
            orders = rows.operation_rows.orders("w1", [])
        assert [order.kind for order in orders] == ["release"]
        deck.west.deaf = False
        report = deck.west.carry_out(orders[0])
        with deck.catalog.write() as rows:
            rows.operation_rows.record("w1", report)
        deck.tick()
        done(deck, protect())
        assert deck.view().state == "Protected"

    def test_a_host_that_went_silent_is_refused_without_force(self, deck: Deck) -> None:
        done(deck, protect())
        job = deck.accept(disable())
        deck.west.deaf = True
        deck.tick(120)
        job = deck.run(job)
        assert job.error is not None
        assert job.error["code"] == "HostUnreachable"
        assert deck.view().state == "Disable failed"
        assert copies(deck)[0].role is Role.SOURCE
        deck.west.deaf = False
        deck.tick()
        done(deck, disable())

    def test_after_a_failed_enable_it_forgets_the_item(self, deck: Deck) -> None:
        deck.east.fails["arm"] = REFUSED
        deck.do(protect())
        done(deck, disable())
        with deck.catalog.read() as rows:
            assert rows.items() == ()


def test_three_round_trips_end_as_they_began(deck: Deck) -> None:
    done(deck, protect())
    deck.tick()
    first = item_of(deck)
    for _ in range(3):
        done(deck, failover(), commit(), reprotect(), failover(planned=True), commit(), reprotect())
    last = item_of(deck)
    assert (last.primary, last.recovery, last.active) == (
        first.primary,
        first.recovery,
        first.active,
    )
    assert deck.view().state == State.PROTECTED.value
    assert deck.east.definitions["shop"].nics[0].network == "lan"
