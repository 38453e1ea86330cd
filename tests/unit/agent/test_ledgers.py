"""Ledgers on disk: whole or not at all, found by an index, and what a crash leaves swept."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from homeport.agent.held import PAST_KEPT, HeldItem, StaleEpochError
from homeport.agent.ledgers import (
    LEDGER_FILE,
    Ledgers,
    UnknownItemError,
    item_folder,
    load_ledger,
    save_ledger,
    write_durably,
)
from homeport.agent.stamps import altered, restamped
from homeport.dataplane.points import stamp
from homeport.dataplane.qcow2_writer import create_overlay
from homeport.model.codec import UnreadableDocumentError
from homeport.model.extent import Extent, ExtentSet
from homeport.model.ids import Digest
from homeport.model.ledger import PastPoint, RotateIntent, RunningTest
from homeport.units import KiB, MiB
from tests.unit.model.builders import DISK, ITEM, NOW, at, chain, layer, ledger, point, unsent


@pytest.fixture
def ledgers(tmp_path: Path) -> Ledgers:
    return Ledgers(tmp_path / "agent")


@pytest.fixture
def held(ledgers: Ledgers, tmp_path: Path) -> HeldItem:
    folder = item_folder(tmp_path / "pool", "web", ITEM)
    ledgers.add(ITEM, folder, ledger())
    (folder / DISK).mkdir()
    return HeldItem.load(ledgers, ITEM)


def image(path: Path, below: Path | None = None) -> Path:
    name = None if below is None else str(below)
    create_overlay(path, size=MiB, backing=name, backing_format=None if below is None else "raw")
    return path


class TestOnDisk:
    def test_what_was_saved_is_loaded(self, ledgers: Ledgers, held: HeldItem) -> None:
        held.save(epoch=4, points=(point(1),))
        assert ledgers.load(ITEM) == (held.folder, held.ledger)
        assert list(ledgers.items()) == [ITEM]

    def test_an_unchanged_ledger_is_not_written(self, held: HeldItem) -> None:
        before = stamp(held.folder / LEDGER_FILE)
        held.save(epoch=held.ledger.epoch)
        assert stamp(held.folder / LEDGER_FILE) == before

    def test_a_death_in_a_write_leaves_what_was_there(
        self, held: HeldItem, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def die(*_: object) -> None:
            raise KeyboardInterrupt

        with monkeypatch.context() as patched:
            patched.setattr(Path, "rename", die)
            with pytest.raises(KeyboardInterrupt):
                held.save(epoch=9)
        assert load_ledger(held.folder).epoch == 1
        assert held.ledger.epoch == 1
        assert held.sweep_files() == [held.folder / f"{LEDGER_FILE}.partial"]

    def test_an_altered_ledger_is_not_guessed_at(self, held: HeldItem) -> None:
        path = held.folder / LEDGER_FILE
        path.write_bytes(path.read_bytes()[:-9])
        with pytest.raises(UnreadableDocumentError):
            load_ledger(held.folder)

    def test_an_item_that_is_not_here(self, ledgers: Ledgers, tmp_path: Path) -> None:
        assert not ledgers.has("none")
        with pytest.raises(UnknownItemError):
            ledgers.load("none")
        with pytest.raises(UnknownItemError):
            load_ledger(tmp_path)
        assert list(ledgers.items()) == []

    def test_forgotten_twice_is_forgotten_once(self, ledgers: Ledgers, held: HeldItem) -> None:
        ledgers.forget(held.item)
        ledgers.forget(held.item)
        assert not ledgers.has(ITEM)

    def test_a_write_replaces_the_whole(self, tmp_path: Path) -> None:
        write_durably(tmp_path / "x", b"longer than the next")
        write_durably(tmp_path / "x", b"short")
        assert (tmp_path / "x").read_bytes() == b"short"
        assert [path.name for path in tmp_path.iterdir()] == ["x"]

    def test_an_older_ledger_is_read(self, held: HeldItem) -> None:
        """Fields that came later have defaults."""
        path = held.folder / LEDGER_FILE
        lines = [
            line
            for line in path.read_text().splitlines()
            if not line.strip().startswith(('"variables"', '"ended"', '"proven"'))
        ]
        path.write_text("\n".join(lines))
        assert load_ledger(held.folder) == held.ledger
        save_ledger(held.folder, held.ledger)


@pytest.mark.parametrize(("ordered", "refused"), [(1, True), (2, False), (3, False)])
def test_an_order_of_an_older_epoch_is_void(held: HeldItem, ordered: int, refused: bool) -> None:
    held.save(epoch=2)
    if not refused:
        held.check_epoch(ordered)
        return
    with pytest.raises(StaleEpochError) as stale:
        held.check_epoch(ordered)
    assert (stale.value.ordered, stale.value.held) == (1, 2)


class TestFiles:
    def test_what_the_ledger_does_not_speak_of_is_swept(self, held: HeldItem) -> None:
        names = ["layer", "active", "beyond", "below", "aside", "test", "next", "stray"]
        for name in names:
            (held.folder / DISK / name).touch()
        (held.folder / "points").mkdir()
        for number in (1, 2):
            (held.folder / "points" / at(number).key).touch()
        of = {name: f"{DISK}/{name}" for name in names}
        one = chain(
            0,
            layers=(),
            active=of["active"],
            beyond=(replace(layer(2), path=of["beyond"]),),
            set_aside=(unsent(1, of["below"], path=of["aside"]),),
        )
        held.save(
            disks=(replace(one, layers=(replace(layer(1), path=of["layer"]),)),),
            points=(point(2),),
            test=RunningTest(machine="t", position=at(1), overlays={DISK: of["test"]}),
            rotating=RotateIntent(
                position=at(3), overlays={DISK: of["next"]}, previous=at(2), ways={}
            ),
        )
        assert held.sweep_files() == [held.folder / DISK / "stray"]
        assert {path.name for path in (held.folder / DISK).iterdir()} == set(names) - {"stray"}
        assert [path.name for path in (held.folder / "points").iterdir()] == [at(2).key]

    def test_only_what_nobody_speaks_of_is_dropped(self, held: HeldItem) -> None:
        for name in ("kept", "gone"):
            (held.folder / name).touch()
        held.save(disks=(chain(0, set_aside=(unsent(0, "kept"),)),))
        held.drop(["kept", "gone", "never"])
        assert (held.folder / "kept").exists()
        assert not (held.folder / "gone").exists()

    def test_images_that_stand_on_a_file_are_found(self, held: HeldItem) -> None:
        base = held.folder / "base"
        base.touch()
        first = image(held.folder / "1-1", base)
        aside = image(held.folder / "unsent", first)
        held.save(disks=(chain(0, [1], set_aside=(unsent(1),)),))
        (one,) = held.ledger.disks
        assert held.standing_on(one, base) == [first]
        assert held.standing_on(one, first) == [aside]
        assert held.standing_on(one, base, first) == [first, aside]


class TestPast:
    def test_maps_outlive_layers_and_are_forgotten_with_their_point(self, held: HeldItem) -> None:
        extents = ExtentSet([Extent(0, 4 * KiB), Extent(MiB, KiB)])
        for number in (1, 2):
            held.keep_map(DISK, at(number), extents)
        held.save(past=(PastPoint(position=at(2), states={}, changed={}),))
        held.tidy()
        assert held.map_of(DISK, at(2)) == extents
        with pytest.raises(FileNotFoundError):
            held.map_of(DISK, at(1))

    def test_the_oldest_is_forgotten_and_none_is_there_twice(self, held: HeldItem) -> None:
        for number in range(PAST_KEPT + 3):
            again = PastPoint(position=at(number), states={DISK: Digest("s")}, changed={})
            held.save(past=held.with_past(again))
            held.save(past=held.with_past(again))
        numbers = [past.position.sequence for past in held.ledger.past]
        assert numbers == list(range(3, PAST_KEPT + 3))


def test_a_thing_made_is_entered_once_and_again_after_it_went(held: HeldItem) -> None:
    for _ in range(2):
        held.save(made=held.made("disk", "a", "why", NOW))
    held.save(made=held.gone("disk", "a", NOW))
    assert [entry.gone_at for entry in held.ledger.made] == [NOW]
    held.save(made=held.made("disk", "a", "why", NOW))
    assert [entry.gone_at for entry in held.ledger.made] == [NOW, None]


class TestStamps:
    @pytest.fixture
    def stamped(self, held: HeldItem) -> HeldItem:
        base = held.folder / "base"
        base.write_bytes(b"base" * 100)
        image(held.folder / "1-1", base)
        one = chain(0, [1])
        held.save(disks=(restamped(held, one),))
        return held

    def test_untouched_files_look_as_we_left_them(self, stamped: HeldItem) -> None:
        assert altered(stamped, stamped.ledger.disks[0]) == frozenset()

    @pytest.mark.parametrize("name", ["base", "1-1"])
    def test_a_write_in_place_is_seen(self, stamped: HeldItem, name: str) -> None:
        with (stamped.folder / name).open("r+b") as file:
            file.seek(64)
            file.write(b"x")
        assert altered(stamped, stamped.ledger.disks[0]) == {name}

    def test_a_file_that_is_gone_is_altered(self, stamped: HeldItem) -> None:
        (stamped.folder / "1-1").unlink()
        assert altered(stamped, stamped.ledger.disks[0]) == {"1-1"}

    def test_what_was_touched_before_stays_known_as_such(self, stamped: HeldItem) -> None:
        for name in ("base", "1-1"):
            with (stamped.folder / name).open("r+b") as file:
                file.write(file.read(1))
        before = altered(stamped, stamped.ledger.disks[0])
        stamped.save(disks=(restamped(stamped, stamped.ledger.disks[0], but={"base"}),))
        assert before == {"base", "1-1"}
        assert altered(stamped, stamped.ledger.disks[0]) == {"base"}

    def test_what_was_never_stamped_is_not_told_of(self, stamped: HeldItem) -> None:
        assert altered(stamped, chain(0, [1])) == frozenset()
