"""Check that each reference of a package leads to a record of the package or of the store.

docs/conformance, I-07, states which references are allowed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Set
from typing import NamedTuple, TypeAlias

from backends import KEY, And, In, Snapshot, batched
from chalk_flask.oneroster.csv.diagnosis import stray_blank_hint
from chalk_flask.oneroster.relations import ACTIVE_ONLY
from chalk_flask.oneroster.resource_type import ResourceType
from chalk_flask.roster.changes import provenance
from chalk_flask.roster.package.archive import Package
from chalk_flask.roster.package.id_set import IdSet
from chalk_flask.roster.package.problems import ImportProblem

__all__ = ["ReferenceChecker"]

BATCH_SIZE = 1000

OtherIdsCheck: TypeAlias = Callable[[object, int, bool], Iterator[ImportProblem]]
"""Function that yields the errors of ids that are not yet valid, from the id or ids, row number, and active state."""

ReferenceCheck: TypeAlias = tuple[str, Set[object], OtherIdsCheck]
"""Stored field that refers to records, the valid ids so far, and the check of other ids."""

PendingReferences: TypeAlias = dict[tuple[str, bool], tuple[int, str]]
"""References that are decided later: (id, True if the row is active) to (row number, target collection)."""


class _Source(NamedTuple):
    """Column with references: file, header and target collection."""

    file: str
    header: str
    target: str


class ReferenceChecker:
    """Checker of the references of one package.

    The reader fills `ids` with the ids of each file. For delta files it fills `active_after`: True by id if the
    record is active after the import. `incomplete` names the files that could not be read to their end.
    """

    def __init__(
        self,
        package: Package,
        stored: Snapshot,
        ids: Mapping[str, IdSet],
        active_after: Mapping[str, Mapping[str, bool]],
        incomplete: Set[str],
    ) -> None:
        self.referenced_by_deleted: set[tuple[str, str]] = set()
        """Collection and id of the stored records that a deleted row refers to."""
        self.targets_with_lost_ids: set[str] = set()
        """Files with an invalid row whose id may be unknown. References to them may be consequences of that error."""
        self._modes = package.modes
        self._stored = stored
        self._ids = ids
        self._active_after = active_after
        self._incomplete = incomplete
        self._pending: dict[tuple[str, str], PendingReferences] = {}
        self._files_read: set[str] = set()
        self._active_ids: dict[str, frozenset[str]] = {}
        self._tool_ids: dict[str, frozenset[str]] = {}

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

    def pending_errors(self, name: str) -> Iterator[ImportProblem]:
        """Yield the errors of pending references from and to this file, which was just read to its end.

        References to a file that is still unread stay pending.
        """
        self._files_read.add(name)
        for (file, header), pending in self._pending.items():
            if file not in self._files_read:
                continue
            decidable = {
                key: (row, target)
                for key, (row, target) in pending.items()
                if name in (file, target) and self._is_readable(target)
            }
            dangling = self._dangling(decidable)
            for (key, is_active), (row, target) in decidable.items():
                if (target, key) in dangling:
                    yield from self._errors(_Source(file, header, target), row, key, is_active)

    def _is_readable(self, target: str) -> bool:
        is_final = target in self._files_read or self._modes.get(target) not in ("bulk", "delta")
        return is_final and target not in self._incomplete

    def _dangling(self, references: PendingReferences) -> set[tuple[str, str]]:
        """Return (collection, id) of the references that lead to no active record of the package or the store."""
        ids_by_target: dict[str, set[str]] = {}
        for (key, _), (_, target) in references.items():
            ids_by_target.setdefault(target, set()).add(key)
        return {(target, key) for target, keys in ids_by_target.items() for key in keys - self._existing(target, keys)}

    def _existing(self, target: str, keys: Set[str]) -> set[str]:
        if self._modes.get(target) == "bulk":
            return {key for key in keys if key in self._ids[target]}
        active_after = self._active_after.get(target, {})
        existing = {key for key in keys if active_after.get(key)}
        unlisted = [key for key in keys if key not in active_after]
        for batch in batched(unlisted, BATCH_SIZE):
            existing.update(self._stored.keys(target, And((In(KEY, tuple(batch)), ACTIVE_ONLY))))
        return existing

    def release_ids(self) -> None:
        """Release the memory of all ids."""
        self._pending.clear()
        self._active_ids.clear()
        self._tool_ids.clear()
        self.referenced_by_deleted.clear()

    def _check(self, source: _Source) -> tuple[Set[object], OtherIdsCheck]:
        valid_ids, pending = self._valid_ids(source)

        def check_others(value: object, row: int, is_active: bool) -> Iterator[ImportProblem]:
            for key in value if isinstance(value, tuple) else (value,):
                if key in valid_ids or source.target in self._incomplete:
                    continue
                if pending is None:
                    yield from self._errors(source, row, str(key), is_active)
                else:
                    pending.setdefault((str(key), is_active), (row, source.target))

        return valid_ids, check_others

    def _valid_ids(self, source: _Source) -> tuple[Set[object], PendingReferences | None]:
        """Return the ids that rows may refer to, and the place for other ids if they are decided later."""
        file, header, target = source
        if self._modes.get(target) == "bulk":
            ids = self._ids.get(target)
            valid_ids: Set[object] = set() if ids is None or ids.exact is None else ids.exact
            is_incomplete = ids is None or target == file
            return valid_ids, self._pending.setdefault((file, header), {}) if is_incomplete else None
        if "delta" in (self._modes.get(target), self._modes.get(file)):
            # Decided later, in batches, because a delta file refers to few of the stored records. A reference may also
            # come before the row of its own file that deletes its target.
            return set(), self._pending.setdefault((file, header), {})
        return self._stored_active_ids(target), None

    def _stored_active_ids(self, name: str) -> frozenset[str]:
        if name not in self._active_ids:
            self._active_ids[name] = frozenset(self._stored.keys(name, ACTIVE_ONLY))
        return self._active_ids[name]

    def _ids_of_tools(self, name: str) -> frozenset[str]:
        """Return the ids of records of grade tools. No bulk file deletes them, so a package may refer to them."""
        if name not in self._tool_ids:
            self._tool_ids[name] = frozenset(
                self._stored.keys(name, And((ACTIVE_ONLY, provenance.written_by_tools(name))))
            )
        return self._tool_ids[name]

    def _errors(self, source: _Source, row: int, key: str, is_active: bool) -> Iterator[ImportProblem]:
        """Yield the error of a reference without an active target, unless the reference is allowed anyway."""
        file, header, target = source
        if not is_active and self._stored.get_many(target, [key]):
            self.referenced_by_deleted.add((target, key))
            return
        if target in provenance.WRITABLE_COLLECTIONS and key in self._ids_of_tools(target):
            return
        place = {
            "bulk": f"{target}.csv",
            "delta": f"{target}.csv or active in the store",
        }.get(self._modes.get(target, ""), f"the active {target} of the store")
        yield ImportProblem(
            "dangling_reference",
            f"refers to a record that is not in {place}",
            stray_blank_hint(key) or f"Add the record to {target}.csv or correct the reference.",
            file=f"{file}.csv",
            row=row,
            column=header,
            value=key,
            is_follow_on=target in self.targets_with_lost_ids,
        )
