"""JSON Schemas of the field types, in responses and in requests of grade tools.

An unknown field type raises TypeError, so a new one needs a schema here.
"""

from __future__ import annotations

from functools import singledispatch
from typing import Any, TypeAlias

from marshmallow import fields

from chalk_flask.oneroster.fields.composites import (
    EnumListField,
    MetadataField,
    RefField,
    RefListField,
    TextListField,
    UserIdsField,
)
from chalk_flask.oneroster.fields.scalars import (
    MAX_GUID_LENGTH,
    BooleanField,
    DateField,
    DateTimeField,
    EnumField,
    GuidField,
    NumberField,
    TextField,
    YearField,
)
from chalk_flask.oneroster.vocabularies import TRUTH
from chalk_flask.roster.gradebook.payload import MAX_TEXT_LENGTH

__all__ = [
    "ID_SCHEMA",
    "JSONObject",
    "JSONSchema",
    "component_name",
    "reference_name",
    "reference_schema",
    "request_schema",
    "response_schema",
    "schema_ref",
]

JSONObject: TypeAlias = dict[str, Any]
JSONSchema: TypeAlias = JSONObject

ID_SCHEMA: JSONSchema = {"type": "string", "minLength": 1, "maxLength": MAX_GUID_LENGTH}


def schema_ref(name: str) -> JSONSchema:
    """Return a reference to a schema among the components."""
    return {"$ref": f"#/components/schemas/{name}"}


def component_name(word: str) -> str:
    """Return the name of a component for a name of the standard: `LineItem` for `lineItem`."""
    return word[:1].upper() + word[1:]


def reference_name(token: str) -> str:
    """Return the name of the schema of references to records of a class."""
    return f"{component_name(token)}Reference"


def reference_schema(token: str) -> JSONSchema:
    """Return the schema of references to records of a class, as they are served."""
    return {
        "type": "object",
        "required": ["href", "sourcedId", "type"],
        "properties": {"href": {"type": "string", "format": "uri"}, "sourcedId": ID_SCHEMA, "type": {"const": token}},
    }


@singledispatch
def response_schema(field: fields.Field[Any]) -> JSONSchema:
    """Return the schema of the values of a field in responses. Raises TypeError for an unknown type."""
    raise TypeError(f"{type(field).__name__} needs a JSON Schema")


@response_schema.register
def _(field: GuidField) -> JSONSchema:
    return ID_SCHEMA


@response_schema.register
def _(field: TextField) -> JSONSchema:
    return {"type": "string"}


@response_schema.register
def _(field: EnumField) -> JSONSchema:
    return {"type": "string", "enum": list(field.vocabulary)}


@response_schema.register
def _(field: BooleanField) -> JSONSchema:
    return {"type": "string", "enum": list(TRUTH)}


@response_schema.register
def _(field: DateField) -> JSONSchema:
    return {"type": "string", "format": "date"}


@response_schema.register
def _(field: DateTimeField) -> JSONSchema:
    return {"type": "string", "format": "date-time"}


@response_schema.register
def _(field: YearField) -> JSONSchema:
    return {"type": "string", "pattern": "^[0-9]{4}$"}


@response_schema.register
def _(field: NumberField) -> JSONSchema:
    return {"type": "number"}


@response_schema.register
def _(field: TextListField) -> JSONSchema:
    return _list_of({"type": "string"})


@response_schema.register
def _(field: EnumListField) -> JSONSchema:
    return _list_of({"type": "string", "enum": list(field.vocabulary)})


@response_schema.register
def _(field: RefField) -> JSONSchema:
    return schema_ref(reference_name(field.token))


@response_schema.register
def _(field: RefListField) -> JSONSchema:
    return _list_of(schema_ref(reference_name(field.token)))


@response_schema.register
def _(field: UserIdsField) -> JSONSchema:
    parts = {name: {"type": "string"} for name in ("type", "identifier")}
    return _list_of({"type": "object", "required": list(parts), "properties": parts})


@response_schema.register
def _(field: MetadataField) -> JSONSchema:
    return {"type": "object", "additionalProperties": True}


def request_schema(field: fields.Field[Any], *, is_required: bool) -> JSONSchema:
    """Return the schema of the values of a field in requests of grade tools. An optional one can be null (W-05)."""
    if isinstance(field, RefField):
        schema = _request_reference(field)
    elif isinstance(field, TextField):
        schema = response_schema(field) | {"maxLength": MAX_TEXT_LENGTH}
    else:
        schema = response_schema(field)
    return (schema if is_required else _nullable(schema)) | _requirement(field)


def _request_reference(field: RefField) -> JSONSchema:
    """Return the schema of a reference without `href`. Its type can also be the name of the member (W-03)."""
    types = {"type": "string", "enum": list(dict.fromkeys((field.token, field.data_key)))}
    properties = {"sourcedId": ID_SCHEMA, "type": _nullable(types)}
    return {"type": "object", "required": ["sourcedId"], "properties": properties}


def _nullable(schema: JSONSchema) -> JSONSchema:
    """Return a schema that allows null too."""
    enum = {"enum": [*schema["enum"], None]} if "enum" in schema else {}
    return schema | {"type": [schema["type"], "null"]} | enum


def _requirement(field: fields.Field[Any]) -> JSONSchema:
    """Return the member `description` for a field that another one makes optional, or nothing."""
    optional_if: tuple[str, tuple[str, ...]] | None = getattr(field, "optional_if", None)
    if optional_if is None:
        return {}
    return {"description": f"Required unless `{optional_if[0]}` is one of: {', '.join(optional_if[1])}."}


def _list_of(items: JSONSchema) -> JSONSchema:
    return {"type": "array", "items": items}
