"""`homeport vm`: the machines of the sites, as their hosts tell."""

from __future__ import annotations

from typing import Annotated

import typer

from homeport.client import Client
from homeport.errors import NotFoundError, RefusedError
from homeport.interfaces.cli import parsing
from homeport.interfaces.cli.frame import Session, YesOption, command
from homeport.interfaces.cli.render import places as render
from homeport.model.reports import VmReport
from homeport.model.requests import MachineRequest

app = typer.Typer(help="Machines: list, make, start, stop.", no_args_is_help=True)

Vm = Annotated[
    str, typer.Argument(metavar="VM", help="SITE/NAME, or NAME where only one site has it.")
]


@command(app, "list")
def list_vms(
    session: Session,
    *,
    site: Annotated[
        str | None, typer.Option("--site", metavar="SITE", help="Only this site's.")
    ] = None,
) -> None:
    """List the machines of all sites, or of one."""
    found = session.client.vms(site)
    session.screen.show(tuple[VmReport, ...], found, render.vms(found))


@command(app, "show")
def show(session: Session, *, vm: Vm) -> None:
    """Show a machine with its disks and network cards."""
    found = session.client.vm(*find(session.client, vm))
    session.screen.show(VmReport, found, render.vm(found))


@command(app, "create")
def create(
    session: Session,
    *,
    vm: Annotated[str, typer.Argument(metavar="VM", help="SITE/NAME of the new machine.")],
    disks: Annotated[
        list[str],
        typer.Option(
            "--disk", metavar="NAME=SIZE", help="And ,format=qcow2 ,image=PATH. May be repeated."
        ),
    ],
    memory: Annotated[
        str, typer.Option("--memory", metavar="SIZE", help="For example 512M or 4G.")
    ] = "1G",
    vcpus: Annotated[int, typer.Option("--vcpus", metavar="N", min=1, help="Virtual CPUs.")] = 1,
    host: Annotated[
        str | None, typer.Option("--host", metavar="NAME", help="Which host; else any.")
    ] = None,
    network: Annotated[
        str | None, typer.Option("--network", metavar="NAME", help="A network's name.")
    ] = None,
    pool: Annotated[
        str | None, typer.Option("--pool", metavar="NAME", help="Where its disks lie.")
    ] = None,
    start: Annotated[bool, typer.Option("--start/--no-start", help="Start it.")] = True,
    logs: Annotated[
        str | None,
        typer.Option("--logs", metavar="PATH", help="File on the host for its serial console."),
    ] = None,
) -> None:
    """Make a machine of your own, and wait until it is there."""
    site, name = parsing.place(vm)
    if site is None:
        raise typer.BadParameter(f"{vm!r} names no site. Write it as SITE/NAME.")
    asked = MachineRequest(
        site=site,
        name=name,
        memory=parsing.size(memory),
        disks=tuple(parsing.disk(text) for text in disks),
        vcpus=vcpus,
        host=host,
        network=network,
        pool=pool,
        start=start,
        logs=logs,
    )
    made = session.client.create_vm(asked)
    session.screen.show(VmReport, made, render.vm(made))


@command(app, "start")
def start(session: Session, *, vm: Vm) -> None:
    """Start a machine. One that is locked until failback is refused."""
    found = session.client.start_vm(*find(session.client, vm))
    session.screen.show(VmReport, found, render.vms([found]))


@command(app, "stop")
def stop(
    session: Session,
    *,
    vm: Vm,
    timeout: Annotated[
        float,
        typer.Option(
            "--timeout", metavar="SECONDS", min=0, help="Seconds the guest has; then power off."
        ),
    ] = 30.0,
) -> None:
    """Shut a machine down; what its guest does not do in time is done by force."""
    found = session.client.stop_vm(*find(session.client, vm), timeout=timeout)
    session.screen.show(VmReport, found, render.vms([found]))


@command(app, "delete")
def delete(
    session: Session,
    *,
    vm: Vm,
    disks: Annotated[
        bool, typer.Option("--disks", help="Its disks too, where nothing else needs them.")
    ] = False,
    yes: YesOption = False,
) -> None:
    """Delete a machine and keep its disks. One that an item needs is refused."""
    site, name = find(session.client, vm)
    what = "with its disks. This cannot be undone" if disks else "and keep its disks"
    session.screen.confirm(f"Delete {name} in {site}, {what}.", yes=yes)
    done = session.client.delete_vm(site, name, disks=disks)
    if session.screen.as_json:
        told = {"removed": list(done.removed), "kept": done.kept}
        session.screen.data({"deleted": f"{site}/{name}", **told})
    else:
        session.screen.say(render.deleted_vm(done))


def find(client: Client, text: str) -> tuple[str, str]:
    """
    Site and name of a machine as it was typed.

    Raises:
        NotFoundError: no site has it.
        RefusedError: several have it, and it was not said which.
    """
    site, name = parsing.place(text)
    if site is not None:
        return site, name
    sites = [vm.site for vm in client.vms() if vm.name == name]
    if not sites:
        raise NotFoundError(
            f"No site has a machine {name}.",
            code="UnknownMachine",
            cause="No host has told of it.",
            remedy="Look at: homeport vm list",
        )
    if len(sites) > 1:
        raise RefusedError(
            f"{name} is in several sites: {', '.join(sorted(sites))}.",
            code="AmbiguousMachine",
            cause="A machine under protection is on both sides.",
            remedy=f"Say which: {sites[0]}/{name}",
        )
    return sites[0], name
