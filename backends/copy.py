"""A whole store copied into an empty one, in such a way that a half copy is never taken for a whole.

A note in the target says from the first moment that a copy is under way, and `open_store` refuses a store with such a
note. Every tenant follows in a transaction of its own. Last comes the tenant CONTROL, in the transaction that removes
the note: whoever had the target open all along sees no credential before that, and so lets nobody in.
"""

from __future__ import annotations

import json
import secrets
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from itertools import islice
from typing import TypeAlias

from backends.base import Backend, Snapshot
from backends.errors import IncompleteCopyError, StorageBusyError, StoreNotEmptyError
from backends.records import Collection, Record

__all__ = ["CONTROL", "COPY_MARKER", "Counts", "Progress", "check_complete", "copy_store"]

CONTROL = "_control"
"""The tenant of what must be found before a tenant is known."""

COPY_MARKER = Collection("unfinished", bumps_revision=False)
"""Where, in the tenant CONTROL, the note is kept. A store that is copied into declares it."""

Counts: TypeAlias = dict[str, dict[str, int]]
"""Records by tenant and collection, where there are any."""

Progress: TypeAlias = Callable[[str, int], None]
"""Is told a collection, and how many of its records were copied so far."""

KEY = "copy"
PROGRESS_INTERVAL = 1000
BATCH_SIZE = 50_000


def copy_store(source: Backend, target: Backend, *, restart: bool = False, progress: Progress | None = None) -> Counts:
    """Copy every record of every tenant; what was copied. Both stores are open with the same collections.

    Whoever wants to write to the source waits meanwhile, so that all is of one moment; nothing is written to it. The
    target must hold nothing. With `restart` it may hold what a copy has left that was stopped; that is deleted first.
    Raises StoreNotEmptyError and IncompleteCopyError before anything is written, and what the stores raise.
    """
    with closing(source.write(CONTROL)):
        copy = _Copy(source, target, progress)
        copy.start(restart)
        tenants = [*(name for name in source.tenants() if name != CONTROL), CONTROL]
        return {name: counts for name in tenants if (counts := copy.copy_tenant(name))}


def check_complete(store: Backend) -> None:
    """Raises IncompleteCopyError when a copy into the store has begun and not ended."""
    if _note(store) is not None:
        raise IncompleteCopyError(
            "this store is a copy that is not finished: wait until it is; if it was stopped, begin it anew with"
            " `chalk-flask copy FROM TO --restart`"
        )


def _note(store: Backend) -> bytes | None:
    with store.read(CONTROL) as control:
        return control.get_many(COPY_MARKER.name, [KEY]).get(KEY)


@dataclass
class _Copy:
    source: Backend
    target: Backend
    progress: Progress | None
    mine: Record = field(default_factory=lambda: Record(KEY, json.dumps(secrets.token_hex(8)).encode()))

    def start(self, restart: bool) -> None:
        """Make the target ours, and empty."""
        with self.target.write(CONTROL) as control:
            left = _note(self.target) is not None
            if left and not restart:
                check_complete(self.target)
            if not left:
                self._check_empty()
            control.put(COPY_MARKER.name, [self.mine])
        if left:
            for tenant in self.target.tenants():
                self._clear(tenant)

    def copy_tenant(self, tenant: str) -> dict[str, int]:
        """Copy a tenant in one transaction; with CONTROL the copy is finished. How many records there were of what."""
        counts: Counter[str] = Counter()
        with self.source.read(tenant) as snapshot, self.target.write(tenant) as transaction:
            self._check_mine()
            if tenant == CONTROL:
                transaction.delete(COPY_MARKER.name, [KEY])
            _check_nothing(self.target, transaction)
            for collection in self.target.collections:
                transaction.put(collection, self._counted(collection, snapshot.scan(collection), counts))
        return dict(counts)

    def _counted(self, collection: str, records: Iterator[Record], counts: Counter[str]) -> Iterator[Record]:
        for record in records:
            yield record
            counts[collection] += 1
            if self.progress and counts[collection] % PROGRESS_INTERVAL == 0:
                self.progress(collection, counts[collection])

    def _clear(self, tenant: str) -> None:
        with self.target.write(tenant) as transaction:
            self._check_mine()
            for collection in self.target.collections.keys() - {COPY_MARKER.name}:
                while batch := list(islice(transaction.keys(collection), BATCH_SIZE)):
                    transaction.delete(collection, batch)

    def _check_mine(self) -> None:
        """Raises StorageBusyError when another copy has taken the target over; asked while nobody else can write to it."""
        if _note(self.target) != self.mine.body:
            raise StorageBusyError("another copy into this store was begun meanwhile")

    def _check_empty(self) -> None:
        for tenant in self.target.tenants():
            with self.target.read(tenant) as snapshot:
                _check_nothing(self.target, snapshot)


def _check_nothing(target: Backend, snapshot: Snapshot) -> None:
    for collection in target.collections:
        if snapshot.exists(collection):
            raise StoreNotEmptyError(f"the store to copy into holds {collection} already: name one that holds nothing")
