"""Gradebook writes: create, replace or delete one record with its dependents, in one transaction."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from functools import partial
from typing import NamedTuple, TypeAlias

from backends import KEY, Backend, Compare, In, Record, Snapshot, Subquery, Transaction, and_, read_in_parts
from chalk_flask.oneroster.fields.scalars import JSON
from chalk_flask.oneroster.relations import ACTIVE_ONLY
from chalk_flask.oneroster.resource_type import NO_TIMESTAMP, ResourceType, without_timestamp
from chalk_flask.oneroster.schemas import FILES
from chalk_flask.oneroster.vocabularies import ACTIVE
from chalk_flask.permissions.policy import UNRESTRICTED
from chalk_flask.roster.changes import ChangeCause, RosterWriter, clock, grade_tool_records, write_with_final_timestamp
from chalk_flask.roster.gradebook.defaults import allows_default, default_category, grading_period
from chalk_flask.roster.gradebook.payload import InvalidPayloadError, Payload, check_new_id, parse_payload
from chalk_flask.roster.gradebook.write_guard import ForbiddenWriteError, GradeTool, RecordNotFoundError, WriteGuard
from chalk_flask.serialization import HiddenMembers

__all__ = [
    "ForbiddenWriteError",
    "GradeTool",
    "InvalidPayloadError",
    "OnCommit",
    "RecordNotFoundError",
    "WriteResult",
    "delete",
    "put",
]

LOCK_TIMEOUT_SECONDS = 5.0
"""Maximum wait for the write lock. A longer one would block all threads of a server behind a long import."""

COMMIT_LEAD_SECONDS = 0.02
"""Expected time until the commit of a few records. The commit is rarely later."""

MAX_BATCH_BYTES = 1 << 20
"""Maximum size of the results that are read at once when their line item is deleted."""

DEFAULTED = ("category", "gradingPeriod")
"""Members of a line item that have a default."""

OnCommit: TypeAlias = Callable[[Transaction], None]
"""Function that writes more records in the same transaction, for example an audit event."""


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
    tool: GradeTool,
    on_commit: OnCommit,
    *,
    keeps_history: bool = True,
) -> WriteResult:
    """Create or replace the record with this id. `keeps_history` is False if the tenant keeps no change history.

    Members that the grade tool cannot see stay as they are. Missing references get defaults, see `defaults`. The status
    tobedeleted deletes the record. A record that is stored with the same content keeps its timestamp, and nothing is
    written.

    Raises InvalidPayloadError; RecordNotFoundError if the grade tool cannot see the record before or after the write,
    or if it deletes an unknown record; ForbiddenWriteError; StorageError.
    """
    hidden = HiddenMembers(resource_type, tool.policy)
    data = None if hidden else parse_payload(resource_type, key, payload)  # rejects it without a transaction
    with _write(store, tenant, tool, keeps_history) as writer:
        edit = _GradebookEdit(writer, tool, hidden, partial(store.read, tenant))
        previous = edit.guard.find_stored(resource_type, key)
        if previous is None:
            check_new_id(key)
        record = edit.record(resource_type, key, payload, data, previous)
        if previous is not None and edit.keeps(resource_type, record, previous):
            return WriteResult(previous, False)
        edit.replace(resource_type, record, previous)
        on_commit(writer.transaction)
    was_active = previous is not None and resource_type.is_active(previous)
    created = resource_type.is_active(record.body) and not was_active
    return WriteResult(clock.record_with_timestamp(record, writer.timestamp).body, created)


def delete(
    store: Backend,
    tenant: str,
    resource_type: ResourceType,
    key: str,
    tool: GradeTool,
    on_commit: OnCommit,
    *,
    keeps_history: bool = True,
) -> None:
    """Replace the record with this id by a tombstone; with a line item, delete its results too. See `put`.

    Raises RecordNotFoundError for an id that is unknown, deleted or not visible; InvalidPayloadError for a category
    that a line item uses; ForbiddenWriteError; StorageError.
    """
    with _write(store, tenant, tool, keeps_history) as writer:
        hidden = HiddenMembers(resource_type, tool.policy)
        edit = _GradebookEdit(writer, tool, hidden, partial(store.read, tenant))
        previous = edit.guard.find_stored(resource_type, key)
        if previous is None or not resource_type.is_active(previous):
            raise RecordNotFoundError
        tombstone = resource_type.tombstone(previous)
        edit.check_effects(resource_type, tombstone, previous)
        edit.add_tombstone(resource_type, tombstone)
        edit.write()
        on_commit(writer.transaction)


def _write(store: Backend, tenant: str, tool: GradeTool, keeps_history: bool) -> AbstractContextManager[RosterWriter]:
    begin = partial(store.write, tenant, LOCK_TIMEOUT_SECONDS)
    cause = ChangeCause(credential=tool.credential) if keeps_history else None
    return write_with_final_timestamp(begin, tenant, COMMIT_LEAD_SECONDS, by_tool=True, cause=cause)


class _GradebookEdit:
    """Unit of work of one gradebook write: groups the changes by collection and writes them together.

    `read` returns a snapshot of the committed records of the tenant.
    """

    def __init__(
        self, writer: RosterWriter, tool: GradeTool, hidden: HiddenMembers, read: Callable[[], Snapshot]
    ) -> None:
        self.guard = WriteGuard(writer.transaction, tool)
        self._writer = writer
        self._transaction = writer.transaction
        self._tool = tool
        self._hidden = hidden
        self._read = read
        self._changed: dict[str, list[Record]] = {}
        self._deleted_results: list[str] = []
        self._notes: list[Record] = []
        self._obsolete_notes: list[str] = []

    def record(
        self,
        resource_type: ResourceType,
        key: str,
        payload: Mapping[str, JSON],
        data: Payload | None,
        previous: bytes | None,
    ) -> Record:
        """Return the record to store for a payload. `data` is the parsed payload, or None if members are hidden."""
        if data is None:
            visible = self._hidden.visible(payload)
            completed = self.guard.complete(resource_type, self._hidden, payload, previous)
            data = parse_payload(resource_type, key, completed, visible)
            self.guard.check_names(resource_type, visible)
        data = self.with_defaults(resource_type, data, previous, payload)
        return resource_type.record({**data, "dateLastModified": NO_TIMESTAMP})

    def keeps(self, resource_type: ResourceType, record: Record, previous: bytes) -> bool:
        """Return True if the record is stored already, and does not become a record of the grade tool (W-10)."""
        if without_timestamp(previous) != record.body:
            return False
        return not (resource_type.is_active(record.body) and self.guard.can_adopt(resource_type, record.key))

    def replace(self, resource_type: ResourceType, record: Record, previous: bytes | None) -> None:
        """Write the record and its dependents.

        Raises RecordNotFoundError if the grade tool could not read the record afterwards.
        """
        self.check_effects(resource_type, record, previous)
        if resource_type.is_active(record.body):
            self.add_record(resource_type, record)
        else:
            self.add_tombstone(resource_type, record)
        self.write()
        self.guard.find_stored(resource_type, record.key)

    def with_defaults(
        self, resource_type: ResourceType, data: Payload, previous: bytes | None, payload: Mapping[str, JSON]
    ) -> Payload:
        """Return the parsed payload with defaults. Raises InvalidPayloadError for an unknown reference."""
        is_active = data["status"] == ACTIVE
        if not is_active and previous is None:
            raise RecordNotFoundError
        is_line_item = resource_type.name == "lineItems"
        defaulted = [name for name in DEFAULTED if allows_default(self._tool.policy, name)] if is_active else []
        keeps_stored = is_line_item and len(defaulted) < len(DEFAULTED)
        is_needed = previous is not None and (not is_active or keeps_stored or bool(self._hidden))
        stored = resource_type.normalize(previous) if previous is not None and is_needed else {}
        if is_line_item:  # a deletion need not repeat the references
            kept_names = (name for name in DEFAULTED if name not in defaulted and name in stored)
            data = {name: stored[name] for name in kept_names} | data
        kept = frozenset(name for name in stored if self._hidden.keeps(name, payload))
        self.guard.check_references(resource_type, data, kept)
        if not is_line_item:
            return data
        data = {**self._line_item_defaults(data, defaulted), **data}
        if is_active and "category" not in data:
            raise InvalidPayloadError("category is required, because this credential does not see what selects one")
        return data

    def check_effects(self, resource_type: ResourceType, record: Record, previous: bytes | None) -> None:
        """Raise ForbiddenWriteError if the write has effects on records that the grade tool cannot see (W-15)."""
        if self._tool.policy is UNRESTRICTED or previous is None or not resource_type.is_active(previous):
            return
        if resource_type.name == "categories":
            self.guard.check_category(record.key)
        if resource_type.name == "lineItems" and (
            not resource_type.is_active(record.body)
            or record.values["class.sourcedId"] != resource_type.normalize(previous)["class"]
        ):
            self.guard.check_results(record.key)

    def add_record(self, resource_type: ResourceType, record: Record) -> None:
        """Add the active record that the grade tool sent, and its provenance note."""
        self._add_record(resource_type, record, self._tool.credential)

    def add_tombstone(self, resource_type: ResourceType, tombstone: Record) -> None:
        """Add a tombstone. Raises InvalidPayloadError for a category that a line item uses (W-09)."""
        if resource_type.name == "categories" and self._is_used("lineItems", "category.sourcedId", tombstone.key):
            raise InvalidPayloadError(
                f"line items use the category {tombstone.key!r}: give them another category or delete them first"
            )
        self._changed.setdefault(resource_type.name, []).append(tombstone)
        self._obsolete_notes.append(grade_tool_records.note_key(resource_type.name, tombstone.key))
        if resource_type.name == "lineItems":
            self._deleted_results = self._active_results(tombstone.key)
            self._obsolete_notes += [grade_tool_records.note_key("results", key) for key in self._deleted_results]

    def write(self) -> None:
        """Write all changes with one new timestamp."""
        for name, records in self._changed.items():
            self._writer.put(name, partial(_with_timestamp, records), partial(_keys, records))
        if self._deleted_results:
            self._writer.put("results", self._tombstones_of_results, self._deleted_results.copy)
        self._writer.finish()
        self._transaction.put(grade_tool_records.COLLECTION, self._notes)
        self._transaction.delete(grade_tool_records.COLLECTION, self._obsolete_notes)

    def _add_record(self, resource_type: ResourceType, record: Record, credential: str | None) -> None:
        self._changed.setdefault(resource_type.name, []).append(record)
        self._notes.append(grade_tool_records.provenance_note(resource_type.name, record.key, credential))

    def _line_item_defaults(self, data: Payload, names: Sequence[str]) -> Payload:
        defaults: Payload = {}
        if "category" in names and "category" not in data:
            defaults["category"], record = default_category(self._transaction, data["class"], self._tool.policy)
            if record is not None:
                self._add_record(FILES["categories"], record, None)  # others use it too
        if "gradingPeriod" in names and "gradingPeriod" not in data:
            defaults["gradingPeriod"] = grading_period(self._transaction, data["class"], data["dueDate"])
        return defaults

    def _is_used(self, collection: str, field: str, key: str) -> bool:
        return self._transaction.exists(collection, and_(Compare(field, "=", key), ACTIVE_ONLY))

    def _active_results(self, line_item_id: str) -> list[str]:
        # The subquery makes SQLite find the rows by the reference and sort them. Otherwise it would scan all keys.
        of_line_item = and_(Compare("lineItem.sourcedId", "=", line_item_id), ACTIVE_ONLY)
        return list(self._transaction.keys("results", In(KEY, Subquery("results", KEY, of_line_item))))

    def _tombstones_of_results(self, timestamp: str) -> Iterator[Record]:
        """Yield the tombstones of the results of a deleted line item. Few are in memory at once.

        They are made from the committed results, because the transaction has not changed them yet. A further call, for
        a later timestamp, follows the commit: then these are tombstones already, unless another writer changed them.
        """
        results, ids = FILES["results"], [("results", key) for key in self._deleted_results]
        with self._read() as snapshot:
            for part, bodies in read_in_parts(snapshot, ids, MAX_BATCH_BYTES):
                for record_id in part:
                    if record_id in bodies:
                        yield clock.record_with_timestamp(results.tombstone(bodies[record_id]), timestamp)


def _with_timestamp(records: Iterable[Record], timestamp: str) -> Iterator[Record]:
    return (clock.record_with_timestamp(record, timestamp) for record in records)


def _keys(records: Iterable[Record]) -> list[str]:
    return [record.key for record in records]
