"""Labs: their hosts and what of them runs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.console import Group, RenderableType
from rich.text import Text

from homeport.interfaces.cli.render.style import (
    BAD,
    GOOD,
    QUIET,
    WARN,
    facts,
    spaced,
    table,
    verbatim,
)
from homeport.interfaces.words import listed

if TYPE_CHECKING:
    from homeport.lab.hosts import HostReport, LabReport


def labs(found: Sequence[LabReport]) -> RenderableType:
    """All labs of this machine."""
    if not found:
        return Text("No lab on this machine. Bring one up: homeport lab up")
    return spaced(*(lab(one) for one in found))


def lab(found: LabReport) -> RenderableType:
    """One lab with its hosts."""
    made = table("HOST", "STATE", "ADDRESS", "SERVICES")
    for host in found.hosts:
        made.add_row(host.name, _state(host), str(host.address), listed(sorted(host.services)))
    server = f"{found.gateway} on {found.bridge} ({found.network})"
    head = facts([("folder", str(found.folder)), ("server's address", server)])
    virsh = [verbatim(f"virsh -c '{host.uri}' list --all", style=QUIET) for host in found.hosts]
    return Group(Text(found.name, style="bold"), head, Text(""), made, Text(""), *virsh)


def stage(url: str, name: str) -> RenderableType:
    """What to type next in a lab that has a server and a guest."""
    lines = (
        f"export HOMEPORT_SERVER_URL={url}",
        "homeport vm list",
        "homeport protect east/web --to west --policy demo",
    )
    return Group(
        Text(""),
        Text("A server and a guest run in it. Go on with:"),
        *(verbatim(line) for line in lines),
        Text(""),
        Text(f"Its end, with everything in it: homeport lab down {name}", style=QUIET),
    )


def _state(host: HostReport) -> Text:
    if not host.running:
        return Text("down", style=BAD)
    return Text("CUT OFF", style=WARN) if host.cut else Text("up", style=GOOD)


def plain(found: LabReport) -> dict[str, object]:
    """A lab as JSON values."""
    return {
        "name": found.name,
        "folder": str(found.folder),
        "network": str(found.network),
        "gateway": str(found.gateway),
        "bridge": found.bridge,
        "hosts": [
            {
                "name": host.name,
                "running": host.running,
                "cut": host.cut,
                "address": str(host.address),
                "uri": host.uri,
                "services": dict(host.services),
            }
            for host in found.hosts
        ],
    }
