"""Parts of the OpenAPI document, and checks of responses against it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import jsonschema_rs
from werkzeug.test import TestResponse

__all__ = ["Document", "check_response", "nodes", "operations_of", "resolve", "validator_of"]

Document = dict[str, Any]
METHODS = ("get", "put", "post", "delete")

OPTIONAL_HEADERS = {"Link", "X-RateLimit-Limit", "X-RateLimit-Remaining", "X-RateLimit-Reset"}
"""Headers that responses have only if there is another page, or if the operator limits requests.

A 403 has a challenge only if another scope would help.
"""


def operations_of(document: Document) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Yield path, method and operation."""
    for path, item in document["paths"].items():
        for method in METHODS:
            if method in item:
                yield path, method, item[method]


def nodes(value: Any) -> Iterator[dict[str, Any]]:
    """Yield every object in a document."""
    if isinstance(value, dict):
        yield value
    for child in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from nodes(child)


def resolve(document: Document, node: dict[str, Any]) -> dict[str, Any]:
    """Return a node, or the one to which it refers. Raises KeyError for an unknown one."""
    if "$ref" not in node:
        return node
    target: Any = document
    for part in node["$ref"].removeprefix("#/").split("/"):
        target = target[part]
    return resolve(document, target)


def validator_of(document: Document, schema: dict[str, Any]) -> jsonschema_rs.Draft202012Validator:
    """Return the validator of a schema. Objects must have no members that the document does not describe."""
    root = {**schema, "components": {"schemas": document["components"]["schemas"]}}
    return jsonschema_rs.Draft202012Validator(_closed(root), validate_formats=True)


def _closed(node: Any) -> Any:
    """Return a schema in which objects with described members have no others."""
    if isinstance(node, list):
        return [_closed(each) for each in node]
    if not isinstance(node, dict):
        return node
    is_object = node.get("type") == "object" and "properties" in node
    return ({"additionalProperties": False} if is_object else {}) | {name: _closed(each) for name, each in node.items()}


def check_response(document: Document, operation_id: str, response: TestResponse) -> None:
    """Fail unless the status, the headers, the type and the body of a response are those of the document."""
    operation = next(each for _, _, each in operations_of(document) if each["operationId"] == operation_id)
    described = resolve(document, operation["responses"][str(response.status_code)])
    optional = OPTIONAL_HEADERS | ({"WWW-Authenticate"} if response.status_code == 403 else set())
    assert set(described["headers"]) - optional <= set(response.headers.keys())
    assert response.mimetype in described["content"]
    if response.mimetype == "application/json":
        validator_of(document, described["content"][response.mimetype]["schema"]).validate(response.json)
