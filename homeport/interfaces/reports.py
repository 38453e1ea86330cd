"""
What people and programs are shown, made from the vault's rows: one report for API, portal and CLI.

Nothing here decides; it words what is. The shapes are in `homeport.model.reports`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from homeport.interfaces.resources import resource_reports, storage_accounts
from homeport.model.codec import from_plain
from homeport.model.host import MachineFacts
from homeport.model.ids import ItemId, SiteName
from homeport.model.item import ReplicatedItem, Seat
from homeport.model.manifest import Consistency
from homeport.model.messages import ItemReport, PointReport, StoreAddress
from homeport.model.operations import Problem
from homeport.model.policy import ReplicationPolicy
from homeport.model.position import Position
from homeport.model.protection import Event, State, events_of, unprotected
from homeport.model.rehearsal import rehearsed, warning_of
from homeport.model.reports import (
    CacheReport,
    HealthReport,
    HostReport,
    ItemView,
    LedgerLine,
    LossReceipt,
    MappingReport,
    PendingDecision,
    PointView,
    SeatReport,
    SiteReport,
    VmReport,
)
from homeport.model.resources import ResourceKind, networks_on
from homeport.orchestration.accept import pending
from homeport.orchestration.books import Books, Health, HostRow, NetworkMapping, SiteRow
from homeport.orchestration.ports import ItemRow, JobState
from homeport.orchestration.rates import resyncs_of
from homeport.orchestration.timers import decision_at

BEFORE_FAILOVER = "before failover"
"""The label of points of the direction that a failover ended."""
OPERATIONS = {
    Event.FAILOVER: "failover",
    Event.UNDO: "undo",
    Event.COMMIT: "commit",
    Event.REPROTECT: "reprotect",
    Event.DISABLE: "disable",
    Event.ENABLE: "protect",
}
AT_WORK = (JobState.WAITING, JobState.RUNNING)


def health_report(health: Health) -> HealthReport:
    """A server's own state."""
    return HealthReport(
        version=health.version, vault=health.vault, state=health.state, facts=health.facts
    )


def site_report(books: Books, site: SiteRow) -> SiteReport:
    """A site with its hosts, resources, and the mappings it takes part in."""
    around = books.resources.around(site.name)
    return SiteReport(
        name=site.name,
        cache=_cache(site.cache),
        hosts=tuple(_host(host) for host in books.hosts(site.name)),
        network_mappings=tuple(
            mapping_report(mapping)
            for mapping in books.network_mappings()
            if site.name in (mapping.source_site, mapping.target_site)
        ),
        resource_groups=resource_reports(around, ResourceKind.GROUP),
        availability_sets=resource_reports(around, ResourceKind.SET),
        capacity_reservations=resource_reports(around, ResourceKind.RESERVATION),
        storage_accounts=storage_accounts(around.hosts),
        networks=networks_on(around.hosts),
    )


def site_reports(books: Books) -> tuple[SiteReport, ...]:
    """All sites."""
    return tuple(site_report(books, site) for site in books.sites())


def mapping_report(mapping: NetworkMapping) -> MappingReport:
    """One network mapping."""
    return MappingReport(
        source_site=mapping.source_site,
        network=mapping.network,
        target_site=mapping.target_site,
        to=mapping.to,
    )


def _cache(cache: StoreAddress | None) -> CacheReport | None:
    if cache is None:
        return None
    return CacheReport(name=cache.name, url=cache.url, options=tuple(sorted(cache.options)))


def _host(host: HostRow) -> HostReport:
    return HostReport(
        name=host.name,
        alive=host.alive,
        last_seen=host.last_seen,
        agent_version=host.agent_version,
        inventory=host.inventory,
    )


def vm_reports(books: Books, site: SiteName | None = None) -> tuple[VmReport, ...]:
    """All machines of a site, or of all, as the agents last told."""
    owners = _owners(books.items())
    return tuple(
        vm_report(host, machine, owners.get((host.site, host.name, machine.name)))
        for host in books.hosts(site)
        if host.inventory is not None
        for machine in host.inventory.machines
    )


def vm_report(host: HostRow, machine: MachineFacts, owner: ItemRow | None) -> VmReport:
    """One machine. While it is an item's its files are layers: its disks keep their own names."""
    named = tuple(owner.facts.get("disks", ())) if owner else ()
    return VmReport(
        site=host.site,
        host=host.name,
        name=machine.name,
        state=machine.state,
        memory=machine.memory,
        vcpus=machine.vcpus,
        disks=named or machine.disks,
        item=owner.item.name if owner else None,
    )


def _owners(items: Iterable[ItemRow]) -> dict[tuple[str, str, str], ItemRow]:
    return {
        (seat.site, seat.host, seat.machine): row
        for row in items
        if row.state is not State.DISABLED
        for seat in (row.item.primary, row.item.recovery)
    }


def point_views(points: Sequence[PointReport]) -> tuple[PointView, ...]:
    """Points in order, the ones a failover would choose by itself marked."""
    ordered = sorted(points, key=lambda point: point.position)
    latest = ordered[-1].position if ordered else None
    apps = [point.position for point in ordered if point.consistency is Consistency.APP]
    latest_app = apps[-1] if apps else None
    return tuple(_point(point, latest, latest_app) for point in ordered)


def _point(point: PointReport, latest: Position | None, latest_app: Position | None) -> PointView:
    return PointView(
        position=point.position,
        taken_at=point.taken_at,
        landed_at=point.landed_at,
        consistency=point.consistency.value,
        changed=point.changed,
        depth=point.depth,
        label=point.label,
        latest=point.position == latest,
        latest_app=point.position == latest_app,
    )


def points_of(books: Books, row: ItemRow) -> tuple[PointView, ...]:
    """
    The points a failover can choose from: those of the side the machine does not run on.

    Between failover and commit they are the running side's, whose point may still be changed.
    """
    item = row.item
    seat = item.running if "failover" in row.facts else item.standby
    report = books.report_of(item.id, seat.host)
    return point_views(report.points if report else ())


@dataclass(frozen=True, kw_only=True, slots=True)
class Sides:
    """What both hosts of an item last told, and the job at work on it."""

    running: ItemReport | None
    standby: ItemReport | None
    alive: dict[str, bool]
    job: str | None
    now: datetime

    @property
    def reports(self) -> tuple[ItemReport, ...]:
        """Those there are, the running side's first."""
        return tuple(report for report in (self.running, self.standby) if report is not None)


def item_views(books: Books) -> tuple[ItemView, ...]:
    """All items."""
    at_work = {job.item: job.id for state in AT_WORK for job in books.jobs(state=state)}
    return tuple(_view(books, row, at_work.get(row.item.id)) for row in books.items())


def item_view(books: Books, row: ItemRow) -> ItemView:
    """One item with everything the call and the page about it show."""
    jobs = books.jobs(item=row.item.id)
    return _view(books, row, next((job.id for job in jobs if job.state in AT_WORK), None))


def _view(books: Books, row: ItemRow, job: str | None) -> ItemView:
    item, policy = row.item, books.policy(row.item.policy)
    sides = _sides(books, item, job)
    points = points_of(books, row)
    current = [point for point in points if point.label != BEFORE_FAILOVER]
    reason = unprotected(row.state, has_points=bool(current))
    target = policy.rpo_target.total_seconds()
    rpo = None if reason else _rpo(current, sides.now)
    return ItemView(
        id=item.id,
        name=item.name,
        state=row.state.value,
        unprotected=bool(reason),
        unprotected_reason=reason,
        direction=f"{item.running.site} -> {item.standby.site}",
        active=item.active.value,
        running=_seat(item.running, sides.running, sides),
        standby=_seat(item.standby, sides.standby, sides),
        epoch=item.epoch,
        policy=item.policy,
        rpo_target=target,
        current_rpo=rpo,
        rpo_met=rpo is not None and rpo <= target,
        newest_point=points[-1] if points else None,
        points=len(points),
        progress=next((r.progress for r in sides.reports if r.progress), None),
        backlog=sides.running.backlog if sides.running else 0,
        bytes_moved=sides.running.bytes_moved if sides.running else 0,
        disks=tuple(row.facts.get("disks", ())),
        unsent=tuple(image for report in sides.reports for image in report.unsent),
        problem=_problem(row, sides),
        protected_at=row.protected_at,
        job=sides.job,
        allowed=allowed_operations(row),
        receipt=receipt_of(row),
        last_resync=row.facts.get("resync"),
        test=row.facts.get("test"),
        facts=_other_facts(books, row),
        resyncs=resyncs_of(row.facts),
        rehearsal=rehearsed(item, row.facts),
        decision=_decision(books, row, policy),
    )


def _sides(books: Books, item: ReplicatedItem, job: str | None) -> Sides:
    return Sides(
        running=books.report_of(item.id, item.running.host),
        standby=books.report_of(item.id, item.standby.host),
        alive={seat.host: books.host_alive(seat.host) for seat in (item.running, item.standby)},
        job=job,
        now=books.now(),
    )


def _decision(books: Books, row: ItemRow, policy: ReplicationPolicy) -> PendingDecision | None:
    if row.state is not State.COMMIT_PENDING:
        return None
    at = decision_at(row, policy, books.jobs(item=row.item.id))
    return PendingDecision(what=policy.commit_timer.value, at=at) if at else None


def _seat(seat: Seat, report: ItemReport | None, sides: Sides) -> SeatReport:
    return SeatReport(
        site=seat.site,
        host=seat.host,
        machine=seat.machine,
        pool=seat.pool,
        alive=sides.alive[seat.host],
        role=report.role.value if report else "",
        phase=report.phase if report else "",
    )


def _rpo(points: Sequence[PointView], now: datetime) -> float | None:
    """Seconds a loss at this moment would cost."""
    return max(0.0, (now - points[-1].taken_at).total_seconds()) if points else None


def _problem(row: ItemRow, sides: Sides) -> Problem | None:
    found = (report.problem for report in sides.reports if report.problem)
    return next(found, None) or row.facts.get("problem")


def allowed_operations(row: ItemRow) -> tuple[str, ...]:
    """What may be asked for now."""
    events = events_of(row.state)
    names = [name for event, name in OPERATIONS.items() if event in events]
    if row.facts.get("test"):
        return (*(name for name in names if name not in ("disable", "reprotect")), "test-cleanup")
    return (*names, "test-failover") if row.state is State.PROTECTED else tuple(names)


def failover_notes(row: ItemRow) -> tuple[str, ...]:
    """What to know before a failover goes on: that a failback was not rehearsed."""
    if "failover" in row.facts:
        return ()  # only the point is changed: the machine is there already
    warning = warning_of(rehearsed(row.item, row.facts), row.item.name)
    return (warning,) if warning else ()


def receipt_of(row: ItemRow) -> LossReceipt | None:
    """The loss receipt of the last failover."""
    plain = row.facts.get("receipt")
    return None if plain is None else from_plain(LossReceipt, plain)


def _other_facts(books: Books, row: ItemRow) -> dict[str, Any]:
    shown = ("receipt", "resync", "resyncs", "test", "disks", "problem", "expected")
    facts = {key: value for key, value in row.facts.items() if key not in shown}
    if row.state is State.DISABLED:
        facts["pending_hosts"] = list(pending(books, row))
    return facts


def ledger_lines(books: Books, item: ItemId | None = None) -> tuple[LedgerLine, ...]:
    """What was made and what is gone; of one item, or of all."""
    names = {row.item.id: row.item.name for row in books.items()}
    sites = {host.name: host.site for host in books.hosts()}
    away = {
        (row.item.id, host)
        for row in books.items()
        if row.state is State.DISABLED
        for host in pending(books, row)
    }
    return tuple(
        LedgerLine(
            item=names.get(line.item, line.item),
            site=sites.get(line.host, SiteName("")),
            host=line.host,
            kind=line.entry.kind,
            name=line.entry.name,
            reason=line.entry.reason,
            made_at=line.entry.made_at,
            gone_at=line.entry.gone_at,
            pending_removal=line.entry.gone_at is None and (line.item, line.host) in away,
        )
        for line in books.ledger(item)
    )
