"""Hook that gives each response the id of its request, counts it, and logs it if it is rejected, or always if enabled.

A line contains the route with the names of its parameters, such as `/users/{id}`. It contains no id of a record, no
parameter and no credential.
"""

from __future__ import annotations

import logging
from functools import lru_cache, partial
from time import perf_counter
from typing import TYPE_CHECKING, NamedTuple

from flask import Flask, Request, Response, g, request

from chalk_flask.api.access_log import START_TIME_KEY, route_template
from chalk_flask.api.auth.internal_requests import PRINCIPAL_KEY
from chalk_flask.logs import REQUEST_ID_HEADER, PreparedEvent, log_event, request_id_of
from chalk_flask.logs.events import LogValue
from chalk_flask.metrics import NO_ROUTE, RequestCounter, known_method

if TYPE_CHECKING:
    from chalk_flask.permissions.principal import Principal

__all__ = ["register"]

log = logging.getLogger(__name__)

REJECTED_STATUSES = (401, 403)

ENDED_CREDENTIAL = "the credential ended while the request waited for a change"


class _RequestInfo(NamedTuple):
    """Members of the log messages about a request. `started` is a time of `perf_counter`."""

    method: str
    route: str
    tenant: str | None
    way: str | None
    by: str | None
    request_id: str
    address: str | None
    started: float


def register(app: Flask, counter: RequestCounter | None, *, logs_requests: bool) -> None:
    """Add the hook to an application. It counts requests if there is a counter, and logs all with `logs_requests`."""
    app.after_request(partial(_complete, counter, logs_requests))


def _complete(counter: RequestCounter | None, logs_requests: bool, response: Response) -> Response:
    # Attribute access on the proxies `g` and `request` is slower.
    current: Request = request._get_current_object()  # type: ignore[attr-defined]  # Flask types it as a Request
    environ = current.environ
    response.headers.add(REQUEST_ID_HEADER, request_id_of(environ))
    if PRINCIPAL_KEY in environ:
        return response  # a page of the console is one request, although it reads more than once
    if response.is_streamed:
        _complete_at_end(counter, logs_requests, response, current)
        return response
    status = response.status_code
    if counter is not None:
        method, route = known_method(environ["REQUEST_METHOD"]), _route_of(current)
        counter.record(method, route, status, perf_counter() - environ[START_TIME_KEY])
    if logs_requests or status in REJECTED_STATUSES:
        _log_response(logs_requests, response, _info_of(current), g.get("rejection", ""))
    return response


def _complete_at_end(counter: RequestCounter | None, logs_requests: bool, response: Response, current: Request) -> None:
    """Count and log a streamed response at its end. The status of a response that waits is known only then."""
    info, rejection = _info_of(current), g.get("rejection", ENDED_CREDENTIAL)

    def complete() -> None:
        status = response.status_code
        if counter is not None:
            counter.record(info.method, info.route, status, perf_counter() - info.started, True)
        if logs_requests or status in REJECTED_STATUSES:
            _log_response(logs_requests, response, info, rejection)

    response.call_on_close(complete)


def _info_of(current: Request) -> _RequestInfo:
    environ = current.environ
    principal: Principal | None = g.get("principal")
    return _RequestInfo(
        known_method(environ["REQUEST_METHOD"]),
        _route_of(current),
        principal.tenant if principal else None,
        principal.credential_type if principal else None,
        principal.credential_id if principal else None,
        request_id_of(environ),
        current.remote_addr,
        environ[START_TIME_KEY],
    )


def _route_of(current: Request) -> str:
    rule = current.url_rule
    return route_template(rule.rule) if rule else NO_ROUTE


def _log_response(logs_requests: bool, response: Response, info: _RequestInfo, rejection: str) -> None:
    status = response.status_code
    if status in REJECTED_STATUSES:
        members = {name: value for name, value in info._asdict().items() if name != "started"}
        members |= {"status": status, "reason": rejection or response.status}
        log_event(log, logging.WARNING, "request.rejected", "a request was rejected", **members)
    if logs_requests:
        event = _completed_event(status, info.method, info.route, info.tenant, info.way, info.by)
        milliseconds = round((perf_counter() - info.started) * 1000, 1)
        length = response.headers.get("Content-Length")
        size = {} if length is None or info.method == "HEAD" else {"bytes": int(length)}
        event.log(request_id=info.request_id, ms=milliseconds, **size)


@lru_cache(maxsize=4096)
def _completed_event(
    status: int, method: str, route: str, tenant: str | None, way: str | None, by: str | None
) -> PreparedEvent:
    """Return the event of answered requests that have these members in common."""
    members: dict[str, LogValue] = {"status": status, "method": method, "route": route}
    members |= {"tenant": tenant, "way": way, "by": by}
    return PreparedEvent(log, logging.INFO, "request.completed", "a request was answered", **members)
