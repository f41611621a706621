"""Section of the document: operations outside the API roots, with their schemas."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from chalk_flask.openapi.json_schemas import JSONObject, JSONSchema

__all__ = ["BASE_URL", "ApiSection", "SectionOperation"]

BASE_URL = "{{base_url}}"
"""Text in the document that stands for the URL at which the application is mounted."""


@dataclass(frozen=True, slots=True)
class SectionOperation:
    """Operation at a path of the application. `content` is its Operation Object, without tags and servers."""

    method: str
    path: str
    content: JSONObject


@dataclass(frozen=True, slots=True)
class ApiSection:
    """Operations that readers see under one tag. `name` and `description` are those of the tag."""

    name: str
    description: str
    schemas: Mapping[str, JSONSchema] = field(default_factory=dict)
    operations: tuple[SectionOperation, ...] = ()
