"""
Copies of images that stand by themselves: everything below an image goes into one file.

Written beside, synced, renamed; watched and stopped by the caller's reins. The image is read
without QEMU's locks, because what lies below it may be in use.
"""

from __future__ import annotations

import json
import os
import re
import selectors
import subprocess
from pathlib import Path

from homeport.dataplane.pipeline import Control
from homeport.dataplane.points import ImageToolError, run_tool, sync_path
from homeport.model.unsent import ImageFile

LOOK_EVERY = 0.2
"""Seconds between two looks whether the copy is still wanted."""
PATIENCE = 10.0
"""Seconds qemu-img is given to end in order."""
_PERCENT = re.compile(rb"\((\d+\.\d+)/100%\)")


def copy_image(image: ImageFile, target: Path, target_format: str, control: Control) -> None:
    """
    Put a whole copy at `target`, which appears in one rename; holes stay holes.

    Raises:
        CancelledError: nothing is left of the copy.
        ImageToolError: qemu-img failed; nothing is left of the copy.
    """
    partial = partial_of(target)
    argv = ["qemu-img", "convert", "-U", "-p", "-f", image.format, "-O", target_format]
    try:
        _watched([*argv, str(image.path), str(partial)], disk_bytes(image), control)
        sync_path(partial)
        partial.rename(target)
        sync_path(target.parent)
    finally:
        partial.unlink(missing_ok=True)


def partial_of(target: Path) -> Path:
    """Where a copy is written before it is whole: the next attempt writes over it."""
    return target.with_name(f".{target.name}.homeport-partial")


def same_content(image: ImageFile, copy: ImageFile) -> bool:
    """Whether both disks are as long and read alike to the last byte; an unreadable one is not."""
    argv = ["qemu-img", "compare", "-U", "-q", "-f", image.format, "-F", copy.format]
    done = subprocess.run(
        [*argv, str(image.path), str(copy.path)], capture_output=True, check=False
    )
    return done.returncode == 0 and disk_bytes(image) == disk_bytes(copy)


def disk_bytes(image: ImageFile) -> int:
    """The disk's own bytes; ImageToolError when the image or what it stands on cannot be read."""
    told = run_tool(
        ["qemu-img", "info", "-U", "--output", "json", "-f", image.format, str(image.path)]
    )
    return int(json.loads(told)["virtual-size"])


def measured(image: ImageFile, target_format: str) -> int:
    """Bytes a copy takes at most, with what it needs beside the data."""
    argv = ["qemu-img", "measure", "-U", "--output", "json", "-O", target_format]
    told = run_tool([*argv, "-f", image.format, str(image.path)])
    return int(json.loads(told)["required"])


def free_bytes(folder: Path) -> int:
    """Bytes that can still be written in a folder."""
    room = os.statvfs(folder)
    return room.f_bavail * room.f_frsize


def _watched(argv: list[str], total: int, control: Control) -> None:
    """Run qemu-img, telling how far it is; end it when it is not wanted any more."""
    process = subprocess.Popen(
        argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    try:
        with process:
            try:
                _follow(process, total, control)
            except BaseException:
                _end(process)
                raise
            said = process.stderr.read() if process.stderr else b""
    finally:
        _end(process)
    if process.returncode != 0:
        raise ImageToolError(argv, said.decode(errors="replace"))


def _follow(process: subprocess.Popen[bytes], total: int, control: Control) -> None:
    assert process.stdout is not None
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        while True:
            control.check()
            if not selector.select(LOOK_EVERY):
                continue
            piece = os.read(process.stdout.fileno(), 4096)
            if not piece:
                return
            if found := _PERCENT.findall(piece):
                control.progress(int(total * float(found[-1]) / 100), total)


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
