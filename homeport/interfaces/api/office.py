"""How routers reach the office: the app carries it, and a test puts its own there."""

from __future__ import annotations

from typing import Annotated, cast

from fastapi import Depends, Request

from homeport.orchestration.books import Office


def office_of(request: Request) -> Office:
    """The office of the app that answers: `app.state.office`."""
    return cast("Office", request.app.state.office)


AnOffice = Annotated[Office, Depends(office_of)]
"""A router's parameter for the office."""
