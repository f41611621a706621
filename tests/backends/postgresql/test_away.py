"""Server that is away: reads and writes that begin wait for it, or for the standby that is promoted."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest

from backends import StorageBusyError, StorageUnavailableError, open_store
from backends.testing import COLLECTIONS
from backends.testing.base import TENANT, fill, find_keys, person
from tests.support.postgresql.fixtures import CreateServer

pytestmark = pytest.mark.slow


def test_reads_and_writes_go_on_when_the_server_is_back(
    create_postgresql_server: CreateServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("backends.postgresql.backend._AWAY_SECONDS", 120.0)
    server = create_postgresql_server()
    with open_store(server.url(partitions="1"), COLLECTIONS) as store, ThreadPoolExecutor(3) as threads:

        def read() -> list[str]:
            with store.read(TENANT) as snapshot:
                return find_keys(snapshot)

        def share() -> object:
            with store.share_values() as values:
                return values.get("scope", "key")

        fill(store, "people", [person(1)])
        assert read() == ["p001"]
        server.kill()
        pending: list[Future[Any]] = [threads.submit(read), threads.submit(share)]
        written = threads.submit(store.write, TENANT, 120)
        for future in (*pending, written):
            with pytest.raises(TimeoutError):
                future.result(timeout=0.3)
        server.start()
        assert [future.result(timeout=120) for future in pending] == [["p001"], None]
        with written.result(timeout=120) as transaction:
            transaction.put("people", [person(2)])
        assert read() == ["p001", "p002"]


def test_server_that_stays_away_is_an_error_that_says_what_to_do(
    create_postgresql_server: CreateServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = create_postgresql_server()
    url = server.url(partitions="1").replace("chalk@", "chalk:hush@")
    with open_store(url, COLLECTIONS) as store:
        fill(store, "people", [person(1)])
        monkeypatch.setattr("backends.postgresql.backend._AWAY_SECONDS", 0.3)
        server.stop()
        with pytest.raises(StorageBusyError, match="nothing was written: try again") as busy:
            store.write(TENANT)
        with pytest.raises(StorageUnavailableError) as unavailable:
            store.read(TENANT)
        assert "hush" not in f"{busy.value}{unavailable.value}"
    with pytest.raises(StorageUnavailableError, match="connecting"):
        open_store(url, COLLECTIONS)


def test_writes_go_to_the_promoted_standby(
    create_postgresql_server: CreateServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("backends.postgresql.backend._AWAY_SECONDS", 120.0)
    primary = create_postgresql_server(synchronous_standby_names="standby", synchronous_commit="remote_apply")
    standby = primary.create_standby("standby", synchronous_standby_names="")
    hosts = f"127.0.0.1:{primary.port},127.0.0.1:{standby.port}"
    url = primary.url(partitions="1").replace(f"127.0.0.1:{primary.port}", hosts)
    with open_store(url, COLLECTIONS) as store, ThreadPoolExecutor(1) as other_thread:
        fill(store, "people", [person(1)])
        primary.kill()
        pending = other_thread.submit(fill, store, "people", [person(2)])
        with pytest.raises(TimeoutError):
            pending.result(timeout=0.3)
        standby.promote()
        pending.result(timeout=120)
        with store.read(TENANT) as snapshot:
            assert find_keys(snapshot) == ["p001", "p002"]
