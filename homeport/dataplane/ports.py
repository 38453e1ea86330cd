"""
The ports of the data plane: what it asks of the outside, and what it may rely on.

Each is a narrow protocol that lives here, with its user. The adapters are in `homeport/providers`,
each with an in-memory twin; one suite in `tests/contracts` holds all of them to the words below.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

from homeport.dataplane.objects import Body, ObjectFacts


class ObjectStore(Protocol):
    """
    Where objects wait between the sites: a folder, S3, Azure Blob or GCS.

    Keys are names joined by '/' (`check_key` has the rule; KeyRefusedError if it is broken). No key
    may lie beneath another one: a folder cannot hold both `a` and `a/b`, and refuses the second;
    other stores cannot tell. An object is meant to be written once; putting it again replaces it.

    Every call may be made from several threads at once, and may raise StoreUnreachableError (also
    for a bucket or folder that is gone: never taken for empty), StoreDeniedError and, when writing,
    StoreFullError. After any error nothing half-written is visible.
    """

    def put(self, key: str, body: Body, *, create_only: bool = False) -> None:
        """
        Store `body` under `key`; on return it survives a power cut.

        A reader sees all of it or what was there before, never a part. Pieces are pulled lazily and
        memory stays bounded; what reading them raises is passed on, and nothing was stored. An
        iterator can be put only once, so pass something that can be iterated again where the put
        is to be repeated after an error.

        With `create_only`, the key is taken at most once: of any number of callers one returns and
        the others get ObjectExistsError. That is atomic in a folder and in memory always, and in
        S3, Azure Blob and GCS for `bytes` and for pieces that together fit into one part
        (16 MiB). A longer stream of pieces is put there after looking whether the key is free, once
        before and once after the last piece: two writers that end in the same moment may both
        return, and the later one's content stays. What must have one winner is put as bytes.

        Raises:
            ObjectExistsError: `create_only`, and the key is taken.
            ObjectTooLargeError: more than the store can hold in one object.
        """
        ...

    def get(self, key: str) -> bytes:
        """
        The whole of a small object.

        Raises:
            ObjectMissingError: no such object.
            ObjectTooLargeError: it is larger than `SMALL_LIMIT`; stream it.
        """
        ...

    def stream(self, key: str, chunk: int, *, start: int = 0) -> Iterator[bytes]:
        """
        The object from byte `start` in pieces of exactly `chunk` bytes, the last one shorter.

        Nothing is read before the first piece is asked for, errors included. All pieces are of one
        object, also when it is replaced meanwhile. Nothing comes if `start` is the object's end.

        Raises:
            ObjectMissingError: no such object.
            ObjectReplacedError: it was replaced, and the store no longer has the old one.
            ObjectShortError: it ends before `start`.
        """
        ...

    def get_range(self, key: str, start: int, length: int) -> bytes:
        """
        Exactly `length` bytes from byte `start`; never fewer.

        Raises:
            ObjectMissingError: no such object.
            ObjectShortError: it ends before the range does.
            ValueError: `start` is negative or `length` not positive.
        """
        ...

    def head(self, key: str) -> ObjectFacts:
        """
        The object's facts, without reading it.

        Raises:
            ObjectMissingError: no such object.
        """
        ...

    def exists(self, key: str) -> bool:
        """Whether the object is there; False only if the store itself says so."""
        ...

    def list(self, prefix: str = "") -> Iterator[ObjectFacts]:
        """
        The facts of all objects beneath `prefix`, by key in the order of their bytes.

        A prefix is whole names: `a/b` (or `a/b/`) lists `a/b/c`, not `a/bc` and not `a/b`. Objects
        put or deleted meanwhile may be in it or not; all others are.
        """
        ...

    def delete(self, key: str) -> None:
        """Remove the object; on return it stays gone after a power cut. Absent already is fine."""
        ...
