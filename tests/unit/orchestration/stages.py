"""An item brought to each stage of its life, for tests that begin there."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from homeport.model.requests import (
    DisableRequest,
    FailoverRequest,
    ProtectRequest,
    ReprotectRequest,
    TestFailoverRequest,
)
from homeport.orchestration import accept
from homeport.orchestration.books import Books
from homeport.orchestration.ports import Job, JobState
from tests.unit.orchestration.scripted import Deck

Request = Callable[[Books], Job]


def protect(**asked: Any) -> Request:
    request = {"vm": "shop", "source_site": "east", "target_site": "west", **asked}
    return lambda books: accept.protect(books, ProtectRequest(**request))


def failover(**asked: Any) -> Request:
    return lambda books: accept.failover(books, "shop", FailoverRequest(**asked))


def undo() -> Request:
    return lambda books: accept.undo(books, "shop")


def commit() -> Request:
    return lambda books: accept.commit(books, "shop")


def reprotect(**asked: Any) -> Request:
    return lambda books: accept.reprotect(books, "shop", ReprotectRequest(**asked))


def drill(**asked: Any) -> Request:
    return lambda books: accept.test_failover(books, "shop", TestFailoverRequest(**asked))


def clean_up() -> Request:
    return lambda books: accept.test_cleanup(books, "shop")


def disable(**asked: Any) -> Request:
    return lambda books: accept.disable(books, "shop", DisableRequest(**asked))


def done(deck: Deck, *requests: Request) -> Job:
    """Do all of them; each must succeed."""
    job = None
    for request in requests:
        job = deck.do(request)
        assert job.state is JobState.SUCCEEDED, (job.kind, job.error)
    assert job is not None
    return job


def item_of(deck: Deck) -> Any:
    with deck.catalog.read() as rows:
        return rows.find_item("shop").item


def copies(deck: Deck) -> tuple[Any, Any]:
    """What east and west hold of the item."""
    item = item_of(deck).id
    return deck.east.copies.get(item), deck.west.copies.get(item)


PROTECTED = (protect(),)
PENDING = (protect(), failover())
COMMITTED = (protect(), failover(), commit())
HOME_PENDING = (*COMMITTED, reprotect(), failover(planned=True))
