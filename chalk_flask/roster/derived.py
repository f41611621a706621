"""What other rows imply: the `children` of orgs and sessions, the `resources` of courses and classes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from backends import Record, Snapshot
from chalk_flask.oneroster.compounds import Refs
from chalk_flask.oneroster.resource import Resource
from chalk_flask.oneroster.resources import FILES
from chalk_flask.oneroster.rows import Draft, encode
from chalk_flask.oneroster.vocabularies import ACTIVE
from chalk_flask.roster.references import ACTIVE_ONLY

__all__ = ["Links", "attach", "children", "link_sources", "relinked", "stored_links"]

Links = dict[str, list[str]]
"""For each record the ids that are derived for it, sorted."""

BATCH = 1000


def link_sources() -> dict[str, tuple[str, str]]:
    """For each link file: the class it is folded into and that element's name."""
    return {
        element.link: (resource.name, name)
        for resource in FILES.values()
        for name, element in resource.derived.items()
        if element.link
    }


def children(drafts: Iterable[Draft], field: str) -> Links:
    """The active drafts by the parent that their `field` names. A tombstone is nobody's child."""
    found: Links = {}
    for draft in drafts:
        parent = draft.values.get(field)
        if isinstance(parent, str) and draft.values["status"] == ACTIVE:
            found.setdefault(parent, []).append(draft.key)
    return {parent: sorted(keys) for parent, keys in found.items()}


def stored_links(before: Snapshot, name: str) -> Links:
    """The links of a link file as they are stored, active ones alone."""
    found: Links = {}
    for body in _bodies(before, name):
        data = FILES[name].normal(body)
        owner, target = (data[reference.name] for reference in FILES[name].references)
        found.setdefault(owner, []).append(target)
    return {owner: sorted(set(keys)) for owner, keys in found.items()}


def attach(draft: Draft, name: str, element: Refs, keys: list[str] | None) -> Draft:
    """The draft with a derived element, in its place before the metadata. A tombstone has none, as nobody's parent."""
    if not keys or draft.values["status"] != ACTIVE:
        return draft
    body = dict(draft.body)
    metadata = body.pop("metadata", None)
    body[name] = element.encoded(keys)
    if metadata is not None:
        body["metadata"] = metadata
    paths = (stored.path for stored in element.stored(name))
    values = draft.values | dict(zip(paths, element.keys(keys), strict=True))
    return Draft(draft.key, body, values, encode(body))


def relinked(before: Snapshot, resource: Resource, name: str, links: Mapping[str, list[str]]) -> Iterator[Record]:
    """The stored records of a class whose links have moved although its own file is not in the package."""
    for body in _bodies(before, resource.name):
        data = resource.normal(body)
        keys = links.get(data["sourcedId"], [])
        if data.get(name, []) != keys:
            yield resource.record(data | {name: keys})


def _bodies(before: Snapshot, name: str) -> Iterator[bytes]:
    waiting: list[str] = []
    for key in before.keys(name, ACTIVE_ONLY):
        waiting.append(key)
        if len(waiting) == BATCH:
            yield from before.bodies(name, waiting).values()
            waiting = []
    yield from before.bodies(name, waiting).values()
