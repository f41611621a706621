"""Schema and example of the change feed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from chalk_flask.api.reads import changes
from chalk_flask.oneroster.schemas import RESOURCES
from chalk_flask.openapi.json_schemas import ID_SCHEMA, JSONObject

__all__ = ["FEED_SCHEMA", "feed_example"]

_ENTITIES = [resource_type.singular_name for resource_type in RESOURCES.values()]

_CHANGE_SCHEMA: JSONObject = {
    "type": "object",
    "required": ["sequence", "type", "entity", "sourcedId"],
    "properties": {
        "sequence": {"type": "integer", "minimum": 1},
        "type": {"type": "string", "enum": [f"{each}.{kind}" for each in _ENTITIES for kind in ("updated", "deleted")]},
        "entity": {"type": "string", "enum": _ENTITIES},
        "sourcedId": ID_SCHEMA,
        "record": {
            "type": "object",
            "description": "The record as it is now, as a read of its `entity` returns it. Missing with `include=ids`.",
        },
    },
}

FEED_SCHEMA: JSONObject = {
    "type": "object",
    "required": ["changes", "sequence", "more", "next"],
    "properties": {
        "changes": {"type": "array", "items": _CHANGE_SCHEMA},
        "sequence": {"type": "integer", "minimum": 0, "description": "Sequence number of the last change on the page."},
        "more": {"type": "boolean", "description": "True if there are more changes."},
        "next": {"type": "string", "format": "uri", "description": "URL of the next request."},
    },
}


def feed_example(records: Mapping[str, Mapping[str, Any]], base_url: str) -> JSONObject:
    """Return a page with one change. `records` are examples by collection."""
    collection, record = next(iter(records.items()))
    entity = RESOURCES[collection].singular_name
    change = {"sequence": 1, "type": f"{entity}.updated", "entity": entity, "sourcedId": record["sourcedId"]}
    return {
        "changes": [change | {"record": record}],
        "sequence": 1,
        "more": False,
        "next": f"{base_url}{changes.PATH}?since=1",
    }
