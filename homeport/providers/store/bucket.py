"""
A bucket as cache store: S3, Azure Blob and GCS through `obstore`; opened by `object_store.py`.

It adds what the port promises and the library does not: bounded parts, reading in windows that
each are a short request, create-only puts that are sent once, a missing bucket told from a missing
object, and errors sorted by what to do next.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from typing import Any, TypeAlias

import obstore
from obstore.exceptions import (
    AlreadyExistsError,
    BaseError,
    PermissionDeniedError,
    PreconditionError,
    UnauthenticatedError,
)
from obstore.store import AzureStore, GCSStore, S3Store

from homeport.dataplane.objects import (
    SMALL_LIMIT,
    Body,
    ObjectExistsError,
    ObjectFacts,
    ObjectMissingError,
    ObjectReplacedError,
    ObjectShortError,
    ObjectTooLargeError,
    StoreDeniedError,
    StoreUnreachableError,
    check_key,
    check_prefix,
    check_range,
    pieces_of,
    regroup,
)
from homeport.errors import HomeportError, IntegrityError
from homeport.units import MiB

Bucket: TypeAlias = S3Store | AzureStore | GCSStore

PART_SIZE = 16 * MiB
"""One part of an upload and one window of a download; 10,000 parts, S3's limit, are 156 GiB."""

PARTS_AT_ONCE = 4
"""Parts of one body on their way at the same time; a put of any size peaks at about 115 MiB."""

MAX_PARTS = 10_000
"""S3's limit for the parts of one object; Azure's is 50,000 and GCS's the same as S3's."""

# The library has one kind for most failures and puts the server's answer into its text alone:
# listing and uploading in parts give no other way to tell a refusal from a failure.
_STATUS = re.compile(r"non-2xx status code: (\d{3})")
_DENIED_STATUS = {400, 401, 403, 405, 407, 411, 414, 421, 301, 307, 308}

# Answered with a 400, yet no mistake of ours: Azure forgets the parts of an upload when another one
# to the same key completes; S3 waited for bytes on a slow line.
_AGAIN = re.compile("InvalidBlockList|RequestTimeout")

# The range begins at or behind the object's end: the server says so, or the library finds out.
_NO_RANGE = re.compile("status code: 416|InvalidRangeRequest")


@dataclass(frozen=True)
class BucketStore:
    """
    Objects in a bucket or container of a cloud, beneath a prefix; made by `open_store`.

    `once` is the same bucket without the library's own retries: a create-only put that is repeated
    behind our back would find the key taken by itself.
    """

    name: str
    bucket: Bucket
    once: Bucket
    hide: Callable[[str], str] = str
    part_size: int = PART_SIZE
    max_parts: int = MAX_PARTS

    def put(self, key: str, body: Body, *, create_only: bool = False) -> None:
        """Store the body; see the port."""
        check_key(key)
        if isinstance(body, bytes) and (create_only or len(body) <= self.part_size):
            self._put_at_once(key, body, create_only=create_only)
            return
        parts = regroup(pieces_of(body), self.part_size)
        first = next(parts, b"")
        if len(first) < self.part_size:
            self._put_at_once(key, first, create_only=create_only)
        else:
            self._put_in_parts(key, chain((first,), parts), create_only=create_only)

    def get(self, key: str) -> bytes:
        """The whole object; see the port."""
        check_key(key)
        with self._errors(key):
            answer = obstore.get(self.bucket, key)
            if answer.meta["size"] <= SMALL_LIMIT:
                return bytes(answer.bytes())
        raise ObjectTooLargeError(key=key, store=self.name, limit=SMALL_LIMIT, remedy="Stream it.")

    def stream(self, key: str, chunk: int, *, start: int = 0) -> Iterator[bytes]:
        """The object in pieces; see the port. Each window must be of the object first seen."""
        check_range(start, chunk)
        check_key(key)
        with self._errors(key):
            meta = obstore.head(self.bucket, key)
        if start > meta["size"]:
            raise ObjectShortError(key=key, store=self.name, start=start, length=0)
        yield from regroup(self._windows(key, start, meta["size"], meta["e_tag"]), chunk)

    def get_range(self, key: str, start: int, length: int) -> bytes:
        """The bytes of a range; see the port."""
        check_range(start, length)
        check_key(key)
        try:
            with self._errors(key):
                part = bytes(obstore.get_range(self.bucket, key, start=start, length=length))
        except HomeportError as error:
            if not _NO_RANGE.search(str(error.__cause__)):
                raise
            part = b""
        if len(part) < length:
            raise ObjectShortError(key=key, store=self.name, start=start, length=length)
        return part

    def head(self, key: str) -> ObjectFacts:
        """The object's facts; see the port."""
        check_key(key)
        with self._errors(key):
            return _facts(obstore.head(self.bucket, key))

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
        return self._in_order(bare)

    def delete(self, key: str) -> None:
        """Remove the object; see the port."""
        check_key(key)
        try:
            with self._errors(key):
                obstore.delete(self.bucket, key)
        except ObjectMissingError:
            pass

    def _put_at_once(self, key: str, body: bytes, *, create_only: bool) -> None:
        with self._errors(key, writes=True):
            if create_only:
                obstore.put(self.once, key, body, mode="create", use_multipart=False)
            else:
                obstore.put(self.bucket, key, body, use_multipart=False)

    def _put_in_parts(self, key: str, parts: Iterator[bytes], *, create_only: bool) -> None:
        """
        Upload the parts as they come; only closing the upload makes the object visible.

        The body is pulled here, in the caller's thread: the library's own way pulls it in one of
        its few, where a slow body holds up every other request and one that reads from a store
        cannot run at all. An upload that is left is never closed, not even by its `with`; S3 keeps
        its parts, hidden, until the bucket's rule for incomplete uploads removes them.
        """
        self._check_free(key, create_only=create_only)
        with self._errors(key, writes=True):
            upload = obstore.open_writer(
                self.bucket, key, buffer_size=self.part_size, max_concurrency=PARTS_AT_ONCE
            )
        for count, part in enumerate(parts, start=1):
            if count > self.max_parts:
                raise self._too_large(key)
            with self._errors(key, writes=True):
                upload.write(part)
        self._check_free(key, create_only=create_only)
        with self._errors(key, writes=True):
            upload.close()

    def _check_free(self, key: str, *, create_only: bool) -> None:
        if create_only and self.exists(key):
            raise ObjectExistsError(key=key, store=self.name)

    def _too_large(self, key: str) -> ObjectTooLargeError:
        limit = self.part_size * self.max_parts
        return ObjectTooLargeError(
            key=key, store=self.name, limit=limit, remedy="Put it as several objects."
        )

    def _windows(self, key: str, start: int, size: int, tag: str | None) -> Iterator[bytes]:
        for at in range(start, size, self.part_size):
            end = min(at + self.part_size, size)
            with self._errors(key):
                answer = obstore.get(
                    self.bucket, key, options={"range": (at, end), "if_match": tag}
                )
                part = bytes(answer.bytes())
            if len(part) != end - at:
                raise ObjectShortError(key=key, store=self.name, start=at, length=end - at)
            yield part

    def _in_order(self, bare: str) -> Iterator[ObjectFacts]:
        last = ""
        pages = obstore.list(self.bucket, bare or None, chunk_size=1000)
        while True:
            with self._errors(bare, writes=True):
                page = next(pages, None)
            if page is None:
                return
            for facts in map(_facts, page):
                if facts.key <= last:
                    raise _unordered(self.name)
                last = facts.key
                yield facts

    def _check_bucket(self, key: str) -> None:
        """Raise unless the bucket is there: an object is missing only from a bucket that is."""
        with self._errors(key, writes=True):
            next(obstore.list(self.bucket, key), None)

    @contextmanager
    def _errors(self, key: str, *, writes: bool = False) -> Iterator[None]:
        """Sort the library's errors; where no object is asked for, what is missing is the store."""
        try:
            yield
        except FileNotFoundError as error:
            if writes:
                raise self._unreachable(error) from error
            self._check_bucket(key)
            raise ObjectMissingError(key=key, store=self.name) from error
        except AlreadyExistsError as error:
            raise ObjectExistsError(key=key, store=self.name) from error
        except PreconditionError as error:
            raise ObjectReplacedError(key=key, store=self.name) from error
        except (PermissionDeniedError, UnauthenticatedError) as error:
            raise StoreDeniedError(store=self.name, cause=self._cause(error)) from error
        except (BaseError, OSError) as error:
            if _status(error) in _DENIED_STATUS and not _AGAIN.search(str(error)):
                raise StoreDeniedError(store=self.name, cause=self._cause(error)) from error
            raise self._unreachable(error) from error

    def _unreachable(self, error: BaseException) -> StoreUnreachableError:
        return StoreUnreachableError(store=self.name, cause=self._cause(error))

    def _cause(self, error: BaseException) -> str:
        return self.hide(explain(error))


def explain(error: BaseException) -> str:
    """The library's words for an error: one line, without its debug part and URLs' queries."""
    words = str(error).partition("Debug source:")[0]
    words = re.sub(r"(https?://[^\s?]+)\?\S*", r"\1", words)
    return " ".join(words.split())[:400]


def _status(error: BaseException | None) -> int | None:
    found = _STATUS.search(str(error))
    return int(found.group(1)) if found else None


def _facts(meta: Any) -> ObjectFacts:
    return ObjectFacts(key=meta["path"], size=meta["size"], modified_at=meta["last_modified"])


def _unordered(store: str) -> IntegrityError:
    return IntegrityError(
        f"the cache store {store} does not list its objects in order",
        code="StoreUnordered",
        cause="S3's directory buckets, for one, do not; then no listing can be relied on.",
        remedy="Use a general purpose bucket.",
    )
