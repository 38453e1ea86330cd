"""What every command shares: options, where it prints, how errors end it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import pytest
import typer
from typer.testing import CliRunner

from homeport import __version__
from homeport.client import JobNotDoneError, UnreachableServerError
from homeport.errors import (
    CancelledError,
    HomeportError,
    IntegrityError,
    NotFoundError,
    RefusedError,
    TransientError,
)
from homeport.interfaces.cli import local, manual
from homeport.interfaces.cli.failure import MEANINGS, ExitCode, exit_code, facts_of
from homeport.interfaces.cli.frame import SERVER_VARIABLE, Screen, Session, command, local_command
from homeport.interfaces.cli.main import app
from homeport.settings import AgentSettings, ServerSettings
from tests.unit.interfaces.cli import samples as s

ROOT = Path(__file__).parents[4]
ENDS: dict[str, tuple[BaseException, ExitCode]] = {
    "unforeseen": (ValueError("x"), ExitCode.INTERNAL),
    "internal": (HomeportError("x"), ExitCode.INTERNAL),
    "not found": (NotFoundError("x"), ExitCode.NOT_FOUND),
    "refused": (RefusedError("x"), ExitCode.REFUSED),
    "transient": (TransientError("x"), ExitCode.TRANSIENT),
    "unreachable": (UnreachableServerError("u", "r"), ExitCode.TRANSIENT),
    "integrity": (IntegrityError("x"), ExitCode.INTEGRITY),
    "cancelled": (CancelledError("x"), ExitCode.CANCELLED),
    "job failed": (JobNotDoneError(s.FAILED_JOB), ExitCode.JOB_FAILED),
    "job cancelled": (
        JobNotDoneError(replace(s.FAILED_JOB, state="Cancelled")),
        ExitCode.CANCELLED,
    ),
}


@pytest.mark.parametrize(("error", "code"), ENDS.values(), ids=ENDS)
def test_each_kind_of_error_has_its_code(error: BaseException, code: ExitCode) -> None:
    assert exit_code(error) is code


@pytest.mark.parametrize(("error", "code"), ENDS.values(), ids=ENDS)
def test_every_error_says_what_to_do(error: BaseException, code: ExitCode) -> None:
    assert set(facts_of(error)) == {"code", "message", "cause", "remedy", "kind"}
    if code is ExitCode.INTERNAL and not isinstance(error, HomeportError):
        assert "HOMEPORT_DEBUG" in facts_of(error)["remedy"]


def test_every_code_is_explained_in_the_programs_help() -> None:
    shown = CliRunner().invoke(app, ["--help"], env={"COLUMNS": "120"}).stdout
    assert set(MEANINGS) == set(ExitCode)
    for code, meaning in MEANINGS.items():
        assert f"{int(code)}  {meaning}" in shown


def a_program() -> typer.Typer:
    """Commands that end as they are told."""
    made = typer.Typer()
    ends = {name: error for name, (error, _) in ENDS.items()} | {"ctrl-c": KeyboardInterrupt()}

    def end(
        session: Session, *, how: Annotated[str, typer.Argument(help="How it ends.")] = "well"
    ) -> None:
        """End."""
        if how in ends:
            raise ends[how]
        session.screen.show(str, "brackets [bold] and all", "brackets [bold] and all")

    def here(screen: Screen, *, loud: bool = False) -> None:
        """Do it here."""
        screen.show(bool, loud, "loud" if loud else "quiet")

    command(made, "end")(end)
    local_command(made, "here")(here)
    return made


class TestCommands:
    @pytest.mark.parametrize(("how", "code"), [(k, c) for k, (_, c) in ENDS.items()], ids=ENDS)
    def test_an_error_is_printed_on_stderr_and_ends_with_its_code(
        self, how: str, code: ExitCode
    ) -> None:
        for flags in ([], ["--json"]):
            result = CliRunner().invoke(a_program(), ["end", how, *flags])
            assert result.exit_code == code
            assert result.stdout == ""
            assert result.stderr
        assert json.loads(result.stderr)["error"]["code"]

    def test_ctrl_c(self) -> None:
        assert CliRunner().invoke(a_program(), ["end", "ctrl-c"]).exit_code == ExitCode.INTERRUPTED

    def test_brackets_are_no_markup(self) -> None:
        result = CliRunner().invoke(a_program(), ["end"])
        assert result.stdout == "brackets [bold] and all\n"

    def test_json_is_one_document(self) -> None:
        result = CliRunner().invoke(a_program(), ["end", "--json"])
        assert json.loads(result.stdout) == "brackets [bold] and all"

    def test_options_of_its_own_stand_beside_the_shared_ones(self) -> None:
        shown = CliRunner().invoke(a_program(), ["here", "--help"]).stdout
        assert "--loud" in shown
        assert "--json" in shown
        assert "--server" not in shown
        assert CliRunner().invoke(a_program(), ["here", "--loud"]).stdout == "loud\n"

    def test_where_the_server_is_can_be_said_in_the_environment(self) -> None:
        shown = CliRunner().invoke(a_program(), ["end", "--help"]).stdout
        assert SERVER_VARIABLE in shown

    def test_where_an_error_came_from_is_shown_on_request(self) -> None:
        result = CliRunner().invoke(a_program(), ["end", "unforeseen"], env={"HOMEPORT_DEBUG": "1"})
        assert "Traceback" in result.stderr


def every_command(group: object, path: tuple[str, ...] = ()) -> list[tuple[str, object]]:
    """All commands of the program, by their whole name."""
    found = getattr(group, "commands", None)
    if found is None:
        return [(" ".join(path), group)]
    return [one for name, inner in found.items() for one in every_command(inner, (*path, name))]


COMMANDS = dict(every_command(typer.main.get_command(app)))
PROCESSES = ("server", "agent")


class TestTheProgram:
    def test_it_tells_its_version(self) -> None:
        assert CliRunner().invoke(app, ["--version"]).stdout == f"homeport {__version__}\n"

    @pytest.mark.parametrize("name", COMMANDS)
    def test_every_command_has_help_that_says_something(self, name: str) -> None:
        result = CliRunner().invoke(app, [*name.split(), "--help"], env={"COLUMNS": "80"})
        assert result.exit_code == 0
        assert getattr(COMMANDS[name], "help", "")

    @pytest.mark.parametrize("name", [name for name in COMMANDS if name not in PROCESSES])
    def test_every_command_can_answer_in_json(self, name: str) -> None:
        options = [one for param in COMMANDS[name].params for one in param.opts]  # type: ignore[attr-defined]
        assert "--json" in options

    def test_docs_are_those_of_the_program(self) -> None:
        page = (ROOT / "docs" / "cli.md").read_text()
        assert page == manual.manual(), "python -m homeport.interfaces.cli.manual > docs/cli.md"


class TestProcesses:
    def test_what_the_line_says_goes_before_the_settings(self) -> None:
        before = ServerSettings(port=1, lease=5.0)
        after = local.with_given(before, host="127.0.0.2", port=None, data_dir=Path("/d"))
        assert after == ServerSettings(port=1, lease=5.0, host="127.0.0.2", data_dir=Path("/d"))

    def test_what_the_line_says_is_checked(self) -> None:
        with pytest.raises(ValueError, match="port"):
            local.with_given(ServerSettings(), port=70000)

    def test_the_agents_options_are_its_settings(self) -> None:
        given = {"server": "http://s", "site": "east", "host": None, "token": "t"}
        after = local.with_given(AgentSettings(host="e1"), **given)
        assert (after.server, after.site, after.host, after.token) == (
            "http://s",
            "east",
            "e1",
            "t",
        )

    def test_an_agent_without_a_site_is_refused(self, tmp_path: Path) -> None:
        result = CliRunner().invoke(app, ["agent", "--state", str(tmp_path)])
        assert result.exit_code == ExitCode.REFUSED
        assert "homeport site token" in result.stderr

    @pytest.mark.parametrize("number", local.STOPS, ids=lambda number: number.name)
    def test_signals_stop_it_and_nothing_else(self, number: signal.Signals) -> None:
        stopped: list[bool] = []
        before = signal.getsignal(number)
        with local.stopped_by_signals(lambda: stopped.append(True)):
            os.kill(os.getpid(), number)
        assert stopped == [True]
        assert signal.getsignal(number) is before

    def test_the_program_starts_without_the_parts_it_does_not_need(self) -> None:
        """What makes `homeport items` quick: no engine, no database, no hypervisor."""
        code = (
            "import sys; import homeport.interfaces.cli.main; "
            "print([m for m in ('dbos', 'sqlalchemy', 'fastapi', 'libvirt') if m in sys.modules])"
        )
        argv = [sys.executable, "-c", code]
        done = subprocess.run(argv, capture_output=True, text=True, check=True, cwd=ROOT)
        assert done.stdout.strip() == "[]"


class TestLabs:
    def run(self, line: str, folder: Path, code: int = 0) -> str:
        result = CliRunner().invoke(app, ["lab", *line.split(), "--folder", str(folder)])
        assert result.exit_code == code, result.output
        return result.output

    @pytest.mark.parametrize(
        "line",
        [
            "up",
            "up --guest",
            "down --yes",
            "kill east --process qemu",
            "cut east",
            "heal east",
            "start x",
        ],
    )
    def test_all_that_changes_one_needs_root_and_says_so(
        self, line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(os, "geteuid", lambda: 1000)
        said = self.run(line, tmp_path, ExitCode.REFUSED)
        assert "Only root may" in said
        assert "sudo" in said

    def test_there_may_be_none(self, tmp_path: Path) -> None:
        assert "homeport lab up" in self.run("list", tmp_path)
        assert json.loads(self.run("list --json", tmp_path)) == []

    def test_one_that_is_there_is_not_made_anew(self, tmp_path: Path) -> None:
        kept = tmp_path / "tour" / "disk"
        kept.parent.mkdir()
        kept.touch()
        said = self.run("up tour --guest", tmp_path, ExitCode.REFUSED)
        assert "homeport lab down tour" in said
        assert kept.exists()

    def test_hosts_are_not_named_where_a_guest_comes_with_its_own(self, tmp_path: Path) -> None:
        self.run("up --guest --host north", tmp_path, ExitCode.USAGE)

    def test_a_machine_is_named_for_qemu_only(self, tmp_path: Path) -> None:
        self.run("kill east --domain web", tmp_path, ExitCode.USAGE)
