"""The OpenAPI document: complete, valid, and true of the responses of the service."""

from __future__ import annotations

import re
from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest
from flask import Flask
from openapi_spec_validator import OpenAPIV31SpecValidator

from chalk_flask.api.access_log import route_template
from chalk_flask.api.routes import ROOTS
from chalk_flask.oneroster.schemas import RESOURCES
from chalk_flask.openapi.operations import OPERATIONS
from chalk_flask.permissions.scopes import KNOWN
from tests.api.conftest import operation_of
from tests.conftest import Serve
from tests.openapi.described import Document, nodes, operations_of, resolve, validator_of
from tests.support.api_client import Consumer
from tests.support.small_roster import COLLECTIONS, SINGLES

UNDESCRIBED = {
    r"console\..*": "pages of administrators",
    r"openapi\..*": "the document itself, and the page that shows it",
    r"oauth\.token .*": "other paths of the token endpoint, and methods to which it answers with 405",
    r".*(/sis/|/lineitems).*": "aliases, which the text of the document mentions",
}
"""Patterns of the rules that the document leaves out, as endpoint, method and path, with the reason."""


def addresses_of(document: Document) -> Iterator[tuple[str, str]]:
    """Yield path and method of each operation below each of its servers."""
    for path, method, operation in operations_of(document):
        for server in operation["servers"] if "servers" in operation else document["servers"]:
            yield urlsplit(server["url"]).path + path, method.upper()


def template_of(rule: str) -> str:
    """Return the path template of a rule, with the usual spelling of words in any letter case."""
    return route_template(re.sub(r"<any_case\(.(\w+).\):\w+>", r"\1", rule))


def test_document_is_valid_openapi(document: Document) -> None:
    assert not list(OpenAPIV31SpecValidator(document).iter_errors())
    for node in nodes(document):
        if isinstance(node.get("$ref"), str):
            resolve(document, node)


def test_every_public_route_is_described_or_an_exception(served: Flask, document: Document) -> None:
    rules = {
        (template_of(rule.rule), method): f"{rule.endpoint} {method} {rule.rule}"
        for rule in served.url_map.iter_rules()
        for method in (rule.methods or set()) - {"HEAD"}
    }
    described = set(addresses_of(document))
    assert described <= set(rules)
    undescribed = [text for address, text in rules.items() if address not in described]
    reasons = [next((each for each in UNDESCRIBED if re.fullmatch(each, text)), text) for text in undescribed]
    assert set(reasons) == set(UNDESCRIBED)


def test_pages_that_are_turned_off_are_not_described(serve: Serve) -> None:
    paths = serve(metrics=False, console=False).test_client().get("/openapi.json").get_json()["paths"]
    assert "/metrics" not in paths
    assert {"/", "/healthz", "/readyz", "/api/admin/v1/imports"} <= set(paths)


def test_every_operation_has_a_name_and_texts(document: Document) -> None:
    names = [operation["operationId"] for _, _, operation in operations_of(document)]
    assert len(set(names)) == len(names)
    assert set(OPERATIONS) < set(names)
    tags = {tag["name"] for tag in document["tags"]}
    for _, _, operation in operations_of(document):
        assert operation["summary"]
        assert operation["description"]
        assert set(operation["tags"]) <= tags
        assert ("401" in operation["responses"]) == bool(operation["security"])


def test_scopes_and_links_exist(document: Document) -> None:
    flow = document["components"]["securitySchemes"]["oauth2"]["flows"]["clientCredentials"]
    assert set(flow["scopes"]) == set(KNOWN)
    names = {operation["operationId"]: operation for _, _, operation in operations_of(document)}
    used = {scope for each in names.values() for security in each["security"] for scope in security.get("oauth2", ())}
    assert used == set(KNOWN)
    inline = [response for each in names.values() for response in each["responses"].values()]
    for response in [*document["components"]["responses"].values(), *inline]:
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
