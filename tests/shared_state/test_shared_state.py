"""State that processes share: two states on one file are two processes, one after the other is a restart."""

from __future__ import annotations

import logging
import sqlite3
import stat
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from backends import SharedValues, StorageUnavailableError
from backends.testing import COLLECTIONS
from chalk_flask.admins import SignInThrottle, TooManyAttemptsError
from chalk_flask.api.auth.rate_limits import FailureCounter
from chalk_flask.auth.jwt.jti_cache import JtiCache
from chalk_flask.auth.oauth1.nonce_cache import MAX_AGE_SECONDS, NonceCache
from chalk_flask.shared_state import SharedState, UsedIdCounter, credential_state
from tests.support.clock import FakeClock
from tests.support.storage.tenant_locks import TenantLockBackend

NOW = int(time.time()) + 3600
"""Time of the tests. The clean-up compares it with the real time, which must be earlier."""
LONG_AGO = 1_000_000

StartState = Callable[[], SharedState]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "data" / "shared-state.db"


@pytest.fixture
def start(path: Path) -> Iterator[StartState]:
    """Factory of states on one file, each as a process of its own."""
    states: list[SharedState] = []

    def make() -> SharedState:
        states.append(SharedState())
        states[-1].start(path)
        assert states[-1].is_shared
        return states[-1]

    yield make
    for state in states:
        state.close()


@pytest.fixture(params=["file", "store"])
def share(request: pytest.FixtureRequest, start: StartState) -> Iterator[StartState]:
    """Factory of states that two machines share in their store, or two processes in a file."""
    with TenantLockBackend(COLLECTIONS) as store:
        yield start if request.param == "file" else lambda: credential_state(store, SharedState())


@pytest.mark.reading("J-04", "C-04")
def test_jwt_is_accepted_once_by_all_processes_and_after_a_restart(share: StartState) -> None:
    first, second = JtiCache(shared_state=share()), JtiCache(shared_state=share())
    assert first.check_and_remember("tool", "a", NOW + 100.0, NOW)
    assert not second.check_and_remember("tool", "a", NOW + 100.0, NOW)
    assert second.check_and_remember("other", "a", NOW + 100.0, NOW)
    assert JtiCache(shared_state=share(), name="other").check_and_remember("tool", "a", NOW + 100.0, NOW)
    assert not JtiCache(shared_state=share()).check_and_remember("tool", "a", NOW + 100.0, NOW + 99)
    assert first.check_and_remember("tool", "a", NOW + 900.0, NOW + 100), "the id of an expired token is free again"


@pytest.mark.reading("J-04")
def test_issuer_with_too_many_tokens_is_rejected_by_all_processes(
    share: StartState, caplog: pytest.LogCaptureFixture
) -> None:
    first, second = JtiCache(3, share()), JtiCache(3, share())
    assert all(first.check_and_remember("tool", jti, NOW + 100.0, NOW) for jti in "abc")
    with caplog.at_level(logging.WARNING):
        assert not second.check_and_remember("tool", "d", NOW + 100.0, NOW)
        assert not second.check_and_remember("tool", "e", NOW + 100.0, NOW)
    assert len(caplog.records) == 1
    assert second.check_and_remember("tool", "d", NOW + 200.0, NOW + 100)


@pytest.mark.reading("O-03")
def test_nonce_is_accepted_once_by_all_processes_and_after_a_restart(share: StartState) -> None:
    first, second = NonceCache(shared_state=share()), NonceCache(shared_state=share())
    assert first.check_and_remember("a", NOW, "nonce", NOW)
    assert not second.check_and_remember("a", NOW, "nonce", NOW)
    assert second.check_and_remember("a", NOW + 1, "nonce", NOW)
    assert second.check_and_remember("b", NOW, "nonce \udc80", NOW)
    assert not NonceCache(shared_state=share()).check_and_remember("a", NOW, "nonce", NOW + MAX_AGE_SECONDS)
    assert not first.check_and_remember("a", NOW, "late", NOW + MAX_AGE_SECONDS + 1)


@pytest.mark.reading("O-03")
def test_nonce_is_never_accepted_twice_beyond_the_limit_of_a_client(share: StartState) -> None:
    nonces, others = NonceCache(100, share()), NonceCache(100, share())
    assert all(nonces.check_and_remember("a", NOW - 50 + second, str(second), NOW) for second in range(50))
    assert all(nonces.check_and_remember("a", NOW, str(number), NOW) for number in range(51))
    for each in (nonces, others):
        assert not each.check_and_remember("a", NOW - 50, "0", NOW)
        assert not each.check_and_remember("a", NOW - 50, "another of a dropped second", NOW)
        assert not each.check_and_remember("a", NOW - 49, "1", NOW)
    assert others.check_and_remember("a", NOW - 49, "another of the next second", NOW)
    assert others.check_and_remember("b", NOW - 50, "0", NOW)


def test_failures_are_counted_by_all_processes(share: StartState) -> None:
    clock = FakeClock(float(NOW))
    counters = [FailureCounter(2, clock=clock.time, shared_state=share()) for _ in range(2)]
    for counter in counters:
        counter.count(("192.0.2.1", "client"))
    assert [counter.seconds_until_allowed(("192.0.2.1", "client")) for counter in counters] == [60, 60]
    assert counters[0].seconds_until_allowed("192.0.2.1") == 0
    clock.advance(60)
    assert counters[1].seconds_until_allowed(("192.0.2.1", "client")) == 0


def test_sign_in_attempts_are_counted_by_all_processes_and_contain_no_name(start: StartState, path: Path) -> None:
    clock = FakeClock(float(NOW))
    throttles = [SignInThrottle(clock.time, start()) for _ in range(2)]
    for number in range(5):
        throttles[number % 2].count_password("kim", f"192.0.2.{number}")
    for throttle in (*throttles, SignInThrottle(clock.time, start())):
        with pytest.raises(TooManyAttemptsError, match="try again in 60 seconds"):
            throttle.count_password("kim", "192.0.2.9")
    throttles[0].count_password("sam", "192.0.2.9")
    clock.advance(60)
    throttles[1].count_password("kim", "192.0.2.9")
    assert all(b"kim" not in file.read_bytes() for file in path.parent.iterdir())


def test_processes_that_use_one_id_at_once_agree(share: StartState) -> None:
    caches = [JtiCache(shared_state=share()) for _ in range(4)]
    results: list[bool] = []

    def use(cache: JtiCache) -> None:
        results.extend(cache.check_and_remember("tool", str(number), NOW + 100.0, NOW) for number in range(50))

    threads = [threading.Thread(target=use, args=(cache,)) for cache in caches]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(results) == 50


def test_expired_state_is_deleted(start: StartState, path: Path) -> None:
    state = start()
    JtiCache(shared_state=state).check_and_remember("tool", "a", LONG_AGO + 100.0, LONG_AGO)
    FailureCounter(2, clock=FakeClock(float(LONG_AGO)).time, shared_state=state).count("192.0.2.1")
    state.close()
    start().attempt(lambda _: None, lambda: None)  # its first transaction cleans up; both have expired in 1970
    connection = sqlite3.connect(path)
    counts = [connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0] for table in ("used_ids", "entries")]
    connection.close()
    assert counts == [0, 0]


def test_file_is_private(start: StartState, path: Path) -> None:
    start()
    modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in path.parent.iterdir()}
    assert modes[path.name] == 0o600
    assert set(modes.values()) == {0o600}


def test_exception_of_an_operation_changes_nothing(share: StartState) -> None:
    state = share()

    def put_and_fail(transaction: SharedValues) -> None:
        transaction.put("scope", "key", 1, 9e9)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        state.attempt(put_and_fail, lambda: None)
    assert state.attempt(lambda transaction: transaction.get("scope", "key"), lambda: 0) is None


def test_store_that_cannot_be_used_is_an_error_instead_of_memory() -> None:
    with TenantLockBackend(COLLECTIONS) as store:
        cache = JtiCache(shared_state=credential_state(store, SharedState()))
        store.fail_values = True
        with pytest.raises(StorageUnavailableError):
            cache.check_and_remember("tool", "a", NOW + 100.0, NOW)
        store.fail_values = False
        assert cache.check_and_remember("tool", "a", NOW + 100.0, NOW)


def test_damaged_file_is_reported_and_memory_is_used(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path.parent.mkdir()
    path.write_bytes(b"no database" * 100)
    state = SharedState()
    state.start(path)
    assert not state.is_shared
    assert f"the file {path} cannot be used: free space on its disk, or delete it" in caplog.text
    cache = JtiCache(shared_state=state)
    assert [cache.check_and_remember("tool", "a", NOW + 100.0, NOW) for _ in range(2)] == [True, False]


def test_locked_file_is_reported_once_and_memory_is_used(
    start: StartState, path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("chalk_flask.shared_state.shared_state.LOCK_TIMEOUT_SECONDS", 0.01)
    cache = JtiCache(shared_state=start())
    blocker = sqlite3.connect(path, isolation_level=None)
    blocker.execute("BEGIN IMMEDIATE")
    results = [cache.check_and_remember("tool", "a", NOW + 100.0, NOW) for _ in range(2)]
    blocker.close()
    assert results == [True, False]
    assert [record.getMessage().partition(";")[0] for record in caplog.records] == [
        "the shared state cannot be written: database is locked"
    ]
    assert cache.check_and_remember("tool", "b", NOW + 100.0, NOW)


def test_ids_of_other_processes_are_counted_within_seconds(share: StartState) -> None:
    state, counter = share(), UsedIdCounter(3)

    def is_full(now: float) -> bool:
        return state.attempt(lambda transaction: counter.is_full(transaction, "scope", now), lambda: True)

    assert not is_full(NOW)
    for number in range(3):
        state.attempt(lambda transaction, n=number: transaction.use("scope", bytes([n]), NOW + 60.0, NOW), lambda: True)  # type: ignore[misc]  # a default binds the number
    assert [is_full(NOW + 1), is_full(NOW + 10), is_full(NOW + 60)] == [False, True, False]
