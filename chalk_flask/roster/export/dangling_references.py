"""What active records name that is not active: the record stays as it is until its own file comes (reading I-26).

A package cannot say it: an import refuses a row that leads nowhere. So an export does without such a reference, and
without a row that would need it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from graphlib import TopologicalSorter
from typing import Any, TypeAlias

import orjson

from backends import KEY, And, In, Not, Or, Snapshot, Subquery, batched
from chalk_flask.oneroster.relations import ACTIVE_ONLY
from chalk_flask.oneroster.resource_type import Reference, ResourceType
from chalk_flask.oneroster.schemas import FILES

__all__ = ["DanglingReferences", "JSONBody", "find_dangling_references", "without_references"]

BATCH_SIZE = 1000

JSONBody: TypeAlias = Mapping[str, Any]


@dataclass
class DanglingReferences:
    """By collection: `rows` are ids of active records that lack what a row must name, `named` the ids that active
    records name although they are deleted or such a row."""

    rows: dict[str, set[str]] = field(default_factory=lambda: {name: set() for name in FILES})
    targets: dict[str, set[str]] = field(default_factory=lambda: {name: set() for name in FILES})

    def allows(self, name: str, body: JSONBody) -> bool:
        """Whether a record of the collection can be a row."""
        return body["sourcedId"] not in self.rows[name]

    def targets_by_reference(self, resource: ResourceType) -> dict[str, set[str]]:
        """The ids that lead nowhere, by the reference that may name them."""
        return {each.name: self.targets[each.target] for each in references(resource) if self.targets[each.target]}


def find_dangling_references(snapshot: Snapshot) -> DanglingReferences:
    """Look through the references of a tenant; quick where little is deleted."""
    found = DanglingReferences()
    for name in _targets_first():
        resource = FILES[name]
        if resource.shares_ids_with:
            _add_dangling(snapshot, resource, None, found)
        # To its own collection last: which of its rows are there is known only then.
        for reference in sorted(references(resource), key=lambda each: each.target == name):
            _add_dangling(snapshot, resource, reference, found)
    return found


def without_references(body: JSONBody, gone: Mapping[str, set[str]]) -> JSONBody:
    """The record without the references that lead nowhere, as `Dangling.of` gives them."""
    return (
        {name: _remove_targets(value, gone[name]) if name in gone else value for name, value in body.items()}
        if gone
        else body
    )


def references(resource: ResourceType) -> Iterator[Reference]:
    """The references that a row carries."""
    return (each for each in resource.references if each.name not in resource.derived_fields)


def _targets_first() -> Iterable[str]:
    targets = {each.name: {to.target for to in references(each)} - {each.name} for each in FILES.values()}
    for name, resource in FILES.items():
        targets[name] |= {resource.shares_ids_with} if resource.shares_ids_with else set()
    return TopologicalSorter(targets).static_order()


def _add_dangling(
    snapshot: Snapshot, resource: ResourceType, reference: Reference | None, found: DanglingReferences
) -> None:
    """Note where a reference (None: the key that is shared with another collection) leads nowhere."""
    target = reference.target if reference else resource.shares_ids_with
    path = reference.field if reference else KEY
    nowhere = In(path, Subquery(target, KEY, Not(ACTIVE_ONLY)))
    left_out = In(path, tuple(found.rows[target]))
    waiting = snapshot.keys(resource.name, And((ACTIVE_ONLY, Or((nowhere, left_out)))))
    for batch in batched(waiting, BATCH_SIZE):
        bodies = map(orjson.loads, snapshot.get_many(resource.name, batch).values())
        named = {
            each["sourcedId"]: ResourceType.referenced_ids(each[reference.name] if reference else each)
            for each in bodies
        }
        ids = {each for these in named.values() for each in these}
        there = set(snapshot.keys(target, And((ACTIVE_ONLY, In(KEY, tuple(ids)))))) - found.rows[target]
        found.targets[target] |= ids - there
        if reference is None or reference.element.in_csv:
            found.rows[resource.name] |= {key for key, these in named.items() if there.isdisjoint(these)}


def _remove_targets(value: Any, gone: set[str]) -> Any:
    if isinstance(value, list):
        return [each for each in value if each["sourcedId"] not in gone]
    return None if value["sourcedId"] in gone else value
