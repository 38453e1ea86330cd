"""The routers of people's API, in the order of its documentation."""

from __future__ import annotations

from collections.abc import Sequence

from fastapi import APIRouter

ROUTERS: Sequence[APIRouter] = ()
