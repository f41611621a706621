"""Version of a roster, and the gradebook records that grade tools wrote since a version.

An import compares its package with a snapshot and writes later. What grade tools write in the meantime rarely concerns
it. `find_tool_writes` and `has_conflicts` find out whether it does (interpretation I-32).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import NamedTuple, TypeAlias

import orjson

from backends import KEY, And, In, Snapshot, batched
from chalk_flask.oneroster.relations import ACTIVE_ONLY
from chalk_flask.oneroster.resource_type import ResourceType
from chalk_flask.oneroster.schemas import FILES
from chalk_flask.roster.changes import clock, sequence
from chalk_flask.roster.changes.grade_tool_records import WRITABLE_COLLECTIONS

__all__ = ["RosterVersion", "ToolWrites", "find_tool_writes", "has_conflicts", "only_tools_wrote", "roster_version"]

BATCH_SIZE = 500

ToolWrites: TypeAlias = Mapping[str, Collection[str]]
"""Ids of the records that grade tools wrote, by collection."""


class RosterVersion(NamedTuple):
    """State of a roster: revision, last sequence number, and the timestamps of the latest write and latest import."""

    revision: int
    sequence: int
    timestamp: str
    import_timestamp: str


def roster_version(snapshot: Snapshot) -> RosterVersion:
    """Return the version of the roster in a snapshot."""
    last = sequence.last_sequence(snapshot)
    return RosterVersion(snapshot.revision, last, *clock.latest_timestamps(snapshot))


def only_tools_wrote(before: RosterVersion, after: RosterVersion) -> bool:
    """Return True if only grade tools have changed the roster between two versions."""
    if before.revision == after.revision:
        return True
    # The first load starts from an empty roster. A write without a new timestamp comes from an unknown writer.
    is_known = before.revision != 0 and before.timestamp != after.timestamp
    return is_known and before.import_timestamp == after.import_timestamp and before.sequence <= after.sequence


def find_tool_writes(snapshot: Snapshot, since: RosterVersion) -> ToolWrites | None:
    """Return the records that grade tools wrote after a version; None if the roster changed in any other way."""
    if not only_tools_wrote(since, roster_version(snapshot)):
        return None
    written = sequence.changed_since(snapshot, since.sequence) if snapshot.revision != since.revision else {}
    return written if written.keys() <= set(WRITABLE_COLLECTIONS) else None


def has_conflicts(snapshot: Snapshot, written: ToolWrites) -> bool:
    """Return True if a reference from or to one of these records contradicts the other records of the snapshot.

    An active record must refer to active records only, and a deleted one to existing records. No active record may
    refer to a deleted one of these records.
    """
    return any(
        _refers_to_missing(snapshot, FILES[name], keys) or _is_deleted_but_referenced(snapshot, FILES[name], keys)
        for name, keys in written.items()
    )


def _refers_to_missing(snapshot: Snapshot, resource_type: ResourceType, keys: Collection[str]) -> bool:
    targets: dict[tuple[str, bool], set[str]] = {}
    for body in _bodies(snapshot, resource_type.name, keys):
        record, is_active = orjson.loads(body), resource_type.is_active(body)
        for reference in resource_type.references:
            ids = resource_type.referenced_ids(record.get(reference.name))
            targets.setdefault((reference.target, is_active), set()).update(ids)
    return any(
        not ids <= _existing(snapshot, target, ids, active_only=is_active)
        for (target, is_active), ids in targets.items()
    )


def _is_deleted_but_referenced(snapshot: Snapshot, resource_type: ResourceType, keys: Collection[str]) -> bool:
    """Return True if an active record refers to one of these records that is deleted."""
    deleted = set(keys) - _existing(snapshot, resource_type.name, keys, active_only=True)
    return any(
        snapshot.exists(other.name, And((In(reference.field, tuple(batch)), ACTIVE_ONLY)))
        for batch in batched(sorted(deleted), BATCH_SIZE)
        for other in FILES.values()
        for reference in other.references
        if reference.target == resource_type.name
    )


def _existing(snapshot: Snapshot, name: str, keys: Iterable[str], *, active_only: bool) -> set[str]:
    existing: set[str] = set()
    for batch in batched(sorted(keys), BATCH_SIZE):
        where = In(KEY, tuple(batch))
        existing.update(snapshot.keys(name, And((where, ACTIVE_ONLY)) if active_only else where))
    return existing


def _bodies(snapshot: Snapshot, name: str, keys: Iterable[str]) -> Iterator[bytes]:
    for batch in batched(sorted(keys), BATCH_SIZE):
        yield from snapshot.get_many(name, batch).values()
