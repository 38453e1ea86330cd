"""
Reading many scattered pieces of files in order, with the disk kept busy.

A guest that runs with `cache=none` leaves nothing of its layer in the page cache, and reading
262,144 blocks of 4 KiB one after the other then waits for the disk each time. Here the kernel is
told of one window of pieces before the last one is read: 57,000 instead of 11,000 blocks a second
where it was measured. Memory is one piece; the window lives in the page cache.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from homeport.dataplane.qcow2_tables import read_fully
from homeport.units import MiB

PIECE = MiB  # most bytes handed out at once
_WINDOW_BYTES = 16 * MiB
_WINDOW_PIECES = 256


@dataclass(frozen=True, slots=True)
class Piece:
    """`length` bytes at `guest` of the disk, which lie at `host` of an open file."""

    path: Path
    file: int
    guest: int
    length: int
    host: int


def scan(pieces: Iterable[Piece]) -> Iterator[tuple[int, bytes]]:
    """
    Guest offset and bytes of each piece, in their order, in parts of up to 1 MiB.

    Raises:
        Qcow2FormatError: a file ends before a piece does.
        OSError: a disk failed.
    """
    waiting: list[Piece] = []
    for window in _windows(_cut(pieces)):
        for piece in window:
            os.posix_fadvise(piece.file, piece.host, piece.length, os.POSIX_FADV_WILLNEED)
        yield from map(_read, waiting)
        waiting = window
    yield from map(_read, waiting)


def _read(piece: Piece) -> tuple[int, bytes]:
    buffer = bytearray(piece.length)
    read_fully(piece.path, piece.file, memoryview(buffer), piece.host)
    return piece.guest, bytes(buffer)


def _cut(pieces: Iterable[Piece]) -> Iterator[Piece]:
    for piece in pieces:
        for at in range(0, piece.length, PIECE):
            length = min(PIECE, piece.length - at)
            yield Piece(piece.path, piece.file, piece.guest + at, length, piece.host + at)


def _windows(pieces: Iterable[Piece]) -> Iterator[list[Piece]]:
    window: list[Piece] = []
    held = 0
    for piece in pieces:
        window.append(piece)
        held += piece.length
        if held >= _WINDOW_BYTES or len(window) >= _WINDOW_PIECES:
            yield window
            window, held = [], 0
    if window:
        yield window
