"""Ids with blanks at their ends or invisible characters: rejected by default, corrected by lenient reading."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson
import pytest

from backends import Backend
from chalk_flask.oneroster.fields.scalars import clean_id
from chalk_flask.oneroster.schemas import FILES
from chalk_flask.roster.imports import ImportReport
from chalk_flask.roster.package.data_file import ReadingOptions
from tests.oneroster.csv.conftest import DEFAULT, load
from tests.support.packages import DELTA_TIMESTAMP, PackageBuilder, deleted_row, delta_package, small_row

QUARANTINE = replace(DEFAULT, invalid_rows="quarantine")
LENIENT = replace(DEFAULT, reading=ReadingOptions(lenient=True))

STRAY_FORMS = [
    "{} ",
    " {}",
    "{}\N{NO-BREAK SPACE}",
    "\N{EM SPACE}{}",
    "{}\N{ZERO WIDTH SPACE}",
    "\N{ZERO WIDTH NO-BREAK SPACE}{}",
    "{}\N{WORD JOINER} ",
    "\N{SOFT HYPHEN}{}",
    "\N{LEFT-TO-RIGHT MARK}{}",
]
"""Forms of an id that look like it."""


def records(store: Backend, name: str) -> dict[str, dict[str, Any]]:
    """Return the active records of a collection by id."""
    with store.read("default") as snapshot:
        bodies = snapshot.get_many(name, list(snapshot.keys(name)))
    return {key: record for key, body in bodies.items() if (record := orjson.loads(body))["status"] == "active"}


def error_texts(report: ImportReport) -> list[str]:
    """Return the errors that the report of a rejected package lists."""
    assert report.state == "refused"
    return [error.to_text() for error in report.problems.errors]


def warnings(report: ImportReport) -> list[str]:
    """Return the warnings of a package that was applied."""
    assert report.state == "committed", report.to_text()
    return [warning.to_text() for warning in report.problems.warnings]


@pytest.mark.parametrize("form", [*STRAY_FORMS, "{0}\N{ZERO WIDTH JOINER}{0}"])
def test_clean_id_has_no_stray_characters(form: str) -> None:
    cell = form.format("o-1")
    assert cell != clean_id(cell) == "o-1" * form.replace("{0}", "{}").count("{}")
    assert clean_id("o 1") == "o 1"


@pytest.mark.reading("I-35")
@pytest.mark.parametrize("form", STRAY_FORMS)
def test_stray_characters_of_an_id_are_named_once(store: Backend, tmp_path: Path, form: str) -> None:
    package = PackageBuilder().set("orgs", "org-2", sourcedId=form.format("org-2"))
    package.set("orgs", "org-3", sourcedId=form.format("org-3"))
    report = load(store, package, tmp_path)
    [text] = error_texts(report)
    assert text.startswith("orgs.csv, row 3, column sourcedId: ")
    assert "begins or ends with a blank, or contains an invisible character (2 rows: 3, 4)" in text
    assert "Remove the blanks at its beginning and end, and invisible characters." in text
    assert report.problems.counts["users.csv", "dangling_reference"] > 0  # counted, not listed


@pytest.mark.reading("I-35")
@pytest.mark.parametrize("form", STRAY_FORMS)
def test_stray_characters_of_references_are_named_once(store: Backend, tmp_path: Path, form: str) -> None:
    stray = form.format("org-2")
    package = PackageBuilder().set("classes", "class-1", schoolSourcedId=stray)
    package.set("enrollments", "enr-1", schoolSourcedId=stray).set("enrollments", "enr-2", schoolSourcedId=stray)
    texts = error_texts(load(store, package, tmp_path))
    assert [text.partition(": ")[0] for text in texts] == [
        "classes.csv, row 2, column schoolSourcedId",
        "enrollments.csv, row 2, column schoolSourcedId",
    ]
    assert "(2 rows: 2, 3)" in texts[1]
    assert all("begins or ends with a blank" in text for text in texts)


@pytest.mark.reading("I-35")
@pytest.mark.parametrize("form", STRAY_FORMS[2:])
def test_stray_characters_in_list_cells_are_named_once(store: Backend, tmp_path: Path, form: str) -> None:
    package = PackageBuilder()
    for row in package.rows["users"]:
        row["orgSourcedIds"] = f"org-1,{form.format('org-2')}"
    [text] = error_texts(load(store, package, tmp_path))
    assert text.startswith("users.csv, row 2, column orgSourcedIds: ")
    assert "(4 rows: 2, 3, 4, 5)" in text


@pytest.mark.reading("I-18", "I-35")
def test_plain_blanks_around_items_of_lists_are_accepted(store: Backend, tmp_path: Path) -> None:
    package = PackageBuilder().set("users", "pupil-2", orgSourcedIds=" org-2,\torg-3 ,")
    assert warnings(load(store, package, tmp_path)) == []
    assert [org["sourcedId"] for org in records(store, "users")["pupil-2"]["orgs"]] == ["org-2", "org-3"]


@pytest.mark.reading("I-35")
def test_same_stray_characters_on_both_sides_are_rejected(store: Backend, tmp_path: Path) -> None:
    package = PackageBuilder().set("courses", "course-1", sourcedId="course-1 ")
    for name in ("classes", "courseResources"):
        for row in package.rows[name]:
            row["courseSourcedId"] = "course-1 "
    assert [text.partition(": ")[0] for text in error_texts(load(store, package, tmp_path))] == [
        "courseResources.csv, row 2, column courseSourcedId",
        "courses.csv, row 2, column sourcedId",
        "classes.csv, row 2, column courseSourcedId",
    ]


@pytest.mark.reading("I-35")
@pytest.mark.parametrize("form", STRAY_FORMS)
def test_lenient_reading_corrects_ids_and_references(store: Backend, tmp_path: Path, form: str) -> None:
    package = PackageBuilder().set("orgs", "org-3", sourcedId=form.format("org-3"))
    package.set("classes", "class-1", schoolSourcedId=form.format("org-2"))
    package.set("users", "pupil-1", orgSourcedIds=f"org-2,{form.format('org-3')}")
    package.set("users", "pupil-2", agentSourcedIds=form.format("parent-1"))
    package.set("demographics", "pupil-1", sourcedId=form.format("pupil-1"))
    counts = {text.partition(": ")[0]: text for text in warnings(load(store, package, tmp_path, LENIENT))}
    is_plain_blank = form.strip() != form and form.strip(" ") == "{}"  # allowed around the items of a list
    expected = {"orgs.csv": 1, "classes.csv": 1, "demographics.csv": 1} | ({} if is_plain_blank else {"users.csv": 2})
    assert counts.keys() == expected.keys()
    for file, count in expected.items():
        assert counts[file].startswith(f"{file}: {count} row{'s' if count > 1 else ''}: ")
        assert counts[file].endswith("They are removed (T-08).")
    assert set(records(store, "orgs")) == {"org-1", "org-2", "org-3"}
    assert records(store, "classes")["class-1"]["school"]["sourcedId"] == "org-2"
    users = records(store, "users")
    assert [org["sourcedId"] for org in users["pupil-1"]["orgs"]] == ["org-2", "org-3"]
    assert [agent["sourcedId"] for agent in users["pupil-2"]["agents"]] == ["parent-1"]
    assert set(records(store, "demographics")) == {"pupil-1"}


@pytest.mark.parametrize("name", ["orgs", "enrollments"])
def test_corrected_ids_must_be_unique(store: Backend, tmp_path: Path, name: str) -> None:
    package = PackageBuilder()
    row = package.rows[name][-1]
    package.rows[name].append({**row, "sourcedId": f"{row['sourcedId']}\xa0"})
    [error] = load(store, package, tmp_path, LENIENT).problems.errors
    assert (error.code, error.row, error.value) == ("repeated_id", len(package.rows[name]) + 1, row["sourcedId"])


@pytest.mark.reading("I-34", "I-35")
def test_stored_record_of_a_quarantined_stray_id_stays(store: Backend, tmp_path: Path) -> None:
    load(store, PackageBuilder(), tmp_path)
    package = PackageBuilder().set("orgs", "org-3", sourcedId="org-3\u200b", name="Renamed")
    package.set("users", "pupil-2", sourcedId=" pupil-2", givenName="Renamed")
    report = load(store, package, tmp_path, QUARANTINE)
    assert report.quarantined == {"orgs": 1, "users": 1}
    assert set(records(store, "orgs")) == {"org-1", "org-2", "org-3"}
    assert set(records(store, "classes")) == {"class-1", "class-2"}
    assert records(store, "users")["pupil-2"]["givenName"] == "Pupil-2"


def store_enrollment(store: Backend, key: str) -> None:
    """Store a copy of an enrollment with an id that an earlier version accepted."""
    resource_type = FILES["enrollments"]
    with store.write("default") as transaction:
        body = transaction.get_many("enrollments", ["enr-1"])["enr-1"]
        transaction.put("enrollments", [resource_type.record(resource_type.normalize(body) | {"sourcedId": key})])


def deleting(key: str) -> PackageBuilder:
    """Return a delta package that deletes an enrollment."""
    return delta_package(enrollments=[deleted_row(key) | {"dateLastModified": DELTA_TIMESTAMP}])


@pytest.mark.reading("I-12", "I-35")
def test_delta_row_deletes_by_a_stray_id_only_what_is_stored_so(store: Backend, tmp_path: Path) -> None:
    load(store, PackageBuilder(), tmp_path)
    [text] = error_texts(load(store, deleting("enr-1 "), tmp_path))
    assert text.startswith("enrollments.csv, row 2, column sourcedId: 'enr-1 ' begins or ends with a blank")
    store_enrollment(store, "enr-1 ")
    assert load(store, deleting("enr-1 "), tmp_path).state == "committed"
    assert set(records(store, "enrollments")) == {"enr-1", "enr-2"}
    assert load(store, deleting("enr-2\xa0"), tmp_path, LENIENT).state == "committed"
    assert set(records(store, "enrollments")) == {"enr-1"}


def test_delta_rows_follow_the_same_rule(store: Backend, tmp_path: Path) -> None:
    load(store, PackageBuilder(), tmp_path)
    package = delta_package(users=[small_row("users", "pupil-2", sourcedId="pupil-2\xa0", givenName="Ada")])
    [text] = error_texts(load(store, package, tmp_path))
    assert "column sourcedId: 'pupil-2\\xa0' begins or ends with a blank" in text
    assert len(warnings(load(store, package, tmp_path, LENIENT))) == 1
    assert records(store, "users")["pupil-2"]["givenName"] == "Ada"
