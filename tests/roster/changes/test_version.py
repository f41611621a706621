"""Versions of a roster, which distinguish writes of grade tools from those of imports and unknown writers."""

from __future__ import annotations

from functools import partial

import pytest

from backends import Backend
from chalk_flask.oneroster.schemas import FILES
from chalk_flask.roster.changes import clock, write_with_final_timestamp
from chalk_flask.roster.changes.version import (
    RosterVersion,
    find_tool_writes,
    has_conflicts,
    only_tools_wrote,
    roster_version,
)
from tests.roster.conftest import Load, bodies, objects
from tests.roster.gradebook.conftest import RESULT, delete, put
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


def test_other_collections_are_no_writes_of_tools(store: Backend, load: Load) -> None:
    load(store, PackageBuilder())
    with store.read("default") as snapshot:
        before = roster_version(snapshot)
    put(store, "results", "r", RESULT)
    with store.read("default") as snapshot:
        assert find_tool_writes(snapshot, before) == {"results": ["r"]}
    org = FILES["orgs"].record(FILES["orgs"].normalize(bodies(store)["orgs"]["org-1"]) | {"name": "X"})
    with write_with_final_timestamp(partial(store.write, "default"), "default", 0.05, by_tool=True) as writer:
        writer.put("orgs", lambda timestamp: [clock.record_with_timestamp(org, timestamp)], lambda: ["org-1"])
        writer.finish()
    with store.read("default") as snapshot:
        assert find_tool_writes(snapshot, before) is None


def test_deleted_record_may_refer_to_a_deleted_one(store: Backend, load: Load) -> None:
    load(store, PackageBuilder())
    delete(store, "lineItems", "item-1")
    with store.read("default") as snapshot:
        assert not has_conflicts(snapshot, {"lineItems": ["item-1"], "results": ["result-1"]})
    results = FILES["results"]
    data = results.normalize(bodies(store)["results"]["result-1"])
    with store.write("default") as transaction:
        transaction.put("results", [results.record(data | {"status": "active"})])
        assert has_conflicts(transaction, {"results": ["result-1"]})
        assert has_conflicts(transaction, {"lineItems": ["item-1"]})
        transaction.put("results", [results.record(data | {"lineItem": "unknown"})])
        assert has_conflicts(transaction, {"results": ["result-1"]})
