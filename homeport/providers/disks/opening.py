"""
Opening disks: by our own readers where they can, through QEMU where they cannot.

What the wiring gives to agents: `open_reader` for the chains they ship from, `open_base` for the
replicas they fill.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import cast

from homeport.dataplane.bases import BaseWriter, RawBase
from homeport.dataplane.qcow2 import ChainReader, UnsupportedQcow2Error, read_header
from homeport.dataplane.qcow2_chain import BaseFormat
from homeport.model.machine import DiskFormat
from homeport.providers.disks.nbd import NbdDisk, create_qcow2_base


def open_reader(paths: Sequence[Path], base_format: str) -> ChainReader | NbdDisk:
    """
    The chain as its guest sees it, top first; the caller closes it.

    Raises:
        ValueError: no paths.
        Qcow2FormatError, OSError: a file is damaged, or cannot be read.
        NbdMissingError, NbdServerError: only QEMU could read it, and cannot.
    """
    if base_format == "raw" or (base_format == "qcow2" and not _stands_on_more(paths)):
        try:
            return ChainReader(paths, base_format=cast("BaseFormat", base_format))
        except UnsupportedQcow2Error:
            pass  # compressed, encrypted, data in another file: QEMU's to read
    return NbdDisk(paths[0], image_format="qcow2" if len(paths) > 1 else base_format)


def _stands_on_more(paths: Sequence[Path]) -> bool:
    """Whether the lowest file is no base: a user's disk may be an overlay on a template."""
    return bool(paths) and read_header(paths[-1]).backing_name is not None


def open_base(path: Path, *, image_format: DiskFormat, size: int, cluster_size: int) -> BaseWriter:
    """
    The base of a replica, to be filled by a seed; what an earlier attempt filled stays.

    Raises:
        BaseTakenError: something else is there; it is not touched.
        OSError, ImageToolError, NbdServerError, NbdMissingError: it cannot be made.
    """
    if image_format is DiskFormat.RAW:
        return RawBase(path, size=size)
    return create_qcow2_base(path, size=size, cluster_size=cluster_size)
