"""The flag for immutable files, on whatever file system the tests have."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from homeport.dataplane import flags


@pytest.fixture
def path(tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / "base.raw"
    path.write_bytes(b"data")
    yield path
    flags.set_immutable(path, on=False)


def works(path: Path) -> bool:
    return flags.set_immutable(path, on=True)


def test_the_answer_is_what_holds(path: Path) -> None:
    could = works(path)
    assert flags.is_immutable(path) is could
    if could:
        with pytest.raises(PermissionError):
            path.unlink()
    assert flags.set_immutable(path, on=False) is True or not could
    path.write_bytes(b"other")
    assert not flags.is_immutable(path)


def test_what_it_says_is_kept_when_set_twice(path: Path) -> None:
    assert works(path) is works(path)
    assert flags.set_immutable(path, on=False) is flags.set_immutable(path, on=False)


def test_a_stamp_does_not_change(path: Path) -> None:
    before = path.stat()
    works(path)
    now = path.stat()
    same = (now.st_size, now.st_mtime_ns, now.st_ino)
    assert same == (before.st_size, before.st_mtime_ns, before.st_ino)


def test_other_flags_stay(path: Path) -> None:
    with flags._opened(path) as handle:
        before = flags._read(handle)
    works(path)
    flags.set_immutable(path, on=False)
    with flags._opened(path) as handle:
        assert flags._read(handle) == before


def gone(folder: Path) -> Path:
    return folder / "gone"


def folder_itself(folder: Path) -> Path:
    return folder


def device(_folder: Path) -> Path:
    return Path(os.devnull)


def proc(_folder: Path) -> Path:
    return Path("/proc/self/status")


@pytest.mark.parametrize("named", [gone, folder_itself, device, proc])
@pytest.mark.parametrize("on", [True, False])
def test_what_has_no_such_flag_is_left(tmp_path: Path, named: object, on: bool) -> None:
    path = named(tmp_path)  # type: ignore[operator]
    assert flags.set_immutable(path, on=on) is False
    assert flags.is_immutable(path) is False
