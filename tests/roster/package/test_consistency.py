"""Rows that are valid each, but refer to a record of the wrong type or contradict each other."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from backends import Backend
from chalk_flask.roster.imports.options import InvalidRows
from chalk_flask.roster.imports.report import ImportReport
from tests.roster.conftest import UNLIMITED, Load, objects
from tests.support.packages import PackageBuilder, delta_package, small_row

STRICT = replace(UNLIMITED, strict=True)

Change = Callable[[PackageBuilder], PackageBuilder]


def class_of_district(package: PackageBuilder) -> PackageBuilder:
    return package.set("classes", "class-2", schoolSourcedId="org-1")


def course_of_term(package: PackageBuilder) -> PackageBuilder:
    return package.set("courses", "course-1", schoolYearSourcedId="term-1")


def class_in_grading_period(package: PackageBuilder) -> PackageBuilder:
    return package.set("classes", "class-2", termSourcedIds="term-1,period-1")


def enrollment_at_other_school(package: PackageBuilder) -> PackageBuilder:
    return package.set("enrollments", "enr-1", schoolSourcedId="org-3")


def second_primary_teacher(package: PackageBuilder) -> PackageBuilder:
    package.set("enrollments", "enr-2", primary="true")
    other = {"sourcedId": "enr-3", "userSourcedId": "pupil-2"}
    package.rows["enrollments"].append(package.row("enrollments", "enr-2") | other)
    return package


def reversed_term(package: PackageBuilder) -> PackageBuilder:
    return package.set("academicSessions", "term-1", endDate="2026-08-16")


def no_school(package: PackageBuilder) -> PackageBuilder:
    for row in package.rows["orgs"]:
        row["type"] = "district"
    return package.only("orgs")


CASES = [
    (class_of_district, ("not_a_school", "classes.csv", 3, "schoolSourcedId", "org-1")),
    (course_of_term, ("not_a_school_year", "courses.csv", 2, "schoolYearSourcedId", "term-1")),
    (class_in_grading_period, ("not_a_term", "classes.csv", 3, "termSourcedIds", "period-1")),
    (enrollment_at_other_school, ("other_school", "enrollments.csv", 2, "schoolSourcedId", "org-3")),
    (second_primary_teacher, ("two_primary_teachers", "enrollments.csv", 4, "classSourcedId", "class-1")),
    (reversed_term, ("ends_before_it_begins", "academicSessions.csv", 3, "endDate", "2026-08-16")),
    (no_school, ("no_school", "orgs.csv", None, None, None)),
]

Place = tuple[str, str | None, int | None, str | None, str | None]


def places(report: ImportReport, kind: str = "warnings") -> list[Place]:
    return [(p.code, p.file, p.row, p.column, p.value) for p in getattr(report.problems, kind)]


@pytest.mark.reading("I-33")
@pytest.mark.parametrize(("change", "place"), CASES)
def test_contradiction_is_a_warning(store: Backend, load: Load, change: Change, place: Place) -> None:
    assert places(load(store, change(PackageBuilder()))) == [place]


@pytest.mark.reading("I-33")
@pytest.mark.parametrize(("change", "place"), CASES)
def test_strict_import_rejects_a_contradiction(store: Backend, load: Load, change: Change, place: Place) -> None:
    assert places(load(store, change(PackageBuilder()), "refused", STRICT), "errors") == [place]


@pytest.mark.parametrize(("change", "place"), CASES[:-1])
def test_contradiction_with_stored_records_is_a_warning(
    store: Backend, load: Load, change: Change, place: Place
) -> None:
    load(store, PackageBuilder())
    file = str(place[1]).removesuffix(".csv")
    package = change(PackageBuilder()).only(file)
    delta = delta_package(**{file: package.rows[file]})
    assert places(load(store, delta, "checked", dry_run=True)) == [place]
    assert places(load(store, package)) == [place]


def test_valid_packages_have_no_warnings(store: Backend, load: Load) -> None:
    assert places(load(store, PackageBuilder(), options=STRICT)) == []
    package = delta_package(
        orgs=[small_row("orgs", "org-1", type="local")], enrollments=[small_row("enrollments", "enr-1")]
    )
    assert places(load(store, package, options=STRICT)) == []
    package = PackageBuilder().set("enrollments", "enr-1", primary="true")
    assert places(load(store, package.set("enrollments", "enr-2", primary="true"), options=STRICT)) == []


def test_second_primary_teacher_of_a_stored_class_is_found(store: Backend, load: Load) -> None:
    load(store, PackageBuilder().set("enrollments", "enr-2", primary="true"))
    other = small_row("enrollments", "enr-2", sourcedId="enr-3", userSourcedId="pupil-2", primary="true")
    place = ("two_primary_teachers", "enrollments.csv", 2, "classSourcedId", "class-1")
    assert places(load(store, delta_package(enrollments=[other]), "refused", STRICT), "errors") == [place]
    former = small_row("enrollments", "enr-2", primary="false")
    assert places(load(store, delta_package(enrollments=[other, former]), options=STRICT)) == []


def without_readable_orgs(package: PackageBuilder) -> PackageBuilder:
    package.raw["orgs.csv"] = b"sourcedId,name\r\n"
    return package


def with_invalid_schools(package: PackageBuilder) -> PackageBuilder:
    return package.set("orgs", "org-2", status="x").set("orgs", "org-3", type="campus")


@pytest.mark.parametrize("change", [without_readable_orgs, with_invalid_schools])
@pytest.mark.parametrize("invalid_rows", ["reject", "quarantine"])
def test_no_school_is_not_reported_if_its_row_may_be_invalid(
    store: Backend, load: Load, change: Change, invalid_rows: InvalidRows
) -> None:
    options = replace(UNLIMITED, invalid_rows=invalid_rows)
    is_applied = change is with_invalid_schools and invalid_rows == "quarantine"
    report = load(store, change(PackageBuilder()), "committed" if is_applied else "refused", options)
    assert "no_school" not in {warning.code for warning in report.problems.warnings}


def test_primary_teacher_who_is_enrolled_twice_is_no_second_one(store: Backend, load: Load) -> None:
    package = PackageBuilder().set("enrollments", "enr-2", primary="true")
    again = package.row("enrollments", "enr-2") | {"sourcedId": "enr-3"}
    package.rows["enrollments"].append(again)
    assert places(load(store, package, options=STRICT)) == []
    delta = delta_package(enrollments=[again | {"sourcedId": "enr-4"}])
    assert places(load(store, delta, options=STRICT)) == []


def test_repeated_row_of_a_primary_teacher_is_no_second_one(store: Backend, load: Load) -> None:
    package = PackageBuilder().set("enrollments", "enr-2", primary="true")
    package.rows["enrollments"].append(package.row("enrollments", "enr-2") | {"userSourcedId": "pupil-2"})
    report = load(store, package, "refused")
    assert places(report) == []
    assert [error.code for error in report.problems.errors] == ["repeated_id"]


def test_many_warnings_are_counted(store: Backend, load: Load) -> None:
    package = PackageBuilder()
    for number in range(1234):
        row = {"sourcedId": f"more-{number}", "schoolSourcedId": "org-3"}
        package.rows["enrollments"].append(package.row("enrollments", "enr-1") | row)
    warnings = load(store, package).problems.warnings
    assert [warning.row for warning in warnings] == [*range(4, 14), None]
    assert warnings[-1].message == "1,224 more rows have the problem other_school"


def test_quarantine_with_strict_sets_contradicting_rows_aside(store: Backend, load: Load) -> None:
    package = class_of_district(PackageBuilder())
    report = load(store, package, options=replace(STRICT, invalid_rows="quarantine"))
    assert (report.quarantined, set(objects(store, "classes"))) == ({"classes": 1}, {"class-1"})
