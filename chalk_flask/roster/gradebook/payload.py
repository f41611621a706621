"""Validation of the JSON that a grade tool sends. It is lenient where grade tools need it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeAlias, cast

from marshmallow import ValidationError

from chalk_flask.oneroster.fields.composites import RefField, exceeded_metadata_limit, longest_metadata_text
from chalk_flask.oneroster.fields.scalars import JSON, id_from_cell
from chalk_flask.oneroster.resource_type import ResourceType
from chalk_flask.oneroster.vocabularies import ACTIVE, GRADED, NOT_SUBMITTED, SCORE_STATUS

__all__ = ["MAX_TEXT_LENGTH", "OPTIONAL_FIELDS", "InvalidPayloadError", "Payload", "check_new_id", "parse_payload"]

Payload: TypeAlias = dict[str, JSON]
"""Normalized values by JSON name, as `ResourceType.record` takes them, without `dateLastModified`."""

DEFAULTED_FIELDS = ("category",)
"""Required fields for which the gradebook has a default."""

OPTIONAL_FIELDS = frozenset({"sourcedId", *DEFAULTED_FIELDS, "scoreStatus"})
"""Required fields that a client can omit: the id is in the path, and the others have a default (W-06 and W-07)."""

MAX_TEXT_LENGTH = 65_536
"""Maximum length in characters of a text that a grade tool sends. Packages may contain, and stores keep, longer ones.

The time of a search grows with the length.
"""

MISSING_FIELD_MESSAGE = "Missing data for required field."


class InvalidPayloadError(Exception):
    """Error in the payload of a record. The message names the member and the reason."""


def parse_payload(
    resource_type: ResourceType, key: str, payload: Mapping[str, JSON], visible: Mapping[str, JSON] | None = None
) -> Payload:
    """Return the values of the record that a client sent. References are not resolved here.

    Unknown members and the client's `dateLastModified` are ignored; null and empty members count as absent
    (interpretation W-05). `visible` is the part of a completed payload that the writer sees. Only its metadata is
    limited, so that the limits do not reveal the rest. Raises InvalidPayloadError with all invalid members.
    """
    members = {
        name: _without_role_token(name, resource_type, value)
        for name, value in payload.items()
        if name in resource_type.fields and name != "dateLastModified" and value not in (None, "", [])
    }
    if resource_type.name == "results":
        members = _with_score_status(members)
    data = _load(resource_type, {"status": ACTIVE, **members, "sourcedId": key})
    if missing := resource_type.missing_required(data):  # a result without a score (W-06)
        raise InvalidPayloadError(f"{missing} is required")
    # Stored metadata may exceed the limits, so they are not rules of the field.
    if limit := exceeded_metadata_limit((data if visible is None else visible).get("metadata")):
        raise InvalidPayloadError(f"metadata: {limit}")
    _check_text_lengths(data)
    low, high = data.get("resultValueMin", 0), data.get("resultValueMax", 0)
    if "resultValueMin" in data and low > high:
        raise InvalidPayloadError(f"resultValueMin: {low} is greater than resultValueMax {high}")
    return data


def check_new_id(key: str) -> None:
    """Raise InvalidPayloadError for the id of a new record that a package could not contain (interpretation A-22)."""
    try:
        id_from_cell(key)
    except ValidationError as error:
        raise InvalidPayloadError(f"sourcedId: {error.args[0]}") from None


def _check_text_lengths(data: Payload) -> None:
    """Raise InvalidPayloadError for a text that is too long (interpretation W-16)."""
    for name, value in data.items():
        length = len(value) if isinstance(value, str) else longest_metadata_text(value) if name == "metadata" else 0
        if length > MAX_TEXT_LENGTH:
            raise InvalidPayloadError(
                f"{name}: the text has {length} characters; at most {MAX_TEXT_LENGTH} are allowed"
            )


def _with_score_status(members: Mapping[str, JSON]) -> dict[str, JSON]:
    """Return the members of a result with its score status, which one LMS sends as `status` (interpretation W-06).

    The default is `fully graded` with a score, and `not submitted` without.
    """
    result = dict(members)
    if result.get("status") in SCORE_STATUS:
        result.setdefault("scoreStatus", result["status"])
        del result["status"]
    result.setdefault("scoreStatus", GRADED if "score" in result else NOT_SUBMITTED)
    return result


def _without_role_token(name: str, resource_type: ResourceType, value: JSON) -> JSON:
    """Return a reference without a type that repeats its role, such as student, which is valid in 1.1 (W-03)."""
    if (
        isinstance(resource_type.fields[name], RefField)
        and isinstance(value, dict)
        and value.get("type") in (name, None)
    ):
        return {"sourcedId": value.get("sourcedId")}
    return value


def _load(resource_type: ResourceType, members: Mapping[str, JSON]) -> Payload:
    try:
        data = cast("dict[str, JSON]", resource_type.schema.load(members, partial=DEFAULTED_FIELDS))
    except ValidationError as error:
        messages = cast("dict[str, Sequence[str]]", error.messages)
        raise InvalidPayloadError("; ".join(_message(name, texts[0]) for name, texts in messages.items())) from None
    return {cast(str, resource_type.schema.load_fields[name].data_key): value for name, value in data.items()}


def _message(name: str, text: str) -> str:
    return f"{name} is required" if text == MISSING_FIELD_MESSAGE else f"{name}: {text}"
