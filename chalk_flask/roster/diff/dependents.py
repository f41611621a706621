"""Stored records that refer to records which an import deletes.

No active record refers to a deleted one (docs/conformance, I-26): the reference is removed, and a record that requires
it is deleted too.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence, Set
from typing import NamedTuple

import orjson

from backends import KEY, And, In, Snapshot, batched
from chalk_flask.oneroster.fields.scalars import JSON
from chalk_flask.oneroster.relations import ACTIVE_ONLY
from chalk_flask.oneroster.resource_type import ResourceType

__all__ = ["Dependency", "Dependent", "dependencies", "find_dependents"]

BATCH_SIZE = 500


class Dependency(NamedTuple):
    """Reference of a file: JSON name (empty for an id that is shared), stored field, target collection.

    `is_required` is True if every record of the file must have it.
    """

    name: str
    field: str
    target: str
    is_required: bool


class Dependent(NamedTuple):
    """Stored active record that refers to a deleted one.

    `remaining` is the new value of each reference to change: a list of ids, or None. If `is_deleted` is True, the
    record requires a reference that has no active target any more.
    """

    key: str
    body: bytes
    remaining: Mapping[str, JSON]
    is_deleted: bool


def dependencies(resource_type: ResourceType) -> list[Dependency]:
    """Return the references of a file, without derived ones."""
    found = [
        Dependency(reference.name, reference.field, reference.target, reference.field_type.required_in_csv)
        for reference in resource_type.references
        if reference.name not in resource_type.derived_fields
    ]
    if resource_type.shares_ids_with:
        found.append(Dependency("", KEY, resource_type.shares_ids_with, True))
    return found


def find_dependents(
    stored: Snapshot, name: str, references: Sequence[Dependency], deleted_ids: Mapping[str, Set[str]]
) -> Iterator[Dependent]:
    """Yield each active record of a collection once that refers to one of the deleted ids of a target collection.

    Memory does not grow with the number of dependents.
    """
    for index, reference in enumerate(references):
        for batch in batched(deleted_ids.get(reference.target, ()), BATCH_SIZE):
            batch_ids = set(batch)
            keys = stored.keys(name, And((In(reference.field, tuple(batch)), ACTIVE_ONLY)))
            for key_batch in batched(keys, BATCH_SIZE):
                for key, body in stored.get_many(name, key_batch).items():
                    data = orjson.loads(body)
                    first = _first_deleted(data, references, deleted_ids)
                    # A record with several deleted targets is found several times.
                    if first is not None and first[0] == index and first[1] in batch_ids:
                        yield _dependent(key, body, data, references, deleted_ids)


def _first_deleted(
    data: Mapping[str, JSON], references: Sequence[Dependency], deleted_ids: Mapping[str, Set[str]]
) -> tuple[int, str] | None:
    for index, reference in enumerate(references):
        deleted = deleted_ids.get(reference.target, ())
        for key in _ids(data, reference):
            if key in deleted:
                return index, key
    return None


def _dependent(
    key: str,
    body: bytes,
    data: Mapping[str, JSON],
    references: Sequence[Dependency],
    deleted_ids: Mapping[str, Set[str]],
) -> Dependent:
    remaining: dict[str, JSON] = {}
    is_deleted = False
    for reference in references:
        deleted = deleted_ids.get(reference.target, ())
        ids = _ids(data, reference)
        active = [target for target in ids if target not in deleted]
        if len(active) < len(ids):
            remaining[reference.name] = active if isinstance(data.get(reference.name), list) else None
            is_deleted = is_deleted or (reference.is_required and not active)
    return Dependent(key, body, remaining, is_deleted)


def _ids(data: Mapping[str, JSON], reference: Dependency) -> list[str]:
    return ResourceType.referenced_ids(data.get(reference.name) if reference.name else data)
