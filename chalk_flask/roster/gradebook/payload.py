"""What a grade tool sends, read as leniently as grade tools need it (digest 7), into the values that are stored."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import cast

from marshmallow import ValidationError

from chalk_flask.oneroster.fields.composites import RefField
from chalk_flask.oneroster.fields.scalars import JSON
from chalk_flask.oneroster.resource_type import ResourceType
from chalk_flask.oneroster.vocabularies import ACTIVE

__all__ = ["InvalidPayloadError", "Payload", "parse_payload"]

Payload = dict[str, JSON]
"""Normal values by JSON name, as `Resource.record` takes them, without `dateLastModified`."""

DEFAULTED_FIELDS = ("category",)
"""What the schema demands and the gradebook fills in when it is not sent."""

MISSING_FIELD_MESSAGE = "Missing data for required field."


class InvalidPayloadError(Exception):
    """A record cannot be kept as it was sent; the message names the member and says why."""


def parse_payload(resource: ResourceType, key: str, members: Mapping[str, JSON]) -> Payload:
    """The record that a client means. Raises Unprocessable, with all that is wrong with its members.

    Members that the class does not have are left out, and so is the client's `dateLastModified`; null and empty members
    count as absent (reading W-05). References are not followed here.
    """
    members = {
        name: _without_role_token(name, resource, value)
        for name, value in members.items()
        if name in resource.fields and name != "dateLastModified" and value not in (None, "", [])
    }
    data = _load(resource, {"status": ACTIVE, **members, "sourcedId": key})
    if missing := resource.missing_required(data):  # a result has a score, unless the student is exempt (reading W-06)
        raise InvalidPayloadError(f"{missing} is missing")
    low, high = data.get("resultValueMin", 0), data.get("resultValueMax", 0)
    if "resultValueMin" in data and low > high:
        raise InvalidPayloadError(f"resultValueMin: {low} is above resultValueMax, {high}")
    return data


def _without_role_token(name: str, resource: ResourceType, value: JSON) -> JSON:
    """A reference may carry the token of its role, such as student, which is legal in 1.1 (reading W-03)."""
    if isinstance(resource.fields[name], RefField) and isinstance(value, dict) and value.get("type") in (name, None):
        return {"sourcedId": value.get("sourcedId")}
    return value


def _load(resource: ResourceType, members: Mapping[str, JSON]) -> Payload:
    try:
        loaded = cast("dict[str, JSON]", resource.schema.load(members, partial=DEFAULTED_FIELDS))
    except ValidationError as error:
        found = cast("dict[str, Sequence[str]]", error.messages)
        raise InvalidPayloadError("; ".join(_message(name, texts[0]) for name, texts in found.items())) from None
    return {cast(str, resource.schema.load_fields[name].data_key): value for name, value in loaded.items()}


def _message(name: str, text: str) -> str:
    return f"{name} is missing" if text == MISSING_FIELD_MESSAGE else f"{name}: {text}"
