"""Tests of what several machines share: values of backends with `has_shared_values`, and leases with `has_leases`."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from backends import Backend, open_store
from backends.testing.base import COLLECTIONS, Conformance, SimulatedError, needs

__all__ = ["SeveralMachinesConformance"]

THREADS = 4


class SeveralMachinesConformance(Conformance):
    """Tests that an id is used once, that no count is lost, and that a lease has one holder."""

    @needs("has_shared_values")
    def test_id_is_used_once_until_it_expires(self, store: Backend) -> None:
        now = time.time()
        with store.share_values() as values:
            assert values.use("tool", b"\0\xff", now + 100, now)
            assert not values.use("tool", b"\0\xff", now + 100, now)
            assert values.use("tool 2", b"\0\xff", now + 100, now)
        with store.share_values() as values:
            assert not values.use("tool", b"\0\xff", now + 100, now + 99)
            assert values.use("tool", b"\0\xff", now + 300, now + 100)
            assert not values.use("tool", b"\0\xff", now + 300, now + 200)

    @needs("has_shared_values")
    def test_entries_have_a_scope_and_survive_until_they_are_deleted(self, store: Backend) -> None:
        now = time.time()
        with store.share_values() as values:
            assert values.get("counts", "a") is None
            values.put("counts", "a", [1, 2.5, "\0\u00fc"], now + 100)
            values.put("counts", "a\0", {"n": None}, now - 1)
            values.put("counts 2", "a", 7, now + 100)
        with store.share_values() as values:
            assert values.get("counts", "a") == [1, 2.5, "\0\u00fc"]
            assert values.get("counts", "a\0") in (None, {"n": None}), "it has expired"
            values.put("counts", "a", 3, now + 100)
            values.delete("counts 2", "a")
            values.delete("counts 2", "unknown")
        with store.share_values() as values:
            assert (values.get("counts", "a"), values.get("counts 2", "a")) == (3, None)

    @needs("has_shared_values")
    def test_ids_are_counted_and_deleted_by_their_end(self, store: Backend) -> None:
        now = time.time()
        with store.share_values() as values:
            for number in range(10):
                assert values.use("tool", bytes([number]), now + number // 2 * 100, now)
            assert values.use("other", b"0", now + 100, now)
        with store.share_values() as values:
            assert (values.count_used("tool"), values.count_used("other"), values.count_used("none")) == (10, 1, 0)
            values.delete_expired_ids("tool", now + 100)
            assert values.count_used("tool") == 6
            assert values.delete_earliest_ids("tool") == pytest.approx(now + 200, abs=0.001)
            assert (values.count_used("tool"), values.count_used("other")) == (4, 1)
            assert not values.use("tool", b"\x09", now + 400, now)

    @needs("has_shared_values")
    def test_failed_transaction_shares_nothing(self, store: Backend) -> None:
        now = time.time()
        with pytest.raises(SimulatedError), store.share_values() as values:
            values.use("tool", b"a", now + 100, now)
            values.put("counts", "a", 1, now + 100)
            raise SimulatedError
        with store.share_values() as values:
            assert values.get("counts", "a") is None
            assert values.use("tool", b"a", now + 100, now)

    @needs("has_shared_values")
    def test_threads_lose_no_count_and_use_no_id_twice(self, store: Backend) -> None:
        now = time.time()

        def count(_: int) -> int:
            used = 0
            for number in range(25):
                with store.share_values() as values:
                    values.put("counts", "all", (values.get("counts", "all") or 0) + 1, now + 100)
                with store.share_values() as values:
                    used += values.use("tool", bytes([number]), now + 100, now)
            return used

        with ThreadPoolExecutor(THREADS) as threads:
            assert sum(threads.map(count, range(THREADS))) == 25
        with store.share_values() as values:
            assert values.get("counts", "all") == THREADS * 25

    @needs("has_shared_values")
    def test_values_belong_to_the_store_at_the_url(self, store: Backend, url: str) -> None:
        now = time.time()
        with store.share_values() as values:
            values.use("tool", b"a", now + 100, now)
        if self.shared:
            with open_store(url, COLLECTIONS) as other, other.share_values() as values:
                assert not values.use("tool", b"a", now + 100, now)

    @needs("has_leases")
    def test_lease_has_one_holder_until_its_release(self, store: Backend) -> None:
        first, second, other = store.lease("mail"), store.lease("mail"), store.lease("jobs")
        assert [lease.has_holder() or lease.is_held for lease in (first, second, other)] == [False] * 3
        assert first.try_acquire()
        assert first.try_acquire()
        assert not second.try_acquire()
        assert other.try_acquire()
        assert (first.is_held, second.is_held) == (True, False)
        assert (first.has_holder(), second.has_holder()) == (True, True)
        second.release()
        assert first.is_held
        first.release()
        first.release()
        assert (first.is_held, second.has_holder()) == (False, False)
        assert second.try_acquire()
        assert not first.try_acquire()
        assert other.is_held
        other.release()
        second.release()

    @needs("has_leases")
    def test_one_of_several_threads_gets_a_lease(self, store: Backend) -> None:
        leases = [store.lease("mail") for _ in range(THREADS)]
        with ThreadPoolExecutor(THREADS) as threads:
            assert sum(threads.map(lambda lease: lease.try_acquire(), leases)) == 1
        for lease in leases:
            lease.release()

    @needs("has_leases")
    def test_lease_is_that_of_the_store_and_ends_when_it_is_closed(self, store: Backend, url: str) -> None:
        if self.shared:
            lease = store.lease("mail")
            with open_store(url, COLLECTIONS) as other:
                assert other.lease("mail").try_acquire()
                assert not lease.try_acquire()
                assert lease.has_holder()
            assert lease.try_acquire()
            lease.release()
