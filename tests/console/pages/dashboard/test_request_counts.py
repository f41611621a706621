"""Numbers of requests by application: exact for small access logs, estimated for large ones."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest

from chalk_flask.audit.access_log import AccessLog
from chalk_flask.console.pages.dashboard import request_counts
from chalk_flask.console.pages.dashboard.request_counts import RequestCounter, RequestCounts

NOW = datetime(2026, 3, 10, 12, tzinfo=UTC)


def members(tenant: str, app: str, way: str = "token") -> str:
    return f'"tenant":"{tenant}","event":"read","way":"{way}","by":"{app}","method":"GET","route":"/users","status":200'


def write_log(folder: Path, lines: dict[date, list[str]]) -> None:
    """Write entries with the access log itself."""
    log = AccessLog(folder, days=1000, interval=0)
    log.start()
    for day, entries in lines.items():
        for entry in entries:
            log.record(datetime(day.year, day.month, day.day, 9, tzinfo=UTC).timestamp(), entry)
    log.close()


def count(folder: Path, tenant: str = "default", now: datetime = NOW) -> RequestCounts:
    return RequestCounter(folder, lambda: now).count(tenant)


def test_requests_are_counted_by_application_and_day(tmp_path: Path) -> None:
    today = NOW.date()
    write_log(
        tmp_path,
        {
            today - timedelta(days=7): [members("default", "old")],
            today - timedelta(days=6): [members("default", "a")] * 2,
            today: [members("default", "a"), *[members("default", 'say "b"'.replace('"', '\\"'), "client")] * 5],
        },
    )
    found = count(tmp_path)
    assert found.days == [today - timedelta(days=age) for age in (6, 5, 4, 3, 2, 1, 0)]
    assert [(app.credential_type, app.credential_id, app.by_day) for app in found.apps] == [
        ("client", 'say "b"', [0, 0, 0, 0, 0, 0, 5]),
        ("token", "a", [2, 0, 0, 0, 0, 0, 1]),
    ]
    assert not found.is_estimate


def test_tenants_do_not_see_each_other(tmp_path: Path) -> None:
    write_log(tmp_path, {NOW.date(): [members("default", "a"), members("west", "b"), members("west", "b")]})
    assert [(app.credential_id, app.total) for app in count(tmp_path, "west").apps] == [("b", 2)]
    assert count(tmp_path, "north").apps == []


def test_missing_folder_has_no_requests(tmp_path: Path) -> None:
    assert count(tmp_path / "missing").apps == []


def test_large_log_is_estimated_from_a_sample(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(request_counts, "MAX_BYTES", 40_000)
    monkeypatch.setattr(request_counts, "BLOCK_BYTES", 4_000)
    write_log(
        tmp_path, {NOW.date(): [members("default", "a"), members("default", "a"), members("default", "b")] * 2000}
    )
    found = count(tmp_path)
    assert found.is_estimate
    assert [app.credential_id for app in found.apps] == ["a", "b"]
    assert found.apps[0].total == pytest.approx(4000, rel=0.1)
    assert found.apps[1].total == pytest.approx(2000, rel=0.1)


def test_growing_log_is_read_again_after_a_minute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    counter = RequestCounter(tmp_path, lambda: NOW)
    write_log(tmp_path, {NOW.date(): [members("default", "a")]})
    assert counter.count("default").apps[0].total == 1
    write_log(tmp_path, {NOW.date(): [members("default", "a")]})
    assert counter.count("default").apps[0].total == 1
    monkeypatch.setattr(request_counts, "MAX_AGE_SECONDS", 0.0)
    assert counter.count("default").apps[0].total == 2


def test_damaged_lines_are_skipped(tmp_path: Path) -> None:
    write_log(tmp_path, {NOW.date(): [members("default", "a")]})
    with (tmp_path / f"{NOW.date()}.jsonl").open("ab") as file:
        file.write(
            b'\xff{"tenant":"default","event":"read"\n{"tenant":"default","event":"read","way":"token","by":"\xff\\q"}\n'
        )
    assert [(app.credential_id, app.total) for app in count(tmp_path).apps] == [("a", 1)]
