"""
`homeport lab`: two sites on this machine, to try things out, to cut off and to kill.

Labs are made of namespaces and real libvirt daemons, so all that changes one needs root.
"""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from homeport.interfaces.cli.frame import Screen, YesOption, local_command
from homeport.interfaces.cli.render import labs as render
from homeport.model.machine import DiskFormat, Firmware

if TYPE_CHECKING:  # it loads libvirt, which no other command needs
    from homeport.lab.guestimage import GuestSpec
    from homeport.lab.hosts import Lab, LabReport, LabSettings
    from homeport.lab.stage import Stage

app = typer.Typer(
    help="A lab on this machine: sites that can be lost. Needs root.", no_args_is_help=True
)

DEFAULT_LAB = "lab"
DEFAULT_HOSTS = ("east", "west")


class Process(StrEnum):
    """What of a host can be killed alone."""

    AGENT = "agent"
    LIBVIRTD = "libvirtd"
    QEMU = "qemu"


Host = Annotated[str, typer.Argument(metavar="HOST", help="The host's name.")]
WhichLab = Annotated[str, typer.Argument(metavar="LAB", help="The lab's name.")]
LabName = Annotated[str, typer.Option("--lab", metavar="NAME", help="The lab's name.")]
Folder = Annotated[
    Path | None,
    typer.Option(
        "--folder", metavar="DIR", envvar="HOMEPORT_LAB_FOLDER", help="Folder of all labs."
    ),
]


@local_command(app, "up")
def up(
    screen: Screen,
    *,
    lab: WhichLab = DEFAULT_LAB,
    hosts: Annotated[
        list[str] | None,
        typer.Option("--host", metavar="NAME", help="A host to have; by default east and west."),
    ] = None,
    guest: Annotated[
        bool,
        typer.Option(
            "--guest", help="With server, agents, cache stores and a guest that keeps records."
        ),
    ] = False,
    firmware: Annotated[
        Firmware, typer.Option("--firmware", help="What the guest boots by.")
    ] = Firmware.BIOS,
    image_format: Annotated[
        DiskFormat, typer.Option("--format", help="Format of the guest's disks.")
    ] = DiskFormat.RAW,
    folder: Folder = None,
) -> None:
    """Bring the lab up, or whatever of it does not run. Needs root."""
    if guest:
        from homeport.lab.guestimage import GuestSpec

        spec = GuestSpec(image_format=image_format.value, firmware=firmware)
        _up_with_guest(screen, lab, hosts, folder, spec)
        return
    from homeport.lab.hosts import HostSpec

    specs = [HostSpec(name=name) for name in hosts or DEFAULT_HOSTS]
    found = _lab(lab, folder).up(specs)
    _show(screen, found)


@local_command(app, "down")
def down(
    screen: Screen,
    *,
    lab: WhichLab = DEFAULT_LAB,
    folder: Folder = None,
    keep_folders: Annotated[
        bool, typer.Option("--keep-folders", help="Leave disks and definitions.")
    ] = False,
    yes: YesOption = False,
) -> None:
    """Stop the lab and remove everything of it. Needs root."""
    if not keep_folders:
        screen.confirm(f"Remove lab {lab} with all its disks and machines.", yes=yes)
    from homeport.lab.hosts import require_root

    require_root("take a lab down")
    _stage(lab, folder).server.stop()  # one that was made with --guest has its own
    _lab(lab, folder).down(keep_folders=keep_folders)
    _done(screen, f"Lab {lab} is down.", lab=lab)


@local_command(app, "list")
def list_all(screen: Screen, *, folder: Folder = None) -> None:
    """List the labs of this machine."""
    from homeport.lab.hosts import list_labs

    found = list_labs(_settings(folder))
    if screen.as_json:
        screen.data([render.plain(one) for one in found])
    else:
        screen.say(render.labs(found))


@local_command(app, "cut")
def cut(screen: Screen, *, host: Host, lab: LabName = DEFAULT_LAB, folder: Folder = None) -> None:
    """Pull a host's cable: it runs on, and nobody reaches it. Needs root."""
    made = _lab(lab, folder)
    made.cut(host)
    _show(screen, made.report())


@local_command(app, "heal")
def heal(screen: Screen, *, host: Host, lab: LabName = DEFAULT_LAB, folder: Folder = None) -> None:
    """Plug a host's cable in again. Needs root."""
    made = _lab(lab, folder)
    made.heal(host)
    _show(screen, made.report())


@local_command(app, "kill")
def kill(
    screen: Screen,
    *,
    host: Host,
    process: Annotated[
        Process | None, typer.Option("--process", help="Only this; else the whole host, at once.")
    ] = None,
    domain: Annotated[
        str | None, typer.Option("--domain", metavar="VM", help="Of QEMU: only this machine's.")
    ] = None,
    lab: LabName = DEFAULT_LAB,
    folder: Folder = None,
) -> None:
    """Lose a whole host as by a power cut, or kill -9 one of its processes. Needs root."""
    if domain and process is not Process.QEMU:
        raise typer.BadParameter("--domain goes with --process qemu")
    made = _lab(lab, folder)
    if process is None:
        made.kill(host)
        _show(screen, made.report())
        return
    count = made.kill_process(host, process.value, domain=domain)
    _done(screen, f"Killed on {host}: {count} process(es) of {process.value}.", killed=count)


@local_command(app, "start")
def start(screen: Screen, *, host: Host, lab: LabName = DEFAULT_LAB, folder: Folder = None) -> None:
    """Boot a killed host again, with its disks and machines. Needs root."""
    made = _lab(lab, folder)
    made.start(host)
    _show(screen, made.report())


def _up_with_guest(
    screen: Screen, name: str, hosts: list[str] | None, folder: Path | None, spec: GuestSpec
) -> None:
    """Everything the demo has, to be used by hand; what is there already is left alone."""
    from homeport.lab.errors import LabExistsError

    if hosts:
        raise typer.BadParameter("--guest has its own hosts, east and west")
    stage = _stage(name, folder)
    stage.spec = spec
    if stage.folder.exists():
        raise LabExistsError(name)
    stage.open()
    stage.add_guest()
    if screen.as_json:
        screen.data({**render.plain(stage.lab.report()), "server": stage.server.url})
        return
    screen.say(render.lab(stage.lab.report()))
    screen.say(render.stage(stage.server.url, name))


def _stage(name: str, folder: Path | None) -> Stage:
    from homeport.lab.stage import Stage

    return Stage(name=name, settings=_settings(folder))


def _settings(folder: Path | None) -> LabSettings:
    from homeport.lab.hosts import LabSettings

    return LabSettings(folder=folder) if folder else LabSettings()


def _lab(name: str, folder: Path | None) -> Lab:
    from homeport.lab.hosts import Lab

    return Lab(name, _settings(folder))


def _show(screen: Screen, found: LabReport) -> None:
    if screen.as_json:
        screen.data(render.plain(found))
    else:
        screen.say(render.lab(found))


def _done(screen: Screen, words: str, **plain: object) -> None:
    if screen.as_json:
        screen.data(plain)
    else:
        screen.say(words)
