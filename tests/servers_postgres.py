"""A PostgreSQL of the tests' own: its data in a scratch folder, its port free, its end by pid."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.exc import OperationalError

BINARIES = Path("/usr/lib/postgresql/15/bin")
USER = "postgres"  # PostgreSQL refuses to run as root; Debian's package makes this one
START_SECONDS = 30


@dataclass
class Postgres:
    """A running server; `database()` makes a fresh one in it."""

    port: int
    folder: Path
    process: subprocess.Popen[bytes]
    made: int = 0

    def url(self, name: str = "postgres") -> str:
        return f"postgresql+psycopg://{USER}@127.0.0.1:{self.port}/{name}"

    def database(self) -> str:
        """The URL of a new, empty database."""
        self.made += 1
        name = f"vault_{os.getpid()}_{self.made}"
        engine = create_engine(self.url(), isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            connection.execute(text(f"CREATE DATABASE {name}"))
        engine.dispose()
        return self.url(name)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _as_user(*command: str) -> list[str]:
    return [*(["setpriv", f"--reuid={USER}", f"--regid={USER}", "--clear-groups"]), *command]


def _start(folder: Path) -> Postgres:
    data, port = folder / "data", _free_port()
    initdb = (str(BINARIES / "initdb"), "-D", str(data), "-A", "trust", "-U", USER, "-E", "UTF8")
    subprocess.run(_as_user(*initdb), check=True, capture_output=True, cwd=folder)
    server = (str(BINARIES / "postgres"), "-D", str(data), "-p", str(port), "-k", str(folder))
    # without fsync: the tests kill processes, not the machine
    options = ("listen_addresses=127.0.0.1", "shared_buffers=32MB", "fsync=off")
    settings = [word for option in options for word in ("-c", option)]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(_as_user(*server, *settings), stdout=log, stderr=log, cwd=folder)
    return Postgres(port=port, folder=folder, process=process)


def _wait(server: Postgres) -> None:
    engine = create_engine(server.url())
    deadline = time.monotonic() + START_SECONDS
    while True:
        try:
            with engine.connect():
                break
        except OperationalError:
            if time.monotonic() > deadline or server.process.poll() is not None:
                raise RuntimeError((server.folder / "log").read_text()) from None
            time.sleep(0.05)
    engine.dispose()


@contextmanager
def running_postgres() -> Iterator[Postgres]:
    """Start one, and end it with its data when the body is done."""
    with tempfile.TemporaryDirectory(prefix="hp-postgres-") as name:
        folder = Path(name)
        shutil.chown(folder, USER, USER)
        server = _start(folder)
        try:
            _wait(server)
            yield server
        finally:
            server.process.send_signal(signal.SIGQUIT)  # at once: nothing here is kept
            server.process.wait(timeout=20)


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """One server for the session; each test takes a database of its own."""
    with running_postgres() as server:
        yield server
