"""The one door for gradebook writes: one record put or deleted, in one transaction, with all that goes with it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from functools import partial
from itertools import islice
from typing import NamedTuple, TypeAlias

from backends import KEY, And, Backend, Compare, In, Query, Record, Subquery, Transaction, Where
from chalk_flask.oneroster.fields.scalars import JSON
from chalk_flask.oneroster.relations import ACTIVE_ONLY
from chalk_flask.oneroster.resource_type import NO_TIMESTAMP, ResourceType, without_timestamp
from chalk_flask.oneroster.schemas import FILES
from chalk_flask.oneroster.vocabularies import ACTIVE
from chalk_flask.roster.changes import clock, provenance
from chalk_flask.roster.changes.writer import RosterWriter, write_with_final_timestamp
from chalk_flask.roster.gradebook.defaults import Visibility, default_category, grading_period, record_exists
from chalk_flask.roster.gradebook.payload import InvalidPayloadError, Payload, parse_payload

__all__ = ["InvalidPayloadError", "OnCommit", "RecordNotFoundError", "Visibility", "WriteResult", "delete", "put"]

LOCK_TIMEOUT_SECONDS = 5.0
"""Seconds to wait for another writer; more would keep all threads of a server waiting behind a long import."""

COMMIT_LEAD_SECONDS = 0.02
"""Seconds from the start of a write to its stamp: the commit of a few records is over by then, nearly always."""

BATCH_SIZE = 500


OnCommit: TypeAlias = Callable[[Transaction], None]
"""What else is to be written."""


class RecordNotFoundError(Exception):
    """There is no such record that the writer may know of."""


class WriteResult(NamedTuple):
    """The body of a record as it is stored now, and whether there was none before, or a deleted one."""

    body: bytes
    created: bool


def put(
    store: Backend,
    tenant: str,
    resource: ResourceType,
    key: str,
    payload: Mapping[str, JSON],
    visibility: Visibility,
    on_commit: OnCommit,
) -> WriteResult:
    """Store what a grade tool sent as the whole of the record with this id; `sight` is what the tool may know of.

    Missing references are filled in (see `placing`). With status tobedeleted it is a deletion of what is there. What is
    stored already, but for its stamp, stays as it is. `also` writes beside what is changed, in the same transaction.

    Raises Unprocessable; RecordNotFoundError for an id of a record that is out of sight, or would be, and for a deletion of
    nothing; StorageError.
    """
    sent = parse_payload(resource, key, payload)
    with _write(store, tenant) as writer:
        edit = _GradebookEdit(writer, visibility)
        former = edit.previous(resource, key)
        record = resource.record({**edit.completed(resource, sent, former), "dateLastModified": NO_TIMESTAMP})
        active = sent["status"] == ACTIVE
        if former is not None and without_timestamp(former) == record.body and edit.is_settled(resource, key, active):
            return WriteResult(former, False)
        if active:
            edit.keep(resource, record)
        else:
            edit.mark_deleted(resource, key, record)
        edit.write()
        edit.previous(resource, key)  # nobody writes what they could not read afterwards
        on_commit(writer.transaction)
    created = active and not (former is not None and resource.is_active(former))
    return WriteResult(clock.record_with_timestamp(record, writer.timestamp).body, created)


def delete(
    store: Backend, tenant: str, resource: ResourceType, key: str, visibility: Visibility, on_commit: OnCommit
) -> None:
    """Make the record a tombstone, and the results of a line item too; `also` as in `put`.

    Raises RecordNotFoundError for an id that is unknown, deleted or out of sight; Unprocessable for a category that a line item
    uses; StorageError.
    """
    with _write(store, tenant) as writer:
        edit = _GradebookEdit(writer, visibility)
        former = edit.previous(resource, key)
        if former is None or not resource.is_active(former):
            raise RecordNotFoundError
        edit.mark_deleted(resource, key, resource.tombstone(former))
        edit.write()
        on_commit(writer.transaction)


def _write(store: Backend, tenant: str) -> AbstractContextManager[RosterWriter]:
    return write_with_final_timestamp(partial(store.write, tenant, LOCK_TIMEOUT_SECONDS), tenant, COMMIT_LEAD_SECONDS)


class _GradebookEdit:
    """Changes of one gradebook write, collected by collection and then written together."""

    def __init__(self, writer: RosterWriter, sight: Visibility) -> None:
        self._writer = writer
        self._transaction = writer.transaction
        self._sight = sight
        self._changed: dict[str, list[Record]] = {}
        self._notes: list[Record] = []
        self._void: list[str] = []

    def previous(self, resource: ResourceType, key: str) -> bytes | None:
        """The stored body, deleted or not. Raises RecordNotFoundError when it is out of sight (reading W-08)."""
        body = self._transaction.get_many(resource.name, [key]).get(key)
        if body is not None and not record_exists(self._transaction, resource.name, key, self._sight(resource.name)):
            raise RecordNotFoundError
        return body

    def completed(self, resource: ResourceType, sent: Payload, former: bytes | None) -> Payload:
        """What was sent with the references it lacks. Raises Unprocessable for one that leads nowhere."""
        active = sent["status"] == ACTIVE
        if not active and former is None:
            raise RecordNotFoundError
        self._follow(resource, sent, active)
        if resource.name != "lineItems":
            return sent
        if not active and former is not None:  # a deletion need not repeat what it deletes
            kept = resource.normalize(former)
            return {name: kept[name] for name in ("category", "gradingPeriod") if name in kept} | sent
        return {**self._filled(sent), **sent}

    def is_settled(self, resource: ResourceType, key: str, active: bool) -> bool:
        """Whether an unchanged record needs no note either: a deleted one never does."""
        place = provenance.note_key(resource.name, key)
        return not active or bool(self._transaction.get_many(provenance.COLLECTION, [place]))

    def keep(self, resource: ResourceType, record: Record) -> None:
        """Change a record to this, and note that a grade tool wrote it."""
        self._changed.setdefault(resource.name, []).append(record)
        self._notes.append(provenance.provenance_note(resource.name, record.key))

    def mark_deleted(self, resource: ResourceType, key: str, tombstone: Record) -> None:
        """Change a record to its tombstone. Raises Unprocessable for a category that a line item uses."""
        if resource.name == "categories" and self._uses("lineItems", "category.sourcedId", key):
            raise InvalidPayloadError(
                "the category is in use: line items refer to it; give them another one, or delete them"
            )
        self._delete(resource, [tombstone])
        if resource.name == "lineItems":
            results = FILES["results"]
            for bodies in self._referring(results, "lineItem.sourcedId", key):
                self._delete(results, map(results.tombstone, bodies))

    def write(self) -> None:
        """Write all changes with one new timestamp."""
        for name, records in self._changed.items():
            self._writer.put(name, partial(_with_timestamp, records), partial(_keys, records))
        self._writer.finish()
        self._transaction.put(provenance.COLLECTION, self._notes)
        self._transaction.delete(provenance.COLLECTION, self._void)

    def _delete(self, resource: ResourceType, tombstones: Iterable[Record]) -> None:
        records = list(tombstones)
        self._changed.setdefault(resource.name, []).extend(records)
        self._void += [provenance.note_key(resource.name, record.key) for record in records]

    def _follow(self, resource: ResourceType, sent: Payload, active: bool) -> None:
        lost = []
        for reference in resource.references:
            if (key := sent.get(reference.name)) is None:
                continue
            seen = self._sight(reference.target)
            if not record_exists(
                self._transaction, reference.target, key, _both(ACTIVE_ONLY, seen) if active else seen
            ):
                lost.append(f"{reference.name}: there is no {reference.element.token} with the id {key!r} here")
        if lost:
            raise InvalidPayloadError("; ".join(lost))

    def _filled(self, sent: Payload) -> Payload:
        found: Payload = {}
        if "category" not in sent:
            found["category"], record = default_category(self._transaction, sent["class"])
            if record is not None:
                self.keep(FILES["categories"], record)
        if "gradingPeriod" not in sent:
            found["gradingPeriod"] = grading_period(self._transaction, sent["class"], sent["dueDate"])
        return found

    def _uses(self, collection: str, field: str, key: str) -> bool:
        asked = _both(Compare(field, "=", key), ACTIVE_ONLY)
        return self._transaction.find(Query(collection, asked, limit=0)).total > 0

    def _referring(self, resource: ResourceType, field: str, key: str) -> Iterator[Iterable[bytes]]:
        # Found by the reference first and then put in order; asked as one, SQLite would walk all keys in their order.
        found = In(KEY, Subquery(resource.name, KEY, _both(Compare(field, "=", key), ACTIVE_ONLY)))
        waiting = iter(list(self._transaction.keys(resource.name, found)))
        while batch := list(islice(waiting, BATCH_SIZE)):
            yield self._transaction.get_many(resource.name, batch).values()


def _both(first: Where, second: Where) -> Where:
    return And((first, second))


def _with_timestamp(records: Iterable[Record], timestamp: str) -> Iterator[Record]:
    return (clock.record_with_timestamp(record, timestamp) for record in records)


def _keys(records: Iterable[Record]) -> list[str]:
    return [record.key for record in records]
