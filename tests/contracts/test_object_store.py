"""Every promise of the `ObjectStore` port, against every store and the wrappers around them."""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import cycle
from pathlib import Path
from threading import Barrier, Event

import pytest
from blake3 import blake3

from homeport.dataplane.objects import (
    KeyRefusedError,
    ObjectExistsError,
    ObjectMissingError,
    ObjectReplacedError,
    ObjectShortError,
    ObjectTooLargeError,
    StoreDeniedError,
    StoreUnreachableError,
)
from homeport.dataplane.ports import ObjectStore
from homeport.providers.store.bucket import BucketStore
from homeport.providers.store.object_store import open_store
from homeport.units import KiB, MiB
from tests import servers
from tests.contracts.conftest import BUCKET, SMALL_PART, Peer
from tests.servers import Server, s3_server

BODIES = [
    pytest.param(b"", id="empty"),
    pytest.param(b"x", id="one byte"),
    pytest.param(bytes(range(256)) * 64, id="a few KiB"),
    pytest.param(b"p" * SMALL_PART, id="exactly a part"),
    pytest.param(b"q" * (SMALL_PART + 1), id="a part and a byte"),
]
SHAPES: list[object] = [
    pytest.param(lambda body: body, id="as bytes"),
    pytest.param(lambda body: [body[:7], body[7:7], body[7:]], id="as a list"),
    pytest.param(lambda body: iter([body]), id="as an iterator"),
]


def opened(server: Server, **changed: str) -> BucketStore:
    store = open_store(server.url(BUCKET, "x"), {**server.options, **changed})
    assert isinstance(store, BucketStore)
    return replace(store, part_size=SMALL_PART)


def keys(store: ObjectStore, prefix: str = "") -> list[str]:
    return [facts.key for facts in store.list(prefix)]


@pytest.mark.parametrize("body", BODIES)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("create_only", [False, True], ids=["put", "create"])
def test_what_is_put_is_got(
    peer: Peer, body: bytes, shape: Callable[[bytes], bytes], create_only: bool
) -> None:
    peer.store.put("a/b", shape(body), create_only=create_only)
    later = peer.again()
    assert later.get("a/b") == body
    assert b"".join(later.stream("a/b", 64 * KiB)) == body
    assert later.head("a/b").size == len(body)
    assert later.exists("a/b")


def test_a_put_replaces_what_was_there(store: ObjectStore) -> None:
    store.put("a", b"old, and longer")
    store.put("a", b"new")
    assert store.get("a") == b"new"
    assert keys(store) == ["a"]


def test_facts_name_key_size_and_an_aware_moment(store: ObjectStore) -> None:
    store.put("a/b", b"12345")
    facts = store.head("a/b")
    assert (facts.key, facts.size) == ("a/b", 5)
    assert facts.modified_at.tzinfo is not None
    assert datetime(1999, 1, 1, tzinfo=UTC) < facts.modified_at
    assert list(store.list()) == [facts]


@pytest.mark.parametrize(
    "call",
    [
        pytest.param(lambda s: s.get("a/none"), id="get"),
        pytest.param(lambda s: next(s.stream("a/none", 10)), id="stream"),
        pytest.param(lambda s: s.get_range("a/none", 0, 1), id="get_range"),
        pytest.param(lambda s: s.head("a/none"), id="head"),
        pytest.param(lambda s: s.head("a"), id="head of a prefix"),
        pytest.param(lambda s: s.get("a"), id="get of a prefix"),
        pytest.param(lambda s: s.get("a/b/c"), id="beneath an object"),
    ],
)
def test_a_missing_object_is_said_to_be_missing(
    store: ObjectStore, call: Callable[[ObjectStore], object]
) -> None:
    store.put("a/b", b"1")
    with pytest.raises(ObjectMissingError) as caught:
        call(store)
    assert caught.value.key in str(caught.value)
    assert caught.value.remedy


def test_what_is_not_there_does_not_exist_and_may_be_deleted(store: ObjectStore) -> None:
    assert not store.exists("a/b")
    store.delete("a/b")
    assert keys(store) == []


def test_a_deleted_object_is_gone_and_its_neighbours_stay(store: ObjectStore) -> None:
    for key in ("a/b/c", "a/b/d", "a/e"):
        store.put(key, b"1")
    store.delete("a/b/c")
    assert not store.exists("a/b/c")
    store.delete("a/b/d")
    store.delete("a/b/d")
    assert keys(store) == ["a/e"]
    store.put("a/b", b"the prefix is free again")
    assert keys(store) == ["a/b", "a/e"]


@pytest.mark.parametrize(("start", "length"), [(0, 1), (0, 10), (3, 4), (9, 1)], ids=str)
def test_a_range_is_exact(store: ObjectStore, start: int, length: int) -> None:
    store.put("a", b"0123456789")
    assert store.get_range("a", start, length) == b"0123456789"[start : start + length]


@pytest.mark.parametrize(("start", "length"), [(0, 11), (9, 2), (10, 1), (500, 5)], ids=str)
def test_a_range_that_is_not_there_is_never_shortened(
    store: ObjectStore, start: int, length: int
) -> None:
    store.put("a", b"0123456789")
    with pytest.raises(ObjectShortError):
        store.get_range("a", start, length)


@pytest.mark.parametrize(("start", "length"), [(-1, 3), (0, 0), (0, -1)])
def test_what_is_no_range_is_a_mistake(store: ObjectStore, start: int, length: int) -> None:
    store.put("a", b"0123456789")
    with pytest.raises(ValueError, match="range"):
        store.get_range("a", start, length)


@pytest.mark.parametrize("chunk", [1, 3, 10, 11])
@pytest.mark.parametrize("start", [0, 4, 9, 10])
def test_a_stream_has_pieces_of_the_size_asked_for(
    store: ObjectStore, chunk: int, start: int
) -> None:
    body = b"0123456789"
    store.put("a", body)
    expected = [body[at : at + chunk] for at in range(start, 10, chunk)]
    assert list(store.stream("a", chunk, start=start)) == expected


def test_a_stream_cannot_start_behind_the_end(store: ObjectStore) -> None:
    store.put("a", b"0123456789")
    with pytest.raises(ObjectShortError):
        list(store.stream("a", 4, start=11))


def test_a_stream_never_mixes_two_objects(store: ObjectStore) -> None:
    size = 2 * SMALL_PART
    store.put("a", b"o" * size)
    stream = store.stream("a", SMALL_PART)
    got = [next(stream)]
    store.put("a", b"n" * size)
    try:
        got += stream
    except ObjectReplacedError:
        return
    assert got == [b"o" * SMALL_PART] * 2


def test_a_listing_is_in_the_order_of_keys(store: ObjectStore) -> None:
    put = ["b", "a/b", "a-c", "a.d/x", "a=e", "A", "a/a/z", "a/a-y", "a0", "a_/z", "a@b", "2", "10"]
    for key in put:
        store.put(key, b"1")
    assert keys(store) == sorted(put)


@pytest.mark.parametrize(
    ("prefix", "expected"),
    [
        ("", ["ab/c", "a/b/c", "a/b/d/e", "a/bc", "b"]),
        ("a", ["a/b/c", "a/b/d/e", "a/bc"]),
        ("a/b", ["a/b/c", "a/b/d/e"]),
        ("a/b/", ["a/b/c", "a/b/d/e"]),
        ("a/b/d", ["a/b/d/e"]),
        ("a/b/c", []),
        ("none/at/all", []),
    ],
)
def test_a_prefix_is_whole_names(store: ObjectStore, prefix: str, expected: list[str]) -> None:
    for key in ("ab/c", "a/b/c", "a/b/d/e", "a/bc", "b"):
        store.put(key, b"1")
    assert keys(store, prefix) == sorted(expected)


def test_a_listing_is_whole_beyond_a_page(store: ObjectStore) -> None:
    names = [f"points/{n:05}" for n in range(1100)]  # S3 gives 1,000 at a time
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda key: store.put(key, b""), names))
    assert keys(store, "points") == names


def test_objects_put_or_deleted_meanwhile_do_not_disturb_a_listing(store: ObjectStore) -> None:
    for name in "bdfh":
        store.put(f"{name}/1", b"1")
    listing = store.list()
    first = next(listing).key
    store.delete("d/1")
    store.put("c/1", b"1")
    rest = [facts.key for facts in listing]
    assert [first, *rest] == sorted({first, *rest})
    assert {first, *rest} - {"c/1", "d/1"} == {"b/1", "f/1", "h/1"}


ODD_KEYS = [
    "",
    "/",
    "/a",
    "a/",
    "a//b",
    ".",
    "..",
    "a/../b",
    "a/./b",
    ".hidden",
    "a/.homeport-store",
    "a.",
    "-a",
    "a b",
    "a\\b",
    "a\nb",
    "a\0b",
    "a%2fb",
    "a?b",
    "a#b",
    "a*",
    "a:b",
    "ä",
    "a" * 241,
    "/".join(["a" * 100] * 10),
]


@pytest.mark.parametrize("key", ODD_KEYS, ids=lambda key: repr(key[:20]))
@pytest.mark.parametrize(
    "call",
    [
        pytest.param(lambda s, key: s.put(key, b""), id="put"),
        pytest.param(lambda s, key: s.get(key), id="get"),
        pytest.param(lambda s, key: list(s.stream(key, 1)), id="stream"),
        pytest.param(lambda s, key: s.get_range(key, 0, 1), id="range"),
        pytest.param(lambda s, key: s.exists(key), id="exists"),
        pytest.param(lambda s, key: s.delete(key), id="delete"),
    ],
)
def test_a_key_that_not_every_store_can_hold_is_refused(
    store: ObjectStore, key: str, call: Callable[[ObjectStore, str], object]
) -> None:
    with pytest.raises(KeyRefusedError) as caught:
        call(store, key)
    assert caught.value.cause
    assert caught.value.remedy


@pytest.mark.parametrize("prefix", ["/", "a//", "..", "../a", "a b"])
def test_a_prefix_no_key_can_have_is_refused(store: ObjectStore, prefix: str) -> None:
    with pytest.raises(KeyRefusedError):
        list(store.list(prefix))


@pytest.mark.parametrize("body", [b"second", [b"sec", b"ond"], b"s" * (SMALL_PART + 1)])
def test_a_taken_key_is_not_created_again(store: ObjectStore, body: bytes) -> None:
    store.put("epoch/1", b"first", create_only=True)
    with pytest.raises(ObjectExistsError):
        store.put("epoch/1", body, create_only=True)
    assert store.get("epoch/1") == b"first"


def test_a_long_stream_does_not_take_a_taken_key(store: ObjectStore) -> None:
    store.put("image", b"first")
    with pytest.raises(ObjectExistsError):
        store.put("image", [b"s" * SMALL_PART] * 2, create_only=True)
    assert store.get("image") == b"first"


def test_a_long_stream_loses_to_what_was_created_while_it_was_sent(store: ObjectStore) -> None:
    def body() -> Iterator[bytes]:
        yield b"s" * SMALL_PART
        yield b"s"
        store.put("image", b"first", create_only=True)

    with pytest.raises(ObjectExistsError):
        store.put("image", body(), create_only=True)
    assert store.get("image") == b"first"


def test_of_many_who_create_a_key_exactly_one_wins(store: ObjectStore) -> None:
    def create(attempt: tuple[int, int]) -> tuple[int, int] | None:
        turn, who = attempt
        body = f"{who}".encode()
        try:
            store.put(f"epoch/{turn}", body if who % 2 else [body], create_only=True)
        except ObjectExistsError:
            return None
        return attempt

    attempts = [(turn, who) for turn in range(12) for who in range(8)]
    with ThreadPoolExecutor(8) as pool:
        wins = [win for win in pool.map(create, attempts) if win]
    assert [turn for turn, _ in wins] == list(range(12))
    assert all(store.get(f"epoch/{turn}") == f"{who}".encode() for turn, who in wins)


def test_a_reader_sees_all_of_an_object_or_none(store: ObjectStore) -> None:
    size, enough = 256 * KiB, Event()

    def write() -> None:
        for letter in cycle(b"abcdefgh"):
            store.put("a", (bytes([letter]) * KiB for _ in range(size // KiB)))
            if enough.is_set():
                return

    def read() -> bool:
        try:
            body = store.get("a")
        except ObjectMissingError:
            return False
        assert len(body) == size
        assert body == body[:1] * size
        return True

    with ThreadPoolExecutor(1) as pool:
        writing = pool.submit(write)
        try:
            while sum(read() for _ in range(20)) < 10:
                assert not writing.done()
        finally:
            enough.set()
        writing.result()


def test_an_object_is_not_seen_before_its_last_piece(store: ObjectStore) -> None:
    def body() -> Iterator[bytes]:
        for _ in range(3):
            yield b"x" * SMALL_PART
            assert not store.exists("a/b")
            assert keys(store) == []

    store.put("a/b", body())
    assert store.head("a/b").size == 3 * SMALL_PART


@pytest.mark.parametrize("pieces", [0, 1, 3], ids=["at once", "after a part", "after three parts"])
@pytest.mark.parametrize(
    "error",
    [KeyError("mine"), FileNotFoundError("mine"), StoreUnreachableError(store="m", cause="")],
)
def test_a_body_that_fails_leaves_nothing_and_its_error_is_passed_on(
    store: ObjectStore, pieces: int, error: Exception
) -> None:
    def body() -> Iterator[bytes]:
        for _ in range(pieces):
            yield b"x" * SMALL_PART
        raise error

    store.put("a/b", b"before")
    with pytest.raises(type(error)) as caught:
        store.put("a/b", body())
    assert caught.value is error
    with pytest.raises(type(error)):
        store.put("a/c", body(), create_only=True)
    assert [(f.key, f.size) for f in store.list()] == [("a/b", 6)]


def test_a_body_may_be_read_from_the_store_it_is_put_to(store: ObjectStore) -> None:
    body = bytes(range(256)) * (12 * MiB // 256)
    store.put("a/from", body)
    store.put("a/to", store.stream("a/from", MiB), create_only=True)
    assert store.head("a/to").size == len(body)
    assert store.get("a/to") == body


def test_slow_bodies_do_not_hold_up_the_store(store: ObjectStore) -> None:
    """More uploads wait for their bodies than the machine has cores; others go on meanwhile."""
    writers = 6
    ready, go = Barrier(writers + 1), Event()

    def body() -> Iterator[bytes]:
        yield b"x" * SMALL_PART
        ready.wait(30)
        assert go.wait(30)
        yield b"y"

    with ThreadPoolExecutor(writers) as pool:
        puts = [pool.submit(store.put, f"slow/{n}", body()) for n in range(writers)]
        ready.wait(30)
        store.put("quick", b"1")
        assert store.get("quick") == b"1"
        go.set()
        for put in puts:
            put.result()
    assert len(keys(store, "slow")) == writers


def _peak_memory() -> int:
    """The most memory this process had since it was asked to forget, in bytes (proc(5))."""
    status = Path("/proc/self/status").read_text()
    return int(re.findall(r"VmHWM:\s+(\d+) kB", status)[0]) * KiB


def test_a_large_body_goes_through_bounded_memory(outside: Peer) -> None:
    sent, received = blake3(), blake3()

    def body() -> Iterator[bytes]:
        for number in range(64):
            piece = number.to_bytes(4, "big") * (MiB // 4)
            sent.update(piece)
            yield piece

    outside.store.put("warm/up", [b"x" * SMALL_PART] * 2)
    Path("/proc/self/clear_refs").write_text("5")
    before = _peak_memory()
    outside.store.put("big", body())
    for piece in outside.store.stream("big", 3 * MiB):
        received.update(piece)
    assert received.digest() == sent.digest()
    assert _peak_memory() - before < 45 * MiB  # four parts of 5 MiB and what holds them; not 64


CALLS = [
    pytest.param(lambda s: s.put("a", b"1"), id="put"),
    pytest.param(lambda s: s.put("a", b"1", create_only=True), id="create"),
    pytest.param(lambda s: s.put("a", [b"1" * SMALL_PART] * 2), id="put in parts"),
    pytest.param(lambda s: s.get("a"), id="get"),
    pytest.param(lambda s: list(s.stream("a", 1)), id="stream"),
    pytest.param(lambda s: s.get_range("a", 0, 1), id="range"),
    pytest.param(lambda s: s.head("a"), id="head"),
    pytest.param(lambda s: s.exists("a"), id="exists"),
    pytest.param(lambda s: list(s.list()), id="list"),
    pytest.param(lambda s: list(s.list("a/b")), id="list a prefix"),
    pytest.param(lambda s: s.delete("a"), id="delete"),
]


@pytest.mark.parametrize("call", CALLS)
def test_a_store_that_is_gone_is_unreachable_never_empty(
    outside: Peer, call: Callable[[ObjectStore], object]
) -> None:
    assert outside.gone
    with pytest.raises(StoreUnreachableError) as caught:
        call(outside.gone())
    assert caught.value.store in str(caught.value)
    assert caught.value.cause
    assert caught.value.remedy


@pytest.mark.real
@pytest.mark.parametrize("call", [CALLS[0], CALLS[4], CALLS[7], CALLS[8]])
@pytest.mark.parametrize("kind", ["s3", "azure"])
def test_a_server_that_does_not_answer_is_unreachable(
    request: pytest.FixtureRequest, kind: str, call: Callable[[ObjectStore], object]
) -> None:
    server: Server = request.getfixturevalue(kind)
    endpoint = server.options["endpoint"].replace(f":{server.port}", ":1")
    store = opened(server, endpoint=endpoint)
    with pytest.raises(StoreUnreachableError) as caught:
        call(store)
    assert server.url(BUCKET, "x") in str(caught.value)


@pytest.fixture(scope="module")
def denying(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with s3_server(tmp_path_factory.mktemp("denying"), bucket=BUCKET, denies=True) as server:
        yield server


WRONG_KEY = base64.b64encode(b"a key that Azurite does not know").decode()


@pytest.mark.real
@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize(
    ("kind", "wrong"),
    [
        pytest.param("denying", {"secret_access_key": WRONG_KEY}, id="S3"),
        pytest.param("azure", {"account_key": WRONG_KEY}, id="Azure Blob"),
    ],
)
def test_wrong_credentials_are_refused_and_not_shown(
    request: pytest.FixtureRequest,
    kind: str,
    wrong: dict[str, str],
    call: Callable[[ObjectStore], object],
) -> None:
    server: Server = request.getfixturevalue(kind)
    store = opened(server, **wrong)
    with pytest.raises(StoreDeniedError) as caught:
        call(store)
    said = " ".join(caught.value.as_dict().values())
    assert server.url(BUCKET, "x") in said
    assert WRONG_KEY not in said
    assert "credentials" in caught.value.remedy


def test_a_missing_azurite_says_what_to_run(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(servers, "AZURITE", tmp_path / "azurite-blob")
    with pytest.raises(RuntimeError, match="make setup"):
        with servers.azure_server(tmp_path, container=BUCKET):
            pass


@pytest.mark.real
@pytest.mark.parametrize("kind", ["s3", "azure"])
def test_an_object_of_too_many_parts_is_refused_and_not_seen(
    request: pytest.FixtureRequest, kind: str
) -> None:
    store = replace(opened(request.getfixturevalue(kind)), max_parts=2)
    store.put("two-parts", [b"x" * SMALL_PART] * 2)
    with pytest.raises(ObjectTooLargeError):
        store.put("three-parts", [b"x" * SMALL_PART] * 3)
    assert not store.exists("three-parts")


def test_the_time_of_an_object_is_near_now(outside: Peer) -> None:
    outside.store.put("a", b"1")
    assert abs(datetime.now(UTC) - outside.store.head("a").modified_at) < timedelta(minutes=2)
