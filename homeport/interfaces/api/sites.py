"""Sites, their hosts and cache stores, network mappings, and the server's health."""

from __future__ import annotations

from fastapi import APIRouter, status

from homeport.interfaces.api.office import AnOffice
from homeport.interfaces.reports import health_report, mapping_report, site_report, site_reports
from homeport.model.ids import SiteName, check_name
from homeport.model.messages import StoreAddress
from homeport.model.reports import (
    HealthReport,
    MappingReport,
    NewSiteReport,
    SiteReport,
    TokenReport,
)
from homeport.model.requests import CacheRequest, MappingRequest, SiteRequest
from homeport.orchestration.books import Books, NetworkMapping

router = APIRouter(prefix="/v1", tags=["sites"])


@router.get("/health")
def health(office: AnOffice) -> HealthReport:
    """Whether this server can do its work."""
    return health_report(office.health())


@router.get("/sites")
def list_sites(office: AnOffice) -> tuple[SiteReport, ...]:
    """All sites with their hosts."""
    with office.look() as books:
        return site_reports(books)


@router.post("/sites", status_code=status.HTTP_201_CREATED)
def add_site(asked: SiteRequest, office: AnOffice) -> NewSiteReport:
    """A new site. The token its agents sign in with is shown this once."""
    name = SiteName(check_name("site", asked.name))
    with office.books() as books:
        books.add_site(name, _address(name, asked.cache) if asked.cache else None)
        token = books.new_token(name)
        return NewSiteReport(site=_report(books, name), token=token)


@router.get("/sites/{site}")
def show_site(site: str, office: AnOffice) -> SiteReport:
    """One site."""
    with office.look() as books:
        return _report(books, check_name("site", site))


@router.post("/sites/{site}/token")
def renew_token(site: str, office: AnOffice) -> TokenReport:
    """A fresh token for the site's agents; earlier ones end."""
    with office.books() as books:
        name = books.site(check_name("site", site)).name
        return TokenReport(token=books.new_token(name))


@router.put("/sites/{site}/cache")
def set_cache(site: str, asked: CacheRequest, office: AnOffice) -> SiteReport:
    """Set the cache store in a site."""
    with office.books() as books:
        name = books.site(check_name("site", site)).name
        books.set_cache(name, _address(name, asked))
        return _report(books, name)


@router.put("/network-mappings")
def map_network(asked: MappingRequest, office: AnOffice) -> MappingReport:
    """Have a network of one site stand for one of another."""
    with office.books() as books:
        source = books.site(check_name("site", asked.source_site)).name
        target = books.site(check_name("site", asked.target_site)).name
        books.map_network(source, asked.network, target, asked.to)
    mapping = NetworkMapping(
        source_site=source, network=asked.network, target_site=target, to=asked.to
    )
    return mapping_report(mapping)


def _address(site: SiteName, asked: CacheRequest) -> StoreAddress:
    """A site's store goes by the site's name: there is one."""
    return StoreAddress(name=site, url=asked.url, options=asked.options)


def _report(books: Books, name: str) -> SiteReport:
    return site_report(books, books.site(name))
