"""Replicated items: protect, look at them, and end it."""

from __future__ import annotations

from typing import Annotated

import typer

from homeport.interfaces.cli import parsing, vms
from homeport.interfaces.cli.frame import NoWaitOption, Session, YesOption, command
from homeport.interfaces.cli.render import items as render
from homeport.interfaces.cli.render import review as review_render
from homeport.interfaces.cli.watching import started
from homeport.model.reports import EstimateReport, ItemView, LedgerLine, PointView
from homeport.model.requests import DisableRequest, ProtectRequest

Item = Annotated[str, typer.Argument(metavar="ITEM", help="The item's name or id.")]
PANEL = "Replicated items"


Networks = Annotated[
    list[str] | None,
    typer.Option(
        "--network", metavar="HERE=THERE", help="THERE may be none: unplugged. May be repeated."
    ),
]
Unmanaged = Annotated[
    bool, typer.Option("--unmanaged", help="Its disks keep their files and names at both sites.")
]


def register(app: typer.Typer) -> None:
    """Add the commands to the program."""
    for function in (protect, items, show, points, disable, estimate, ledger):
        command(app, function.__name__, rich_help_panel=PANEL)(function)


def protect(
    session: Session,
    *,
    vm: Annotated[str, typer.Argument(metavar="VM", help="SITE/NAME of the machine.")],
    to: Annotated[str, typer.Option("--to", metavar="SITE", help="The site it is replicated to.")],
    policy: Annotated[
        str, typer.Option("--policy", metavar="NAME", help="How it is replicated.")
    ] = "default",
    name: Annotated[
        str | None, typer.Option("--name", metavar="NAME", help="The item's name.")
    ] = None,
    pool: Annotated[
        str | None, typer.Option("--pool", metavar="NAME", help="Pool in the target site.")
    ] = None,
    network: Networks = None,
    host: Annotated[
        str | None, typer.Option("--host", metavar="HOST", help="Host in the target site.")
    ] = None,
    group: Annotated[
        str | None,
        typer.Option("--group", metavar="NAME", help="Resource group there; else NAME-asr, made."),
    ] = None,
    availability_set: Annotated[
        str | None, typer.Option("--set", metavar="NAME", help="Availability set, or none.")
    ] = None,
    capacity: Annotated[
        str | None, typer.Option("--capacity", metavar="NAME", help="Capacity reservation to use.")
    ] = None,
    unmanaged: Unmanaged = False,
    no_wait: NoWaitOption = False,
) -> None:
    """Protect a machine: copy it to another site and keep it up to date there."""
    site, machine = vms.find(session.client, vm)
    asked = ProtectRequest(
        vm=machine,
        source_site=site,
        target_site=to,
        policy=policy,
        name=name,
        pool=pool,
        networks=parsing.networks(network or ()),
        host=host,
        resource_group=parsing.or_none(group),
        availability_set=parsing.or_none(availability_set),
        capacity_reservation=parsing.or_none(capacity),
        unmanaged=unmanaged,
    )
    started(session, session.client.protect(asked), wait=not no_wait)


def items(session: Session) -> None:
    """List all replicated items, and what of them needs attention."""
    found = session.client.items()
    session.screen.show(tuple[ItemView, ...], found, render.items(found, session.now()))


def show(session: Session, *, item: Item) -> None:
    """Show an item with everything known of it."""
    found = session.client.item(item)
    session.screen.show(ItemView, found, render.item(found, session.now()))


def points(session: Session, *, item: Item) -> None:
    """List the recovery points a failover can choose from."""
    found = session.client.points(item)
    session.screen.show(tuple[PointView, ...], found, render.points(found, session.now()))


def disable(
    session: Session,
    *,
    item: Item,
    force: Annotated[
        bool, typer.Option("--force", help="Go on without a host that does not answer.")
    ] = False,
    keep_unsent: Annotated[
        bool, typer.Option("--keep-unsent", help="Leave images of set-aside writes.")
    ] = False,
    no_wait: NoWaitOption = False,
    yes: YesOption = False,
) -> None:
    """End protection: everything Homeport made is removed; the active machine stays."""
    session.screen.confirm(
        f"End protection of {item}. Its recovery points and everything else Homeport made for it "
        "are removed; the machine that runs stays.",
        yes=yes,
    )
    asked = DisableRequest(force=force, keep_unsent=keep_unsent)
    started(session, session.client.disable(item, asked), wait=not no_wait)


def estimate(
    session: Session,
    *,
    item: Item,
    asr: Annotated[
        bool, typer.Option("--asr", help="Show what Azure Site Recovery's formula would say.")
    ] = False,
) -> None:
    """Tell how long a reprotect would take now."""
    found = session.client.estimate(item)
    session.screen.show(EstimateReport, found, review_render.estimate(found, with_asr=asr))


def ledger(
    session: Session,
    *,
    item: Annotated[
        str | None, typer.Argument(metavar="ITEM", help="The item; else all of them.")
    ] = None,
    gone: Annotated[bool, typer.Option("--gone", help="Show also what is gone.")] = False,
) -> None:
    """List what Homeport made, why, and what of it is still there."""
    found = tuple(line for line in session.client.ledger(item) if gone or line.gone_at is None)
    session.screen.show(tuple[LedgerLine, ...], found, render.ledger(found))
