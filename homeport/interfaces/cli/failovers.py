"""Failing over: the real one with its undo and commit, and the drill beside it."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.text import Text

from homeport.interfaces import told
from homeport.interfaces.cli import parsing
from homeport.interfaces.cli.frame import NoWaitOption, Session, YesOption, command
from homeport.interfaces.cli.items import Item
from homeport.interfaces.cli.render.style import WARN
from homeport.interfaces.cli.watching import started
from homeport.model.requests import FailoverRequest, TestFailoverRequest

PANEL = "Failover"
POINT_HELP = "latest, latest-processed, latest-app-consistent, or a point's position."
Point = Annotated[str, typer.Option("--point", metavar="POINT", help=POINT_HELP)]
GuestTimeout = Annotated[
    float,
    typer.Option(
        "--guest-timeout",
        metavar="SECONDS",
        min=0,
        help="Seconds a guest has to stop or to answer.",
    ),
]


def register(app: typer.Typer) -> None:
    """Add the commands to the program."""
    command(app, "failover", rich_help_panel=PANEL)(failover)
    command(app, "undo", rich_help_panel=PANEL)(undo)
    command(app, "commit", rich_help_panel=PANEL)(commit)
    command(app, "test-failover", rich_help_panel=PANEL)(drill)
    command(app, "test-cleanup", rich_help_panel=PANEL)(clean_up_drill)


def failover(
    session: Session,
    *,
    item: Item,
    point: Point = "latest",
    planned: Annotated[
        bool, typer.Option("--planned", help="Shut down first and carry over everything.")
    ] = False,
    guest_timeout: GuestTimeout = 60.0,
    confirm_source_down: Annotated[
        bool,
        typer.Option(
            "--confirm-source-down/--source-must-answer",
            help="You know that the source does not run, so go on if it does not answer.",
        ),
    ] = True,
    no_wait: NoWaitOption = False,
    yes: YesOption = False,
) -> None:
    """Boot a recovery point in the other site. Before commit: choose another point."""
    asked = FailoverRequest(
        point=parsing.point(point),
        planned=planned,
        guest_timeout=guest_timeout,
        confirm_source_down=confirm_source_down,
    )
    _confirm_failover(session, item, asked, yes=yes)
    started(session, session.client.failover(item, asked), wait=not no_wait)


def _confirm_failover(session: Session, item: str, asked: FailoverRequest, *, yes: bool) -> None:
    """Say if a failback was not tested, also with --yes; then ask where somebody can answer."""
    view = session.client.item(item)
    warning = told.failback_warning(view)
    if warning and not session.screen.as_json:
        session.screen.err.print(Text(warning, style=WARN))
    how = "shut down, and its last writes carried over" if asked.planned else "switched off"
    session.screen.confirm(
        f"Fail over {view.name} ({view.direction}) to point {asked.point}. The machine in "
        f"{view.running.site} is {how}; it stays as it is until you commit or undo.",
        yes=yes,
    )


def undo(session: Session, *, item: Item, no_wait: NoWaitOption = False) -> None:
    """Undo a failover: back to the old machine; the new one's writes are set aside."""
    started(session, session.client.undo(item), wait=not no_wait)


def commit(
    session: Session, *, item: Item, no_wait: NoWaitOption = False, yes: YesOption = False
) -> None:
    """Accept a failover. This ends undo and the choice of another point."""
    session.screen.confirm(
        f"Commit the failover of {item}. After it there is no undo and no other point; the way "
        "back is reprotect and failback.",
        yes=yes,
    )
    started(session, session.client.commit(item), wait=not no_wait)


def drill(
    session: Session,
    *,
    item: Item,
    point: Point = "latest-processed",
    network: Annotated[
        str | None,
        typer.Option("--network", metavar="NAME", help="Network to join; else it is isolated."),
    ] = None,
    guest_timeout: GuestTimeout = 60.0,
    no_wait: NoWaitOption = False,
) -> None:
    """Boot a recovery point as a test machine. Replication goes on untouched."""
    asked = TestFailoverRequest(
        point=parsing.point(point), network=network, guest_timeout=guest_timeout
    )
    started(session, session.client.test_failover(item, asked), wait=not no_wait)


def clean_up_drill(session: Session, *, item: Item, no_wait: NoWaitOption = False) -> None:
    """Remove the test machine with everything of it; only then the test counts."""
    started(session, session.client.test_cleanup(item), wait=not no_wait)
