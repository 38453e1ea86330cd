"""
Running the programs the lab is made of, and waiting for what they do.

The one place of `homeport.lab` that starts short-lived programs and that sleeps; all else calls it.
"""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import homeport
from homeport.lab.errors import CommandFailedError, TooSlowError

# Long enough for a cold `apt-get download` or `mkfs` on a busy machine.
DEFAULT_LIMIT = 120.0

# Python programs of ours that run elsewhere import what this process imports.
_OURSELVES = str(Path(homeport.__file__).resolve().parent.parent)

_SBIN = "/usr/local/sbin:/usr/sbin:/sbin"


def clean_environment() -> dict[str, str]:
    """What programs are started with: a path that includes sbin, messages in English."""
    path = os.environ.get("PATH", "/usr/local/bin:/usr/bin:/bin")
    kept = {k: v for k, v in os.environ.items() if k in {"HOME", "http_proxy"}}
    return {**kept, "PATH": f"{path}:{_SBIN}", "LC_ALL": "C.UTF-8", "PYTHONPATH": _OURSELVES}


def run(
    argv: Sequence[str | Path],
    *,
    limit: float = DEFAULT_LIMIT,
    given: bytes = b"",
    folder: Path | None = None,
) -> str:
    """
    Run a program to its end and return what it wrote to its standard output.

    Raises:
        CommandFailedError: it ended with a status other than 0; carries its standard error.
        TooSlowError: it did not end within `limit` seconds, and was killed.
    """
    done = attempt(argv, limit=limit, given=given, folder=folder)
    if done.returncode:
        said = (done.stderr + done.stdout).decode(errors="replace")
        raise CommandFailedError(argv=[str(a) for a in argv], status=done.returncode, output=said)
    return done.stdout.decode(errors="replace")


def attempt(
    argv: Sequence[str | Path],
    *,
    limit: float = DEFAULT_LIMIT,
    given: bytes = b"",
    folder: Path | None = None,
) -> subprocess.CompletedProcess[bytes]:
    """Like `run`, for programs whose failure is an answer: the status is left to the caller."""
    words = [str(a) for a in argv]
    try:
        return subprocess.run(
            words,
            input=given,
            capture_output=True,
            timeout=limit,
            check=False,
            cwd=folder,
            env=clean_environment(),
        )
    except subprocess.TimeoutExpired as late:
        raise TooSlowError(awaited=f"`{' '.join(words)}`", limit=limit) from late
    except FileNotFoundError as absent:
        raise CommandFailedError(argv=words, status=127, output=str(absent)) from absent


def wait_until(
    happened: Callable[[], bool],
    *,
    awaited: str,
    limit: float,
    pause: float = 0.02,
    log: Path | None = None,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> float:
    """
    Ask `happened` again and again until it says yes; return the seconds that took.

    Raises:
        TooSlowError: it did not say yes within `limit` seconds; it is asked at least once.
    """
    start = clock()
    while not happened():
        if clock() - start >= limit:
            raise TooSlowError(awaited=awaited, limit=limit, log=log)
        sleep(pause)
    return clock() - start
