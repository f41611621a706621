"""Section of the admin API: uploads of packages, the state of imports, and decisions about held ones."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from chalk_flask.api.admin import ADMIN_ROOT, ADMIN_ROUTES, IMPORT_ERRORS, IMPORT_PARAMETERS, AdminResult, AdminRoute
from chalk_flask.openapi.json_schemas import JSONObject, JSONSchema, schema_ref
from chalk_flask.openapi.operations import summary_of
from chalk_flask.openapi.responses import error_response, header_refs
from chalk_flask.openapi.sections.import_examples import JOB_ID, import_examples
from chalk_flask.openapi.sections.import_schemas import IMPORT_SCHEMAS
from chalk_flask.openapi.sections.section import ApiSection, SectionOperation
from chalk_flask.openapi.security import security_of
from chalk_flask.permissions.scopes import SATISFIED_BY, sort_scopes
from chalk_flask.roster.imports import ImportReport

__all__ = ["imports_section"]

DESCRIPTION = "Imports of packages by programs of the operator, with a credential without access restrictions."

_COMMON_STATUSES: Final = (400, 401, 403, 429, 503)

_FILE: Final[JSONSchema] = {
    "type": "string",
    "format": "binary",
    "minLength": 1,
    "description": "ZIP file with the CSV files.",
}
_FORM: Final[JSONSchema] = {
    "type": "object",
    "required": ["package"],
    "properties": {"package": _FILE},
    "additionalProperties": False,
}

_PACKAGE_BODY: Final[JSONObject] = {
    "required": True,
    "description": "ZIP file, as a body of any other type than a form, or as the only field of a form. It is not larger"
    " than `upload_max_mb`.",
    "content": {
        "application/octet-stream": {"schema": _FILE},
        "multipart/form-data": {"schema": _FORM, "encoding": {"package": {"contentType": "application/zip"}}},
    },
}

_SCHEMAS: Final[Mapping[AdminResult, JSONSchema]] = {
    "job": schema_ref("ImportJob"),
    "run": schema_ref("ImportRun"),
    "job or run": {"oneOf": [schema_ref("ImportJob"), schema_ref("ImportRun")]},
}

_TEXTS: Final[Mapping[AdminResult, str]] = {
    "job": "The job is queued, or was queued by an earlier request.",
    "run": "Import run.",
    "job or run": "Job, or import run.",
}


def imports_section(report: ImportReport) -> ApiSection:
    """Return the section. Its examples contain a report."""
    example_of = import_examples(report)
    operations = (
        SectionOperation(route.method, ADMIN_ROOT + route.path, _operation(route, example_of)) for route in ADMIN_ROUTES
    )
    return ApiSection("imports", DESCRIPTION, IMPORT_SCHEMAS, tuple(operations))


def _operation(route: AdminRoute, example_of: Callable[[AdminRoute], JSONObject]) -> JSONObject:
    return {
        "operationId": route.operation,
        "summary": summary_of(route.operation),
        "description": f"{_sentence(route.description)} Requires the scope {route.scope}.",
        "security": security_of(sort_scopes(SATISFIED_BY[route.scope])),
        "parameters": [*_path_parameters(route), *_query_parameters(route)],
        **({"requestBody": _PACKAGE_BODY} if route.accepts_package else {}),
        "responses": {str(route.status): _ok_response(route, example_of(route)), **_error_responses(route)},
    }


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}."


def _path_parameters(route: AdminRoute) -> list[JSONObject]:
    if "{id}" not in route.path:
        return []
    description = "Id of a job or of an import run."
    schema = {"type": "string", "minLength": 1}
    return [
        {"name": "id", "in": "path", "required": True, "description": description, "schema": schema, "example": JOB_ID}
    ]


def _query_parameters(route: AdminRoute) -> list[JSONObject]:
    if not route.accepts_package:
        return []
    return [
        {
            "name": name,
            "in": "query",
            "description": parameter.description,
            "schema": {"type": "boolean"}
            if parameter.is_boolean
            else {"type": "string", "enum": list(parameter.values)},
        }
        for name, parameter in IMPORT_PARAMETERS.items()
    ]


def _ok_response(route: AdminRoute, example: JSONObject) -> JSONObject:
    is_queued = route.status == 202
    return {
        "description": _TEXTS[route.result],
        "headers": header_refs(["Location"] if is_queued else []),
        "content": {"application/json": {"schema": _SCHEMAS[route.result], "example": example}},
        **({"links": _job_links(route)} if is_queued else {}),
    }


def _job_links(route: AdminRoute) -> JSONObject:
    """Return links from a queued job to the operations on it."""
    return {
        each.operation: {"operationId": each.operation, "parameters": {"id": "$response.body#/job"}}
        for each in ADMIN_ROUTES
        if "{id}" in each.path and each is not route
    }


def _error_responses(route: AdminRoute) -> JSONObject:
    reasons = {status: IMPORT_ERRORS[status] if status in route.errors else "" for status in _COMMON_STATUSES}
    reasons |= {status: IMPORT_ERRORS[status] for status in route.errors}
    return {str(status): error_response(status, reason=reasons[status]) for status in sorted(reasons)}
