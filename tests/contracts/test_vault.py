"""The vault's port, and the rows beside it, on both databases."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from homeport.catalog.catalog import Catalog
from homeport.catalog.errors import EpochLoweredError, ForeignHostError, JobRunningError
from homeport.catalog.vault import VaultRows, hash_token
from homeport.errors import HomeportError, NotFoundError, RefusedError
from homeport.model.host import HostInventory, Pool
from homeport.model.ids import HostName, ItemId, JobId, OperationId, SiteName
from homeport.model.item import Role, Side
from homeport.model.manifest import Consistency
from homeport.model.messages import (
    ItemReport,
    LedgerEntry,
    OperationOrder,
    OperationReport,
    OperationState,
    PointReport,
    Progress,
    StoreAddress,
)
from homeport.model.operations import Release
from homeport.model.policy import ReplicationPolicy
from homeport.model.position import Position
from homeport.model.protection import Event, IllegalMoveError, State
from homeport.orchestration.ports import JobKind, JobState
from homeport.orchestration.rows import Order
from tests.servers_postgres import Postgres
from tests.vaults import EAST, HOST_E, HOST_W, ITEM, WEST, Clock, an_item, furnish, open_catalog

DATABASES = ["sqlite", pytest.param("postgres", marks=pytest.mark.real)]
NOBODY = ItemId("nobody")
T0 = datetime(2026, 5, 1, tzinfo=UTC)


@dataclass
class Bench:
    """A furnished vault, its clock, and the hosts that were told of news."""

    catalog: Catalog
    clock: Clock
    url: str
    told: list[frozenset[HostName]] = field(default_factory=list)

    def read(self, look: Callable[[VaultRows], object]) -> object:
        with self.catalog.read() as rows:
            return look(rows)

    def write(self, act: Callable[[VaultRows], object]) -> object:
        with self.catalog.write() as rows:
            return act(rows)


@pytest.fixture(params=DATABASES)
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'vault.sqlite'}"
        return
    server: Postgres = request.getfixturevalue("postgres")
    yield server.database()


@pytest.fixture
def bench(url: str) -> Iterator[Bench]:
    clock = Clock()
    catalog = open_catalog(url, clock)
    catalog.submit_with(lambda _session, _job: None, lambda _job: ("first", "second"))
    with catalog.write() as rows:
        furnish(rows)
    made = Bench(catalog=catalog, clock=clock, url=url)
    catalog.listen(made.told.append)
    yield made
    catalog.close()


# Opening


def test_opening_again_keeps_what_is_there(bench: Bench) -> None:
    again = open_catalog(bench.url)
    with again.read() as rows:
        assert rows.item(ITEM).item == an_item()
        assert rows.vault_id() == bench.read(lambda rows: rows.vault_id())
        assert [policy.name for policy in rows.policies()] == ["default"]
    again.close()


# Items


def test_an_item_reads_back_as_it_was_written(bench: Bench) -> None:
    other = replace(an_item(ItemId("2"), name="db"), active=Side.RECOVERY, epoch=4)
    facts = {"receipt": {"bytes": 1 << 40, "seen": None}, "networks": ["a", "ü"]}
    bench.write(lambda rows: rows.add_item(other, state=State.ENABLING, facts=facts))
    row = bench.read(lambda rows: rows.find_item("db"))
    assert (row.item, row.state, row.facts) == (other, State.ENABLING, facts)
    assert bench.read(lambda rows: [row.item.name for row in rows.items()]) == ["db", "vm1"]


LOOKUPS = {
    "an item by id": lambda rows: rows.item(NOBODY),
    "an item by id or name": lambda rows: rows.find_item("nobody"),
    "a policy": lambda rows: rows.policy("nobody"),
    "a site": lambda rows: rows.site("nobody"),
    "a cache store": lambda rows: rows.cache_of(SiteName("nobody")),
    "a job": lambda rows: rows.job(JobId("nobody")),
    "a job to cancel": lambda rows: rows.ask_cancel(JobId("nobody")),
    "facts of an item": lambda rows: rows.put_facts(NOBODY, {"a": 1}),
    "a token for a site": lambda rows: rows.new_token(SiteName("nobody")),
    "a cache for a site": lambda rows: rows.set_cache(
        SiteName("nobody"), StoreAddress(name="c", url="file:///c")
    ),
    "an item under a policy": lambda rows: rows.add_item(
        replace(an_item(ItemId("2"), name="x"), policy="nobody"), state=State.ENABLING, facts={}
    ),
}


@pytest.mark.parametrize("look", LOOKUPS.values(), ids=LOOKUPS)
def test_what_is_not_there_is_said_so(bench: Bench, look: Callable[[VaultRows], object]) -> None:
    with pytest.raises(NotFoundError) as found:
        bench.write(look)
    assert "nobody" in found.value.message
    assert found.value.remedy


TAKEN = {
    "an item's name": (lambda rows: rows.add_item(
        an_item(ItemId("2")), state=State.ENABLING, facts={}), "NameTaken"),
    "an item's id": (lambda rows: rows.add_item(
        an_item(name="other"), state=State.ENABLING, facts={}), "NameTaken"),
    "a site's name": (lambda rows: rows.add_site(EAST, None), "SiteExists"),
}  # fmt: skip


@pytest.mark.parametrize(("act", "code"), TAKEN.values(), ids=TAKEN)
def test_a_taken_name_is_refused(
    bench: Bench, act: Callable[[VaultRows], object], code: str
) -> None:
    with pytest.raises(RefusedError) as refused:
        bench.write(act)
    assert refused.value.code == code


def test_a_move_is_made_once_and_from_the_seen_state_only(bench: Bench) -> None:
    move = lambda rows: rows.move(ITEM, Event.FAILOVER, seen=State.PROTECTED)  # noqa: E731
    assert [bench.write(move), bench.write(move)] == [True, False]
    assert bench.read(lambda rows: rows.item(ITEM).state) is State.FAILING_OVER


def test_an_illegal_move_raises_and_changes_nothing(bench: Bench) -> None:
    with pytest.raises(IllegalMoveError):
        bench.write(lambda rows: rows.move(ITEM, Event.COMMIT, seen=State.PROTECTED))
    assert bench.read(lambda rows: rows.item(ITEM).state) is State.PROTECTED


def test_protection_begins_anew_with_a_resync_not_with_an_undone_failover(bench: Bench) -> None:
    for event, seen, begins in (
        (Event.RESYNC, State.PROTECTED, False),
        (Event.RESYNCED, State.RESYNCING, True),
        (Event.FAILOVER, State.PROTECTED, True),
        (Event.REVERTED, State.FAILING_OVER, True),
    ):
        bench.clock.pass_(10)
        bench.write(lambda rows, e=event, s=seen: rows.move(ITEM, e, seen=s))
        row = bench.read(lambda rows: rows.item(ITEM))
        assert (row.protected_at is not None) is begins
        if event is Event.RESYNCED:
            arrived = row.protected_at
    assert row.protected_at == arrived


def test_two_who_move_at_once_are_told_who_was_first(bench: Bench) -> None:
    gate, answers = threading.Barrier(4), []

    def move() -> None:
        gate.wait()
        answers.append(
            bench.write(lambda rows: rows.move(ITEM, Event.FAILOVER, seen=State.PROTECTED))
        )

    threads = [threading.Thread(target=move) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(answers) == [False, False, False, True]


def test_facts_are_merged_and_none_removes(bench: Bench) -> None:
    bench.write(lambda rows: rows.put_facts(ITEM, {"a": 1, "b": [2]}))
    bench.write(lambda rows: rows.put_facts(ITEM, {"b": None, "c": {"d": 3}}))
    assert bench.read(lambda rows: rows.item(ITEM).facts) == {"a": 1, "c": {"d": 3}}


def test_an_epoch_is_given_once_to_each_attempt_and_never_again(bench: Bench) -> None:
    def raised(job: str, attempt: int) -> object:
        return bench.write(lambda rows: rows.raise_epoch(ITEM, job=JobId(job), attempt=attempt))

    asked = [("a", 1), ("a", 1), ("b", 1), ("a", 2), ("b", 1), ("a", 1)]
    assert [raised(*who) for who in asked] == [2, 2, 3, 4, 3, 2]
    bench.write(lambda rows: rows.remove_item(ITEM))
    bench.write(lambda rows: rows.add_item(an_item(), state=State.ENABLING, facts={}))
    assert raised("c", 1) == 5


def test_an_item_is_never_put_back_to_an_older_epoch(bench: Bench) -> None:
    bench.write(lambda rows: rows.put_item(an_item(epoch=5, active=Side.RECOVERY)))
    with pytest.raises(EpochLoweredError):
        bench.write(lambda rows: rows.put_item(an_item(epoch=4)))
    assert bench.read(lambda rows: rows.item(ITEM).item.active) is Side.RECOVERY


def test_a_refused_transaction_leaves_nothing(bench: Bench) -> None:
    def act(rows: VaultRows) -> None:
        rows.put_facts(ITEM, {"half": True})
        rows.map_network(EAST, "a", WEST, "b")
        rows.assign(ITEM, HOST_E, Role.SOURCE, replicate=True)
        raise HomeportError("no")

    with pytest.raises(HomeportError):
        bench.write(act)
    assert bench.read(lambda rows: (rows.item(ITEM).facts, rows.network_mappings())) == ({}, ())
    assert bench.told == []


# Sites, policies, hosts


def test_a_mapping_is_replaced_and_has_a_direction(bench: Bench) -> None:
    for to in ("b", "c"):
        bench.write(lambda rows, to=to: rows.map_network(EAST, "lan", WEST, to))
    assert bench.read(lambda rows: rows.network_map(EAST, WEST)) == {"lan": "c"}
    assert bench.read(lambda rows: rows.network_map(WEST, EAST)) == {}


@given(
    interval=st.timedeltas(min_value=timedelta(seconds=1), max_value=timedelta(days=9)),
    app=st.none() | st.timedeltas(min_value=timedelta(days=9), max_value=timedelta(days=99)),
)
@settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
def test_a_policy_reads_back_as_it_was_saved(
    bench: Bench, interval: timedelta, app: timedelta | None
) -> None:
    policy = ReplicationPolicy(
        name="gold", interval=interval, rpo_target=interval * 2, app_consistent_interval=app
    )
    bench.write(lambda rows: rows.save_policy(policy))
    assert bench.read(lambda rows: rows.policy("gold")) == policy


def test_only_the_hash_of_the_newest_token_is_kept(bench: Bench) -> None:
    first, second = (bench.write(lambda rows: rows.new_token(EAST)) for _ in range(2))
    assert first != second
    hashes = bench.read(lambda rows: rows.agent_rows.token_hashes())
    assert hashes == {EAST: hash_token(str(second))}


@pytest.mark.parametrize(
    ("silent", "alive"), [(0, True), (60, True), (61, False)], ids=["now", "lease", "beyond it"]
)
def test_a_host_is_alive_within_its_lease(bench: Bench, silent: float, alive: bool) -> None:
    bench.clock.pass_(3600)
    bench.write(lambda rows: rows.agent_rows.hear(HOST_E, EAST, agent_version="2", protocol=3))
    bench.clock.pass_(silent)
    host = bench.read(lambda rows: rows.hosts(EAST)[0])
    assert (host.alive, host.agent_version) == (alive, "2")
    assert bench.read(lambda rows: rows.host_alive(HOST_E)) is alive


def test_no_lease_runs_while_no_server_does(bench: Bench) -> None:
    bench.clock.pass_(86_400)
    assert bench.read(lambda rows: rows.host_alive(HOST_E)) is False
    restarted = open_catalog(bench.url, bench.clock)
    with restarted.read() as rows:
        assert rows.host_alive(HOST_E) is True
        assert rows.host_alive(HostName("never-heard")) is False
    bench.clock.pass_(61)
    with restarted.read() as rows:
        assert rows.host_alive(HOST_E) is False
    restarted.close()


def test_a_host_name_belongs_to_one_site(bench: Bench) -> None:
    with pytest.raises(ForeignHostError):
        bench.write(lambda rows: rows.agent_rows.hear(HOST_E, WEST, agent_version="", protocol=2))


def test_an_inventory_reads_back(bench: Bench) -> None:
    pool = Pool(name="p", path="/p", capacity=1 << 50, available=3, writable=True)
    has = HostInventory(
        memory=1 << 41, memory_free=1, cpus=2, kvm=False, hypervisor="QEMU", pools=(pool,)
    )
    bench.write(lambda rows: rows.agent_rows.put_inventory(HOST_E, has))
    assert bench.read(lambda rows: rows.hosts(EAST)[0].inventory) == has


# Assignments and whom they concern


def _assign(rows: VaultRows) -> None:
    rows.assign(ITEM, HOST_E, Role.SOURCE, replicate=True)
    rows.assign(ITEM, HOST_W, Role.TARGET, replicate=False)


def test_an_assignment_is_made_whole(bench: Bench) -> None:
    bench.write(_assign)
    (found,) = bench.read(lambda rows: rows.agent_rows.assignments(HOST_W))
    assert (found.item, found.name, found.role, found.epoch) == (ITEM, "vm1", Role.TARGET, 1)
    assert (found.policy.name, found.cache.url, found.replicate) == (
        "default",
        "file:///cache/east",
        False,
    )


def test_the_cache_store_is_the_running_sites_or_else_the_others(bench: Bench) -> None:
    bare = SiteName("bare")
    bench.write(lambda rows: rows.add_site(bare, None))
    item = an_item(active=Side.RECOVERY, epoch=2)
    bench.write(_assign)
    bench.write(lambda rows: rows.put_item(item))
    cache = lambda rows: rows.agent_rows.assignments(HOST_E)[0].cache.name  # noqa: E731
    assert bench.read(cache) == "cache-west"
    moved = replace(item, recovery=replace(item.recovery, site=bare))
    bench.write(lambda rows: rows.put_item(moved))
    assert bench.read(cache) == "cache-east"


NEWS = {
    "assigning": (lambda rows: rows.assign(ITEM, HOST_E, Role.FENCED, replicate=False), {HOST_E}),
    "taking away": (lambda rows: rows.assign(ITEM, HOST_W, None, replicate=False), {HOST_W}),
    "the item": (lambda rows: rows.put_item(an_item(epoch=2)), {HOST_E, HOST_W}),
    "its policy": (
        lambda rows: rows.save_policy(replace(rows.policy("default"), keep_all=timedelta(0))),
        {HOST_E, HOST_W},
    ),
    "a site's cache": (
        lambda rows: rows.set_cache(WEST, StoreAddress(name="n", url="file:///n")),
        {HOST_E, HOST_W},
    ),
    "removing": (lambda rows: rows.remove_item(ITEM), {HOST_E, HOST_W}),
    "another policy": (lambda rows: rows.save_policy(ReplicationPolicy(name="gold")), set()),
    "facts": (lambda rows: rows.put_facts(ITEM, {"a": 1}), set()),
    "a move": (lambda rows: rows.move(ITEM, Event.FAILOVER, seen=State.PROTECTED), set()),
}


@pytest.mark.parametrize(("act", "concerned"), NEWS.values(), ids=NEWS)
def test_a_change_concerns_the_hosts_whose_assignments_it_is_in(
    bench: Bench, act: Callable[[VaultRows], object], concerned: set[HostName]
) -> None:
    bench.write(_assign)
    bench.told.clear()
    revisions = lambda rows: rows.agent_rows.revisions([HOST_E, HOST_W])  # noqa: E731
    before = bench.read(revisions)
    bench.write(act)
    after = bench.read(revisions)
    assert {host for host in after if after[host] != before[host]} == concerned
    assert set().union(*bench.told) == concerned


def test_a_host_that_was_never_heard_can_be_assigned_to(bench: Bench) -> None:
    new = replace(an_item().recovery, host=HostName("w9"))
    bench.write(lambda rows: rows.put_item(replace(an_item(), recovery=new)))
    bench.write(lambda rows: rows.assign(ITEM, HostName("w9"), Role.TARGET, replicate=True))
    hosts = bench.read(lambda rows: {host.name: host.alive for host in rows.hosts(WEST)})
    assert hosts == {"w1": True, "w9": False}


# Reports and the ledger

POINT = PointReport(
    position=Position(1, 7),
    taken_at=T0,
    landed_at=T0 + timedelta(seconds=3),
    consistency=Consistency.CRASH,
    changed=5,
    depth=2,
)


def _report(*ledger: LedgerEntry, item: ItemId = ITEM, backlog: int = 1 << 40) -> ItemReport:
    return ItemReport(
        item=item,
        role=Role.TARGET,
        epoch=1,
        phase="replicating",
        landed=POINT.position,
        points=(POINT,),
        backlog=backlog,
        ledger=ledger,
    )


def _entry(name: str, gone_at: datetime | None = None) -> LedgerEntry:
    return LedgerEntry(kind="file", name=name, reason="replica", made_at=T0, gone_at=gone_at)


def test_the_newest_report_of_a_host_stands(bench: Bench) -> None:
    for backlog in (1, 2):
        bench.write(
            lambda rows, b=backlog: rows.agent_rows.put_reports(HOST_W, (_report(backlog=b),))
        )
    assert bench.read(lambda rows: rows.report_of(ITEM, HOST_W)) == _report(backlog=2)
    assert bench.read(lambda rows: rows.report_of(ITEM, HOST_E)) is None


def test_the_ledger_is_a_union_and_outlives_its_item(bench: Bench) -> None:
    tell = lambda *entries: bench.write(  # noqa: E731
        lambda rows: rows.agent_rows.put_reports(HOST_W, (_report(*entries),))
    )
    tell(_entry("a"), _entry("b"))
    tell(_entry("a", gone_at=T0), _entry("c"))
    bench.write(lambda rows: rows.remove_item(ITEM))
    tell(_entry("c", gone_at=T0))
    lines = bench.read(lambda rows: rows.ledger(ITEM))
    gone = {line.entry.name: line.entry.gone_at is not None for line in lines}
    assert gone == {"a": True, "b": False, "c": True}
    assert bench.read(lambda rows: rows.report_of(ITEM, HOST_W)) is None
    assert bench.read(lambda rows: rows.ledger()) == lines
    assert bench.read(lambda rows: rows.ledger(NOBODY)) == ()


# Jobs


def _submit(rows: VaultRows) -> object:
    return rows.submit(JobKind.FAILOVER, item=ITEM, item_name="vm1", request={"point": "latest"})


def test_a_job_reads_back_with_its_tasks(bench: Bench) -> None:
    job = bench.write(_submit)
    assert bench.read(lambda rows: rows.jobs()) == (job,)
    assert [(task.index, task.name, task.state) for task in job.tasks] == [
        (0, "first", JobState.WAITING),
        (1, "second", JobState.WAITING),
    ]
    assert (job.state, job.attempt, job.request) == (JobState.WAITING, 1, {"point": "latest"})


def test_a_busy_item_refuses_a_second_job_and_names_the_first(bench: Bench) -> None:
    job = bench.write(_submit)
    with pytest.raises(JobRunningError) as refused:
        bench.write(_submit)
    assert job.id in refused.value.remedy
    assert bench.write(lambda rows: rows.job_rows.finish(job.id, JobState.FAILED)) is True
    assert bench.write(_submit).id != job.id
    assert len(bench.read(lambda rows: rows.jobs(state=JobState.WAITING))) == 1
    assert len(bench.read(lambda rows: rows.jobs(item=ITEM))) == 2
    assert bench.read(lambda rows: rows.jobs(item=NOBODY)) == ()


def test_tasks_follow_each_other_and_the_open_one_ends_with_its_job(bench: Bench) -> None:
    job = bench.write(_submit).id
    bench.write(lambda rows: rows.job_rows.begin(job))
    for index in (0, 1):
        bench.write(lambda rows, i=index: rows.job_rows.begin_task(job, i, waits_for="a host"))
    states = lambda: [task.state for task in bench.read(lambda rows: rows.job(job)).tasks]  # noqa: E731
    assert states() == [JobState.SUCCEEDED, JobState.RUNNING]
    problem = {"code": "X", "message": "no"}
    bench.write(lambda rows: rows.job_rows.finish(job, JobState.FAILED, error=problem))
    ended = bench.read(lambda rows: rows.job(job))
    assert states() == [JobState.SUCCEEDED, JobState.FAILED]
    assert (ended.error, ended.tasks[1].error, ended.tasks[1].waits_for) == (problem, problem, "")
    assert bench.write(lambda rows: rows.job_rows.finish(job, JobState.SUCCEEDED)) is False


def test_a_skipped_task_says_why(bench: Bench) -> None:
    job = bench.write(_submit).id
    bench.write(lambda rows: rows.job_rows.skip_task(job, 0, "nothing to commit"))
    task = bench.read(lambda rows: rows.job(job)).tasks[0]
    assert (task.state, task.waits_for) == (JobState.SKIPPED, "nothing to commit")


def test_an_ended_job_is_not_cancelled(bench: Bench) -> None:
    job = bench.write(_submit).id
    assert bench.write(lambda rows: rows.ask_cancel(job)) is True
    assert bench.read(lambda rows: rows.job(job).cancel_asked) is True
    bench.write(lambda rows: rows.job_rows.finish(job, JobState.CANCELLED))
    assert bench.write(lambda rows: rows.ask_cancel(job)) is False


# Operations

OP = OperationId("op")


def _order(
    operation: OperationId = OP, job: JobId | None = None, *, shielded: bool = False
) -> Order:
    order = OperationOrder(id=operation, kind="fence", item=ITEM, args={"epoch": 2})
    return Order(order=order, host=HOST_E, job=job, attempt=1, task=0, shielded=shielded)


def _said(state: OperationState, **facts: object) -> Callable[[VaultRows], object]:
    report = OperationReport(id=OP, state=state, **facts)  # type: ignore[arg-type]
    return lambda rows: rows.operation_rows.record(HOST_E, report)


def test_an_order_is_made_once_and_given_until_it_is_known_or_ended(bench: Bench) -> None:
    for _ in range(2):
        bench.write(lambda rows: rows.operation_rows.put(_order()))
    orders = lambda known: bench.read(lambda rows: rows.operation_rows.orders(HOST_E, known))  # noqa: E731
    assert [order.id for order in orders([])] == [OP]
    assert orders([OP]) == ()
    assert bench.read(lambda rows: rows.operation_rows.orders(HOST_W, [])) == ()
    bench.write(lambda rows: rows.operation_rows.deliver([OP]))
    assert [order.id for order in orders([])] == [OP]
    bench.write(_said(OperationState.DONE, result={"was": "running"}))
    assert orders([]) == ()


ENDS = {
    "done": (OperationState.DONE, {"result": {"a": 1}}, True),
    "failed": (OperationState.FAILED, {"error": {"code": "X"}}, True),
    "going on": (OperationState.RUNNING, {"progress": Progress(done=1, total=4)}, False),
}


@pytest.mark.parametrize(("state", "facts", "recorded"), ENDS.values(), ids=ENDS)
def test_a_report_is_recorded_as_what_it_is(
    bench: Bench, state: OperationState, facts: dict[str, object], recorded: bool
) -> None:
    bench.write(lambda rows: rows.operation_rows.put(_order()))
    assert bench.write(_said(state, **facts)) is recorded
    outcome = bench.read(lambda rows: rows.operation_rows.outcome(OP))
    assert (outcome is not None) is recorded
    if recorded:
        assert (outcome.state, outcome.result, outcome.error) == (
            state,
            facts.get("result"),
            facts.get("error"),
        )


def test_the_first_end_stands(bench: Bench) -> None:
    bench.write(lambda rows: rows.operation_rows.put(_order()))
    bench.write(_said(OperationState.DONE, result={"n": 1}))
    assert bench.write(_said(OperationState.FAILED, error={"code": "late"})) is True
    assert bench.write(_said(OperationState.RUNNING)) is False
    assert bench.read(lambda rows: rows.operation_rows.outcome(OP)).result == {"n": 1}


def test_what_this_vault_does_not_know_is_not_repeated_for_ever(bench: Bench) -> None:
    assert bench.write(_said(OperationState.DONE, result={})) is True


def test_a_lost_operation_is_stopped_and_its_late_end_is_still_recorded(bench: Bench) -> None:
    rows_of = lambda act: bench.write(lambda rows: act(rows.operation_rows))  # noqa: E731
    rows_of(lambda rows: rows.put(_order()))
    rows_of(lambda rows: rows.hear(HOST_E, [OP]))
    assert rows_of(lambda rows: rows.lose(OP, heard=0, reason="silent")) is False
    assert rows_of(lambda rows: rows.lose(OP, heard=1, reason="silent")) is True
    lost = rows_of(lambda rows: rows.outcome(OP))
    assert (lost.state, lost.error["code"]) == (OperationState.LOST, "HostSilent")
    assert rows_of(lambda rows: rows.orders(HOST_E, [])) == ()
    assert rows_of(lambda rows: rows.to_stop(HOST_E, [OP])) == (OP,)
    bench.write(_said(OperationState.DONE, result={"late": True}))
    assert rows_of(lambda rows: rows.outcome(OP)).state is OperationState.DONE


def test_another_hosts_report_changes_nothing(bench: Bench) -> None:
    bench.write(lambda rows: rows.operation_rows.put(_order()))
    report = OperationReport(id=OP, state=OperationState.DONE, result={})
    bench.write(lambda rows: rows.operation_rows.record(HOST_W, report))
    assert bench.read(lambda rows: rows.operation_rows.outcome(OP)) is None


CANCELS = {
    "given: its host is told": (True, False, (OP,), None),
    "not given: withdrawn": (False, False, (OP,), OperationState.FAILED),
    "shielded: goes on": (True, True, (), None),
}


@pytest.mark.parametrize(("given_", "shielded", "told", "end"), CANCELS.values(), ids=CANCELS)
def test_a_cancelled_job_stops_what_it_has_begun(
    bench: Bench,
    given_: bool,
    shielded: bool,
    told: tuple[OperationId, ...],
    end: OperationState | None,
) -> None:
    job = bench.write(_submit).id
    bench.write(lambda rows: rows.operation_rows.put(_order(job=job, shielded=shielded)))
    if given_:
        bench.write(lambda rows: rows.operation_rows.deliver([OP]))
    bench.write(lambda rows: rows.ask_cancel(job))
    assert bench.read(lambda rows: rows.operation_rows.to_stop(HOST_E, [OP])) == told
    assert bench.read(lambda rows: rows.operation_rows.untold(HOST_E, [OP])) is bool(told)
    bench.write(lambda rows: rows.operation_rows.tell(told))
    assert bench.read(lambda rows: rows.operation_rows.untold(HOST_E, [OP])) is False
    pulse = bench.read(lambda rows: rows.operation_rows.pulses([OP]))[OP]
    if pulse.withdrawable:
        bench.write(lambda rows: rows.operation_rows.withdraw(OP))
    outcome = bench.read(lambda rows: rows.operation_rows.outcome(OP))
    assert (None if outcome is None else outcome.state) is end


@pytest.mark.parametrize("shielded", [False, True])
def test_a_cancelled_job_begins_only_what_is_shielded(bench: Bench, shielded: bool) -> None:
    job = bench.write(_submit).id
    bench.write(lambda rows: rows.ask_cancel(job))
    bench.write(lambda rows: rows.operation_rows.put(_order(job=job, shielded=shielded)))
    outcome = bench.read(lambda rows: rows.operation_rows.outcome(OP))
    assert (outcome is None) is shielded
    assert shielded or outcome.error["kind"] == "cancelled"


def test_an_open_task_shows_its_operations_progress_and_what_it_waits_for(bench: Bench) -> None:
    job = bench.write(_submit).id
    bench.write(lambda rows: rows.job_rows.begin_task(job, 0, waits_for=""))
    bench.write(lambda rows: rows.operation_rows.put(_order(job=job)))
    task = bench.read(lambda rows: rows.job(job)).tasks[0]
    assert HOST_E in task.waits_for
    progress = Progress(done=3, total=9, rate=1.5)
    bench.write(_said(OperationState.RUNNING, progress=progress))
    task = bench.read(lambda rows: rows.job(job)).tasks[0]
    assert (task.progress, task.waits_for) == (progress, "")
    bench.write(_said(OperationState.DONE, result={}))
    own = Progress(done=1, total=2)
    bench.write(lambda rows: rows.put_progress(job, 0, own, waits_for="west"))
    task = bench.read(lambda rows: rows.job(job)).tasks[0]
    assert (task.progress, task.waits_for) == (own, "west")


def test_a_left_order_is_one_until_it_failed(bench: Bench) -> None:
    args = Release(item=ITEM, epoch=1, owner=False)

    def leave(job: str) -> None:
        bench.write(lambda rows: rows.leave_order(ITEM, HOST_E, "release", args, job=JobId(job)))

    def waiting() -> list[OperationOrder]:
        return list(bench.read(lambda rows: rows.operation_rows.orders(HOST_E, [])))

    leave("a")
    leave("b")
    (first,) = waiting()
    assert bench.read(lambda rows: rows.left_orders(ITEM)) == {HOST_E: None}
    failed = OperationReport(id=first.id, state=OperationState.FAILED, error={"code": "X"})
    bench.write(lambda rows: rows.operation_rows.record(HOST_E, failed))
    assert bench.read(lambda rows: rows.left_orders(ITEM))[HOST_E].error == {"code": "X"}
    bench.clock.pass_(1)
    leave("b")
    (second,) = waiting()
    assert second.id != first.id
    done = OperationReport(id=second.id, state=OperationState.DONE, result={})
    bench.write(lambda rows: rows.operation_rows.record(HOST_E, done))
    leave("c")
    assert waiting() == []
    assert bench.read(lambda rows: rows.left_orders(ITEM))[HOST_E].done
