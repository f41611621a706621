"""Packages that ship with the project: rules for each, and for the two test packages."""

from __future__ import annotations

import json
import re
from datetime import date
from pathlib import Path

import pytest

from tests.demo.csv_packages import (
    BOOLEANS,
    DATES,
    EXPECTED,
    HEADERS,
    PACKAGES,
    REQUIRED,
    SAFE_ID,
    TARGETS,
    VOCABULARIES,
    Package,
    cells,
    ids,
    items,
    load,
    read,
)


@pytest.mark.parametrize("folder", PACKAGES.values(), ids=PACKAGES)
def test_manifest_declares_exactly_the_files(folder: Path) -> None:
    head, *rows = read(folder / "manifest.csv")
    declared = {prop[5:]: mode for prop, mode in rows if prop.startswith("file.")}
    present = {path.stem for path in folder.glob("*.csv")} - {"manifest"}
    assert head == ["propertyName", "value"]
    assert declared == {name: "bulk" if name in present else "absent" for name in HEADERS}
    assert dict(rows)["oneroster.version"] == "1.1"
    assert dict(rows)["manifest.version"] in ("1.0", "1")


def test_ids_are_unique_and_safe(package: Package) -> None:
    for name, rows in package.items():
        keys = [row["sourcedId"] for row in rows]
        assert len(keys) == len(set(keys)), name
        assert all(SAFE_ID.fullmatch(key) for key in keys), name


def test_required_cells_are_filled(package: Package) -> None:
    empty = [
        (n, r["sourcedId"], c) for n, rows in package.items() for r in rows for c in REQUIRED[n].split() if not r[c]
    ]
    assert empty == []


def test_references_resolve(package: Package) -> None:
    existing = {name: ids(package, name) for name in HEADERS}
    dangling = [
        (name, column, value)
        for name, column, cell in cells(package)
        for value in items(cell)
        if (target := name if column == "parentSourcedId" else TARGETS.get(column)) and value not in existing[target]
    ]
    assert dangling == []
    assert existing["demographics"] <= existing["users"]


def test_vocabulary_tokens_are_of_the_standard(package: Package) -> None:
    unknown = [
        (name, column, token)
        for name, column, cell in cells(package)
        if (vocabulary := VOCABULARIES.get((name, column)))
        for token in items(cell.lower() if (name, column) in BOOLEANS else cell)
        if token not in vocabulary
    ]
    assert unknown == []


def test_dates_years_and_numbers_are_well_formed(package: Package) -> None:
    for _, column, value in cells(package):
        if column in DATES:
            assert date.fromisoformat(value).isoformat() == value
        if column == "schoolYear":
            assert re.fullmatch(r"\d{4}", value)
        if column in ("score", "resultValueMin", "resultValueMax"):
            assert re.fullmatch(r"-?\d+(\.\d+)?", value)


def test_references_have_targets_of_the_right_type(package: Package) -> None:
    sessions = {row["sourcedId"]: row["type"] for row in package["academicSessions"]}
    schools = ids(package, "orgs", type="school")
    assert {sessions[r["gradingPeriodSourcedId"]] for r in package["lineItems"]} <= {"gradingPeriod"}
    assert {sessions[t] for r in package["classes"] for t in items(r["termSourcedIds"])} <= {"term", "semester"}
    assert {sessions[y] for r in package["courses"] if (y := r["schoolYearSourcedId"])} <= {"schoolYear"}
    assert {r["schoolSourcedId"] for name in ("classes", "enrollments") for r in package[name]} <= schools
    assert {r["studentSourcedId"] for r in package["results"]} <= ids(package, "users", role="student")


def test_subjects_and_subject_codes_are_parallel(package: Package) -> None:
    for row in package["courses"] + package["classes"]:
        assert len(items(row["subjects"])) == len(items(row["subjectCodes"])), row["sourcedId"]


def test_minimal_package_has_the_seven_usual_files() -> None:
    usual = {"academicSessions", "classes", "courses", "enrollments", "manifest", "orgs", "users"}
    assert {path.stem for path in PACKAGES["minimal"].iterdir()} == usual


def test_quirks_package_differs_in_bom_line_ends_and_column_order() -> None:
    for name in HEADERS:
        path = PACKAGES["quirks"] / f"{name}.csv"
        first_line = path.read_bytes().split(b"\n", 1)[0]
        standard = HEADERS[name].split(",")
        assert first_line.startswith(b"\xef\xbb\xbf")
        assert not first_line.endswith(b"\r")
        assert read(path)[0][: len(standard)] != standard


def test_quirks_package_has_the_habits_of_older_systems() -> None:
    demographics = read(PACKAGES["quirks"] / "demographics.csv")[0]
    places = list(cells(load(PACKAGES["quirks"])))
    assert {"userSourcedId", "birthdate"} <= set(demographics)
    assert {value for _, column, value in places if column == "status"} == {"active", "inactive", "tobedeleted"}
    assert {len(value) for _, column, value in places if column == "dateLastModified"} == {10, 24}
    assert ("orgs", "type", "local") in places
    assert ("users", "enabledUser", "TRUE") in places


def test_quirks_expectation_has_a_record_for_every_row() -> None:
    expected = json.loads(EXPECTED.read_text(encoding="utf-8"))
    quirks = load(PACKAGES["quirks"])
    assert set(expected) == set(HEADERS) - {"classResources", "courseResources"}
    for name, records in expected.items():
        status = {r["sourcedId"]: "active" if r["status"] in ("", "active") else "tobedeleted" for r in quirks[name]}
        assert [r["sourcedId"] for r in records] == sorted(status)
        assert {r["sourcedId"]: r["status"] for r in records} == status
