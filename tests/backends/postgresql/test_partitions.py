"""Partitions of the tables of a PostgreSQL store."""

from __future__ import annotations

from backends import Compare, open_store
from backends.testing.base import COLLECTIONS, fill, find_keys, person
from tests.support.postgresql.server import PostgresqlServer

TENANTS = [f"tenant {number}" for number in range(12)]


def test_each_tenant_is_read_from_the_partition_that_has_its_rows(
    postgresql_url: str, postgresql_schema: str, postgresql_server: PostgresqlServer
) -> None:
    with open_store(f"{postgresql_url}&partitions=3", COLLECTIONS) as store:
        for number, tenant in enumerate(TENANTS):
            fill(store, "people", [person(number)], tenant)
        with postgresql_server.connect() as connection:
            sql = (
                "SELECT t.name, partition, p.tableoid::regclass::text, m.tableoid::regclass::text FROM _tenants AS t"
                " JOIN people AS p ON _tenant = t.id JOIN _many AS m ON _m_tenant = t.id"
            )
            connection.execute(f"SET search_path TO {postgresql_schema}".encode())
            rows = set(connection.execute(sql).fetchall())
        assert {name for name, *_ in rows} == set(TENANTS)
        for _, partition, people, many in rows:
            assert (people, many) == tuple(f'"{name}@{partition}"' for name in ("people", "_many"))
        assert len({partition for _, partition, *_ in rows}) > 1
    # Later opens find the partitions too, and so do tenants whose partition was not stored.
    with postgresql_server.connect() as connection:
        connection.execute(f"UPDATE {postgresql_schema}._tenants SET partition = -1 WHERE id = 1".encode())
    with open_store(postgresql_url, COLLECTIONS) as store:
        for number, tenant in enumerate(TENANTS):
            with store.read(tenant) as snapshot:
                assert find_keys(snapshot, Compare("tags", "=", "all")) == [f"p{number:03}"]
