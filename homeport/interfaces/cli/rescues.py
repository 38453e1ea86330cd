"""`homeport rescue`: any point from a site's files alone, with the server and its database gone."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from homeport.clock import SystemClock
from homeport.interfaces.cli import parsing
from homeport.interfaces.cli.frame import Screen, local_command
from homeport.interfaces.cli.render import rescue as render
from homeport.lab.kvm import DEVICE, probe
from homeport.model.machine import DiskFormat
from homeport.model.position import Position
from homeport.rescue import (
    BootOptions,
    Depth,
    Exported,
    FoundItem,
    FoundPoint,
    Prover,
    Verdict,
    boot,
    definition,
    export,
    find_item,
    find_items,
)

PANEL = "Worst day"


class Accel(StrEnum):
    """How a rescued machine is run."""

    AUTO = "auto"
    KVM = "kvm"
    TCG = "tcg"


Folder = Annotated[
    Path,
    typer.Argument(metavar="DIR", help="A storage pool, or an item's folder in it.", exists=True),
]
Item = Annotated[
    str | None, typer.Option("--item", metavar="NAME", help="Which item, if there are several.")
]
PointOption = Annotated[
    str | None,
    typer.Option("--point", metavar="POINT", help="Its position; by default the newest whole one."),
]
Verify = Annotated[
    bool | None,
    typer.Option(
        "--verify/--no-verify",
        help="Compare every layer with its digest. By default where a point is used.",
        show_default=False,
    ),
]
Out = Annotated[
    Path | None, typer.Option("--export", metavar="DIR", help="Copy its disks into this folder.")
]
ImageFormat = Annotated[DiskFormat, typer.Option("--format", help="With --export: of the copies.")]
Xml = Annotated[
    bool, typer.Option("--xml", help="With --export: print a libvirt definition using the copies.")
]
Boot = Annotated[
    bool, typer.Option("--boot", help="Start the machine; what it writes is thrown away.")
]
AccelOption = Annotated[Accel, typer.Option("--accel", help="With --boot: how it is run.")]
SerialLog = Annotated[
    Path | None,
    typer.Option("--serial-log", metavar="FILE", help="With --boot: file for its serial console."),
]
Headless = Annotated[bool, typer.Option("--headless", help="With --boot: without a window.")]
Online = Annotated[
    bool, typer.Option("--online", help="With --boot: let it reach the network, and be known.")
]
Scratch = Annotated[
    Path | None,
    typer.Option("--scratch", metavar="DIR", help="With --boot: folder for what it writes."),
]


def register(app: typer.Typer) -> None:
    """Add the command to the program."""
    local_command(app, "rescue", rich_help_panel=PANEL)(rescue)


def rescue(
    screen: Screen,
    *,
    folder: Folder,
    item: Item = None,
    point: PointOption = None,
    verify: Verify = None,
    out: Out = None,
    image_format: ImageFormat = DiskFormat.RAW,
    xml: Xml = False,
    run: Boot = False,
    accel: AccelOption = Accel.AUTO,
    serial_log: SerialLog = None,
    headless: Headless = False,
    online: Online = False,
    scratch: Scratch = None,
) -> None:
    """List, verify, copy out or start recovery points from files alone. Alters nothing in DIR."""
    if xml and not out:
        raise typer.BadParameter("--xml goes with --export: a definition needs disks of its own")
    if run and out:
        raise typer.BadParameter("choose one of --boot and --export")
    position = parsing.position(point) if point else None
    used = run or out is not None
    depth = Depth.CONTENT if (verify if verify is not None else used) else Depth.STRUCTURE
    if not used:
        _list(screen, folder, item, position, depth)
        return
    choice = _choose(screen, find_item(folder, item), position, depth)
    if out:
        _export(screen, choice, out, image_format, xml=xml)
        return
    options = BootOptions(
        accel=_accel(accel),
        serial_log=serial_log,
        headless=headless,
        online=online,
        scratch=scratch,
    )
    boot(choice.point, options)


@dataclass(frozen=True, slots=True)
class _Choice:
    """The point that is used, and the item it is of."""

    item: FoundItem
    point: FoundPoint
    verdict: Verdict


def _choose(screen: Screen, item: FoundItem, position: Position | None, depth: Depth) -> _Choice:
    """The point to be used; which one, and why, is told before anything else happens."""
    with _status(screen) as progress:
        point, verdict, passed = Prover(item, depth, progress).choose(position)
    screen.err.print(render.chosen(point, verdict, passed))
    return _Choice(item, point, verdict)


def _export(
    screen: Screen, choice: _Choice, out: Path, image_format: DiskFormat, *, xml: bool
) -> None:
    with _status(screen) as progress:
        progress(f"copying {len(choice.point.disks)} disks into {out}")
        made = export(choice.point, choice.item.folder, out, image_format)
    text = definition(choice.point, made) if xml else ""
    if screen.as_json:
        screen.data(_plain(choice, made, text))
    elif xml:
        screen.out.file.write(text + "\n")
    else:
        screen.say(render.exported(choice.point, made))


def _plain(choice: _Choice, made: Exported, xml: str) -> dict[str, object]:
    return {
        "item": choice.item.name,
        "point": str(choice.point.position),
        **render.plain_verdict(choice.verdict),
        "format": made.format.value,
        "disks": {name: str(path) for name, path in made.disks.items()},
        "nvram": str(made.nvram) if made.nvram else None,
        "xml": xml or None,
    }


def _accel(asked: Accel) -> str:
    if asked is not Accel.AUTO:
        return asked.value
    # A /dev/kvm that opens may still hang its guests: only a boot tells.
    return "kvm" if DEVICE.exists() and probe("kvm") else "tcg"


@contextmanager
def _status(screen: Screen) -> Iterator[Callable[[str], None]]:
    """Somebody who waits sees what is being done; a program or a file gets nothing of it."""
    if screen.as_json or not screen.err.is_terminal:
        yield lambda _words: None
        return
    with screen.err.status("reading") as status:
        yield status.update


def _list(
    screen: Screen, folder: Path, name: str | None, position: Position | None, depth: Depth
) -> None:
    items = (find_item(folder, name),) if name else find_items(folder)
    found = []
    with _status(screen) as progress:
        for item in items:
            prover = Prover(item, depth, progress)
            points = [item.point(position)] if position else list(item.points)
            verdicts = {one.position: prover.check(one) for one in points}
            found.append((replace(item, points=tuple(points)), verdicts))
    if screen.as_json:
        screen.data([render.plain(item, verdicts) for item, verdicts in found])
    else:
        screen.say(render.items(found, SystemClock().now()))
