"""Versions in memory: the listener hears of commits of other processes, and notices when it may have missed one."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator

import pytest

from backends.postgresql import PostgreSQLBackend
from backends.postgresql.connections.listener import LAG_SECONDS
from backends.testing import COLLECTIONS
from backends.testing.base import fill, record
from tests.support.deliveries import wait_until
from tests.support.postgresql.server import PostgresqlServer

LONG_NAME = "n" * 3000


@pytest.fixture
def url(postgresql_url: str) -> str:
    return f"{postgresql_url}&partitions=1"


@pytest.fixture
def other(url: str) -> Iterator[PostgreSQLBackend]:
    """Store of another process in effect: it shares nothing with `store`."""
    with PostgreSQLBackend.open(url, COLLECTIONS) as store:
        yield store


@pytest.fixture
def store(url: str, other: PostgreSQLBackend) -> Iterator[PostgreSQLBackend]:
    """Store whose listener has started."""
    with PostgreSQLBackend.open(url, COLLECTIONS) as store:
        wait_until(lambda: store.version("default") and hears(store))
        yield store


def hears(store: PostgreSQLBackend) -> bool:
    return store._listener.version("default") is not None


@pytest.mark.parametrize("tenant", ["default", "nul \0 and ü", LONG_NAME[:200]])
def test_commit_of_another_process_is_heard(store: PostgreSQLBackend, other: PostgreSQLBackend, tenant: str) -> None:
    for number in range(3):
        before = store.version(tenant)
        fill(other, "notes", [record(f"n{number}")], tenant)
        wait_until(lambda before=before: hears(store) and store.version(tenant) != before)  # type: ignore[misc]  # a default binds the version


def test_watchers_are_called_after_commits_of_any_process(store: PostgreSQLBackend, other: PostgreSQLBackend) -> None:
    called = threading.Event()
    store.watch_commits(called.set)
    for writer in other, store:
        called.clear()
        fill(writer, "notes", [record("n")])
        assert called.wait(60)


def test_own_commit_changes_the_version_at_once(store: PostgreSQLBackend) -> None:
    for number in range(10):
        before = store.version("default")
        fill(store, "notes", [record(f"n{number}")])
        assert store.version("default") != before


def test_rolled_back_and_empty_transactions_change_no_version(store: PostgreSQLBackend) -> None:
    serials = dict(store._listener._serials)
    with store.write("default"):
        pass
    store.write("default").close()
    fill(store, "notes", [record("n")], "last")
    assert store._listener._serials.keys() - serials.keys() == {"last"}
    assert store._listener._serials.get("default") == serials.get("default")


def test_lost_listener_listens_again_and_all_versions_differ(
    store: PostgreSQLBackend, other: PostgreSQLBackend, postgresql_server: PostgresqlServer
) -> None:
    before = store.version("default")
    with postgresql_server.connect() as connection:
        connection.execute("SELECT pg_terminate_backend(%s, 10000)", (store._listener.server_pid,))
    fill(other, "notes", [record("n")])
    time.sleep(LAG_SECONDS)
    assert store.version("default") != before
    wait_until(lambda: hears(store))
    assert store.version("default") != before


def test_listener_whose_server_is_silent_is_not_trusted(store: PostgreSQLBackend, other: PostgreSQLBackend) -> None:
    before, pid = store.version("default"), store._listener.server_pid
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    try:
        fill(other, "notes", [record("n")])
        time.sleep(LAG_SECONDS)
        assert store.version("default") != before
    finally:
        os.kill(pid, signal.SIGCONT)
    wait_until(lambda: hears(store))


def test_store_that_needs_few_versions_starts_no_thread(url: str) -> None:
    with PostgreSQLBackend.open(url, COLLECTIONS) as store:
        assert len({store.version("default") for _ in range(3)}) == 1
        assert store._listener._thread is None
