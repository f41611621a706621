"""Store in memory with the parts of the contract that databases of several machines have."""

from __future__ import annotations

import sqlite3
import threading
from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from backends import Collection, Lease, SharedValues, StorageBusyError, StorageUnavailableError, Transaction
from backends.memory.backend import MemoryBackend, TableTransaction
from backends.memory.evaluator import NO_TABLES, TenantTables
from chalk_flask.shared_state.transaction import SCHEMA, FileValues

__all__ = ["TenantLockBackend"]


class MemoryLease(Lease):
    """Lease in memory. `holders` has the object with the lease of each task; a test may end it."""

    def __init__(self, holders: dict[str, Lease], task: str) -> None:
        self._holders, self._task = holders, task

    @property
    def is_held(self) -> bool:
        """True if this object has the lease."""
        return self._holders.get(self._task) is self

    def has_holder(self) -> bool:
        return self._task in self._holders

    def try_acquire(self) -> bool:
        return self._holders.setdefault(self._task, self) is self

    def release(self) -> None:
        if self.is_held:
            del self._holders[self._task]


class TenantLockBackend(MemoryBackend):
    """Memory backend with a write lock for each tenant, shared values and leases."""

    has_shared_values = True
    has_leases = True
    fail_values = False

    def __init__(self, collections: Iterable[Collection]) -> None:
        super().__init__(collections)
        self._changed = threading.Condition()
        self._writers: defaultdict[str, int] = defaultdict(int)
        self._is_alone = False
        self.lease_holders: dict[str, Lease] = {}
        self._values_lock = threading.Lock()
        self._values = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
        self._values.executescript(SCHEMA)

    def close(self) -> None:
        super().close()
        self._values.close()

    def lease(self, task: str) -> Lease:
        """Return a lease in memory."""
        return MemoryLease(self.lease_holders, task)

    @contextmanager
    def share_values(self) -> Iterator[SharedValues]:
        """Return a transaction on values in memory. Raises StorageUnavailableError if `fail_values` is set."""
        if self.fail_values:
            raise StorageUnavailableError("the database is away")
        with self._values_lock:
            self._values.execute("BEGIN")
            try:
                yield FileValues(self._values)
            except BaseException:
                self._values.execute("ROLLBACK")
                raise
            self._values.execute("COMMIT")

    def write(self, tenant: str, wait: float = 60.0) -> Transaction:
        """Take the lock of the tenant."""
        return self._begin(tenant, wait, alone=False)

    def write_alone(self, tenant: str, wait: float = 60.0) -> Transaction:
        """Take the locks of all tenants."""
        return self._begin(tenant, wait, alone=True)

    def _begin(self, tenant: str, wait: float, *, alone: bool) -> Transaction:
        def can_write() -> bool:
            return not self._is_alone and not (any(self._writers.values()) if alone else self._writers[tenant])

        def release() -> None:
            with self._changed:
                self._writers[tenant] -= 1
                self._is_alone = False if alone else self._is_alone
                self._changed.notify_all()

        def commit(state: TenantTables, _written: set[str]) -> None:
            self._states[tenant] = state

        self._check_open()
        with self._changed:
            if not self._changed.wait_for(can_write, timeout=max(wait, 0)):
                raise StorageBusyError(f"another writer locked the store for more than {wait:g} seconds: try again")
            self._writers[tenant] += 1
            self._is_alone = alone
        return TableTransaction(self.collections, self._states.get(tenant, NO_TABLES), commit, release)
