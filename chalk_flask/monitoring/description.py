"""Section of the OpenAPI document about the pages for monitoring and the description of the service."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from chalk_flask.monitoring.start_page import NAME, STANDARD
from chalk_flask.openapi.json_schemas import JSONObject, JSONSchema, schema_ref
from chalk_flask.openapi.responses import error_response, header_refs
from chalk_flask.openapi.sections import BASE_URL, ApiSection, SectionOperation
from chalk_flask.openapi.security import METRICS_TOKEN
from chalk_flask.settings import Settings

__all__ = ["monitoring_section"]

_TEXT: Final[JSONSchema] = {"type": "string"}
_URL: Final[JSONSchema] = {"type": "string", "format": "uri"}
_REMOTE_METRICS: Final = "the setting `metrics_token` is empty, and the request is not from the machine of the service"

_CHECK: Final[JSONSchema] = {
    "type": "object",
    "required": ["status"],
    "properties": {"status": {"type": "string", "enum": ["ok", "failed", "unknown"]}, "message": _TEXT},
}

_ROSTER_CHECK: Final[JSONSchema] = {
    **_CHECK,
    "properties": {
        **_CHECK["properties"],
        "rosters": {"type": "integer", "minimum": 0, "description": "Number of tenants with a roster."},
        "oldest_hours": {"type": ["number", "null"], "description": "Age of the oldest import of these rosters."},
        "max_hours": {"type": "integer", "description": "Setting `ready_max_roster_hours`, if there is one."},
    },
}

_SCHEMAS: Final = {
    "Health": {"type": "object", "required": ["status"], "properties": {"status": {"const": "ok"}}},
    "ReadinessCheck": _CHECK,
    "RosterCheck": _ROSTER_CHECK,
    "Readiness": {
        "type": "object",
        "required": ["status", "checks"],
        "properties": {
            "status": {"type": "string", "enum": ["ready", "unavailable"]},
            "checks": {
                "type": "object",
                "required": ["storage", "roster", "webhooks", "jobs"],
                "properties": {
                    "storage": schema_ref("ReadinessCheck"),
                    "roster": schema_ref("RosterCheck"),
                    "webhooks": schema_ref("ReadinessCheck"),
                    "jobs": schema_ref("ReadinessCheck"),
                },
            },
        },
    },
    "Service": {
        "type": "object",
        "required": ["name", "standard", "roots", "changes", "token_endpoint", "health", "readiness"],
        "properties": {
            "name": {"const": NAME},
            "standard": {"const": STANDARD},
            "roots": {"type": "array", "items": _URL, "description": "API roots."},
            "changes": {**_URL, "description": "Change feed."},
            **dict.fromkeys(("token_endpoint", "health", "readiness", "openapi", "docs", "console"), _URL),
        },
    },
}

_READY_EXAMPLE: Final = {
    "status": "ready",
    "checks": {
        "storage": {"status": "ok"},
        "roster": {"status": "ok", "rosters": 1, "oldest_hours": 7.5},
        "webhooks": {"status": "ok"},
        "jobs": {"status": "ok"},
    },
}

_NO_WORKER: Final = {"status": "failed", "message": "No process delivers webhooks."}
_UNAVAILABLE_EXAMPLE: Final = {
    "status": "unavailable",
    "checks": {**_READY_EXAMPLE["checks"], "webhooks": _NO_WORKER},  # type: ignore[dict-item]  # a JSON object
}

_SERVICE_EXAMPLE: Final = {
    "name": NAME,
    "standard": STANDARD,
    "roots": [f"{BASE_URL}/api/oneroster/v1p1", f"{BASE_URL}/ims/oneroster/v1p1"],
    "changes": f"{BASE_URL}/api/oneroster/v1p1/changes",
    "token_endpoint": f"{BASE_URL}/oauth/token",
    "health": f"{BASE_URL}/healthz",
    "readiness": f"{BASE_URL}/readyz",
}


def monitoring_section(settings: Settings) -> ApiSection:
    """Return the section with the pages that a service with these settings has."""
    return ApiSection("monitoring", "State of the service.", _SCHEMAS, tuple(_operations(settings)))


def _operations(settings: Settings) -> Iterator[SectionOperation]:
    yield _operation(
        *("/", "getService", "Get service"),
        "URLs of the service. A client that prefers HTML gets a page.",
        {"200": _response("Description of the service.", "Service", _SERVICE_EXAMPLE), "400": error_response(400)},
    )
    yield _operation(
        *("/healthz", "getHealth", "Get health"),
        "Answers as long as the process does. It does not read the store.",
        {"200": _response("The process answers.", "Health", {"status": "ok"})},
    )
    yield _operation(
        *("/readyz", "getReadiness", "Get readiness"),
        "Checks of the store, of the workers, and of the age of the rosters.",
        {
            "200": _response("All checks passed.", "Readiness", _READY_EXAMPLE),
            "503": _response("A check failed.", "Readiness", _UNAVAILABLE_EXAMPLE),
        },
    )
    if settings.metrics:
        yield _metrics_operation()


def _metrics_operation() -> SectionOperation:
    text = {"text/plain": {"schema": _TEXT}}
    return _operation(
        *("/metrics", "getMetrics", "Get metrics"),
        "Metrics in the text format of Prometheus. Without the setting `metrics_token`, only requests from the machine"
        " of the service that no proxy has forwarded can read them.",
        {
            "200": {"description": "Metrics.", "headers": header_refs(()), "content": text},
            "401": error_response(401),
            "403": error_response(403, reason=_REMOTE_METRICS),
            "503": error_response(503),
        },
        [{METRICS_TOKEN: []}, {}],
    )


def _operation(
    path: str,
    name: str,
    summary: str,
    description: str,
    responses: JSONObject,
    security: list[JSONObject] | None = None,
) -> SectionOperation:
    """Return a read. By default, it needs no credential."""
    content = {"operationId": name, "summary": summary, "description": description, "security": security or []}
    return SectionOperation("GET", path, {**content, "responses": responses})


def _response(description: str, schema: str, example: JSONObject) -> JSONObject:
    media = {"schema": schema_ref(schema), "example": example}
    return {"description": description, "headers": header_refs(()), "content": {"application/json": media}}
