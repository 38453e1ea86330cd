"""Sites with their hosts, machines, and policies."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from rich.console import Group, RenderableType
from rich.text import Text

from homeport.interfaces.cli.render.resources import account, brief
from homeport.interfaces.cli.render.style import (
    BAD,
    GOOD,
    QUIET,
    WARN,
    facts,
    section,
    spaced,
    state,
    table,
)
from homeport.interfaces.words import DASH, age, listed, size
from homeport.model.machine import MachineDefinition
from homeport.model.policy import CommitTimer, ReplicationPolicy
from homeport.model.reports import (
    DeletedVm,
    HostReport,
    MappingReport,
    ResourceReport,
    SiteReport,
    VmReport,
)
from homeport.units import show_span


def sites(reports: Sequence[SiteReport]) -> RenderableType:
    """All sites, one a line."""
    if not reports:
        return Text("No sites yet. Make one: homeport site add NAME --cache URL")
    made = table("SITE", "HOSTS", "CACHE STORE")
    for site in reports:
        made.add_row(site.name, _alive_of(site.hosts), _cache(site))
    return made


def _alive_of(hosts: Sequence[HostReport]) -> Text:
    alive = sum(host.alive for host in hosts)
    style = GOOD if hosts and alive == len(hosts) else BAD if hosts else QUIET
    return Text(f"{alive} of {len(hosts)} answer" if hosts else "none", style=style)


def _cache(site: SiteReport) -> Text:
    if site.cache is None:
        return Text("none: nothing can be replicated from here", style=WARN)
    hidden = f" (options: {', '.join(site.cache.options)})" if site.cache.options else ""
    return Text(site.cache.url + hidden)


def site(report: SiteReport, now: datetime) -> RenderableType:
    """One site with everything in it."""
    hosts: list[RenderableType] = [_host(host, now) for host in report.hosts]
    none = Text("none: start an agent with this site's token (homeport site token)", style=WARN)
    accounts = report.storage_accounts
    mappings = [mapping(one) for one in report.network_mappings]
    return spaced(
        Group(Text(report.name, style="bold"), facts([("cache store", _cache(report))])),
        section("Hosts", *(hosts or [none])),
        section("Storage accounts", *map(account, accounts)) if accounts else None,
        section("Networks", Text(listed(report.networks))) if report.networks else None,
        section("Network mappings", *(mappings or [Text("none: networks keep their names")])),
        *(section(title, *map(brief, found)) for title, found in _held(report) if found),
    )


def _held(report: SiteReport) -> tuple[tuple[str, Sequence[ResourceReport]], ...]:
    return (
        ("Resource groups", report.resource_groups),
        ("Availability sets", report.availability_sets),
        ("Capacity reservations", report.capacity_reservations),
    )


def mapping(found: MappingReport) -> Text:
    """A network and what stands for it."""
    left = f"{found.source_site}/{found.network}"
    return Text(f"{left} -> {found.target_site}/{found.to}")


def _host(host: HostReport, now: datetime) -> RenderableType:
    word = ("answers", GOOD) if host.alive else ("DOES NOT ANSWER", BAD)
    head = Text.assemble(
        (host.name, "bold"), "  ", word, f", last heard {age(host.last_seen, now)} ago"
    )
    found = host.inventory
    if found is None:
        return Group(head, Text("  nothing told yet", style=QUIET))
    pools = [
        f"{pool.name} ({size(pool.available)} of {size(pool.capacity)} free)"
        for pool in found.pools
    ]
    memory = f"{size(found.memory_free)} of {size(found.memory)} free"
    lines: list[tuple[str, RenderableType]] = [
        (
            "hypervisor",
            f"{found.hypervisor}{'' if found.kvm else ', without KVM: guests are slow'}",
        ),
        ("cpus, memory", f"{found.cpus}, {memory}"),
        ("pools", listed(pools)),
        (
            "networks",
            listed(net.name if net.active else f"{net.name} (off)" for net in found.networks),
        ),
        ("machines", listed(machine.name for machine in found.machines)),
        ("agent", host.agent_version or DASH),
    ]
    return Group(head, facts(lines))


def vms(reports: Sequence[VmReport]) -> RenderableType:
    """Machines, one a line."""
    if not reports:
        return Text("No machines: no host has told of one.")
    made = table(
        "SITE",
        "MACHINE",
        "STATE",
        "VCPUS",
        "MEMORY",
        "DISKS",
        "ITEM",
        "HOST",
        right=("VCPUS", "MEMORY"),
    )
    for vm in reports:
        item = Text(vm.item) if vm.item else Text("not protected", style=QUIET)
        row = (vm.site, vm.name, state(vm.state.value), str(vm.vcpus), size(vm.memory))
        made.add_row(*row, listed(vm.disks), item, vm.host)
    return made


def deleted_vm(report: DeletedVm) -> RenderableType:
    """What became of a machine that was deleted, and of each of its files."""
    lines = [Text(f"Deleted: {report.site}/{report.name}")]
    lines += [Text(f"  removed: {path}") for path in report.removed]
    if report.kept is None:
        lines.append(Text("  Its disks stay: the agent there is too old to name or remove them."))
    for path, reason in (report.kept or {}).items():
        lines.append(Text(f"  kept: {path}" + (f" ({reason})" if reason else "")))
    return Group(*lines)


def vm(report: VmReport) -> RenderableType:
    """One machine with its definition."""
    lines: list[tuple[str, RenderableType]] = [
        ("site, host", f"{report.site}, {report.host}"),
        ("state", state(report.state.value)),
        ("vcpus, memory", f"{report.vcpus}, {size(report.memory)}"),
        ("item", report.item or "none: it is not protected"),
    ]
    if report.definition:
        lines.append(("firmware", report.definition.firmware.value))
        lines.append(("uuid", report.definition.uuid))
    head = Group(Text(report.name, style="bold"), facts(lines))
    parts = _definition(report.definition) if report.definition else ()
    return spaced(head, *parts)


def _definition(definition: MachineDefinition) -> tuple[RenderableType, ...]:
    disks = table("DISK", "TARGET", "FORMAT", "SIZE", "POOL", right=("SIZE",))
    for disk in definition.disks:
        disks.add_row(disk.name, disk.target, disk.format.value, size(disk.size), disk.pool or DASH)
    nics = [
        Text(f"{nic.mac}  {nic.network or 'not attached'}  ({nic.model})")
        for nic in definition.nics
    ]
    return (
        section("Disks", disks),
        section("Network cards", *(nics or [Text("none")])),
    )


def policies(found: Sequence[ReplicationPolicy]) -> RenderableType:
    """Policies, one a line."""
    made = table("POLICY", "RPO", "EVERY", "APP-CONSISTENT", "KEPT ALL", "KEPT HOURLY", "COMMIT")
    for one in found:
        app = one.app_consistent_interval
        spans = (one.rpo_target, one.interval)
        made.add_row(
            one.name,
            *(show_span(span) for span in spans),
            show_span(app) if app else "no",
            show_span(one.keep_all),
            show_span(one.retention),
            _timer(one),
        )
    return made


def _timer(one: ReplicationPolicy) -> str:
    if one.commit_timer is CommitTimer.NONE:
        return "by hand"
    return f"{one.commit_timer.value} after {show_span(one.commit_after)}"


def policy(one: ReplicationPolicy) -> RenderableType:
    """One policy."""
    app = one.app_consistent_interval
    lines: list[tuple[str, RenderableType]] = [
        ("RPO target", show_span(one.rpo_target)),
        ("a point every", show_span(one.interval)),
        ("app-consistent", f"every {show_span(app)}" if app else "no"),
        ("every point kept for", show_span(one.keep_all)),
        ("hourly points kept for", show_span(one.retention)),
        ("unsent writes kept for", show_span(one.unsent_retention)),
        ("commit or undo", _timer(one)),
    ]
    return Group(Text(one.name, style="bold"), facts(lines))
