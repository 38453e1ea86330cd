"""
Reading one qcow2 layer as a plain file: its map and its bytes.

Capture, merge and resync read closed layers with it, beside a running guest: no lock is taken, no
tool is run, and only `pread` touches the file. Compressed clusters, encryption and external data
files raise `UnsupportedQcow2Error`: the caller then reads through qemu-nbd. The tables are walked
in `qcow2_tables`; layers one above the other are the business of `qcow2_chain`.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np

from homeport.dataplane.qcow2_header import (
    Qcow2FormatError,
    Qcow2Header,
    UnsupportedQcow2Error,
    read_header,
)
from homeport.dataplane.qcow2_scan import Piece, scan
from homeport.dataplane.qcow2_tables import HostRuns, LayerMap, read_fully, walk_tables
from homeport.model.extent import ExtentSet


class NotInLayerError(ValueError):
    """Bytes were asked for that this layer does not decide."""


def read_map(path: Path) -> LayerMap:
    """
    The map of a layer that nobody writes to any more.

    Raises:
        Qcow2FormatError: tables contradict each other, the file, or the disk's size.
        UnsupportedQcow2Error: compressed, encrypted, or with data in another file.
        OSError: the file cannot be read.
    """
    with LayerReader(path) as reader:
        return reader.map


class LayerReader:
    """
    One open layer: its map, read at opening, and its bytes. Threads may share it.

    `bytes_read` counts guest data read so far, for progress and for tests.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.bytes_read = 0
        self._counting = threading.Lock()  # around `bytes_read`
        header = _readable_header(path)
        self._file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            self.map = walk_tables(path, self._file, header)
        except BaseException:
            os.close(self._file)
            raise

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
        """Give the file back; twice is as good as once."""
        handle, self._file = self._file, -1
        if handle >= 0:
            os.close(handle)

    def fileno(self) -> int:
        """The open file, for `pread` at host offsets; it stays this reader's."""
        return self._file

    def read(self, offset: int, length: int) -> bytes:
        """
        The bytes from guest `offset` on; zero extents read as zeroes.

        Raises:
            NotInLayerError: some of them belong to a layer below.
            Qcow2FormatError: the file became shorter.
            OSError: the disk failed.
        """
        wanted = ExtentSet.of(offset, length)
        missing = wanted - self.map.data.within(offset, length)
        if missing and missing - self.map.zero.within(offset, length):
            raise NotInLayerError(f"{self.path} does not hold all of {offset}+{length}")
        buffer = bytearray(length)
        self.read_into(offset, buffer)
        return bytes(buffer)

    def scan(self, wanted: ExtentSet | None = None) -> Iterator[tuple[int, bytes]]:
        """
        All data of this layer, or that in `wanted`: guest offset and up to 1 MiB, ascending.

        The way to read a whole layer: it reads ahead, which `read` cannot. Zeroes are not told.
        Raises as `read` does.
        """
        runs = self.map.runs if wanted is None else self.map.runs.restricted(wanted)
        for guest, body in scan(_pieces(self.path, self._file, runs)):
            with self._counting:
                self.bytes_read += len(body)
            yield guest, body

    def read_into(self, offset: int, buffer: bytearray | memoryview) -> None:
        """
        Put this layer's data from guest `offset` on into its places in `buffer`, nothing else.

        One `pread` for each run that is contiguous in the file. Raises as `read` does, but leaves
        the places of other layers, and of zeroes, as they are.
        """
        runs, view = self.map.runs, memoryview(buffer)
        end = offset + len(view)
        first = int(np.searchsorted(runs.guest, offset, side="right")) - 1
        behind = int(np.searchsorted(runs.guest, end, side="left"))
        count = 0
        for at in range(max(first, 0), behind):
            guest, length = int(runs.guest[at]), int(runs.lengths[at])
            start, stop = max(guest, offset), min(guest + length, end)
            if start < stop:
                host = int(runs.host[at]) + start - guest
                read_fully(self.path, self._file, view[start - offset : stop - offset], host)
                count += stop - start
        with self._counting:
            self.bytes_read += count


def _pieces(path: Path, file: int, runs: HostRuns) -> Iterator[Piece]:
    rows = zip(runs.guest.tolist(), runs.lengths.tolist(), runs.host.tolist(), strict=True)
    return (Piece(path, file, guest, length, host) for guest, length, host in rows)


def _readable_header(path: Path) -> Qcow2Header:
    header = read_header(path)
    if header.encryption:
        raise UnsupportedQcow2Error(path=path, feature="encrypted guest data")
    if header.external_data:
        raise UnsupportedQcow2Error(path=path, feature="guest data in an external file")
    if header.corrupt:
        raise Qcow2FormatError(path=path, found="QEMU has marked the image as corrupt")
    return header
