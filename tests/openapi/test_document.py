"""The OpenAPI document: complete, valid, and true of the responses of the service."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import jsonschema_rs
import pytest
from flask import Flask
from schemathesis.specs.openapi.definitions import OPENAPI_31_VALIDATOR

from chalk_flask.api.access_log import route_template
from chalk_flask.api.routes import ROOTS
from chalk_flask.oneroster.schemas import RESOURCES
from chalk_flask.openapi.operations import OPERATIONS
from chalk_flask.permissions.scopes import ALL
from tests.api.conftest import operation_of
from tests.support.api_client import Consumer
from tests.support.small_roster import COLLECTIONS, SINGLES

Document = dict[str, Any]
METHODS = ("get", "put", "post", "delete")


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
    """Return the validator of a schema. Records must have no members that the document does not describe."""
    components = {
        name: {**each, "additionalProperties": each.get("additionalProperties", False)}
        for name, each in document["components"]["schemas"].items()
    }
    root = {**schema, "components": {"schemas": components}}
    return jsonschema_rs.Draft202012Validator(root, validate_formats=True)


def test_document_is_valid_openapi(document: Document) -> None:
    OPENAPI_31_VALIDATOR.validate(document)
    for node in nodes(document):
        if isinstance(node.get("$ref"), str):
            resolve(document, node)


def test_every_rule_of_the_roots_is_described(served: Flask, document: Document) -> None:
    described = {(path, method.upper()) for path, method, each in operations_of(document) if "servers" not in each}
    for root in ROOTS:
        rules = {
            (route_template(rule.rule).removeprefix(root.path), method)
            for rule in served.url_map.iter_rules()
            if rule.rule.startswith(f"{root.path}/") and rule.endpoint.partition(".")[0].startswith(root.name)
            for method in (rule.methods or set()) - {"HEAD"}
        }
        rules = {(path, method) for path, method in rules if not re.match("/sis/|.*/lineitems", path)}
        assert rules == described


def test_every_operation_has_a_name_and_texts(document: Document) -> None:
    names = [operation["operationId"] for _, _, operation in operations_of(document)]
    assert len(set(names)) == len(names)
    assert set(OPERATIONS) < set(names)
    tags = {tag["name"] for tag in document["tags"]}
    for _, _, operation in operations_of(document):
        assert operation["summary"]
        assert operation["description"]
        assert set(operation["tags"]) <= tags
        assert "401" in operation["responses"]


def test_scopes_and_links_exist(document: Document) -> None:
    flow = document["components"]["securitySchemes"]["oauth2"]["flows"]["clientCredentials"]
    assert set(flow["scopes"]) == set(ALL)
    names = {operation["operationId"]: operation for _, _, operation in operations_of(document)}
    used = {scope for each in names.values() for security in each["security"] for scope in security.get("oauth2", ())}
    assert used == set(ALL)
    for response in document["components"]["responses"].values():
        for link in response.get("links", {}).values():
            parameters = [resolve(document, each) for each in names[link["operationId"]]["parameters"]]
            assert set(link["parameters"]) == {each["name"] for each in parameters if each["in"] == "path"}


def test_every_class_of_the_standard_has_a_schema(document: Document) -> None:
    schemas = document["components"]["schemas"]
    for resource_type in RESOURCES.values():
        schema = schemas[type(resource_type.schema).__name__.removesuffix("Schema")]
        assert list(schema["properties"]) == list(resource_type.fields)


def test_examples_fit_their_schemas(document: Document) -> None:
    found = 0
    for node in nodes(document):
        if "schema" in node and "example" in node:
            found += 1
            validator_of(document, node["schema"]).validate(node["example"])
    assert found > 90


def test_examples_of_paths_find_records(document: Document) -> None:
    """The small roster has other ids, so the examples are compared with those of the demo."""
    ids = {
        parameter["name"]: parameter["example"]
        for path, _, operation in operations_of(document)
        if path == "/schools/{school_id}/classes/{class_id}/students"
        for parameter in operation["parameters"]
        if "example" in parameter
    }
    assert ids == {"school_id": "org-north", "class_id": "class-alg1-a"}


@pytest.mark.parametrize("root", [root.path for root in ROOTS], ids=["chalk", "ims"])
def test_responses_of_reads_fit_the_document(consumer: Consumer, document: Document, root: str) -> None:
    by_operation = {operation["operationId"]: operation for _, _, operation in operations_of(document)}
    for path in [*COLLECTIONS, *SINGLES]:
        response = consumer.get(root + path)
        assert response.status_code == 200
        described = resolve(document, by_operation[operation_of(path)]["responses"]["200"])
        validator_of(document, described["content"]["application/json"]["schema"]).validate(response.json)
        assert set(described["headers"]) - {"Link"} <= set(response.headers.keys())
