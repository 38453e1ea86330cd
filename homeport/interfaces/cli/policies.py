"""`homeport policy`: how often points are taken and how long they are kept."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from homeport.interfaces.cli import parsing
from homeport.interfaces.cli.frame import Session, command
from homeport.interfaces.cli.render import places as render
from homeport.model.policy import CommitTimer, ReplicationPolicy

app = typer.Typer(help="Policies: RPO, interval, retention.", no_args_is_help=True)

Name = Annotated[str, typer.Argument(metavar="POLICY", help="The policy's name.")]
Rpo = Annotated[
    str | None, typer.Option("--rpo", metavar="SPAN", help="Loss that counts as healthy: 5m.")
]
Interval = Annotated[
    str | None, typer.Option("--interval", metavar="SPAN", help="Time between two points: 60s.")
]
App = Annotated[
    str | None,
    typer.Option(
        "--app-consistent", metavar="SPAN", help="Time between app-consistent points: 1h."
    ),
]
KeepAll = Annotated[
    str | None, typer.Option("--keep-all", metavar="SPAN", help="Every point is kept: 2h.")
]
Retention = Annotated[
    str | None, typer.Option("--retention", metavar="SPAN", help="Then hourly ones: 1d.")
]
Unsent = Annotated[
    str | None, typer.Option("--unsent-retention", metavar="SPAN", help="Unsent writes: 7d.")
]
Timer = Annotated[
    CommitTimer | None, typer.Option("--commit-timer", help="What ends a failover by itself.")
]
After = Annotated[
    str | None, typer.Option("--commit-after", metavar="SPAN", help="When the timer acts: 1h.")
]


@command(app, "list")
def list_policies(session: Session) -> None:
    """List all policies."""
    found = session.client.policies()
    session.screen.show(tuple[ReplicationPolicy, ...], found, render.policies(found))


@command(app, "show")
def show(session: Session, *, name: Name) -> None:
    """Show a policy."""
    found = session.client.policy(name)
    session.screen.show(ReplicationPolicy, found, render.policy(found))


@command(app, "create")
def create(
    session: Session,
    *,
    name: Name,
    rpo: Rpo = None,
    interval: Interval = None,
    app_consistent: App = None,
    keep_all: KeepAll = None,
    retention: Retention = None,
    unsent_retention: Unsent = None,
    commit_timer: Timer = None,
    commit_after: After = None,
) -> None:
    """Make a policy; what is left out is as in the default one."""
    given = _given(
        rpo_target=rpo,
        interval=interval,
        app_consistent_interval=app_consistent,
        keep_all=keep_all,
        retention=retention,
        unsent_retention=unsent_retention,
        commit_timer=commit_timer,
        commit_after=commit_after,
    )
    made = session.client.add_policy(ReplicationPolicy(name=name, **given))
    session.screen.show(ReplicationPolicy, made, render.policy(made))


@command(app, "update")
def update(
    session: Session,
    *,
    name: Name,
    rpo: Rpo = None,
    interval: Interval = None,
    app_consistent: App = None,
    keep_all: KeepAll = None,
    retention: Retention = None,
    unsent_retention: Unsent = None,
    commit_timer: Timer = None,
    commit_after: After = None,
) -> None:
    """Change a policy; its items follow it from then on."""
    given = _given(
        rpo_target=rpo,
        interval=interval,
        app_consistent_interval=app_consistent,
        keep_all=keep_all,
        retention=retention,
        unsent_retention=unsent_retention,
        commit_timer=commit_timer,
        commit_after=commit_after,
    )
    session.client.policy(name)  # one that is not there would be made instead of changed
    changed = session.client.change_policy(name, **given)
    session.screen.show(ReplicationPolicy, changed, render.policy(changed))


def _given(**typed: str | CommitTimer | None) -> dict[str, Any]:
    """The fields that were typed, as values."""
    return {
        name: value if isinstance(value, CommitTimer) else parsing.span(value)
        for name, value in typed.items()
        if value is not None
    }
