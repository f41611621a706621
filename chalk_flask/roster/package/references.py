"""References between the files of a package and to what is stored: each must lead to a record."""

from __future__ import annotations

from collections.abc import Mapping, Set
from typing import Protocol, TypeAlias

from backends import KEY, And, In, Snapshot, batched
from chalk_flask.oneroster.relations import ACTIVE_ONLY
from chalk_flask.oneroster.resource_type import ResourceType
from chalk_flask.roster.changes import provenance
from chalk_flask.roster.package.archive import Package
from chalk_flask.roster.package.id_set import IdSet
from chalk_flask.roster.package.problems import ImportProblems

__all__ = ["Check", "ReferenceChecker"]


class MissingReferenceHandler(Protocol):
    """Told of a value that is not among the known ids: the id or ids, the row, whether its record is active."""

    def __call__(self, value: object, row: int, active: bool) -> None: ...


Check: TypeAlias = tuple[str, Set[object], MissingReferenceHandler]
"""A stored field that refers to records, the ids known so far, and what to do about a value not among them."""

BATCH_SIZE = 1000

Waiting: TypeAlias = dict[tuple[str, bool], tuple[int, str]]
"""References that may be met later in the package: the id and whether the row is active, to the row and the target."""


class ReferenceChecker:
    """What refers to what.

    `ids` and, of delta files, `live` grow while the files are read: the ids, and whether each is active afterwards.
    `broken` names the files of which not all is known.
    """

    def __init__(
        self,
        package: Package,
        before: Snapshot,
        problems: ImportProblems,
        ids: Mapping[str, IdSet],
        live: Mapping[str, Mapping[str, bool]],
        broken: Set[str],
    ) -> None:
        self.recalled: set[tuple[str, str]] = set()
        """Class and id of stored records that only rows of deleted records still name."""
        self._modes = package.modes
        self._before = before
        self._problems = problems
        self._ids = ids
        self._live = live
        self._broken = broken
        self._awaited: dict[tuple[str, str], Waiting] = {}
        self._read: set[str] = set()
        self._stored: dict[str, frozenset[str]] = {}
        self._tools: dict[str, frozenset[str]] = {}

    def checks(self, resource: ResourceType) -> list[Check]:
        """What is to be checked of each row of the file. The file's own `ids` must be there already."""
        columns = {column.name: column.header for column in resource.columns}
        found = [
            (reference.field, *self._known(resource.name, columns[reference.name], reference.target))
            for reference in resource.references
            if reference.name in columns
        ]
        if resource.shares_ids_with:
            found.append((KEY, *self._known(resource.name, "sourcedId", resource.shares_ids_with)))
        return found

    def settle(self, name: str) -> None:
        """Decide about references from and to this file, which was read through just now, as far as all is known."""
        self._read.add(name)
        for (source, header), waiting in self._awaited.items():
            if source not in self._read:
                continue
            due = {key: (row, target) for key, (row, target) in waiting.items() if self._is_due(name, source, target)}
            lost = self._lost(due)
            for (key, active), (row, target) in due.items():
                if (target, key) in lost:
                    self._missing(source, row, header, target, key, active)

    def _is_due(self, name: str, source: str, target: str) -> bool:
        known = target in self._read or self._modes.get(target) not in ("bulk", "delta")
        return known and name in (source, target) and target not in self._broken

    def _lost(self, due: Waiting) -> set[tuple[str, str]]:
        """Of the classes and ids those that lead to no active record, of the package or else of the store."""
        asked: dict[str, set[str]] = {}
        for (key, _), (_, target) in due.items():
            asked.setdefault(target, set()).add(key)
        return {(target, key) for target, keys in asked.items() for key in keys - self._there(target, keys)}

    def _there(self, target: str, keys: Set[str]) -> set[str]:
        if self._modes.get(target) == "bulk":
            return {key for key in keys if key in self._ids[target]}
        live = self._live.get(target, {})
        there = {key for key in keys if live.get(key)}
        elsewhere = [key for key in keys if key not in live]
        for batch in batched(elsewhere, BATCH_SIZE):
            there.update(self._before.keys(target, And((In(KEY, tuple(batch)), ACTIVE_ONLY))))
        return there

    def forget(self) -> None:
        """Let go of all ids."""
        self._awaited.clear()
        self._stored.clear()
        self._tools.clear()
        self.recalled.clear()

    def _known(self, name: str, header: str, target: str) -> tuple[Set[object], MissingReferenceHandler]:
        known: Set[object]
        waiting: Waiting | None = None
        if self._modes.get(target) == "bulk":
            read = self._ids.get(target)
            known = set() if read is None or read.exact is None else read.exact
            if read is None or target == name:
                waiting = self._awaited.setdefault((name, header), {})
        elif self._modes.get(target) == "delta" or self._modes.get(name) == "delta":
            # Asked later, in batches: the store has many more records than a delta file refers to. And within its own
            # file a reference may come before the row that deletes what it leads to.
            known, waiting = set(), self._awaited.setdefault((name, header), {})
        else:
            known = self._active(target)

        def missed(value: object, row: int, active: bool) -> None:
            for key in value if isinstance(value, tuple) else (value,):
                if key in known or target in self._broken:
                    continue
                if waiting is None:
                    self._missing(name, row, header, target, str(key), active)
                else:
                    waiting.setdefault((str(key), active), (row, target))

        return known, missed

    def _active(self, name: str) -> frozenset[str]:
        if name not in self._stored:
            self._stored[name] = frozenset(self._before.keys(name, ACTIVE_ONLY))
        return self._stored[name]

    def _of_tools(self, name: str) -> frozenset[str]:
        """What grade tools wrote stays as it is, whatever a bulk file holds, so it may be referred to."""
        if name not in self._tools:
            self._tools[name] = frozenset(
                self._before.keys(name, And((ACTIVE_ONLY, provenance.written_by_tools(name))))
            )
        return self._tools[name]

    def _missing(self, name: str, row: int, header: str, target: str, key: str, active: bool) -> None:
        if not active and self._before.get_many(target, [key]):
            self.recalled.add((target, key))
            return
        if target in provenance.WRITABLE_COLLECTIONS and key in self._of_tools(target):
            return
        where = {
            "bulk": f"{target}.csv",
            "delta": f"{target}.csv or active in the store",
        }.get(self._modes.get(target, ""), f"the active {target} that are stored")
        self._problems.error(
            "dangling_reference",
            f"refers to a record that is not in {where}",
            f"Add the record to {target}.csv or correct the reference.",
            file=f"{name}.csv",
            row=row,
            column=header,
            value=key,
        )
