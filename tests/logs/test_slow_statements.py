"""Slow statements of a SQLite store in the log, without their values."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from backends import KEY, Compare, In, Query, open_store
from chalk_flask.logs.slow_statements import MAX_STATEMENT_LENGTH, log_slow_statements
from chalk_flask.storage import COLLECTIONS
from tests.support.small_roster import fill


def statements(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.__dict__["members"]["statement"] for record in caplog.records]


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/chalk.db"


def test_slow_statements_are_logged_without_values(url: str, caplog: pytest.LogCaptureFixture) -> None:
    with open_store(url, COLLECTIONS) as store:
        fill(store)
        log_slow_statements(store, 1)
        store._watch.seconds = 0.0  # type: ignore[attr-defined]  # every statement is slow
        with store.read("default") as snapshot:
            snapshot.find(Query("users", Compare("familyName", "=", "Secret"))).body()
            snapshot.find(Query("users", In(KEY, tuple(f"id-{number}" for number in range(900))))).body()
            list(snapshot.keys("users"))
        with store.write("default"):
            pass
    found = statements(caplog)
    assert any('FROM "users"' in statement for statement in found)
    assert "COMMIT" in found
    assert max(map(len, found)) <= MAX_STATEMENT_LENGTH
    assert "Secret" not in caplog.text
    assert "id-899" not in caplog.text
    assert {record.levelno for record in caplog.records} == {logging.WARNING}
    assert {record.__dict__["event"] for record in caplog.records} == {"statement.slow"}


def test_no_statement_is_logged_without_limit(url: str, caplog: pytest.LogCaptureFixture) -> None:
    with open_store(url, COLLECTIONS) as store:
        log_slow_statements(store, 0)
        fill(store)
        with store.read("default") as snapshot:
            list(snapshot.keys("users"))
    assert not caplog.records
