"""Imports into an empty store: the store has the records of the package. Peak memory of an import."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.resources import files
from pathlib import Path
from typing import Any

import orjson
import pytest

from backends import Backend, open_store
from chalk_flask.oneroster.schemas import FILES, RESOURCES
from chalk_flask.roster.imports import ImportOptions, import_package
from chalk_flask.roster.integrity.checker import check_store
from chalk_flask.roster.package.data_file import ReadingOptions
from chalk_flask.storage import COLLECTIONS
from tests.conftest import url_in
from tests.roster.conftest import Load, bodies, objects
from tests.support.packages import CSV_PACKAGES, PackageBuilder, package_with_users
from tests.support.paths import ROOT

EXPECTED: dict[str, list[dict[str, Any]]] = orjson.loads((CSV_PACKAGES / "quirks.expected.json").read_bytes())
DEMO = Path(str(files("chalk_flask") / "demo"))

MANY_USERS = 20_000
MAX_PEAK_MB = 160

# Not ru_maxrss: a new process inherits the value of its parent.
IMPORT_AND_PRINT_PEAK = """
import sys
from pathlib import Path
from chalk_flask.cli import main
try:
    main(sys.argv[1:])
finally:
    print(Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()[0], file=sys.stderr)
"""


def served(store: Backend) -> dict[str, list[dict[str, Any]]]:
    """Return all served records by collection, sorted by id, without their timestamps."""
    served_objects = {name: [data for _, data in sorted(objects(store, name).items())] for name in sorted(RESOURCES)}
    for data in (data for collection in served_objects.values() for data in collection):
        del data["dateLastModified"]
    return served_objects


@pytest.mark.every_backend
@pytest.mark.reading("I-01", "I-03", "I-08", "I-09", "I-10", "I-18", "I-20", "I-21", "I-22")
def test_package_with_every_quirk_is_stored_as_expected(store: Backend, load: Load) -> None:
    report = load(store, CSV_PACKAGES / "quirks")
    assert served(store) == EXPECTED
    assert {problem.code for problem in report.problems.warnings} == {
        "filled_state",
        "unknown_column",
        "unknown_property",
    }
    assert check_store(store).problems == []


@pytest.mark.parametrize("package", [CSV_PACKAGES / "minimal", DEMO], ids=["minimal", "demo"])
def test_sample_package_is_stored_without_warning(store: Backend, load: Load, package: Path) -> None:
    report = load(store, package)
    assert report.problems.warnings == []
    assert report.total()["created"] == sum(file.rows for file in report.files.values()) > 5
    assert check_store(store).ok


def test_zip_and_folder_give_the_same_records(load: Load, tmp_path: Path, store: Backend) -> None:
    load(store, PackageBuilder().folder(tmp_path / "folder"))
    load(store, PackageBuilder().zip(tmp_path / "package.zip"), "unchanged")


@pytest.mark.reading("I-03")
def test_order_of_metadata_columns_changes_no_record(store: Backend, load: Load) -> None:
    package = PackageBuilder()
    cells = {"metadata.room": "7", "metadata.wing": "B"}
    package.extra["classes"] = ["metadata.room", "metadata.wing"]
    load(store, package.set("classes", "class-1", **cells))
    package.extra["classes"] = ["metadata.wing", "metadata.room"]
    load(store, package, "unchanged")
    load(store, package.set("classes", "class-1", **{"metadata.room": "B", "metadata.wing": "7"}))
    assert orjson.loads(bodies(store)["classes"]["class-1"])["metadata"] == {"room": "B", "wing": "7"}


def test_members_have_the_order_of_the_standard(store: Backend, load: Load) -> None:
    package = PackageBuilder()
    package.extra["classes"] = ["metadata.room"]
    load(store, package.set("classes", "class-1", **{"metadata.room": "7"}))
    body = bodies(store)["classes"]["class-1"]
    assert list(orjson.loads(body)) == [
        *("sourcedId", "status", "dateLastModified", "title", "grades", "course", "classType", "school", "terms"),
        *("subjects", "resources", "metadata"),
    ]
    assert b'"href":"\\/courses\\/course-1"' not in body
    assert b'"href":"\\/courses/course-1"' in body


@pytest.mark.reading("I-19")
@pytest.mark.parametrize("kind", ["json", "sqlite"])
def test_store_on_disk_contains_no_password(kind: str, tmp_path: Path, load: Load) -> None:
    with open_store(url_in(tmp_path / "store", kind), COLLECTIONS) as store:
        load(store, PackageBuilder())
    contents = [path.read_bytes() for path in (tmp_path / "store").rglob("*") if path.is_file()]
    assert any(b"pupil-1.name" in content for content in contents)
    assert not any(b"unspeakable" in content for content in contents)


@pytest.mark.reading("V-02")
def test_local_codes_are_stored_with_a_warning(store: Backend, load: Load) -> None:
    report = load(
        store, PackageBuilder().set("users", "pupil-1", grades="5th, 06").set("courses", "course-1", grades="Fünf")
    )
    assert objects(store, "users")["pupil-1"]["grades"] == ["5th", "06"]
    assert [(warning.code, warning.file, warning.column) for warning in report.problems.warnings] == [
        ("local_code", "courses.csv", "grades"),
        ("local_code", "users.csv", "grades"),
    ]


@pytest.mark.reading("A-10")
def test_unknown_role_is_mapped_on_request(store: Backend, load: Load) -> None:
    package = PackageBuilder().set("enrollments", "enr-2", role="aide", primary="true")
    [error] = load(store, package, "refused").problems.errors
    assert (error.code, error.row, error.column, error.value) == ("bad_value", 3, "role", "aide")
    load(store, package, options=ImportOptions(reading=ReadingOptions(map_enrollment_roles=True)))
    enrollment = objects(store, "enrollments")["enr-2"]
    assert (enrollment["role"], enrollment["primary"]) == ("teacher", "false")
    assert objects(store, "enrollments")["enr-1"]["role"] == "student"


@pytest.mark.reading("I-01")
def test_status_in_bulk_file_is_used_and_its_date_is_not(store: Backend, load: Load) -> None:
    report = load(store, PackageBuilder().set("results", "result-1", status="inactive", dateLastModified="2019-01-01"))
    record = objects(store, "results")["result-1"]
    assert (record["status"], record["dateLastModified"]) == ("tobedeleted", report.timestamp)
    assert [warning.code for warning in report.problems.warnings] == ["filled_state"]


@pytest.mark.reading("I-03")
def test_unknown_columns_and_files_are_ignored_with_a_warning(store: Backend, load: Load) -> None:
    package = PackageBuilder()
    package.extra["orgs"] = ["colour", "", "", "metadata."]
    package.set("orgs", "org-1", colour="red", **{"": "x", "metadata.": "y"})
    package.raw = {"notes.csv": b"a,b\n", "Users.csv": b""}
    report = load(store, package)
    assert {(warning.code, warning.file, warning.column) for warning in report.problems.warnings} == {
        ("unknown_column", "orgs.csv", "colour"),
        ("unnamed_column", "orgs.csv", None),
        ("unknown_column", "orgs.csv", "metadata."),
        ("unknown_file", "notes.csv", None),
        ("unknown_file", "Users.csv", None),
    }
    assert not any("Rename" in warning.hint for warning in report.problems.warnings), "users.csv is there too"
    org = bodies(store)["orgs"]["org-1"]
    assert b"red" not in org
    assert b"metadata" not in org


def test_file_with_header_only_has_no_records(store: Backend, load: Load) -> None:
    package = PackageBuilder()
    package.rows = {name: [] for name in FILES} | {"orgs": package.rows["orgs"]}
    report = load(store, package)
    assert {name: file.rows for name, file in report.files.items()} == dict.fromkeys(FILES, 0) | {"orgs": 3}


@pytest.mark.reading("I-27")
def test_ids_can_contain_any_character_and_are_case_sensitive(store: Backend, load: Load) -> None:
    odd = ["a/b ?#é", "A/B ?#é", '"; {quoted}', "1 2", "٣", "x" * 255]
    package = PackageBuilder().only("orgs")
    package.rows["orgs"] = [{"sourcedId": key, "name": "N", "type": "school"} for key in odd]
    package.rows["orgs"].append({"sourcedId": "child", "name": "C", "type": "school", "parentSourcedId": "a/b ?#é"})
    load(store, package)
    orgs = objects(store, "orgs")
    assert orgs.keys() == {*odd, "child"}
    assert orgs["child"]["parent"]["href"] == "/orgs/a%2Fb%20%3F%23%C3%A9"
    assert check_store(store).problems == []


@pytest.mark.reading("I-23")
def test_links_are_stored_with_ids_and_titles(store: Backend, load: Load) -> None:
    load(store, PackageBuilder())
    assert objects(store, "classResources")["kr-1"]["title"] == "Book"
    assert not FILES["classResources"].served


@pytest.mark.reading("I-25")
def test_parent_can_follow_its_children(store: Backend, load: Load) -> None:
    package = PackageBuilder()
    for name in ("orgs", "academicSessions", "users"):
        package.rows[name].reverse()
    load(store, package)
    assert check_store(store).problems == []


def test_blank_lines_are_not_counted_as_records(store: Backend, load: Load) -> None:
    package = PackageBuilder()
    package.raw["categories.csv"] = b"sourcedId,status,dateLastModified,title\r\n\r\ncat-1,,,A\n\n\ncat-2,,,B\r"
    assert load(store, package).files["categories"].rows == 2


def large_package() -> PackageBuilder:
    """Return a package of 20,000 users with seven enrollments each."""
    package = PackageBuilder()
    user, enrollment = package.row("users", "pupil-2"), package.row("enrollments", "enr-1")
    for number in range(MANY_USERS):
        key = f"user-{number:08}"
        package.rows["users"].append(
            user | {"sourcedId": key, "username": f"name{number}", "email": f"{key}@x.example"}
        )
        package.rows["enrollments"] += [
            enrollment | {"sourcedId": f"{key}-{part}", "userSourcedId": key} for part in range(7)
        ]
    return package


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="only Linux reports the peak of a process")
def test_memory_does_not_grow_with_the_package(tmp_path: Path) -> None:
    path = large_package().zip(tmp_path / "package.zip")
    environ = os.environ | {"PYTHONPATH": str(ROOT)}
    for state in ("Imported.", "Nothing to do"):
        command = [
            sys.executable,
            "-c",
            IMPORT_AND_PRINT_PEAK,
            "import",
            str(path),
            "--storage",
            f"sqlite:///{tmp_path}/chalk.db",
        ]
        completed = subprocess.run(command, env=environ, capture_output=True, text=True, check=True)
        assert state in completed.stdout
        assert int(completed.stderr) / 1024 < MAX_PEAK_MB, state


@pytest.mark.parametrize("as_folder", [False, True], ids=["ZIP", "folder"])
def test_progress_has_the_expected_number_of_rows_from_the_first_import_on(
    as_folder: bool, store: Backend, options: ImportOptions, tmp_path: Path
) -> None:
    calls: list[tuple[str, int, int]] = []

    def import_users(builder: PackageBuilder) -> dict[str, list[tuple[int, int]]]:
        calls.clear()
        path = builder.folder(tmp_path / "folder") if as_folder else builder.zip(tmp_path / "package.zip")
        record = calls.append
        import_package(
            store, "default", path, options, on_progress=lambda *call: record((call[0], call[1], call[2] or 0))
        )
        return {phase: [(rows, total) for name, rows, total in calls if name == phase] for phase, _, _ in calls}

    first = import_users(package_with_users(3500))
    *partial, last = first["users"]
    assert [rows for rows, _ in partial] == [1000, 2000, 3000]
    assert all(total and rows <= total <= 2 * 3500 for rows, total in partial)
    assert last[0] == last[1] >= 3500
    assert [rows for rows, _ in first["writing users"]][:3] == [0, 1000, 2000]
    assert {total for _, total in first["writing users"]} == {last[0]}
    assert first["writing users"][-1] == (last[0], last[0])
    again = import_users(package_with_users(3501))
    assert [phase for phase in again if phase.startswith("writing")] == ["writing users"]
    assert again["writing users"] == [(0, 1), (1, 1)]
