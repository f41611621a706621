"""Change thresholds: which imports are held."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import cast

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from backends import Backend, open_store
from chalk_flask.roster.diff.change_set import Outcome
from chalk_flask.roster.imports import ImportOptions, ImportReport, import_package
from chalk_flask.roster.imports.approval import approve
from chalk_flask.roster.imports.thresholds import DISABLED, ChangeThresholds, Threshold, parse_threshold
from chalk_flask.storage import COLLECTIONS
from tests.roster.conftest import objects
from tests.roster.imports.conftest import held_packages, hold_folder, import_zip
from tests.support.packages import (
    SMALL_PACKAGE_USERS,
    PackageBuilder,
    delta_package,
    package_with_extra_users,
    package_with_users,
    small_row,
)


@pytest.mark.parametrize(
    ("stored", "deleted", "state"),
    [(200, 20, "committed"), (200, 21, "held"), (50, 10, "committed"), (50, 11, "held"), (100, 10, "committed")],
)
def test_deleting_above_both_limits_is_held(
    store: Backend, options: ImportOptions, tmp_path: Path, stored: int, deleted: int, state: str
) -> None:
    assert import_zip(store, package_with_users(stored), options, tmp_path).state == "committed"
    report = import_zip(store, package_with_users(stored - deleted), options, tmp_path)
    assert (report.state, report.total()["deleted"]) == (state, deleted)
    assert [(reason.file, reason.what, reason.count, reason.stored) for reason in report.exceeded] == (
        [("users", "deleted", deleted, stored)] if state == "held" else []
    )


@pytest.mark.parametrize(
    ("stored", "updated", "created", "state"),
    [
        *((100, 96, 0, "committed"), (101, 75, 0, "committed"), (101, 76, 0, "held")),
        *((104, 78, 0, "committed"), (104, 79, 0, "held")),
        *((104, 0, 300, "committed"), (104, 78, 300, "committed"), (104, 79, 1, "held")),
    ],
)
def test_changing_above_both_limits_is_held(
    store: Backend, options: ImportOptions, tmp_path: Path, stored: int, updated: int, created: int, state: str
) -> None:
    assert import_zip(store, package_with_users(stored), options, tmp_path).state == "committed"
    package = package_with_extra_users(range(stored - SMALL_PACKAGE_USERS + created), renamed=range(updated))
    report = import_zip(store, package, options, tmp_path)
    assert (report.state, report.total()["updated"], report.total()["created"]) == (state, updated, created)
    assert [reason.what for reason in report.exceeded] == (["changed"] if state == "held" else [])


@pytest.mark.parametrize(
    ("stored", "deleted", "state"),
    [(5, 5, "held"), (5, 3, "held"), (5, 2, "committed"), (2, 2, "held"), (4, 2, "committed")],
)
def test_deleting_more_than_half_of_a_small_file_is_held(
    store: Backend, options: ImportOptions, tmp_path: Path, stored: int, deleted: int, state: str
) -> None:
    package = PackageBuilder()
    package.rows["resources"] = [
        {"sourcedId": f"r-{number}", "vendorResourceId": f"urn:{number}"} for number in range(stored)
    ]
    package.rows["classResources"] = package.rows["courseResources"] = []
    assert import_zip(store, package, options, tmp_path).state == "committed"
    package.rows["resources"] = package.rows["resources"][deleted:] or [
        {"sourcedId": "r-new", "vendorResourceId": "urn:x"}
    ]
    report = import_zip(store, package, options, tmp_path)
    assert (report.state, report.total()["deleted"]) == (state, deleted)
    assert [(reason.file, reason.what, reason.count, reason.stored) for reason in report.exceeded] == (
        [("resources", "half", deleted, stored)] if state == "held" else []
    )


def test_bulk_file_with_only_a_header_is_held(store: Backend, options: ImportOptions, tmp_path: Path) -> None:
    assert import_zip(store, PackageBuilder(), options, tmp_path).state == "committed"
    package = PackageBuilder().drop("results", "result-1")
    report = import_zip(store, package, options, tmp_path)
    assert report.state == "held"
    assert [reason.to_text() for reason in report.exceeded] == [
        "results: has only a header and would delete 1 of 1 stored records"
    ]
    empty_delta = delta_package(results=[], users=[small_row("users", "pupil-2", givenName="Ada")])
    assert import_zip(store, empty_delta, options, tmp_path).state == "committed"
    unlimited = replace(options, thresholds=ChangeThresholds(deleted=None))
    assert import_zip(store, package, unlimited, tmp_path).state == "committed"
    later = import_zip(store, PackageBuilder().drop("results", "result-1"), options, tmp_path)
    assert later.state == "unchanged"  # no record of the file is active any more


def test_dependents_of_deleted_records_count(store: Backend, options: ImportOptions, tmp_path: Path) -> None:
    assert import_zip(store, PackageBuilder(), options, tmp_path).state == "committed"
    package = PackageBuilder().only("classes").drop("classes", "class-1")
    report = import_zip(store, package, options, tmp_path)
    assert (report.state, [reason.file for reason in report.exceeded]) == ("held", ["classResources", "enrollments"])


def district_with_small_school() -> PackageBuilder:
    """Return a package with a large school, and the school org-4 with five people and two classes."""
    package = package_with_users(300)
    package.rows["orgs"].append(small_row("orgs", "org-3", sourcedId="org-4"))
    for number in range(5):
        row = {"sourcedId": f"small-{number}", "orgSourcedIds": "org-4"}
        package.rows["users"].append(small_row("users", "pupil-2") | row)
    for number in range(40):
        key, is_small = f"more-{number}", number < 2
        row = {"sourcedId": key, "schoolSourcedId": "org-4" if is_small else "org-2"}
        package.rows["classes"].append(small_row("classes", "class-1") | row)
        for user in range(5):
            references = {"classSourcedId": key, "userSourcedId": f"small-{user}" if is_small else f"u-{user}"}
            cells = {"sourcedId": f"{key}-{user}", "schoolSourcedId": row["schoolSourcedId"], **references}
            package.rows["enrollments"].append(small_row("enrollments", "enr-1") | cells)
    return package


def is_of_small_school(row: dict[str, str]) -> bool:
    """Return True for org-4 and for each row of its people and classes."""
    return "org-4" in (row["sourcedId"], row.get("orgSourcedIds"), row.get("schoolSourcedId"))


def without_small_school() -> PackageBuilder:
    """Return the large school alone."""
    package = district_with_small_school()
    for name, rows in package.rows.items():
        package.rows[name] = [row for row in rows if not is_of_small_school(row)]
    return package


def deleting_small_school() -> PackageBuilder:
    """Return a delta package that deletes org-4 with its people and classes."""
    package, names = district_with_small_school(), ("orgs", "classes", "users", "enrollments")
    return delta_package(
        **{
            name: [row | {"status": "tobedeleted"} for row in package.rows[name] if is_of_small_school(row)]
            for name in names
        }
    )


SCHOOL_DELETIONS: dict[str, Callable[[], PackageBuilder]] = {
    "bulk": without_small_school,
    "delta": deleting_small_school,
    "bulk file of orgs": lambda: without_small_school().only("orgs"),
    "delta file of orgs": lambda: delta_package(orgs=[{"sourcedId": "org-4", "status": "tobedeleted"}]),
}


@pytest.mark.parametrize("case", SCHOOL_DELETIONS)
def test_deleting_a_small_school_that_is_in_use_is_held(
    store: Backend, options: ImportOptions, tmp_path: Path, case: str
) -> None:
    assert import_zip(store, district_with_small_school(), options, tmp_path).state == "committed"
    report = import_zip(store, SCHOOL_DELETIONS[case](), options, tmp_path)
    assert report.files["users"].counts["deleted"] == 5
    assert report.state == "held", report.to_text()
    assert [reason.to_text() for reason in report.exceeded] == [
        "orgs: would delete 1 of 3 stored schools that have active users, classes or enrollments"
    ]
    approved = approve(store, "default", report.run, hold_folder(options))
    assert (approved.state, approved.files["enrollments"].counts["deleted"]) == ("committed", 10)


def test_deleting_an_org_that_is_not_in_use_is_not_held(store: Backend, options: ImportOptions, tmp_path: Path) -> None:
    package = district_with_small_school()
    for key, kind in (("org-5", "school"), ("org-6", "department"), ("org-7", "department")):
        package.rows["orgs"].append(small_row("orgs", "org-3", sourcedId=key, type=kind))
    package.set("users", "small-0", orgSourcedIds="org-4,org-6").set("courses", "course-1", orgSourcedId="org-1")
    assert import_zip(store, package, options, tmp_path).state == "committed"
    package.drop("orgs", "org-5", "org-6").set("users", "small-0", orgSourcedIds="org-4")
    assert import_zip(store, package, options, tmp_path).state == "committed"
    moved = district_with_small_school()
    for rows in moved.rows.values():
        for row in rows:
            for column in ("orgSourcedIds", "schoolSourcedId"):
                row |= {column: "org-2"} if row.get(column) == "org-4" else {}
    assert import_zip(store, moved, options, tmp_path).state == "committed"
    assert import_zip(store, moved.drop("orgs", "org-4"), options, tmp_path).state == "committed"


def test_school_that_its_people_leave_in_the_same_package_is_held(
    store: Backend, options: ImportOptions, tmp_path: Path
) -> None:
    assert import_zip(store, PackageBuilder(), options, tmp_path).state == "committed"
    package = PackageBuilder().drop("orgs", "org-3").set("classes", "class-2", schoolSourcedId="org-2")
    report = import_zip(store, package, options, tmp_path)
    assert [(reason.file, reason.what, reason.count, reason.stored) for reason in report.exceeded] == [
        ("orgs", "school", 1, 2)
    ]
    assert ImportReport.from_dict(report.to_dict()).exceeded == report.exceeded
    unlimited = replace(options, thresholds=ChangeThresholds(deleted=None))
    assert import_zip(store, package, unlimited, tmp_path).state == "committed"


@given(
    counts=st.fixed_dictionaries(
        {name: st.integers(0, 60) for name in ("created", "updated", "deleted", "revived", "unchanged")}
    ),
    active=st.integers(0, 120),
    deleted=st.builds(Threshold, st.integers(0, 100), st.integers(0, 50)),
    changed=st.builds(Threshold, st.integers(0, 200), st.integers(0, 120)),
)
def test_threshold_is_exceeded_above_both_limits_only(
    counts: dict[str, int], active: int, deleted: Threshold, changed: Threshold
) -> None:
    outcomes = cast(dict[Outcome, int], counts)

    def count_active(limit: int | None) -> int:
        return active if limit is None else min(active, limit)

    reasons = list(ChangeThresholds(deleted, changed).find_exceeded("users", outcomes, count_active))
    exceeded = {reason.what for reason in reasons}
    written = counts["updated"] + counts["deleted"]
    deletes = counts["deleted"] > Fraction(deleted.percent, 100) * active and counts["deleted"] > deleted.rows
    half = counts["deleted"] > Fraction(max(50, deleted.percent), 100) * active and active >= 2 and not deletes
    changes = written > Fraction(changed.percent, 100) * active and active > changed.rows
    assert exceeded == {
        name for name, is_above in (("deleted", deletes), ("half", half), ("changed", changes)) if is_above
    }
    assert {reason.stored for reason in reasons} <= {active}
    assert not list(DISABLED.find_exceeded("users", outcomes, count_active))


def test_threshold_text_round_trip() -> None:
    assert [str(parse_threshold(text)) for text in ("10%,10", " 5 , 0 ", "100 %, 7")] == ["10%,10", "5%,0", "100%,7"]
    assert parse_threshold("OFF") is None
    for text in ("", "10", "10%", "-1,5", "1.5%,3", "10%,10,10", "x"):
        with pytest.raises(ValueError, match="is not a threshold"):
            parse_threshold(text)


def test_dry_run_reports_exceeded_threshold_without_hold(
    store: Backend, options: ImportOptions, tmp_path: Path
) -> None:
    import_zip(store, package_with_users(200), options, tmp_path)
    path = package_with_users(150).zip(tmp_path / "package.zip")
    report = import_package(store, "default", path, options, dry_run=True)
    assert (report.state, [reason.count for reason in report.exceeded]) == ("checked", [50])
    assert "It would be held, because it exceeds a change threshold:" in report.to_text()
    assert held_packages(options) == []


numbers = st.sets(st.integers(0, 14))


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(packages=st.lists(st.tuples(numbers, numbers, st.integers(0, 5)), min_size=2, max_size=6))
def test_random_imports_have_the_expected_state(packages: list[tuple[set[int], set[int], int]], tmp_path: Path) -> None:
    options = ImportOptions(
        thresholds=ChangeThresholds(Threshold(10, 2), Threshold(75, 6)), folder=tmp_path / "imports"
    )
    stored: dict[str, str] = {}
    with open_store("memory:", COLLECTIONS) as store:
        for present, renamed, is_valid in packages:
            package = package_with_extra_users(sorted(present), renamed=renamed)
            if not is_valid:
                package.set("users", "pupil-1", enabledUser="perhaps")
            names = {row["sourcedId"]: row["givenName"] for row in package.rows["users"]}
            deleted = len(stored.keys() - names.keys())
            changed = deleted + sum(stored.get(key, name) != name for key, name in names.items())
            is_held = (
                (deleted > 2 and deleted * 10 > len(stored))
                or (len(stored) >= 2 and deleted * 2 > len(stored))
                or (len(stored) > 6 and changed * 4 > 3 * len(stored))
            )
            expected = (
                "refused" if not is_valid else "held" if is_held else "committed" if names != stored else "unchanged"
            )
            assert import_zip(store, package, options, tmp_path).state == expected
            stored = names if expected == "committed" else stored
            users = objects(store, "users").items()
            assert {key: user["givenName"] for key, user in users if user["status"] == "active"} == stored
