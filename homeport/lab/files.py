"""Files of the lab that must never be seen half-written."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from homeport.lab.commands import attempt


def sync_folder(folder: Path) -> None:
    """Make renames and new names in this folder survive a power cut."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """
    Give a name beside `path` to write to; put it in place, synced, when the block ends well.

    Any older file stays until then, and after an error nothing is left of the new one. Two
    writers at once do not meet: the name holds the process id, and the last rename wins.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        yield partial
        with partial.open("rb") as file:
            os.fsync(file.fileno())
        partial.replace(path)
        sync_folder(path.parent)
    finally:
        partial.unlink(missing_ok=True)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock file at `path`, made if it is not there; waits for whoever holds it."""
    with path.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def remove_tree(folder: Path) -> None:
    """Remove a folder and all in it, files marked immutable included. Twice is once."""
    if not folder.exists():
        return
    try:
        shutil.rmtree(folder)
    except PermissionError:
        attempt(["chattr", "-R", "-f", "-i", folder])
        shutil.rmtree(folder)


def write_whole(path: Path, text: str) -> None:
    """Put `text` at `path`, atomically and durably."""
    with whole_file(path) as partial:
        partial.write_text(text)


def write_json(path: Path, value: object) -> None:
    """Put `value` at `path` as JSON a person can read, atomically and durably."""
    write_whole(path, json.dumps(value, indent=2, sort_keys=True) + "\n")


def read_json(path: Path) -> Any:
    """The JSON at `path`, or None if there is no such file."""
    try:
        return json.loads(path.read_text())
    except FileNotFoundError:
        return None
