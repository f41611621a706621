"""Links to records, with the names that the API serves for them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from flask import url_for

from chalk_flask.console.pages.roster.catalog import BY_RESOURCE_TYPE, title_of
from chalk_flask.console.pages.roster.search import clause
from chalk_flask.oneroster.vocabularies import TO_BE_DELETED

if TYPE_CHECKING:
    from collections.abc import Mapping

    from chalk_flask.console.api_client import ApiClient

__all__ = ["RecordLink", "RecordLinks", "find_record", "record_url"]

MAX_LOOK_UPS = 60
"""Maximum number of records whose names are read for one page. Further links show the id."""


@dataclass(frozen=True, slots=True)
class RecordLink:
    """Link to the page of a record. `note` is `deleted` for a tombstone and `missing` for an unknown id, else empty.

    A link without `href` is only a text.
    """

    text: str
    href: str
    note: str = ""


def record_url(name: str, sourced_id: str) -> str:
    """Return the URL of a record's page."""
    return url_for("console.show_record", collection=name, record_id=sourced_id)


def find_record(api: ApiClient, name: str, sourced_id: str, fields: str = "") -> dict[str, Any] | None:
    """Return the record of a collection with this id as the API serves it, or None.

    Single reads of the gradebook exclude tombstones, and a filter by status includes them.
    """
    result = api.get(f"/{name}/{api.quote_id(sourced_id)}", {"fields": fields})
    if result.ok:
        return result.record
    deleted = f"{clause('sourcedId', '=', sourced_id)} AND {clause('status', '=', TO_BE_DELETED)}"
    records = api.get(f"/{name}", {"filter": deleted, "limit": 1, "fields": fields}).records
    return records[0] if records else None


class RecordLinks:
    """Links of one page. Each referenced record is read once."""

    def __init__(self, api: ApiClient) -> None:
        self._api = api
        self._links: dict[tuple[str, str], RecordLink] = {}

    def link(self, name: str, sourced_id: str) -> RecordLink:
        """Return the link to a record of a resource type."""
        key = name, sourced_id
        if key not in self._links:
            if len(self._links) >= MAX_LOOK_UPS:
                return RecordLink(sourced_id, record_url(name, sourced_id))
            self._links[key] = self._read_link(name, sourced_id)
        return self._links[key]

    def links(self, name: str, value: Any) -> tuple[RecordLink, ...]:
        """Return the links of a reference or a list of references, as a record contains them."""
        references = value if isinstance(value, list) else [value]
        return tuple(self.link(name, reference["sourcedId"]) for reference in references)

    def _read_link(self, name: str, sourced_id: str) -> RecordLink:
        fields = (*BY_RESOURCE_TYPE[name].presentation.title, "sourcedId", "status")
        record = find_record(self._api, name, sourced_id, ",".join(fields))
        if record is None:
            return RecordLink(sourced_id, "", "missing")
        return RecordLink(title_of(name, record), record_url(name, sourced_id), _note_of(record))


def _note_of(record: Mapping[str, Any]) -> str:
    return "deleted" if record.get("status") == TO_BE_DELETED else ""
