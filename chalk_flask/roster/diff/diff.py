"""Comparison of a package with the stored roster: changed and missing records, and expired tombstones."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping

from backends import KEY, And, Compare, In, Not, Or, Query, Snapshot, Subquery, Where, batched
from chalk_flask.oneroster.csv.row_parser import ParsedRow
from chalk_flask.oneroster.fields.scalars import fold
from chalk_flask.oneroster.relations import ACTIVE_ONLY
from chalk_flask.oneroster.resource_type import ResourceType
from chalk_flask.oneroster.schemas import FILES
from chalk_flask.oneroster.vocabularies import ACTIVE, TO_BE_DELETED
from chalk_flask.roster.changes import provenance
from chalk_flask.roster.diff import derived_fields
from chalk_flask.roster.diff.change_set import ChangeSet
from chalk_flask.roster.package.archive import Package
from chalk_flask.roster.package.data_file import ReadingOptions
from chalk_flask.roster.package.problems import ImportProblem, ImportProblems
from chalk_flask.roster.package.reader import PackageReader, ids_in_cycles
from chalk_flask.times import format_epoch_seconds

__all__ = ["RosterDiff", "old_tombstone_counts"]

DAY_SECONDS = 86_400
BATCH_SIZE = 250


class RosterDiff:
    """Difference between a package and a snapshot.

    `compare` fills three results. `changes` holds the records to write by collection, and `purged` the keys of the
    tombstones to delete permanently. `provenance_keys` holds the notes about records that the package takes over from
    grade tools (interpretation W-10). `close` deletes the temporary files.
    """

    def __init__(
        self,
        package: Package,
        stored: Snapshot,
        problems: ImportProblems,
        options: ReadingOptions,
        progress: Callable[[str, int], None] | None,
    ) -> None:
        self.reader = PackageReader(package, stored, problems, options, progress)
        self.changes: dict[str, ChangeSet] = {}
        self.purged: dict[str, list[str]] = {}
        self.provenance_keys: list[str] = []
        self._stored = stored
        self._bulk = [name for name in FILES if package.modes.get(name) == "bulk"]
        self._delta = [name for name in FILES if package.modes.get(name) == "delta"]
        self._links: dict[str, derived_fields.Links] = {}

    @property
    def changed_count(self) -> int:
        """The number of records to write."""
        return sum(changes.changed_count for changes in self.changes.values())

    def changed_keys(self, name: str) -> set[str]:
        """Return the ids of the records of a collection that the import writes or purges."""
        return {*self.changes[name].keys(), *self.purged.get(name, ())}

    def compare(self, tombstone_days: int) -> None:
        """Read the whole package. Tombstones older than `tombstone_days` are purged if no record refers to them.

        If the package has errors, `reader.problems` holds them and the other results are incomplete.
        """
        for name in FILES:
            self.changes[name] = ChangeSet(FILES[name], self._stored)
            if name in self._bulk or name in self._delta:
                self._compare_file(FILES[name])
        if self._bulk and not any(self.reader.row_counts.values()) and not self.reader.problems.total:
            hint = "Export the package again. Importing it would delete all records of its collections."
            problem = ImportProblem("no_rows", "all files of the package are empty", hint, file="manifest.csv")
            self.reader.problems.add(problem)
        if self.reader.problems.total:
            return
        for name in self._bulk:
            self._mark_missing(FILES[name])
        for name in provenance.WRITABLE_COLLECTIONS:
            if name in self._bulk or name in self._delta:
                self._claim_provenance(name)
        self._update_linked_records()
        self._find_old_tombstones(tombstone_days)
        self.reader.release_ids()

    def close(self) -> None:
        """Delete the temporary files."""
        for changes in self.changes.values():
            changes.close()

    def _compare_file(self, resource_type: ResourceType) -> None:
        changes = self.changes[resource_type.name]
        for batch in batched(self._rows(resource_type), BATCH_SIZE):
            changes.compare([(key, encoded, values) for key, _, values, encoded in batch])

    def _rows(self, resource_type: ResourceType) -> Iterator[ParsedRow]:
        rows = self.reader.parse_file(resource_type.name)
        for name, element in resource_type.derived_fields.items():
            if element.inverse:
                rows = self._with_children(resource_type, name, list(rows))
            else:
                rows = self._with_links(resource_type, name, rows)
        if resource_type.name in derived_fields.link_sources():
            rows = self._collect_links(resource_type, rows)
        return rows

    def _with_children(self, resource_type: ResourceType, name: str, rows: list[ParsedRow]) -> Iterator[ParsedRow]:
        """Yield the rows with their children. Orgs and sessions are few, so all their rows fit in memory."""
        element = resource_type.derived_fields[name]
        field = f"{element.inverse}.sourcedId"
        parents = {row.key: str(row.values[field]) for row in rows if row.values.get(field) is not None}
        active = {row.key for row in rows if row.values["status"] == ACTIVE}
        if resource_type.name in self._delta:
            others = derived_fields.stored_parents(
                self._stored, resource_type, element, self.reader.ids[resource_type.name]
            )
            parents, active = parents | others, active | others.keys()
        self._check_cycles(resource_type, parents)
        children = derived_fields.children_by_parent({key: parents[key] for key in parents if key in active})
        for row in rows:
            yield derived_fields.with_derived_field(row, name, element, children.get(row.key))
        if resource_type.name in self._delta:
            self._update_derived_field(resource_type, name, children)

    def _update_derived_field(self, resource_type: ResourceType, name: str, links: derived_fields.Links) -> None:
        """Add the stored records outside the package whose derived field changes."""
        ids = self.reader.ids.get(resource_type.name, ())
        for record in derived_fields.records_with_changed_links(self._stored, resource_type, name, links):
            if record.key not in ids:
                self.changes[resource_type.name].add(record, "updated")

    def _check_cycles(self, resource_type: ResourceType, parents: Mapping[str, str]) -> None:
        if not (in_cycle := set(ids_in_cycles(parents))):
            return
        for row, key in self.reader.row_ids(resource_type):
            if key in in_cycle:
                message = f"the record {key!r} is its own ancestor"
                hint = "Correct parentSourcedId so that the chain of parents ends."
                file = f"{resource_type.name}.csv"
                self.reader.problems.add(
                    ImportProblem("cycle", message, hint, file, row, "parentSourcedId", value=parents[key])
                )

    def _with_links(self, resource_type: ResourceType, name: str, rows: Iterator[ParsedRow]) -> Iterator[ParsedRow]:
        element = resource_type.derived_fields[name]
        links = self._links.get(element.link)
        if links is None:
            links = self._links[element.link] = derived_fields.stored_links(self._stored, element.link)
        for row in rows:
            yield derived_fields.with_derived_field(row, name, element, links.get(row.key))

    def _collect_links(self, resource_type: ResourceType, rows: Iterator[ParsedRow]) -> Iterator[ParsedRow]:
        owner, target = (reference.field for reference in resource_type.references)
        is_delta = resource_type.name in self._delta
        links = derived_fields.stored_pairs(self._stored, resource_type.name) if is_delta else {}
        for row in rows:
            if row.values["status"] == ACTIVE:
                links[row.key] = str(row.values[owner]), str(row.values[target])
            else:
                links.pop(row.key, None)
            yield row
        self._links[resource_type.name] = derived_fields.group_pairs(links.values())

    def _update_linked_records(self) -> None:
        """Update linked classes and courses whose own file is not a bulk file of the package."""
        for link, (name, element) in derived_fields.link_sources().items():
            if link in self._links and name not in self._bulk and (link in self._bulk or link in self._delta):
                self._update_derived_field(FILES[name], element, self._links[link])

    def _mark_missing(self, resource_type: ResourceType) -> None:
        changes, ids = self.changes[resource_type.name], self.reader.ids[resource_type.name]
        stored = self._stored.keys(resource_type.name, _written_by_imports(resource_type.name))
        missing = (key for key in stored if key not in ids)
        for batch in batched(missing, BATCH_SIZE):
            for body in self._stored.get_many(resource_type.name, batch).values():
                changes.add(resource_type.tombstone(body), "deleted")

    def _claim_provenance(self, name: str) -> None:
        ids = self.reader.ids[name]
        for note in self._stored.keys(provenance.COLLECTION, provenance.notes_of(name)):
            if note.removeprefix(provenance.note_key(name, "")) in ids:
                self.provenance_keys.append(note)

    def _find_old_tombstones(self, days: int) -> None:
        """Find the tombstones to purge: old enough, without references, and not in the package."""
        for query in old_tombstone_counts(days):
            # Counting is fast and the result is usually 0. The search for references is slow.
            if self._stored.exists(query.collection, query.where):
                self._find_unreferenced(query.collection, query.where)

    def _find_unreferenced(self, name: str, old: Where) -> None:
        unreferenced = And((old, Not(Or(tuple(_references_to(name))))))
        ids, recalled = self.reader.ids.get(name, ()), self.reader.references.referenced_by_deleted
        keys = self._stored.keys(name, unreferenced)
        if purged := [key for key in keys if key not in ids and (name, key) not in recalled]:
            self.purged[name] = purged


def old_tombstone_counts(days: int) -> list[Query]:
    """Return queries that count the tombstones older than `days` days, one for each collection."""
    cutoff = fold(format_epoch_seconds(time.time() - days * DAY_SECONDS))
    old = And((Compare("status", "=", TO_BE_DELETED), Compare("dateLastModified", "<", cutoff)))
    return [Query(name, old, limit=0) for name in FILES]


def _written_by_imports(name: str) -> Where:
    """Return the condition for the active records that an import can delete: those that no grade tool wrote."""
    return (
        And((ACTIVE_ONLY, Not(provenance.written_by_tools(name))))
        if name in provenance.WRITABLE_COLLECTIONS
        else ACTIVE_ONLY
    )


def _references_to(name: str) -> Iterator[Where]:
    everything: Where = And(())
    for resource_type in FILES.values():
        for reference in resource_type.references:
            if reference.target == name:
                yield In(KEY, Subquery(resource_type.name, reference.field, everything))
        if resource_type.shares_ids_with == name:
            yield In(KEY, Subquery(resource_type.name, KEY, everything))
