"""
The S3 server of the tests: moto, with create-only puts one after another.

moto looks whether a key is free and sets it in two steps, in a thread for each request: of many who
create a key at once, two may win. S3 promises one (its documentation, "conditional writes").
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from threading import Lock
from typing import TYPE_CHECKING

from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from moto.server import MotoRequestHandler
from werkzeug.serving import run_simple

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment


def one_creates_at_a_time(app: WSGIApplication) -> WSGIApplication:
    """The application, with the requests that are on condition of a free key in turn."""
    creating = Lock()

    def in_turn(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        if "HTTP_IF_NONE_MATCH" not in environ or environ["REQUEST_METHOD"] != "PUT":
            return app(environ, start_response)
        with creating:
            return app(environ, start_response)

    return in_turn


def main() -> None:
    """Serve on loopback, on the port of the first argument, until killed."""
    app = one_creates_at_a_time(DomainDispatcherApplication(create_backend_app))
    run_simple(
        "127.0.0.1", int(sys.argv[1]), app, threaded=True, request_handler=MotoRequestHandler
    )


if __name__ == "__main__":
    main()
