"""The routers of people's API, in the order of its documentation."""

from __future__ import annotations

from collections.abc import Sequence

from fastapi import APIRouter

from homeport.interfaces.api import items, jobs, policies, resources, sites, unsent, vms

ROUTERS: Sequence[APIRouter] = (
    sites.router,
    resources.router,
    vms.router,
    policies.router,
    items.router,
    unsent.router,
    jobs.router,
)
