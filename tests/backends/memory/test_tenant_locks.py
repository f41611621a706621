"""Store with a write lock for each tenant: the contract allows it, and tests of the service use it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from backends import Backend
from backends.testing import COLLECTIONS
from backends.testing.concurrency import ConcurrencyConformance
from backends.testing.several_machines import SeveralMachinesConformance
from backends.testing.transactions import TransactionConformance
from tests.support.storage.tenant_locks import TenantLockBackend


class TestTenantLocks(TransactionConformance, ConcurrencyConformance, SeveralMachinesConformance):
    durable = False
    shared = False
    has_shared_values = True
    has_leases = True

    @pytest.fixture
    def url(self) -> str:
        return "memory:"

    @pytest.fixture
    def store(self) -> Iterator[Backend]:
        with TenantLockBackend(COLLECTIONS) as store:
            yield store

    def test_tenants_have_writers_at_the_same_time(self, store: Backend) -> None:
        with store.write("default"), store.write("north", wait=0):
            pass
