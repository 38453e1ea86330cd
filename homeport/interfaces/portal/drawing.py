"""
Pages from templates: text is escaped whatever it holds, and every answer carries the same headers.

Names and messages come from users, guests and other machines. They are values of a template and
never part of one, and the browser is told to run nothing and to load nothing but our own sheet.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from importlib.resources import files

from fastapi import Request
from fastapi.responses import HTMLResponse, Response
from jinja2 import Environment, PackageLoader, StrictUndefined

from homeport.interfaces.words import PROBLEM, listed, moment, size

HEADERS: Mapping[str, str] = {
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; img-src data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",  # a page of an hour ago would tell of a machine that is no more
}
"""`img-src data:` is for the empty icon in the head, without which browsers ask for one."""
PACKAGE = "homeport.interfaces.portal"
SHEET = files(PACKAGE).joinpath("portal.css").read_text(encoding="utf-8")


def page(
    request: Request,
    template: str,
    values: Mapping[str, object],
    *,
    status: int = 200,
    headers: Mapping[str, str] | None = None,
) -> Response:
    """A page from `template`; its links hold below any prefix that the portal is served under."""
    base = request.scope.get("root_path", "")
    body = TEMPLATES.get_template(template).render(base=base, **values)
    return HTMLResponse(body, status_code=status, headers={**HEADERS, **(headers or {})})


def sheet() -> Response:
    """The one style sheet."""
    return Response(SHEET, media_type="text/css", headers=dict(HEADERS))


def iso(at: datetime) -> str:
    """A moment for machines, in UTC to the second."""
    return at.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def _templates() -> Environment:
    found = Environment(
        loader=PackageLoader(PACKAGE),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    found.filters.update({"iso": iso, "moment": moment, "size": size, "listed": listed})
    found.globals["PROBLEM"] = PROBLEM
    return found


TEMPLATES = _templates()
