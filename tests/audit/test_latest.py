"""Newest entries of the timeline: order, limits of time, and files that are read from their end."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path

import pytest

from backends import Backend
from chalk_flask.audit.access_log import AccessLog
from chalk_flask.audit.events import read_events, read_latest_events, record_event
from chalk_flask.audit.latest import BLOCK_BYTES, LATE_BYTES, read_latest, read_latest_entries
from chalk_flask.times import format_precise_timestamp

MORNING = datetime(2031, 5, 2, 8, 0, tzinfo=UTC)


def at_minute(minutes: float) -> str:
    return format_precise_timestamp(MORNING + timedelta(minutes=minutes))


def write_lines(folder: Path, minutes: list[float], padding: str = "") -> None:
    """Write an entry of the access log for each time, in this order."""
    for number in minutes:
        time = at_minute(number)
        line = f'{{"time":"{time}","tenant":"default","event":"read","minute":{number},"padding":"{padding}"}}\n'
        with (folder / f"{time[:10]}.jsonl").open("a", encoding="utf-8") as file:
            file.write(line)


def minutes_of(folder: Path, since: str = "", until: str = "") -> list[float]:
    return [entry["minute"] for entry in read_latest_entries(folder, since, until)]


@pytest.mark.every_backend
def test_latest_events_are_those_of_the_log_in_reverse(store: Backend) -> None:
    with store.write("default") as transaction:
        for minute in range(1200):
            event = "gradebook.put" if minute % 2 else "token.created"
            record_event(transaction, "default", event, MORNING + timedelta(minutes=minute), minute=minute)
    expected = list(read_events(store, "default"))[::-1]
    assert list(read_latest_events(store, "default")) == expected
    within = list(read_latest_events(store, "default", at_minute(10), at_minute(20), "gradebook.put"))
    assert [event["minute"] for event in within] == [19, 17, 15, 13, 11]


def test_latest_merges_events_and_reads(store: Backend, tmp_path: Path) -> None:
    access_log = AccessLog(tmp_path, 90, interval=3600)
    for minute in (1, 3):
        access_log.record((MORNING + timedelta(minutes=minute)).timestamp(), f'"event":"read","minute":{minute}')
    access_log.close()
    with store.write("default") as transaction:
        for minute in (0, 2):
            record_event(transaction, "default", "gradebook.put", MORNING + timedelta(minutes=minute), minute=minute)

    def minutes(**options: str | bool) -> list[int]:
        return [entry["minute"] for entry in read_latest(store, tmp_path, ["default"], **options)]  # type: ignore[arg-type]  # options

    assert minutes() == [3, 2, 1, 0]
    assert minutes(with_reads=False) == [2, 0]
    assert minutes(event="read") == [3, 1]
    assert minutes(event="gradebook.put", until=at_minute(2)) == [0]


def test_latest_entries_cross_files_and_blocks(tmp_path: Path) -> None:
    minutes = [float(number * 7) for number in range(600)]
    write_lines(tmp_path, minutes, "x" * 500)
    assert len(list(tmp_path.iterdir())) > 2
    assert minutes_of(tmp_path) == minutes[::-1]
    assert minutes_of(tmp_path, at_minute(700), at_minute(1400)) == [
        each for each in minutes[::-1] if 700 <= each < 1400
    ]


def test_latest_entries_of_a_large_file_begin_at_the_limit(tmp_path: Path) -> None:
    minutes = [number / 100 for number in range(6000)]
    write_lines(tmp_path, minutes, "x" * 500)
    assert (tmp_path / "2031-05-02.jsonl").stat().st_size > 4 * (LATE_BYTES + BLOCK_BYTES)
    for limit in (0.0, 0.01, 17.5, 30.0, 59.99):
        assert minutes_of(tmp_path, until=at_minute(limit)) == [each for each in minutes[::-1] if each < limit]


def test_late_lines_are_sorted(tmp_path: Path) -> None:
    write_lines(tmp_path, [1.0, 5.0, 2.0, 4.0, 3.0, 6.0])
    assert minutes_of(tmp_path) == [6.0, 5.0, 4.0, 3.0, 2.0, 1.0]


def test_incomplete_lines_and_other_files_are_skipped(tmp_path: Path) -> None:
    write_lines(tmp_path, [1.0, 2.0])
    with (tmp_path / "2031-05-02.jsonl").open("ab") as file:
        file.write(b'{"time":"2031\nnonsense\n[]\n\xff\n{"time":3}\n')
    (tmp_path / "notes.txt").write_text("other")
    assert minutes_of(tmp_path) == [2.0, 1.0]
    assert minutes_of(tmp_path / "missing") == []


def test_only_the_end_of_the_log_is_read_for_the_first_entries(tmp_path: Path) -> None:
    write_lines(tmp_path, [number / 100 for number in range(6000)], "x" * 500)
    entries = read_latest_entries(tmp_path)
    assert [entry["minute"] for entry in islice(entries, 2)] == [59.99, 59.98]
    (tmp_path / "2031-05-02.jsonl").write_bytes(b"")
    assert len(list(entries)) < 3000
