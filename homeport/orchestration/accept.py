"""
Taking requests: every check that needs no agent, then the item's move and the job, in one breath.

Each function runs inside one `books()` transaction of its caller. What it refuses it raises, with a
code and a remedy, and the transaction is rolled back: nothing has changed.
"""

from __future__ import annotations

from collections.abc import Mapping

from homeport.errors import NotFoundError, RefusedError
from homeport.model.codec import to_plain
from homeport.model.ids import HostName, ItemId, SiteName, check_name
from homeport.model.item import ReplicatedItem, Seat, Side
from homeport.model.messages import OperationState
from homeport.model.protection import Event, State, advance
from homeport.model.requests import (
    Decision,
    DisableRequest,
    FailoverRequest,
    NoOptions,
    ProtectRequest,
    ReprotectRequest,
    TestFailoverRequest,
)
from homeport.model.review import keeps_machine
from homeport.orchestration.books import Books
from homeport.orchestration.customise import check_asked
from homeport.orchestration.places import (
    host_of,
    need_alive,
    need_cache,
    need_network,
    owner_of,
)
from homeport.orchestration.points import Choice, choose, parse_choice
from homeport.orchestration.ports import ItemRow, Job, JobKind, JobState
from homeport.orchestration.registry import PROGRAMS
from homeport.orchestration.reversal import parse_way
from homeport.orchestration.setting import belong, need_room, settle_first, shape


class ItemDisabledError(NotFoundError):
    """An item that there was, until its protection was ended."""

    code = "ItemDisabled"

    def __init__(self, job: Job) -> None:
        ended = f" {job.ended_at:%Y-%m-%d %H:%M} UTC" if job.ended_at else ""
        super().__init__(
            f"{job.item_name} is not protected any more: it was disabled{ended}.",
            cause=f"Job {job.id} ended its protection and removed what Homeport had made for it.",
            remedy=f"What was done: homeport jobs show {job.id}. To protect the machine again: "
            f"homeport protect SITE/{job.item_name} --to SITE.",
        )
        self.job = job.id


def protect(books: Books, asked: ProtectRequest) -> Job:
    """
    Protect a machine: a new item, or one whose enabling failed, started again.

    Raises:
        RefusedError: `SameSite`, `AlreadyProtected`, `NoCacheStore`, `SiteUnreachable`, a name
        that is none or is taken.
    """
    name = asked.name or asked.vm
    for kind, text in (("machine", asked.vm), ("item", name), ("policy", asked.policy)):
        check_name(kind, text)
    source, target = _two_sites(books, asked)
    host = host_of(books, source, asked.vm)
    books.policy(asked.policy)
    need_cache(books, source)
    sweep(books)
    known = _protected_already(books, source, host.name, asked.vm)
    books.resources.claim(target)
    put = settle_first(books, asked, host, target)
    item = ReplicatedItem(
        id=known.item.id if known else ItemId(books.new_id()),
        name=known.item.name if known else name,
        primary=Seat(site=source, host=host.name, machine=asked.vm, pool=""),
        recovery=put.seat,
        active=Side.PRIMARY,
        epoch=known.item.epoch if known else 0,
        policy=asked.policy,
    )
    facts = {"places": put.places, "placed": put.reason, "shape": shape(put.need)}
    if known:
        move(books, known, Event.ENABLE)
        books.put_item(item)
        books.put_facts(item.id, {**facts, "problem": None})
    else:
        books.add_item(item, state=State.ENABLING, facts=facts)
    belong(books, item, item.recovery, put.settings, put.need)
    return _submit(books, JobKind.ENABLE, item, to_plain(ProtectRequest, asked))


def _two_sites(books: Books, asked: ProtectRequest) -> tuple[SiteName, SiteName]:
    for site in (asked.source_site, asked.target_site):
        check_name("site", site)
    if asked.source_site == asked.target_site:
        raise RefusedError(
            f"Source and target are both {asked.source_site}.",
            code="SameSite",
            cause="A copy in the same site is lost with it.",
            remedy="Name another site as the target.",
        )
    return books.site(asked.source_site).name, books.site(asked.target_site).name


def _protected_already(
    books: Books, site: SiteName, host: HostName, machine: str
) -> ItemRow | None:
    """The item whose enabling failed, to be started again; None for a machine without an item."""
    row = owner_of(books, site, host, machine)
    if row is None or row.state is State.ENABLE_FAILED:
        return row
    raise RefusedError(
        f"{machine} is protected already, as item {row.item.name}.",
        code="AlreadyProtected",
        cause="A machine belongs to one item at a time.",
        remedy=f"Look at it (homeport show {row.item.name}), or disable it first.",
    )


def failover(books: Books, key: str, asked: FailoverRequest) -> Job:
    """Fail over, or change the recovery point."""
    row = find(books, key)
    choice = parse_choice(asked.point)
    advance(row.state, Event.FAILOVER)
    item = row.item
    again = "failover" in row.facts
    if asked.planned:
        _check_planned(row, choice, again=again)
        need_alive(books, item.running)
    target = item.running if again else item.standby
    need_alive(books, target)
    report = books.report_of(item.id, target.host)
    choose(report.points if report else (), choice, item=item.name)
    if not again:
        need_room(books, row)
    if not again and not asked.confirm_source_down:
        need_alive(books, item.running)
    kind = JobKind.PLANNED_FAILOVER if asked.planned else JobKind.FAILOVER
    return _begin(books, row, kind, to_plain(FailoverRequest, asked))


def _check_planned(row: ItemRow, choice: object, *, again: bool) -> None:
    if again:
        raise RefusedError(
            f"{row.item.name} has been failed over already; a planned failover is not possible.",
            code="AlreadyFailedOver",
            cause="The source is fenced, so it has no last writes to ship.",
            remedy="Leave 'planned' out to change the point, or undo first.",
        )
    if choice is not Choice.LATEST:
        raise RefusedError(
            "A planned failover goes to the last writes, not to a chosen point.",
            code="PlannedTakesLatest",
            cause="It shuts the machine down and carries its last writes over.",
            remedy="Leave the point out, or leave 'planned' out.",
        )


def undo(books: Books, key: str, *, by: str = "") -> Job:
    """Go back to the old machine; both sides must answer. `by` as in `Decision`."""
    row = find(books, key)
    advance(row.state, Event.UNDO)
    for seat in (row.item.primary, row.item.recovery):
        need_alive(books, seat)
    return _begin(books, row, JobKind.UNDO, to_plain(Decision, Decision(by=by)))


def commit(books: Books, key: str, *, by: str = "") -> Job:
    """Accept the failover. `by` as in `Decision`."""
    row = find(books, key)
    advance(row.state, Event.COMMIT)
    need_alive(books, row.item.running)
    return _begin(books, row, JobKind.COMMIT, to_plain(Decision, Decision(by=by)))


def reprotect(books: Books, key: str, asked: ReprotectRequest) -> Job:
    """Reverse the direction; the job reviews both sides and refuses with all problems at once."""
    row = find(books, key)
    advance(row.state, Event.REPROTECT)
    parse_way(asked.way)
    keeps_machine(row.item, asked=asked.keep_machine)
    _no_drill(row)
    around = books.resources.around(row.item.standby.site)
    need_alive(books, row.item.running)
    if asked.host is None:
        need_alive(books, row.item.standby)
    if asked.cache is None:
        need_cache(books, row.item.running.site)
    check_asked(around, row.item.standby, asked)
    return _begin(books, row, JobKind.REPROTECT, to_plain(ReprotectRequest, asked))


def test_failover(books: Books, key: str, asked: TestFailoverRequest) -> Job:
    """Boot a point beside the item; replication goes on."""
    row = find(books, key)
    if row.state is not State.PROTECTED:
        raise RefusedError(
            f"The item is in state {row.state.value!r}; a test failover is possible when it is "
            f"{State.PROTECTED.value!r}.",
            code="NotAllowedNow",
            cause="A test boots a point of a replica that is being kept.",
            remedy="Wait until it is protected.",
        )
    _no_drill(row)
    standby = row.item.standby
    need_alive(books, standby)
    report = books.report_of(row.item.id, standby.host)
    choose(report.points if report else (), parse_choice(asked.point), item=row.item.name)
    if asked.network is not None:
        need_network(books, standby, asked.network)
    request = to_plain(TestFailoverRequest, asked)
    return _submit(books, JobKind.TEST_FAILOVER, row.item, request)


def test_cleanup(books: Books, key: str) -> Job:
    """Remove everything of the test."""
    row = find(books, key)
    if not row.facts.get("test"):
        raise RefusedError(
            f"{row.item.name} has no test failover to clean up.",
            code="NoTest",
            remedy="Nothing to do.",
        )
    host = row.facts["test"].get("host")  # a failover may have come between
    seats = (row.item.standby, row.item.running)
    need_alive(books, next((seat for seat in seats if seat.host == host), row.item.standby))
    return _submit(books, JobKind.TEST_CLEANUP, row.item, to_plain(NoOptions, NoOptions()))


def disable(books: Books, key: str, asked: DisableRequest) -> Job:
    """Take everything away; an unreachable host is a reason to refuse, unless forced."""
    row = find(books, key)
    advance(row.state, Event.DISABLE)
    _no_drill(row)
    if not asked.force:
        for seat in (row.item.running, row.item.standby):
            need_alive(
                books,
                seat,
                remedy=f"Bring {seat.host} back, or disable with force: what is there is then "
                "listed as pending removal, and removed on its return.",
            )
    return _begin(books, row, JobKind.DISABLE, to_plain(DisableRequest, asked))


def find(books: Books, key: str) -> ItemRow:
    """
    An item by name or id.

    Raises:
        InvalidNameError: `key` is no name.
        NotFoundError: there is no such item.
    """
    check_name("item", key)
    try:
        return books.find_item(key)
    except NotFoundError as error:
        ended = disabled_by(books, key)
        if ended is None:
            raise
        raise ItemDisabledError(ended) from error


def disabled_by(books: Books, key: str) -> Job | None:
    """The newest job that ended the protection of an item of this name or id, if one did."""
    return next(
        (
            job
            for job in books.jobs(state=JobState.SUCCEEDED)
            if job.kind is JobKind.DISABLE and key in (job.item, job.item_name)
        ),
        None,
    )


def move(books: Books, row: ItemRow, event: Event) -> None:
    """
    Move the item on.

    Raises:
        IllegalMoveError: its state does not allow it; the code says what to do first.
        RefusedError: `MovedMeanwhile`: another request was first.
    """
    advance(row.state, event)
    if not books.move(row.item.id, event, seen=row.state):
        raise RefusedError(
            f"{row.item.name} is no longer in state {row.state.value!r}.",
            code="MovedMeanwhile",
            cause="Another request was first.",
            remedy="Look at the item, then ask again.",
        )


def sweep(books: Books) -> None:
    """Forget items that were disabled by force, once the hosts that were away have cleaned up."""
    for item in swept(books):
        books.remove_item(item)


def swept(books: Books) -> tuple[ItemId, ...]:
    """The items that a sweep would forget."""
    return tuple(
        row.item.id
        for row in books.items()
        if row.state is State.DISABLED and pending(books, row) == ()
    )


def pending(books: Books, row: ItemRow) -> tuple[HostName, ...]:
    """Hosts that still have things of a disabled item."""
    ended = books.left_orders(row.item.id)
    return tuple(
        host for host, end in ended.items() if end is None or end.state is not OperationState.DONE
    )


def _no_drill(row: ItemRow) -> None:
    if row.facts.get("test"):
        raise RefusedError(
            f"{row.item.name} has a test failover that was not cleaned up.",
            code="TestNotCleanedUp",
            cause="Its test machine runs on one of the item's points.",
            remedy=f"Clean it up first (homeport test-cleanup {row.item.name}).",
        )


def _begin(books: Books, row: ItemRow, kind: JobKind, request: Mapping[str, object]) -> Job:
    event = PROGRAMS[kind].event
    assert event is not None, f"{kind} moves no item"
    move(books, row, event)
    return _submit(books, kind, row.item, request)


def _submit(
    books: Books, kind: JobKind, item: ReplicatedItem, request: Mapping[str, object]
) -> Job:
    return books.submit(kind, item=item.id, item_name=item.name, request=dict(request))
