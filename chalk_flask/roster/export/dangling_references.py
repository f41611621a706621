"""Dangling references: references of active records to deleted ones.

An import removes such references or deletes the record (interpretation I-26), but stores of earlier versions may
contain them. A package cannot contain the reference, because an import rejects it. Therefore an export leaves out the
reference, or the whole record if the reference is required (I-31).
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
    """Dangling references of a snapshot, by collection.

    `excluded` are the ids of active records that lack a required reference. `targets` are the referenced ids that are
    deleted or excluded.
    """

    excluded: dict[str, set[str]] = field(default_factory=lambda: {name: set() for name in FILES})
    targets: dict[str, set[str]] = field(default_factory=lambda: {name: set() for name in FILES})

    def is_excluded(self, collection: str, body: JSONBody) -> bool:
        """Return True if the record lacks a required reference."""
        return body["sourcedId"] in self.excluded[collection]

    def targets_by_reference(self, resource_type: ResourceType) -> dict[str, set[str]]:
        """Return the ids to remove from the records of a resource type, by the name of the reference."""
        return {
            reference.name: self.targets[reference.target]
            for reference in _csv_references(resource_type)
            if self.targets[reference.target]
        }


def find_dangling_references(snapshot: Snapshot) -> DanglingReferences:
    """Return the dangling references of a tenant. Fast if few records are deleted."""
    dangling = DanglingReferences()
    for name in _targets_first():
        resource_type = FILES[name]
        if resource_type.shares_ids_with:
            _add_dangling(snapshot, resource_type, None, dangling)
        # References to the same collection come last, because they depend on its excluded records.
        for reference in sorted(_csv_references(resource_type), key=lambda reference: reference.target == name):
            _add_dangling(snapshot, resource_type, reference, dangling)
    return dangling


def without_references(body: JSONBody, targets: Mapping[str, set[str]]) -> JSONBody:
    """Return the record without the references to `targets`, as `targets_by_reference` returns them."""
    if not targets:
        return body
    return {name: _remove_targets(value, targets[name]) if name in targets else value for name, value in body.items()}


def _csv_references(resource_type: ResourceType) -> Iterator[Reference]:
    return (reference for reference in resource_type.references if reference.name not in resource_type.derived_fields)


def _targets_first() -> Iterable[str]:
    targets: dict[str, set[str]] = {}
    for name, resource_type in FILES.items():
        targets[name] = {reference.target for reference in _csv_references(resource_type)} - {name}
        targets[name] |= {resource_type.shares_ids_with} if resource_type.shares_ids_with else set()
    return TopologicalSorter(targets).static_order()


def _add_dangling(
    snapshot: Snapshot, resource_type: ResourceType, reference: Reference | None, dangling: DanglingReferences
) -> None:
    """Add the dangling ids of a reference, or, if it is None, of the id that the resource type shares."""
    target = reference.target if reference else resource_type.shares_ids_with
    path = reference.field if reference else KEY
    to_deleted = In(path, Subquery(target, KEY, Not(ACTIVE_ONLY)))
    to_excluded = In(path, tuple(dangling.excluded[target]))
    keys = snapshot.keys(resource_type.name, And((ACTIVE_ONLY, Or((to_deleted, to_excluded)))))
    for batch in batched(keys, BATCH_SIZE):
        bodies = map(orjson.loads, snapshot.get_many(resource_type.name, batch).values())
        referenced = {
            body["sourcedId"]: resource_type.referenced_ids(body[reference.name] if reference else body)
            for body in bodies
        }
        ids = set().union(*referenced.values())
        present = set(snapshot.keys(target, And((ACTIVE_ONLY, In(KEY, tuple(ids)))))) - dangling.excluded[target]
        dangling.targets[target] |= ids - present
        if reference is None or reference.field_type.required_in_csv:
            dangling.excluded[resource_type.name] |= {key for key, ids in referenced.items() if present.isdisjoint(ids)}


def _remove_targets(value: Any, targets: set[str]) -> Any:
    if isinstance(value, list):
        return [item for item in value if item["sourcedId"] not in targets]
    return None if value["sourcedId"] in targets else value
