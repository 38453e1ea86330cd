"""
Disks through QEMU: for images that Homeport does not read itself, and for filling a qcow2 base.

Each open disk is one `qemu-nbd` on a connected pair of ends: the listening socket has no name any
more when the server starts, so nobody else can connect and a killed agent leaves neither socket nor
process (the server ends with its only client). Closing waits for the process by its id.

libnbd has no wheel: it is Debian's `python3-libnbd`, looked for beside the virtual environment.
"""

from __future__ import annotations

import importlib
import os
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Sequence
from contextlib import ExitStack
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np

from homeport.dataplane.bases import BaseTakenError
from homeport.dataplane.points import run_tool, sync_path
from homeport.dataplane.qcow2 import Qcow2FormatError, read_header
from homeport.errors import RefusedError, TransientError
from homeport.model.extent import ExtentSet
from homeport.units import GiB, MiB

_DEBIAN = "/usr/lib/python3/dist-packages"
_ALLOCATION = "base:allocation"
_ZERO = 2  # flag of the allocation context: reads as zeroes
_STEP = 16 * MiB  # of one read or write; the protocol's usual limit is 32 MiB
_STATUS_STEP = 2 * GiB  # of one question for zeroes or allocation: lengths have 32 bits
_PATIENCE = 60.0  # seconds a server is given to write its tables and end

# The shell puts the socket where socket activation expects it and its own id into LISTEN_PID; the
# server then takes its place, so the id stays.
_START = 'LISTEN_FDS=1 LISTEN_PID=$$ exec qemu-nbd "$@" 3<&"$SOCKET"'


class NbdMissingError(RefusedError):
    """Python's binding of libnbd cannot be loaded."""

    code = "NbdMissing"

    def __init__(self) -> None:
        super().__init__(
            "The Python binding of libnbd is not installed.",
            cause="Images with compressed clusters, encryption or other formats are read, and "
            "qcow2 replicas are filled, through qemu-nbd.",
            remedy="Install Debian's packages python3-libnbd and qemu-utils on this host.",
        )


class NbdServerError(TransientError):
    """qemu-nbd did not start, ended too early, or refused a request."""

    code = "NbdServer"

    def __init__(self, *, path: Path, found: str) -> None:
        super().__init__(
            f"qemu-nbd cannot serve {path}: {found}",
            cause="The image is damaged, one of its backing files is missing, another process "
            "holds it, or a disk is full.",
            remedy="Look at the message; qemu-img check tells more. It is tried again by itself.",
        )
        self.path, self.found = path, found


class NbdDisk:
    """
    One image served by QEMU: its bytes, and where they are not zero. Threads may share it.

    With `writable` the image is locked as QEMU locks it; reading takes no lock and follows the
    backing names in the headers.
    """

    def __init__(self, path: Path, *, image_format: str, writable: bool = False) -> None:
        """
        Start a server and connect to it.

        Raises:
            NbdMissingError: libnbd is not installed.
            NbdServerError: the image cannot be opened.
        """
        self.path = path
        self._bytes_read = 0  # under the lock
        self._lock = threading.Lock()
        self._binding = load_binding()
        with ExitStack() as opened:
            self._log = opened.enter_context(tempfile.TemporaryFile())
            client, self._server = self._start(opened, image_format, writable=writable)
            opened.callback(self._end_server)
            self._handle = self._connect(client)
            opened.callback(self._disconnect)
            self._closing = opened.pop_all()
        self.size: int = self._handle.get_size()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Disconnect and wait until the server has ended; twice is as good as once."""
        self._closing.close()

    @property
    def bytes_read(self) -> int:
        """Bytes of the disk read so far."""
        return self._bytes_read

    def read(self, offset: int, length: int) -> bytes:
        """
        Bytes from `offset` on, as the guest would see them.

        Raises:
            ValueError: not within the disk.
            NbdServerError: QEMU cannot read them.
        """
        self._check(offset, length)
        pieces = [
            self._ask("pread", min(_STEP, offset + length - at), at)
            for at in range(offset, offset + length, _STEP)
        ]
        with self._lock:
            self._bytes_read += length
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def allocated(self) -> ExtentSet:
        """The bytes of the whole chain that QEMU does not know to be zero."""
        return self._data_within(0, self.size)

    def write(self, offset: int, body: bytes) -> None:
        """Put bytes in place; see `BaseWriter`."""
        self._check(offset, len(body))
        for at in range(0, len(body), _STEP):
            self._ask("pwrite", body[at : at + _STEP], offset + at)

    def zero(self, offset: int, length: int) -> None:
        """Make what is not zero in the range so; see `BaseWriter`."""
        self._check(offset, length)
        for extent in self._data_within(offset, length):
            for at in range(extent.start, extent.end, _STATUS_STEP):
                self._ask("zero", min(_STATUS_STEP, extent.end - at), at)

    def flush(self) -> None:
        """All that was written survives a power cut; see `BaseWriter`."""
        self._ask("flush")

    def _data_within(self, offset: int, length: int) -> ExtentSet:
        found: list[tuple[int, int]] = []
        at, end = offset, offset + length
        while at < end:
            entries: list[int] = []

            def take(
                context: str, _at: int, told: list[int], _error: Any, into: Any = entries
            ) -> int:
                if context == _ALLOCATION:
                    into.extend(told)
                return 0

            self._ask("block_status", min(_STATUS_STEP, end - at), at, take)
            for span, flags in zip(entries[::2], entries[1::2], strict=True):
                if not flags & _ZERO:
                    found.append((at, min(span, end - at)))
                at += span
        return _set_of(found)

    def _check(self, offset: int, length: int) -> None:
        if offset < 0 or length < 0 or offset + length > self.size:
            raise ValueError(f"{offset}+{length} is not within a disk of {self.size} bytes")

    def _ask(self, call: str, *arguments: Any) -> Any:
        try:
            return getattr(self._handle, call)(*arguments)
        except self._binding.Error as error:
            raise self._failed(error) from error

    def _start(
        self, opened: ExitStack, image_format: str, *, writable: bool
    ) -> tuple[socket.socket, subprocess.Popen[bytes]]:
        listening, client = _socket_pair(opened)
        handed = os.dup(listening.fileno())
        try:
            argv = [
                "bash",
                "-c",
                _START,
                "bash",
                *_options(self.path, image_format, writable=writable),
            ]
            server = subprocess.Popen(
                argv,
                env={**os.environ, "SOCKET": str(handed)},
                pass_fds=(handed,),
                stdin=subprocess.DEVNULL,
                stdout=self._log,
                stderr=self._log,
            )
        finally:
            os.close(handed)
            listening.close()  # a server that dies then breaks the connection, not our patience
        return client, server

    def _connect(self, client: socket.socket) -> Any:
        handle = self._binding.NBD()
        handle.add_meta_context(_ALLOCATION)
        try:
            handle.connect_socket(client.detach())
        except self._binding.Error as error:
            raise self._failed(error) from error
        return handle

    def _disconnect(self) -> None:
        try:
            self._handle.shutdown()
        except self._binding.Error:
            pass  # the server is gone already; what was flushed is safe
        finally:
            del self._handle  # the binding frees the connection with its last reference

    def _end_server(self) -> None:
        """The server ends with its client; one that does not is stopped, by its own id."""
        try:
            self._server.wait(_PATIENCE)
        except subprocess.TimeoutExpired:
            self._server.kill()
            self._server.wait()

    def _failed(self, error: Any) -> NbdServerError:
        """The error with what the server said, which is why it ended."""
        self._log.seek(0)
        said = self._log.read().decode(errors="replace").strip()
        return NbdServerError(path=self.path, found=said or str(error.string))


def create_qcow2_base(path: Path, *, size: int, cluster_size: int) -> NbdDisk:
    """
    A qcow2 base to be filled: made like the disk it replicates, or opened again after a crash.

    Raises:
        BaseTakenError: something else is there; it is not touched.
        ImageToolError, NbdServerError, NbdMissingError: QEMU's tools do not do it.
    """
    load_binding()  # before anything is made
    if path.exists():
        _check_base(path, size, cluster_size)
    else:
        partial = path.with_name(path.name + ".partial")
        options = f"cluster_size={cluster_size}"
        run_tool(
            ["qemu-img", "create", "-q", "-f", "qcow2", "-o", options, str(partial), str(size)]
        )
        sync_path(partial)
        partial.replace(path)
        sync_path(path.parent)
    return NbdDisk(path, image_format="qcow2", writable=True)


@cache
def load_binding() -> Any:
    """
    The module `nbd`, from the environment or from Debian's own place.

    Raises:
        NbdMissingError: in neither.
    """
    try:
        return importlib.import_module("nbd")
    except ImportError:
        sys.path.append(_DEBIAN)
    try:
        return importlib.import_module("nbd")
    except ImportError as error:
        raise NbdMissingError from error
    finally:
        sys.path.remove(_DEBIAN)


def _check_base(path: Path, size: int, cluster_size: int) -> None:
    try:
        header = read_header(path)
    except Qcow2FormatError as error:
        raise BaseTakenError(path=path, found=error.found) from error
    if (header.size, header.cluster) != (size, cluster_size) or header.backing_name:
        found = f"a qcow2 of {header.size} bytes in clusters of {header.cluster}"
        raise BaseTakenError(path=path, found=found)


def _socket_pair(opened: ExitStack) -> tuple[socket.socket, socket.socket]:
    """A listening socket and a client that waits in its queue; the name between is gone."""
    listening = opened.enter_context(socket.socket(socket.AF_UNIX))
    client = opened.enter_context(socket.socket(socket.AF_UNIX))
    with tempfile.TemporaryDirectory(prefix="homeport-nbd-") as folder:
        listening.bind(f"{folder}/socket")
        listening.listen(1)
        client.connect(f"{folder}/socket")
    return listening, client


def _options(path: Path, image_format: str, *, writable: bool) -> Sequence[str]:
    """QEMU's options as one list; a comma in a path is doubled."""
    image = f"driver={image_format},file.driver=file,file.filename={str(path).replace(',', ',,')}"
    if writable:
        return ("--image-opts", "--discard=unmap", f"{image},discard=unmap")
    return ("--image-opts", "--read-only", f"{image},force-share=on")


def _set_of(found: Sequence[tuple[int, int]]) -> ExtentSet:
    table = np.array(found, np.int64).reshape(-1, 2)
    return ExtentSet.from_arrays(table[:, 0], table[:, 1])
