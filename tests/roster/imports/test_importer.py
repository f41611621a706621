"""What a package says is what the store holds, on every backend."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path
from typing import Any

import orjson
import pytest

from backends import Backend, open_store
from chalk_flask.oneroster.schemas import FILES, RESOURCES
from chalk_flask.roster.imports.importer import ImportOptions
from chalk_flask.roster.verify.checker import check_store
from chalk_flask.storage import COLLECTIONS
from tests.conftest import url_in
from tests.roster.conftest import Load, bodies, objects
from tests.support.packages import CSV_PACKAGES, Made

EXPECTED: dict[str, list[dict[str, Any]]] = orjson.loads((CSV_PACKAGES / "quirks.expected.json").read_bytes())
DEMO = Path(str(files("chalk_flask.demo")))


def served(store: Backend) -> dict[str, list[dict[str, Any]]]:
    """All served records by id, without their stamps."""
    found = {name: [each for _, each in sorted(objects(store, name).items())] for name in sorted(RESOURCES)}
    for each in (each for objects_ in found.values() for each in objects_):
        del each["dateLastModified"]
    return found


def test_a_package_with_every_quirk_is_read_as_the_standard_means_it(store: Backend, load: Load) -> None:
    # In them I-01 (filled status and date), I-03 (names and order of columns), I-08 (children, resources),
    # I-09 (midnight UTC), I-10 (empty cells), I-18 (spaces), I-20 (metadata), I-21 (manifest), I-22 (userIds).
    report = load(store, CSV_PACKAGES / "quirks")
    assert served(store) == EXPECTED
    assert {problem.code for problem in report.problems.warnings} == {
        "filled_state",
        "unknown_column",
        "unknown_property",
    }
    assert check_store(store).problems == []


@pytest.mark.parametrize("package", [CSV_PACKAGES / "minimal", DEMO], ids=["minimal", "demo"])
def test_packages_that_others_might_bring_are_sound(store: Backend, load: Load, package: Path) -> None:
    report = load(store, package)
    assert report.problems.warnings == []
    assert report.total()["created"] == sum(file.rows for file in report.files.values()) > 5
    assert check_store(store).ok


def test_a_zip_and_a_folder_give_the_same_records(load: Load, tmp_path: Path, store: Backend) -> None:
    load(store, Made().folder(tmp_path / "folder"))
    load(store, Made().zip(tmp_path / "package.zip"), "unchanged")


def test_members_stand_in_the_order_of_the_standard_with_metadata_last(store: Backend, load: Load) -> None:
    package = Made()
    package.extra["classes"] = ["metadata.room"]
    load(store, package.set("classes", "class-1", **{"metadata.room": "7"}))
    body = bodies(store)["classes"]["class-1"]
    assert list(orjson.loads(body)) == [
        *("sourcedId", "status", "dateLastModified", "title", "grades", "course", "classType", "school", "terms"),
        *("subjects", "resources", "metadata"),
    ]
    assert b'"href":"\\/courses\\/course-1"' not in body
    assert b'"href":"\\/courses/course-1"' in body


@pytest.mark.parametrize("kind", ["json", "sqlite"])
def test_a_password_is_nowhere_in_the_store(kind: str, tmp_path: Path, load: Load) -> None:  # I-19
    with open_store(url_in(tmp_path / "kept", kind), COLLECTIONS) as store:
        load(store, Made())
    kept = [path.read_bytes() for path in (tmp_path / "kept").rglob("*") if path.is_file()]
    assert any(b"pupil-1.name" in content for content in kept)
    assert not any(b"unspeakable" in content for content in kept)


def test_a_course_without_a_code_has_its_title_for_one(store: Backend, load: Load) -> None:
    load(store, Made().set("courses", "course-1", courseCode=""))
    assert objects(store, "courses")["course-1"]["courseCode"] == "Arithmetic"


def test_codes_that_the_standard_does_not_list_are_kept_with_a_warning(store: Backend, load: Load) -> None:  # V-02
    report = load(store, Made().set("users", "pupil-1", grades="5th, 06").set("courses", "course-1", grades="Fünf"))
    assert objects(store, "users")["pupil-1"]["grades"] == ["5th", "06"]
    assert [(w.code, w.file, w.column) for w in report.problems.warnings] == [
        ("local_code", "courses.csv", "grades"),
        ("local_code", "users.csv", "grades"),
    ]


def test_an_enrollment_in_another_role_is_mapped_when_the_operator_says_so(store: Backend, load: Load) -> None:
    package = Made().set("enrollments", "enr-2", role="aide", primary="true")
    refused = load(store, package, "refused")
    assert [(e.code, e.row, e.column, e.value) for e in refused.problems.errors] == [("bad_value", 3, "role", "aide")]
    load(store, package, options=ImportOptions(map_roles=True))
    enrollment = objects(store, "enrollments")["enr-2"]
    assert (enrollment["role"], enrollment["primary"]) == ("teacher", "false")
    assert objects(store, "enrollments")["enr-1"]["role"] == "student"


def test_an_enrollment_without_a_role_is_never_mapped(store: Backend, load: Load) -> None:
    report = load(store, Made().set("enrollments", "enr-2", role=""), "refused", options=ImportOptions(map_roles=True))
    assert report.problems.errors[0].code == "missing_value"


@pytest.mark.parametrize("word", ["tobedeleted", "inactive"])
def test_a_status_in_a_bulk_file_counts_and_its_date_does_not(store: Backend, load: Load, word: str) -> None:  # I-01
    report = load(store, Made().set("results", "result-1", status=word, dateLastModified="2019-01-01"))
    record = objects(store, "results")["result-1"]
    assert (record["status"], record["dateLastModified"]) == ("tobedeleted", report.timestamp)
    assert [w.code for w in report.problems.warnings] == ["filled_state"]


def test_unknown_columns_and_files_are_ignored_with_a_warning(store: Backend, load: Load) -> None:  # I-03
    package = Made()
    package.extra["orgs"] = ["colour", "", "", "metadata."]
    package.set("orgs", "org-1", colour="red", **{"": "x", "metadata.": "y"})
    package.raw = {"notes.csv": b"a,b\n", "Users.csv": b""}
    report = load(store, package)
    assert {(w.code, w.file, w.column) for w in report.problems.warnings} == {
        ("unknown_column", "orgs.csv", "colour"),
        ("unknown_column", "orgs.csv", ""),
        ("unknown_column", "orgs.csv", "metadata."),
        ("unknown_file", "notes.csv", None),
        ("unknown_file", "Users.csv", None),
    }
    assert any("Rename it to users.csv" in w.remedy for w in report.problems.warnings)
    org = bodies(store)["orgs"]["org-1"]
    assert b"red" not in org
    assert b"metadata" not in org


def test_a_file_with_a_header_alone_holds_no_records(store: Backend, load: Load) -> None:
    package = Made()
    package.rows = {name: [] for name in FILES} | {"orgs": package.rows["orgs"]}
    report = load(store, package)
    assert {name: file.rows for name, file in report.files.items()} == dict.fromkeys(FILES, 0) | {"orgs": 3}


def test_ids_may_hold_anything_and_are_told_apart_by_case(store: Backend, load: Load) -> None:  # I-27
    odd = ["a/b ?#é", "A/B ?#é", '"; {quoted}', " 1", "٣", "x" * 255]
    package = Made().only("orgs")
    package.rows["orgs"] = [{"sourcedId": key, "name": "N", "type": "school"} for key in odd]
    package.rows["orgs"].append({"sourcedId": "child", "name": "C", "type": "school", "parentSourcedId": "a/b ?#é"})
    load(store, package)
    found = objects(store, "orgs")
    assert found.keys() == {*odd, "child"}
    assert found["child"]["parent"]["href"] == "/orgs/a%2Fb%20%3F%23%C3%A9"
    assert check_store(store).problems == []


def test_links_have_ids_and_titles_that_are_kept_though_nobody_serves_them(store: Backend, load: Load) -> None:  # I-23
    load(store, Made())
    assert objects(store, "classResources")["kr-1"]["title"] == "Book"
    assert not FILES["classResources"].served


def test_empty_cells_are_left_out_and_blanks_are_kept(store: Backend, load: Load) -> None:  # I-10, I-18
    load(store, Made().set("users", "pupil-1", middleName=" ", email="", grades=" , ", agentSourcedIds=" parent-1 ,"))
    user = objects(store, "users")["pupil-1"]
    assert (user["middleName"], user["grades"], [each["sourcedId"] for each in user["agents"]]) == (
        " ",
        [],
        ["parent-1"],
    )
    assert not {"email", "sms", "identifier", "metadata", "password"} & user.keys()
    assert "subjectCodes" not in objects(store, "classes")["class-1"]


@pytest.mark.parametrize(
    ("cell", "number"),
    [("87.50", b"87.5"), ("+3", b"3"), ("-0.0", b"0"), (".5", b"0.5"), ("1e2", b"100"), ("7.", b"7")],
)
def test_numbers_are_kept_as_numbers(tmp_path: Path, load: Load, cell: str, number: bytes) -> None:  # I-24
    with open_store("memory:", COLLECTIONS) as store:
        load(store, Made().set("results", "result-1", score=cell))
        assert b'"score":%s,' % number in bodies(store)["results"]["result-1"]


def test_parents_may_stand_after_their_children(store: Backend, load: Load) -> None:  # I-25
    package = Made()
    for name in ("orgs", "academicSessions", "users"):
        package.rows[name].reverse()
    load(store, package)
    assert check_store(store).problems == []


def test_row_numbers_of_the_report_do_not_count_blank_lines_as_records(store: Backend, load: Load) -> None:
    package = Made()
    package.raw["categories.csv"] = b"sourcedId,status,dateLastModified,title\r\n\r\ncat-1,,,A\n\n\ncat-2,,,B\r"
    assert load(store, package).files["categories"].rows == 2
