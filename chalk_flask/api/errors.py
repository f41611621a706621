"""Error responses in a single format, for clients of Chalk and of OneRoster (docs/conformance, A-01)."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, TypeAlias

import msgspec
import orjson
from flask import Flask, Response, g, request
from werkzeug.exceptions import HTTPException
from werkzeug.wrappers import Response as WerkzeugResponse

from backends import DamagedStoreError, QueryTimeoutError, StorageBusyError, StorageUnavailableError
from chalk_flask.auth.secrets.key_file import KeyFileError
from chalk_flask.server.loop_requests import require_thread
from chalk_flask.tracebacks import error_location

__all__ = [
    "RETRY_AFTER_SECONDS",
    "STORAGE_ERRORS",
    "ApiError",
    "error_response",
    "error_response_to",
    "error_type_of",
    "register",
    "status_entry",
]

log = logging.getLogger(__name__)

RETRY_AFTER_SECONDS = 5
"""Value of the Retry-After header while the service is busy, or its store is not available."""

STORAGE_ERRORS = (StorageUnavailableError, KeyFileError)
"""Errors of the disk and of files of the service. Their messages contain the reason and no personal data."""

STORAGE_MESSAGE = "The storage of the service is not available. Try again later; the log of the server has the reason."

MAX_LOGGED_FRAMES = 6
"""Maximum number of innermost frames that the log shows of an error."""

ErrorHandler: TypeAlias = Callable[[Any], Response | WerkzeugResponse]

_RETRY_HEADERS = [("Retry-After", str(RETRY_AFTER_SECONDS))]

_TIMEOUT_ADVICE = {"filter": "compare with fewer values in filter", "sort": "leave out sort"}
"""Ways to narrow a query that took too long, by the parameter that made it expensive."""

_GENERAL_ADVICE = "request fewer records"


class ErrorType(NamedTuple):
    """Default error texts of an HTTP status: `error` for Chalk clients, `code_minor` for OneRoster clients."""

    error: str
    code_minor: str
    message: str


ERROR_TYPES = {
    400: ErrorType("invalid_data", "invalid data", "The request is malformed."),
    401: ErrorType(
        "invalid_token",
        "unauthorized",
        "The bearer token is missing, invalid, expired or revoked. Send the header Authorization: Bearer TOKEN.",
    ),
    403: ErrorType("forbidden", "forbidden", "The bearer token does not have the required scope."),
    404: ErrorType(
        "unknown_object",
        "unknown object",
        "Unknown path. The paths of OneRoster begin with /ims/oneroster/v1p1/ or /api/oneroster/v1p1/.",
    ),
    405: ErrorType(
        "invalid_data", "invalid data", "This method is not allowed here. The Allow header lists the allowed methods."
    ),
    409: ErrorType("conflict", "invalid data", "The state of the object does not permit this request."),
    410: ErrorType("gone", "unknown object", "The requested data is no longer available."),
    429: ErrorType("server_busy", "server_busy", "Too many requests. Try again later."),
    500: ErrorType("server_error", "internal_server_error", "The server failed. Its log has the details."),
    503: ErrorType("server_busy", "server_busy", "The server is busy. Try again later."),
}


class ApiError(HTTPException):
    """Exception that becomes an error response. `code_minor` replaces the default codeMinor of the status.

    `retry_after` is the number of seconds in the header Retry-After; None omits it. `challenge` is the value of the
    header WWW-Authenticate, which the statuses 401 and 403 have; an empty text omits it.
    """

    def __init__(
        self,
        status: int,
        message: str = "",
        code_minor: str = "",
        retry_after: int | None = None,
        challenge: str = "",
    ) -> None:
        super().__init__(message or None)
        self.code = status
        self.code_minor = code_minor
        self.retry_after = retry_after
        self.challenge = challenge


def register(app: Flask) -> None:
    """Render every error of the application, on any path, in the error format of the API."""
    for kind, handler in _HANDLERS.items():
        app.register_error_handler(kind, handler if kind is HTTPException else _in_thread(handler))
    app.after_request(_forbid_sniffing)


def _in_thread(handler: ErrorHandler) -> ErrorHandler:
    """Return a handler that raises ThreadRequired in the server loop, because the request may succeed in a thread."""

    def handle(error: Any) -> Response | WerkzeugResponse:
        require_thread(request.environ)
        return handler(error)

    return handle


def error_response_to(error: Exception) -> Response | WerkzeugResponse:
    """Return the error response to an exception, and log it if the response does not say everything."""
    handler = next(_HANDLERS[kind] for kind in type(error).__mro__ if kind in _HANDLERS)
    return handler(error)


def error_type_of(status: int) -> ErrorType:
    """Return the default error texts of an HTTP status; those of 400 or 500 for a status without its own."""
    return ERROR_TYPES.get(status) or ERROR_TYPES[400 if status < 500 else 500]


def error_response(
    status: int,
    message: str = "",
    code_minor: str = "",
    headers: list[tuple[str, str]] | None = None,
    reference: str = "",
) -> Response:
    """Return the error response for an HTTP status.

    Message and codeMinor default to those of the status. `reference` is the id by which a log entry names this
    response. It defaults to a new UUID.
    """
    error_type = error_type_of(status)
    error = code_minor if code_minor.startswith("invalid_") else error_type.error
    message = message or error_type.message
    entry = {
        **status_entry("failure", "error", message, code_minor or error_type.code_minor),
        "imsx_messageRefIdentifier": reference or str(uuid.uuid4()),
    }
    body = orjson.dumps({"error": error, "message": message, "statusInfoSet": [entry]})
    common = [("Content-Type", "application/json"), ("Cache-Control", "no-store")]
    return Response(body, status, headers=[*common, *(headers or ())])


def status_entry(code_major: str, severity: str, description: str, code_minor: str) -> dict[str, str]:
    """Return an entry of a statusInfoSet about the current operation (docs/conformance, A-01)."""
    operation = (request.endpoint or "").partition(".")[2]
    return {
        "imsx_codeMajor": code_major,
        "imsx_severity": severity,
        **({"imsx_operationRefIdentifier": operation} if operation else {}),
        "imsx_description": description,
        "imsx_codeMinor": code_minor,
    }


def _on_http_error(error: HTTPException) -> Response | WerkzeugResponse:
    status = error.code or 500
    if status < 400:
        return error.get_response()
    if status in (401, 403):
        require_thread(request.environ)  # writing to the log may wait
        g.setdefault("rejection", error.description or "")
    if isinstance(error, ApiError):
        return error_response(status, error.description or "", error.code_minor, _headers_of(error))
    # Errors of Werkzeug itself keep their headers, but not their HTML and texts.
    headers = [(name, value) for name, value in error.get_headers() if name in ("Allow", "Retry-After")]
    return error_response(status, headers=headers)


def _headers_of(error: ApiError) -> list[tuple[str, str]]:
    values = {
        "Retry-After": "" if error.retry_after is None else str(error.retry_after),
        "WWW-Authenticate": error.challenge,
    }
    return [(name, value) for name, value in values.items() if value]


def _on_busy_store(error: StorageBusyError) -> Response:
    log.warning("The store is busy: %s", type(error).__name__)
    return error_response(503, headers=_RETRY_HEADERS)


def _on_query_timeout(_: QueryTimeoutError) -> Response:
    log.warning("A query of %s took longer than query_milliseconds", request.endpoint)
    return error_response(503, _timeout_message(request.args), headers=_RETRY_HEADERS)


def _timeout_message(params: Mapping[str, str]) -> str:
    """Return the message about a query that took too long, with what to narrow (docs/conformance, Q-31)."""
    advice = [text for name, text in _TIMEOUT_ADVICE.items() if params.get(name, "").strip()]
    return f"The query took too long. {' and '.join(advice or [_GENERAL_ADVICE]).capitalize()}, or try again later."


def _on_storage_failure(error: Exception) -> Response:
    reference = str(uuid.uuid4())
    log.error("%s failed (%s): %s", request.endpoint or "a request", reference, error)
    return error_response(503, STORAGE_MESSAGE, headers=_RETRY_HEADERS, reference=reference)


def _on_invalid_record(_: Exception) -> Response:
    # Bodies of requests are parsed elsewhere, with an error of their own.
    return _on_storage_failure(DamagedStoreError("a record of the store is not valid JSON: run `chalk-flask check`"))


def _forbid_sniffing(response: Response) -> Response:
    """Add the header with which browsers never treat a response as another type than it declares."""
    response.headers.add("X-Content-Type-Options", "nosniff")
    return response


def _on_failure(error: Exception) -> Response:
    # Only types and locations are logged: error messages may quote personal data.
    causes = [error, *(cause for cause in (error.__cause__,) if cause)]
    locations = [error_location(cause, MAX_LOGGED_FRAMES) for cause in causes]
    reference = str(uuid.uuid4())
    log.error("%s failed (%s): %s", request.endpoint or "a request", reference, "; caused by ".join(locations))
    return error_response(500, reference=reference)


_HANDLERS: Mapping[type[Exception], ErrorHandler] = {
    HTTPException: _on_http_error,
    StorageBusyError: _on_busy_store,
    QueryTimeoutError: _on_query_timeout,
    **dict.fromkeys(STORAGE_ERRORS, _on_storage_failure),
    **dict.fromkeys((orjson.JSONDecodeError, msgspec.DecodeError), _on_invalid_record),
    Exception: _on_failure,
}
"""Function that returns the response to each kind of exception. The nearest base class decides."""
