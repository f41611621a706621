"""Hook that records each authenticated request in the access log, after its response was sent."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache, partial
from time import perf_counter, time
from typing import TYPE_CHECKING

import orjson
from flask import Flask, Request, Response, g, request

from chalk_flask.audit.access_log import AccessLog
from chalk_flask.permissions.principal import Principal

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

__all__ = ["START_TIME_KEY", "register", "route_template"]

START_TIME_KEY = "chalk_flask.started"


def register(app: Flask, access_log: AccessLog) -> None:
    """Record every authenticated request of the application while `access_log` is enabled.

    Requests that fail authentication are not recorded.
    """
    app.after_request(partial(_record, access_log))
    # Flask's documentation adds middleware by this assignment.
    app.wsgi_app = _StartTimeMiddleware(app.wsgi_app)  # type: ignore[method-assign]  # see above


class _StartTimeMiddleware:
    """WSGI middleware that stores the start time of each request in its environment."""

    def __init__(self, app: WSGIApplication) -> None:
        self.app = app

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        environ[START_TIME_KEY] = perf_counter()
        return self.app(environ, start_response)


def _record(access_log: AccessLog, response: Response) -> Response:
    # Attribute access on the proxies `g` and `request` is slower.
    principal = g._get_current_object().get("principal") if access_log.is_enabled else None
    if principal is None:
        return response
    current: Request = request._get_current_object()  # type: ignore[attr-defined]  # Flask types it as a Request
    environ, rule = current.environ, current.url_rule
    started = environ[START_TIME_KEY]
    common = (principal, environ["REQUEST_METHOD"], rule.rule if rule else "", response)
    if response.is_streamed:
        stream = _CountingIterator(response.iter_encoded())
        response.response = stream
        response.call_on_close(
            lambda: access_log.record(time(), _members(*common, perf_counter() - started, stream.byte_count))
        )
    else:
        access_log.record(time(), _members(*common, perf_counter() - started, None))
    return response


class _CountingIterator:
    """Iterator over the blocks of a stream that counts their bytes."""

    def __init__(self, blocks: Iterable[bytes]) -> None:
        self._blocks = blocks
        self.byte_count = 0

    def __iter__(self) -> Iterator[bytes]:
        for block in self._blocks:
            self.byte_count += len(block)
            yield block

    def close(self) -> None:
        """Close the underlying stream if it has a `close` method."""
        close: Callable[[], None] | None = getattr(self._blocks, "close", None)
        if close:
            close()


def _members(
    principal: Principal, method: str, rule: str, response: Response, seconds: float, streamed: int | None
) -> str:
    """Return the JSON members of an entry, without its time. `streamed` is the byte count of a stream."""
    status = response.status_code
    headers = {name: value for name, value in response.headers}  # noqa: C416 - dict() would look up name after name
    if streamed is None:
        byte_count = 0 if method == "HEAD" else int(headers.get("Content-Length") or 0)
    else:
        byte_count = 0 if method == "HEAD" else streamed
    rows = headers.get("X-Count", "0") if status == 200 and method != "HEAD" else "0"
    shared = _shared_members(principal.tenant, principal.credential_type, principal.credential_id, method, rule, status)
    return f'{shared},"rows":{rows},"bytes":{byte_count},"ms":{seconds * 1000:.3f}'


@lru_cache(maxsize=4096)
def _shared_members(tenant: str, credential_type: str, credential_id: str, method: str, rule: str, status: int) -> str:
    """Return the JSON members that many entries share, without the braces."""
    members = {
        "tenant": tenant,
        "event": "read",
        "way": credential_type,
        "by": credential_id,
        "method": method,
        "route": route_template(rule),
        "status": status,
    }
    return orjson.dumps(members).decode()[1:-1]


@lru_cache(maxsize=1024)
def route_template(rule: str) -> str:
    """Return a URL rule in the form of the route table: `{id}` instead of `<id:id>`."""
    return re.sub(r"<(?:[^<>:]+:)?(\w+)>", r"{\1}", rule)
