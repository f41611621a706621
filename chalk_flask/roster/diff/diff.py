"""Comparing a package with what is stored: which records change, which are missing, which tombstones are too old."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from itertools import islice

from backends import KEY, And, Compare, In, Not, Or, Query, Snapshot, Subquery, Where
from chalk_flask.oneroster.csv.row_parser import ParsedRow
from chalk_flask.oneroster.fields.scalars import fold
from chalk_flask.oneroster.relations import ACTIVE_ONLY
from chalk_flask.oneroster.resource_type import ResourceType
from chalk_flask.oneroster.schemas import FILES
from chalk_flask.oneroster.vocabularies import ACTIVE, TO_BE_DELETED, format_instant
from chalk_flask.roster.changes import provenance
from chalk_flask.roster.diff import derived_fields
from chalk_flask.roster.diff.change_set import ChangeSet
from chalk_flask.roster.package.archive import Package
from chalk_flask.roster.package.problems import ImportProblems
from chalk_flask.roster.package.reader import PackageReader, cycles

__all__ = ["RosterDiff", "old_tombstone_counts"]

DAY_SECONDS = 86_400
BATCH_SIZE = 250


class RosterDiff:
    """The difference between a package and a snapshot. `close` removes its temporary files."""

    def __init__(
        self,
        package: Package,
        stored: Snapshot,
        problems: ImportProblems,
        map_roles: bool,
        progress: Callable[[str, int], None] | None,
    ) -> None:
        self.reader = PackageReader(package, stored, problems, map_roles, progress)
        self.changes: dict[str, ChangeSet] = {}
        self.purged: dict[str, list[str]] = {}
        self.provenance_keys: list[str] = []
        """The notes about records of grade tools that the package carries itself, and so takes over."""
        self._stored = stored
        self._bulk = [name for name in FILES if package.modes.get(name) == "bulk"]
        self._delta = [name for name in FILES if package.modes.get(name) == "delta"]
        self._links: dict[str, derived_fields.Links] = {}

    @property
    def changed_count(self) -> int:
        """How many records would be written."""
        return sum(changes.changed_count for changes in self.changes.values())

    def compare(self, tombstone_days: int) -> None:
        """Read the whole package; afterwards `changes` and `purged` say what to write."""
        for name in FILES:
            self.changes[name] = ChangeSet(FILES[name], self._stored)
            if name in self._bulk or name in self._delta:
                self._compare_file(FILES[name])
        if self._bulk and not any(self.reader.rows.values()) and not self.reader.problems.total:
            remedy = "Export the package again: read as it stands, it would delete every record of its classes."
            self.reader.problems.error("no_rows", "no file of the package has a row", remedy, file="manifest.csv")
        if self.reader.problems.total:
            return
        for name in self._bulk:
            self._mark_missing(FILES[name])
        for name in provenance.WRITABLE_COLLECTIONS:
            if name in self._bulk or name in self._delta:
                self._claim_provenance(name)
        self._update_linked_records()
        self._find_old_tombstones(tombstone_days)
        self.reader.forget()

    def close(self) -> None:
        """Remove the temporary files."""
        for changes in self.changes.values():
            changes.close()

    def _compare_file(self, resource: ResourceType) -> None:
        changes = self.changes[resource.name]
        drafts = self._rows(resource)
        while batch := [(key, encoded, values) for key, _, values, encoded in islice(drafts, BATCH_SIZE)]:
            changes.compare(batch)

    def _rows(self, resource: ResourceType) -> Iterator[ParsedRow]:
        drafts = self.reader.drafts(resource.name)
        for name, element in resource.derived_fields.items():
            if element.inverse:
                drafts = self._with_children(resource, name, list(drafts))
            else:
                drafts = self._with_links(resource, name, drafts)
        if resource.name in derived_fields.link_sources():
            drafts = self._collecting_links(resource, drafts)
        return drafts

    def _with_children(self, resource: ResourceType, name: str, rows: list[ParsedRow]) -> Iterator[ParsedRow]:
        """Orgs and sessions are few, so all are held until each one's children are known."""
        element = resource.derived_fields[name]
        field = f"{element.inverse}.sourcedId"
        parents = {d.key: str(d.values[field]) for d in rows if d.values.get(field) is not None}
        living = {draft.key for draft in rows if draft.values["status"] == ACTIVE}
        if resource.name in self._delta:
            kept = derived_fields.stored_parents(self._stored, resource, element, self.reader.ids[resource.name])
            parents, living = parents | kept, living | kept.keys()
        self._check_cycles(resource, parents)
        found = derived_fields.children_by_parent({key: parent for key, parent in parents.items() if key in living})
        for draft in rows:
            yield derived_fields.with_derived_field(draft, name, element, found.get(draft.key))
        if resource.name in self._delta:
            self._update_derived_field(resource, name, found)

    def _update_derived_field(self, resource: ResourceType, name: str, links: derived_fields.Links) -> None:
        """Give stored records that the package does not carry what follows for them from those that it does."""
        ids = self.reader.ids.get(resource.name, ())
        for record in derived_fields.records_with_other_links(self._stored, resource, name, links):
            if record.key not in ids:
                self.changes[resource.name].add(record, "updated")

    def _check_cycles(self, resource: ResourceType, parents: Mapping[str, str]) -> None:
        if not (found := set(cycles(parents))):
            return
        for row, key in self.reader.located(resource):
            if key in found:
                self.reader.problems.error(
                    "cycle",
                    f"the record {key!r} is its own ancestor",
                    "Correct parentSourcedId, so that every chain of parents ends.",
                    file=f"{resource.name}.csv",
                    row=row,
                    column="parentSourcedId",
                    value=parents[key],
                )

    def _with_links(self, resource: ResourceType, name: str, rows: Iterator[ParsedRow]) -> Iterator[ParsedRow]:
        element = resource.derived_fields[name]
        links = self._links.get(element.link)
        if links is None:
            links = self._links[element.link] = derived_fields.stored_links(self._stored, element.link)
        for draft in rows:
            yield derived_fields.with_derived_field(draft, name, element, links.get(draft.key))

    def _collecting_links(self, resource: ResourceType, rows: Iterator[ParsedRow]) -> Iterator[ParsedRow]:
        owner, target = (reference.field for reference in resource.references)
        delta = resource.name in self._delta
        found = derived_fields.stored_pairs(self._stored, resource.name) if delta else {}
        for draft in rows:
            if draft.values["status"] == ACTIVE:
                found[draft.key] = str(draft.values[owner]), str(draft.values[target])
            else:
                found.pop(draft.key, None)
            yield draft
        self._links[resource.name] = derived_fields.group_pairs(found.values())

    def _update_linked_records(self) -> None:
        """Classes and courses that their own file does not carry still follow their links."""
        for link, (name, element) in derived_fields.link_sources().items():
            if link in self._links and name not in self._bulk and (link in self._bulk or link in self._delta):
                self._update_derived_field(FILES[name], element, self._links[link])

    def _mark_missing(self, resource: ResourceType) -> None:
        changes, ids = self.changes[resource.name], self.reader.ids[resource.name]
        waiting: list[str] = []
        for key in self._stored.keys(resource.name, _written_by_imports(resource.name)):
            if key not in ids:
                waiting.append(key)
                if len(waiting) == BATCH_SIZE:
                    self._mark_deleted(resource, changes, waiting)
                    waiting = []
        self._mark_deleted(resource, changes, waiting)

    def _claim_provenance(self, name: str) -> None:
        ids = self.reader.ids[name]
        for note in self._stored.keys(provenance.COLLECTION, provenance.notes_of(name)):
            if note.removeprefix(provenance.note_key(name, "")) in ids:
                self.provenance_keys.append(note)

    def _mark_deleted(self, resource: ResourceType, changes: ChangeSet, keys: list[str]) -> None:
        for body in self._stored.get_many(resource.name, keys).values():
            changes.add(resource.tombstone(body), "deleted")

    def _find_old_tombstones(self, days: int) -> None:
        """Tombstones that are old enough and that no record refers to any more, the package's own ids excepted."""
        for query in old_tombstone_counts(days):
            # Counting is quick, and mostly there are none; who refers to them is a long question.
            if self._stored.find(query).total:
                self._find_free_tombstones(query.collection, query.where)

    def _find_free_tombstones(self, name: str, old: Where) -> None:
        free = And((old, Not(Or(tuple(_referrers(name))))))
        ids, recalled = self.reader.ids.get(name, ()), self.reader.references.recalled
        if keys := [key for key in self._stored.keys(name, free) if key not in ids and (name, key) not in recalled]:
            self.purged[name] = keys


def old_tombstone_counts(days: int) -> list[Query]:
    """What counts the tombstones of each class that are older than so many days."""
    cutoff = fold(format_instant(time.time() - days * DAY_SECONDS))
    old = And((Compare("status", "=", TO_BE_DELETED), Compare("dateLastModified", "<", cutoff)))
    return [Query(name, old, limit=0) for name in FILES]


def _written_by_imports(name: str) -> Where:
    """The active records that are an import's to delete: not what a grade tool wrote."""
    return (
        And((ACTIVE_ONLY, Not(provenance.written_by_tools(name))))
        if name in provenance.WRITABLE_COLLECTIONS
        else ACTIVE_ONLY
    )


def _referrers(name: str) -> Iterator[Where]:
    everything: Where = And(())
    for resource in FILES.values():
        for reference in resource.references:
            if reference.target == name:
                yield In(KEY, Subquery(resource.name, reference.field, everything))
        if resource.shares_ids_with == name:
            yield In(KEY, Subquery(resource.name, KEY, everything))
