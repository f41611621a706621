"""Conformance suite on the PostgreSQL backend, and what the contract leaves open."""

from __future__ import annotations

import random
import string

import pytest

from backends import (
    KEY,
    And,
    Compare,
    In,
    InvalidQueryError,
    OrderBy,
    Query,
    Record,
    StorageBusyError,
    StorageUnavailableError,
    Where,
    open_store,
    store_exists,
)
from backends.testing import BackendConformance
from backends.testing.base import COLLECTIONS, TENANT, document_keys, fill, find_keys, person, record
from tests.support.postgresql.server import PostgresqlServer

MANY = 3_000
"""Number of records of which deep pages start at a cached key."""

SIDE_CONDITIONS: list[Where] = [
    Compare("tags", "=", "t1"),
    In("tags", ("t1",)),
    Compare("scores", "=", 3),
    And((Compare("tags", "=", "all"), Compare("age", ">", 100))),
    And((Compare("name", "=", "name 3"), Compare("tags", "=", "all"), Compare(KEY, ">", "p0500"))),
    And((Compare("tags", "=", "all"), Compare("tags", "=", "t2"))),
    Compare("tags", "=", "unknown"),
    Compare("metadata.house", "=", "house 1"),
]


class TestPostgreSQL(BackendConformance):
    """Conformance suite on the PostgreSQL backend."""

    has_shared_values = True
    has_leases = True

    @pytest.fixture
    def url(self, postgresql_url: str) -> str:
        return f"{postgresql_url}&partitions=1"

    @pytest.fixture
    def broken_url(self, postgresql_server: PostgresqlServer, postgresql_schema: str) -> str:
        with postgresql_server.connect() as connection:
            connection.execute(f"CREATE SCHEMA {postgresql_schema} CREATE TABLE letters (text text)".encode())
        return postgresql_server.url(schema=postgresql_schema)


def many_people() -> list[Record]:
    return [
        record(
            f"p{number:04}",
            name=f"name {number % 7}",
            age=number if number % 5 else None,
            tags=(f"t{number % 3}", "all"),
            scores=(number % 4,),
            metadata__house=(f"house {number % 2}",),
        )
        for number in range(MANY)
    ]


def test_partitioned_store_finds_the_pages_of_the_memory_backend(postgresql_url: str) -> None:
    orders: list[tuple[OrderBy, ...]] = [(), (OrderBy(KEY, descending=True),), (OrderBy("age"),), (OrderBy("tags"),)]
    with (
        open_store(f"{postgresql_url}&partitions=3", COLLECTIONS) as store,
        open_store("memory:", COLLECTIONS) as memory,
    ):
        for one in store, memory:
            fill(one, "people", many_people())
            fill(one, "people", [person(1)], "another")
        with store.read(TENANT) as snapshot, memory.read(TENANT) as expected:
            for where in [And(()), *SIDE_CONDITIONS]:
                for order in orders:
                    for offset in 0, 511, 512, 520, 1300, MANY - 1, MANY:
                        query = Query("people", where, order, offset, 20)
                        page, other = snapshot.find(query), expected.find(query)
                        assert (document_keys(page.body()), page.total) == (document_keys(other.body()), other.total)
        assert store.tenants() == ["another", TENANT]
        assert store.check() == []


def test_random_text_beyond_the_limit_of_an_index_is_rejected(postgresql_url: str) -> None:
    letters = random.Random(14)
    text = "".join(letters.choices(string.ascii_letters + string.digits, k=5_000))
    with open_store(f"{postgresql_url}&partitions=1", COLLECTIONS) as store:
        fill(store, "people", [record("a", name="before", home__street=text)])  # has no index
        for bad in (
            record(text),
            record("a", name=text),
            record("b", tags=(text,)),
            record("b", metadata__x=(text,)),
            record("a", metadata__x=(text,)),
        ):
            with pytest.raises(InvalidQueryError, match="2704 bytes") as caught:
                fill(store, "people", [person(1), bad])
            assert text[:20] not in str(caught.value)
        with store.read(TENANT) as snapshot:
            assert find_keys(snapshot) == find_keys(snapshot, Compare("name", "=", "before")) == ["a"]
            assert find_keys(snapshot, Compare("home.street", "=", text)) == ["a"]
            assert find_keys(snapshot, Compare("name", "=", text)) == find_keys(snapshot, Compare(KEY, "=", text)) == []


def test_caught_error_of_a_statement_cannot_be_committed(postgresql_url: str) -> None:
    text = "".join(random.Random(1).choices(string.ascii_letters, k=5_000))
    with open_store(f"{postgresql_url}&partitions=1", COLLECTIONS) as store:
        with pytest.raises(StorageUnavailableError), store.write(TENANT) as transaction:
            transaction.put("people", [person(1)])
            with pytest.raises(InvalidQueryError):
                transaction.put("people", [record("b", name=text)])
        with store.read(TENANT) as snapshot:
            assert find_keys(snapshot) == []


def test_writers_of_different_tenants_do_not_wait(postgresql_url: str) -> None:
    with open_store(f"{postgresql_url}&partitions=1", COLLECTIONS) as store:
        with store.write("north") as north, store.write("south", wait=0) as south:
            north.put("people", [record("a", metadata__new="1")])
            south.put("people", [record("a", metadata__new="2")])
            with pytest.raises(StorageBusyError):
                store.write("north", wait=0)
        for tenant, value in ("north", "1"), ("south", "2"):
            with store.read(tenant) as snapshot:
                assert find_keys(snapshot, Compare("metadata.new", "=", value)) == ["a"]


def test_unchanged_rows_are_not_written_again(postgresql_url: str, postgresql_server: PostgresqlServer) -> None:
    with open_store(f"{postgresql_url}&partitions=1", COLLECTIONS) as store:
        fill(store, "people", [person(number) for number in range(10)])
        schema = postgresql_url.rpartition("=")[2]
        with postgresql_server.connect() as connection:

            def versions() -> list[tuple[object, ...]]:
                queries = (
                    f"SELECT _key, xmin::text FROM {schema}.people ORDER BY 1",
                    f"SELECT _m_key, xmin::text FROM {schema}._many ORDER BY 1, 2",
                )
                return [row for query in queries for row in connection.execute(query.encode()).fetchall()]

            before = versions()
            fill(store, "people", [person(number) for number in range(10)])
            assert versions() == before
            fill(store, "people", [person(2)._replace(body=b'{"key":"new"}')])
            changed = set(versions()) - set(before)
            assert [key for key, _ in changed] == ["p002"]


def test_lost_connections_are_replaced_by_the_next_read(
    postgresql_url: str, postgresql_server: PostgresqlServer
) -> None:
    with open_store(f"{postgresql_url}&partitions=1&application_name=lost", COLLECTIONS) as store:
        fill(store, "people", [person(1)])
        with store.read(TENANT) as snapshot, store.read(TENANT):
            with postgresql_server.connect() as connection:
                connection.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'lost'"
                )
            with pytest.raises(StorageUnavailableError):
                find_keys(snapshot)
        with store.read(TENANT) as snapshot:
            assert find_keys(snapshot) == ["p001"]


def test_writes_begin_on_a_new_connection_if_the_idle_ones_are_lost(
    postgresql_url: str, postgresql_server: PostgresqlServer
) -> None:
    with open_store(f"{postgresql_url}&partitions=1&application_name=idle", COLLECTIONS) as store:
        for use in (lambda: fill(store, "people", [person(2)]), store.tenants, store.check):
            with store.write("north"), store.write("south"):  # two idle connections remain
                pass
            fill(store, "people", [person(1)])
            with postgresql_server.connect() as connection:
                connection.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'idle'"
                )
            use()
        with store.read(TENANT) as snapshot:
            assert find_keys(snapshot) == ["p001", "p002"]


def test_transaction_of_a_lost_connection_writes_nothing(
    postgresql_url: str, postgresql_server: PostgresqlServer
) -> None:
    with open_store(f"{postgresql_url}&partitions=1&application_name=cut", COLLECTIONS) as store:
        with pytest.raises(StorageUnavailableError), store.write(TENANT) as transaction:
            transaction.put("people", [person(1)])
            with postgresql_server.connect() as connection:
                connection.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'cut'"
                )
        fill(store, "people", [person(2)])
        with store.read(TENANT) as snapshot:
            assert find_keys(snapshot) == ["p002"]


def test_store_of_a_newer_version_is_not_opened(postgresql_url: str, postgresql_server: PostgresqlServer) -> None:
    with open_store(f"{postgresql_url}&partitions=1", COLLECTIONS):
        schema = postgresql_url.rpartition("=")[2]
    with postgresql_server.connect() as connection:
        connection.execute(f"UPDATE {schema}._store SET value = '99' WHERE name = 'version'".encode())
    with pytest.raises(StorageUnavailableError, match="schema version 99"):
        open_store(postgresql_url, COLLECTIONS)


def test_missing_index_is_damage(postgresql_url: str, postgresql_server: PostgresqlServer) -> None:
    with open_store(f"{postgresql_url}&partitions=1", COLLECTIONS) as store:
        schema = postgresql_url.rpartition("=")[2]
        with postgresql_server.connect() as connection:
            connection.execute(f'DROP INDEX {schema}."people:name"'.encode())
        assert store.check() == ["people:name is missing: restore a backup"]
    with pytest.raises(StorageUnavailableError, match="people:name"):
        open_store(postgresql_url, COLLECTIONS)


def test_server_that_is_not_there_fails_without_its_password(postgresql_server: PostgresqlServer) -> None:
    for url in (
        "postgresql://chalk:entirely%20secret@127.0.0.1:1/chalk",
        f"postgresql://nobody:entirely%20secret@127.0.0.1:{postgresql_server.port}/postgres",
        f"postgresql://chalk:entirely%20secret@127.0.0.1:{postgresql_server.port}/nowhere",
    ):
        for call in store_exists, lambda url: open_store(url, COLLECTIONS):
            with pytest.raises(StorageUnavailableError) as caught:
                call(url)
            assert "secret" not in str(caught.value)
