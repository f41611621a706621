"""Gradebook writes: create, replace or delete one record with its dependents, in one transaction."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from functools import partial
from typing import NamedTuple, TypeAlias

from backends import KEY, Backend, Compare, In, Record, Subquery, Transaction, Where, and_, batched
from chalk_flask.oneroster.fields.scalars import JSON
from chalk_flask.oneroster.relations import ACTIVE_ONLY
from chalk_flask.oneroster.resource_type import NO_TIMESTAMP, ResourceType, without_timestamp
from chalk_flask.oneroster.schemas import FILES
from chalk_flask.oneroster.vocabularies import ACTIVE
from chalk_flask.roster.changes import RosterWriter, clock, provenance, write_with_final_timestamp
from chalk_flask.roster.gradebook.defaults import default_category, grading_period, record_exists
from chalk_flask.roster.gradebook.payload import InvalidPayloadError, Payload, parse_payload

__all__ = ["InvalidPayloadError", "OnCommit", "RecordNotFoundError", "Visibility", "WriteResult", "delete", "put"]

LOCK_TIMEOUT_SECONDS = 5.0
"""Maximum wait for the write lock. A longer one would block all threads of a server behind a long import."""

COMMIT_LEAD_SECONDS = 0.02
"""Expected time until the commit of a few records. The commit is rarely later."""

BATCH_SIZE = 500

OnCommit: TypeAlias = Callable[[Transaction], None]
"""Function that writes more records in the same transaction, for example an audit event."""

Visibility: TypeAlias = Callable[[str], Where]
"""Function that returns the condition for the records of a collection that the grade tool can see."""


class RecordNotFoundError(Exception):
    """Error for a record that does not exist or that the grade tool cannot see."""


class WriteResult(NamedTuple):
    """Stored body of a record. `created` is True if the id was unknown or deleted before."""

    body: bytes
    created: bool


def put(
    store: Backend,
    tenant: str,
    resource_type: ResourceType,
    key: str,
    payload: Mapping[str, JSON],
    visibility: Visibility,
    on_commit: OnCommit,
) -> WriteResult:
    """Create or replace the record with this id.

    Missing references get defaults, see `defaults`. The status tobedeleted deletes the record. A record that is stored
    with the same content keeps its timestamp, and nothing is written.

    Raises InvalidPayloadError; RecordNotFoundError if the grade tool cannot see the record before or after the write,
    or if it deletes an unknown record; StorageError.
    """
    data = parse_payload(resource_type, key, payload)
    is_active = data["status"] == ACTIVE
    with _write(store, tenant) as writer:
        edit = _GradebookEdit(writer, visibility)
        previous = edit.find_stored(resource_type, key)
        record = resource_type.record(
            {**edit.with_defaults(resource_type, data, previous), "dateLastModified": NO_TIMESTAMP}
        )
        if (
            previous is not None
            and without_timestamp(previous) == record.body
            and (not is_active or edit.has_note(resource_type, key))
        ):
            return WriteResult(previous, False)
        if is_active:
            edit.add_record(resource_type, record)
        else:
            edit.add_tombstone(resource_type, record)
        edit.write()
        edit.find_stored(resource_type, key)  # rejects a record that the grade tool could not read afterwards
        on_commit(writer.transaction)
    created = is_active and not (previous is not None and resource_type.is_active(previous))
    return WriteResult(clock.record_with_timestamp(record, writer.timestamp).body, created)


def delete(
    store: Backend, tenant: str, resource_type: ResourceType, key: str, visibility: Visibility, on_commit: OnCommit
) -> None:
    """Replace the record with this id by a tombstone; with a line item, delete its results too.

    Raises RecordNotFoundError for an id that is unknown, deleted or not visible; InvalidPayloadError for a category
    that a line item uses; StorageError.
    """
    with _write(store, tenant) as writer:
        edit = _GradebookEdit(writer, visibility)
        previous = edit.find_stored(resource_type, key)
        if previous is None or not resource_type.is_active(previous):
            raise RecordNotFoundError
        edit.add_tombstone(resource_type, resource_type.tombstone(previous))
        edit.write()
        on_commit(writer.transaction)


def _write(store: Backend, tenant: str) -> AbstractContextManager[RosterWriter]:
    return write_with_final_timestamp(partial(store.write, tenant, LOCK_TIMEOUT_SECONDS), tenant, COMMIT_LEAD_SECONDS)


class _GradebookEdit:
    """Unit of work of one gradebook write: groups the changes by collection and writes them together."""

    def __init__(self, writer: RosterWriter, visibility: Visibility) -> None:
        self._writer = writer
        self._transaction = writer.transaction
        self._visibility = visibility
        self._changed: dict[str, list[Record]] = {}
        self._notes: list[Record] = []
        self._obsolete_notes: list[str] = []

    def find_stored(self, resource_type: ResourceType, key: str) -> bytes | None:
        """Return the stored body, deleted or not. Raises RecordNotFoundError if it is not visible (W-08)."""
        body = self._transaction.get_many(resource_type.name, [key]).get(key)
        if body is not None and not self._exists(resource_type.name, key, self._visibility(resource_type.name)):
            raise RecordNotFoundError
        return body

    def with_defaults(self, resource_type: ResourceType, data: Payload, previous: bytes | None) -> Payload:
        """Return the payload with defaults. Raises InvalidPayloadError for an unknown reference."""
        is_active = data["status"] == ACTIVE
        if not is_active and previous is None:
            raise RecordNotFoundError
        self._check_references(resource_type, data, is_active)
        if resource_type.name != "lineItems":
            return data
        if not is_active and previous is not None:  # a deletion need not repeat the references
            stored = resource_type.normalize(previous)
            return {name: stored[name] for name in ("category", "gradingPeriod") if name in stored} | data
        return {**self._line_item_defaults(data), **data}

    def has_note(self, resource_type: ResourceType, key: str) -> bool:
        """Return True if the record has a provenance note: a grade tool wrote it."""
        note_key = provenance.note_key(resource_type.name, key)
        return bool(self._transaction.get_many(provenance.COLLECTION, [note_key]))

    def add_record(self, resource_type: ResourceType, record: Record) -> None:
        """Add an active record and its provenance note."""
        self._changed.setdefault(resource_type.name, []).append(record)
        self._notes.append(provenance.provenance_note(resource_type.name, record.key))

    def add_tombstone(self, resource_type: ResourceType, tombstone: Record) -> None:
        """Add a tombstone. Raises InvalidPayloadError for a category that a line item uses (W-09)."""
        if resource_type.name == "categories" and self._is_used("lineItems", "category.sourcedId", tombstone.key):
            raise InvalidPayloadError(
                f"line items use the category {tombstone.key!r}: give them another category or delete them first"
            )
        self._add_tombstones(resource_type, [tombstone])
        if resource_type.name == "lineItems":
            results = FILES["results"]
            for bodies in self._referring_bodies(results, "lineItem.sourcedId", tombstone.key):
                self._add_tombstones(results, map(results.tombstone, bodies))

    def write(self) -> None:
        """Write all changes with one new timestamp."""
        for name, records in self._changed.items():
            self._writer.put(name, partial(_with_timestamp, records), partial(_keys, records))
        self._writer.finish()
        self._transaction.put(provenance.COLLECTION, self._notes)
        self._transaction.delete(provenance.COLLECTION, self._obsolete_notes)

    def _add_tombstones(self, resource_type: ResourceType, tombstones: Iterable[Record]) -> None:
        records = list(tombstones)
        self._changed.setdefault(resource_type.name, []).extend(records)
        self._obsolete_notes += [provenance.note_key(resource_type.name, record.key) for record in records]

    def _check_references(self, resource_type: ResourceType, data: Payload, is_active: bool) -> None:
        unknown = []
        for reference in resource_type.references:
            if (key := data.get(reference.name)) is None:
                continue
            visible = self._visibility(reference.target)
            where = and_(ACTIVE_ONLY, visible) if is_active else visible
            if not self._exists(reference.target, key, where):
                unknown.append(f"{reference.name}: there is no {reference.field_type.token} with the id {key!r}")
        if unknown:
            raise InvalidPayloadError("; ".join(unknown))

    def _line_item_defaults(self, data: Payload) -> Payload:
        defaults: Payload = {}
        if "category" not in data:
            defaults["category"], record = default_category(self._transaction, data["class"])
            if record is not None:
                self.add_record(FILES["categories"], record)
        if "gradingPeriod" not in data:
            defaults["gradingPeriod"] = grading_period(self._transaction, data["class"], data["dueDate"])
        return defaults

    def _exists(self, collection: str, key: str, where: Where) -> bool:
        return record_exists(self._transaction, collection, key, where)

    def _is_used(self, collection: str, field: str, key: str) -> bool:
        return self._transaction.exists(collection, and_(Compare(field, "=", key), ACTIVE_ONLY))

    def _referring_bodies(self, resource_type: ResourceType, field: str, key: str) -> Iterator[Iterable[bytes]]:
        # The subquery makes SQLite find the rows by the reference and sort them. Otherwise it would scan all keys.
        where = In(KEY, Subquery(resource_type.name, KEY, and_(Compare(field, "=", key), ACTIVE_ONLY)))
        for batch in batched(list(self._transaction.keys(resource_type.name, where)), BATCH_SIZE):
            yield self._transaction.get_many(resource_type.name, batch).values()


def _with_timestamp(records: Iterable[Record], timestamp: str) -> Iterator[Record]:
    return (clock.record_with_timestamp(record, timestamp) for record in records)


def _keys(records: Iterable[Record]) -> list[str]:
    return [record.key for record in records]
