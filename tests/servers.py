"""
Real object store servers for tests: each is a process of its own on a free port of loopback.

They are started as context managers and stopped by their process, whatever happens in between.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import format_datetime
from pathlib import Path

ROOT = Path(__file__).parent.parent
AZURITE = ROOT / "node_modules" / ".bin" / "azurite-blob"
START_LIMIT = 60  # seconds; on a busy machine Node alone takes ten

# Azurite's published account, the same in every copy of it.
AZURITE_ACCOUNT = "devstoreaccount1"
AZURITE_KEY = (
    "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
)


@dataclass(frozen=True)
class Server:
    """A running store server: `options` are those of `open_store`, with working credentials."""

    scheme: str
    port: int
    options: Mapping[str, str] = field(repr=False)

    def url(self, bucket: str, prefix: str) -> str:
        return f"{self.scheme}://{bucket}/{prefix}"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def process(
    command: list[str], port: int, log: Path, *, env: Mapping[str, str] | None = None
) -> Iterator[None]:
    """Run `command` until the block ends; it is ready when it takes connections on `port`."""
    with log.open("wb") as output:
        running = subprocess.Popen(
            command, stdout=output, stderr=subprocess.STDOUT, cwd=log.parent, env=env
        )
        try:
            _wait_for(running, port, log)
            yield
        finally:
            running.kill()
            running.wait()


def _wait_for(running: subprocess.Popen[bytes], port: int, log: Path) -> None:
    until = time.monotonic() + START_LIMIT
    while time.monotonic() < until and running.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            time.sleep(0.05)
        else:
            return
    said = log.read_text(errors="replace")[-2000:]
    raise RuntimeError(f"{running.args!r} did not come up on port {port}; it said:\n{said}")


@contextmanager
def s3_server(folder: Path, *, bucket: str, denies: bool = False) -> Iterator[Server]:
    """An S3 server (moto) that has `bucket`; with `denies` it knows no credentials at all."""
    port = free_port()
    # moto checks signatures only after so many requests; the first makes the bucket
    env = os.environ | ({"INITIAL_NO_AUTH_ACTION_COUNT": "1"} if denies else {})
    command = [sys.executable, str(ROOT / "tests" / "s3_server.py"), str(port)]
    with process(command, port, folder / f"moto-{port}.log", env=env):
        call = urllib.request.Request(f"http://127.0.0.1:{port}/{bucket}", method="PUT")
        urllib.request.urlopen(call).close()
        options = {
            "endpoint": f"http://127.0.0.1:{port}",
            "region": "us-east-1",
            "access_key_id": "any",
            "secret_access_key": "any",
            "allow_http": "true",
        }
        yield Server("s3", port, options)


@contextmanager
def azure_server(folder: Path, *, container: str) -> Iterator[Server]:
    """An Azure Blob server (Azurite) that has `container`."""
    if not AZURITE.exists():
        raise RuntimeError(f"{AZURITE} is missing. Run `make setup`, which installs it (npm ci).")
    port = free_port()
    command = [str(AZURITE), "--blobPort", str(port), "--inMemoryPersistence", "--silent"]
    command += ["--disableTelemetry", "--skipApiVersionCheck"]
    with process(command, port, folder / "azurite.log"):
        _make_container(port, container)
        options = {
            "endpoint": f"http://127.0.0.1:{port}/{AZURITE_ACCOUNT}",
            "account_name": AZURITE_ACCOUNT,
            "account_key": AZURITE_KEY,
            "allow_http": "true",
        }
        yield Server("az", port, options)


def _make_container(port: int, container: str) -> None:
    """Azure's `Create Container`, signed with Shared Key: the library does not make containers."""
    date, version = format_datetime(datetime.now(UTC), usegmt=True), "2021-08-06"
    signed = "PUT" + "\n" * 12 + f"x-ms-date:{date}\nx-ms-version:{version}\n"
    signed += f"/{AZURITE_ACCOUNT}/{AZURITE_ACCOUNT}/{container}\nrestype:container"
    mac = hmac.new(base64.b64decode(AZURITE_KEY), signed.encode(), hashlib.sha256).digest()
    call = urllib.request.Request(
        f"http://127.0.0.1:{port}/{AZURITE_ACCOUNT}/{container}?restype=container",
        method="PUT",
        headers={
            "x-ms-date": date,
            "x-ms-version": version,
            "Content-Length": "0",
            "Authorization": f"SharedKey {AZURITE_ACCOUNT}:{base64.b64encode(mac).decode()}",
        },
    )
    urllib.request.urlopen(call).close()
