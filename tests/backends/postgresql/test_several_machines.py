"""Shared values and leases of a PostgreSQL store: lost connections, dead holders, and clean-up."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from backends import StorageUnavailableError, open_store
from backends.postgresql import PostgreSQLBackend
from backends.postgresql.lease import PostgreSQLLease
from backends.testing import COLLECTIONS
from tests.support.deliveries import wait_until
from tests.support.paths import ROOT
from tests.support.postgresql.fixtures import CreateServer
from tests.support.postgresql.server import PostgresqlServer


@pytest.fixture
def url(postgresql_url: str) -> str:
    return f"{postgresql_url}&partitions=1"


@pytest.fixture
def store(url: str) -> Iterator[PostgreSQLBackend]:
    with PostgreSQLBackend.open(url, COLLECTIONS) as store:
        yield store


def test_values_are_used_after_idle_connections_were_lost(
    store: PostgreSQLBackend, postgresql_server: PostgresqlServer
) -> None:
    now = time.time()
    with store.share_values() as values:
        assert values.use("tool", b"a", now + 100, now)
    with postgresql_server.connect() as connection:
        for idle in store._pool._writers:
            connection.execute("SELECT pg_terminate_backend(%s, 10000)", (idle.driver.info.backend_pid,))
    with store.share_values() as values:
        assert not values.use("tool", b"a", now + 100, now)


def test_values_are_deleted_long_after_their_end_by_the_clock_of_the_database(
    store: PostgreSQLBackend, url: str, postgresql_server: PostgresqlServer, postgresql_schema: str
) -> None:
    now = time.time()
    with store.share_values() as values:
        for hours in (-3, -1, 1):
            values.use("tool", bytes([hours + 3]), now + hours * 3600, now)
            values.put("tool", str(hours), 1, now + hours * 3600)
    with open_store(url, COLLECTIONS) as other, other.share_values() as values:
        assert values.count_used("tool") == 2
    with postgresql_server.connect() as connection:
        count = connection.execute(f"SELECT count(*) FROM {postgresql_schema}._entries").fetchone()
    assert count == (2,)


HOLDER = """
import sys, time
from backends import open_store
from backends.testing import COLLECTIONS
store = open_store(sys.argv[1], COLLECTIONS)
print(store.lease("mail").try_acquire(), flush=True)
time.sleep(600)
"""


@pytest.mark.slow
def test_lease_of_a_killed_process_can_be_acquired_after_its_end(store: PostgreSQLBackend, url: str) -> None:
    lease = store.lease("mail")
    with subprocess.Popen([sys.executable, "-c", HOLDER, url], cwd=ROOT, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "True\n"
        assert not lease.try_acquire()
        holder.kill()
    wait_until(lease.try_acquire)
    lease.release()


@pytest.mark.slow
def test_holder_stops_while_the_database_is_away_and_goes_on_afterwards(
    create_postgresql_server: CreateServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("backends.postgresql.lease.LEASE_SECONDS", 8.0)
    monkeypatch.setattr("backends.postgresql.lease.RENEWAL_INTERVAL_SECONDS", 0.1)
    server = create_postgresql_server()
    with open_store(server.url(partitions="1"), COLLECTIONS) as store:
        lease = store.lease("mail")
        assert lease.try_acquire()
        server.stop()
        wait_until(lambda: not lease.is_held)
        assert not lease.has_holder()
        with pytest.raises(StorageUnavailableError):
            lease.try_acquire()
        server.start()
        wait_until(lambda: lease.is_held)
        assert lease.try_acquire()


def test_holder_that_lost_its_lease_says_so_once(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("backends.postgresql.lease.RENEWAL_INTERVAL_SECONDS", 0.01)
    answers: Iterator[list[tuple[object, ...]]] = iter([[(1,)], [(1,)]])
    attempts: list[str] = []

    def fetch_all(sql: str, _params: tuple[object, ...]) -> list[tuple[object, ...]]:
        attempts.append(sql)
        return next(answers, [])

    lease = PostgreSQLLease(fetch_all, "mail")
    assert lease.try_acquire()
    wait_until(lambda: len(attempts) > 4)
    assert not lease.is_held
    lease.release()
    assert caplog.text.count("has lost the lease") == 1
