"""What people are shown of a site's resources. Its storage accounts are libvirt's pools."""

from __future__ import annotations

from homeport.model.reports import HoldReport, ResourceReport, StorageAccountReport
from homeport.model.resources import (
    Hold,
    HostShape,
    Need,
    Resource,
    ResourceKind,
    Surroundings,
    left_of,
)


def resource_reports(around: Surroundings, kind: ResourceKind) -> tuple[ResourceReport, ...]:
    """All of a site's of one kind."""
    return tuple(resource_report(around, found) for found in around.held.of_kind(kind))


def resource_report(around: Surroundings, found: Resource) -> ResourceReport:
    """One resource, with its members and where they stand."""
    members = around.held.members(found.kind, found.name)
    return ResourceReport(
        site=around.site,
        kind=found.kind.value,
        name=found.name,
        members=members,
        stand=tuple(f"{s.machine} on {s.host}" for s in around.seated if s.machine in members),
        lock=found.lock.level.value if found.lock else None,
        lock_name=found.lock.name if found.lock else None,
        holds=tuple(_hold(around, found, host, hold) for host, hold in sorted(found.holds.items())),
        made_by_homeport=found.made_for is not None,
    )


def _hold(around: Surroundings, found: Resource, host: str, hold: Hold) -> HoldReport:
    need = Need(machine="", memory=0, vcpus=0, reservation=found.name)
    left = left_of(around, host, need) or hold
    return HoldReport(
        host=host,
        memory=hold.memory,
        vcpus=hold.vcpus,
        memory_left=max(0, left.memory),
        vcpus_left=max(0, left.vcpus),
    )


def storage_accounts(hosts: tuple[HostShape, ...]) -> tuple[StorageAccountReport, ...]:
    """The site's storage accounts: each libvirt pool of each host, by name."""
    return tuple(
        StorageAccountReport(
            name=pool.name,
            host=host.name,
            path=pool.path,
            capacity=pool.capacity,
            available=pool.available,
            writable=pool.writable,
        )
        for host, pool in sorted(
            ((host, pool) for host in hosts for pool in host.pools),
            key=lambda pair: (pair[1].name, pair[0].name),
        )
    )
