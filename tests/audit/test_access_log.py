"""Access log: files for each day, retention, failures, and entries."""

from __future__ import annotations

import json
import logging
import multiprocessing
import os
import stat
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from chalk_flask.audit.access_log import MAX_PENDING_LINES, AccessLog, read_entries
from chalk_flask.times import format_precise_timestamp

NOON = datetime(2031, 5, 2, 12, 0, tzinfo=UTC)


def members(number: int) -> str:
    return f'"event":"read","number":{number}'


def numbers(folder: Path, since: str = "") -> list[object]:
    return [entry.get("number") for entry in read_entries(folder, since)]


def open_log(folder: Path, days: int = 90) -> AccessLog:
    log = AccessLog(folder, days, interval=3600)
    log.start()
    return log


def test_entry_is_a_json_line_in_the_file_of_its_day(tmp_path: Path) -> None:
    log = open_log(tmp_path / "data" / "reads")
    log.record(NOON.timestamp(), members(1))
    log.record((NOON + timedelta(days=1)).timestamp(), members(2))
    log.close()
    first, second = sorted((tmp_path / "data" / "reads").iterdir())
    assert (first.name, second.name) == ("2031-05-02.jsonl", "2031-05-03.jsonl")
    assert json.loads(first.read_text()) == {"time": "2031-05-02T12:00:00.000000Z", "event": "read", "number": 1}


def test_folders_and_files_are_private(tmp_path: Path) -> None:
    log = open_log(tmp_path / "data" / "reads")
    log.record(NOON.timestamp(), members(1))
    log.close()
    modes = [
        stat.S_IMODE((tmp_path / "data" / name).stat().st_mode) for name in ("", "reads", "reads/2031-05-02.jsonl")
    ]
    assert modes == [0o700, 0o700, 0o600]


def test_entries_are_written_in_the_background(tmp_path: Path) -> None:
    log = AccessLog(tmp_path, 90, interval=0.01)
    log.start()
    log.record(NOON.timestamp(), members(1))
    deadline = datetime.now(UTC) + timedelta(seconds=60)
    while not numbers(tmp_path) and datetime.now(UTC) < deadline:
        time.sleep(0.01)
    assert numbers(tmp_path) == [1]
    log.close()


def test_expired_files_are_deleted_and_other_files_remain(tmp_path: Path) -> None:
    for name in ("2031-04-30.jsonl", "2031-05-01.jsonl", "2031-04-30.txt", "notes.jsonl"):
        (tmp_path / name).touch()
    log = open_log(tmp_path, days=2)
    log.record(NOON.timestamp(), members(1))
    log.close()
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "2031-04-30.txt", "2031-05-01.jsonl", "2031-05-02.jsonl", "notes.jsonl",
    ]  # fmt: skip


def test_retention_of_no_day_disables_the_log(tmp_path: Path) -> None:
    assert not open_log(tmp_path, days=0).is_enabled


def test_entries_above_the_limit_are_dropped_and_counted(tmp_path: Path) -> None:
    log = open_log(tmp_path)
    for number in range(MAX_PENDING_LINES + 7):
        log.record(NOON.timestamp(), members(number))
    log.close()
    entries = list(read_entries(tmp_path))
    assert len(entries) == MAX_PENDING_LINES + 1
    assert [entry["dropped"] for entry in entries if "dropped" in entry] == [7]


def test_failure_to_write_is_logged_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "data").write_text("not a folder")
    log = open_log(tmp_path / "data" / "reads")
    with caplog.at_level(logging.WARNING):
        for number in range(3):
            log.record(NOON.timestamp(), members(number))
            log._write_pending()
        assert len(caplog.records) == 1
        assert "requests are not recorded: cannot write the access log in" in caplog.text
        (tmp_path / "data").unlink()
        log.record(NOON.timestamp(), members(3))
        log.close()
    assert numbers(tmp_path / "data" / "reads") == [3]


def test_lines_that_the_writer_has_taken_are_written_too(tmp_path: Path) -> None:
    for attempt in range(150):
        log = AccessLog(tmp_path / str(attempt), 90, interval=0)
        log.start()
        for number in range(160):
            log.record(NOON.timestamp(), members(number))
        log._write_pending()
        assert numbers(tmp_path / str(attempt)) == list(range(160))
        log.close()


@pytest.mark.slow
def test_processes_share_a_file_without_tearing_lines(tmp_path: Path) -> None:
    fork = multiprocessing.get_context("fork")
    processes = [fork.Process(target=write_many, args=(tmp_path, start)) for start in (0, 2000, 4000)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(120)
        assert process.exitcode == 0
    entries = list(read_entries(tmp_path))
    assert sorted(int(entry["number"]) for entry in entries) == list(range(6000))
    assert [entry["time"] for entry in entries] == sorted(entry["time"] for entry in entries)


def write_many(folder: Path, start: int) -> None:
    log = AccessLog(folder, 90, interval=0.001)
    log.start()
    for number in range(start, start + 2000):
        log.record((NOON + timedelta(milliseconds=number % 2000)).timestamp(), members(number))
    log.close()
    os._exit(0)


def test_read_entries_starts_at_a_time_and_skips_torn_lines(tmp_path: Path) -> None:
    log = open_log(tmp_path)
    for number in range(4):
        log.record((NOON + timedelta(hours=11 * number)).timestamp(), members(number))
    log.close()
    with (tmp_path / "2031-05-02.jsonl").open("a") as file:
        file.write('{"time": "2031-05-02T23:59\n[1]\n\n{"number": 9}\n')
    assert numbers(tmp_path) == [0, 1, 2, 3]
    assert numbers(tmp_path, format_precise_timestamp(NOON + timedelta(hours=11))) == [1, 2, 3]
    assert numbers(tmp_path, format_precise_timestamp(NOON + timedelta(hours=12))) == [2, 3]
    assert numbers(tmp_path / "nowhere") == []
