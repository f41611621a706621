"""Check that each reference of a package leads to a record that is active after the import.

docs/conformance, I-07, states which references are allowed.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterator, Mapping, Set
from typing import NamedTuple, TypeAlias

from backends import KEY, And, In, Snapshot, batched
from chalk_flask.id_set import IdSet
from chalk_flask.oneroster.csv.diagnosis import LIST_HINT, identifier_hint, stray_blank_hint
from chalk_flask.oneroster.csv.identifiers import CHANGED_FILE_HINT, CHANGED_ID_HINT, difference, normalized_id
from chalk_flask.oneroster.relations import ACTIVE_ONLY
from chalk_flask.oneroster.resource_type import ResourceType
from chalk_flask.roster.changes import grade_tool_records
from chalk_flask.roster.package.archive import Package
from chalk_flask.roster.package.problems import ImportProblem
from chalk_flask.roster.package.quarantine import Quarantine

__all__ = ["DanglingRows", "ReferenceChecker"]

BATCH_SIZE = 1000

_NO_KEYS: list[str] = []

OtherIdsCheck: TypeAlias = Callable[[object, int, str, bool], Iterator[ImportProblem]]
"""Function that yields the errors of ids that are not yet valid.

Its arguments are the id or ids, and the row number, id and active state of the row.
"""

ReferenceCheck: TypeAlias = tuple[str, Set[object], OtherIdsCheck]
"""Stored field that refers to records, the valid ids so far, and the check of other ids."""

PendingReferences: TypeAlias = "dict[tuple[str, bool], tuple[array[int], str, list[str]]]"
"""References that are decided later, by id and active state of the row.

The values are the row numbers, the target collection and, with a quarantine, the ids of the rows.
"""


class DanglingRows(NamedTuple):
    """Error of a reference without an active target: file, numbers of the rows, and their ids, if collected."""

    file: str
    error: ImportProblem
    rows: array[int]
    keys: list[str]


class _Source(NamedTuple):
    """Column with references: file, header and target collection."""

    file: str
    header: str
    target: str


class ReferenceChecker:
    """Checker of the references of one package.

    The reader fills `ids` with the ids of each file. For delta files it fills `active_after`: True by id if the
    record is active after the import. For bulk files it fills `active_ids` with the ids of active rows. `incomplete`
    names the files that could not be read to their end. With a `quarantine`, dangling rows have all their ids.
    """

    def __init__(
        self,
        package: Package,
        stored: Snapshot,
        ids: Mapping[str, IdSet],
        active_after: Mapping[str, Mapping[str, bool]],
        incomplete: Set[str],
        quarantine: Quarantine | None = None,
    ) -> None:
        self.referenced_by_deleted: set[tuple[str, str]] = set()
        """Collection and id of the stored records that a deleted row refers to."""
        self.targets_with_lost_ids: set[str] = set()
        """Files with an invalid row whose id may be unknown. References to them may be consequences of that error."""
        self.active_ids: dict[str, set[str]] = {}
        """For each bulk file that others refer to, the ids of the records that are active after the import."""
        self.deleted_ids: dict[str, Set[str]] = {}
        """For each file that others refer to, the ids of the stored active records that the import deletes."""
        self._modes = package.modes
        self._stored = stored
        self._ids = ids
        self._active_after = active_after
        self._incomplete = incomplete
        self._quarantine = quarantine
        self._pending: dict[tuple[str, str], PendingReferences] = {}
        self._finished: set[str] = set()
        self._active_stored_ids: dict[str, frozenset[str]] = {}
        self._tool_ids: dict[str, frozenset[str]] = {}
        self._normalized_ids: dict[str, dict[str, str]] = {}

    def checks(self, resource_type: ResourceType) -> list[ReferenceCheck]:
        """Return the checks for each row of a file. `ids` must already have an entry for this file."""
        headers = {column.name: column.header for column in resource_type.columns}
        checks = [
            (reference.field, *self._check(_Source(resource_type.name, headers[reference.name], reference.target)))
            for reference in resource_type.references
            if reference.name in headers
        ]
        if resource_type.shares_ids_with:
            checks.append((KEY, *self._check(_Source(resource_type.name, "sourcedId", resource_type.shares_ids_with))))
        return checks

    def finish(self, name: str) -> Iterator[DanglingRows]:
        """Yield the errors of pending references from and to this file.

        Call it for every file of the standard, in the order of FILES, once `active_ids` and `deleted_ids` are complete
        for it. References to a file that is not finished stay pending.
        """
        self._finished.add(name)
        for (file, header), pending in self._pending.items():
            if file not in self._finished:
                continue
            decidable = {
                reference: place
                for reference, place in pending.items()
                if name in (file, place[1]) and place[1] in self._finished and place[1] not in self._incomplete
            }
            dangling = self._dangling(decidable)
            for (key, is_active), (rows, target, keys) in decidable.items():
                if (target, key) in dangling:
                    for error in self._errors(_Source(file, header, target), rows[0], key, is_active):
                        yield DanglingRows(file, error, rows, keys)

    def stored_active(self, name: str, keys: Set[str]) -> set[str]:
        """Return the ids among `keys` of stored records that are active, and that the import does not delete."""
        existing: set[str] = set()
        for batch in batched(keys, BATCH_SIZE):
            existing.update(self._stored.keys(name, And((In(KEY, tuple(batch)), ACTIVE_ONLY))))
        return existing - self.deleted_ids.get(name, frozenset())

    def dangling_reference(self, file: str, header: str, target: str, key: str, row: int | None) -> ImportProblem:
        """Return the error of a reference to a record that is not active after the import."""
        message, hint, cause = self._dangling_message(target, key)
        is_quarantined = self._is_quarantined(target, key)
        return ImportProblem(
            "dangling_reference",
            message,
            hint,
            file=f"{file}.csv",
            row=row,
            column=header,
            value=key,
            is_follow_on=is_quarantined or target in self.targets_with_lost_ids,
            cause=cause,
        )

    def _is_quarantined(self, target: str, key: str) -> bool:
        return self._quarantine is not None and self._quarantine.has_id(target, key)

    def _dangling_message(self, target: str, key: str) -> tuple[str, str, str]:
        """Return message, hint and cause."""
        if self._is_quarantined(target, key):
            return f"refers to a record whose row in {target}.csv is quarantined", "Correct that row.", ""
        if not self._is_deleted(target, key) and (other := self._id_before_change(target, key)):
            is_in_package = self._modes.get(target) == "bulk" or other in self._active_after.get(target, ())
            place = f"{target}.csv" if is_in_package else "the store"
            change = difference(key, other)
            hint = stray_blank_hint(key) or (CHANGED_ID_HINT if is_in_package else CHANGED_FILE_HINT)
            return f"refers to a record whose id in {place} differs in {change}", hint, change
        hint = identifier_hint(key) or f"Add the record to {target}.csv or correct the reference."
        if self._is_deleted(target, key):
            return "refers to a record that this package deletes", hint, key
        place = {
            "bulk": f"{target}.csv",
            "delta": f"{target}.csv or active in the store",
        }.get(self._modes.get(target, ""), f"the active {target} of the store")
        return f"refers to a record that is not in {place}", hint, hint if hint == LIST_HINT else key

    def _id_before_change(self, target: str, key: str) -> str:
        """Return the id of an active record that equals this one after normalization; empty if there is none."""
        if target not in self._finished or target in self._incomplete:
            return ""
        if target not in self._normalized_ids:
            self._normalized_ids[target] = {normalized_id(other): other for other in self._ids_after_import(target)}
        return self._normalized_ids[target].get(normalized_id(key), "")

    def _ids_after_import(self, target: str) -> Set[str]:
        """Return the ids of all records of a collection that are active after the import."""
        if self._modes.get(target) == "bulk":
            listed: Set[str] = self.active_ids.get(target, set())
            return listed | self._ids_of_tools(target) if target in grade_tool_records.WRITABLE_COLLECTIONS else listed
        changed = self._active_after.get(target, {})
        unchanged = self._active_stored(target).difference(changed)
        return unchanged.union(key for key, is_active in changed.items() if is_active)

    def release_ids(self) -> None:
        """Release the memory of all ids."""
        self._pending.clear()
        self._active_stored_ids.clear()
        self._tool_ids.clear()
        self._normalized_ids.clear()
        self.referenced_by_deleted.clear()
        self.active_ids.clear()
        self.deleted_ids.clear()

    def _dangling(self, references: PendingReferences) -> set[tuple[str, str]]:
        """Return (collection, id) of the references that lead to no active record of the package or the store."""
        ids_by_target: dict[str, set[str]] = {}
        for (key, _), (_, target, _) in references.items():
            ids_by_target.setdefault(target, set()).add(key)
        return {(target, key) for target, keys in ids_by_target.items() for key in keys - self._existing(target, keys)}

    def _existing(self, target: str, keys: Set[str]) -> set[str]:
        if self._modes.get(target) == "bulk":
            return self.active_ids[target].intersection(keys)
        active_after = self._active_after.get(target, {})
        unlisted = {key for key in keys if key not in active_after}
        return {key for key in keys if active_after.get(key)} | self.stored_active(target, unlisted)

    def _is_deleted(self, target: str, key: str) -> bool:
        listed = self._modes.get(target) == "bulk" and target in self._ids and self._ids[target].exact is not None
        return key in self.deleted_ids.get(target, ()) or (listed and key in self._ids[target])

    def _check(self, source: _Source) -> tuple[Set[object], OtherIdsCheck]:
        valid_ids, pending = self._valid_ids(source)

        def check_others(value: object, row: int, row_key: str, is_active: bool) -> Iterator[ImportProblem]:
            for key in value if isinstance(value, tuple) else (value,):
                if key in valid_ids or source.target in self._incomplete:
                    continue
                if pending is None:
                    yield from self._errors(source, row, str(key), is_active)
                else:
                    reference = (str(key), is_active)
                    if place := pending.get(reference):
                        place[0].append(row)
                    else:
                        keys = [] if self._quarantine else _NO_KEYS
                        place = pending[reference] = (array("I", (row,)), source.target, keys)
                    if self._quarantine:
                        place[2].append(row_key)

        return valid_ids, check_others

    def _valid_ids(self, source: _Source) -> tuple[Set[object], PendingReferences | None]:
        """Return the ids that rows may refer to, and the place for other ids if they are decided later."""
        file, header, target = source
        is_decided_later = target not in self._finished
        if self._modes.get(target) == "bulk":
            valid_ids: Set[object] = self.active_ids.setdefault(target, set())
            return valid_ids, self._pending.setdefault((file, header), {}) if is_decided_later else None
        if is_decided_later or "delta" in (self._modes.get(target), self._modes.get(file)):
            # Decided in batches, because a delta file refers to few of the stored records. A reference may also
            # come before the row of its own file that deletes its target.
            return set(), self._pending.setdefault((file, header), {})
        return self._active_stored(target), None

    def _active_stored(self, name: str) -> frozenset[str]:
        if name not in self._active_stored_ids:
            active = frozenset(self._stored.keys(name, ACTIVE_ONLY))
            self._active_stored_ids[name] = active - self.deleted_ids.get(name, frozenset())
        return self._active_stored_ids[name]

    def _ids_of_tools(self, name: str) -> frozenset[str]:
        """Return the ids of records of grade tools that stay, although their bulk file does not have them."""
        if name not in self._tool_ids:
            tools = frozenset(self._stored.keys(name, And((ACTIVE_ONLY, grade_tool_records.written_by_tools(name)))))
            self._tool_ids[name] = tools - self.deleted_ids.get(name, frozenset())
        return self._tool_ids[name]

    def _errors(self, source: _Source, row: int, key: str, is_active: bool) -> Iterator[ImportProblem]:
        """Yield the error of a reference without an active target, unless the reference is allowed anyway."""
        file, header, target = source
        if not is_active and self._is_known(target, key):
            return
        if target in grade_tool_records.WRITABLE_COLLECTIONS and key in self._ids_of_tools(target):
            return
        yield self.dangling_reference(file, header, target, key, row)

    def _is_known(self, target: str, key: str) -> bool:
        """Return True if the record exists after the import, deleted or not."""
        if self._stored.get_many(target, [key]):
            self.referenced_by_deleted.add((target, key))
            return True
        return self._modes.get(target) == "bulk" and target in self._ids and key in self._ids[target]
