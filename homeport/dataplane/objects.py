"""
What an object in a cache store is: its key, its facts, its body, and what can go wrong with it.

The port itself is in `ports.py`; the stores behind it (`providers/store`) and the wrappers around
it (`wrappers.py`) share these words: a caller sees the same errors whatever the store is.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import TypeAlias

from homeport.errors import IntegrityError, NotFoundError, RefusedError, TransientError
from homeport.units import MiB, show_size

Body: TypeAlias = bytes | Iterable[bytes]
"""What is put: bytes, or pieces of any size that are read once, in order, as they are needed."""

SMALL_LIMIT = 64 * MiB
"""The most `get` reads into memory; manifests and digests are far below, images are streamed."""

# S3 ends keys at 1,024 bytes and the store's own prefix comes before ours; a name in a folder ends
# at 255 bytes.
KEY_LIMIT = 900
NAME_LIMIT = 240

# The letters that no store, URL or shell reads in its own way. A name starts with a letter, digit
# or underscore, as names with a dot are a folder store's own; Azure cuts a dot at the end.
_NAME = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9._=@-]*[A-Za-z0-9_=@-])?")


@dataclass(frozen=True, kw_only=True, slots=True)
class ObjectFacts:
    """What a store knows of an object without reading it; `modified_at` is the store's clock."""

    key: str
    size: int
    modified_at: datetime


class ObjectMissingError(NotFoundError):
    """The store answers, and no object has this key. What that means, the caller knows."""

    code = "ObjectMissing"
    default_remedy = "Check that the key and the cache store are the ones meant."

    def __init__(self, *, key: str, store: str) -> None:
        super().__init__(
            f"no object {key!r} in the cache store {store}",
            cause="It was never put there, or it was deleted.",
        )
        self.key, self.store = key, store


class ObjectExistsError(RefusedError):
    """A create-only put found the key taken. The object that is there was not touched."""

    code = "ObjectExists"

    def __init__(self, *, key: str, store: str) -> None:
        super().__init__(
            f"the object {key!r} is in the cache store {store} already",
            cause="It may be created only once, and somebody did so before.",
            remedy="Read it: it holds what came first. Choose another key for other content.",
        )
        self.key, self.store = key, store


class ObjectTooLargeError(RefusedError):
    """The object is larger than this call, or this store, can take."""

    code = "ObjectTooLarge"

    def __init__(self, *, key: str, store: str, limit: int, remedy: str) -> None:
        super().__init__(
            f"the object {key!r} in the cache store {store} is larger than {show_size(limit)}",
            cause="That is the most this call takes.",
            remedy=remedy,
        )
        self.key, self.store, self.limit = key, store, limit


class ObjectShortError(IntegrityError):
    """An object ends before the range that was asked for."""

    code = "ObjectShort"

    def __init__(self, *, key: str, store: str, start: int, length: int) -> None:
        super().__init__(
            f"the object {key!r} in the cache store {store} ends before byte {start + length}",
            cause="Its tail was cut, or it is not the object that its manifest names.",
        )
        self.key, self.store, self.start, self.length = key, store, start, length


class ObjectReplacedError(TransientError):
    """An object was put anew while it was read; what was read so far is to be dropped."""

    code = "ObjectReplaced"

    def __init__(self, *, key: str, store: str) -> None:
        super().__init__(
            f"the object {key!r} in the cache store {store} was replaced while it was read",
            cause="Somebody put the same key again, as a repeated upload does.",
        )
        self.key, self.store = key, store


class KeyRefusedError(RefusedError):
    """A key that not every store can hold."""

    code = "KeyRefused"

    def __init__(self, key: str, cause: str) -> None:
        super().__init__(
            f"{key[:80]!r} cannot be the key of an object",
            cause=cause,
            remedy="Use names of letters, digits and _ . = @ - that start with a letter or digit, "
            "joined by single slashes.",
        )
        self.key = key


class StoreUnreachableError(TransientError):
    """The store does not answer, or is not where it was. It is never taken for empty."""

    code = "StoreUnreachable"

    def __init__(self, *, store: str, cause: str, remedy: str | None = None) -> None:
        super().__init__(
            f"the cache store {store} cannot be reached",
            cause=cause,
            remedy=remedy
            or f"It is tried again by itself. If it stays, check that {store} exists "
            "and that this host can reach it.",
        )
        self.store = store


class StoreFullError(TransientError):
    """The store has no space left; nothing of the object is visible."""

    code = "StoreFull"

    def __init__(self, *, store: str, cause: str) -> None:
        super().__init__(
            f"the cache store {store} is full",
            cause=cause,
            remedy=f"Free space in {store} or enlarge it; replication goes on by itself then.",
        )
        self.store = store


class StoreDeniedError(RefusedError):
    """The store answers, and refuses: wrong credentials, missing rights, a wrong region."""

    code = "StoreDenied"

    def __init__(self, *, store: str, cause: str) -> None:
        super().__init__(
            f"the cache store {store} refuses the request",
            cause=cause,
            remedy="Check the credentials, their right to read, write, list and delete there, "
            f"and the endpoint and region given for {store}.",
        )
        self.store = store


def check_key(key: str) -> None:
    """
    Raise unless every store can hold `key`.

    Raises:
        KeyRefusedError: it is empty, too long, or a name in it is not portable.
    """
    if len(key) > KEY_LIMIT:
        raise KeyRefusedError(key, f"It has {len(key)} characters; {KEY_LIMIT} are the most.")
    for name in key.split("/"):
        if not _NAME.fullmatch(name):
            raise KeyRefusedError(key, f"The name {name[:80]!r} in it is not portable.")
        if len(name) > NAME_LIMIT:
            raise KeyRefusedError(key, f"A name in it has more than {NAME_LIMIT} characters.")


def check_prefix(prefix: str) -> str:
    """
    `prefix` without the slash it may end with; empty stands for the whole store.

    Raises:
        KeyRefusedError: no key can begin with it.
    """
    bare = prefix.removesuffix("/")
    if bare:
        check_key(bare)
    elif prefix:
        raise KeyRefusedError(prefix, "A key does not begin with a slash.")
    return bare


def check_range(start: int, length: int) -> None:
    """Raise ValueError unless `length` bytes from `start` are a range."""
    if start < 0 or length <= 0:
        raise ValueError(f"not a range of bytes: {length} from {start}")


def pieces_of(body: Body) -> Iterator[bytes]:
    """The body as pieces."""
    return iter((body,)) if isinstance(body, bytes) else iter(body)


def can_repeat(body: Body) -> bool:
    """Whether the body can be read a second time; an iterator cannot."""
    return isinstance(body, bytes) or iter(body) is not body


def regroup(pieces: Iterable[bytes], size: int) -> Iterator[bytes]:
    """
    The same bytes in pieces of exactly `size`, the last one shorter; none if there are no bytes.

        pieces  |--|-----------|-|     |----|
        result  |------|------|------|---|

    Holds at most one piece and `size` bytes at a time.

    Raises:
        ValueError: `size` is not positive.
    """
    if size <= 0:
        raise ValueError(f"the size of a piece must be positive, not {size}")
    waiting = bytearray()
    for piece in pieces:
        view = memoryview(piece)
        while len(waiting) + len(view) >= size:
            taken = size - len(waiting)
            waiting += view[:taken]
            view = view[taken:]
            yield bytes(waiting)
            waiting.clear()
        waiting += view
    if waiting:
        yield bytes(waiting)
