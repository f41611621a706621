"""Each read is taken down when it was answered: a few values kept on the path, the rest worked out off it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import lru_cache, partial
from time import perf_counter, time
from typing import TYPE_CHECKING
from urllib.parse import parse_qs

from flask import Flask, Request, Response, g, request
from werkzeug.datastructures import Headers

from chalk_flask.access import Grant
from chalk_flask.access.read_log import ReadLog
from chalk_flask.api.routes import ROOTS

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

__all__ = ["record"]

STARTED = "chalk_flask.started"

_PAGES = {root.path: root.limit for root in ROOTS}


def record(app: Flask, reads: ReadLog) -> None:
    """Take down every request that was let in, once `reads` has begun. Those that were not are in no line."""
    app.after_request(partial(_note, reads))
    # The assignment that Flask's own documentation shows for middleware.
    app.wsgi_app = _Started(app.wsgi_app)  # type: ignore[method-assign]  # see above


class _Started:
    """WSGI middleware that says when a request came."""

    def __init__(self, app: WSGIApplication) -> None:
        self.app = app

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        environ[STARTED] = perf_counter()
        return self.app(environ, start_response)


def _note(reads: ReadLog, response: Response) -> Response:
    if not reads.on:
        return response
    grant = g.get("grant")
    if grant is None:
        return response
    now: Request = request._get_current_object()  # type: ignore[attr-defined]  # Flask types it as a Request
    environ = now.environ
    method, query, rule, status = environ["REQUEST_METHOD"], environ["QUERY_STRING"], now.url_rule, response.status_code
    known = (grant, method, rule.rule if rule else "", query, status, response.headers)
    started = environ[STARTED]
    if response.is_streamed:
        sent = _Counted(response.iter_encoded())
        response.response = sent
        response.call_on_close(lambda: reads.note(time(), _line, *known, perf_counter() - started, sent.bytes))
    else:
        reads.note(time(), _line, *known, perf_counter() - started, None)
    return response


class _Counted:
    """A stream that knows how many bytes went through."""

    def __init__(self, blocks: Iterable[bytes]) -> None:
        self._blocks = blocks
        self.bytes = 0

    def __iter__(self) -> Iterator[bytes]:
        for block in self._blocks:
            self.bytes += len(block)
            yield block

    def close(self) -> None:
        """Close what is below, if it can be."""
        close: Callable[[], None] | None = getattr(self._blocks, "close", None)
        if close:
            close()


def _line(
    grant: Grant, method: str, rule: str, query: str, status: int, headers: Headers, seconds: float, sent: int | None
) -> dict[str, object]:
    answered = method != "HEAD" and status == 200
    said = dict(headers)  # looked through once, not once a name
    length = int(said.get("Content-Length") or 0) if sent is None else sent
    return {
        "tenant": grant.tenant,
        "event": "read",
        "way": grant.way,
        "by": grant.id,
        "method": method,
        "route": _template(rule),
        "status": status,
        "rows": _rows(rule, query, said) if answered else 0,
        "bytes": 0 if method == "HEAD" else length,
        "ms": round(seconds * 1000, 3),
    }


@lru_cache(maxsize=512)
def _template(rule: str) -> str:
    """The rule as the table of routes has it: {id}, not <id:id>."""
    return re.sub(r"<(?:[^<>:]+:)?(\w+)>", r"{\1}", rule)


def _rows(rule: str, query: str, said: Mapping[str, str]) -> int:
    """How many objects a page has: for one that is still on its way, how many were asked for."""
    total = int(said.get("X-Total-Count", 0))
    if "X-Count" not in said:
        return total  # a single object
    limit, offset = _page(rule, query)
    left = max(total - offset, 0)
    return min(limit, left) if limit else left


@lru_cache(maxsize=1024)
def _page(rule: str, query: str) -> tuple[int, int]:
    """Limit (0: none) and offset of a query that was answered."""
    asked = parse_qs(query)
    page = next((size for path, size in _PAGES.items() if rule.startswith(path)), 0)
    limit = int(asked["limit"][0]) if "limit" in asked else page
    return limit, int(asked["offset"][0]) if "offset" in asked else 0
