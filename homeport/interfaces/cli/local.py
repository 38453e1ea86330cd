"""
The commands that are Homeport's own processes: `server`, `agent`, and the `demo`.

They are built by `homeport.wiring` from the settings, with what the command line says on top. A
SIGTERM or Ctrl-C ends them in order: that is how they are meant to end, and the code is 0.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Annotated, Any, TypeVar

import typer
from pydantic import BaseModel

from homeport.interfaces.cli.frame import SERVER_VARIABLE, Screen, guarded, local_command
from homeport.settings import load_settings

Part = TypeVar("Part", bound=BaseModel)
STOPS = (signal.SIGTERM, signal.SIGINT)

Host = Annotated[
    str | None, typer.Option("--host", metavar="ADDRESS", help="Address to listen on.")
]
Port = Annotated[
    int | None, typer.Option("--port", metavar="PORT", min=0, max=65535, help="Port to listen on.")
]
DataDir = Annotated[
    Path | None, typer.Option("--data-dir", metavar="DIR", help="Folder of the vault.")
]


def register(app: typer.Typer) -> None:
    """Add the commands to the program."""
    app.command("server", rich_help_panel="Processes")(server)
    app.command("agent", rich_help_panel="Processes")(agent)
    local_command(app, "demo", rich_help_panel="Processes")(demo)


def server(*, host: Host = None, port: Port = None, data_dir: DataDir = None) -> None:
    """Run the server: API and jobs."""
    guarded(Screen.standard(as_json=False), _serve, host=host, port=port, data_dir=data_dir)


def agent(
    *,
    server_url: Annotated[
        str | None,
        typer.Option(
            "--server", metavar="URL", envvar=SERVER_VARIABLE, help="The server's address."
        ),
    ] = None,
    site: Annotated[
        str | None, typer.Option("--site", metavar="SITE", help="The site this host is in.")
    ] = None,
    host: Annotated[
        str | None, typer.Option("--host", metavar="NAME", help="This host's name.")
    ] = None,
    token: Annotated[
        str | None,
        typer.Option(
            "--token", help="The site's token; better in HOMEPORT_AGENT__TOKEN, where ps sees none."
        ),
    ] = None,
    state: Annotated[
        Path | None, typer.Option("--state", metavar="DIR", help="The agent's own folder.")
    ] = None,
) -> None:
    """Run the agent of this hypervisor host. It dials out; nothing listens here."""
    given = {"server": server_url, "site": site, "host": host, "token": token, "state_dir": state}
    guarded(Screen.standard(as_json=False), _work, **given)


def demo(
    screen: Screen,
    *,
    keep: Annotated[bool, typer.Option("--keep", help="Leave the lab and the server up.")] = False,
) -> None:
    """Show the whole way on this machine: protect, lose a site, fail over, come home."""
    from homeport.lab.journey import run_demo

    run_demo(keep=keep, as_json=screen.as_json, console=screen.out)


def _serve(**given: Any) -> None:
    from homeport.wiring import build_server

    settings = with_given(load_settings().server, **given)
    built = build_server(settings)
    # Its own web server answers the signals; after it has, they come here once more.
    with stopped_by_signals(lambda: None):
        built.run()


def _work(**given: Any) -> None:
    from homeport.wiring import build_agent

    settings = with_given(load_settings().agent, **given)
    built = build_agent(settings)
    with stopped_by_signals(built.stop.set):
        built.run()


def with_given(settings: Part, **given: Any) -> Part:
    """Settings with what the command line gave; checked as if the file had said it."""
    said = {name: value for name, value in given.items() if value is not None}
    return type(settings).model_validate({**settings.model_dump(), **said})


@contextmanager
def stopped_by_signals(stop: Callable[[], object]) -> Iterator[None]:
    """While inside, SIGTERM and Ctrl-C call `stop` and nothing else."""

    def answer(_signal: int, _frame: FrameType | None) -> None:
        stop()

    before = {number: signal.signal(number, answer) for number in STOPS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
