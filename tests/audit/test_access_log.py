"""Lines of reads are written off the path, in a file a day, and kept for a while."""

from __future__ import annotations

import json
import logging
import multiprocessing
import os
import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from chalk_flask.audit.access_log import MOST, AccessLog, read_entries
from chalk_flask.times import format_precise_timestamp

NOON = datetime(2031, 5, 2, 12, 0, tzinfo=UTC)


def told(number: int) -> str:
    return f'"event":"read","number":{number}'


def numbers(folder: Path, since: str = "") -> list[object]:
    return [each.get("number") for each in read_entries(folder, since)]


def log_in(folder: Path, days: int = 90) -> AccessLog:
    reads = AccessLog(folder, days, gather=3600)
    reads.start()
    return reads


def test_a_line_is_an_object_in_the_file_of_its_day(tmp_path: Path) -> None:
    reads = log_in(tmp_path / "data" / "reads")
    reads.record(NOON.timestamp(), told(1))
    reads.record((NOON + timedelta(days=1)).timestamp(), told(2))
    reads.close()
    first, second = sorted((tmp_path / "data" / "reads").iterdir())
    assert (first.name, second.name) == ("2031-05-02.jsonl", "2031-05-03.jsonl")
    assert json.loads(first.read_text()) == {"time": "2031-05-02T12:00:00.000000Z", "event": "read", "number": 1}


def test_only_the_owner_may_look(tmp_path: Path) -> None:
    reads = log_in(tmp_path / "data" / "reads")
    reads.record(NOON.timestamp(), told(1))
    reads.close()
    modes = [
        stat.S_IMODE((tmp_path / "data" / each).stat().st_mode) for each in ("", "reads", "reads/2031-05-02.jsonl")
    ]
    assert modes == [0o700, 0o700, 0o600]


def test_it_is_written_by_another_thread_while_the_service_runs(tmp_path: Path) -> None:
    reads = AccessLog(tmp_path, 90, gather=0.01)
    reads.start()
    reads.record(NOON.timestamp(), told(1))
    deadline = datetime.now(UTC) + timedelta(seconds=10)
    while not numbers(tmp_path) and datetime.now(UTC) < deadline:
        pass
    assert numbers(tmp_path) == [1]
    reads.close()


def test_files_go_when_their_days_are_over_and_nothing_else_does(tmp_path: Path) -> None:
    for name in ("2031-04-30.jsonl", "2031-05-01.jsonl", "2031-04-30.txt", "notes.jsonl"):
        (tmp_path / name).touch()
    reads = log_in(tmp_path, days=2)
    reads.record(NOON.timestamp(), told(1))
    reads.close()
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "2031-04-30.txt", "2031-05-01.jsonl", "2031-05-02.jsonl", "notes.jsonl",
    ]  # fmt: skip


def test_what_is_kept_for_no_day_is_not_recorded(tmp_path: Path) -> None:
    assert not log_in(tmp_path, days=0).on


def test_what_is_too_much_is_dropped_and_counted(tmp_path: Path) -> None:
    reads = log_in(tmp_path)
    for number in range(MOST + 7):
        reads.record(NOON.timestamp(), told(number))
    reads.close()
    found = list(read_entries(tmp_path))
    assert len(found) == MOST + 1
    assert [each["dropped"] for each in found if "dropped" in each] == [7]


def test_a_folder_that_cannot_be_written_is_said_once_and_the_service_goes_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "data").write_text("a file where the folder should be")
    reads = log_in(tmp_path / "data" / "reads")
    with caplog.at_level(logging.WARNING):
        for number in range(3):
            reads.record(NOON.timestamp(), told(number))
            reads._write_all()
        assert len(caplog.records) == 1
        assert "reads are not recorded" in caplog.text
        (tmp_path / "data").unlink()
        reads.record(NOON.timestamp(), told(3))
        reads.close()
    assert numbers(tmp_path / "data" / "reads") == [3]


def test_processes_write_the_same_file_without_tearing_lines(tmp_path: Path) -> None:
    fork = multiprocessing.get_context("fork")
    processes = [fork.Process(target=_write_many, args=(tmp_path, start)) for start in (0, 2000, 4000)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(30)
        assert process.exitcode == 0
    found = list(read_entries(tmp_path))
    assert sorted(int(each["number"]) for each in found) == list(range(6000))
    assert [each["time"] for each in found] == sorted(each["time"] for each in found)


def _write_many(folder: Path, start: int) -> None:
    reads = AccessLog(folder, 90, gather=0.001)
    reads.start()
    for number in range(start, start + 2000):
        reads.record((NOON + timedelta(milliseconds=number % 2000)).timestamp(), told(number))
    reads.close()
    os._exit(0)


def test_lines_are_read_from_a_moment_on_and_torn_ones_left_out(tmp_path: Path) -> None:
    reads = log_in(tmp_path)
    for number in range(4):
        reads.record((NOON + timedelta(hours=11 * number)).timestamp(), told(number))
    reads.close()
    with (tmp_path / "2031-05-02.jsonl").open("a") as file:
        file.write('{"time": "2031-05-02T23:59\n[1]\n\n{"number": 9}\n')
    assert numbers(tmp_path) == [0, 1, 2, 3]
    assert numbers(tmp_path, format_precise_timestamp(NOON + timedelta(hours=11))) == [1, 2, 3]
    assert numbers(tmp_path, format_precise_timestamp(NOON + timedelta(hours=12))) == [2, 3]
    assert numbers(tmp_path / "nowhere") == []
