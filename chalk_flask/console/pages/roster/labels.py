"""Links to records, with the names that the API serves for them."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any, TypeAlias

from flask import url_for

from chalk_flask.console.pages.roster.catalog import BY_RESOURCE_TYPE, title_of
from chalk_flask.console.pages.roster.search import clause
from chalk_flask.oneroster.vocabularies import TO_BE_DELETED

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from chalk_flask.console.api_client import ApiClient

__all__ = ["RecordLink", "RecordLinks", "Reference", "find_record", "record_url", "references_of"]

Reference: TypeAlias = tuple[str, str]
"""Name of a resource type, and id of one of its records."""

MAX_LOOK_UPS = 100
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
    """Links of one page. Each referenced record is read once, and those of a list together with `read`."""

    def __init__(self, api: ApiClient) -> None:
        self._api = api
        self._links: dict[tuple[str, str], RecordLink] = {}

    def read(self, references: Iterable[Reference]) -> None:
        """Read the names of the records that links will show, with one request for each resource type."""
        new = islice(
            (key for key in dict.fromkeys(references) if key not in self._links), MAX_LOOK_UPS - len(self._links)
        )
        ids_by_name: dict[str, list[str]] = {}
        for name, sourced_id in new:
            ids_by_name.setdefault(name, []).append(sourced_id)
        for name, ids in ids_by_name.items():
            fields = (*BY_RESOURCE_TYPE[name].presentation.title, "sourcedId", "status")
            records = self._api.find_many(f"/{name}", ids, ",".join(fields))
            self._links |= {(name, key): _link_of(name, key, records.get(key)) for key in ids}

    def link(self, name: str, sourced_id: str) -> RecordLink:
        """Return the link to a record of a resource type. Its name is read unless it was before."""
        self.read([(name, sourced_id)])
        return self._links.get((name, sourced_id)) or RecordLink(sourced_id, record_url(name, sourced_id))

    def links(self, name: str, value: Any) -> tuple[RecordLink, ...]:
        """Return the links of a reference or a list of references, as a record contains them."""
        references = references_of(name, value)
        self.read(references)
        return tuple(self.link(*reference) for reference in references)


def references_of(name: str, value: Any) -> list[Reference]:
    """Return the records of a resource type to which a reference or a list of references refers."""
    values = value if isinstance(value, list) else [value]
    return [(name, each["sourcedId"]) for each in values]


def _link_of(name: str, sourced_id: str, record: Mapping[str, Any] | None) -> RecordLink:
    if record is None:
        return RecordLink(sourced_id, "", "missing")
    return RecordLink(title_of(name, record), record_url(name, sourced_id), _note_of(record))


def _note_of(record: Mapping[str, Any]) -> str:
    return "deleted" if record.get("status") == TO_BE_DELETED else ""
