"""Response of a request that waits for something: it occupies no thread if the server supports that."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from flask import Response, current_app
from flask.globals import request_ctx
from werkzeug.wsgi import ClosingIterator

from chalk_flask.server.parked_response import WAITS_WITHOUT_THREAD

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIEnvironment

__all__ = ["WaitingResponse"]

POLL_INTERVAL_SECONDS = 0.1
"""Interval of the attempts on servers that cannot wait without a thread."""


class WaitingResponse(Response):
    """Response that is the first one which `attempts` yields; None means that it is not there yet.

    Status and headers are known only then. An error of an attempt becomes an error response.
    """

    def __init__(self, attempts: Iterator[Response | None]) -> None:
        super().__init__(self._blocks(attempts))
        self._context = request_ctx._get_current_object().copy()  # type: ignore[attr-defined]  # a proxy
        self._start_response: StartResponse | None = None
        self._can_park = False

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Return the blocks; `start_response` is called before the first one that is not empty (PEP 3333)."""
        self._start_response = start_response
        self._can_park = WAITS_WITHOUT_THREAD in environ
        return ClosingIterator(self.response, [self.close])  # type: ignore[arg-type]  # bytes, as _blocks yields

    def _blocks(self, attempts: Iterator[Response | None]) -> Iterator[bytes]:
        while (response := self._attempt(attempts)) is None:
            if self._can_park:
                yield b""
            else:
                time.sleep(POLL_INTERVAL_SECONDS)
        body = response.get_data()
        self.status = response.status
        for name, value in response.headers:
            self.headers[name] = value
        self.headers["Content-Length"] = str(len(body))
        assert self._start_response is not None
        self._start_response(self.status, self.headers.to_wsgi_list())
        yield body

    def _attempt(self, attempts: Iterator[Response | None]) -> Response | None:
        try:
            return next(attempts)
        except Exception as error:  # noqa: BLE001 - rendered by the error handlers, as errors of views are
            with self._context:
                return current_app.make_response(current_app.handle_user_exception(error))
