"""Quarantine: invalid rows are set aside, stored versions of their records stay, and the other rows are applied."""

from __future__ import annotations

import csv
import random
import stat
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from backends import Backend, open_store
from chalk_flask.oneroster.resource_type import ResourceType, without_timestamp
from chalk_flask.oneroster.schemas import FILES
from chalk_flask.roster.diff.dependents import Dependency, dependencies
from chalk_flask.roster.imports import ImportOptions, ImportReport, approval, history, import_package
from chalk_flask.roster.imports.thresholds import ChangeThresholds, Threshold
from chalk_flask.roster.integrity.checker import check_store
from chalk_flask.storage import COLLECTIONS
from tests.roster.conftest import UNLIMITED, Load, bodies, changed_ids, objects, referenced_ids
from tests.roster.diff.test_dependents import assert_sound
from tests.roster.imports.conftest import held_packages, hold_folder, import_zip
from tests.support.packages import PackageBuilder, deleted_row, delta_package, package_with_users, small_row

QUARANTINE = replace(UNLIMITED, invalid_rows="quarantine")


def quarantined(report: ImportReport) -> dict[tuple[str, int | None], str]:
    """Return code by file and row of the listed quarantined rows."""
    return {(str(problem.file), problem.row): problem.code for problem in report.quarantined_rows}


@pytest.mark.every_backend
@pytest.mark.reading("I-34")
def test_invalid_row_and_rows_that_refer_to_it_are_set_aside(store: Backend, load: Load) -> None:
    package = PackageBuilder().set("users", "pupil-1", enabledUser="perhaps")
    report = load(store, package, options=QUARANTINE)
    assert quarantined(report) == {
        ("users.csv", 2): "bad_value",
        ("users.csv", 5): "dangling_reference",
        ("demographics.csv", 2): "dangling_reference",
        ("enrollments.csv", 2): "dangling_reference",
        ("results.csv", 2): "dangling_reference",
    }
    assert report.quarantined == {"users": 2, "demographics": 1, "enrollments": 1, "results": 1}
    assert set(objects(store, "users")) == {"pupil-2", "teacher-1"}
    assert set(objects(store, "enrollments")) == {"enr-2"}
    assert_sound(store)


@pytest.mark.every_backend
@pytest.mark.reading("I-34")
def test_stored_version_of_an_invalid_row_stays(store: Backend, load: Load) -> None:
    load(store, PackageBuilder())
    before = bodies(store)
    package = PackageBuilder().set("users", "pupil-1", enabledUser="perhaps").set("users", "pupil-2", givenName="Ada")
    report = load(store, package, options=QUARANTINE)
    assert quarantined(report) == {("users.csv", 2): "bad_value"}
    assert changed_ids(before, bodies(store)) == {"pupil-2"}
    assert report.files["users"].counts == {"updated": 1, "unchanged": 2}
    assert_sound(store)


def test_stored_version_goes_when_it_requires_a_deleted_record(store: Backend, load: Load) -> None:
    load(store, PackageBuilder())
    package = (
        PackageBuilder().set("classes", "class-1", classType="unknown").set("classes", "class-2", courseSourcedId="new")
    )
    package.rows["courses"] = [small_row("courses", "course-1", sourcedId="new")]
    package.rows["courseResources"] = []
    report = load(store, package, options=QUARANTINE)
    assert objects(store, "classes")["class-1"]["status"] == "tobedeleted"
    assert report.quarantined == {"classes": 1, "classResources": 2, "enrollments": 2, "lineItems": 1, "results": 1}
    assert {record["status"] for record in objects(store, "enrollments").values()} == {"tobedeleted"}
    assert_sound(store)


def test_chain_of_agents_is_set_aside_to_its_end(store: Backend, load: Load) -> None:
    package = PackageBuilder()
    template = small_row("users", "pupil-2")
    for number in range(300):
        row = {"sourcedId": f"u-{number}", "agentSourcedIds": f"u-{number - 1}" if number else "unknown"}
        package.rows["users"].append(template | row)
    package.rows["users"].reverse()
    report = load(store, package, options=QUARANTINE)
    assert report.quarantined == {"users": 300}
    assert set(objects(store, "users")) == {"pupil-1", "pupil-2", "teacher-1", "parent-1"}


def test_repeated_ids_are_set_aside_in_every_file(store: Backend, load: Load) -> None:
    package = PackageBuilder()
    package.rows["users"].append(small_row("users", "pupil-2", givenName="Other"))
    package.rows["results"].append(small_row("results", "result-1", score="1"))
    report = load(store, package, options=QUARANTINE)
    assert quarantined(report) == {
        (f"{name}.csv", row): "repeated_id"
        for name, row in (("users", 3), ("users", 6), ("results", 2), ("results", 3))
    }
    assert "pupil-2" not in objects(store, "users")
    assert objects(store, "results") == {}


def test_first_row_of_a_repeated_id_refers_to_a_later_row(store: Backend, load: Load) -> None:
    package = PackageBuilder()
    package.rows["users"] += [small_row("users", "pupil-2", givenName=name) for name in ("Other", "Third")]
    package.rows["results"].append(small_row("results", "result-1", score="1"))
    report = load(store, package, options=QUARANTINE)
    assert [(row.file, row.row, row.message) for row in report.quarantined_rows] == [
        ("users.csv", 3, "the sourcedId occurs in a later row too"),
        ("users.csv", 6, "the sourcedId occurs in an earlier row too"),
        ("users.csv", 7, "the sourcedId occurs in an earlier row too"),
        ("results.csv", 2, "the sourcedId occurs in a later row too"),
        ("results.csv", 3, "the sourcedId occurs in an earlier row too"),
    ]


def test_cycle_is_set_aside_with_what_refers_to_it(store: Backend, load: Load) -> None:
    package = PackageBuilder().set("orgs", "org-1", parentSourcedId="org-2")
    report = load(store, package, options=QUARANTINE)
    assert {row: code for (file, row), code in quarantined(report).items() if file == "orgs.csv"} == {
        2: "cycle", 3: "cycle", 4: "dangling_reference",
    }  # fmt: skip
    assert set(objects(store, "orgs")) == set()
    assert_sound(store)


def test_links_and_children_follow_the_rows_that_stay(store: Backend, load: Load) -> None:
    load(store, PackageBuilder())
    package = PackageBuilder().set("orgs", "org-3", type="unknown").set("classResources", "kr-1", resourceSourcedId="")
    package.set("courses", "course-1", orgSourcedId="").drop("courseResources", "cr-1")
    report = load(store, package, options=QUARANTINE)
    assert report.quarantined == {"orgs": 1, "classResources": 1, "courses": 1}
    assert referenced_ids(objects(store, "orgs")["org-1"]["children"]) == ["org-2", "org-3"]
    assert referenced_ids(objects(store, "classes")["class-1"]["resources"]) == ["res-1", "res-2"]
    assert "resources" not in objects(store, "courses")["course-1"]
    assert_sound(store)


def test_delta_rows_are_set_aside_and_the_others_applied(store: Backend, load: Load) -> None:
    load(store, PackageBuilder())
    before = bodies(store)
    package = delta_package(
        users=[
            small_row("users", "pupil-1", enabledUser="perhaps"),
            small_row("users", "pupil-2", givenName="Ada"),
            small_row("users", "pupil-2", sourcedId="new", agentSourcedIds="unknown"),
            deleted_row("parent-1") | {"dateLastModified": ""},
        ],
        enrollments=[
            small_row("enrollments", "enr-1", role="aide"),
            small_row("enrollments", "enr-2", sourcedId="enr-3", userSourcedId="new"),
        ],
    )
    report = load(store, package, options=QUARANTINE)
    assert report.quarantined == {"users": 3, "enrollments": 2}
    assert changed_ids(before, bodies(store)) == {"pupil-2"}
    assert_sound(store)


@pytest.mark.parametrize(
    ("file", "content", "code"),
    [
        ("users.csv", b"sourcedId,status\r\n", "missing_column"),
        ("manifest.csv", b"propertyName,value\r\n", "bad_version"),
        ("users.csv", b'"', "bad_csv"),
        ("results.csv", b"", "empty_file"),
    ],
)
def test_structural_errors_always_reject(store: Backend, load: Load, file: str, content: bytes, code: str) -> None:
    package = PackageBuilder()
    files = package.files()
    package.raw[file] = files[file] + content if code == "bad_csv" else content
    report = load(store, package, "refused", QUARANTINE)
    assert code in {error.code for error in report.problems.errors}
    package = PackageBuilder()
    package.raw["users.csv"] = package.files()["users.csv"].replace(b"Pupil-1", b"Pup\xefl-1")
    assert [error.code for error in load(store, package, "refused", QUARANTINE).problems.errors] == ["bad_text"]


def package_with_users_file(change: Callable[[list[bytes]], list[bytes]]) -> PackageBuilder:
    """Return the small package with a changed users.csv. `change` maps its lines."""
    package = PackageBuilder()
    lines = package.files()["users.csv"].splitlines()
    package.raw["users.csv"] = b"\r\n".join([*change(lines), b""])
    return package


def cut(line: bytes) -> bytes:
    """Return the first three cells of a line, and the beginning of the fourth."""
    return b",".join(line.split(b",")[:4])[:-1]


@pytest.mark.reading("I-34")
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda lines: [*lines[:-1], cut(lines[-1])], "file may be cut off"),
        (lambda lines: [*lines[:-2], cut(lines[-2]), b"", b",,"], "file may be cut off"),
        (lambda lines: [*lines[:-1], cut(lines[-1]), b"", b"(5 rows affected)"], "file may be cut off"),
        (lambda lines: [*lines[:-1], cut(lines[-1]), b"Connection lost"], "cell"),
    ],
)
def test_file_that_may_be_cut_off_rejects_the_package(
    store: Backend, load: Load, change: Callable[[list[bytes]], list[bytes]], message: str
) -> None:
    load(store, PackageBuilder())
    before = bodies(store)
    report = load(store, package_with_users_file(change), "refused", QUARANTINE)
    [error] = report.problems.errors
    assert (error.code, error.file) == ("bad_row", "users.csv")
    assert message in error.message
    assert bodies(store) == before


def test_count_of_rows_at_the_end_is_set_aside(store: Backend, load: Load) -> None:
    load(store, PackageBuilder())
    before = bodies(store)
    package = package_with_users_file(lambda lines: [*lines, b"", b"(5 rows affected)"])
    report = load(store, package, "unchanged", QUARANTINE)
    assert quarantined(report) == {("users.csv", 7): "bad_row"}
    assert bodies(store) == before


def test_short_row_before_the_last_one_is_set_aside(store: Backend, load: Load) -> None:
    load(store, PackageBuilder())
    before = bodies(store)
    package = package_with_users_file(lambda lines: [lines[0], cut(lines[1]), cut(lines[2]), *lines[3:]])
    report = load(store, package, "unchanged", QUARANTINE)
    assert quarantined(report) == {("users.csv", 2): "bad_row", ("users.csv", 3): "bad_row"}
    assert bodies(store) == before


def without_first_user(lines: list[bytes], *other: bytes) -> list[bytes]:
    """Return the lines of users.csv with other lines instead of that of pupil-1."""
    return [lines[0], *other, *lines[2:]]


def with_status_first(lines: list[bytes]) -> list[bytes]:
    """Return the lines with the first column behind the second, and with a surplus cell in the row of pupil-1."""
    cells = [line.split(b",", 2) for line in lines]
    swapped = [b",".join((second, first, rest)) for first, second, rest in cells]
    return [swapped[0], b"x,other" + swapped[1], *swapped[2:]]


@pytest.mark.every_backend
@pytest.mark.reading("I-34")
@pytest.mark.parametrize(
    "change",
    [
        lambda lines: without_first_user(lines, lines[1].replace(b"pupil-1", b"", 1)),
        lambda lines: without_first_user(lines, lines[1].replace(b"pupil-1", b"p" * 256, 1)),
        lambda lines: without_first_user(lines, lines[1].replace(b",", b";")),
        lambda lines: without_first_user(lines, lines[1] + lines[2]),
        with_status_first,
    ],
    ids=["empty", "long", "delimiter", "joined", "status first"],
)
def test_row_without_a_certain_id_deletes_nothing_of_its_file(
    store: Backend, load: Load, change: Callable[[list[bytes]], list[bytes]]
) -> None:
    load(store, PackageBuilder())
    before = bodies(store)
    package = package_with_users_file(
        lambda lines: [line for line in change(lines) if not line.startswith((b"pupil-2", b",pupil-2"))]
    )
    report = load(store, package, "unchanged", QUARANTINE)
    assert quarantined(report).keys() == {("users.csv", 2)}
    [warning] = report.problems.warnings
    assert (warning.code, warning.file) == ("uncertain_id", "users.csv")
    assert bodies(store) == before


@pytest.mark.parametrize("line", [b"pupil-1,active", b"pupil-1" + b"," * 20, b"-------,------", b"(5 rows affected)"])
def test_row_with_a_certain_id_or_none_deletes_the_missing(store: Backend, load: Load, line: bytes) -> None:
    load(store, PackageBuilder())
    is_pupil = line.startswith(b"pupil-1")
    package = package_with_users_file(lambda lines: [lines[0], line, *lines[1 + is_pupil : 2], *lines[3:]])
    report = load(store, package, options=QUARANTINE)
    assert (report.quarantined, report.problems.warnings) == ({"users": 1}, [])
    status = {key: record["status"] for key, record in objects(store, "users").items()}
    assert status == {"pupil-1": "active", "pupil-2": "tobedeleted", "teacher-1": "active", "parent-1": "active"}


def package_with_invalid_users(count: int, invalid: int) -> PackageBuilder:
    package = package_with_users(count)
    for row in package.rows["users"][-invalid:]:
        row["role"] = "pilot"
    return package


@pytest.mark.parametrize(("invalid", "state"), [(10, "committed"), (11, "held")])
def test_many_quarantined_rows_hold_the_package(
    store: Backend, options: ImportOptions, tmp_path: Path, invalid: int, state: str
) -> None:
    options = replace(options, invalid_rows="quarantine")
    report = import_zip(store, package_with_invalid_users(1000, invalid), options, tmp_path)
    assert (report.state, report.quarantined) == (state, {"users": invalid})
    if state == "held":
        [reason] = report.exceeded
        assert reason.to_text() == "users: 11 of 1,000 rows are quarantined (threshold: 1 % and 10 rows)"
        assert objects(store, "users") == {}
        approved = approval.approve(store, "default", report.run, hold_folder(options), requested_by="pat")
        assert (approved.state, approved.quarantined) == ("committed", {"users": 11})
        assert held_packages(options) == []
    assert len(objects(store, "users")) == 1000 - invalid


def test_quarantine_threshold_is_an_option(store: Backend, options: ImportOptions, tmp_path: Path) -> None:
    strict, unlimited = ChangeThresholds(quarantined=Threshold(0, 1)), ChangeThresholds(quarantined=None)
    options = replace(options, invalid_rows="quarantine", thresholds=strict)
    assert import_zip(store, package_with_invalid_users(100, 2), options, tmp_path).state == "held"
    options = replace(options, thresholds=unlimited)
    assert import_zip(store, package_with_invalid_users(100, 90), options, tmp_path).state == "committed"


def test_same_package_again_reports_the_quarantined_rows(
    store: Backend, options: ImportOptions, tmp_path: Path
) -> None:
    options = replace(options, invalid_rows="quarantine")
    package = package_with_invalid_users(100, 2)
    first, second = (import_zip(store, package, options, tmp_path) for _ in range(2))
    assert (first.state, second.state, second.earlier) == ("committed", "unchanged", first.run)
    assert second.quarantined == first.quarantined == {"users": 2}
    assert [problem.row for problem in second.quarantined_rows] == [100, 101]
    rejected = import_zip(store, package, replace(options, invalid_rows="reject"), tmp_path)
    assert (rejected.state, rejected.quarantined) == ("refused", {})


def test_stored_report_has_no_cells_of_quarantined_rows(store: Backend, options: ImportOptions, tmp_path: Path) -> None:
    options = replace(options, invalid_rows="quarantine")
    report = import_zip(store, package_with_invalid_users(100, 2), options, tmp_path)
    with store.read("default") as snapshot:
        run = history.find_run(snapshot, report.run)
    assert run
    assert b"pilot" not in run.encode()
    stored = ImportReport.from_dict(run.report)
    assert [(problem.row, problem.column) for problem in stored.quarantined_rows] == [(100, "role"), (101, "role")]
    assert "Quarantined rows: 2 of users.csv." in stored.to_text()


def test_csv_file_lists_every_quarantined_row_for_its_owner(store: Backend, tmp_path: Path) -> None:
    package = package_with_invalid_users(3000, 1500).set("users", "pupil-1", role="=cmd()")
    file, options = tmp_path / "rows.csv", QUARANTINE
    path = package.zip(tmp_path / "package.zip")
    report = import_package(store, "default", path, options, dry_run=True, csv_file=file)
    assert (report.state, report.quarantined["users"]) == ("checked", 1502)
    assert len(report.quarantined_rows) == 1000
    with file.open(encoding="utf-8", newline="") as text:
        rows = list(csv.DictReader(text))
    assert len(rows) == sum(report.quarantined.values())
    assert (rows[0]["sourcedId"], rows[0]["column"], rows[0]["value"]) == ("pupil-1", "role", "'=cmd()")
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    import_package(store, "default", path, options, csv_file=file)
    assert len(file.read_text(encoding="utf-8").splitlines()) == len(rows) + 1


def quarantine_lines(report: ImportReport) -> list[str]:
    """Return the indented lines of a report: the problems of its quarantined rows."""
    return [line.strip() for line in report.to_text().splitlines() if line.startswith("  ") and ":" in line]


def test_report_lists_a_cause_of_quarantined_rows_once(store: Backend, load: Load) -> None:
    package = package_with_invalid_users(310, 305)
    for number in range(300):
        template = small_row("enrollments", "enr-1", userSourcedId=f"u-{number + 1}")
        package.rows["enrollments"].append({**template, "sourcedId": f"e-{number}"})
    shifted = {"status": "x", "enabledUser": "x", "role": "x", "userIds": "x"}
    package.rows["users"].append(small_row("users", "pupil-2", sourcedId="shifted", **shifted))
    lines = quarantine_lines(load(store, package, options=QUARANTINE))
    assert len(lines) == 3
    assert lines[0].startswith("users.csv, row 7, column role: ")
    assert "(305 rows: 7, 8, 9, 10, 11, ...)" in lines[0]
    assert lines[1].startswith("users.csv, row 312, column status: ")
    assert lines[1].endswith("Other columns of this row are invalid too: enabledUser, role, userIds.")
    assert "in users.csv is quarantined (300 rows: 4, 5, 6, 7, 8, ...)" in lines[2]


def test_rejected_report_begins_with_the_structural_problem(store: Backend, load: Load) -> None:
    package = package_with_invalid_users(10, 5)
    package.raw["results.csv"] = b""
    lines = load(store, package, "refused", QUARANTINE).to_text().splitlines()
    assert lines[1] == "1 problem:"
    assert lines[2].startswith("results.csv: the file is empty")
    assert lines[3] == "Invalid rows that quarantine would set aside: 5 of users.csv."


def test_report_says_that_a_dependent_stored_version_goes(store: Backend, load: Load) -> None:
    load(store, PackageBuilder())
    package = PackageBuilder().drop("courses", "course-1").drop("courseResources", "cr-1")
    report = load(store, package, options=QUARANTINE)
    assert objects(store, "classes")["class-1"]["status"] == "tobedeleted"
    assert "stay, unless they require a deleted record" in report.to_text()


def damage(package: PackageBuilder, draw: random.Random) -> PackageBuilder:
    """Damage some rows: invalid values, references to nothing, repeated ids."""
    for name, rows in package.rows.items():
        headers = {column.name: column.header for column in FILES[name].columns}
        references = [headers[r.name] for r in FILES[name].references if r.name in headers]
        for row in list(rows):
            match draw.randrange(18):
                case 0 if references:
                    row[draw.choice(references)] = "nothing"
                case 1:
                    row["status"] = "unknown"
                case 2:
                    row["sourcedId"] = ""
                case 3:
                    rows.append({**row, "status": ""})
    return package


def without_rows(package: PackageBuilder, report: ImportReport) -> PackageBuilder:
    """Return the package without its quarantined rows."""
    rows = {(problem.file, problem.row) for problem in report.quarantined_rows}
    for name in package.rows:
        package.rows[name] = [
            row for number, row in enumerate(package.rows[name], 2) if (f"{name}.csv", number) not in rows
        ]
    return package


def untimed(store: Backend) -> dict[str, dict[str, bytes]]:
    return {n: {key: without_timestamp(body) for key, body in records.items()} for n, records in bodies(store).items()}


@pytest.mark.parametrize("seed", range(30))
def test_result_equals_the_package_without_the_rows(seed: int, tmp_path: Path) -> None:
    package = damage(PackageBuilder(), random.Random(seed))
    with open_store("memory:", COLLECTIONS) as store, open_store("memory:", COLLECTIONS) as expected:
        report = import_package(store, "default", package.folder(tmp_path / "all"), QUARANTINE)
        assert report.state == "committed", report.to_text()
        rest = without_rows(package, report).folder(tmp_path / "rest")
        other = import_package(expected, "default", rest, UNLIMITED)
        if any(package.rows.values()):
            assert other.state == "committed", other.to_text()
        assert untimed(store) == untimed(expected)
        assert_sound(store)


@pytest.mark.parametrize("seed", range(12))
def test_random_imports_keep_valid_versions_and_stay_sound(seed: int, tmp_path: Path) -> None:
    draw = random.Random(seed)
    with open_store("memory:", COLLECTIONS) as store:
        import_package(store, "default", PackageBuilder().folder(tmp_path / "package"), UNLIMITED)
        for _ in range(6):
            before = {name: objects(store, name) for name in FILES}
            names = [name for name in FILES if draw.random() < 0.8] or ["users"]
            package = damage(PackageBuilder().only(*names), draw)
            for name in names:
                if draw.random() < 0.3:
                    package.properties[f"file.{name}"] = "delta"
                    for row in package.rows[name]:
                        row["status"] = row.get("status") or draw.choice(["active", "active", "tobedeleted"])
                        row["dateLastModified"] = draw.choice(["2026-09-01", "2026-09-01", "never"])
            report = import_package(store, "default", package.folder(tmp_path / "package"), QUARANTINE)
            assert report.state in ("committed", "unchanged"), report.to_text()
            assert_sound(store)
            assert_kept(store, before, package, report)


def assert_kept(
    store: Backend, before: dict[str, dict[str, dict[str, Any]]], package: PackageBuilder, report: ImportReport
) -> None:
    """Assert that the stored version of a quarantined record is active, unless it requires a deleted record."""
    after, places = {name: objects(store, name) for name in FILES}, quarantined(report)
    for name, rows in package.rows.items():
        accepted = {row["sourcedId"] for number, row in enumerate(rows, 2) if (f"{name}.csv", number) not in places}
        for key in {row["sourcedId"] for row in rows} - accepted - {""}:
            record = before[name].get(key, {"status": "none"})
            if record["status"] != "active":
                assert after[name].get(key, record)["status"] == record["status"]
            elif all(is_reference_kept(record, reference, after) for reference in dependencies(FILES[name])):
                assert (after[name][key]["status"], after[name][key].get("title")) == ("active", record.get("title"))
            else:
                assert after[name][key]["status"] == "tobedeleted"


def is_reference_kept(
    record: dict[str, Any], reference: Dependency, after: dict[str, dict[str, dict[str, Any]]]
) -> bool:
    ids = ResourceType.referenced_ids(record.get(reference.name) if reference.name else record)
    return not reference.is_required or any(after[reference.target][key]["status"] == "active" for key in ids)


def test_check_of_a_quarantined_roster_is_ok(store: Backend, load: Load) -> None:
    load(store, PackageBuilder().set("classes", "class-1", classType=""), options=QUARANTINE)
    assert check_store(store).ok
