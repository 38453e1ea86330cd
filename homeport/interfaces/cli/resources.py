"""`homeport group`, `set` and `capacity`: what a site has beside libvirt's own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import typer

from homeport.interfaces.cli import parsing
from homeport.interfaces.cli.frame import Session, YesOption, command
from homeport.interfaces.cli.render import resources as render
from homeport.model.ids import HostName
from homeport.model.reports import ResourceReport
from homeport.model.requests import CapacityRequest, GroupRequest, SetRequest
from homeport.model.resources import Hold, LockLevel, ResourceKind

groups = typer.Typer(help="Resource groups of sites, and their locks.", no_args_is_help=True)
sets = typer.Typer(
    help="Availability sets: machines that do not share a host.", no_args_is_help=True
)
capacities = typer.Typer(
    help="Capacity reservations: memory and vCPUs held back on hosts.", no_args_is_help=True
)

Place = Annotated[str, typer.Argument(metavar="SITE/NAME", help="Where, and its name.")]
Members = Annotated[
    list[str] | None,
    typer.Option(
        "--member",
        metavar="MACHINE",
        help="All machines that belong to it; may be repeated. Left out: those it has.",
    ),
]
Nobody = Annotated[bool, typer.Option("--no-members", help="No machine belongs to it any more.")]
Site = Annotated[str | None, typer.Option("--site", metavar="SITE", help="Of this site only.")]


@command(groups, "list")
def list_groups(session: Session, *, site: Site = None) -> None:
    """List resource groups, who is in them, and their locks."""
    _list(session, ResourceKind.GROUP, site)


@command(groups, "create")
def create_group(
    session: Session, *, place: Place, member: Members = None, no_members: Nobody = False
) -> None:
    """Make a resource group, or change who is in it."""
    _put(session, place, GroupRequest(members=_members(member, nobody=no_members)))


@command(groups, "delete")
def delete_group(session: Session, *, place: Place, yes: YesOption = False) -> None:
    """Delete a resource group that nobody uses and nobody has locked."""
    _delete(session, ResourceKind.GROUP, place, yes=yes)


@command(groups, "lock")
def lock_group(
    session: Session,
    *,
    place: Place,
    level: Annotated[
        LockLevel, typer.Option("--level", help="What is kept from being done.")
    ] = LockLevel.READ_ONLY,
    name: Annotated[
        str | None, typer.Option("--name", metavar="NAME", help="What people see of it.")
    ] = None,
) -> None:
    """Lock a resource group; a reprotect into it is then refused, naming the lock."""
    word = "read-only" if level is LockLevel.READ_ONLY else "delete"
    _put(session, place, GroupRequest(lock=word, lock_name=name))  # type: ignore[arg-type]


@command(groups, "unlock")
def unlock_group(session: Session, *, place: Place) -> None:
    """Lift a resource group's lock."""
    _put(session, place, GroupRequest(lock="none"))


@command(sets, "list")
def list_sets(session: Session, *, site: Site = None) -> None:
    """List availability sets, and on which hosts their machines stand."""
    _list(session, ResourceKind.SET, site)


@command(sets, "create")
def create_set(
    session: Session, *, place: Place, member: Members = None, no_members: Nobody = False
) -> None:
    """Make an availability set, or change who is in it; two on one host are refused."""
    _put(session, place, SetRequest(members=_members(member, nobody=no_members)))


@command(sets, "delete")
def delete_set(session: Session, *, place: Place, yes: YesOption = False) -> None:
    """Delete an availability set that nobody uses."""
    _delete(session, ResourceKind.SET, place, yes=yes)


@command(capacities, "list")
def list_capacities(session: Session, *, site: Site = None) -> None:
    """List capacity reservations: what each holds back on which host, and what is left of it."""
    _list(session, ResourceKind.RESERVATION, site)


@command(capacities, "create")
def create_capacity(
    session: Session,
    *,
    place: Place,
    hold: Annotated[
        list[str] | None,
        typer.Option(
            "--hold",
            metavar="HOST=MEMORY[,VCPUS]",
            help="Held back on a host, as w1=8G,4; may be repeated. Left out: as it is.",
        ),
    ] = None,
    member: Members = None,
    no_members: Nobody = False,
) -> None:
    """Make a capacity reservation, or change what it holds back and for whom."""
    holds = None if hold is None else _holds(hold)
    asked = CapacityRequest(holds=holds, members=_members(member, nobody=no_members))
    _put(session, place, asked)


@command(capacities, "delete")
def delete_capacity(session: Session, *, place: Place, yes: YesOption = False) -> None:
    """Delete a capacity reservation that nobody draws on."""
    _delete(session, ResourceKind.RESERVATION, place, yes=yes)


def _holds(texts: Sequence[str]) -> dict[HostName, Hold]:
    made = {}
    for host, text in parsing.pairs(texts, what="hold").items():
        memory, _, vcpus = text.partition(",")
        if vcpus and not vcpus.isdecimal():
            raise typer.BadParameter(f"{vcpus!r} is not a number of vCPUs.")
        made[HostName(host)] = Hold(memory=parsing.size(memory), vcpus=int(vcpus or 0))
    return made


def _members(given: Sequence[str] | None, *, nobody: bool) -> tuple[str, ...] | None:
    if nobody and given:
        raise typer.BadParameter("give --member or --no-members, not both")
    return () if nobody else None if given is None else tuple(given)


def _place(text: str) -> tuple[str, str]:
    site, name = parsing.place(text)
    if not site or not name:
        raise typer.BadParameter(f"{text!r} is not a place. Write it as SITE/NAME.")
    return site, name


def _list(session: Session, kind: ResourceKind, site: str | None) -> None:
    sites = [site] if site else [known.name for known in session.client.sites()]
    found = tuple(one for name in sites for one in session.client.resources(name, kind))
    session.screen.show(tuple[ResourceReport, ...], found, render.resources(found, kind))


def _put(session: Session, place: str, asked: GroupRequest | SetRequest | CapacityRequest) -> None:
    site, name = _place(place)
    made = session.client.put_resource(site, name, asked)
    words = render.resources((made,), ResourceKind(made.kind))
    session.screen.show(ResourceReport, made, words)


def _delete(session: Session, kind: ResourceKind, place: str, *, yes: bool) -> None:
    site, name = _place(place)
    session.screen.confirm(f"Delete {kind.words} {site}/{name}.", yes=yes)
    session.client.delete_resource(site, kind, name)
    if session.screen.as_json:
        session.screen.data({})
    else:
        session.screen.say(f"{kind.words.capitalize()} {site}/{name} is deleted.")
