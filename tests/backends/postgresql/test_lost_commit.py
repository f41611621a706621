"""Commits whose connection is lost before their answer arrives."""

from __future__ import annotations

import time
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from backends import StorageBusyError, open_store
from backends.testing.base import COLLECTIONS, TENANT, fill, find_keys, person
from tests.support.postgresql.fixtures import CreateServer
from tests.support.postgresql.server import PostgresqlServer


def terminate(server: PostgresqlServer, wait_event: str, write: Future[None]) -> None:
    """Terminate the connection of the write as soon as its COMMIT waits for the event."""
    sql = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'cut' AND wait_event = %s"
    with server.connect() as connection:
        while not connection.execute(sql, [wait_event]).fetchall():
            assert not write.done()
            time.sleep(0.01)


def test_commit_whose_answer_was_lost_is_a_success(create_postgresql_server: CreateServer) -> None:
    server = create_postgresql_server(synchronous_standby_names="absent")
    url = server.url(partitions="1", options="-c synchronous_commit=local")
    with open_store(url, COLLECTIONS) as store:
        fill(store, "people", [person(1)])
    url = server.url(application_name="cut", options="-c synchronous_commit=on")
    with open_store(url, COLLECTIONS) as store, ThreadPoolExecutor(1) as threads:
        write = threads.submit(fill, store, "people", [person(2)])
        terminate(server, "SyncRep", write)  # the transaction has been committed by then
        write.result(60)
        with store.read(TENANT) as snapshot:
            assert find_keys(snapshot) == ["p001", "p002"]


def test_commit_that_was_cut_before_its_end_wrote_nothing(
    postgresql_server: PostgresqlServer, postgresql_schema: str
) -> None:
    url = postgresql_server.url(schema=postgresql_schema, partitions="1", application_name="cut")
    with open_store(url, COLLECTIONS) as store, ThreadPoolExecutor(1) as threads:
        fill(store, "people", [person(1)])
        with postgresql_server.connect() as connection:
            connection.execute(
                f"CREATE FUNCTION {postgresql_schema}.wait() RETURNS trigger LANGUAGE plpgsql"
                " AS 'BEGIN PERFORM pg_sleep(600); RETURN NULL; END';"
                f"CREATE CONSTRAINT TRIGGER wait AFTER UPDATE ON {postgresql_schema}._tenants"
                f" DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION {postgresql_schema}.wait()".encode()
            )
        write = threads.submit(fill, store, "people", [person(2)])
        terminate(postgresql_server, "PgSleep", write)
        with pytest.raises(StorageBusyError, match="nothing was written"):
            write.result(60)
        with store.read(TENANT) as snapshot:
            assert find_keys(snapshot) == ["p001"]
