"""Derived fields: the `children` of orgs and sessions, the `resources` of courses and classes.

No CSV column carries them. They follow from the parents and from the link files of a package.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping

from backends import Snapshot, batched
from chalk_flask.oneroster.csv.row_parser import ParsedRow, encode
from chalk_flask.oneroster.fields.composites import RefListField
from chalk_flask.oneroster.relations import ACTIVE_ONLY
from chalk_flask.oneroster.resource_type import ResourceType
from chalk_flask.oneroster.schemas import FILES
from chalk_flask.oneroster.vocabularies import ACTIVE

__all__ = [
    "Links",
    "changed_links",
    "children_by_parent",
    "group_pairs",
    "link_sources",
    "stored_pairs",
    "stored_parents",
    "with_derived_field",
]

Links = dict[str, list[str]]
"""Ids in a derived field by the id of the record, sorted."""

BATCH_SIZE = 1000


def link_sources() -> dict[str, tuple[str, str]]:
    """Return collection and name of the derived field by link file."""
    return {
        element.link: (resource_type.name, name)
        for resource_type in FILES.values()
        for name, element in resource_type.derived_fields.items()
        if element.link
    }


def children_by_parent(parents: Mapping[str, str]) -> Links:
    """Return the children by parent. `parents` holds the parent of each active record: a tombstone is not a child."""
    return group_pairs((parent, key) for key, parent in parents.items())


def stored_parents(
    stored: Snapshot, resource_type: ResourceType, element: RefListField, stays: Callable[[str], bool]
) -> dict[str, str]:
    """Return the parents of the stored active records whose ids meet the condition."""
    parents = {}
    for body in _active_bodies(stored, resource_type.name):
        data = resource_type.normalize(body)
        if element.inverse in data and stays(data["sourcedId"]):
            parents[data["sourcedId"]] = data[element.inverse]
    return parents


def stored_pairs(stored: Snapshot, name: str) -> dict[str, tuple[str, str]]:
    """Return owner and target of the stored active links of a link file, by the id of the link."""
    pairs: dict[str, tuple[str, str]] = {}
    for body in _active_bodies(stored, name):
        data = FILES[name].normalize(body)
        owner, target = (data[reference.name] for reference in FILES[name].references)
        pairs[data["sourcedId"]] = owner, target
    return pairs


def group_pairs(pairs: Iterable[tuple[str, str]]) -> Links:
    """Return the distinct second items of the pairs by their first item, sorted."""
    groups: dict[str, set[str]] = {}
    for owner, key in pairs:
        groups.setdefault(owner, set()).add(key)
    return {owner: sorted(keys) for owner, keys in groups.items()}


def with_derived_field(row: ParsedRow, name: str, element: RefListField, keys: list[str] | None) -> ParsedRow:
    """Return the row with a derived field before the metadata. A tombstone gets none, since it has no children."""
    if not keys or row.values["status"] != ACTIVE:
        return row
    body = dict(row.body)
    metadata = body.pop("metadata", None)
    body[name] = element.to_json(keys)
    if metadata is not None:
        body["metadata"] = metadata
    paths = (stored.path for stored in element.storage_fields(name))
    values = row.values | dict(zip(paths, element.comparison_keys(keys), strict=True))
    return ParsedRow(row.key, encode(body), values, body)


def changed_links(
    stored: Snapshot, resource_type: ResourceType, name: str, links: Mapping[str, list[str]]
) -> Iterator[tuple[str, list[str]]]:
    """Yield id and new value of the stored active records whose derived field differs from `links`."""
    for body in _active_bodies(stored, resource_type.name):
        data = resource_type.normalize(body)
        keys = links.get(data["sourcedId"], [])
        if data.get(name, []) != keys:
            yield data["sourcedId"], keys


def _active_bodies(stored: Snapshot, name: str) -> Iterator[bytes]:
    keys = stored.keys(name, ACTIVE_ONLY)
    for batch in batched(keys, BATCH_SIZE):
        yield from stored.get_many(name, batch).values()
