from __future__ import annotations

from collections.abc import Iterator

import pytest

from backends import Backend, StorageBusyError, Transaction, open_store
from backends.memory.backend import MemoryBackend
from chalk_flask.storage import COLLECTIONS


class LockableStore(MemoryBackend):
    """Memory store that another writer locks as long as `is_locked` is set."""

    is_locked = False

    def write(self, tenant: str, wait: float = 60.0) -> Transaction:
        if self.is_locked:
            raise StorageBusyError("another writer is active")
        return super().write(tenant, wait)


@pytest.fixture
def store(storage: str) -> Iterator[Backend]:
    with open_store(storage, COLLECTIONS) as opened:
        yield opened


@pytest.fixture
def lockable_store() -> LockableStore:
    return LockableStore.open("memory:", COLLECTIONS)
