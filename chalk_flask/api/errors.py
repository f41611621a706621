"""Errors in the one body that Chalk clients and OneRoster clients each understand (design section 5, digest 5)."""

from __future__ import annotations

import logging
import traceback
import uuid
from typing import NamedTuple

import orjson
from flask import Flask, Response, request
from werkzeug.exceptions import HTTPException
from werkzeug.wrappers import Response as WerkzeugResponse

from backends import StorageBusyError

__all__ = ["ApiError", "error_response", "register", "status_entry"]

log = logging.getLogger(__name__)

RETRY_AFTER_SECONDS = "5"
"""Seconds after which a client may try again when the store was busy."""


class ErrorType(NamedTuple):
    """What an HTTP status says: `error` to a Chalk client, `minor` (codeMinor) to a OneRoster client."""

    error: str
    minor: str
    message: str


ERROR_TYPES = {
    400: ErrorType("invalid_data", "invalid data", "The request is malformed."),
    401: ErrorType("invalid_token", "unauthorized", "The bearer token is missing or invalid."),
    403: ErrorType("forbidden", "forbidden", "The bearer token does not carry the scope that this needs."),
    404: ErrorType("unknown_object", "unknown object", "There is nothing at this path."),
    405: ErrorType(
        "invalid_data", "invalid data", "This method is not offered here; the Allow header lists those that are."
    ),
    410: ErrorType("gone", "unknown object", "What was asked for is no longer kept."),
    429: ErrorType("server_busy", "server_busy", "Too many requests: try again later."),
    500: ErrorType("server_error", "internal_server_error", "The server failed to answer; its log says why."),
    503: ErrorType("server_busy", "server_busy", "The server is busy: try again later."),
}


class ApiError(HTTPException):
    """An answer other than the one hoped for. `minor` is the codeMinor when the status alone does not tell."""

    def __init__(self, code: int, message: str = "", minor: str = "") -> None:
        super().__init__(message or None)
        self.code = code
        self.minor = minor


def register(app: Flask) -> None:
    """Answer every error of the application, on any path, with the one body."""
    app.register_error_handler(HTTPException, _refused)
    app.register_error_handler(StorageBusyError, _busy)
    app.register_error_handler(Exception, _failed)


def error_response(
    code: int, message: str = "", minor: str = "", headers: list[tuple[str, str]] | None = None, reference: str = ""
) -> Response:
    """The response for an HTTP status; message and codeMinor default to what the status says.

    `reference` is what a log calls this answer; each answer has one.
    """
    kind = ERROR_TYPES.get(code) or ERROR_TYPES[400 if code < 500 else 500]
    error = minor if minor.startswith("invalid_") else kind.error
    message = message or kind.message
    entry = {
        **status_entry("failure", "error", message, minor or kind.minor),
        "imsx_messageRefIdentifier": reference or str(uuid.uuid4()),
    }
    body = orjson.dumps({"error": error, "message": message, "statusInfoSet": [entry]})
    common = [("Content-Type", "application/json"), ("Cache-Control", "no-store")]
    return Response(body, code, headers=[*common, *(headers or ())])


def status_entry(major: str, severity: str, description: str, minor: str) -> dict[str, str]:
    """One entry of a statusInfoSet (reading A-01), about the operation that is being answered."""
    operation = (request.endpoint or "").partition(".")[2]
    return {
        "imsx_codeMajor": major,
        "imsx_severity": severity,
        **({"imsx_operationRefIdentifier": operation} if operation else {}),
        "imsx_description": description,
        "imsx_codeMinor": minor,
    }


def _refused(error: HTTPException) -> Response | WerkzeugResponse:
    code = error.code or 500
    if code < 400:
        return error.get_response()
    if isinstance(error, ApiError):
        return error_response(code, error.description or "", error.minor)
    # Of werkzeug's own errors the headers matter (Allow, Retry-After); its HTML and its texts do not.
    kept = [(name, value) for name, value in error.get_headers() if name in ("Allow", "Retry-After")]
    return error_response(code, headers=kept)


def _busy(error: StorageBusyError) -> Response:
    log.warning("the store was busy: %s", type(error).__name__)
    return error_response(503, headers=[("Retry-After", RETRY_AFTER_SECONDS)])


def _failed(error: Exception) -> Response:
    # The places alone: messages of errors quote what they are about, and that may be somebody's data.
    causes = [error, *(cause for cause in (error.__cause__,) if cause)]
    places = [f"{type(each).__name__} at {_place(each)}" for each in causes]
    reference = str(uuid.uuid4())
    log.error("%s failed (%s): %s", request.endpoint or "a request", reference, "; caused by ".join(places))
    return error_response(500, reference=reference)


def _place(error: BaseException) -> str:
    frames = traceback.extract_tb(error.__traceback__)
    return " > ".join(f"{frame.filename}:{frame.lineno} {frame.name}" for frame in frames[-6:])
