"""The hub by hand: rounds are called, time passes when told, and rows are a real vault's."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from homeport.catalog.catalog import Catalog
from homeport.model.ids import OperationId
from homeport.model.messages import OperationOrder, OperationReport, OperationState
from homeport.orchestration.engine_run import lease_of
from homeport.orchestration.hub import LONGEST_ROUND, Hub, Lease, StoppedWaitingError, Watch
from homeport.orchestration.rows import Order
from tests.vaults import HOST_E, furnish, open_catalog

OP = OperationId("op")


@dataclass
class Time:
    """Seconds that pass when told."""

    now: float = 0.0

    def __call__(self) -> float:
        return self.now


@dataclass
class Bench:
    catalog: Catalog
    hub: Hub
    time: Time
    watches: list[Watch] = field(default_factory=list)

    def order(self, operation: OperationId = OP) -> None:
        order = OperationOrder(id=operation, kind="fence", item=None, args={})
        with self.catalog.write() as rows:
            rows.operation_rows.put(Order(order=order, host=HOST_E))

    def hear(self) -> None:
        with self.catalog.write() as rows:
            rows.operation_rows.hear(HOST_E, [OP])

    def rounds(self, seconds: float, *, every: float = 0.5) -> None:
        for _ in range(round(seconds / every)):
            self.time.now += every
            self.hub.round()

    @property
    def state(self) -> OperationState | None:
        with self.catalog.read() as rows:
            outcome = rows.operation_rows.outcome(OP)
        return None if outcome is None else outcome.state


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    catalog = open_catalog(f"sqlite:///{tmp_path / 'vault.sqlite'}")
    with catalog.write() as rows:
        furnish(rows)
    time = Time()
    made = Bench(catalog=catalog, hub=Hub(catalog, interval=0.1, monotonic=time), time=time)
    made.order()
    yield made
    catalog.close()


@pytest.fixture
def watch(bench: Bench) -> Iterator[Watch]:
    lease = Lease(unheard=5, heard=10)
    with bench.hub._watching(Watch(operation=OP, lease=lease)) as watch:
        yield watch


PASSING: dict[str, tuple[Callable[[Bench], None], bool]] = {
    "within the patience": (lambda bench: bench.rounds(4.5), False),
    "beyond the patience": (lambda bench: bench.rounds(6), True),
    "heard once: the longer lease holds": (
        lambda bench: (bench.rounds(4), bench.hear(), bench.rounds(9.5)),  # type: ignore[dict-item]
        False,
    ),
    "heard once, then silent": (
        lambda bench: (bench.hear(), bench.rounds(11)),  # type: ignore[dict-item]
        True,
    ),
    "heard again and again": (
        lambda bench: [(bench.hear(), bench.rounds(8)) for _ in range(4)],  # type: ignore[dict-item]
        False,
    ),
    "the process stood still for an hour": (
        lambda bench: bench.rounds(3600, every=3600),
        False,
    ),
    "the hub was away": (
        lambda bench: (bench.rounds(3.5), setattr(bench.time, "now", 1e6), bench.hub.round()),  # type: ignore[dict-item]
        False,
    ),
}


@pytest.mark.parametrize(("passing", "lost"), PASSING.values(), ids=PASSING)
def test_silence_is_counted_in_rounds_only(
    bench: Bench, watch: Watch, passing: Callable[[Bench], None], lost: bool
) -> None:
    bench.hub.round()
    passing(bench)
    assert bench.state is (OperationState.LOST if lost else None)
    bench.hub.round()
    assert watch.woken.is_set() is lost


def test_a_new_hub_gives_everyone_a_full_lease(bench: Bench, watch: Watch) -> None:
    bench.rounds(4.5)
    restarted = Hub(bench.catalog, interval=0.1, monotonic=bench.time)
    with restarted._watching(Watch(operation=OP, lease=watch.lease)):
        for _ in range(8):
            bench.time.now += 0.5
            restarted.round()
        assert bench.state is None


def test_an_end_wakes_and_nothing_else_does(bench: Bench, watch: Watch) -> None:
    for state, woken in ((OperationState.RUNNING, False), (OperationState.DONE, True)):
        with bench.catalog.write() as rows:
            rows.operation_rows.record(HOST_E, OperationReport(id=OP, state=state, result={}))
        bench.hub.round()
        assert watch.woken.is_set() is woken


def test_a_row_that_is_gone_wakes(bench: Bench) -> None:
    gone = Watch(operation=OperationId("gone"), lease=Lease(unheard=1, heard=1))
    with bench.hub._watching(gone):
        bench.hub.round()
        assert gone.woken.is_set()


def test_thousands_are_read_in_batches(bench: Bench) -> None:
    names = [OperationId(f"op-{number}") for number in range(1201)]
    for name in names[::400]:
        bench.order(name)
        with bench.catalog.write() as rows:
            report = OperationReport(id=name, state=OperationState.DONE, result={})
            rows.operation_rows.record(HOST_E, report)
    watches = [Watch(operation=name, lease=Lease(unheard=1, heard=1)) for name in names]
    bench.hub._by_id.update({id(watch): watch for watch in watches})
    bench.hub.round()
    assert all(watch.woken.is_set() for watch in watches)


def test_a_stopping_hub_interrupts_who_waits(bench: Bench) -> None:
    bench.hub.stop()
    with pytest.raises(StoppedWaitingError):
        bench.hub.pause(60)


def test_a_pause_counts_no_more_than_it_asked_for_and_a_round(bench: Bench) -> None:
    hub = Hub(bench.catalog, interval=0.1, monotonic=iter([0.0, 0.0, 9999.0]).__next__)
    assert hub.pause(0.001) == 0.001 + LONGEST_ROUND


@pytest.mark.parametrize(
    ("patience", "expected"),
    [(None, Lease(unheard=60, heard=60)), (5, Lease(unheard=5, heard=60)),
     (900, Lease(unheard=900, heard=900))],
    ids=["none given", "short", "long"],
)  # fmt: skip
def test_patience_is_for_the_unheard_and_never_shortens_the_lease(
    patience: float | None, expected: Lease
) -> None:
    assert lease_of(60, patience) == expected
