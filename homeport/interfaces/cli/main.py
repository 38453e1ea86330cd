"""The command line: every group of commands joined into one program. `main` is its entry point."""

from __future__ import annotations

from typing import Annotated

import typer

from homeport import __version__
from homeport.interfaces.cli import (
    failovers,
    items,
    jobs,
    labs,
    local,
    policies,
    reprotects,
    rescues,
    resources,
    sites,
    unsent,
    vms,
)
from homeport.interfaces.cli.failure import MEANINGS

EPILOG = "\n".join(
    ["Exit codes:", *(f"{int(code):>3}  {meaning}" for code, meaning in MEANINGS.items())]
)

app = typer.Typer(
    name="homeport",
    help="Site recovery for virtual machines: replicate, fail over, and bring them home again.",
    epilog=EPILOG,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _show_version(asked: bool) -> None:  # noqa: FBT001 - called so by typer
    if asked:
        typer.echo(f"homeport {__version__}")
        raise typer.Exit


@app.callback()
def root(
    *,
    version: Annotated[
        bool,
        typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version."),
    ] = False,
) -> None:
    """Answer the options of the program itself."""
    del version


for group in (items, unsent, failovers, reprotects, rescues):
    group.register(app)
for name, group_app in (
    ("jobs", jobs.app),
    ("site", sites.app),
    ("vm", vms.app),
    ("group", resources.groups),
    ("set", resources.sets),
    ("capacity", resources.capacities),
    ("policy", policies.app),
    ("lab", labs.app),
):
    app.add_typer(group_app, name=name, rich_help_panel="Groups")
local.register(app)


def main() -> None:
    """Run the program; it ends the process with the exit code."""
    app()
