"""
Programs that read file systems, on a leash: they end when the time is over or nobody wants them.

One that runs to its end (`run_within`), one that is spoken to (`Dialogue`), and a server that shows
an image to them (`served`).
"""

from __future__ import annotations

import os
import selectors
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Self

from homeport.dataplane.pipeline import Control
from homeport.errors import RefusedError, TransientError
from homeport.model.unsent import ImageFile
from homeport.units import KiB

PIECE = 64 * KiB
"""Bytes of a program's answer read at a time."""
LOOK_EVERY = 0.2
"""Seconds between two looks whether somebody wants the work to stop."""
PATIENCE = 10.0
"""Seconds a program is given to end in order."""


class UnreadableHereError(RefusedError):
    """This host has no way to read the file systems of an image."""

    code = "FilesUnreadableHere"
    default_remedy = "Export the image (homeport unsent ITEM --export PATH) and open it elsewhere."

    def __init__(self, reason: str) -> None:
        super().__init__(f"The files cannot be read on this host: {reason}.", cause=reason)
        self.reason = reason


class FilesTimeoutError(TransientError):
    """Reading file systems took longer than it may."""

    code = "FilesTookTooLong"

    def __init__(self, way: str, seconds: float) -> None:
        super().__init__(
            f"Reading the files by {way} was given up after {seconds:.0f} s.",
            cause="The host is busy, has no KVM, or the file systems hold very many files.",
            remedy="Ask again with more time (--seconds), or export the image and open it "
            "elsewhere.",
        )
        self.way, self.seconds = way, seconds


class ReadingToolError(TransientError):
    """A program that reads file systems did not do its work."""

    code = "FilesToolFailed"

    def __init__(self, program: str, said: str) -> None:
        super().__init__(
            f"{program} failed: {said.strip()[-400:] or 'it said nothing'}",
            cause="The image changed while it was opened, or is damaged; or the host lacks memory "
            "or room.",
            remedy="Ask again; if it stays, export the image and open it elsewhere.",
        )
        self.program, self.said = program, said


@dataclass(frozen=True, kw_only=True, slots=True)
class Deadline:
    """When work must have ended, by the monotonic clock; asked together with the reins."""

    at: float
    seconds: float
    way: str
    control: Control

    @classmethod
    def after(cls, seconds: float, *, way: str, control: Control) -> Deadline:
        """That many seconds from now on."""
        return cls(at=time.monotonic() + seconds, seconds=seconds, way=way, control=control)

    def steered(self, control: Control) -> Deadline:
        """The same end by other reins: those of one of several threads."""
        return replace(self, control=control)

    def check(self) -> None:
        """
        Go on, or stop here.

        Raises:
            CancelledError: somebody asked for it.
            FilesTimeoutError: the time is over.
        """
        self.control.check()
        if time.monotonic() > self.at:
            raise FilesTimeoutError(self.way, self.seconds)


def run_within(
    argv: Sequence[str] | Sequence[str | Path],
    deadline: Deadline,
    *,
    fine: Sequence[int] = (0,),
    output: Path | None = None,
) -> str:
    """
    Run a program to its end, or end it when the deadline says so; what it printed.

    With `output` its standard output goes there, behind what is there already.

    Raises:
        ReadingToolError: its status is not among `fine`, or it cannot be started.
        CancelledError, FilesTimeoutError: it was ended.
    """
    with (output or Path(os.devnull)).open("ab") as into:
        target = into if output else subprocess.PIPE
        try:
            process = subprocess.Popen(
                [str(word) for word in argv],
                stdin=subprocess.DEVNULL,
                stdout=target,
                stderr=subprocess.PIPE,
            )
        except OSError as error:
            raise ReadingToolError(str(argv[0]), str(error)) from error
        try:
            out, err = _wait(process, deadline)
        finally:
            end_process(process)
            for pipe in (process.stdout, process.stderr):
                if pipe is not None:
                    pipe.close()
    if process.returncode not in fine:
        raise ReadingToolError(str(argv[0]), (err or out or b"").decode(errors="replace"))
    return (out or b"").decode(errors="replace")


def _wait(process: subprocess.Popen[bytes], deadline: Deadline) -> tuple[bytes, bytes]:
    while True:
        deadline.check()
        try:
            return process.communicate(timeout=LOOK_EVERY)
        except subprocess.TimeoutExpired:
            continue


def end_process(process: subprocess.Popen[bytes]) -> None:
    """End a program, by its own id, unless it has ended; wait for it."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@contextmanager
def served(image: ImageFile, socket: Path, deadline: Deadline) -> Iterator[Path]:
    """
    An image and all below it behind a socket, read-only and without QEMU's locks: nobody who works
    on the chain meanwhile is in the way, nor are we in his. Files once open stay as they were.
    """
    name = str(image.path).replace(",", ",,")
    options = f"driver={image.format},force-share=on,file.driver=file,file.filename={name}"
    argv = ["qemu-nbd", "--read-only", "--persistent", "--shared=4", "--socket", str(socket)]
    process = subprocess.Popen(
        [*argv, "--image-opts", options],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    try:
        while not socket.exists():
            deadline.check()
            if process.poll() is not None:
                said = process.stderr.read() if process.stderr else b""
                raise ReadingToolError("qemu-nbd", said.decode(errors="replace"))
            time.sleep(0.01)
        yield socket
    finally:
        end_process(process)
        if process.stderr:
            process.stderr.close()
        socket.unlink(missing_ok=True)


class Dialogue:
    """
    A program that is spoken to line by line; `ask` returns what it said until it echoed the end.

    Its standard error is part of what it says.
    """

    END = "===homeport==="

    def __init__(
        self, argv: Sequence[str], deadline: Deadline, *, environment: Mapping[str, str]
    ) -> None:
        self._deadline = deadline
        self._program = argv[0]
        self._process = subprocess.Popen(
            argv,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env={**os.environ, **environment},
        )

    def ask(self, *lines: str) -> list[str]:
        """
        What it answers to these lines.

        Raises:
            ReadingToolError: it has ended.
            CancelledError, FilesTimeoutError: see `Deadline.check`.
        """
        assert self._process.stdin is not None
        text = "".join(f"{line}\n" for line in (*lines, f"echo {self.END}"))
        try:
            self._process.stdin.write(text.encode())
            self._process.stdin.flush()
        except BrokenPipeError as error:
            raise ReadingToolError(self._program, "it has ended") from error
        said = self._heard()
        return [line for line in said.splitlines() if line.strip()]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        _error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        """End it: after an error at once, else it is given a little time to do so in order."""
        if kind is not None:
            end_process(self._process)
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                stream.close()
        try:
            self._process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            end_process(self._process)

    def _heard(self) -> str:
        """All up to the end's echo."""
        assert self._process.stdout is not None
        said = b""
        mark = self.END.encode()
        with selectors.DefaultSelector() as selector:
            selector.register(self._process.stdout, selectors.EVENT_READ)
            while mark not in said:
                self._deadline.check()
                if not selector.select(LOOK_EVERY):
                    continue
                piece = os.read(self._process.stdout.fileno(), PIECE)
                if not piece:
                    raise ReadingToolError(self._program, said.decode(errors="replace"))
                said += piece
        return said.partition(mark)[0].decode(errors="replace")
