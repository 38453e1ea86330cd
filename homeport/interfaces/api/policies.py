"""Replication policies. `default` is there from the start; spans travel as ISO 8601 or seconds."""

from __future__ import annotations

from dataclasses import dataclass, fields
from datetime import timedelta
from typing import Any, ClassVar

from fastapi import APIRouter, status
from pydantic import ConfigDict

from homeport.errors import NotFoundError, RefusedError
from homeport.interfaces.api.office import AnOffice
from homeport.model.ids import check_name
from homeport.model.policy import CommitTimer, ReplicationPolicy
from homeport.model.requests import STRICT

router = APIRouter(prefix="/v1", tags=["policies"])


@dataclass(frozen=True, kw_only=True, slots=True)
class PolicyChange:
    """What is to be different; the rest stays, or is as in a policy nobody has changed."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    rpo_target: timedelta | None = None
    interval: timedelta | None = None
    retention: timedelta | None = None
    keep_all: timedelta | None = None
    app_consistent_interval: timedelta | None = None
    unsent_retention: timedelta | None = None
    commit_timer: CommitTimer | None = None
    commit_after: timedelta | None = None

    def given(self) -> dict[str, Any]:
        """The fields that were set."""
        values = {field.name: getattr(self, field.name) for field in fields(PolicyChange)}
        return {name: value for name, value in values.items() if value is not None}


@dataclass(frozen=True, kw_only=True, slots=True)
class PolicyRequest(PolicyChange):
    """A new policy."""

    name: str


@router.get("/policies")
def list_policies(office: AnOffice) -> tuple[ReplicationPolicy, ...]:
    """All policies."""
    with office.look() as books:
        return books.policies()


@router.post("/policies", status_code=status.HTTP_201_CREATED)
def add_policy(asked: PolicyRequest, office: AnOffice) -> ReplicationPolicy:
    """A new policy."""
    policy = ReplicationPolicy(name=asked.name, **asked.given())
    with office.books() as books:
        if policy.name in {known.name for known in books.policies()}:
            raise RefusedError(
                f"There is a policy {policy.name} already.",
                code="PolicyExists",
                cause="Each policy has a name of its own.",
                remedy="Choose another name, or change the one that is there.",
            )
        books.save_policy(policy)
    return policy


@router.get("/policies/{name}")
def show_policy(name: str, office: AnOffice) -> ReplicationPolicy:
    """One policy."""
    check_name("policy", name)
    with office.look() as books:
        return books.policy(name)


@router.put("/policies/{name}")
def change_policy(name: str, asked: PolicyChange, office: AnOffice) -> ReplicationPolicy:
    """Make or change a policy; items using it follow it from then on."""
    check_name("policy", name)
    with office.books() as books:
        try:
            before = books.policy(name)
        except NotFoundError:
            before = ReplicationPolicy(name=name)
        kept = {f.name: getattr(before, f.name) for f in fields(ReplicationPolicy)}
        policy = ReplicationPolicy(**{**kept, **asked.given()})
        books.save_policy(policy)
    return policy
