"""
The machines of the sites: listed as the agents tell, made and driven on request.

A machine that belongs to an item is refused what would harm it: the standby side's machine is
locked, and the running side's is not deleted.
"""

from __future__ import annotations

from dataclasses import replace

from fastapi import APIRouter, status

from homeport.errors import NotFoundError, RefusedError, from_dict
from homeport.interfaces.api.office import AnOffice
from homeport.interfaces.reports import vm_report, vm_reports
from homeport.model.codec import from_plain
from homeport.model.host import MachineFacts
from homeport.model.ids import SiteName, check_name
from homeport.model.machine_orders import (
    CreateMachine,
    DeletedMachine,
    DeleteMachine,
    MachineName,
    MachineShape,
)
from homeport.model.messages import OperationState
from homeport.model.reports import DeletedVm, VmReport
from homeport.model.requests import MachineRequest
from homeport.orchestration.books import Books, HostRow, Office
from homeport.orchestration.places import UnreachableError, host_for, host_of, owner_of, pool_of
from homeport.orchestration.ports import ItemRow, Json, Outcome
from homeport.orchestration.program import problem_of
from homeport.orchestration.test_failover import SUFFIX

router = APIRouter(prefix="/v1", tags=["machines"])
PATIENCE = 30.0
CREATE_PATIENCE = 300.0
"""Seconds for a new machine: an image of some gigabytes is copied meanwhile."""


@router.get("/vms")
def list_vms(office: AnOffice, site: str | None = None) -> tuple[VmReport, ...]:
    """The machines of all sites, or of one, as their agents last told."""
    with office.look() as books:
        known = None if site is None else books.site(check_name("site", site)).name
        return vm_reports(books, known)


@router.post("/vms", status_code=status.HTTP_201_CREATED)
def create_vm(asked: MachineRequest, office: AnOffice) -> VmReport:
    """Make a machine of the user's own, and wait until it is there."""
    check_name("machine", asked.name)
    for disk in asked.disks:
        check_name("disk", disk.name)
    with office.look() as books:
        host = _host(books, asked)
    order = CreateMachine(
        name=asked.name,
        memory=asked.memory,
        vcpus=asked.vcpus,
        disks=tuple(disk.made() for disk in asked.disks),
        pool=asked.pool or pool_of(host),
        network=asked.network,
        start=asked.start,
        logs=asked.logs,
    )
    _ask(office, host, "create-machine", order, patience=CREATE_PATIENCE)
    return _show(office, host, asked.name, None)


@router.get("/vms/{site}/{name}")
def show_vm(site: str, name: str, office: AnOffice) -> VmReport:
    """One machine with its definition, as its host tells now."""
    host, row = _find(office, site, name)
    return _show(office, host, name, row)


@router.post("/vms/{site}/{name}/start")
def start_vm(site: str, name: str, office: AnOffice) -> VmReport:
    """Start a machine; one that is locked is refused."""
    host, row = _find(office, site, name)
    if row and _is_standby(row, host, name):
        raise _locked(row, host, name)
    _ask(office, host, "start-machine", MachineName(name=name))
    return _show(office, host, name, row)


@router.post("/vms/{site}/{name}/stop")
def stop_vm(site: str, name: str, office: AnOffice, timeout: float = 30.0) -> VmReport:
    """Ask a machine's guest to shut down; after `timeout` seconds it is powered off."""
    host, row = _find(office, site, name)
    order = MachineName(name=name, timeout=timeout)
    _ask(office, host, "stop-machine", order, patience=PATIENCE + timeout)
    return _show(office, host, name, row)


@router.post("/vms/{site}/{name}/delete")
def delete_vm(site: str, name: str, office: AnOffice, *, disks: bool = False) -> DeletedVm:
    """
    Delete a machine; one that belongs to an item is refused.

    Its disks stay, unless `disks` is set: then those go that nothing else on the host needs.
    """
    host, row = _find(office, site, name)
    if row and _is_standby(row, host, name):
        raise _locked(row, host, name)
    if row:
        raise RefusedError(
            f"{name} belongs to item {row.item.name}.",
            code="MachineProtected",
            cause="It, or a test of it, runs on disks that Homeport keeps.",
            remedy=_remedy(row, name),
        )
    order = DeleteMachine(name=name, disks=disks)
    told = from_plain(DeletedMachine, _ask(office, host, "delete-machine", order))
    return DeletedVm(site=host.site, name=name, removed=told.removed, kept=told.kept)


def _host(books: Books, asked: MachineRequest) -> HostRow:
    site = books.site(check_name("site", asked.site)).name
    if asked.host is None:
        return host_for(books, site, asked.pool)
    host = next((host for host in books.hosts(site) if host.name == asked.host), None)
    if host is None:
        raise NotFoundError(
            f"{site} has no host {asked.host}.",
            cause="No agent of that name has signed in there.",
            remedy=f"Look at the list (homeport site show {site}).",
        )
    if not host.alive:
        raise UnreachableError(site, host.name)
    return host


def _find(office: Office, site: str, name: str) -> tuple[HostRow, ItemRow | None]:
    """The machine's host and the item it belongs to; a test machine is its item's too."""
    check_name("machine", name)
    with office.look() as books:
        known: SiteName = books.site(check_name("site", site)).name
        host = host_of(books, known, name)
        return host, _owner(books, host, name)


def _owner(books: Books, host: HostRow, name: str) -> ItemRow | None:
    row = owner_of(books, host.site, host.name, name)
    if row is not None or not name.endswith(SUFFIX):
        return row
    tested = owner_of(books, host.site, host.name, name.removesuffix(SUFFIX))
    return tested if tested and tested.facts.get("test") else None


def _is_standby(row: ItemRow, host: HostRow, name: str) -> bool:
    seat = row.item.standby
    return (seat.host, seat.machine) == (host.name, name)


def _locked(row: ItemRow, host: HostRow, name: str) -> RefusedError:
    return RefusedError(
        f"{name} on {host.name} is locked: item {row.item.name} runs in {row.item.running.site}.",
        code="MachineLocked",
        cause="Its disks are the replica, or are kept until the failback; if it ran, two would.",
        remedy=f"Fail over to it (homeport failover {row.item.name}), or disable the item first.",
    )


def _remedy(row: ItemRow, name: str) -> str:
    if name.endswith(SUFFIX) and row.facts.get("test"):
        return f"Clean up the test (homeport test-cleanup {row.item.name})."
    return f"Disable the item first (homeport disable {row.item.name})."


def _ask(
    office: Office, host: HostRow, kind: str, order: object, *, patience: float = PATIENCE
) -> dict[str, Json]:
    outcome: Outcome = office.ask(host.name, kind, order, patience=patience)
    if outcome.state is OperationState.LOST:
        raise from_dict(problem_of(outcome, host.name, patience))
    if not outcome.done:
        raise from_dict(outcome.error or {})
    return outcome.result or {}


def _show(office: Office, host: HostRow, name: str, row: ItemRow | None) -> VmReport:
    """The machine as its host shows it now: the list is some seconds old."""
    shape = from_plain(MachineShape, _ask(office, host, "show-machine", MachineName(name=name)))
    definition = shape.definition
    facts = MachineFacts(
        name=definition.name,
        uuid=definition.uuid,
        state=shape.state,
        memory=definition.memory,
        vcpus=definition.vcpus,
        autostart=False,
        disks=tuple(disk.name for disk in definition.disks),
    )
    report = vm_report(host, facts, row)
    return replace(report, definition=definition)
