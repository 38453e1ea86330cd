"""Files are whole or not there."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import pytest

from homeport.lab import files


def test_json_is_read_back(tmp_path: Path) -> None:
    files.write_json(tmp_path / "a/b.json", {"x": [1, None, "ä"]})
    assert files.read_json(tmp_path / "a/b.json") == {"x": [1, None, "ä"]}


def test_an_absent_file_is_none_and_a_broken_one_an_error(tmp_path: Path) -> None:
    assert files.read_json(tmp_path / "absent") is None
    (tmp_path / "broken").write_text("{")
    with pytest.raises(json.JSONDecodeError):
        files.read_json(tmp_path / "broken")


def test_after_an_error_the_old_file_stays_and_nothing_else(tmp_path: Path) -> None:
    place = tmp_path / "file"
    files.write_whole(place, "old")
    with pytest.raises(ValueError, match="is not"), files.whole_file(place) as partial:
        partial.write_text(_fail_after(partial))
    assert place.read_text() == "old"
    assert list(tmp_path.iterdir()) == [place]


def _fail_after(partial: Path) -> str:
    partial.write_text("half")
    raise ValueError("the rest is not there")


def test_the_old_file_is_seen_until_the_new_one_is_whole(tmp_path: Path) -> None:
    place = tmp_path / "file"
    files.write_whole(place, "old")
    with files.whole_file(place) as partial:
        partial.write_text("new")
        assert place.read_text() == "old"
    assert place.read_text() == "new"


def test_a_block_that_writes_nothing_fails(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), files.whole_file(tmp_path / "file"):
        pass
    assert not (tmp_path / "file").exists()


def test_one_holder_at_a_time(tmp_path: Path) -> None:
    order: list[str] = []
    with files.locked(tmp_path / "lock"):
        other = threading.Thread(target=lambda: _note(tmp_path / "lock", order))
        other.start()
        other.join(0.05)
        order.append("first")
    other.join()
    assert order == ["first", "second"]


def _note(lock: Path, order: list[str]) -> None:
    with files.locked(lock):
        order.append("second")


def test_a_lock_is_free_after_an_error(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), files.locked(tmp_path / "lock"):
        raise RuntimeError
    with files.locked(tmp_path / "lock"):
        pass


def test_trees_are_removed_once_and_for_all(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    (tree / "deep").mkdir(parents=True)
    (tree / "deep/file").write_text("x")
    files.remove_tree(tree)
    files.remove_tree(tree)
    assert not tree.exists()
