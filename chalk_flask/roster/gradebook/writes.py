"""The one door for gradebook writes: one record put or deleted, in one transaction, with all that goes with it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import islice
from typing import NamedTuple, TypeAlias

from backends import KEY, AllOf, Among, Backend, Compare, Query, Record, Select, Transaction, Where
from chalk_flask.oneroster.fields.scalars import JSON
from chalk_flask.oneroster.resource_type import UNSTAMPED, Resource, unstamped
from chalk_flask.oneroster.schemas import FILES
from chalk_flask.oneroster.vocabularies import ACTIVE
from chalk_flask.roster.changes import clock, provenance
from chalk_flask.roster.changes.writer import Ledger
from chalk_flask.roster.gradebook.defaults import Sight, default_category, finds, grading_period
from chalk_flask.roster.gradebook.payload import Entry, Unprocessable, entry
from chalk_flask.roster.package.references import ACTIVE_ONLY

__all__ = ["Also", "NotThere", "Sight", "Unprocessable", "Written", "delete", "put"]

PATIENCE = 5.0
"""Seconds to wait for another writer; more would keep all threads of a server waiting behind a long import."""

LEAD = 0.02
"""Seconds from the start of a write to its stamp: the commit of a few records is over by then, nearly always."""

BATCH = 500


Also: TypeAlias = Callable[[Transaction], None]
"""What else is to be written."""


class NotThere(Exception):
    """There is no such record that the writer may know of."""


class Written(NamedTuple):
    """The body of a record as it is stored now, and whether there was none before, or a deleted one."""

    body: bytes
    created: bool


def put(
    store: Backend, tenant: str, resource: Resource, key: str, given: Mapping[str, JSON], sight: Sight, also: Also
) -> Written:
    """Store what a grade tool sent as the whole of the record with this id; `sight` is what the tool may know of.

    Missing references are filled in (see `placing`). With status tobedeleted it is a deletion of what is there. What is
    stored already, but for its stamp, stays as it is. `also` writes beside what is changed, in the same transaction.

    Raises Unprocessable; NotThere for an id of a record that is out of sight, or would be, and for a deletion of
    nothing; StorageError.
    """
    sent = entry(resource, key, given)
    with store.write(tenant, PATIENCE) as transaction:
        writing = _Writing(transaction, tenant, sight)
        former = writing.former(resource, key)
        record = resource.record({**writing.completed(resource, sent, former), "dateLastModified": UNSTAMPED})
        active = sent["status"] == ACTIVE
        if former is not None and unstamped(former) == record.body and writing.is_settled(resource, key, active):
            return Written(former, False)
        if active:
            writing.keep(resource, record)
        else:
            writing.bury(resource, key, record)
        stamp = writing.stamped()
        writing.former(resource, key)  # nobody writes what they could not read afterwards
        also(transaction)
    created = active and not (former is not None and resource.is_active(former))
    left = clock.left(stamp, transaction)
    return Written(clock.restamped(record, _settled(store, tenant, writing.changed, stamp, left)).body, created)


def delete(store: Backend, tenant: str, resource: Resource, key: str, sight: Sight, also: Also) -> None:
    """Make the record a tombstone, and the results of a line item too; `also` as in `put`.

    Raises NotThere for an id that is unknown, deleted or out of sight; Unprocessable for a category that a line item
    uses; StorageError.
    """
    with store.write(tenant, PATIENCE) as transaction:
        writing = _Writing(transaction, tenant, sight)
        former = writing.former(resource, key)
        if former is None or not resource.is_active(former):
            raise NotThere
        writing.bury(resource, key, resource.tombstone(former))
        stamp = writing.stamped()
        also(transaction)
    _settled(store, tenant, writing.changed, stamp, clock.left(stamp, transaction))


class _Writing:
    """One transaction: what is there, and what is changed, `changed`, by collection."""

    def __init__(self, transaction: Transaction, tenant: str, sight: Sight) -> None:
        self.changed: dict[str, list[Record]] = {}
        self._transaction = transaction
        self._tenant = tenant
        self._sight = sight
        self._notes: list[Record] = []
        self._void: list[str] = []

    def former(self, resource: Resource, key: str) -> bytes | None:
        """The stored body, deleted or not. Raises NotThere when it is out of sight (reading W-08)."""
        body = self._transaction.bodies(resource.name, [key]).get(key)
        if body is not None and not finds(self._transaction, resource.name, key, self._sight(resource.name)):
            raise NotThere
        return body

    def completed(self, resource: Resource, sent: Entry, former: bytes | None) -> Entry:
        """What was sent with the references it lacks. Raises Unprocessable for one that leads nowhere."""
        active = sent["status"] == ACTIVE
        if not active and former is None:
            raise NotThere
        self._follow(resource, sent, active)
        if resource.name != "lineItems":
            return sent
        if not active and former is not None:  # a deletion need not repeat what it deletes
            kept = resource.normal(former)
            return {name: kept[name] for name in ("category", "gradingPeriod") if name in kept} | sent
        return {**self._filled(sent), **sent}

    def is_settled(self, resource: Resource, key: str, active: bool) -> bool:
        """Whether an unchanged record needs no note either: a deleted one never does."""
        place = provenance.place(resource.name, key)
        return not active or bool(self._transaction.bodies(provenance.COLLECTION, [place]))

    def keep(self, resource: Resource, record: Record) -> None:
        """Change a record to this, and note that a grade tool wrote it."""
        self.changed.setdefault(resource.name, []).append(record)
        self._notes.append(provenance.note(resource.name, record.key))

    def bury(self, resource: Resource, key: str, tombstone: Record) -> None:
        """Change a record to its tombstone. Raises Unprocessable for a category that a line item uses."""
        if resource.name == "categories" and self._uses("lineItems", "category.sourcedId", key):
            raise Unprocessable("the category is in use: line items refer to it; give them another one, or delete them")
        self._drop(resource, [tombstone])
        if resource.name == "lineItems":
            results = FILES["results"]
            for bodies in self._referring(results, "lineItem.sourcedId", key):
                self._drop(results, map(results.tombstone, bodies))

    def stamped(self) -> str:
        """Write everything under one new stamp, which is returned."""
        ledger = Ledger(self._transaction, self._tenant, LEAD)
        for name, records in self.changed.items():
            ledger.put(name, [clock.restamped(record, ledger.stamp) for record in records], _keys(records))
        ledger.finish()
        self._transaction.put(provenance.COLLECTION, self._notes)
        self._transaction.delete(provenance.COLLECTION, self._void)
        return ledger.stamp

    def _drop(self, resource: Resource, tombstones: Iterable[Record]) -> None:
        records = list(tombstones)
        self.changed.setdefault(resource.name, []).extend(records)
        self._void += [provenance.place(resource.name, record.key) for record in records]

    def _follow(self, resource: Resource, sent: Entry, active: bool) -> None:
        lost = []
        for reference in resource.references:
            if (key := sent.get(reference.name)) is None:
                continue
            seen = self._sight(reference.target)
            if not finds(self._transaction, reference.target, key, _both(ACTIVE_ONLY, seen) if active else seen):
                lost.append(f"{reference.name}: there is no {reference.element.token} with the id {key!r} here")
        if lost:
            raise Unprocessable("; ".join(lost))

    def _filled(self, sent: Entry) -> Entry:
        found: Entry = {}
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

    def _referring(self, resource: Resource, field: str, key: str) -> Iterator[Iterable[bytes]]:
        # Found by the reference first and then put in order; asked as one, SQLite would walk all keys in their order.
        found = Among(KEY, Select(resource.name, KEY, _both(Compare(field, "=", key), ACTIVE_ONLY)))
        waiting = iter(list(self._transaction.keys(resource.name, found)))
        while batch := list(islice(waiting, BATCH)):
            yield self._transaction.bodies(resource.name, batch).values()


def _both(first: Where, second: Where) -> Where:
    return AllOf((first, second))


def _settled(store: Backend, tenant: str, changed: Mapping[str, list[Record]], stamp: str, left: float) -> str:
    """Stamp again, later, what was not committed before its stamp (see `clock`). Returns the stamp that stays."""
    lead, tries = LEAD, 0
    while left < clock.TICK:
        tries += 1
        lead = clock.again(lead, left, tries)
        with store.write(tenant, PATIENCE) as transaction:
            ledger = Ledger(transaction, tenant, lead)
            for name, records in changed.items():
                _stamp_again(transaction, ledger, name, [clock.restamped(record, stamp) for record in records])
            ledger.finish()
        stamp, left = ledger.stamp, clock.left(ledger.stamp, transaction)
    return stamp


def _stamp_again(transaction: Transaction, ledger: Ledger, name: str, records: list[Record]) -> None:
    """Move the stamp of those records that nobody has changed since they were written."""
    for start in range(0, len(records), BATCH):
        batch = records[start : start + BATCH]
        stored = transaction.bodies(name, [record.key for record in batch])
        ours = [record for record in batch if stored.get(record.key) == record.body]
        ledger.put(name, [clock.restamped(record, ledger.stamp) for record in ours], _keys(ours))


def _keys(records: list[Record]) -> Callable[[], list[str]]:
    return lambda: [record.key for record in records]
