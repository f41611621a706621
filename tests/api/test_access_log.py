"""The access log: each authenticated request is an entry, without ids and query strings."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from flask import Flask

from chalk_flask import create_app
from chalk_flask.audit.access_log import read_entries
from chalk_flask.permissions.scopes import ALL, ROSTER_CORE
from tests.conftest import services_of
from tests.support.api_client import CHALK, IMS, Consumer, create_token
from tests.support.histories import load
from tests.support.packages import PackageBuilder
from tests.support.small_roster import fill

Read = Callable[..., dict[str, Any]]


@pytest.fixture
def app(tmp_path: Path) -> Iterator[Flask]:
    app = create_app(storage="memory:", data=str(tmp_path / "data"))
    fill(services_of(app).store)
    yield app
    services_of(app).access_log.close()
    services_of(app).store.close()


@pytest.fixture
def consumer(app: Flask) -> Consumer:
    return Consumer(app)


@pytest.fixture
def entries(app: Flask, tmp_path: Path) -> Callable[[], list[dict[str, Any]]]:
    """Function that returns the entries so far."""

    def read() -> list[dict[str, Any]]:
        services_of(app).access_log._write_pending()
        return list(read_entries(tmp_path / "data" / "reads"))

    return read


Entries = Callable[[], list[dict[str, Any]]]


def test_entry_has_credential_route_and_size(consumer: Consumer, app: Flask, entries: Entries) -> None:
    response = consumer.get("/users?limit=2&filter=familyName='Curie'")
    [entry] = entries()
    [token] = services_of(app).tokens.list()
    assert list(entry) == ["time", "tenant", "event", "way", "by", "method", "route", "status", "rows", "bytes", "ms"]
    assert (entry["tenant"], entry["event"], entry["way"], entry["by"]) == ("default", "read", "token", token.id)
    assert (entry["method"], entry["route"], entry["status"]) == ("GET", f"{IMS}/users", 200)
    assert entry["bytes"] == len(response.data)
    assert 0 < entry["ms"] < 10_000
    assert "Curie" not in str(entry)


@pytest.mark.parametrize(
    ("path", "rows"),
    [
        (f"{IMS}/users", None),
        (f"{CHALK}/users", None),
        (f"{IMS}/users?limit=2", 2),
        (f"{IMS}/users?limit=3&offset=1", 3),
        (f"{IMS}/users?offset=2&limit=%31", 1),
        (f"{IMS}/users?offset=999", 0),
        (f"{CHALK}/users?offset=2", None),
        (f"{IMS}/users?filter=familyName='unused-name'", 0),
    ],
)
def test_rows_are_the_records_of_the_page(path: str, rows: int | None, consumer: Consumer, entries: Entries) -> None:
    response = consumer.get(path)
    assert response.json is not None
    assert entries()[0]["rows"] == len(response.json["users"])
    if rows is not None:
        assert entries()[0]["rows"] == rows


def test_rows_of_the_change_feed_are_its_changes(consumer: Consumer, entries: Entries, tmp_path: Path) -> None:
    load(consumer.app, PackageBuilder(), tmp_path)
    consumer.get(f"{CHALK}/changes?since=0&limit=3")
    consumer.get(f"{CHALK}/changes?since=latest")
    assert [entry["rows"] for entry in entries()] == [3, 0]


def test_route_is_recorded_without_ids(consumer: Consumer, entries: Entries) -> None:
    [key] = consumer.ids("/users?limit=1")
    consumer.get(f"/users/{key}")
    consumer.get("/sis/schools/somewhere/classes/something/students")
    _, single, nested = entries()
    assert (single["route"], single["rows"]) == (f"{IMS}/users/{{id}}", 1)
    assert nested["route"].startswith(f"{IMS}/sis/schools/{{")
    assert (nested["status"], nested["rows"]) == (404, 0)
    assert not [word for word in (key, "somewhere", "something") if word in str(entries()[1:])]


def test_responses_without_a_body_have_no_rows(consumer: Consumer, entries: Entries) -> None:
    response = consumer.get("/users", method="HEAD")
    consumer.get("/users", {"If-None-Match": response.headers["ETag"]})
    assert [(entry["method"], entry["status"], entry["rows"], entry["bytes"]) for entry in entries()] == [
        ("HEAD", 200, 0, 0),
        ("GET", 304, 0, 0),
    ]


def test_403_is_recorded_and_401_is_not(app: Flask, entries: Entries) -> None:
    Consumer(app, create_token(app, (ROSTER_CORE,))).get("/demographics")
    Consumer(app, "chk_wrong").get("/users")
    app.test_client().get(f"{IMS}/users")
    app.test_client().get("/nowhere")
    assert [entry["status"] for entry in entries()] == [403]


def test_stream_is_recorded_with_its_sent_bytes(
    consumer: Consumer, entries: Entries, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("chalk_flask.api.reads.envelopes.BLOCK_BYTES", 1)
    response = consumer.get(f"{CHALK}/users", {"Accept-Encoding": "gzip"})
    assert "Content-Length" not in response.headers
    body_bytes = len(response.data)
    response.close()
    assert entries()[0]["bytes"] == body_bytes


def test_concurrent_reads_are_all_recorded(app: Flask, entries: Entries) -> None:
    token = create_token(app, ALL)

    def read() -> None:
        for _ in range(20):
            Consumer(app, token).get("/users?limit=1")

    threads = [threading.Thread(target=read) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(entries()) == 160


def test_application_without_data_setting_creates_no_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    app = create_app(storage="sqlite:///chalk.db")
    Consumer(app).get("/users")
    services_of(app).access_log.close()
    services_of(app).store.close()
    assert not (tmp_path / "chalk-data" / "reads").exists()


def test_zero_audit_days_turn_the_log_off(tmp_path: Path) -> None:
    app = create_app(storage="memory:", data=str(tmp_path / "data"), audit_days=0)
    Consumer(app).get("/users")
    services_of(app).access_log.close()
    services_of(app).store.close()
    assert not (tmp_path / "data" / "reads").exists()
