"""What the review says of each disk and of the machine, as tables of cases."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from homeport.errors import RefusedError
from homeport.model.ids import DiskName
from homeport.model.item import ReplicatedItem, Side
from homeport.model.machine import MachineDefinition, PowerState
from homeport.model.operations import SideFacts
from homeport.model.planning import Way
from homeport.model.protection import State
from homeport.model.review import Review, ReviewInput, keeps_machine, review
from homeport.model.target import Setting, Target
from homeport.units import GiB, MiB
from tests.unit.model.builders import SHOP, disk, disk_facts, held, machine, side

ROOT, DATA = DiskName("root"), DiskName("data")
COMMON = held(3)


HOME = replace(SHOP, active=Side.PRIMARY)


def definition(*, managed: bool) -> MachineDefinition:
    found = machine(disk(ROOT), disk(DATA))
    return found if managed else found.unmanaged()


def two(**facts: Any) -> SideFacts:
    return side([COMMON], disk_facts(ROOT), disk_facts(DATA), pool_available=GiB, **facts)


def given(*, managed: bool = True, **changes: Any) -> ReviewInput:
    values: dict[str, Any] = {
        "item": SHOP,
        "state": State.COMMITTED,
        "running": two(
            written={ROOT: 5 * MiB, DATA: 0},
            definition=definition(managed=managed),
            machine_state=PowerState.RUNNING,
        ),
        "old": two(),
        "cache": "file:///west",
        "target": Target(pool=Setting(value="account")),
        "lock": "ours",
    }
    return ReviewInput(**{**values, **changes})


def actions(made: Review) -> dict[str, tuple[str, ...]]:
    return {one.disk: one.actions for one in made.disks}


KEPT = "kept: its content stays as it is until the first new point is listed"


class TestManagedDisks:
    def test_those_there_are_renamed_and_not_copied(self) -> None:
        assert actions(review(given())) == {
            name: (f"renamed: {name} becomes {name}-ASRReplica; no byte of it is copied", KEPT)
            for name in (ROOT, DATA)
        }

    def test_unsent_writes_are_set_aside(self) -> None:
        old = side([COMMON], disk_facts(ROOT, unsent=3 * MiB), disk_facts(DATA))
        told = actions(review(given(old=old)))
        assert told[ROOT][0] == "set aside: 3 MiB of unsent writes as root-unsent-*"
        assert len(told[DATA]) == 2

    @pytest.mark.parametrize(
        "old",
        [
            side([COMMON], disk_facts(ROOT, exists=False), disk_facts(DATA, exists=False)),
            side(disks=(), tracked=False),
        ],
        ids=["their files", "and their record"],
    )
    def test_those_gone_are_made(self, old: SideFacts) -> None:
        made = review(given(old=old))
        assert made.way is Way.FULL
        assert actions(made) == {name: (f"created: {name}-ASRReplica",) for name in (ROOT, DATA)}

    def test_one_that_is_to_be_copied_whole_is_not_said_to_stay(self) -> None:
        old = side([COMMON], disk_facts(ROOT), disk_facts(DATA, exists=False))
        told = actions(review(given(old=old)))
        assert told[ROOT][-1] == KEPT
        assert told[DATA] == ("created: data-ASRReplica",)


class TestUnmanagedDisks:
    def test_the_machine_keeps_a_copy_of_its_os_disk_and_loses_the_others(self) -> None:
        assert actions(review(given(managed=False))) == {
            ROOT: (
                "copied: shop has a copy of its OS disk root until failback",
                "used in place: root becomes the replica and keeps its name",
                KEPT,
            ),
            DATA: (
                "detached: shop does not have data until failback",
                "used in place: data becomes the replica and keeps its name",
                KEPT,
            ),
        }

    @pytest.mark.parametrize(
        "changes",
        [{"old": two(machine_state=PowerState.ABSENT)}, {"item": HOME}],
        ids=["gone", "deleted"],
    )
    def test_without_a_machine_nothing_is_copied(self, changes: dict[str, Any]) -> None:
        told = actions(review(given(managed=False, **changes)))
        for name, words in told.items():
            assert words == (f"used in place: {name} becomes the replica and keeps its name", KEPT)

    def test_those_gone_are_made_in_the_storage_account(self) -> None:
        made = review(given(managed=False, old=side(disks=(), tracked=False)))
        assert actions(made) == {name: (f"created: {name} in account",) for name in (ROOT, DATA)}

    def test_the_recovery_sites_machine_that_is_kept_has_a_copy_too(self) -> None:
        made = review(given(managed=False, item=HOME, keep_machine=True))
        assert actions(made)[ROOT][0].startswith("copied: ")

    def test_what_was_unsent_is_told_first(self) -> None:
        old = side([COMMON], disk_facts(ROOT, unsent=MiB), disk_facts(DATA))
        told = actions(review(given(managed=False, old=old)))
        assert [words.partition(":")[0] for words in told[ROOT]] == [
            "set aside",
            "copied",
            "used in place",
            "kept",
        ]

    @pytest.mark.parametrize(
        ("managed", "free", "codes"),
        [
            (False, 15 * MiB, []),
            (False, 15 * MiB - 1, ["PoolTooSmall"]),
            (True, 5 * MiB, []),
            (True, 5 * MiB - 1, ["PoolTooSmall"]),
        ],
        ids=["the copy fits", "it does not", "managed: no copy", "managed: too small"],
    )
    def test_the_copy_needs_room(self, managed: bool, free: int, codes: list[str]) -> None:
        old = replace(two(), pool_available=free)
        found = review(given(managed=managed, old=old)).problems
        assert [problem["code"] for problem in found] == codes


@pytest.mark.parametrize(
    ("managed", "names"),
    [(True, ["replica managed disks"]), (False, ["storage account"])],
    ids=["managed", "unmanaged"],
)
def test_the_pool_is_called_as_its_disks_are(managed: bool, names: list[str]) -> None:
    made = review(given(managed=managed))
    found = [
        row for row in made.rows if row.setting in {"storage account", "replica managed disks"}
    ]
    assert [row.setting for row in found] == names
    assert found[0].value == "account"


MACHINE: dict[str, tuple[dict[str, Any], list[str]]] = {
    "off": ({}, ["kept and locked until failback: shop"]),
    "running": (
        {"old": two(machine_state=PowerState.RUNNING)},
        ["switched off: shop", "kept and locked until failback: shop"],
    ),
    "gone": (
        {"old": two(machine_state=PowerState.ABSENT)},
        ["machine shop is not on east; only its disks are used"],
    ),
    "home again": (
        {"item": HOME},
        ["deleted: shop on west (keep it with --keep-machine)"],
    ),
    "home again, kept": (
        {"item": HOME, "keep_machine": True},
        ["kept and locked until failback: shop"],
    ),
    "silent": ({"old": None}, []),
}


@pytest.mark.parametrize(("changes", "told"), MACHINE.values(), ids=MACHINE)
def test_what_becomes_of_the_machine(changes: dict[str, Any], told: list[str]) -> None:
    assert list(review(given(**changes)).machine) == told


@pytest.mark.parametrize(
    ("item", "asked", "kept"),
    [
        (SHOP, None, True),
        (SHOP, True, True),
        (HOME, None, False),
        (HOME, True, True),
        (HOME, False, False),
    ],
)
def test_which_machine_stays(item: ReplicatedItem, asked: bool | None, kept: bool) -> None:
    assert keeps_machine(item, asked=asked) is kept


def test_the_original_machine_is_not_deleted() -> None:
    with pytest.raises(RefusedError) as caught:
        keeps_machine(SHOP, asked=False)
    assert caught.value.code == "OriginalMachineKept"


def test_the_rows_are_in_asrs_order_and_say_what_is_new_and_fixed() -> None:
    target = Target(
        group=Setting(value="rg", fixed="it stays"),
        pool=Setting(value="disks"),
        networks={"lan": "lan-asr", "dmz": None},
        new_networks=("lan-asr",),
        availability_set=Setting(value="web-asr", new=True),
    )
    made = review(given(target=target, cache_is_new=True))
    assert [(row.setting, row.value, row.new, row.fixed) for row in made.rows] == [
        ("direction", "west -> east", False, ""),
        ("resource group", "rg", False, "it stays"),
        ("virtual network", "dmz -> not attached, lan -> lan-asr", True, ""),
        ("replica managed disks", "disks", False, ""),
        ("cache store", "file:///west", True, ""),
        ("availability set", "web-asr", True, ""),
        ("capacity reservation", "none", False, ""),
    ]


@pytest.mark.parametrize("gone", ["running", "old"])
def test_a_silent_side_is_a_problem_and_nothing_is_made_up(gone: str) -> None:
    silent: dict[str, Any] = {gone: None}
    made = review(given(**silent))
    assert [problem["code"] for problem in made.problems] == ["SiteUnreachable"]
    assert made.reason == "not known until both sides answer"
    assert (made.disks, made.machine) == ((), ())


def test_what_is_read_and_sent_is_the_plans() -> None:
    made = review(given())
    assert (made.way, made.sends, made.reads) == (Way.EXACT, 5 * MiB, 5 * MiB)
    ways = {one.disk: (one.way, one.sends) for one in made.disks}
    assert ways == {ROOT: (Way.EXACT, 5 * MiB), DATA: (Way.NOTHING, 0)}
