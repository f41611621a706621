"""Builder of the OpenAPI 3.1 document, derived from the tables of routes, schemas, scopes and settings.

`build_document` is the entry point. It takes about half a second and imports apispec, so it runs at the first request.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any, cast

from apispec import APISpec
from apispec.ext.marshmallow import MarshmallowPlugin
from apispec.ext.marshmallow.openapi import OpenAPIConverter
from marshmallow import fields

from chalk_flask import __version__
from chalk_flask.api.routes import ROOTS, ApiRoot, WriteRoute
from chalk_flask.oneroster.fields.composites import RefField
from chalk_flask.oneroster.resource_type import ResourceType
from chalk_flask.oneroster.schemas import RESOURCES
from chalk_flask.openapi.examples import ExampleRoster, example_roster
from chalk_flask.openapi.feed import FEED_SCHEMA, feed_example
from chalk_flask.openapi.json_schemas import (
    JSONObject,
    JSONSchema,
    component_name,
    reference_name,
    reference_schema,
    request_schema,
    response_schema,
    schema_ref,
)
from chalk_flask.openapi.links import links_of_record, links_of_written_record
from chalk_flask.openapi.operations import OPERATIONS, Operation, summary_of
from chalk_flask.openapi.parameters import (
    LIMIT,
    SHARED_PARAMETERS,
    collection_parameters,
    limit_parameter,
    parameters_of,
)
from chalk_flask.openapi.responses import (
    ERROR_SCHEMA,
    HEADERS,
    STATUS_ENTRY_SCHEMA,
    STATUS_REASONS,
    error_component,
    error_response,
    header_refs,
    statuses_of,
)
from chalk_flask.openapi.sections import BASE_URL, TOKEN_PATH, TOKEN_SECTION, ApiSection, imports_section
from chalk_flask.openapi.security import security_of, security_schemes
from chalk_flask.roster.gradebook.payload import OPTIONAL_FIELDS

__all__ = ["build_document"]

OPENAPI_VERSION = "3.1.1"

DESCRIPTION = """\
Rosters, resources and gradebook of OneRoster 1.1, with a change feed. The service also has imports, a token endpoint,
and pages for monitoring.

Every path of OneRoster exists below both API roots, which differ in the page of a request without `limit`. It also
exists below `/sis` of each root, and `lineitems` is accepted for `lineItems`. Other operations have a server of their
own.

Send an API token or an access token as a bearer token. Requests that are signed with OAuth 1.0a are accepted too.
"""

SERVED_ROOTS = tuple(reversed(ROOTS))
"""API roots, beginning with that of the standard."""

SINGLE_HEADERS = ("X-Count", "X-Total-Count", "ETag")
COLLECTION_HEADERS = (*SINGLE_HEADERS, "Link")


def build_document(max_limit: int, sections: Sequence[ApiSection] = ()) -> JSONObject:
    """Return the document, with BASE_URL in all addresses.

    `max_limit` is the setting of this name. `sections` describe paths of packages above this one.
    """
    with example_roster() as examples:
        own_sections = (imports_section(examples.report), TOKEN_SECTION)
        return _DocumentBuilder(examples, max_limit).build([*own_sections, *sections])


class _DocumentBuilder:
    """Builder of one document."""

    def __init__(self, examples: ExampleRoster, max_limit: int) -> None:
        self._examples = examples
        self._max_limit = max_limit
        plugin = MarshmallowPlugin()
        self._spec = APISpec(
            title="Chalk Flask",
            version=__version__,
            openapi_version=OPENAPI_VERSION,
            plugins=[plugin],
            info={"summary": "OneRoster 1.1 service", "description": DESCRIPTION},
            servers=[_server(root) for root in SERVED_ROOTS],
        )
        self._converter = cast(Any, plugin.converter)  # some of its methods have no types
        self._converter.add_attribute_function(_field_schema)
        root_url = BASE_URL + SERVED_ROOTS[0].path
        self._records = {name: examples.record(each, root_url) for name, each in RESOURCES.items()}

    def build(self, sections: Sequence[ApiSection]) -> JSONObject:
        """Return the document with these sections after the operations of OneRoster."""
        self._add_shared_components()
        for resource_type in RESOURCES.values():
            self._add_resource_type(resource_type)
        self._add_feed()
        for operation in OPERATIONS.values():
            self._add_operation(operation)
        for section in sections:
            self._add_section(section)
        return self._spec.to_dict()

    def _add_shared_components(self) -> None:
        components = self._spec.components
        for name, scheme in security_schemes(BASE_URL + TOKEN_PATH).items():
            components.security_scheme(name, scheme)
        for name, header in HEADERS.items():
            components.header(name, header)
        for name, parameter in {**SHARED_PARAMETERS, LIMIT: limit_parameter(self._max_limit)}.items():
            components.parameter(name, parameter["in"], parameter)
        for name, schema in {"StatusInfo": STATUS_ENTRY_SCHEMA, "Error": ERROR_SCHEMA}.items():
            components.schema(name, schema)
        for status in STATUS_REASONS:
            components.response(error_component(status), error_response(status))
        not_modified = {"description": "Nothing has changed.", "headers": header_refs(["ETag"])}
        components.response("NotModified", not_modified)
        for token in sorted(_reference_tokens()):
            components.schema(reference_name(token), reference_schema(token))

    def _add_resource_type(self, resource_type: ResourceType) -> None:
        """Add a tag, and the schemas, parameters and responses of a resource type."""
        record, name = self._records[resource_type.name], component_name(resource_type.singular_name)
        description = _first_sentence(type(resource_type.schema))
        self._spec.tag({"name": resource_type.name, "description": description})
        self._spec.components.schema(name, self._record_schema(resource_type, description))
        for parameter_name, parameter in collection_parameters(resource_type, record).items():
            self._spec.components.parameter(parameter_name, parameter["in"], parameter)
        self._add_responses(resource_type, record)
        if any(operation.method == "PUT" for operation in _operations_of(resource_type)):
            self._add_writes(resource_type, record)

    def _record_schema(self, resource_type: ResourceType, description: str) -> JSONSchema:
        """Return the schema of served records. No field is required, because `fields` and restrictions select them."""
        schema: JSONSchema = self._converter.fields2jsonschema(resource_type.fields)
        required = {*schema.pop("required", ()), "status", "dateLastModified", *resource_type.always_present}
        always = ", ".join(f"`{name}`" for name in resource_type.fields if name in required)
        text = f"{description} Unless `fields` or restrictions select fields, every record has {always}."
        return {**schema, "description": text}

    def _add_responses(self, resource_type: ResourceType, record: Mapping[str, Any]) -> None:
        name, plural = component_name(resource_type.singular_name), resource_type.name
        single = _ok_response("Record.", resource_type.singular_name, schema_ref(name), record)
        single |= {"headers": header_refs(SINGLE_HEADERS), "links": links_of_record(resource_type)}
        records = {"type": "array", "items": schema_ref(name)}
        collection = _ok_response("Page of records.", plural, records, [record])
        collection |= {"headers": header_refs(COLLECTION_HEADERS)}
        self._spec.components.response(_single_response(resource_type), single)
        self._spec.components.response(_collection_response(resource_type), collection)

    def _add_writes(self, resource_type: ResourceType, record: Mapping[str, Any]) -> None:
        """Add the schema of the records that grade tools send, and the responses with the stored record."""
        name = component_name(resource_type.singular_name)
        self._spec.components.schema(f"{name}Write", _request_record_schema(resource_type))
        links = links_of_written_record(resource_type)
        for suffix, text, headers in (("Created", "The record is new.", ["Location"]), ("Replaced", "Replaced.", [])):
            response = _ok_response(text, resource_type.singular_name, schema_ref(name), record)
            response |= {"headers": header_refs(headers), "links": links}
            self._spec.components.response(name + suffix, response)

    def _add_feed(self) -> None:
        self._spec.tag({"name": "changes", "description": "Records that changed after a sequence number."})
        self._spec.components.schema("Changes", FEED_SCHEMA)

    def _add_operation(self, operation: Operation) -> None:
        ids = self._examples.path_ids(operation)
        operation_object: JSONObject = {
            "operationId": operation.name,
            "summary": summary_of(operation.name),
            "description": _description(operation),
            "tags": [operation.group],
            "security": security_of(operation.scopes),
            "parameters": parameters_of(operation, ids),
            "responses": {**self._ok_responses(operation), **_error_responses(operation)},
        }
        if operation.resource_type is None:
            operation_object["servers"] = [_server(root) for root in ROOTS if root.path in operation.roots]
        if operation.method == "PUT":
            operation_object["requestBody"] = self._request_body(operation)
            self._add_put_without_id(operation, operation_object)
        self._spec.path(operation.path, operations={operation.method.lower(): operation_object})

    def _add_put_without_id(self, operation: Operation, operation_object: JSONObject) -> None:
        """Add the path without an id: the body contains it, or the service creates one (docs/conformance, W-02)."""
        without_id = {
            **operation_object,
            "operationId": f"{operation.name}WithoutId",
            "summary": f"{summary_of(operation.name)} without id",
            "description": f"{operation_object['description']} The id is that of the body, or else a new UUID.",
            "parameters": [],
        }
        self._spec.path(operation.path.removesuffix("/{id}"), operations={"put": without_id})

    def _ok_responses(self, operation: Operation) -> JSONObject:
        if operation.resource_type is None:
            example = feed_example(self._records, BASE_URL)
            content = {"application/json": {"schema": schema_ref("Changes"), "example": example}}
            headers = header_refs(["X-Count", "Link"])
            return {"200": {"description": "Page of changes.", "headers": headers, "content": content}}
        if operation.method == "DELETE":
            return {"204": {"description": "Deleted.", "headers": header_refs(())}}
        if operation.method == "PUT":
            name = component_name(operation.resource_type.singular_name)
            return {"200": f"{name}Replaced", "201": f"{name}Created"}
        is_collection = operation.is_collection
        response = _collection_response if is_collection else _single_response
        return {"200": response(operation.resource_type), "304": "NotModified"}

    def _request_body(self, operation: Operation) -> JSONObject:
        assert operation.resource_type is not None
        name = operation.resource_type.singular_name
        record = schema_ref(f"{component_name(name)}Write")
        schema = {"type": "object", "required": [name], "properties": {name: record}}
        example = {name: _request_record(operation.resource_type, self._records[operation.resource_type.name])}
        return {"required": True, "content": {"application/json": {"schema": schema, "example": example}}}

    def _add_section(self, section: ApiSection) -> None:
        self._spec.tag({"name": section.name, "description": section.description})
        for name, schema in section.schemas.items():
            self._spec.components.schema(name, schema)
        for each in section.operations:
            operation = {**each.content, "tags": [section.name], "servers": [{"url": BASE_URL}]}
            self._spec.path(each.path, operations={each.method.lower(): operation})


def _field_schema(_: OpenAPIConverter, field: fields.Field[Any], **__: object) -> JSONSchema:
    """Return the schema of a field in responses, as apispec calls this function."""
    return response_schema(field)


def _server(root: ApiRoot) -> JSONObject:
    page = f"a page of {root.default_limit}" if root.default_limit else "the whole collection"
    return {"url": BASE_URL + root.path, "description": f"Without limit: {page}."}


def _reference_tokens() -> set[str]:
    return {
        field.token
        for resource_type in RESOURCES.values()
        for field in resource_type.fields.values()
        if isinstance(field, RefField)
    }


def _operations_of(resource_type: ResourceType) -> list[Operation]:
    return [operation for operation in OPERATIONS.values() if operation.resource_type is resource_type]


def _single_response(resource_type: ResourceType) -> str:
    return component_name(resource_type.singular_name)


def _collection_response(resource_type: ResourceType) -> str:
    return f"{component_name(resource_type.singular_name)}Collection"


def _ok_response(description: str, envelope: str, schema: JSONSchema, example: object) -> JSONObject:
    media = {"schema": _envelope(envelope, schema), "example": {envelope: example}}
    return {"description": description, "content": {"application/json": media}}


def _envelope(name: str, schema: JSONSchema) -> JSONSchema:
    warnings = {"type": "array", "items": schema_ref("StatusInfo")}
    return {"type": "object", "required": [name], "properties": {name: schema, "statusInfoSet": warnings}}


def _request_record_schema(resource_type: ResourceType) -> JSONSchema:
    """Return the schema of the records in requests of grade tools. The service sets `dateLastModified`."""
    members = {name: field for name, field in resource_type.fields.items() if name != "dateLastModified"}
    required = [name for name, field in members.items() if field.required and name not in OPTIONAL_FIELDS]
    properties = {name: request_schema(field, is_required=name in required) for name, field in members.items()}
    return {"type": "object", "required": required, "properties": properties}


def _request_record(resource_type: ResourceType, record: Mapping[str, Any]) -> JSONObject:
    """Return a served record in the form of a request: its references have ids alone."""
    return {
        name: {"sourcedId": value["sourcedId"]} if isinstance(resource_type.fields[name], RefField) else value
        for name, value in record.items()
        if name not in ("sourcedId", "dateLastModified")
    }


def _error_responses(operation: Operation) -> JSONObject:
    return {str(status): error_component(status) for status in statuses_of(operation)}


def _description(operation: Operation) -> str:
    """Return the scopes that an operation requires."""
    text = f"Requires the scope {operation.scope_names}."
    if isinstance(operation.route, WriteRoute) and operation.route.deletion_scope:
        name = operation.route.deletion_scope.rpartition("/")[2]
        text += f" A record with the status `tobedeleted` is deleted, which requires the scope {name} too."
    return text


def _first_sentence(cls: type) -> str:
    """Return the first sentence of the docstring of a class."""
    return (inspect.getdoc(cls) or "").partition(". ")[0].partition("\n")[0].removesuffix(".") + "."
