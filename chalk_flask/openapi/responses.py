"""Responses of the operations: statuses with their reasons, headers, and the bodies of errors."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from chalk_flask.api.errors import ERROR_TYPES
from chalk_flask.logs import REQUEST_ID_HEADER
from chalk_flask.openapi.json_schemas import JSONObject, schema_ref
from chalk_flask.openapi.operations import CHANGE_FEED, Operation

__all__ = [
    "ERROR_SCHEMA",
    "HEADERS",
    "STATUS_ENTRY_SCHEMA",
    "STATUS_REASONS",
    "TOKEN_STATUSES",
    "error_component",
    "error_response",
    "header_refs",
    "statuses_of",
]

STATUS_REASONS: Mapping[int, str] = {
    400: "a parameter, the body or the address is invalid",
    401: "no credential, or an invalid, expired or revoked one",
    403: "the credential lacks the scope, or its restrictions forbid the request",
    404: "the record, its parent or the path does not exist",
    405: "the method is not supported",
    410: "the sequence number of the change feed is too old",
    413: "the body is larger than 1 MiB",
    422: "the record of a gradebook write is invalid",
    429: "the maximum of requests, streams, long polls or failed logins is exceeded; `Retry-After`: seconds to wait",
    503: "the store is busy; try again",
}
"""Reason of each status of an error, as a phrase. docs/reference/api.md shows the same table."""

TOKEN_STATUSES = (400, 401, 429, 503)
"""Statuses of the errors of the token endpoint."""

_COMMON_STATUSES = frozenset({400, 401, 403, 429, 503})
_WRITE_STATUSES: Mapping[str, frozenset[int]] = {
    "PUT": frozenset({404, 405, 413, 422}),
    "DELETE": frozenset({404, 405, 422}),
}

_TEXT: JSONObject = {"type": "string"}
_COUNT: JSONObject = {"type": "integer", "minimum": 0}
_URL: JSONObject = {"type": "string", "format": "uri"}

HEADERS: Mapping[str, JSONObject] = {
    name: {"description": description, "schema": schema}
    for name, schema, description in (
        (
            REQUEST_ID_HEADER,
            _TEXT,
            "Id of the request in the log of the service. A client can choose it with this header.",
        ),
        ("X-Count", _COUNT, "Number of records in the response."),
        ("X-Total-Count", _COUNT, "Number of all matching records."),
        ("Link", _TEXT, "URLs of the first, previous, next and last page (RFC 8288)."),
        ("ETag", _TEXT, "Version of the response. Send it as `If-None-Match` to get 304 if nothing has changed."),
        ("Location", _URL, "URL of the new record, or of the job."),
        ("WWW-Authenticate", _TEXT, "Kind of credential that is required."),
        ("Allow", _TEXT, "Methods that the path supports."),
        ("Retry-After", _COUNT, "Seconds to wait."),
        (
            "X-RateLimit-Limit",
            _COUNT,
            "Maximum number of requests in a period. Every response has it if the operator limits requests.",
        ),
        ("X-RateLimit-Remaining", _COUNT, "Number of requests until the limit."),
        ("X-RateLimit-Reset", _COUNT, "End of the period, in seconds since 1970."),
    )
}
"""Response headers by name."""

_HEADERS_OF_STATUS: Mapping[int, tuple[str, ...]] = {
    401: ("WWW-Authenticate",),
    403: ("WWW-Authenticate",),
    405: ("Allow",),
    429: ("Retry-After", "X-RateLimit-Limit", "X-RateLimit-Remaining", "X-RateLimit-Reset"),
    503: ("Retry-After",),
}

_STATUS_ENTRY_MEMBERS = (
    "imsx_codeMajor",
    "imsx_severity",
    "imsx_operationRefIdentifier",
    "imsx_description",
    "imsx_codeMinor",
    "imsx_messageRefIdentifier",
)

STATUS_ENTRY_SCHEMA: JSONObject = {
    "type": "object",
    "description": "Entry of a statusInfoSet of OneRoster: an error, or a warning in a successful response.",
    "required": ["imsx_codeMajor", "imsx_severity", "imsx_description", "imsx_codeMinor"],
    "properties": {name: {"type": "string"} for name in _STATUS_ENTRY_MEMBERS},
}

ERROR_SCHEMA: JSONObject = {
    "type": "object",
    "required": ["error", "message", "statusInfoSet"],
    "properties": {
        "error": {"type": "string", "description": "Kind of the error.", "examples": ["invalid_data"]},
        "message": {"type": "string", "description": "What happened, and what to do."},
        "statusInfoSet": {"type": "array", "minItems": 1, "items": schema_ref("StatusInfo")},
    },
}


def statuses_of(operation: Operation) -> list[int]:
    """Return the statuses of the errors of an operation."""
    if operation.name == CHANGE_FEED:
        return sorted(_COMMON_STATUSES | {410})
    if operation.is_write:
        return sorted(_COMMON_STATUSES | _WRITE_STATUSES[operation.method])
    finds_record_of_path = bool(operation.path_parameters)
    return sorted(_COMMON_STATUSES | ({404} if finds_record_of_path else set()))


def header_refs(names: Iterable[str]) -> JSONObject:
    """Return references to headers among the components. Every response has the id of its request."""
    return {name: {"$ref": f"#/components/headers/{name}"} for name in (*names, REQUEST_ID_HEADER)}


def error_component(status: int) -> str:
    """Return the name of the response of a status among the components."""
    return f"Error{status}"


def error_response(status: int, schema: str = "Error", reason: str = "") -> JSONObject:
    """Return the response of a status, with an example of its body. The reason defaults to that of the status."""
    reason = reason or STATUS_REASONS[status]
    media: JSONObject = {"schema": schema_ref(schema)}
    if schema == "Error":
        media["example"] = _example(status)
    return {
        "description": f"{reason[:1].upper()}{reason[1:]}.",
        "headers": header_refs(_HEADERS_OF_STATUS.get(status, ())),
        "content": {"application/json": media},
    }


def _example(status: int) -> JSONObject:
    kind = ERROR_TYPES.get(status, ERROR_TYPES[400])
    entry = {
        "imsx_codeMajor": "failure",
        "imsx_severity": "error",
        "imsx_description": kind.message,
        "imsx_codeMinor": kind.code_minor,
    }
    return {"error": kind.error, "message": kind.message, "statusInfoSet": [entry]}
