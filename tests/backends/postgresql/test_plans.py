"""Plans of statements: PostgreSQL touches few blocks for each row that a page returns."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import orjson
import pytest

from backends import KEY, And, Backend, Compare, In, Query, Snapshot, open_store
from backends.postgresql.connections import Connection
from backends.testing.base import COLLECTIONS, TENANT, fill, record
from tests.support.postgresql.server import PostgresqlServer

MANY = 6_000
"""Number of records of the large tenant. The planner gets statistics after a load of 5,000."""
FEW = 10
LIMIT = 50
BLOCKS_PER_ROW = 8
BLOCKS_PER_STATEMENT = 60

FORMS: dict[str, Callable[[Snapshot], object]] = {
    "get": lambda at: at.find(Query("people", Compare(KEY, "=", "p000005"))),
    "some keys": lambda at: at.get_many("people", [f"p{number:06}" for number in range(LIMIT)]),
    "first page": lambda at: at.find(Query("people", limit=LIMIT)),
    "deep page": lambda at: at.find(Query("people", offset=MANY * 9 // 10, limit=LIMIT)),
    "indexed field": lambda at: at.find(Query("people", Compare("name", "=", "name 1"), limit=LIMIT)),
    "several values": lambda at: at.find(Query("people", In("name", ("name 1", "name 2")), limit=LIMIT)),
    "multi-valued field": lambda at: at.find(Query("people", Compare("tags", "=", "t1"), limit=LIMIT)),
    "number of several": lambda at: at.find(Query("people", Compare("scores", "=", 1), limit=LIMIT)),
    "extension field": lambda at: at.find(Query("people", Compare("metadata.a", "=", "a 1"), limit=LIMIT)),
    "two conditions": lambda at: at.find(
        Query("people", And((Compare("tags", "=", "t1"), Compare("age", ">=", 0))), limit=LIMIT)
    ),
    "exists": lambda at: at.exists("people", And((Compare("tags", "=", "t2"), Compare("age", ">=", 0)))),
}


@pytest.fixture(scope="module")
def stores(postgresql_server: PostgresqlServer) -> Iterator[Backend]:
    schema = f"test_plans_{os.getpid()}"
    postgresql_server.drop_schemas([schema])
    with open_store(postgresql_server.url(schema=schema, partitions="2"), COLLECTIONS) as store:
        for tenant, count in ((TENANT, MANY), ("small", FEW), ("other", FEW)):
            fill(store, "people", (person(number) for number in range(count)), tenant)
        yield store
    postgresql_server.drop_schemas([schema])


def person(number: int) -> Any:
    return record(
        f"p{number:06}",
        name=f"name {number % 100}",
        age=number % 70,
        tags=(f"t{number % 90}", "all"),
        scores=(number % 80,),
        metadata__a=(f"a {number % 60}",),
    )


@pytest.mark.parametrize("tenant", [TENANT, "small"])
@pytest.mark.parametrize("form", FORMS)
def test_statement_touches_few_blocks_per_row(
    stores: Backend, form: str, tenant: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    statements: list[tuple[str, Sequence[Any]]] = []
    with stores.read(tenant) as snapshot:
        FORMS[form](snapshot)  # counts and anchors are read once
        for name in ("fetch_all", "fetch_bytes"):
            monkeypatch.setattr(Connection, name, recording(getattr(Connection, name), statements))
        FORMS[form](snapshot)
        monkeypatch.undo()
        assert statements or (form, tenant) == ("deep page", "small")  # beyond the end
        for text, params in statements:
            ((plan,),) = snapshot._run(  # type: ignore[attr-defined]  # of the snapshots of PostgreSQL
                Connection.fetch_all, f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {text}", params
            )
            root = orjson.loads(plan)[0]["Plan"]
            blocks = root["Shared Hit Blocks"] + root["Shared Read Blocks"]
            assert blocks <= BLOCKS_PER_STATEMENT + BLOCKS_PER_ROW * root["Actual Rows"], (text, blocks)


def recording(method: Callable[..., Any], statements: list[tuple[str, Sequence[Any]]]) -> Callable[..., Any]:
    def run(connection: Connection, text: str, params: Sequence[Any] = ()) -> Any:
        statements.append((text, params))
        return method(connection, text, params)

    return run
