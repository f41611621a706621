"""Versions of a roster: writes of grade tools are told from those of imports and unknown writers."""

from __future__ import annotations

import pytest

from backends import Backend
from chalk_flask.roster.changes import clock
from chalk_flask.roster.changes.version import RosterVersion, only_tools_wrote
from tests.roster.conftest import Load, objects
from tests.roster.gradebook.conftest import RESULT, put
from tests.support.packages import PackageBuilder


@pytest.mark.parametrize(
    ("after", "expected"),
    [
        (RosterVersion(7, 3, "t2", "t1"), True),
        (RosterVersion(8, 4, "t3", "t1"), True),
        (RosterVersion(8, 4, "t3", "t3"), False),
        (RosterVersion(8, 3, "t2", "t1"), False),
        (RosterVersion(8, 2, "t3", "t1"), False),
    ],
)
def test_version_tells_tools_from_other_writers(after: RosterVersion, expected: bool) -> None:
    assert only_tools_wrote(RosterVersion(7, 3, "t2", "t1"), after) is expected


def test_only_imports_move_the_import_timestamp(store: Backend, load: Load) -> None:
    report = load(store, PackageBuilder())
    put(store, "results", "r", RESULT)
    with store.read("default") as snapshot:
        latest, latest_import = clock.latest_timestamps(snapshot)
    assert latest == objects(store, "results")["r"]["dateLastModified"] > latest_import == report.timestamp
