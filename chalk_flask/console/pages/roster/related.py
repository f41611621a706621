"""Table of the lists on the page of a record: records that refer to it, and records that the API lists below it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from flask import url_for

from chalk_flask.console.api_client import ApiResult
from chalk_flask.console.context import ConsoleRequest
from chalk_flask.console.pages.roster.catalog import COLLECTIONS, BrowsedCollection, Column, find_nested, label_of
from chalk_flask.console.pages.roster.labels import RecordLinks
from chalk_flask.console.pages.roster.rows import Row, headers_of, page_size, rows_of
from chalk_flask.console.pages.roster.search import clause
from chalk_flask.console.widgets.encrypted_search import encrypt_search
from chalk_flask.oneroster.fields.composites import RefField
from chalk_flask.oneroster.schemas import RESOURCES
from chalk_flask.oneroster.vocabularies import ACTIVE, TO_BE_DELETED

__all__ = ["RelatedList", "RelatedPart", "related_parts"]

MAX_ROWS = 8
"""Maximum number of records of a list on the page of a record. A link leads to the others."""
MAX_COLUMNS = 4


@dataclass(frozen=True, slots=True)
class RelatedList:
    """List on the page of a record.

    `collection` is the name of a collection. The list has its records with this id in the field `filter_field`. If that
    is empty, the list has the records that the API serves below the record. With `only_active`, the page shows and
    counts active ones. Choose it for short lists only, because the status is in no index.
    """

    title: str
    collection: str
    filter_field: str = ""
    only_active: bool = False


@dataclass(frozen=True, slots=True)
class RelatedPart:
    """Read list, ready for the template: the first rows, the total, and the URL of the whole list.

    `deleted` is the number of deleted records that only the whole list shows.
    """

    title: str
    first_is_link: bool
    headers: list[dict[str, Any]]
    rows: list[Row]
    total: int
    href: str
    message: str
    deleted: int = 0


_LISTS: Mapping[str, tuple[RelatedList, ...]] = {
    "users": (
        RelatedList("Classes", "classes"),
        RelatedList("Guardian or other agent of", "users", "agents"),
        RelatedList("Enrollments", "enrollments", "user", only_active=True),
        RelatedList("Results", "results", "student"),
    ),
    "classes": (
        RelatedList("Teachers", "teachers"),
        RelatedList("Students", "students"),
        RelatedList("Line items", "lineItems"),
        RelatedList("Results", "results"),
        RelatedList("Enrollments", "enrollments", "class", only_active=True),
    ),
    "orgs": (
        RelatedList("Child organizations", "orgs", "parent"),
        RelatedList("Classes", "classes", "school"),
        RelatedList("Courses", "courses", "org"),
        RelatedList("Students", "students", "orgs"),
        RelatedList("Teachers", "teachers", "orgs"),
        RelatedList("All people", "users", "orgs"),
    ),
}
"""Lists of the records that administrators open most. Those of other resource types follow from the references."""


def _referring_lists(name: str) -> Iterator[RelatedList]:
    """Yield a list for each reference of the schemas to this resource type, except derived ones."""
    for other in RESOURCES.values():
        for field_name, field in other.fields.items():
            if isinstance(field, RefField) and field.target == name and not getattr(field, "inverse", ""):
                word = "" if field_name in ("class", other.singular_name) else f" ({label_of(field_name).lower()})"
                yield RelatedList(label_of(other.name) + word, other.name, field_name)


def lists_of(name: str) -> tuple[RelatedList, ...]:
    """Return the lists on the page of a record of a resource type."""
    return _LISTS[name] if name in _LISTS else tuple(_referring_lists(name))


def related_parts(console: ConsoleRequest, name: str, sourced_id: str, links: RecordLinks) -> list[RelatedPart]:
    """Return the lists of a record of a resource type, each with its first rows."""
    return [_read_part(console, related, name, sourced_id, links) for related in lists_of(name)]


def _read_part(
    console: ConsoleRequest, related: RelatedList, name: str, sourced_id: str, links: RecordLinks
) -> RelatedPart:
    params: dict[str, object] = {"limit": min(MAX_ROWS, page_size(console))}
    filter_text = ""
    if related.filter_field:
        collection, path = COLLECTIONS[related.collection], f"/{related.collection}"
        params["filter"] = filter_text = clause(related.filter_field, "=", sourced_id)
        href = url_for(
            "console.browse_collection", collection=related.collection, search=encrypt_search(filter=filter_text)
        )
    else:
        collection = find_nested(name, related.collection)
        path = f"/{name}/{console.api.quote_id(sourced_id)}/{related.collection}"
        href = url_for("console.browse_nested", collection=name, record_id=sourced_id, nested=related.collection)
    deleted = 0
    if related.only_active:
        deleted = console.api.count(path, {"filter": f"{filter_text} AND {clause('status', '=', TO_BE_DELETED)}"})
        params["filter"] = f"{filter_text} AND {clause('status', '=', ACTIVE)}"
    result = console.api.get(path, params)
    columns = _columns_of(collection, related.filter_field or RESOURCES[name].singular_name)
    rows = rows_of(collection, result.records, links, columns)
    first_is_link = collection.presentation.first_is_link
    message = _message_of(result)
    return RelatedPart(related.title, first_is_link, headers_of(columns), rows, result.total, href, message, deleted)


def _columns_of(collection: BrowsedCollection, common_field: str) -> tuple[Column, ...]:
    """Return the first columns of a collection, without the one that is equal in all rows.

    The id is among them if no other column links the page of the record.
    """
    columns = tuple(column for column in collection.columns if column.name != common_field)
    if collection.presentation.first_is_link:
        return columns[:MAX_COLUMNS]
    ids = tuple(column for column in columns if column.kind == "id")
    return columns[: MAX_COLUMNS - 1] + ids


def _message_of(result: ApiResult) -> str:
    """Return the message of a failed request. A tombstone is no parent of a list, so the list is only empty."""
    return "" if result.status == 404 else result.message
