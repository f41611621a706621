"""Comparison of a package with the stored roster: changed and missing records, and old tombstones."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import cast

from backends import KEY, And, Compare, In, Not, OnProgress, Or, Query, Snapshot, Subquery, Where, batched
from chalk_flask.oneroster.csv.row_parser import ParsedRecord, ParsedRow
from chalk_flask.oneroster.fields.scalars import JSON, fold
from chalk_flask.oneroster.relations import ACTIVE_ONLY
from chalk_flask.oneroster.resource_type import ResourceType
from chalk_flask.oneroster.schemas import FILES
from chalk_flask.oneroster.vocabularies import ACTIVE, TO_BE_DELETED
from chalk_flask.roster.changes import grade_tool_records
from chalk_flask.roster.diff import derived_fields
from chalk_flask.roster.diff.change_set import ChangeSet
from chalk_flask.roster.diff.dependents import Dependency, Dependent, dependencies, find_dependents
from chalk_flask.roster.diff.first_load import FirstLoad
from chalk_flask.roster.diff.gradebook_categories import CategoryDeletions
from chalk_flask.roster.package.archive import Package
from chalk_flask.roster.package.data_file import ReadingOptions
from chalk_flask.roster.package.problems import ImportProblem, ImportProblems
from chalk_flask.roster.package.quarantine import Quarantine
from chalk_flask.roster.package.reader import REFERENCE_TARGETS, PackageReader, ids_in_cycles
from chalk_flask.times import format_epoch_seconds

__all__ = ["RosterDiff", "old_tombstone_queries"]

DAY_SECONDS = 86_400
BATCH_SIZE = 250
COMPARED_ROWS = 500
"""Number of rows that are compared at once. Looking up more at once takes less time for each."""

CATEGORIES, LINE_ITEMS = "categories", "lineItems"


class RosterDiff:
    """Difference between a package and a snapshot.

    `compare` fills three results. `changes` holds the records to write by collection, and `purged` the keys of the
    tombstones to delete permanently. `notes_to_delete` holds the notes about records that the package takes over from
    grade tools (interpretation W-10). `close` deletes the temporary files.

    With a `first_load`, the snapshot must be empty. Rows of very large files are then written during `compare`.
    """

    def __init__(
        self,
        package: Package,
        stored: Snapshot,
        problems: ImportProblems,
        options: ReadingOptions,
        on_progress: OnProgress | None,
        quarantine: Quarantine | None = None,
        strict: bool = False,
        first_load: FirstLoad | None = None,
    ) -> None:
        self._package = package
        self.first_load = first_load
        self.reader = PackageReader(package, stored, problems, options, on_progress, quarantine, strict)
        self.changes: dict[str, ChangeSet] = {}
        self.purged: dict[str, list[str]] = {}
        self.notes_to_delete: list[str] = []
        self._stored = stored
        self._bulk = [name for name in FILES if package.modes.get(name) == "bulk"]
        self._delta = [name for name in FILES if package.modes.get(name) == "delta"]
        self._quarantine = quarantine
        self._pairs: dict[str, dict[str, tuple[str, str]]] = {}
        self._links: dict[str, derived_fields.Links] = {}
        self._amendments: dict[str, dict[str, dict[str, JSON]]] = {name: {} for name in FILES}
        self._categories = CategoryDeletions(stored)

    @property
    def changed_count(self) -> int:
        """The number of records to write."""
        return sum(changes.changed_count for changes in self.changes.values())

    def changed_keys(self, name: str) -> set[str]:
        """Return the ids of the records of a collection that the import writes or purges."""
        return {*self.changes[name].keys(), *self.purged.get(name, ())}

    def compare(self, tombstone_days: int) -> None:
        """Read the whole package. Tombstones older than `tombstone_days` are purged if no record refers to them.

        If the package has errors, `reader.problems` holds them and the other results are incomplete. Raises
        RowsExcludedError if the caller must compare the package again, without rows that were quarantined too late.
        """
        for name, resource_type in FILES.items():
            has_dependents = name in REFERENCE_TARGETS or name in derived_fields.link_sources()
            self.changes[name] = ChangeSet(
                resource_type, self._stored, tracks_deletions=has_dependents, is_bulk=name in self._bulk
            )
            self.reader.references.deleted_ids[name] = self.changes[name].deleted_ids
            if name in self._bulk or name in self._delta:
                self._compare_file(resource_type)
            if not self.reader.problems.total:
                self._delete_stored(resource_type)
            self.reader.finish_file(name)
        if self._bulk and not any(self.reader.row_counts.values()) and not self.reader.problems.total:
            hint = "Export the package again. Importing it would delete all records of its collections."
            problem = ImportProblem("no_rows", "all files of the package are empty", hint, file="manifest.csv")
            self.reader.problems.add(problem)
        if self.reader.problems.total:
            return
        for name in grade_tool_records.WRITABLE_COLLECTIONS:
            if name in self._bulk or name in self._delta:
                self._collect_notes(name)
        self._update_linked_records()
        for name, amendments in self._amendments.items():
            self._write_amendments(FILES[name], amendments)
        self._find_old_tombstones(tombstone_days)
        self.reader.release_ids()

    def close(self) -> None:
        """Delete the temporary files, and end the parser process."""
        self.reader.close()
        for changes in self.changes.values():
            changes.close()

    def _compare_file(self, resource_type: ResourceType) -> None:
        changes = self.changes[resource_type.name]
        if self.first_load and self._is_loaded_at_once(resource_type.name, self.first_load):
            self.first_load.put(changes, self._rows(resource_type), lambda: not self.reader.problems.total)
            return
        for batch in batched(self._rows(resource_type), COMPARED_ROWS):
            changes.compare(self._categories.postpone_deletions(batch) if resource_type.name == CATEGORIES else batch)

    def _is_loaded_at_once(self, name: str, first_load: FirstLoad) -> bool:
        """Return True if the rows of a file go into the store of a first load while they are read."""
        is_candidate = name != CATEGORIES and not self.reader.problems.total
        return is_candidate and first_load.accepts(self._package, name, self.changed_count)

    def _rows(self, resource_type: ResourceType) -> Iterator[ParsedRecord]:
        if resource_type.derived_fields:
            return (row[:3] for row in self._with_derived_fields(resource_type))
        rows = cast("Iterator[ParsedRecord]", self.reader.parse_file(resource_type.name))
        return self._collect_links(resource_type, rows) if resource_type.name in derived_fields.link_sources() else rows

    def _with_derived_fields(self, resource_type: ResourceType) -> Iterator[ParsedRow]:
        rows = cast("Iterator[ParsedRow]", self.reader.parse_file(resource_type.name))
        for name, element in resource_type.derived_fields.items():
            if element.inverse:
                rows = self._with_children(resource_type, name, list(rows))
            else:
                rows = self._with_links(resource_type, name, rows)
        return rows

    def _with_children(self, resource_type: ResourceType, name: str, rows: list[ParsedRow]) -> Iterator[ParsedRow]:
        """Yield the rows with their children. Orgs and sessions are few, so all their rows fit in memory."""
        element = resource_type.derived_fields[name]
        field = f"{element.inverse}.sourcedId"
        parents = {row.key: str(row.values[field]) for row in rows if row.values.get(field) is not None}
        active = {row.key for row in rows if row.values["status"] == ACTIVE}
        if self._may_keep_unlisted(resource_type.name):
            is_kept = self._is_kept_unlisted(resource_type)
            others = derived_fields.stored_parents(self._stored, resource_type, element, is_kept)
            parents, active = parents | others, active | others.keys()
        self._check_cycles(resource_type, parents)
        children = derived_fields.children_by_parent({key: parents[key] for key in parents if key in active})
        for row in rows:
            yield derived_fields.with_derived_field(row, name, element, children.get(row.key))
        if self._may_keep_unlisted(resource_type.name):
            self._update_derived_field(resource_type, name, children)

    def _may_keep_unlisted(self, name: str) -> bool:
        """Return True if a stored record may stay active although no row lists it, see `_is_kept_unlisted`."""
        return name not in self._bulk or (self._quarantine is not None and self._quarantine.has_rows(name))

    def _is_kept_unlisted(self, resource_type: ResourceType) -> Callable[[str], bool]:
        """Return the condition for the ids of stored active records that stay although the package has no row.

        These are all other records of delta and absent files, and those of quarantined rows of bulk files. Call it
        after the end of the file. It does not cover gradebook records of grade tools.
        """
        name = resource_type.name
        ids, deleted_ids = self.reader.ids.get(name, ()), self.changes[name].deleted_ids
        if name not in self._bulk:
            return lambda key: key not in ids and key not in deleted_ids
        quarantined = self._quarantine.contains if self._quarantine else lambda name, key: False
        return lambda key: key not in ids and key not in deleted_ids and quarantined(name, key)

    def _update_derived_field(self, resource_type: ResourceType, name: str, links: derived_fields.Links) -> None:
        """Amend the stored records outside the package whose derived field changes."""
        is_kept = self._is_kept_unlisted(resource_type)
        for key, ids in derived_fields.changed_links(self._stored, resource_type, name, links):
            if is_kept(key):
                self._amend(resource_type.name, key, {name: ids})

    def _amend(self, name: str, key: str, members: Mapping[str, JSON]) -> None:
        """Change members of a stored record that the package does not contain."""
        self._amendments[name].setdefault(key, {}).update(members)

    def _write_amendments(self, resource_type: ResourceType, amendments: Mapping[str, dict[str, JSON]]) -> None:
        changes = self.changes[resource_type.name]
        keys = [key for key in amendments if key not in changes.deleted_ids]
        for batch in batched(keys, BATCH_SIZE):
            for key, body in self._stored.get_many(resource_type.name, batch).items():
                changes.add(resource_type.record(resource_type.normalize(body) | amendments[key]), "updated")

    def _check_cycles(self, resource_type: ResourceType, parents: Mapping[str, str]) -> None:
        if not (in_cycle := set(ids_in_cycles(parents))):
            return
        for row, key in self.reader.row_ids(resource_type):
            if key in in_cycle:
                message = f"the record {key!r} is its own ancestor"
                hint = "Correct parentSourcedId so that the chain of parents ends."
                file = f"{resource_type.name}.csv"
                error = ImportProblem("cycle", message, hint, file, row, "parentSourcedId", value=parents[key])
                self.reader.reject_yielded(resource_type.name, error, [key])

    def _with_links(self, resource_type: ResourceType, name: str, rows: Iterator[ParsedRow]) -> Iterator[ParsedRow]:
        element = resource_type.derived_fields[name]
        links = self._links_of(element.link)
        for row in rows:
            yield derived_fields.with_derived_field(row, name, element, links.get(row.key))

    def _links_of(self, link: str) -> derived_fields.Links:
        """Return the links of a link file as they are after the import."""
        if link not in self._links:
            pairs = self._pairs.pop(link, None)
            if pairs is None:
                pairs = derived_fields.stored_pairs(self._stored, link)
            deleted_ids = self.changes[link].deleted_ids
            self._links[link] = derived_fields.group_pairs(
                pair for key, pair in pairs.items() if key not in deleted_ids
            )
        return self._links[link]

    def _collect_links(self, resource_type: ResourceType, rows: Iterator[ParsedRecord]) -> Iterator[ParsedRecord]:
        name = resource_type.name
        owner, target = (reference.field for reference in resource_type.references)
        links: dict[str, tuple[str, str]] = {}
        for row in rows:
            key, _, values = row
            if values["status"] == ACTIVE:
                links[key] = str(values[owner]), str(values[target])
            yield row
        if self._may_keep_unlisted(name):
            is_kept = self._is_kept_unlisted(resource_type)
            stored = derived_fields.stored_pairs(self._stored, name).items()
            links |= {key: pair for key, pair in stored if is_kept(key)}
        self._pairs[name] = links

    def _update_linked_records(self) -> None:
        """Amend linked classes and courses that the package does not contain."""
        for link, (name, element) in derived_fields.link_sources().items():
            is_changed = link in self._bulk or link in self._delta or self.changes[link].deleted_ids
            if is_changed and self._may_keep_unlisted(name):
                self._update_derived_field(FILES[name], element, self._links_of(link))

    def _delete_stored(self, resource_type: ResourceType) -> None:
        """Delete the stored records that are missing from a bulk file, and those that require a deleted record.

        Then complete the active ids of the file.
        """
        name = resource_type.name
        if name in self._bulk:
            self._mark_missing(resource_type)
        earlier = [reference for reference in dependencies(resource_type) if reference.target in self._earlier(name)]
        self._delete_dependents(resource_type, earlier)
        own = [reference for reference in dependencies(resource_type) if reference.target == name]
        self._delete_dependents(resource_type, own)
        for link, (owner, _) in derived_fields.link_sources().items():
            if owner == name:
                later = [reference for reference in dependencies(FILES[link]) if reference.target == name]
                self._delete_dependents(FILES[link], later)
        if name == LINE_ITEMS:
            self._delete_categories()
        if self._quarantine and name in self._bulk:
            self._complete_active_ids(name, self._quarantine)

    def _complete_active_ids(self, name: str, quarantine: Quarantine) -> None:
        """Add the ids of records that stay because their row is quarantined, or may be."""
        ids, references = self.reader.ids[name].exact, self.reader.references
        if ids is None:
            return  # no record refers to this file
        uncertain = bool(quarantine.uncertain[name])
        keys = set(self._stored.keys(name, ACTIVE_ONLY)) if uncertain else quarantine.exact_ids(name)
        references.active_ids.setdefault(name, set()).update(references.stored_active(name, keys - ids))

    @staticmethod
    def _earlier(name: str) -> list[str]:
        """Return the files that are read before this one."""
        names = list(FILES)
        return names[: names.index(name)]

    def _mark_missing(self, resource_type: ResourceType) -> None:
        name = resource_type.name
        changes, ids = self.changes[name], self.reader.ids[name]
        if changes.active_matches == self._stored.find(Query(name, ACTIVE_ONLY, limit=0)).total:
            return  # each of them has a row; looking for each of them would take several times as long
        quarantined = self._quarantine.contains if self._quarantine else lambda name, key: False
        stored = self._stored.keys(name, _written_by_imports(name))
        missing = (key for key in stored if key not in ids and not quarantined(name, key))
        if name == CATEGORIES:
            self._categories.missing_ids += missing
            return
        for batch in batched(missing, BATCH_SIZE):
            for body in self._stored.get_many(name, batch).values():
                changes.add(resource_type.tombstone(body), "deleted")

    def _delete_dependents(self, resource_type: ResourceType, references: Sequence[Dependency]) -> None:
        """Delete the records that lose a required reference, and remove other references to deleted records."""
        name = resource_type.name
        if not self._may_keep_unlisted(name) and name not in grade_tool_records.WRITABLE_COLLECTIONS:
            return
        deleted_ids = self.reader.references.deleted_ids
        for batch in batched(find_dependents(self._stored, name, references, deleted_ids), BATCH_SIZE):
            kept = self._kept_unlisted(resource_type, [dependent.key for dependent in batch])
            for dependent in batch:
                if dependent.key in kept:
                    self._change_dependent(resource_type, dependent)

    def _kept_unlisted(self, resource_type: ResourceType, keys: Sequence[str]) -> set[str]:
        """Return those of these ids whose records stay active although no row lists them, see `_is_kept_unlisted`."""
        name = resource_type.name
        kept = set(filter(self._is_kept_unlisted(resource_type), keys))
        if name in self._bulk and name in grade_tool_records.WRITABLE_COLLECTIONS:
            of_tools = self._stored.keys(name, And((In(KEY, tuple(keys)), grade_tool_records.written_by_tools(name))))
            kept.update(key for key in of_tools if key not in self.reader.ids[name])
        return kept - self.changes[name].deleted_ids

    def _change_dependent(self, resource_type: ResourceType, dependent: Dependent) -> None:
        name = resource_type.name
        if not dependent.is_deleted:
            self._amend(name, dependent.key, dependent.remaining)
            return
        self.changes[name].add(resource_type.tombstone(dependent.body), "deleted")
        if name in grade_tool_records.WRITABLE_COLLECTIONS:
            self.notes_to_delete.append(grade_tool_records.note_key(name, dependent.key))

    def _delete_categories(self) -> None:
        """Delete the categories that the package deletes, except those that remaining line items use (W-09)."""
        resource_type, changes = FILES[CATEGORIES], self.changes[CATEGORIES]
        used = self._categories.find_used(lambda keys: self._kept_unlisted(FILES[LINE_ITEMS], keys))
        if used:
            message = f"{len(used):,} categories are missing or deleted, but line items use them"
            hint = "They stay active. Delete the line items first."
            self.reader.problems.add(
                ImportProblem("used_category", message, hint, f"{CATEGORIES}.csv", is_warning=True)
            )
        changes.compare(self._categories.rows_without(used))
        for batch in batched(self._categories.missing_ids_without(used), BATCH_SIZE):
            for body in self._stored.get_many(CATEGORIES, batch).values():
                changes.add(resource_type.tombstone(body), "deleted")

    def _collect_notes(self, name: str) -> None:
        ids = self.reader.ids[name]
        for note in self._stored.keys(grade_tool_records.COLLECTION, grade_tool_records.notes_of(name)):
            if note.removeprefix(grade_tool_records.note_key(name, "")) in ids:
                self.notes_to_delete.append(note)

    def _find_old_tombstones(self, days: int) -> None:
        """Find the tombstones to purge: old enough, without references, and not in the package."""
        for query in old_tombstone_queries(days):
            # This check is fast and usually finds nothing. The search for references is slow.
            if self._stored.exists(query.collection, query.where):
                self._find_unreferenced(query.collection, query.where)

    def _find_unreferenced(self, name: str, old: Where) -> None:
        unreferenced = And((old, Not(Or(tuple(_references_to(name))))))
        ids, referenced = self.reader.ids.get(name, ()), self.reader.references.referenced_by_deleted
        keys = self._stored.keys(name, unreferenced)
        if purged := [key for key in keys if key not in ids and (name, key) not in referenced]:
            self.purged[name] = purged


def old_tombstone_queries(days: int) -> list[Query]:
    """Return queries that count the tombstones older than `days` days, one for each collection."""
    cutoff = fold(format_epoch_seconds(time.time() - days * DAY_SECONDS))
    old = And((Compare("status", "=", TO_BE_DELETED), Compare("dateLastModified", "<", cutoff)))
    return [Query(name, old, limit=0) for name in FILES]


def _written_by_imports(name: str) -> Where:
    """Return the condition for the active records that an import can delete: those that no grade tool wrote."""
    return (
        And((ACTIVE_ONLY, Not(grade_tool_records.written_by_tools(name))))
        if name in grade_tool_records.WRITABLE_COLLECTIONS
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
