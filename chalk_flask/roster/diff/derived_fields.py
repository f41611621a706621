"""What other rows imply: the `children` of orgs and sessions, the `resources` of courses and classes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from backends import Record, Snapshot
from chalk_flask.oneroster.csv.row_parser import ParsedRow, encode
from chalk_flask.oneroster.fields.composites import RefListField
from chalk_flask.oneroster.relations import ACTIVE_ONLY
from chalk_flask.oneroster.resource_type import ResourceType
from chalk_flask.oneroster.schemas import FILES
from chalk_flask.oneroster.vocabularies import ACTIVE
from chalk_flask.roster.package.id_set import IdSet

__all__ = [
    "Links",
    "children_by_parent",
    "group_pairs",
    "link_sources",
    "records_with_other_links",
    "stored_links",
    "stored_pairs",
    "stored_parents",
    "with_derived_field",
]

Links = dict[str, list[str]]
"""For each record the ids that are derived for it, sorted."""

BATCH_SIZE = 1000


def link_sources() -> dict[str, tuple[str, str]]:
    """For each link file: the class it is folded into and that element's name."""
    return {
        element.link: (resource.name, name)
        for resource in FILES.values()
        for name, element in resource.derived_fields.items()
        if element.link
    }


def children_by_parent(parents: Mapping[str, str]) -> Links:
    """The records by their parent, given the parent of each that is active: a tombstone is nobody's child."""
    return group_pairs((parent, key) for key, parent in parents.items())


def stored_parents(before: Snapshot, resource: ResourceType, element: RefListField, excluded: IdSet) -> dict[str, str]:
    """The parents of the stored active records whose ids are not among the `others`."""
    found = {}
    for body in _active_bodies(before, resource.name):
        data = resource.normalize(body)
        if data["sourcedId"] not in excluded and element.inverse in data:
            found[data["sourcedId"]] = data[element.inverse]
    return found


def stored_pairs(before: Snapshot, name: str) -> dict[str, tuple[str, str]]:
    """The links of a link file as they are stored, active ones alone: owner and target by their own id."""
    found: dict[str, tuple[str, str]] = {}
    for body in _active_bodies(before, name):
        data = FILES[name].normalize(body)
        owner, target = (data[reference.name] for reference in FILES[name].references)
        found[data["sourcedId"]] = owner, target
    return found


def stored_links(before: Snapshot, name: str) -> Links:
    """The links of a link file as they are stored, active ones alone."""
    return group_pairs(stored_pairs(before, name).values())


def group_pairs(pairs: Iterable[tuple[str, str]]) -> Links:
    """The second ones of all pairs by the first, sorted, each once."""
    found: dict[str, set[str]] = {}
    for owner, key in pairs:
        found.setdefault(owner, set()).add(key)
    return {owner: sorted(keys) for owner, keys in found.items()}


def with_derived_field(draft: ParsedRow, name: str, element: RefListField, keys: list[str] | None) -> ParsedRow:
    """The draft with a derived element, in its place before the metadata. A tombstone has none, as nobody's parent."""
    if not keys or draft.values["status"] != ACTIVE:
        return draft
    body = dict(draft.body)
    metadata = body.pop("metadata", None)
    body[name] = element.to_json(keys)
    if metadata is not None:
        body["metadata"] = metadata
    paths = (stored.path for stored in element.storage_fields(name))
    values = draft.values | dict(zip(paths, element.comparison_keys(keys), strict=True))
    return ParsedRow(draft.key, body, values, encode(body))


def records_with_other_links(
    before: Snapshot, resource: ResourceType, name: str, links: Mapping[str, list[str]]
) -> Iterator[Record]:
    """The stored records of a class whose links have moved although its own file is not in the package."""
    for body in _active_bodies(before, resource.name):
        data = resource.normalize(body)
        keys = links.get(data["sourcedId"], [])
        if data.get(name, []) != keys:
            yield resource.record(data | {name: keys})


def _active_bodies(before: Snapshot, name: str) -> Iterator[bytes]:
    waiting: list[str] = []
    for key in before.keys(name, ACTIVE_ONLY):
        waiting.append(key)
        if len(waiting) == BATCH_SIZE:
            yield from before.get_many(name, waiting).values()
            waiting = []
    yield from before.get_many(name, waiting).values()
