"""
What every command shares: `--json` and `--server`, where it prints, and how its errors end it.

A command is a plain function that takes a `Session` (it talks to the server) or a `Screen` (it
works on this machine only); the decorators here add the shared options and turn errors into exit
codes. With `--json` standard output has the answer and nothing else; all other words go to stderr.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from functools import wraps
from inspect import Parameter, signature
from typing import Annotated, Any, TypeVar

import typer
from rich.console import Console, RenderableType

from homeport.client import DEFAULT_URL, Client
from homeport.clock import Clock, SystemClock
from homeport.errors import RefusedError
from homeport.interfaces.cli.failure import DEBUG_VARIABLE, ExitCode, exit_code, facts_of, words_of
from homeport.model.codec import to_plain

SERVER_VARIABLE = "HOMEPORT_SERVER_URL"
PLAIN_WIDTH = 120
"""Columns where standard output is a file or a pipe: wide enough that nothing is cut."""

Command = TypeVar("Command", bound=Callable[..., None])
ServerOption = Annotated[
    str,
    typer.Option("--server", metavar="URL", envvar=SERVER_VARIABLE, help="The server's address."),
]
JsonOption = Annotated[
    bool, typer.Option("--json", help="Print JSON on standard output and nothing else.")
]
YesOption = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask; do it.")]
NoWaitOption = Annotated[
    bool, typer.Option("--no-wait", help="Start the job, print its id, and do not wait for it.")
]


class NotConfirmedError(RefusedError):
    """The person at the terminal said no."""

    code = "NotConfirmed"
    default_remedy = "Nothing was changed. Ask again, or give --yes to skip the question."


@dataclass(frozen=True, kw_only=True)
class Screen:
    """Where a command prints. `out` has the answer, `err` everything else."""

    as_json: bool
    out: Console
    err: Console

    @classmethod
    def standard(cls, *, as_json: bool) -> Screen:
        """The process's own output."""
        return cls(as_json=as_json, out=_console(), err=_console(stderr=True))

    @property
    def live(self) -> bool:
        """Somebody watches the answer: it may be drawn again and again."""
        return self.out.is_terminal and not self.as_json

    @property
    def asks(self) -> bool:
        """Somebody is there to answer a question."""
        return sys.stdin.isatty() and self.err.is_terminal

    def show(self, kind: Any, value: object, words: RenderableType) -> None:
        """The answer: `value` (of `kind`) as JSON, or `words` for people."""
        if self.as_json:
            self.data(to_plain(kind, value))
        else:
            self.out.print(words, crop=False)

    def data(self, plain: object) -> None:
        """One JSON document on standard output, keys in the API's order."""
        self.out.file.write(json.dumps(plain, indent=2, ensure_ascii=False) + "\n")
        self.out.file.flush()

    def say(self, words: RenderableType) -> None:
        """What happened, for people: on stdout, or on stderr where stdout is JSON."""
        (self.err if self.as_json else self.out).print(words, crop=False)

    def confirm(self, question: str, *, yes: bool) -> None:
        """Ask where somebody can answer; NotConfirmedError when the answer is no."""
        if yes or not self.asks:
            return
        self.err.print(question)
        if not typer.confirm("Go on?", default=False, err=True):
            raise NotConfirmedError("Not confirmed.", cause="The question was answered with no.")


def _console(*, stderr: bool = False) -> Console:
    stream = sys.stderr if stderr else sys.stdout
    # A pipe has no width: rich's 80 would fold lines that programs like grep then miss.
    width = None if stream.isatty() or "COLUMNS" in os.environ else PLAIN_WIDTH
    # No markup: what is shown has names and messages of others in it, brackets and all.
    return Console(stderr=stderr, width=width, highlight=False, emoji=False, markup=False)


@dataclass(frozen=True, kw_only=True)
class Session:
    """A command's screen, its way to the server, and time."""

    screen: Screen
    client: Client
    clock: Clock = field(default_factory=SystemClock)

    def now(self) -> datetime:
        """The moment."""
        return self.clock.now()

    def pause(self, seconds: float) -> None:
        """Let time pass."""
        self.clock.sleep(seconds)


def command(app: typer.Typer, name: str, **options: Any) -> Callable[[Command], Command]:
    """Register a function of (session, *, options) as a command that talks to the server."""

    def register(function: Command) -> Command:
        @wraps(function)
        def run(*, server: str, as_json: bool, **given: Any) -> None:
            screen = Screen.standard(as_json=as_json)
            with Client(server) as client:
                guarded(screen, function, Session(screen=screen, client=client), **given)

        shared = {"server": (ServerOption, DEFAULT_URL), "as_json": (JsonOption, False)}
        app.command(name, **options)(_with_shared(function, run, shared))
        return function

    return register


def local_command(app: typer.Typer, name: str, **options: Any) -> Callable[[Command], Command]:
    """Register a function of (screen, *, options) as a command that works on this machine."""

    def register(function: Command) -> Command:
        @wraps(function)
        def run(*, as_json: bool, **given: Any) -> None:
            screen = Screen.standard(as_json=as_json)
            guarded(screen, function, screen, **given)

        shared = {"as_json": (JsonOption, False)}
        app.command(name, **options)(_with_shared(function, run, shared))
        return function

    return register


def guarded(screen: Screen, function: Callable[..., None], *given: Any, **options: Any) -> None:
    """Run a command; its errors are printed and become the exit code."""
    try:
        function(*given, **options)
    except KeyboardInterrupt:
        raise typer.Exit(ExitCode.INTERRUPTED) from None
    except (typer.Exit, typer.Abort, typer.BadParameter, BrokenPipeError):
        raise
    except Exception as error:
        fail(screen, error)
        raise typer.Exit(exit_code(error)) from error


def fail(screen: Screen, error: BaseException) -> None:
    """Say what went wrong, on stderr; as JSON where the answer would have been JSON."""
    if DEBUG_VARIABLE in os.environ:
        screen.err.print_exception()
    if screen.as_json:
        screen.err.file.write(json.dumps({"error": facts_of(error)}, ensure_ascii=False) + "\n")
    else:
        screen.err.print(words_of(error))


def _with_shared(
    function: Command, run: Callable[..., None], shared: dict[str, tuple[Any, Any]]
) -> Callable[..., None]:
    """Give `run` the signature of `function` with the shared options for its first parameter."""
    shown = signature(function, eval_str=True)
    own = list(shown.parameters.values())[1:]
    added = [
        Parameter(key, Parameter.KEYWORD_ONLY, annotation=kind, default=default)
        for key, (kind, default) in shared.items()
    ]
    vars(run)["__signature__"] = shown.replace(parameters=[*own, *added])
    run.__annotations__ = {one.name: one.annotation for one in (*own, *added)} | {"return": None}
    return run
