"""Running programs and waiting."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from homeport.lab import commands
from homeport.lab.errors import CommandFailedError, TooSlowError


class Clock:
    """Time that moves only by sleeping."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


def test_what_a_program_says_is_returned() -> None:
    assert commands.run(["printf", "a b"]) == "a b"


def test_input_and_folder_reach_the_program(tmp_path: Path) -> None:
    assert commands.run(["cat"], given=b"given") == "given"
    assert commands.run(["pwd"], folder=tmp_path).strip() == str(tmp_path)


def test_arguments_are_never_a_shells() -> None:
    assert commands.run(["printf", "%s", "$(id); *"]) == "$(id); *"


def test_a_failure_carries_the_programs_own_words() -> None:
    with pytest.raises(CommandFailedError) as caught:
        commands.run(["sh", "-c", "echo why >&2; exit 3"])
    assert (caught.value.status, caught.value.cause) == (3, "why")
    assert caught.value.argv[0] == "sh"


def test_a_silent_failure_says_that_it_was_silent() -> None:
    with pytest.raises(CommandFailedError) as caught:
        commands.run(["false"])
    assert caught.value.cause == "it said nothing"


def test_an_absent_program_is_a_failed_command() -> None:
    with pytest.raises(CommandFailedError) as caught:
        commands.run(["no-such-program-anywhere"])
    assert caught.value.status == 127


def test_a_program_that_hangs_is_killed() -> None:
    with pytest.raises(TooSlowError) as caught:
        commands.run(["sleep", "60"], limit=0.05)
    assert "sleep 60" in caught.value.awaited


def test_failure_may_be_an_answer() -> None:
    assert commands.attempt(["false"]).returncode == 1


def test_our_own_modules_are_found_by_programs_started_elsewhere(tmp_path: Path) -> None:
    found = commands.run(
        [sys.executable, "-c", "import homeport; print(homeport.__file__)"], folder=tmp_path
    )
    assert Path(found.strip()).name == "__init__.py"


def test_the_environment_holds_no_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    assert "AWS_SECRET_ACCESS_KEY" not in commands.clean_environment()
    assert "/usr/sbin" in commands.clean_environment()["PATH"]


def test_waiting_ends_when_it_happens_and_says_how_long_it_took() -> None:
    clock = Clock()
    taken = commands.wait_until(
        lambda: clock.now >= 2.0, awaited="it", limit=5.0, pause=0.5, clock=clock, sleep=clock.sleep
    )
    assert taken == 2.0


def test_waiting_in_vain_says_for_what_and_where_to_look() -> None:
    clock = Clock()
    with pytest.raises(TooSlowError) as caught:
        commands.wait_until(
            lambda: False,
            awaited="the moon",
            limit=5.0,
            pause=0.5,
            log=Path("/log"),
            clock=clock,
            sleep=clock.sleep,
        )
    assert caught.value.message == "Waited 5 s for the moon, in vain. Its log: /log."
    assert clock.now == pytest.approx(5.0)


def test_a_limit_of_zero_still_asks_once() -> None:
    assert commands.wait_until(lambda: True, awaited="it", limit=0.0) >= 0.0
