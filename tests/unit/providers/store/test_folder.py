"""What is a folder's own: the order of syncs, leftovers of killed writers, full and lost disks."""

from __future__ import annotations

import fcntl
import os
import resource
import shutil
import stat
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from homeport.dataplane.objects import (
    KeyRefusedError,
    ObjectMissingError,
    StoreDeniedError,
    StoreFullError,
    StoreUnreachableError,
)
from homeport.providers.store.folder import MARK, FolderStore, open_folder
from homeport.units import KiB


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "store"


@pytest.fixture
def store(root: Path) -> FolderStore:
    return open_folder(root, create=True)


def leftovers(root: Path) -> list[str]:
    return [path.name for path in (root / MARK).iterdir()]


@pytest.fixture
def syncs(monkeypatch: pytest.MonkeyPatch, root: Path) -> list[tuple[str, int, list[str]]]:
    """Each fsync: a folder's name or `file`, its size, and the objects visible at that moment."""
    seen: list[tuple[str, int, list[str]]] = []
    real = os.fsync

    def fsync(number: int) -> None:
        real(number)
        facts, path = os.fstat(number), Path(f"/proc/self/fd/{number}").readlink()
        visible = [str(p.relative_to(root)) for p in root.rglob("*") if p.is_file()]
        visible = [name for name in visible if not name.startswith(MARK)]
        folder = stat.S_ISDIR(facts.st_mode)
        seen.append((path.name if folder else "file", 0 if folder else facts.st_size, visible))

    monkeypatch.setattr(os, "fsync", fsync)
    return seen


@pytest.mark.parametrize("create_only", [False, True], ids=["put", "create"])
def test_an_object_is_synced_before_it_is_seen_and_its_folder_after(
    store: FolderStore, syncs: list[tuple[str, int, list[str]]], create_only: bool
) -> None:
    store.put("a/b/c", [b"12", b"345"], create_only=create_only)
    assert syncs == [
        ("file", 5, []),
        ("store", 0, []),  # has the new folder a
        ("a", 0, []),  # has the new folder b
        ("b", 0, ["a/b/c"]),
    ]


def test_a_deletion_is_synced(store: FolderStore, syncs: list[tuple[str, int, list[str]]]) -> None:
    store.put("a/b", b"1")
    syncs.clear()
    store.delete("a/b")
    assert syncs == [("a", 0, [])]


def test_making_a_store_is_synced_up_to_what_was_there(
    root: Path, syncs: list[tuple[str, int, list[str]]]
) -> None:
    open_folder(root / "x" / "y", create=True)
    assert [name for name, _, _ in syncs][1:] == ["store", "x", "y"]


def test_nothing_is_left_of_a_put_that_ended_in_any_way(root: Path, store: FolderStore) -> None:
    def body() -> Iterator[bytes]:
        yield b"1"
        raise KeyError

    store.put("a/b", b"1")
    with pytest.raises(KeyError):
        store.put("a/c", body())
    assert leftovers(root) == []


def test_empty_folders_go_with_their_last_object(root: Path, store: FolderStore) -> None:
    store.put("a/b/c/d", b"1")
    store.put("a/x", b"1")
    store.delete("a/b/c/d")
    assert sorted(path.name for path in (root / "a").iterdir()) == ["x"]
    store.delete("a/x")
    assert [path.name for path in root.iterdir()] == [MARK]


def test_partials_of_killed_writers_go_when_the_store_is_opened(
    root: Path, store: FolderStore
) -> None:
    (root / MARK / "dead").write_bytes(b"half")
    living = root / MARK / "living"
    with living.open("wb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        open_folder(root)
        assert leftovers(root) == ["living"]
    open_folder(root)
    assert leftovers(root) == []


def test_opening_a_store_does_not_disturb_its_writers(root: Path, store: FolderStore) -> None:
    def body() -> Iterator[bytes]:
        yield b"1"
        open_folder(root)
        yield b"2"

    store.put("a", body())
    assert store.get("a") == b"12"


def test_a_store_that_goes_while_it_is_written_shows_nothing(
    root: Path, store: FolderStore
) -> None:
    def body() -> Iterator[bytes]:
        yield b"1"
        root.rename(root.with_name("away"))

    with pytest.raises(StoreUnreachableError):
        store.put("a/b", body())
    assert not root.exists()


def test_an_empty_mount_point_is_not_the_store(root: Path, store: FolderStore) -> None:
    store.put("a", b"1")
    root.rename(root.with_name("away"))
    root.mkdir()
    with pytest.raises(StoreUnreachableError, match="cannot be reached"):
        store.exists("a")
    with pytest.raises(StoreUnreachableError):
        list(store.list())
    with pytest.raises(StoreUnreachableError):
        store.put("b", b"1")
    assert list(root.iterdir()) == []


def test_a_full_disk_is_said_to_be_full(root: Path, store: FolderStore) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (64 * KiB, hard))
    try:
        with pytest.raises(StoreFullError) as caught:
            store.put("a/b", (b"x" * KiB for _ in range(100)))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert "Free space" in caught.value.remedy
    assert list(store.list()) == []
    assert leftovers(root) == []


@contextmanager
def nobody() -> Iterator[None]:
    """Without root's right to pass over modes."""
    user = os.geteuid()
    os.seteuid(65534 if user == 0 else user)
    try:
        yield
    finally:
        os.seteuid(user)


@pytest.mark.parametrize("call", ["open", "get", "put", "list"])
def test_a_folder_one_may_not_enter_is_denied(root: Path, store: FolderStore, call: str) -> None:
    store.put("a/b", b"1")
    acts: dict[str, Callable[[], object]] = {
        "open": lambda: open_folder(root),
        "get": lambda: store.get("a/b"),
        "put": lambda: store.put("a/c", b"1"),
        "list": lambda: list(store.list()),
    }
    root.chmod(0)
    try:
        with nobody(), pytest.raises(StoreDeniedError) as caught:
            acts[call]()
    finally:
        root.chmod(0o755)
    assert root.as_uri() in str(caught.value)


@pytest.mark.parametrize("create_only", [False, True], ids=["put", "create"])
@pytest.mark.parametrize("key", ["a", "a/b/c", "a/b/c/d"])
def test_an_object_cannot_lie_above_or_beneath_another(
    store: FolderStore, key: str, create_only: bool
) -> None:
    store.put("a/b", b"1")
    with pytest.raises(KeyRefusedError):
        store.put(key, b"2", create_only=create_only)
    assert [facts.key for facts in store.list()] == ["a/b"]


def test_that_is_found_also_when_it_comes_up_meanwhile(store: FolderStore) -> None:
    def body() -> Iterator[bytes]:
        store.put("a/b", b"1")
        yield b"2"

    for key in ("a", "a/b/c"):
        store.delete("a/b")
        with pytest.raises(KeyRefusedError):
            store.put(key, body())
        assert [facts.key for facts in store.list()] == ["a/b"]


def test_a_reader_of_a_replaced_object_reads_the_old_one_to_its_end(store: FolderStore) -> None:
    store.put("a", b"old!")
    stream = store.stream("a", 1)
    first = next(stream)
    store.put("a", b"new!")
    assert first + b"".join(stream) == b"old!"


def test_puts_and_deletes_that_make_and_remove_the_same_folder(store: FolderStore) -> None:
    def turn(number: int) -> None:
        key = f"a/b/c/{number % 4}"
        store.put(key, b"1")
        store.delete(key)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(turn, range(400)))
    assert list(store.list()) == []


@pytest.fixture
def taken_when_seen(monkeypatch: pytest.MonkeyPatch, root: Path) -> list[Path]:
    """What is removed, by somebody else, between a put's making its object visible and its sync."""
    victims: list[Path] = []
    real = os.open

    def opened(path: Path, flags: int, *rest: int, **options: int) -> int:
        while (root / "a/b/1").exists() and victims:
            shutil.rmtree(victims.pop())
        return real(path, flags, *rest, **options)

    monkeypatch.setattr(os, "open", opened)
    return victims


def test_a_put_whose_object_is_deleted_as_soon_as_it_is_seen(
    store: FolderStore, root: Path, taken_when_seen: list[Path]
) -> None:
    taken_when_seen.append(root / "a")
    store.put("a/b/1", b"1")
    assert list(store.list()) == []


def test_a_put_whose_store_is_gone_before_it_is_lasting_is_no_put(
    store: FolderStore, root: Path, taken_when_seen: list[Path]
) -> None:
    taken_when_seen.append(root)
    with pytest.raises(StoreUnreachableError):
        store.put("a/b/1", b"1")


def test_foreign_hidden_files_are_not_objects(root: Path, store: FolderStore) -> None:
    (root / ".nfs0001").write_bytes(b"1")
    store.put("a", b"1")
    assert [facts.key for facts in store.list()] == ["a"]
    with pytest.raises(ObjectMissingError):
        store.get("b")
