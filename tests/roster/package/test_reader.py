"""Rejection of a package because of its rows: each error has file, row, column and value."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from backends import open_store
from chalk_flask.cli import main
from chalk_flask.oneroster.schemas import FILES
from chalk_flask.roster.imports import ImportOptions, import_package
from chalk_flask.roster.package.reader import ids_in_cycles
from chalk_flask.storage import COLLECTIONS
from tests.roster.package.rejections import FilledStore, problem_places
from tests.support.packages import PackageBuilder


def import_output(path: Path) -> str:
    """Return the text that `import` prints for a package that is rejected."""
    result = CliRunner().invoke(main, ["import", str(path), "--storage", "memory:", "--data", str(path.parent)])
    assert result.exit_code == 1
    return result.output


@pytest.mark.reading("A-22")
@pytest.mark.parametrize("character", ["\t", "\n", "\x1f", "\x7f", "\x85", "\ufdd0", "\uffff", "\U0010ffff"])
@pytest.mark.parametrize(
    ("file", "row", "column"),
    [("classes", "class-1", "sourcedId"), ("enrollments", "", "userSourcedId"), ("users", "pupil-1", "orgSourcedIds")],
)
def test_id_with_a_control_character_or_a_noncharacter_is_rejected(
    filled: FilledStore, tmp_path: Path, file: str, row: str, column: str, character: str
) -> None:
    package = PackageBuilder().set(file, row, **{column: f"a{character}b"})
    report = filled.reject(package.folder(tmp_path / "package"))
    errors = [error for error in report["errors"] if (error["code"], error["column"]) == ("bad_value", column)]
    assert "contains a control character or a noncharacter" in errors[0]["message"]


@pytest.mark.reading("I-19")
def test_password_is_never_reported(filled: FilledStore, tmp_path: Path) -> None:
    package = PackageBuilder().set("users", "pupil-1", role="?")
    package.raw["users.csv"] = package.files()["users.csv"].replace(b"unspeakable-7391", b"unspeakable-\xff", 1)
    path = package.folder(tmp_path / "package")
    assert problem_places(filled.reject(path)) == [
        ("bad_value", "users.csv", 2, "role", "?"),
        ("bad_text", "users.csv", 2, "password", None),
    ]
    output = import_output(path)
    assert "unspeakable" not in output
    assert "users.csv, row 2, column role: '?' is not one of" in output


@pytest.mark.reading("I-16")
def test_row_number_counts_records_not_lines(filled: FilledStore, tmp_path: Path) -> None:
    package = PackageBuilder()
    package.raw["categories.csv"] = (
        b'sourcedId,status,dateLastModified,title\r\ncat-1,,,"two\r\nlines"\r\n\r\n'
        b'cat-2,bad,,Third\ncat-3,,"\n\n",\ncat-4,,,x,y\n'
    )
    assert problem_places(filled.reject(package.folder(tmp_path / "package"))) == [
        ("bad_value", "categories.csv", 4, "status", "bad"),
        ("missing_value", "categories.csv", 5, "title", ""),
        ("bad_row", "categories.csv", 6, None, None),
    ]


@pytest.mark.reading("I-17")
def test_repeated_id_is_reported_in_every_file(filled: FilledStore, tmp_path: Path) -> None:
    package = PackageBuilder()
    for name in FILES:
        package.rows[name].append(dict(package.rows[name][0]))
    places = problem_places(filled.reject(package.folder(tmp_path / "package")))
    assert sorted(places) == sorted(
        ("repeated_id", f"{name}.csv", len(rows) + 1, "sourcedId", rows[0]["sourcedId"])
        for name, rows in package.rows.items()
    )


@pytest.mark.reading("I-17")
def test_repeated_id_is_found_in_any_column_order(filled: FilledStore, tmp_path: Path) -> None:
    package = PackageBuilder()
    package.raw["enrollments.csv"] = (
        b"userSourcedId,sourcedId,status,dateLastModified,classSourcedId,schoolSourcedId,role,primary,beginDate,endDate\n"
        b"pupil-1,e-1,,,class-1,org-2,student,,,\n\npupil-1,e-2,,,class-2,org-3,student,,,\n"
        b"pupil-2,e-1,,,class-1,org-2,student,,,\n,,,,,,,,,\n,,,,,,,,,\n"
    )
    places = problem_places(filled.reject(package.folder(tmp_path / "package")))
    assert [place[:3] for place in places if place[0] == "repeated_id"] == [("repeated_id", "enrollments.csv", 5)]


@pytest.mark.reading("I-25")
@pytest.mark.parametrize(
    ("name", "parents"),
    [
        ("orgs", {"org-1": "org-3", "org-3": "org-2", "org-2": "org-1"}),
        ("academicSessions", {"year-1": "year-1"}),
    ],
    ids=["three orgs", "a session itself"],
)
def test_cycle_of_parents_is_rejected(filled: FilledStore, tmp_path: Path, name: str, parents: dict[str, str]) -> None:
    package = PackageBuilder()
    for key, parent in parents.items():
        package.set(name, key, parentSourcedId=parent)
    places = problem_places(filled.reject(package.folder(tmp_path / "package")))
    assert len(places) == len(parents)
    for code, file, row, column, value in places:
        assert row is not None
        assert (code, file, column) == ("cycle", f"{name}.csv", "parentSourcedId")
        assert value == package.rows[name][row - 2]["parentSourcedId"]


def test_cycles_are_found_below_and_above_other_ids() -> None:
    assert ids_in_cycles({}) == []
    assert ids_in_cycles({"a": "b", "b": "c"}) == []
    assert ids_in_cycles({"a": "a", "b": "a"}) == ["a"]
    assert sorted(ids_in_cycles({"x": "a", "a": "b", "b": "a", "y": "z"})) == ["a", "b"]


@pytest.mark.reading("I-15")
def test_first_errors_of_each_column_are_listed_and_all_counted(filled: FilledStore, tmp_path: Path) -> None:
    package = PackageBuilder().set("orgs", "org-1", type="?").set("results", "result-1", score="?")
    user = package.row("users")
    package.rows["users"] += [user | {"sourcedId": f"u-{number}", "role": f"?{number}"} for number in range(150)]
    path = package.folder(tmp_path / "package")
    report = filled.reject(path)
    assert (report["errorCount"], len(report["errors"])) == (152, 22)
    assert report["errors"][-1]["file"] == "results.csv"
    assert report["errorCounts"] == [
        {"file": "orgs.csv", "code": "bad_value", "count": 1},
        {"file": "results.csv", "code": "bad_value", "count": 1},
        {"file": "users.csv", "code": "bad_value", "count": 150},
    ]
    text = import_output(path)
    assert text.startswith("package: Rejected: nothing was changed.\n152 problems:\norgs.csv, row 2, column type: ")
    assert "... and 130 more. Total:\n  orgs.csv: 1 x bad_value\n" in text


HEADER = b"sourcedId,status,dateLastModified,title"

CONTENTS: dict[str, tuple[bytes, list[tuple[str, int | None, str | None]]]] = {
    "nothing": (b"", [("empty_file", None, None)]),
    "a blank header": (b"\n", [("bad_header", 1, None)]),
    "a million columns": (HEADER + b",x" * 1_000_000, [("too_many_columns", 1, None)]),
    "a header without end": (b"x" * (17 << 20), [("bad_csv", 1, None)]),
    "columns without end": (b"," * (17 << 20), [("bad_csv", 1, None)]),
    "a header in Latin-1": (HEADER + ",größe\n".encode("latin-1"), [("bad_text", 1, None)]),
    "UTF-16": ((HEADER + b"\ncat-1,,,A\n").decode().encode("utf-16"), [("bad_text", None, None)]),
    "Latin-1": (HEADER + b"\ncat-1,,,\xc4pfel\n", [("bad_text", 2, "title")]),
    "an id in Latin-1": (HEADER + b"\nc\xe4t,,,A\n", [("bad_text", 2, "sourcedId")]),
    "NUL": (HEADER + b"\n\ncat-1,,,A\0B\n", [("bad_text", 3, "title")]),
    "an open quote": (HEADER + b'\ncat-1,,,A\n\ncat-2,,,"B\n', [("bad_csv", 4, None)]),
    "text after a quote": (HEADER + b'\ncat-1,,,"A"B\n', [("bad_csv", 2, None)]),
    "a cell that is too long": (HEADER + b"\ncat-1,,," + b"x" * (128 * 1024 + 1), [("too_large_cell", 2, None)]),
    "a row without end": (HEADER + b"\ncat-1,,,A\n" + b',"\nx"' * (4 << 20), [("bad_csv", 3, None)]),
}


@pytest.mark.reading("I-02")
@pytest.mark.parametrize("case", CONTENTS)
def test_unreadable_content_is_reported_with_its_row(filled: FilledStore, tmp_path: Path, case: str) -> None:
    content, expected = CONTENTS[case]
    package = PackageBuilder()
    package.raw["categories.csv"] = content
    places = problem_places(filled.reject(package.folder(tmp_path / "package")))
    assert [(code, row, column) for code, file, row, column, _ in places if file == "categories.csv"] == expected


def test_cell_of_maximum_length_is_accepted(tmp_path: Path) -> None:
    package = PackageBuilder().set("categories", "cat-1", title="x" * 128 * 1024)
    with open_store("memory:", COLLECTIONS) as store:
        report = import_package(store, "default", package.folder(tmp_path / "package"), ImportOptions())
    assert report.state == "committed"


def test_long_value_is_truncated_in_report(filled: FilledStore, tmp_path: Path) -> None:
    package = PackageBuilder().set("orgs", "org-1", identifier="", sourcedId="x" * 256)
    report = filled.reject(package.folder(tmp_path / "package"))
    assert ("bad_value", "orgs.csv", 2, "sourcedId", "x" * 197 + "...") in problem_places(report)
