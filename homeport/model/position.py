"""
Positions: where a replica stands. Nothing may jump.

A position is an epoch (it rises with every change of owner) and a sequence within it. Positions of
one item are totally ordered; whether one may *follow* another is a stricter question, answered by
the manifest that names both.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pydantic_core import core_schema

from homeport.errors import IntegrityError, RefusedError


@dataclass(frozen=True, slots=True, order=True)
class Position:
    """One moment in an item's history: printed and stored as `<epoch>-<sequence>`."""

    epoch: int
    sequence: int

    def __post_init__(self) -> None:
        if self.epoch < 1 or self.sequence < 0:
            raise ValueError(f"no such position: epoch {self.epoch}, sequence {self.sequence}")

    def __str__(self) -> str:
        return f"{self.epoch}-{self.sequence}"

    def next(self) -> Position:
        """The position after this one in the same epoch."""
        return Position(self.epoch, self.sequence + 1)

    @property
    def key(self) -> str:
        """The position in object keys and file names: sorts as text just as it does as a value."""
        return f"{self.epoch:06d}-{self.sequence:010d}"

    @classmethod
    def parse(cls, text: str) -> Position:
        """
        Read what `str()` or `key` wrote.

        Raises:
            InvalidPositionError: `text` is anything else.
        """
        epoch, dash, sequence = text.partition("-")
        if not (dash and epoch.isascii() and epoch.isdigit() and sequence.isascii()):
            raise InvalidPositionError(text)
        if not sequence.isdigit() or int(epoch) < 1:
            raise InvalidPositionError(text)
        return cls(int(epoch), int(sequence))

    @classmethod
    def __get_pydantic_core_schema__(cls, _source: Any, _handler: Any) -> Any:
        """Positions travel in JSON as their text."""

        def read(value: object) -> Position:
            if isinstance(value, Position):
                return value
            if isinstance(value, str):
                return cls.parse(value)
            raise ValueError("a position is written as <epoch>-<sequence>")

        return core_schema.no_info_plain_validator_function(
            read,
            json_schema_input_schema=core_schema.str_schema(pattern=r"^\d+-\d+$"),
            serialization=core_schema.plain_serializer_function_ser_schema(
                str, return_schema=core_schema.str_schema()
            ),
        )


class InvalidPositionError(RefusedError, ValueError):
    """Text that names no position."""

    code = "InvalidPosition"

    def __init__(self, text: str) -> None:
        super().__init__(
            f"{text!r} is not a recovery point's position.",
            cause="A position is written as <epoch>-<sequence>, for example 3-17.",
            remedy="Take one from the list of points (homeport points ITEM).",
        )
        self.text = text


class PositionMismatchError(IntegrityError):
    """An image or manifest that does not start where the replica stands."""

    code = "PositionMismatch"

    def __init__(self, *, expected: Position | None, found: Position | None) -> None:
        super().__init__(
            f"The replica stands at {expected}, but what was offered starts at {found}.",
            cause="A point between the two is missing, was repeated with other content, or belongs "
            "to another history.",
        )
        self.expected = expected
        self.found = found
