"""
The reference of all commands as one page, made from the program itself: `docs/cli.md`.

`python -m homeport.interfaces.cli.manual` prints it; a test holds page and program together.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import Enum
from typing import Any

import typer

from homeport.interfaces.cli.failure import MEANINGS
from homeport.interfaces.cli.main import app

HEAD = """# The command line

Made from the program: `python -m homeport.interfaces.cli.manual > docs/cli.md`.

`homeport COMMAND --help` says the same in a terminal; `homeport --install-completion` completes
commands and options in your shell.

## What holds for every command

- **Where it goes.** Commands talk to the server at `--server`, or `HOMEPORT_SERVER_URL`, or
  `http://127.0.0.1:8740`. `rescue` and `lab` need no server; `server`, `agent` and `demo` are
  processes of their own.
- **For programs.** With `--json` standard output is one JSON document, the one the API gives, and
  nothing else. Errors go to standard error, then as JSON too: `{"error": {"code", "message",
  "cause", "remedy", "kind"}}`.
- **Jobs.** A command that starts a job waits for its end and shows its tasks: live on a terminal,
  line by line elsewhere. `--no-wait` prints the job's id instead. Ctrl-C stops the watching, never
  the job. A server that goes away is waited for, for two minutes.
- **Questions.** `failover`, `commit`, `disable` and what deletes ask before they begin, on a
  terminal only; `--yes` answers. Scripts are never asked.
- **Words.** A machine is `SITE/NAME`, or `NAME` where only one site has it. A point is `latest`,
  `latest-processed`, `latest-app-consistent`, or its position (`3-17`). Sizes are `512M`, `10G`;
  spans `30s`, `5m`, `1h30m`, `7d`. A job is named by its id or the beginning of it.
- **Wherever an item is shown** whose loss would cost more than its policy allows, it says
  UNPROTECTED, and why.
"""


def manual() -> str:
    """The whole page."""
    root: Any = typer.main.get_command(app)
    parts = [HEAD, _exit_codes(), "## Commands\n", *_commands(root, ())]
    return "\n".join(parts)


def _exit_codes() -> str:
    rows = [f"| {int(code)} | {meaning} |" for code, meaning in MEANINGS.items()]
    return "\n".join(["## Exit codes\n", "| Code | Meaning |", "|---|---|", *rows, ""])


def _commands(command: Any, path: tuple[str, ...]) -> Iterator[str]:
    """A command's entry, or those of its group."""
    if hasattr(command, "commands"):
        for name, inner in command.commands.items():
            yield from _commands(inner, (*path, name))
        return
    arguments = [_argument(one) for one in command.params if one.param_type_name == "argument"]
    yield f"### `{' '.join(('homeport', *path, *arguments))}`\n"
    yield f"{(command.help or '').strip()}\n"
    rows = [_row(one) for one in command.params if not _shared(one)]
    if rows:
        yield "\n".join(["| | |", "|---|---|", *rows, ""])


def _argument(param: Any) -> str:
    name = str(param.metavar or param.name.upper()).strip("[]{}")
    shown = f"{name}..." if param.nargs != 1 else name
    return shown if param.required else f"[{shown}]"


def _shared(param: Any) -> bool:
    """Options that every command has, described once."""
    return param.name in ("as_json", "help", "server")


def _row(param: Any) -> str:
    if param.param_type_name == "argument":
        return f"| `{_argument(param).strip('[]')}` | {param.help or ''} |"
    names = ", ".join(f"`{name}`" for name in (*param.opts, *param.secondary_opts))
    value = f" `{param.metavar}`" if param.metavar else ""
    return f"| {names}{value} | {_help(param)} |"


def _help(param: Any) -> str:
    words = param.help or ""
    kind = getattr(getattr(param, "type_descriptor", None), "annotation", None)
    if isinstance(kind, type) and issubclass(kind, Enum):
        words += " One of: " + ", ".join(f"`{one.value}`" for one in kind) + "."
    default = getattr(param.default, "value", param.default)
    if param.required:
        words += " Required."
    elif isinstance(default, str | int | float) and not isinstance(default, bool):
        words += f" Default: `{default}`."
    return words


if __name__ == "__main__":
    typer.echo(manual(), nl=False)
