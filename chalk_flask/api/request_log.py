"""Hook that gives each response the id of its request, counts it, and logs it if it is rejected, or always if enabled.

A line contains the route with the names of its parameters, such as `/users/{id}`. It contains no id of a record, no
parameter and no credential.
"""

from __future__ import annotations

import logging
from functools import partial
from time import perf_counter
from typing import TYPE_CHECKING, Any

from flask import Flask, Request, Response, g, request

from chalk_flask.api.access_log import START_TIME_KEY, route_template
from chalk_flask.api.auth.internal_requests import PRINCIPAL_KEY
from chalk_flask.logs import REQUEST_ID_HEADER, log_event, request_id_of
from chalk_flask.metrics import NO_ROUTE, ServiceMetrics, known_method

if TYPE_CHECKING:
    from chalk_flask.permissions.principal import Principal

__all__ = ["register"]

log = logging.getLogger(__name__)

REJECTED_STATUSES = (401, 403)

ENDED_CREDENTIAL = "the credential ended while the request waited for a change"


def register(app: Flask, metrics: ServiceMetrics, *, logs_requests: bool) -> None:
    """Add the hook to an application. With `logs_requests`, every request is logged."""
    app.after_request(partial(_complete, metrics, logs_requests))


def _complete(metrics: ServiceMetrics, logs_requests: bool, response: Response) -> Response:
    # Attribute access on the proxies `g` and `request` is slower.
    current: Request = request._get_current_object()  # type: ignore[attr-defined]  # Flask types it as a Request
    environ, rule = current.environ, current.url_rule
    response.headers.add(REQUEST_ID_HEADER, request_id_of(environ))
    if PRINCIPAL_KEY in environ:
        return response  # a page of the console is one request, although it reads more than once
    if response.is_streamed:
        _complete_at_end(metrics, logs_requests, response, current)
        return response
    method = known_method(environ["REQUEST_METHOD"])
    route = route_template(rule.rule) if rule else NO_ROUTE
    status = response.status_code
    metrics.requests.record(method, route, status, perf_counter() - environ[START_TIME_KEY])
    if logs_requests or status in REJECTED_STATUSES:
        _log_response(logs_requests, response, _members(current), g.get("rejection", ""))
    return response


def _complete_at_end(metrics: ServiceMetrics, logs_requests: bool, response: Response, current: Request) -> None:
    """Count and log a streamed response at its end. The status of a response that waits is known only then."""
    members, rejection = _members(current), g.get("rejection", ENDED_CREDENTIAL)

    def complete() -> None:
        status, seconds = response.status_code, perf_counter() - members["started"]
        metrics.requests.record(members["method"], members["route"], status, seconds, True)
        if logs_requests or status in REJECTED_STATUSES:
            _log_response(logs_requests, response, members, rejection)

    response.call_on_close(complete)


def _members(current: Request) -> dict[str, Any]:
    """Return the members of each event about a request. `started` is a time of `perf_counter`."""
    environ, rule = current.environ, current.url_rule
    principal: Principal | None = g.get("principal")
    return {
        "method": known_method(environ["REQUEST_METHOD"]),
        "route": route_template(rule.rule) if rule else NO_ROUTE,
        "tenant": principal.tenant if principal else None,
        "way": principal.credential_type if principal else None,
        "by": principal.credential_id if principal else None,
        "request_id": request_id_of(environ),
        "address": current.remote_addr,
        "started": environ[START_TIME_KEY],
    }


def _log_response(logs_requests: bool, response: Response, members: dict[str, Any], rejection: str) -> None:
    address, started, status = members.pop("address"), members.pop("started"), response.status_code
    members = {"status": status, **members}
    if status in REJECTED_STATUSES:
        details = {"reason": rejection or response.status, "address": address}
        log_event(log, logging.WARNING, "request.rejected", "a request was rejected", **members, **details)
    if logs_requests:
        milliseconds = round((perf_counter() - started) * 1000, 1)
        length = response.headers.get("Content-Length", type=int)
        details = {"ms": milliseconds, "bytes": length}
        log_event(log, logging.INFO, "request.completed", "a request was answered", **members, **details)
