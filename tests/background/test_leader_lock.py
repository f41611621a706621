"""Leader lock among the workers of a store; tests/webhooks/test_processes.py proves takeover between processes."""

from __future__ import annotations

from pathlib import Path

from backends.testing import COLLECTIONS
from chalk_flask.background.leader_lock import LeaderLock, leader_lock_for, worker_lock
from tests.support.storage.tenant_locks import TenantLockBackend


def test_lock_without_a_path_is_always_held(tmp_path: Path) -> None:
    lock = leader_lock_for("webhooks", "memory:", tmp_path, shared=False)
    assert lock.is_held
    assert lock.try_acquire()
    lock.release()
    assert not list(tmp_path.iterdir())


def test_lock_is_held_by_one_worker_until_its_release(tmp_path: Path) -> None:
    first, second = (LeaderLock(tmp_path / "data" / "lock", retry_interval=0) for _ in range(2))
    assert not first.is_held
    assert first.try_acquire()
    assert first.is_held
    assert not second.try_acquire()
    first.release()
    assert second.try_acquire()
    assert not first.is_held


def test_lock_has_a_holder_while_any_worker_holds_it(tmp_path: Path) -> None:
    first, second = (LeaderLock(tmp_path / "data" / "lock", retry_interval=0) for _ in range(2))
    assert not second.has_holder()
    assert not (tmp_path / "data").exists(), "asking creates nothing"
    assert first.try_acquire()
    assert first.has_holder()
    assert second.has_holder()
    first.release()
    assert not second.has_holder()
    assert second.try_acquire(), "asking leaves no lock behind"
    assert LeaderLock(None).has_holder()


def test_lock_of_a_store_of_several_machines_is_its_lease(tmp_path: Path) -> None:
    with TenantLockBackend(COLLECTIONS) as store:
        first, second = (worker_lock("mail", store, "memory:", tmp_path / name) for name in "ab")
        assert not second.has_holder()
        assert first.try_acquire()
        assert (first.is_held, second.try_acquire(), second.has_holder()) == (True, False, True)
        assert first.journal_path != second.journal_path, "each machine has its own"
        store.lease_holders.clear()
        assert not first.is_held
        first.release()
        assert not second.try_acquire(), "the interval has not passed"
        assert not list(tmp_path.iterdir())


def test_lock_is_tried_once_per_interval(tmp_path: Path) -> None:
    first, second = (LeaderLock(tmp_path / "lock", retry_interval=60) for _ in range(2))
    assert first.try_acquire()
    assert not second.try_acquire()
    first.release()
    assert not second.try_acquire(), "the interval has not passed"


def test_lock_file_depends_on_the_store_and_not_on_the_url_form(tmp_path: Path) -> None:
    locks = [
        leader_lock_for("jobs", url, tmp_path / "data", shared=True)
        for url in (f"sqlite:///{tmp_path}/a.db", f"sqlite:///{tmp_path}/x/../a.db", "unknown://b")
    ]
    assert all(lock.try_acquire() == expected for lock, expected in zip(locks, (True, False, True), strict=True))
