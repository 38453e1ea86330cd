"""What messages tell people to type exists: at 3 a.m. nobody wants a command that is none."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import typer

from homeport.interfaces.cli.main import app

ROOT = Path(__file__).parent.parent.parent
NAMED = re.compile(r"homeport (?P<words>[a-z][a-z-]*(?: [a-z][a-z-]*)?)")


def commands() -> set[str]:
    """Every command as it is typed, groups with their subcommands."""
    command = typer.main.get_command(app)
    found = set()
    for name, sub in command.commands.items():
        inner = getattr(sub, "commands", {})
        found |= {f"{name} {each}" for each in inner} or {name}
    return found


def named(path: Path) -> list[str]:
    """Commands in brackets or after "with:" in a module's messages."""
    text = re.sub(r'"\s*\n\s*f?"', "", path.read_text())
    return [
        match["words"]
        for match in NAMED.finditer(text)
        if text[match.start() - 1] in "(" or text[match.start() - 6 : match.start()] == "with: "
    ]


MODULES = sorted((ROOT / "homeport").rglob("*.py"))


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_command_in_a_message_exists(path: Path) -> None:
    known = commands()
    for words in named(path):
        first = words.split()[0]
        assert words in known or first in known, f"{path.name}: homeport {words}"
