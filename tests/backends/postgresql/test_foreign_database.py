"""Databases and roles that another program or an administrator has set up."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest
from psycopg.sql import SQL, Identifier

from backends import StorageBusyError, StorageUnavailableError, open_store, store_exists
from backends.testing.base import COLLECTIONS, TENANT, fill, find_keys, person
from tests.support.postgresql.server import PostgresqlServer

ISOLATION = "-c default_transaction_isolation=serializable -c default_transaction_read_only=off"


def relations(connection: psycopg.Connection[tuple[object, ...]], schema: str) -> list[tuple[object, ...]]:
    sql = "SELECT relname FROM pg_class WHERE relnamespace = to_regnamespace(%s) ORDER BY 1"
    return connection.execute(sql, [schema]).fetchall()


@pytest.mark.parametrize(
    ("columns", "rows"),
    [
        ("(name text PRIMARY KEY, value text)", []),
        ("(name text PRIMARY KEY, value text)", [("id", "1"), ("version", "v2.1")]),
        ("(number int)", []),
    ],
)
def test_table_store_of_another_program_is_not_extended(
    postgresql_server: PostgresqlServer, postgresql_schema: str, columns: str, rows: list[tuple[str, str]]
) -> None:
    url = postgresql_server.url(schema=postgresql_schema, partitions="1")
    with postgresql_server.connect() as connection:
        connection.execute(f"CREATE SCHEMA {postgresql_schema} CREATE TABLE _store {columns}".encode())
        for row in rows:
            connection.execute(f"INSERT INTO {postgresql_schema}._store VALUES (%s, %s)".encode(), row)
        before = relations(connection, postgresql_schema)
        for call in store_exists, lambda url: open_store(url, COLLECTIONS):
            with pytest.raises(StorageUnavailableError, match="tables of another program"):
                call(url)
        assert relations(connection, postgresql_schema) == before


def test_role_without_rights_on_the_schema_is_told_so(
    postgresql_server: PostgresqlServer, postgresql_schema: str, postgresql_url: str
) -> None:
    with open_store(f"{postgresql_url}&partitions=1", COLLECTIONS):
        role = f"stranger_{postgresql_schema}"
    with postgresql_server.connect() as connection:
        connection.execute(SQL("CREATE ROLE {} LOGIN").format(Identifier(role)))
        try:
            with pytest.raises(StorageUnavailableError, match=f"GRANT USAGE ON SCHEMA {postgresql_schema}"):
                open_store(f"{postgresql_url}&user={role}", COLLECTIONS)
        finally:
            connection.execute(SQL("DROP ROLE {}").format(Identifier(role)))


def test_lock_of_another_program_ends_the_wait_of_reads_and_writes(
    postgresql_server: PostgresqlServer,
    postgresql_schema: str,
    postgresql_url: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("backends.postgresql.connections.connection._LOCK_SECONDS", 0.2)
    with open_store(f"{postgresql_url}&partitions=1", COLLECTIONS) as store:
        fill(store, "people", [person(1)])
        with postgresql_server.connect() as connection, connection.transaction():
            connection.execute(f"LOCK TABLE {postgresql_schema}._tenants IN ACCESS EXCLUSIVE MODE".encode())
            calls: list[Callable[[], object]] = [
                lambda: store.read(TENANT),
                lambda: store.version(TENANT),
                lambda: store.write(TENANT, wait=0.2),
                store.tenants,
            ]
            for call in calls:
                with pytest.raises(StorageBusyError, match="held a lock"):
                    call()
        with store.read(TENANT) as snapshot:
            assert find_keys(snapshot) == ["p001"]


def test_writer_sees_the_commit_that_it_waited_for_whatever_the_default_isolation(
    postgresql_server: PostgresqlServer, postgresql_schema: str
) -> None:
    url = postgresql_server.url(schema=postgresql_schema, partitions="1", options=ISOLATION, application_name="waits")

    def write() -> list[str]:
        with store.write(TENANT) as transaction:
            found = find_keys(transaction)
            transaction.put("people", [person(2)])
        return found

    with open_store(url, COLLECTIONS) as store, ThreadPoolExecutor(1) as threads:
        with store.write(TENANT) as transaction:
            result = threads.submit(write)
            with postgresql_server.connect() as connection:
                sql = "SELECT FROM pg_stat_activity WHERE application_name = 'waits' AND wait_event_type = 'Lock'"
                while not connection.execute(sql).fetchall():
                    assert not result.done()
                    time.sleep(0.01)
            transaction.put("people", [person(1)])
        assert result.result(60) == ["p001"]
        with store.read(TENANT) as snapshot:
            assert find_keys(snapshot) == ["p001", "p002"]
