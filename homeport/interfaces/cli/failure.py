"""
How a command ends when it could not do what it was asked: an exit code, and words on stderr.

Codes follow what the caller does next, as the error tree does: scripts read the code, people the
words. The words always say what is, why, and what to do.
"""

from __future__ import annotations

from enum import IntEnum

from rich.console import RenderableType

from homeport.client import JobNotDoneError
from homeport.errors import (
    CancelledError,
    HomeportError,
    IntegrityError,
    NotFoundError,
    RefusedError,
    TransientError,
    describe,
)
from homeport.interfaces.cli.render.style import problem

DEBUG_VARIABLE = "HOMEPORT_DEBUG"
"""Set to anything, errors are shown with where they came from."""


class ExitCode(IntEnum):
    """How a command ended."""

    OK = 0
    INTERNAL = 1
    USAGE = 2
    NOT_FOUND = 3
    REFUSED = 4
    TRANSIENT = 5
    INTEGRITY = 6
    JOB_FAILED = 7
    CANCELLED = 8
    INTERRUPTED = 130


MEANINGS: dict[ExitCode, str] = {
    ExitCode.OK: "done",
    ExitCode.INTERNAL: "an error nobody foresaw",
    ExitCode.USAGE: "the command line is not understood",
    ExitCode.NOT_FOUND: "what was named does not exist",
    ExitCode.REFUSED: "refused as it stands; nothing was changed",
    ExitCode.TRANSIENT: "not reachable or not possible just now; the same again may succeed",
    ExitCode.INTEGRITY: "data is not what it must be; keep everything",
    ExitCode.JOB_FAILED: "the job was started and has failed",
    ExitCode.CANCELLED: "the job was cancelled",
    ExitCode.INTERRUPTED: "interrupted; a job that was started goes on",
}
"""What each code means: `homeport --help` and docs/cli.md say it in these words."""

_KINDS: tuple[tuple[type[HomeportError], ExitCode], ...] = (
    (NotFoundError, ExitCode.NOT_FOUND),
    (RefusedError, ExitCode.REFUSED),
    (TransientError, ExitCode.TRANSIENT),
    (IntegrityError, ExitCode.INTEGRITY),
    (CancelledError, ExitCode.CANCELLED),
)
CANCELLED_STATE = "Cancelled"
"""The state of a job that somebody stopped."""


def exit_code(error: BaseException) -> ExitCode:
    """The code a command ends with because of `error`."""
    if isinstance(error, JobNotDoneError):
        cancelled = error.job.state == CANCELLED_STATE
        return ExitCode.CANCELLED if cancelled else ExitCode.JOB_FAILED
    return next((code for kind, code in _KINDS if isinstance(error, kind)), ExitCode.INTERNAL)


def facts_of(error: BaseException) -> dict[str, str]:
    """The error for people and programs; of one that nobody foresaw, how to see more of it."""
    found = describe(error)
    if isinstance(error, HomeportError):
        return found
    return {**found, "remedy": f"Run it again with {DEBUG_VARIABLE}=1 to see where, and report it."}


def words_of(error: BaseException) -> RenderableType:
    """What is, why, and what to do, with the code that documentation and support ask for."""
    return problem(facts_of(error), title="error")
