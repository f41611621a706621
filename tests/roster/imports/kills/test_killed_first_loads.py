"""Killed first loads that write rows while they read them: each leaves the whole roster or none."""

from __future__ import annotations

from pathlib import Path

import pytest

from backends import open_store, store_exists
from chalk_flask.roster.imports import ImportOptions, import_package
from chalk_flask.roster.integrity.checker import check_store
from chalk_flask.storage import COLLECTIONS
from tests.roster.imports.kills.fork_server import fork_server
from tests.support.packages import large_package

KILLS = {"first load": 12, "parsed first load": 5}

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(
    ("backend_kind", "task"), [("json", "first load"), ("sqlite", "first load"), ("sqlite", "parsed first load")]
)
def test_killed_first_load_leaves_whole_roster_or_none(backend_kind: str, task: str, tmp_path: Path) -> None:
    path = large_package(enrollments=2000).zip(tmp_path / "first.zip")
    with open_store("memory:", COLLECTIONS) as store:
        import_package(store, "default", path, ImportOptions())
        after = check_store(store)
    empty = 0
    with fork_server(tmp_path, backend_kind) as server:
        server.save()
        for _ in server.kill_repeatedly(task, path, KILLS[task]):
            if not store_exists(server.url):
                continue
            with open_store(server.url, COLLECTIONS) as store:
                report = check_store(store)
                assert report.problems == []
                if not report.counts:
                    empty += 1
                    import_package(store, "default", path, server.options)
                    report = check_store(store)
                assert (report.counts, report.digest) == (after.counts, after.digest)
    assert empty, "some were killed before their commit"
