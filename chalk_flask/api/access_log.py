"""Each read is taken down when it was answered, as a line that another thread writes."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import lru_cache, partial
from time import perf_counter, time
from typing import TYPE_CHECKING
from urllib.parse import parse_qs

import orjson
from flask import Flask, Request, Response, g, request

from chalk_flask.api.routes import ROOTS
from chalk_flask.audit.access_log import AccessLog
from chalk_flask.permissions.principal import Principal

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

__all__ = ["register"]

STARTED = "chalk_flask.started"

_PAGES = {root.path: root.limit for root in ROOTS}


def register(app: Flask, reads: AccessLog) -> None:
    """Take down every request that was let in, once `reads` has begun. Those that were not are in no line."""
    app.after_request(partial(_note, reads))
    # The assignment that Flask's own documentation shows for middleware.
    app.wsgi_app = _StartTimeMiddleware(app.wsgi_app)  # type: ignore[method-assign]  # see above


class _StartTimeMiddleware:
    """WSGI middleware that says when a request came."""

    def __init__(self, app: WSGIApplication) -> None:
        self.app = app

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        environ[STARTED] = perf_counter()
        return self.app(environ, start_response)


def _note(reads: AccessLog, response: Response) -> Response:
    grant = g.get("grant") if reads.on else None
    if grant is None:
        return response
    now: Request = request._get_current_object()  # type: ignore[attr-defined]  # Flask types it as a Request
    environ, rule = now.environ, now.url_rule
    started = environ[STARTED]
    known = (grant, environ["REQUEST_METHOD"], rule.rule if rule else "", environ["QUERY_STRING"], response)
    if response.is_streamed:
        sent = _CountingIterator(response.iter_encoded())
        response.response = sent
        response.call_on_close(lambda: reads.record(time(), _members(*known, perf_counter() - started, sent.bytes)))
    else:
        reads.record(time(), _members(*known, perf_counter() - started, None))
    return response


class _CountingIterator:
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


def _members(
    grant: Principal, method: str, rule: str, query: str, response: Response, seconds: float, sent: int | None
) -> str:
    """What a line says, but for the moment."""
    status = response.status_code
    said = {name: value for name, value in response.headers}  # noqa: C416 - a dict of it would look up name after name
    length = 0 if method == "HEAD" else int(said.get("Content-Length") or 0) if sent is None else sent
    rows = _rows(rule, query, said) if status == 200 and method != "HEAD" else 0
    who = _who(grant.tenant, grant.credential_type, grant.credential_id, method, rule, status)
    return f'{who},"rows":{rows},"bytes":{length},"ms":{seconds * 1000:.3f}'


@lru_cache(maxsize=4096)
def _who(tenant: str, way: str, by: str, method: str, rule: str, status: int) -> str:
    """The members that many lines share."""
    shared = {"tenant": tenant, "event": "read", "way": way, "by": by, "method": method, "route": _template(rule)}
    return orjson.dumps({**shared, "status": status}).decode()[1:-1]


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
