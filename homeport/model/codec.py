"""
Values to JSON and back: one place, so that files, rows and messages agree.

Unknown fields are ignored when reading and fields with a default may be missing: an agent one
version older or newer is understood. Bytes travel as base64, moments and spans as ISO 8601.
"""

from __future__ import annotations

import zlib
from base64 import b64decode, b64encode
from typing import Annotated, Any, TypeAlias, TypeVar, cast

from pydantic import BeforeValidator, PlainSerializer, TypeAdapter, ValidationError

from homeport.errors import IntegrityError
from homeport.units import MiB

T = TypeVar("T")


class UnreadableDocumentError(IntegrityError):
    """A stored or received document that is not what its kind says."""

    code = "UnreadableDocument"

    def __init__(self, kind: str, reason: str) -> None:
        super().__init__(
            f"A document that should be a {kind} cannot be read: {reason}",
            cause="It was cut, altered, or written by a version this one does not know.",
        )
        self.kind = kind


_adapters: dict[Any, TypeAdapter[Any]] = {}


def _adapter(kind: Any) -> TypeAdapter[Any]:
    """Building one takes milliseconds, so each is built once; racing threads build equal ones."""
    if kind not in _adapters:
        _adapters[kind] = TypeAdapter(kind)
    return _adapters[kind]


LARGEST_PACKED = 64 * MiB
"""Bytes that packed ones may come to; a document that says more is not read."""


def _pack(value: bytes) -> str:
    return b64encode(zlib.compress(value)).decode()


def _unpack(value: object) -> object:
    if not isinstance(value, str):
        return value
    stream = zlib.decompressobj()
    try:
        plain = stream.decompress(b64decode(value, validate=True), LARGEST_PACKED)
    except zlib.error as error:
        raise ValueError(f"packed bytes that cannot be unpacked: {error}") from error
    if not stream.eof or stream.unused_data:
        raise ValueError("packed bytes that are cut, too many, or followed by others")
    return plain


Packed: TypeAlias = Annotated[
    bytes, BeforeValidator(_unpack), PlainSerializer(_pack, return_type=str, when_used="json")
]
"""Bytes that travel compressed: UEFI variables are half a MiB, most of it empty flash."""


def to_json(kind: type[T], value: T, *, indent: int | None = None) -> bytes:
    """`value` as JSON bytes; equal values give equal bytes."""
    return _adapter(kind).dump_json(value, indent=indent)


def to_plain(kind: type[T], value: T) -> Any:
    """`value` as plain dicts, lists, strings and numbers, ready for JSON."""
    return _adapter(kind).dump_python(value, mode="json")


def from_json(kind: type[T], text: bytes | str) -> T:
    """
    The value that `to_json` wrote.

    Raises:
        UnreadableDocumentError: it is not JSON, or not this kind of value.
    """
    try:
        return cast("T", _adapter(kind).validate_json(text))
    except ValidationError as error:
        raise UnreadableDocumentError(kind.__name__, _first(error)) from error


def from_plain(kind: type[T], value: object) -> T:
    """
    The value that `to_plain` wrote.

    Raises:
        UnreadableDocumentError: it is not this kind of value.
    """
    try:
        return cast("T", _adapter(kind).validate_python(value))
    except ValidationError as error:
        raise UnreadableDocumentError(kind.__name__, _first(error)) from error


def _first(error: ValidationError) -> str:
    first = error.errors()[0]
    place = ".".join(str(part) for part in first["loc"]) or "the whole"
    return f"{place}: {first['msg']}"
