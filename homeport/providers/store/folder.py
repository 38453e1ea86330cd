"""
A folder as cache store: what the embedded default uses, and any file system two sites share.

Written here and not left to `obstore`, whose local store neither syncs what it writes nor notices
that its folder is gone. The order of a put is what a power cut can stop anywhere:

    write .homeport-store/<partial> -> fsync it -> mkdir what is missing -> rename or link -> fsync
                                                                           (visible)     (lasting)

`.homeport-store` also marks the folder: without it the folder is not the store but, say, the empty
place where a share is not mounted now, and every call says so. Partials that a killed writer left
are removed when the store is opened; a living writer holds a lock on its own.
"""

from __future__ import annotations

import errno
import fcntl
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from homeport.dataplane.objects import (
    SMALL_LIMIT,
    Body,
    KeyRefusedError,
    ObjectExistsError,
    ObjectFacts,
    ObjectMissingError,
    ObjectShortError,
    ObjectTooLargeError,
    StoreDeniedError,
    StoreFullError,
    StoreUnreachableError,
    check_key,
    check_prefix,
    check_range,
    pieces_of,
)

MARK = ".homeport-store"
"""The folder inside the root that makes it a store, and holds what is being written."""

# Between making a key's folders and renaming into them, a delete may remove them as empty; each
# round loses only to one more delete that does so, and twenty in a row do not happen by chance.
_ROUNDS = 20

_NOT_ALONE = "Another object lies above or beneath it."
_DENIED = {errno.EACCES, errno.EPERM, errno.EROFS}
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


@dataclass(frozen=True)
class FolderStore:
    """Objects as plain files beneath `root`, an absolute path; made by `open_folder`."""

    root: Path

    @property
    def name(self) -> str:
        """The store as messages name it."""
        return self.root.as_uri()

    def put(self, key: str, body: Body, *, create_only: bool = False) -> None:
        """Store the body; see the port."""
        path = self._path(key)
        with self._errors(key):
            self._check_place(path, key, create_only=create_only)
            number, partial = _make_partial(self.root / MARK)
        try:
            self._write(number, body, key)
            with self._errors(key):
                self._publish(key, Path(partial), create_only=create_only)
        finally:
            os.close(number)  # and with it the lock that keeps the partial from being swept
            with suppress(OSError):
                Path(partial).unlink()

    def get(self, key: str) -> bytes:
        """The whole object; see the port."""
        size = self.head(key).size
        if size > SMALL_LIMIT:
            raise ObjectTooLargeError(
                key=key, store=self.name, limit=SMALL_LIMIT, remedy="Stream it."
            )
        with self._errors(key):
            return self._path(key).read_bytes()

    def stream(self, key: str, chunk: int, *, start: int = 0) -> Iterator[bytes]:
        """The object in pieces; see the port. The open file stays the same when replaced."""
        check_range(start, chunk)
        with self._errors(key):
            file = self._path(key).open("rb", buffering=0)
        with file:
            with self._errors(key):
                size = os.fstat(file.fileno()).st_size
            if start > size:
                raise ObjectShortError(key=key, store=self.name, start=start, length=0)
            for at in range(start, size, chunk):
                yield self._read(file.fileno(), key, at, min(chunk, size - at))

    def get_range(self, key: str, start: int, length: int) -> bytes:
        """The bytes of a range; see the port."""
        check_range(start, length)
        with self._errors(key):
            file = self._path(key).open("rb", buffering=0)
        with file:
            return self._read(file.fileno(), key, start, length)

    def head(self, key: str) -> ObjectFacts:
        """The object's facts; see the port."""
        with self._errors(key):
            facts = _facts(key, self._path(key))
            if facts is None:
                raise IsADirectoryError(key)
            return facts

    def exists(self, key: str) -> bool:
        """Whether the object is there; see the port."""
        try:
            self.head(key)
        except ObjectMissingError:
            return False
        return True

    def list(self, prefix: str = "") -> Iterator[ObjectFacts]:
        """The facts of all objects beneath the prefix, in order; see the port."""
        bare = check_prefix(prefix)
        return self._walk(bare)

    def delete(self, key: str) -> None:
        """Remove the object, and the folders that are empty without it; see the port."""
        path = self._path(key)
        with self._errors(key):
            self._check_root()
            with suppress(FileNotFoundError, NotADirectoryError, IsADirectoryError):
                path.unlink()
                _sync_folder(path.parent)
            self._prune(path.parent)

    def _path(self, key: str) -> Path:
        check_key(key)
        return self.root / key

    def _check_root(self) -> None:
        if not (self.root / MARK).is_dir():
            raise _gone(self.name)

    def _check_place(self, path: Path, key: str, *, create_only: bool) -> None:
        """Refuse before the body is read; the same is found again when it is published."""
        self._check_root()
        if path.is_dir() or any(above.is_file() for above in self._above(path)):
            raise KeyRefusedError(key, _NOT_ALONE)
        if create_only and path.exists():
            raise ObjectExistsError(key=key, store=self.name)

    def _above(self, path: Path) -> Iterator[Path]:
        return (folder for folder in path.parents if folder.is_relative_to(self.root))

    def _write(self, number: int, body: Body, key: str) -> None:
        for piece in pieces_of(body):  # what reading the body raises is not the store's
            with self._errors(key):
                _write_whole(number, piece)
        with self._errors(key):
            os.fsync(number)

    def _publish(self, key: str, partial: Path, *, create_only: bool) -> None:
        path = self._path(key)
        for _ in range(_ROUNDS):
            try:
                _make_folders(path.parent, self.root)
                if create_only:
                    path.hardlink_to(partial)  # fails when the name is taken, as no rename does
                else:
                    partial.replace(path)
            except FileNotFoundError:
                self._check_root()
            except (IsADirectoryError, NotADirectoryError) as error:
                raise KeyRefusedError(key, _NOT_ALONE) from error
            else:
                self._make_lasting(path.parent)
                return
        raise StoreUnreachableError(
            store=self.name, cause=f"{path.parent} is removed as often as it is made."
        )

    def _make_lasting(self, folder: Path) -> None:
        try:
            _sync_folder(folder)
        except (
            FileNotFoundError
        ):  # the object was deleted as soon as it was seen, the folder with it
            self._check_root()

    def _read(self, number: int, key: str, start: int, length: int) -> bytes:
        parts = bytearray()
        with self._errors(key):
            while len(parts) < length:
                part = os.pread(number, length - len(parts), start + len(parts))
                if not part:
                    raise ObjectShortError(key=key, store=self.name, start=start, length=length)
                parts += part
        return bytes(parts)

    def _walk(self, bare: str) -> Iterator[ObjectFacts]:
        with self._errors(bare):
            self._check_root()
            entries = _entries(self.root / bare)
        for entry in entries:
            key = f"{bare}/{entry.name}" if bare else entry.name
            with self._errors(key):
                folder = entry.is_dir(follow_symlinks=False)
                facts = None if folder else _facts(key, Path(entry.path))
            if folder:
                yield from self._walk(key)
            elif facts is not None:
                yield facts

    def _prune(self, folder: Path) -> None:
        while folder != self.root:
            try:
                folder.rmdir()
            except FileNotFoundError:
                pass
            except OSError:
                return  # not empty: a folder that is needed
            folder = folder.parent

    @contextmanager
    def _errors(self, key: str) -> Iterator[None]:
        try:
            yield
        except FileExistsError as error:
            raise self._taken(key) from error
        except (FileNotFoundError, IsADirectoryError, NotADirectoryError) as error:
            self._check_root()
            raise ObjectMissingError(key=key, store=self.name) from error
        except OSError as error:
            raise self._failed(error) from error

    def _taken(self, key: str) -> KeyRefusedError | ObjectExistsError:
        if (self.root / key).is_file():
            return ObjectExistsError(key=key, store=self.name)
        return KeyRefusedError(key, _NOT_ALONE)

    def _failed(self, error: OSError) -> StoreDeniedError | StoreFullError | StoreUnreachableError:
        cause = f"{os.strerror(error.errno or errno.EIO)}."
        if error.errno in _FULL:
            return StoreFullError(store=self.name, cause=cause)
        if error.errno in _DENIED:
            return StoreDeniedError(store=self.name, cause=cause)
        return StoreUnreachableError(store=self.name, cause=cause)


def open_folder(root: Path, *, create: bool = False) -> FolderStore:
    """
    The store in `root`; with `create` the folder and its mark are made if they are missing.

    Say `create` when a store is set up, not each time it is used: it cannot tell a new folder from
    one whose share is not mounted.

    Raises:
        StoreUnreachableError: the folder is missing, or is no store.
        StoreDeniedError, StoreFullError: it cannot be made or read.
    """
    store = FolderStore(root)
    with store._errors(MARK):
        if create:
            _make_folders(root / MARK, Path(root.anchor))
        store._check_root()
        _sweep(root / MARK)
    return store


def _gone(store: str) -> StoreUnreachableError:
    return StoreUnreachableError(
        store=store,
        cause=f"There is no folder {MARK!r} in it: it is not mounted, was removed, or is new.",
        remedy="Mount it again. A new store is made when a direction of replication begins in it.",
    )


def _make_partial(folder: Path) -> tuple[int, str]:
    """
    A new file in `folder`, open for writing and locked; its name comes from the system.

    One that a sweep took between its making and its lock has no name any more: another is made.
    """
    while True:
        number, path = tempfile.mkstemp(dir=folder)
        try:
            fcntl.flock(number, fcntl.LOCK_EX)
            if os.fstat(number).st_nlink:
                return number, path
        except BaseException:
            os.close(number)
            raise
        os.close(number)


def _sweep(folder: Path) -> None:
    """Remove the partials that nobody is writing."""
    for path in folder.iterdir():
        with suppress(OSError):
            number = os.open(path, os.O_RDWR)
            try:
                fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
                path.unlink()
            finally:
                os.close(number)


def _write_whole(number: int, piece: bytes) -> None:
    view = memoryview(piece)
    while view:
        view = view[os.write(number, view) :]


def _make_folders(folder: Path, root: Path) -> None:
    """Make `folder` and what is missing above it, each synced into its parent; never `root`."""
    missing = []
    while folder != root and not folder.is_dir():
        missing.append(folder)
        folder = folder.parent
    for each in reversed(missing):
        with suppress(FileExistsError):
            each.mkdir()
        _sync_folder(each.parent)


def _sync_folder(folder: Path) -> None:
    number = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(number)
    finally:
        os.close(number)


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    """
    What is in `folder` in the order of keys; nothing if it is gone by now.

    A folder sorts as its name with a slash, since that is how the keys beneath it go on: `a-b`
    comes before `a/b`, although `a` comes before `a-b`.
    """
    try:
        with os.scandir(folder) as found:
            named = [entry for entry in found if not entry.name.startswith(".")]
    except (FileNotFoundError, NotADirectoryError):
        return []
    return sorted(named, key=lambda entry: entry.name + "/" * entry.is_dir(follow_symlinks=False))


def _facts(key: str, path: Path) -> ObjectFacts | None:
    """The facts of a file, None for anything else and for one deleted since it was listed."""
    if path.is_dir():
        return None
    try:
        stat = path.stat()
    except FileNotFoundError:
        return None
    moment = datetime.fromtimestamp(stat.st_mtime, tz=UTC)
    return ObjectFacts(key=key, size=stat.st_size, modified_at=moment)
