"""
The portal's pages: read-only, each made anew from the vault by the functions that the API uses.

It is an application of its own below the server's: errors leave it as pages, never as JSON.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import structlog
from fastapi import FastAPI, Request
from fastapi.responses import RedirectResponse, Response
from starlette.exceptions import HTTPException

from homeport.errors import HomeportError, NotFoundError, RefusedError, describe
from homeport.interfaces import told
from homeport.interfaces.job_reports import job_report
from homeport.interfaces.portal import tables
from homeport.interfaces.portal.drawing import page, sheet
from homeport.interfaces.reports import item_view, item_views, points_of
from homeport.interfaces.reviews import review_of
from homeport.interfaces.statuses import DATABASE_ERRORS, DatabaseAwayError, status_of
from homeport.model.reports import ItemView
from homeport.model.requests import ReprotectRequest
from homeport.orchestration import accept, unsent
from homeport.orchestration.books import Office

PATH = "/portal"
READS = ["GET", "HEAD"]
log = structlog.get_logger(__name__)

Values = Mapping[str, object]


def add_portal(app: FastAPI, office: Office) -> None:
    """Serve the portal below `/portal`, and lead who comes to `/` there."""
    app.mount(PATH, create_portal(office))
    app.add_api_route("/", _lead, methods=READS, include_in_schema=False)


def create_portal(office: Office) -> FastAPI:
    """The portal as an application."""
    portal = FastAPI(openapi_url=None, docs_url=None, redoc_url=None, redirect_slashes=False)
    pages = Pages(office)
    for path, endpoint in (
        ("/", pages.items),
        ("/items/{item}", pages.item),
        ("/items/{item}/review", pages.review),
        ("/portal.css", sheet),
    ):
        portal.add_api_route(path, endpoint, methods=READS, response_class=Response)
    portal.add_exception_handler(HTTPException, _on_http)
    return portal


@dataclass(frozen=True, slots=True)
class Pages:
    """The pages of one office."""

    office: Office

    def items(self, request: Request) -> Response:
        """All items, and what is wrong with them."""
        return _shown(request, "items.html", self._items)

    def item(self, request: Request, item: str) -> Response:
        """One item with everything known of it."""
        return _shown(request, "item.html", lambda: self._item(item))

    def review(self, request: Request, item: str) -> Response:
        """What a reprotect of everything would do; both sides are asked, nothing is changed."""
        return _shown(request, "review.html", lambda: self._review(item))

    def _items(self) -> Values:
        with self.office.look() as books:
            # Those that the API's list forgets as it is asked are left out: a page forgets nothing.
            ended = accept.swept(books)
            views = tuple(view for view in item_views(books) if view.id not in ended)
            now = books.now()
        return {
            "now": now,
            "views": views,
            "table": tables.items(views, now),
            "nothing": told.NO_ITEMS,
        }

    def _item(self, key: str) -> Values:
        with self.office.look() as books:
            row = accept.find(books, key)
            now, view = books.now(), item_view(books, row)
            points = points_of(books, row)
            images = unsent.images(books, row)
            jobs = tuple(job_report(job) for job in books.jobs(item=row.item.id))
        return {
            **_head(view),
            "now": now,
            "facts": told.item_facts(view, now),
            "commands": told.commands(view),
            "nothing": told.NOTHING_ALLOWED,
            "points": tables.points(points, now),
            "no_points": told.NO_POINTS,
            "unsent": tables.unsent(images, now),
            "receipt": told.receipt_facts(view.receipt) if view.receipt else (),
            "resyncs": tables.resyncs(view.resyncs),
            "jobs": tables.jobs(jobs, now),
        }

    def _review(self, key: str) -> Values:
        with self.office.look() as books:
            view, now = item_view(books, accept.find(books, key)), books.now()
        made = review_of(self.office, key, ReprotectRequest())
        return {
            **_head(view),
            "now": now,
            "made": made,
            "settings": told.setting_facts(made),
            "resync": told.resync_facts(made),
            "verdict": told.verdict(made),
        }


def _head(view: ItemView) -> dict[str, object]:
    """What the pages of an item have in common."""
    return {
        "view": view,
        "health": told.protection(view),
        "alarming": told.is_alarming(view),
        "warning": told.failback_warning(view),
    }


def _shown(request: Request, template: str, read: Callable[[], Values]) -> Response:
    """A page, or the page that says why there is none."""
    try:
        return page(request, template, read())
    except HomeportError as error:
        return _refused(request, status_of(error), error.as_dict())
    except DATABASE_ERRORS as error:
        log.warning("the database does not answer", error=str(error))
        return _refused(request, 503, DatabaseAwayError().as_dict())
    except Exception as error:
        log.exception("a page failed", path=request.url.path, exc_info=error)
        return _refused(request, 500, describe(error))


def _refused(
    request: Request,
    status: int,
    problem: Mapping[str, str],
    headers: Mapping[str, str] | None = None,
) -> Response:
    values = {"problem": problem, "status": status}
    return page(request, "problem.html", values, status=status, headers=headers)


async def _on_http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    told_of = f"{request.method} {request.url.path}: {error.detail}."
    refused: RefusedError
    if error.status_code == 404:
        refused = NotFoundError(
            told_of, cause="The portal has no such page.", remedy="Begin at the list of items."
        )
    else:
        refused = RefusedError(
            told_of,
            code="InvalidRequest",
            cause="The portal shows, and changes nothing.",
            remedy="Use the command line (homeport --help) or the API (/docs).",
        )
    return _refused(request, error.status_code, refused.as_dict(), error.headers)


async def _lead(request: Request) -> Response:
    return RedirectResponse(f"{request.scope.get('root_path', '')}{PATH}/", status_code=307)
