"""
What an assignment of the server means for an item's ledger: pure, acted on by the agent's process.
"""

from __future__ import annotations

from typing import Any

from homeport.agent.confirming import OWNS
from homeport.model.item import Role
from homeport.model.ledger import ItemLedger
from homeport.model.messages import Assignment

REFRESHED = ("policy", "cache", "epoch")
"""What of an assignment goes into the ledger of a side that replicates."""


def loses(ledger: ItemLedger, assignment: Assignment) -> bool:
    """Whether the other side owns the machine now, and this one does not know it."""
    newer = assignment.epoch > ledger.epoch
    return assignment.role is Role.FENCED and ledger.role in OWNS and newer


def news(ledger: ItemLedger, assignment: Assignment) -> dict[str, Any]:
    """
    What the ledger is to have otherwise, by field; nothing where the assignment is not for it.

    A fenced or booted side keeps the store of the direction that ended: it empties it later.
    """
    replicates = ledger.role in {Role.SOURCE, Role.TARGET} and assignment.role is ledger.role
    if not replicates or assignment.epoch < ledger.epoch:
        return {}
    wanted = {name: getattr(assignment, name) for name in REFRESHED}
    return {name: one for name, one in wanted.items() if one != getattr(ledger, name)}
