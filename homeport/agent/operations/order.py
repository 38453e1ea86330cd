"""What an operation's handler is given, and the helpers that several handlers share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from homeport.agent.means import Means
from homeport.agent.shelf import Shelf
from homeport.dataplane.pipeline import Control


@dataclass(frozen=True, kw_only=True)
class Bench:
    """Where handlers work: the host's items, its means, and the reins of this operation."""

    shelf: Shelf
    control: Control

    @property
    def means(self) -> Means:
        """The host's means."""
        return self.shelf.means


Handler = Callable[[Bench, Any], Any]
