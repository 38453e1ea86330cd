"""
The stores every contract test runs against, each fresh: its own folder, or prefix in a bucket.

Servers are started once a session, and only when a test asks for them.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import timedelta
from itertools import count
from pathlib import Path

import pytest

from homeport.dataplane.ports import ObjectStore
from homeport.dataplane.wrappers import LimitedStore, MeteredStore, RetryingStore
from homeport.providers.store.bucket import BucketStore
from homeport.providers.store.memory import MemoryStore
from homeport.providers.store.object_store import open_store
from homeport.units import GiB, MiB
from tests.faults import FaultyStore
from tests.servers import Server, azure_server, free_port, s3_server

BUCKET = "cache"
SMALL_PART = 5 * MiB  # S3's smallest part, so that a test's bodies have several

_numbers = count()


@dataclass(frozen=True)
class Peer:
    """A store under test, and ways to open it wrongly."""

    store: ObjectStore
    again: Callable[[], ObjectStore]
    unreachable: Callable[[], ObjectStore] | None = None
    gone: Callable[[], ObjectStore] | None = None
    bounded: bool = True


def _memory(_: pytest.FixtureRequest) -> Peer:
    store = MemoryStore()
    return Peer(store=store, again=lambda: store, bounded=False)


def _folder(request: pytest.FixtureRequest) -> Peer:
    root: Path = request.getfixturevalue("tmp_path") / "store"
    lost = root.with_name("lost")

    def gone() -> ObjectStore:
        store = open_store(lost.as_uri(), create=True)
        lost.rename(lost.with_name("away"))
        return store

    store = open_store(root.as_uri(), create=True)
    return Peer(store=store, again=lambda: open_store(root.as_uri()), gone=gone, unreachable=gone)


def _bucket(server: Server) -> Peer:
    url = server.url(BUCKET, f"test-{next(_numbers)}")

    def at(url: str, **changed: str) -> ObjectStore:
        store = open_store(url, {**server.options, **changed})
        assert isinstance(store, BucketStore)
        return replace(store, part_size=SMALL_PART)

    nowhere = server.options["endpoint"].replace(str(server.port), str(free_port()))
    return Peer(
        store=at(url),
        again=lambda: at(url),
        unreachable=lambda: at(url, endpoint=nowhere),
        gone=lambda: at(server.url("no-such-bucket", "x")),
    )


def _s3(request: pytest.FixtureRequest) -> Peer:
    return _bucket(request.getfixturevalue("s3"))


def _azure(request: pytest.FixtureRequest) -> Peer:
    return _bucket(request.getfixturevalue("azure"))


def _wrapped(make: Callable[[pytest.FixtureRequest], Peer]) -> Callable[..., Peer]:
    def around(inner: ObjectStore) -> ObjectStore:
        limited = LimitedStore(MeteredStore(inner), 10 * GiB, time.monotonic, lambda _: None)
        return RetryingStore(FaultyStore(limited, ()), [timedelta(0)] * 2, lambda _: None)

    def wrap(request: pytest.FixtureRequest) -> Peer:
        peer = make(request)

        def later(opening: Callable[[], ObjectStore] | None) -> Callable[[], ObjectStore] | None:
            return opening and (lambda: around(opening()))

        return replace(
            peer,
            store=around(peer.store),
            again=lambda: around(peer.again()),
            unreachable=later(peer.unreachable),
            gone=later(peer.gone),
        )

    return wrap


_REAL = pytest.mark.real
_LONG = pytest.mark.long  # the wrappers are held to the port by the quicker stores in CI
OUTSIDE = [
    pytest.param(_folder, id="folder"),
    pytest.param(_wrapped(_folder), id="folder in all wrappers"),
    pytest.param(_s3, id="S3", marks=_REAL),
    pytest.param(_wrapped(_s3), id="S3 in all wrappers", marks=[_REAL, _LONG]),
    pytest.param(_azure, id="Azure Blob", marks=_REAL),
    pytest.param(_wrapped(_azure), id="Azure Blob in all wrappers", marks=[_REAL, _LONG]),
]
STORES = [
    pytest.param(_memory, id="memory"),
    pytest.param(_wrapped(_memory), id="memory in all wrappers"),
    *OUTSIDE,
]


@pytest.fixture(scope="session")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with s3_server(tmp_path_factory.mktemp("s3"), bucket=BUCKET) as server:
        yield server


@pytest.fixture(scope="session")
def azure(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with azure_server(tmp_path_factory.mktemp("azure"), container=BUCKET) as server:
        yield server


@pytest.fixture(params=STORES)
def peer(request: pytest.FixtureRequest) -> Peer:
    """Every store."""
    made: Peer = request.param(request)
    return made


@pytest.fixture(params=OUTSIDE)
def outside(request: pytest.FixtureRequest) -> Peer:
    """Every store that can be away or short of memory: all but the one in memory."""
    made: Peer = request.param(request)
    return made


@pytest.fixture
def store(peer: Peer) -> ObjectStore:
    return peer.store
