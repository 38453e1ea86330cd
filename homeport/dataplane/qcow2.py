"""
qcow2 layers without QEMU: the one place to import from.

A layer is what a rotation closes and what landing writes. Headers and backing names are read and
moved (`read_header`, `rewrite_backing`), maps and bytes read (`read_map`, `LayerReader`,
`ChainReader`), new layers written (`LayerWriter`, `create_overlay`). `docs/formats.md` has the
layout; nothing here takes a lock or runs a tool.
"""

from homeport.dataplane.qcow2_chain import ChainReader
from homeport.dataplane.qcow2_header import (
    Qcow2FormatError,
    Qcow2Header,
    UnsupportedQcow2Error,
    read_header,
    rewrite_backing,
)
from homeport.dataplane.qcow2_reader import LayerReader, NotInLayerError, read_map
from homeport.dataplane.qcow2_tables import HostRuns, LayerMap
from homeport.dataplane.qcow2_writer import CLUSTER, SUBCLUSTER, LayerWriter, create_overlay

__all__ = [
    "CLUSTER",
    "SUBCLUSTER",
    "ChainReader",
    "HostRuns",
    "LayerMap",
    "LayerReader",
    "LayerWriter",
    "NotInLayerError",
    "Qcow2FormatError",
    "Qcow2Header",
    "UnsupportedQcow2Error",
    "create_overlay",
    "read_header",
    "read_map",
    "rewrite_backing",
]
