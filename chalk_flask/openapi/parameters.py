"""Parameters of the operations: ids in paths, query parameters of reads and of the change feed, and headers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from chalk_flask.api.reads import changes
from chalk_flask.api.routes import ROOTS
from chalk_flask.oneroster.fields.scalars import EnumField
from chalk_flask.oneroster.resource_type import ResourceType
from chalk_flask.openapi.json_schemas import ID_SCHEMA, JSONObject, component_name
from chalk_flask.openapi.operations import Operation, Parameter

__all__ = ["LIMIT", "SHARED_PARAMETERS", "collection_parameters", "limit_parameter", "parameters_of"]

MAX_NUMBER = 10**18 - 1
"""Maximum of `limit` and `offset`, which have at most 18 digits."""

IF_NONE_MATCH = "IfNoneMatch"
LIMIT = "Limit"

ALLOW_EMPTY: Mapping[str, bool] = {"allowEmptyValue": True}
"""Member of parameters that count as absent if their value is empty."""

FILTER_TEXT = (
    "One condition, or two with AND or OR between them: a field, one of `=`, `!=`, `<`, `<=`, `>`, `>=` and `~`"
    " (contains), and a value in single quotes."
)

SHARED_PARAMETERS: Mapping[str, JSONObject] = {
    IF_NONE_MATCH: {
        "name": "If-None-Match",
        "in": "header",
        "description": "ETag of a former response.",
        "schema": {"type": "string"},
    },
    "Offset": {
        "name": "offset",
        "in": "query",
        "description": "Number of records to skip.",
        **ALLOW_EMPTY,
        "schema": {"type": "integer", "minimum": 0, "maximum": MAX_NUMBER, "default": 0},
    },
    "OrderBy": {
        "name": "orderBy",
        "in": "query",
        "description": "Direction of the order.",
        **ALLOW_EMPTY,
        "schema": {"type": "string", "enum": ["asc", "desc"], "default": "asc"},
    },
    "Since": {
        "name": "since",
        "in": "query",
        "required": True,
        "description": "Sequence number of the last response, after which changes are returned. 0 means after the first"
        " load, `latest` from now on.",
        "schema": {"type": "string", "pattern": "^(latest|[0-9]{1,15})$"},
        "example": "0",
    },
    "FeedLimit": {
        "name": "limit",
        "in": "query",
        "description": "Maximum number of changes in the response.",
        **ALLOW_EMPTY,
        "schema": {"type": "integer", "minimum": 1, "maximum": changes.MAX_LIMIT, "default": changes.DEFAULT_LIMIT},
    },
    "Wait": {
        "name": "wait",
        "in": "query",
        "description": "Seconds to keep the request open until something changes.",
        **ALLOW_EMPTY,
        "schema": {"type": "integer", "minimum": 0, "maximum": changes.MAX_WAIT_SECONDS, "default": 0},
    },
    "Include": {
        "name": "include",
        "in": "query",
        "description": "Changes with their records, or with ids alone.",
        **ALLOW_EMPTY,
        "schema": {"type": "string", "enum": ["records", "ids"], "default": "records"},
    },
    "Began": {
        "name": "began",
        "in": "query",
        "description": "Copy it from `next`: the client started before the first load.",
        **ALLOW_EMPTY,
        "schema": {"type": "string", "enum": [changes.EMPTY]},
    },
}
"""Parameters that several operations share, and those of the change feed, by the name of the component."""

_COMPONENTS: Mapping[str, str] = {parameter["name"]: component for component, parameter in SHARED_PARAMETERS.items()}
"""Name of the component by that of the parameter. `limit` is the parameter of the change feed."""


def collection_parameters(resource_type: ResourceType, record: Mapping[str, Any]) -> Mapping[str, JSONObject]:
    """Return the parameters `sort`, `filter` and `fields` of a resource type, by the name of the component.

    `record` is an example record.
    """
    paths, fields = list(resource_type.filter_paths), list(resource_type.fields)
    name = component_name(resource_type.name)
    return {
        f"{name}Sort": {
            "name": "sort",
            "in": "query",
            "description": f"Field to sort by. An unknown one leads to a warning. {_fields_text(paths)}",
            **ALLOW_EMPTY,
            "schema": {"type": "string", "examples": [_sort_example(resource_type)]},
        },
        f"{name}Filter": {
            "name": "filter",
            "in": "query",
            "description": f"{FILTER_TEXT} {_fields_text(paths)}",
            **ALLOW_EMPTY,
            "schema": {"type": "string", "examples": [_filter_example(resource_type, record)]},
        },
        f"{name}Fields": {
            "name": "fields",
            "in": "query",
            "description": "Fields to return, separated by commas. An unknown one leads to a warning and all fields."
            f" {_fields_text(fields)}",
            "schema": {"type": "string", "pattern": r"[^,\s\x1c-\x1f\x85]", "examples": [",".join(fields[:4])]},
        },
    }


def limit_parameter(max_limit: int) -> JSONObject:
    """Return the parameter `limit`. `max_limit` is the setting of this name; 0 means no maximum."""
    defaults = [
        f"a page of {root.default_limit} below `{root.path}`"
        if root.default_limit
        else f"all records below `{root.path}`"
        for root in reversed(ROOTS)
    ]
    return {
        "name": "limit",
        "in": "query",
        "description": f"Maximum number of records in the response. Default: {', '.join(defaults)}.",
        **ALLOW_EMPTY,
        "schema": {"type": "integer", "minimum": 1, "maximum": max_limit or MAX_NUMBER},
        "example": 10,
    }


def parameters_of(operation: Operation, ids: Mapping[str, str]) -> list[JSONObject | str]:
    """Return the parameters of an operation: objects for the ids in its path, else names of components.

    `ids` are the examples of the ids, by parameter.
    """
    path = [_path_parameter(parameter, ids[parameter.name]) for parameter in operation.path_parameters]
    if operation.resource_type is None:
        return [_COMPONENTS[name] for name in changes.PARAMETERS]
    query = [_component_of(parameter.name, operation.resource_type) for parameter in operation.query_parameters]
    return [*path, *query, *([IF_NONE_MATCH] if operation.method == "GET" else [])]


def _component_of(name: str, resource_type: ResourceType) -> str:
    if name == "limit":
        return LIMIT
    return _COMPONENTS.get(name) or component_name(resource_type.name) + component_name(name)


def _path_parameter(parameter: Parameter, example: str) -> JSONObject:
    return {
        "name": parameter.name,
        "in": "path",
        "required": True,
        "description": f"{parameter.help} of a record of `{parameter.collection}`.",
        "schema": ID_SCHEMA,
        "example": example,
    }


def _fields_text(names: list[str]) -> str:
    return f"Fields: {', '.join(f'`{name}`' for name in names)}."


def _sort_example(resource_type: ResourceType) -> str:
    return next(name for name in resource_type.fields if name not in ("sourcedId", "status"))


def _filter_example(resource_type: ResourceType, record: Mapping[str, Any]) -> str:
    """Return a condition on the last field of the record with a closed vocabulary. The first one is the status."""
    name = [name for name, field in resource_type.fields.items() if isinstance(field, EnumField) and name in record][-1]
    return f"{name}='{record[name]}'"
