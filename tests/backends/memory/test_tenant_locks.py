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


def test_suite_has_the_tests_of_the_capabilities_of_a_backend() -> None:
    class Without(SeveralMachinesConformance):
        has_leases = True

    assert Without.test_id_is_used_once_until_it_expires is None
    assert callable(Without.test_lease_has_one_holder_until_its_release)
    assert callable(TestTenantLocks.test_id_is_used_once_until_it_expires)
