"""Command `check`: counts, digest and problems of a store."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from backends import Record, open_store
from chalk_flask.audit.events import read_latest_events, record_event
from chalk_flask.storage import COLLECTIONS
from tests.cli.conftest import SAMPLE, RunCommand
from tests.support.storage.failures import file_size_limit


def test_equal_rosters_have_equal_digests_on_every_backend(run: RunCommand) -> None:
    digests = set()
    for url in ("sqlite:///chalk.db", "json:///chalk"):
        assert run("import", SAMPLE, "--storage", url).code == 0
        checked = run("check", "--storage", url, "--json").json
        assert checked["ok"], checked["problems"]
        assert checked["counts"]["users"] > 10
        assert set(checked["counts"]) <= {path.stem for path in SAMPLE.glob("*.csv")}
        digests.add(checked["digest"])
    assert len(digests) == 1


def test_invalid_store_exits_with_1(run: RunCommand, tmp_path: Path) -> None:
    run("import", SAMPLE)
    with open_store(f"sqlite:///{tmp_path}/chalk.db", COLLECTIONS) as store, store.write("default") as transaction:
        transaction.put("users", [Record("broken", b'{"sourcedId":"broken"}')])
    result = run("check", "--json")
    assert (result.code, result.json["ok"]) == (1, False)
    assert result.json["problems"][0].startswith("users 'broken': not in canonical form")
    assert "NOT valid" in run("check").out


@pytest.mark.parametrize(
    ("url", "limit"),
    [
        ("sqlite:///chalk.db", 33_000),  # what the shared memory of readers needs, and less than the log of writes has
        ("json:///chalk", 0),
    ],
)
def test_check_on_a_full_disk_is_not_recorded(run: RunCommand, tmp_path: Path, url: str, limit: int) -> None:
    run("import", SAMPLE, "--storage", url)
    place = url.replace("///", f"///{tmp_path}/")
    with open_store(place, COLLECTIONS) as service, service.read("default"):
        with service.write("default") as transaction:
            record_event(transaction, "default", "import.committed", files=["x" * 100_000])
        with file_size_limit(limit):
            result = run("check", "--storage", url, "--json")
    assert (result.code, result.json["ok"]) == (0, True)
    assert "The result is not stored, because the store cannot be written" in result.err
    assert recorded_checks(place) == []


def test_check_does_not_write_to_a_damaged_store(run: RunCommand, tmp_path: Path) -> None:
    run("import", SAMPLE)
    replace_index_page(tmp_path / "chalk.db", "users:username", "users:email")
    result = run("check")
    assert result.code == 1
    assert "The result is not stored, because the store is damaged." in result.err
    assert recorded_checks(f"sqlite:///{tmp_path}/chalk.db") == []


def replace_index_page(path: Path, index: str, other: str) -> None:
    """Overwrite the first page of an index with that of another one, as a failing disk may do."""
    with closing(sqlite3.connect(path)) as connection:
        [[size]] = connection.execute("PRAGMA page_size")
        pages = dict(connection.execute("SELECT name, rootpage FROM sqlite_master WHERE type = 'index'"))
    with path.open("r+b") as file:
        file.seek((pages[other] - 1) * size)
        page = file.read(size)
        file.seek((pages[index] - 1) * size)
        file.write(page)


def recorded_checks(url: str) -> list[dict[str, Any]]:
    with open_store(url, COLLECTIONS) as store:
        return list(read_latest_events(store, "default", event="store.checked"))


def test_check_is_recorded_in_the_audit_log(run: RunCommand, tmp_path: Path) -> None:
    run("import", SAMPLE)
    digest = run("check", "--json").json["digest"]
    [event] = recorded_checks(f"sqlite:///{tmp_path}/chalk.db")
    assert (event["problems"], event["digest"]) == (0, digest)
    assert event["by"]
