"""`homeport site`: sites, their agents' tokens, cache stores and network mappings."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.console import Group
from rich.text import Text

from homeport.interfaces.cli import parsing
from homeport.interfaces.cli.frame import Session, command
from homeport.interfaces.cli.render import places as render
from homeport.interfaces.cli.render.style import QUIET
from homeport.model.reports import MappingReport, NewSiteReport, SiteReport
from homeport.model.requests import CacheRequest, MappingRequest

app = typer.Typer(help="Sites: hosts, cache stores, networks.", no_args_is_help=True)

Site = Annotated[str, typer.Argument(metavar="SITE", help="The site's name.")]
Options = Annotated[
    list[str] | None,
    typer.Option("--option", metavar="NAME=VALUE", help="To open the store; may be repeated."),
]


@command(app, "list")
def list_sites(session: Session) -> None:
    """List all sites."""
    found = session.client.sites()
    session.screen.show(tuple[SiteReport, ...], found, render.sites(found))


@command(app, "show")
def show(session: Session, *, site: Site) -> None:
    """Show a site with its hosts and network mappings."""
    found = session.client.site(site)
    session.screen.show(SiteReport, found, render.site(found, session.now()))


@command(app, "add")
def add(
    session: Session,
    *,
    site: Site,
    cache: Annotated[
        str | None,
        typer.Option(
            "--cache", metavar="URL", help="URL of the cache store: file://, s3://, az://..."
        ),
    ] = None,
    options: Options = None,
) -> None:
    """Make a site, and show the token its agents sign in with: this once."""
    store = _cache(cache, options) if cache else None
    made = session.client.add_site(site, store)
    session.screen.show(NewSiteReport, made, Group(_token(site, made.token), _what_now(made.site)))


@command(app, "token")
def token(session: Session, *, site: Site) -> None:
    """Give the site's agents a fresh token; earlier ones end at once."""
    fresh = session.client.renew_token(site)
    if session.screen.as_json:
        session.screen.data({"token": fresh})
    else:
        session.screen.say(_token(site, fresh))


@command(app, "set-cache")
def set_cache(
    session: Session,
    *,
    site: Site,
    url: Annotated[str, typer.Argument(metavar="URL", help="Of a folder or bucket.")],
    options: Options = None,
) -> None:
    """Set the store in which a site's points wait for the other site."""
    found = session.client.set_cache(site, _cache(url, options))
    session.screen.show(SiteReport, found, render.site(found, session.now()))


@command(app, "map-network")
def map_network(
    session: Session,
    *,
    source: Annotated[str, typer.Argument(metavar="SITE/NETWORK", help="The machine's.")],
    target: Annotated[str, typer.Argument(metavar="SITE/NETWORK", help="What stands for it.")],
) -> None:
    """Have a network of one site stand for a network of another."""
    here, there = _network(source), _network(target)
    made = session.client.map_network(
        MappingRequest(source_site=here[0], network=here[1], target_site=there[0], to=there[1])
    )
    session.screen.show(MappingReport, made, render.mapping(made))


def _network(text: str) -> tuple[str, str]:
    site, network = parsing.place(text)
    if site is None:
        raise typer.BadParameter(f"{text!r} is not a network. Write it as SITE/NETWORK.")
    return site, network


def _cache(url: str, options: list[str] | None) -> CacheRequest:
    return CacheRequest(url=url, options=parsing.pairs(options or (), what="option"))


def _token(site: str, token: str) -> Group:
    return Group(
        Text(f"Token of {site}, shown this once:", style="bold"),
        Text(f"  {token}", overflow="ignore", no_wrap=True),
        Text("On each of its hosts:", style="bold"),
        Text(f"  HOMEPORT_AGENT__TOKEN={token} homeport agent --site {site}", no_wrap=True),
    )


def _what_now(site: SiteReport) -> Text:
    if site.cache:
        return Text("")
    return Text(f"It has no cache store yet: homeport site set-cache {site.name} URL", style=QUIET)
