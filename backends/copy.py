"""Copy of a whole store into an empty one. An incomplete copy cannot be opened as a store.

A marker in the target shows that a copy has started. `open_store` rejects a store with a marker. Each tenant is copied
in its own transaction. The tenant CONTROL comes last, in the transaction that deletes the marker. A process that
already had the target open therefore finds no credentials, and accepts no request, before the copy is complete.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from itertools import islice
from typing import TypeAlias

from backends.base import Backend, Snapshot
from backends.errors import IncompleteCopyError, StorageBusyError, StoreNotEmptyError
from backends.records import Collection, Record, limit_dynamic_values

__all__ = ["CONTROL", "COPY_MARKER", "Counts", "check_complete", "copy_store"]

CONTROL = "_control"
"""Tenant of the records that do not belong to a single tenant, such as tokens."""

COPY_MARKER = Collection("unfinished", bumps_revision=False)
"""Collection of the marker, in the tenant CONTROL. The target of a copy must declare it."""

Counts: TypeAlias = dict[str, dict[str, int]]
"""Number of records by tenant and collection, without zeros."""

OnProgress: TypeAlias = Callable[[str, int, int | None], None]
"""Called with a phase, the number of records or rows done, and the expected number; None if it is unknown.

The phase of a copy is the name of a collection. Copies and imports call it once per 1,000 records or rows, and syncs
after each page.
"""

_MARKER_KEY = "copy"
_PROGRESS_INTERVAL_RECORDS = 1000
_DELETE_BATCH_SIZE = 50_000


def copy_store(
    source: Backend, target: Backend, *, restart: bool = False, on_progress: OnProgress | None = None
) -> Counts:
    """Copy every record of every tenant and return the numbers of records.

    Collections may opt out, or select records (`is_copied` and `is_record_copied` of `Collection`).

    Both stores must be open with the same collections. The source is not changed. All its writers wait until the
    copy ends, so that the copy shows one point in time.

    The target must be empty. With `restart` it may contain an incomplete copy, which is deleted first.
    Raises StoreNotEmptyError or IncompleteCopyError before the first write, and the errors of the stores.
    """
    with closing(source.write_alone(CONTROL)):
        copy = _Copy(source, target, on_progress)
        copy.start(restart)
        tenants = [*(name for name in source.tenants() if name != CONTROL), CONTROL]
        return {name: counts for name in tenants if (counts := copy.copy_tenant(name))}


def check_complete(store: Backend) -> None:
    """Raise IncompleteCopyError if the store is the target of a copy that has not finished."""
    if _read_marker(store) is not None:
        raise IncompleteCopyError(
            "this store is a copy that is not finished: wait until it is; if the copy was interrupted, start it again"
            " with `chalk-flask copy FROM TO --restart`"
        )


def _read_marker(store: Backend) -> bytes | None:
    with store.read(CONTROL) as control:
        return control.get_many(COPY_MARKER.name, [_MARKER_KEY]).get(_MARKER_KEY)


@dataclass
class _Copy:
    source: Backend
    target: Backend
    on_progress: OnProgress | None
    marker: Record = field(default_factory=lambda: Record(_MARKER_KEY, json.dumps(os.urandom(8).hex()).encode()))

    def start(self, restart: bool) -> None:
        """Check that the target is empty and store the marker; with `restart`, delete an incomplete copy."""
        with self.target.write_alone(CONTROL) as control:
            incomplete = _read_marker(self.target) is not None
            if incomplete and not restart:
                check_complete(self.target)
            if not incomplete:
                self._check_target_empty()
            control.put(COPY_MARKER.name, [self.marker])
        if incomplete:
            for tenant in self.target.tenants():
                self._delete_records(tenant)

    def copy_tenant(self, tenant: str) -> dict[str, int]:
        """Copy a tenant in one transaction and return the numbers of records. CONTROL completes the copy."""
        counts: Counter[str] = Counter()
        with self.source.read(tenant) as snapshot, self.target.write_alone(tenant) as transaction:
            self._check_marker()
            if tenant == CONTROL:
                transaction.delete(COPY_MARKER.name, [_MARKER_KEY])
            _check_empty(self.target, transaction)
            for collection in self.target.collections.values():
                if collection.is_copied:
                    records = snapshot.scan(collection.name)
                    transaction.put(collection.name, self._count(collection.name, records, counts))
        return dict(counts)

    def _count(self, collection: str, records: Iterator[Record], counts: Counter[str]) -> Iterator[Record]:
        owner = self.target.collections[collection]
        for record in filter(owner.is_record_copied, records) if owner.is_record_copied else records:
            yield record._replace(values=limit_dynamic_values(record.values, owner))
            counts[collection] += 1
            if self.on_progress and counts[collection] % _PROGRESS_INTERVAL_RECORDS == 0:
                self.on_progress(collection, counts[collection], None)

    def _delete_records(self, tenant: str) -> None:
        with self.target.write_alone(tenant) as transaction:
            self._check_marker()
            for collection in self.target.collections.keys() - {COPY_MARKER.name}:
                # A new iterator for each batch: a delete must not run under an open one.
                while batch := list(islice(transaction.keys(collection), _DELETE_BATCH_SIZE)):
                    transaction.delete(collection, batch)

    def _check_marker(self) -> None:
        """Raise StorageBusyError if another copy has taken over the target. The caller has the locks of all tenants."""
        if _read_marker(self.target) != self.marker.body:
            raise StorageBusyError("another copy into this store was started in the meantime")

    def _check_target_empty(self) -> None:
        for tenant in self.target.tenants():
            with self.target.read(tenant) as snapshot:
                _check_empty(self.target, snapshot)


def _check_empty(target: Backend, snapshot: Snapshot) -> None:
    for name, collection in target.collections.items():
        if collection.is_copied and snapshot.exists(name):
            raise StoreNotEmptyError(f"the target of the copy already contains {name}: name an empty store")
