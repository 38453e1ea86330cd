"""Resource groups, availability sets and capacity reservations of a site."""

from __future__ import annotations

from fastapi import APIRouter, status

from homeport.interfaces.api.office import AnOffice
from homeport.interfaces.resources import resource_report, resource_reports
from homeport.model.ids import SiteName, check_name
from homeport.model.reports import ResourceReport
from homeport.model.requests import CapacityRequest, GroupRequest, SetRequest
from homeport.model.resources import ResourceKind
from homeport.orchestration import stock
from homeport.orchestration.books import Books, Office

router = APIRouter(prefix="/v1/sites/{site}", tags=["resources"])
GROUP, SET, RESERVATION = ResourceKind
DELETED = status.HTTP_204_NO_CONTENT


@router.get("/resource-groups")
def list_groups(site: str, office: AnOffice) -> tuple[ResourceReport, ...]:
    """The site's resource groups, with their locks and members."""
    return _list(office, site, GROUP)


@router.get("/availability-sets")
def list_sets(site: str, office: AnOffice) -> tuple[ResourceReport, ...]:
    """The site's availability sets, with who stands where."""
    return _list(office, site, SET)


@router.get("/capacity-reservations")
def list_reservations(site: str, office: AnOffice) -> tuple[ResourceReport, ...]:
    """The site's capacity reservations, with what they hold back on each host."""
    return _list(office, site, RESERVATION)


@router.get("/resource-groups/{name}")
def show_group(site: str, name: str, office: AnOffice) -> ResourceReport:
    """One resource group."""
    return _show(office, site, GROUP, name)


@router.get("/availability-sets/{name}")
def show_set(site: str, name: str, office: AnOffice) -> ResourceReport:
    """One availability set."""
    return _show(office, site, SET, name)


@router.get("/capacity-reservations/{name}")
def show_reservation(site: str, name: str, office: AnOffice) -> ResourceReport:
    """One capacity reservation."""
    return _show(office, site, RESERVATION, name)


@router.put("/resource-groups/{name}")
def put_group(site: str, name: str, asked: GroupRequest, office: AnOffice) -> ResourceReport:
    """Make a resource group, or change its members and its lock."""
    return _put(office, site, GROUP, name, asked)


@router.put("/availability-sets/{name}")
def put_set(site: str, name: str, asked: SetRequest, office: AnOffice) -> ResourceReport:
    """Make an availability set, or change its members; two on one host are refused."""
    return _put(office, site, SET, name, asked)


@router.put("/capacity-reservations/{name}")
def put_reservation(
    site: str, name: str, asked: CapacityRequest, office: AnOffice
) -> ResourceReport:
    """Make a capacity reservation, or change what it holds back and for whom."""
    return _put(office, site, RESERVATION, name, asked)


@router.delete("/resource-groups/{name}", status_code=DELETED)
def delete_group(site: str, name: str, office: AnOffice) -> None:
    """Delete a resource group that nobody uses and nobody has locked."""
    _delete(office, site, GROUP, name)


@router.delete("/availability-sets/{name}", status_code=DELETED)
def delete_set(site: str, name: str, office: AnOffice) -> None:
    """Delete an availability set that nobody uses."""
    _delete(office, site, SET, name)


@router.delete("/capacity-reservations/{name}", status_code=DELETED)
def delete_reservation(site: str, name: str, office: AnOffice) -> None:
    """Delete a capacity reservation that nobody draws on."""
    _delete(office, site, RESERVATION, name)


def _site(books: Books, site: str) -> SiteName:
    return books.site(check_name("site", site)).name


def _list(office: Office, site: str, kind: ResourceKind) -> tuple[ResourceReport, ...]:
    with office.look() as books:
        return resource_reports(books.resources.around(_site(books, site)), kind)


def _show(office: Office, site: str, kind: ResourceKind, name: str) -> ResourceReport:
    with office.look() as books:
        found = stock.find(books, _site(books, site), kind, name)
        return resource_report(books.resources.around(_site(books, site)), found)


def _put(
    office: Office, site: str, kind: ResourceKind, name: str, asked: stock.Change
) -> ResourceReport:
    with office.books() as books:
        known = _site(books, site)
        books.resources.claim(known)
        made = stock.put(books, known, kind, name, asked)
        return resource_report(books.resources.around(known), made)


def _delete(office: Office, site: str, kind: ResourceKind, name: str) -> None:
    with office.books() as books:
        known = _site(books, site)
        books.resources.claim(known)
        stock.delete(books, known, kind, name)
