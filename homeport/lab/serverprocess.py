"""
The server as a process of its own, for demos and tests: started as a user would, stopped by id.

Its id and start time are in a file beside its log, so that a later run can stop what an earlier one
left, and never anybody else's process.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from homeport.client import Client
from homeport.errors import HomeportError
from homeport.lab.commands import wait_until
from homeport.lab.files import read_json, write_json
from homeport.lab.processes import ProcessId, alive, identify, send

STOP_LIMIT = 20.0


@dataclass(kw_only=True)
class ServerProcess:
    """One server with its data, log and id in `folder`."""

    folder: Path
    address: str
    port: int
    environment: Mapping[str, str] = field(default_factory=dict)
    _child: subprocess.Popen[bytes] | None = field(default=None, init=False, repr=False)

    @property
    def url(self) -> str:
        """Where its API is."""
        return f"http://{self.address}:{self.port}"

    @property
    def log(self) -> Path:
        """What it says on standard error."""
        return self.folder / "server.log"

    def start(self) -> None:
        """Start it and wait until it answers. Raises TooSlowError with its log."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as log:
            process = subprocess.Popen(
                [
                    *(sys.executable, "-m", "homeport", "server", "--host", self.address),
                    *("--port", str(self.port), "--data-dir", str(self.folder / "data")),
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, **self.environment},
                start_new_session=True,
            )
        self._child = process
        identity = identify(process.pid)
        if identity is not None:
            facts = {"pid": identity.pid, "started": identity.started}
            write_json(self._file, facts)

        def answers() -> bool:
            return process.poll() is not None or _answers(self.url)

        wait_until(answers, awaited="the server to answer", limit=90, pause=0.1)
        if process.poll() is not None:
            said = self.log.read_text(errors="replace").strip().splitlines()[-3:]
            raise HomeportError(
                f"The server ended by itself: {' '.join(said)}",
                code="ServerEnded",
                remedy=f"Look at {self.log}.",
            )

    def stop(self) -> None:
        """Stop it in order; one that does not end is killed. Not running is fine."""
        process = self.running()
        if process is None:
            return
        send(process, signal.SIGTERM)
        try:
            self._wait_end(process, STOP_LIMIT)
        except HomeportError:
            self.kill()

    def kill(self) -> None:
        """Kill it at once, as a crash would."""
        process = self.running()
        if process is not None:
            send(process, signal.SIGKILL)
            self._wait_end(process, STOP_LIMIT)

    def running(self) -> ProcessId | None:
        """The process, if it runs."""
        if not self._file.exists():
            return None
        facts = read_json(self._file)
        process = ProcessId(pid=facts["pid"], started=facts["started"])
        return process if alive(process) else None

    def _wait_end(self, process: ProcessId, limit: float) -> None:
        wait_until(lambda: not alive(process), awaited="the server to end", limit=limit, pause=0.05)
        if self._child is not None and self._child.pid == process.pid:
            self._child.wait(limit)  # else somebody else's child: its parent reaps it
            self._child = None

    @property
    def _file(self) -> Path:
        return self.folder / "server.json"


def _answers(url: str) -> bool:
    with Client(url) as client:
        try:
            client.health()
        except HomeportError:
            return False
        return True
