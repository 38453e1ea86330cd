"""What each wrapper adds to a store; that it keeps the port's promises is the contract suite's."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from homeport.dataplane.objects import (
    ObjectExistsError,
    ObjectMissingError,
    ObjectReplacedError,
    StoreDeniedError,
    StoreUnreachableError,
)
from homeport.dataplane.ports import ObjectStore
from homeport.dataplane.wrappers import LimitedStore, MeteredStore, RetryingStore
from homeport.providers.store.memory import MemoryStore
from tests.faults import Fault, FaultyStore

DELAYS = [timedelta(seconds=1), timedelta(seconds=5)]


@dataclass
class Time:
    """Seconds that pass only by sleeping."""

    now: float = 0.0
    slept: list[timedelta] = field(default_factory=list)

    def clock(self) -> float:
        return self.now

    def sleep(self, span: timedelta) -> None:
        self.slept.append(span)
        self.now += span.total_seconds()


@pytest.fixture
def time() -> Time:
    return Time()


def filled() -> MemoryStore:
    store = MemoryStore()
    for name in "abcde":
        store.put(f"k/{name}", name.encode() * 10)
    return store


CALLS: dict[str, Callable[[ObjectStore], object]] = {
    "put": lambda s: s.put("k/a", b"renewed"),
    "get": lambda s: s.get("k/a"),
    "stream": lambda s: list(s.stream("k/a", 3)),
    "get_range": lambda s: s.get_range("k/a", 2, 3),
    "head": lambda s: s.head("k/a").size,
    "exists": lambda s: s.exists("k/a"),
    "list": lambda s: [facts.key for facts in s.list("k")],
    "delete": lambda s: s.delete("k/a"),
}
each_call = pytest.mark.parametrize(("call", "act"), CALLS.items(), ids=CALLS)


def denied() -> Exception:
    return StoreDeniedError(store="memory://", cause="A planned fault.")


@each_call
@pytest.mark.parametrize("when", ["before", "after"])
def test_what_failed_transiently_is_repeated(
    time: Time, call: str, act: Callable[[ObjectStore], object], when: str
) -> None:
    undisturbed = filled()
    expected = act(undisturbed)
    inner = filled()
    first, second = (Fault(call=call, nth=n, when=when) for n in (1, 2))  # type: ignore[arg-type]
    with FaultyStore(inner, (first, second)) as faulty:
        assert act(RetryingStore(faulty, DELAYS, time.sleep)) == expected
    assert time.slept in (DELAYS, [DELAYS[0]] * 2)  # the latter where it got on in between
    assert [f.key for f in inner.list()] == [f.key for f in undisturbed.list()]


@each_call
def test_the_error_goes_on_when_the_delays_are_used_up(
    time: Time, call: str, act: Callable[[ObjectStore], object]
) -> None:
    faults = tuple(Fault(call=call, nth=n) for n in (1, 2, 3))
    with FaultyStore(filled(), faults) as faulty, pytest.raises(StoreUnreachableError):
        act(RetryingStore(faulty, DELAYS, time.sleep))
    assert time.slept == DELAYS


@each_call
def test_a_refusal_is_not_repeated(
    time: Time, call: str, act: Callable[[ObjectStore], object]
) -> None:
    with FaultyStore(filled(), (Fault(call=call, error=denied),)) as faulty:
        with pytest.raises(StoreDeniedError):
            act(RetryingStore(faulty, DELAYS, time.sleep))
    assert time.slept == []


def test_a_body_that_can_be_read_once_is_put_once(time: Time) -> None:
    with FaultyStore(filled(), (Fault(call="put"),)) as faulty:
        with pytest.raises(StoreUnreachableError):
            RetryingStore(faulty, DELAYS, time.sleep).put("x", iter([b"1"]))
    assert time.slept == []


@pytest.mark.parametrize("body", [b"mine", [b"mi", b"", b"ne"]], ids=["bytes", "pieces"])
def test_a_create_whose_answer_was_lost_has_succeeded(time: Time, body: bytes) -> None:
    with FaultyStore(MemoryStore(), (Fault(call="put", when="after"),)) as faulty:
        store = RetryingStore(faulty, DELAYS, time.sleep)
        store.put("epoch/1", body, create_only=True)
        assert store.get("epoch/1") == b"mine"


@pytest.mark.parametrize("theirs", [b"other", b"mine and more", b"mi", b""])
def test_a_create_that_somebody_else_won_has_not(time: Time, theirs: bytes) -> None:
    inner = MemoryStore()
    inner.put("epoch/1", theirs)
    with FaultyStore(inner, (Fault(call="put"),)) as faulty:
        with pytest.raises(ObjectExistsError):
            RetryingStore(faulty, DELAYS, time.sleep).put("epoch/1", b"mine", create_only=True)
    assert inner.get("epoch/1") == theirs


def test_a_key_that_was_taken_before_is_taken_also_with_the_same_content(time: Time) -> None:
    inner = MemoryStore()
    inner.put("epoch/1", b"mine")
    with pytest.raises(ObjectExistsError):
        RetryingStore(inner, DELAYS, time.sleep).put("epoch/1", b"mine", create_only=True)


@given(
    body=st.binary(max_size=60),
    chunk=st.integers(1, 20),
    start=st.integers(0, 60),
    breaks=st.lists(st.integers(0, 4), max_size=4),
)
def test_a_broken_stream_goes_on_where_it_broke_off(
    body: bytes, chunk: int, start: int, breaks: list[int]
) -> None:
    inner = MemoryStore()
    inner.put("a", body)
    faults = tuple(
        Fault(call="stream", nth=nth, when="after", pieces=pieces)
        for nth, pieces in enumerate(breaks, start=1)
    )
    store = RetryingStore(FaultyStore(inner, faults), [timedelta(1)] * 9, lambda _: None)
    start = min(start, len(body))
    assert b"".join(store.stream("a", chunk, start=start)) == body[start:]


@given(breaks=st.lists(st.integers(0, 6), max_size=4))
def test_a_broken_listing_gives_each_key_once(breaks: list[int]) -> None:
    faults = tuple(
        Fault(call="list", nth=nth, when="after", pieces=pieces)
        for nth, pieces in enumerate(breaks, start=1)
    )
    store = RetryingStore(FaultyStore(filled(), faults), [timedelta(1)] * 9, lambda _: None)
    assert [facts.key for facts in store.list()] == [f"k/{name}" for name in "abcde"]


def test_the_delays_begin_anew_when_a_stream_got_on(time: Time) -> None:
    faults = tuple(Fault(call="stream", nth=n, when="after") for n in range(1, 5))
    with FaultyStore(filled(), faults) as faulty:
        store = RetryingStore(faulty, DELAYS[:1], time.sleep)
        assert b"".join(store.stream("k/a", 2)) == b"a" * 10


def test_a_replaced_object_is_not_read_on(time: Time) -> None:
    replaced = ObjectReplacedError(key="k/a", store="memory://")
    fault = Fault(call="stream", when="after", error=lambda: replaced)
    with FaultyStore(filled(), (fault,)) as faulty:
        with pytest.raises(ObjectReplacedError):
            list(RetryingStore(faulty, DELAYS, time.sleep).stream("k/a", 2))
    assert time.slept == []


def test_calls_and_bytes_are_counted() -> None:
    store = MeteredStore(filled())
    for act in CALLS.values():
        act(store)
    store.put("k/x", [b"12", b"", b"345"])
    store.put("k/y", iter([b"1234567"]))
    counts = store.counts()
    assert counts.calls == {**dict.fromkeys(CALLS, 1), "put": 3}
    assert counts.bytes_put == 7 + 5 + 7
    assert counts.bytes_read == 7 + 7 + 3  # get, stream, range


def test_a_failed_call_counts_and_no_bytes_that_did_not_come() -> None:
    store = MeteredStore(MemoryStore())
    with pytest.raises(ObjectMissingError):
        store.get("none")
    assert store.counts().calls == {"get": 1}
    assert store.counts().bytes_read == 0


def test_a_body_is_counted_as_far_as_it_was_pulled() -> None:
    def body() -> Iterator[bytes]:
        yield b"12345"
        raise KeyError

    store = MeteredStore(MemoryStore())
    with pytest.raises(KeyError):
        store.put("a", body())
    assert store.counts().bytes_put == 5


def test_counts_are_exact_over_threads() -> None:
    store = MeteredStore(MemoryStore())
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda n: store.put(f"k/{n}", b"12345"), range(400)))
    assert store.counts().calls["put"] == 400
    assert store.counts().bytes_put == 2000


def test_counts_taken_do_not_change_later() -> None:
    store = MeteredStore(MemoryStore())
    before = store.counts()
    store.put("a", b"1")
    assert before.calls == {}


LIMITED: list[object] = [
    pytest.param(lambda s: [s.put(f"k/{n}", b"x" * 50) for n in range(8)], id="put bytes"),
    pytest.param(lambda s: s.put("k/x", [b"x" * 50] * 8), id="put pieces"),
    pytest.param(lambda s: s.get("big"), id="get"),
    pytest.param(lambda s: list(s.stream("big", 50)), id="stream"),
    pytest.param(lambda s: [s.get_range("big", 0, 100) for _ in range(4)], id="ranges"),
]


@pytest.mark.parametrize("act", LIMITED)
def test_no_more_than_the_rate_goes_through(time: Time, act: Callable[[ObjectStore], None]) -> None:
    inner = MemoryStore()
    inner.put("big", b"x" * 400)
    store = LimitedStore(inner, 100, time.clock, time.sleep)
    act(store)  # 400 bytes at 100 a second
    store.get_range("big", 0, 1)  # has to wait until they are paid for
    assert time.now == pytest.approx(4.0)


@given(sizes=st.lists(st.integers(0, 500), max_size=20), rate=st.integers(1, 1000))
def test_the_rate_is_kept_at_every_moment(sizes: list[int], rate: int) -> None:
    time = Time()
    store = LimitedStore(MemoryStore(), rate, time.clock, time.sleep)
    moved = 0
    for size in sizes:
        store.put("k", b"x" * size)
        assert moved <= time.now * rate + rate * 1e-4  # all but the last piece are paid for
        moved += size


def test_an_idle_store_does_not_save_up(time: Time) -> None:
    store = LimitedStore(MemoryStore(), 100, time.clock, time.sleep)
    time.now = 1000.0
    for _ in range(3):
        store.put("k", b"x" * 100)
    assert time.slept == [timedelta(seconds=1), timedelta(seconds=2 - 1)]


@pytest.mark.parametrize("rate", [0, -1])
def test_a_rate_must_be_positive(time: Time, rate: int) -> None:
    with pytest.raises(ValueError, match="positive"):
        LimitedStore(MemoryStore(), rate, time.clock, time.sleep)


@pytest.mark.parametrize("call", ["head", "exists", "list", "delete"])
def test_calls_without_bytes_do_not_wait(time: Time, call: str) -> None:
    store = LimitedStore(filled(), 1, time.clock, time.sleep)
    store.put("k/a", b"12345")
    CALLS[call](store)
    assert time.slept == []


def test_a_planned_fault_that_is_not_reached_fails_the_test() -> None:
    with pytest.raises(AssertionError, match="never reached"):
        with FaultyStore(filled(), (Fault(call="put", nth=2),)) as faulty:
            faulty.put("a", b"1")


@pytest.mark.parametrize(("when", "there"), [("before", False), ("after", True)])
def test_a_fault_comes_before_or_after_the_effect(when: str, there: bool) -> None:
    inner = MemoryStore()
    with FaultyStore(inner, (Fault(call="put", when=when),)) as faulty:  # type: ignore[arg-type]
        with pytest.raises(StoreUnreachableError):
            faulty.put("a", b"1")
    assert inner.exists("a") is there
