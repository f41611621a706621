"""Store in memory with a write lock for each tenant, as databases of several machines have."""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Iterable

from backends import Collection, StorageBusyError, Transaction
from backends.memory.backend import MemoryBackend, TableTransaction
from backends.memory.evaluator import NO_TABLES, TenantTables

__all__ = ["TenantLockBackend"]


class TenantLockBackend(MemoryBackend):
    """Memory backend in which tenants have writers at the same time."""

    def __init__(self, collections: Iterable[Collection]) -> None:
        super().__init__(collections)
        self._changed = threading.Condition()
        self._writers: defaultdict[str, int] = defaultdict(int)
        self._is_alone = False

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
