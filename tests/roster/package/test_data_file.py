"""Data files as spreadsheets and export scripts write them: what is accepted, and messages that name the cause."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import get_args

import orjson
import pytest

from backends import open_store
from chalk_flask.oneroster.schemas import FILES
from chalk_flask.roster.imports import ImportOptions, ImportReport, import_package
from chalk_flask.roster.imports.history import summary
from chalk_flask.roster.imports.options import InvalidRows
from chalk_flask.roster.package.data_file import ReadingOptions
from chalk_flask.storage import COLLECTIONS
from tests.support.packages import HEADERS, ROWS, PackageBuilder

CATEGORIES = b"sourcedId,status,dateLastModified,title\n"


def import_report(package: PackageBuilder, tmp_path: Path) -> ImportReport:
    """Import the package into an empty store."""
    with open_store("memory:", COLLECTIONS) as store:
        return import_package(store, "default", package.zip(tmp_path / "package.zip"), ImportOptions())


def accepted_warnings(package: PackageBuilder, tmp_path: Path) -> list[str]:
    """Return the warnings of a package that must be accepted."""
    report = import_report(package, tmp_path)
    assert report.state == "committed", report.to_text()
    return [warning.to_text() for warning in report.problems.warnings]


def rejection_texts(package: PackageBuilder, tmp_path: Path) -> list[str]:
    """Return the lines about a package that must be rejected."""
    report = import_report(package, tmp_path)
    assert report.state == "refused"
    return report.problems.to_text()


def replaced(name: str, change: Callable[[bytes], bytes]) -> PackageBuilder:
    """Return the small package with other bytes of one file, which must differ."""
    package = PackageBuilder()
    content = package.files()[f"{name}.csv"]
    package.raw[f"{name}.csv"] = change(content)
    assert package.raw[f"{name}.csv"] != content
    return package


@pytest.mark.parametrize("name", FILES)
def test_rows_of_empty_cells_are_ignored_with_one_warning(tmp_path: Path, name: str) -> None:
    columns = len(HEADERS[name])
    package = replaced(name, lambda content: content + b"," * (columns - 1) + b"\r\n,,\r\n ,\t, ,\r\n\r\n")
    report = import_report(package, tmp_path)
    assert report.state == "committed", report.to_text()
    assert report.files[name].rows == len(ROWS[name])
    [warning] = report.problems.warnings
    assert (warning.file, warning.code) == (f"{name}.csv", "empty_rows")
    assert warning.message == "3 rows of empty cells"


@pytest.mark.reading("I-01")
def test_invalid_dates_of_a_bulk_file_are_ignored_with_one_warning(tmp_path: Path) -> None:
    package = PackageBuilder()
    for row in package.rows["users"][:3]:
        row["dateLastModified"] = "09/01/2026"
    package.rows["users"][3]["dateLastModified"] = "2026-09-01"
    package.set("orgs", "org-1", dateLastModified="yesterday")
    users, orgs = sorted(accepted_warnings(package, tmp_path), reverse=True)
    what = "of a bulk file with a status or dateLastModified"
    assert users.startswith(f"users.csv: 4 rows {what}, 3 with an invalid date. ")
    assert orgs.startswith(f"orgs.csv: 1 row {what}, 1 with an invalid date. ")


@pytest.mark.reading("I-19")
def test_password_column_may_be_missing_with_one_warning(tmp_path: Path) -> None:
    package = PackageBuilder()
    lines = [line.rpartition(b",")[0] for line in package.files()["users.csv"].splitlines()]
    package.raw["users.csv"] = b"\n".join(lines)
    assert accepted_warnings(package, tmp_path) == [
        "users.csv, column password: the column is missing. It is not needed."
    ]


def test_empty_rows_of_the_manifest_are_ignored(tmp_path: Path) -> None:
    assert accepted_warnings(replaced("manifest", lambda content: content + b",\r\n , \r\n"), tmp_path) == []


def test_end_mark_of_old_programs_is_ignored_with_a_warning(tmp_path: Path) -> None:
    package = replaced("users", lambda content: content + b"\x1a")
    assert [text.partition(".csv: ")[2][:5] for text in accepted_warnings(package, tmp_path)] == ["1 row"]


def test_grades_without_leading_zeros_are_named(tmp_path: Path) -> None:
    [warning] = accepted_warnings(PackageBuilder().set("courses", "course-1", grades="5"), tmp_path)
    assert "removed leading zeros" in warning
    [warning] = accepted_warnings(PackageBuilder().set("courses", "course-1", grades="fifth"), tmp_path)
    assert "leading zeros" not in warning


@pytest.mark.parametrize("ending", ["\r", "\n", "\r\n"])
def test_each_line_ending_is_accepted(tmp_path: Path, ending: str) -> None:
    package = replaced("users", lambda content: content.replace(b"\r\n", b"\n").replace(b"\n", ending.encode()) + b"\n")
    assert accepted_warnings(package, tmp_path) == []


@pytest.mark.parametrize("cell", ["True", "TRUE", "false"])
def test_booleans_are_accepted_in_any_case(tmp_path: Path, cell: str) -> None:
    assert accepted_warnings(PackageBuilder().set("users", "pupil-1", enabledUser=cell), tmp_path) == []


def test_unnamed_column_at_the_end_is_a_warning(tmp_path: Path) -> None:
    package = replaced("users", lambda content: content.replace(b"\r\n", b",\r\n"))
    assert accepted_warnings(package, tmp_path) == [
        "users.csv: column 19 of the header has no name. It was ignored. Name or remove it."
    ]


FORMATS: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "semicolons": (lambda content: content.replace(b",", b";"), "separated by semicolons"),
    "tabs": (lambda content: content.replace(b",", b"\t"), "separated by tabs"),
    "vertical bars": (lambda content: content.replace(b",", b"|"), "separated by vertical bars"),
    "UTF-16": (lambda content: content.decode().encode("utf-16"), "UTF-16"),
    "UTF-16 without a mark": (lambda content: content.decode().encode("utf-16-le"), "UTF-16"),
    "UTF-32": (lambda content: content.decode().encode("utf-32"), "UTF-32"),
    "an Excel workbook": (lambda content: b"PK\x03\x04" + content, "an Excel workbook"),
    "an old Excel workbook": (lambda content: b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + content, "an Excel workbook"),
    "an HTML page": (lambda content: b"\n<!DOCTYPE html><html><body>Error 500</body></html>", "an HTML page"),
    "JSON": (lambda content: b'{"error": "expired"}', "a JSON document"),
    "gzip": (lambda content: b"\x1f\x8b\x08" + content, "a gzip file"),
    "PDF": (lambda content: b"%PDF-1.7" + content, "a PDF document"),
    "NULs": (lambda content: bytes(5000), "NULs"),
    "a line for Excel": (lambda content: b"sep=,\r\n" + content, "an instruction for Excel"),
    "a blank line first": (lambda content: b"\r\n" + content, "the first row is empty"),
    "no header": (lambda content: content.partition(b"\r\n")[2], "the first row has none of the columns"),
    "two byte order marks": (lambda content: b"\xef\xbb\xbf" * 2 + content, "byte order mark"),
    "another letter case": (lambda content: content.replace(b"sourcedId,", b"sourcedid,"), "Rename sourcedid to"),
    "an open quote": (lambda content: content + b'u-9,,,"true', "a quote that this row opens is not closed"),
    "a quote within quotes": (lambda content: content + b'u-9,,,"a "b" c"', "Write a quote within a quoted cell twice"),
}


@pytest.mark.parametrize("case", FORMATS)
def test_format_of_a_file_is_named_once(tmp_path: Path, case: str) -> None:
    change, expected = FORMATS[case]
    [text] = rejection_texts(replaced("users", change), tmp_path)
    assert text.startswith("users.csv")
    assert expected in text


@pytest.mark.parametrize("invalid_rows", get_args(InvalidRows))
def test_record_in_the_header_row_rejects_and_is_not_stored(tmp_path: Path, invalid_rows: InvalidRows) -> None:
    package = replaced("users", lambda content: content.replace(b"\r\n", b",", 1))
    with open_store("memory:", COLLECTIONS) as store:
        options = ImportOptions(invalid_rows=invalid_rows)
        report = import_package(store, "default", package.zip(tmp_path / "package.zip"), options)
        [text] = report.problems.to_text()
        assert (report.state, text.partition(". ")[0]) == (
            "refused",
            "users.csv, row 1: the first record is in the header row: the line break after the header is missing",
        )
        assert b"pupil-1" not in orjson.dumps(summary(report, "refused"))


def test_windows_1252_is_named_once_with_the_number_of_rows(tmp_path: Path) -> None:
    package = PackageBuilder()
    for row in package.rows["users"]:
        row |= {"givenName": "Zoë", "familyName": "Müller"}
    package.raw["users.csv"] = package.files()["users.csv"].decode().encode("cp1252")
    [text] = rejection_texts(package, tmp_path)
    assert text == (
        "users.csv, row 2, column givenName: the file is not UTF-8, it looks like Windows-1252 (4 rows: 2, 3, 4, 5)."
        " Save it as CSV UTF-8."
    )


def test_broken_utf8_is_not_decoded_by_lenient_reading(tmp_path: Path) -> None:
    names = ("Zoë".encode(), b"Zo\xc3")
    package = replaced("orgs", lambda content: content.replace(b"North", names[0]).replace(b"South", names[1]))
    with open_store("memory:", COLLECTIONS) as store:
        options = ImportOptions(reading=ReadingOptions(lenient=True))
        report = import_package(store, "default", package.zip(tmp_path / "package.zip"), options)
    [error] = report.problems.errors
    assert (error.code, error.row) == ("bad_text", 4)
    assert "broken UTF-8" in error.message


def test_windows_1252_header_has_its_own_tolerance(tmp_path: Path) -> None:
    package = PackageBuilder()
    package.extra["orgs"] = ["metadata.größe"]
    package.raw["orgs.csv"] = package.files()["orgs.csv"].decode().encode("cp1252")
    with open_store("memory:", COLLECTIONS) as store:
        options = ImportOptions(reading=ReadingOptions(lenient=True))
        report = import_package(store, "default", package.zip(tmp_path / "package.zip"), options)
    assert [warning.to_text() for warning in report.problems.warnings] == [
        "orgs.csv: the header: text is encoded as Windows-1252. It is decoded as Windows-1252 (T-06)."
    ]


def with_dates(*cells: str) -> PackageBuilder:
    """Return the small package with an enrollment for each of these dates."""
    package = PackageBuilder()
    rows = package.rows["enrollments"]
    template = dict(rows[0])
    rows += [template | {"sourcedId": f"e-{number}", "beginDate": cell} for number, cell in enumerate(cells)]
    return package


def with_changed_ids(stored: str, reference: str) -> PackageBuilder:
    """Return the small package with an org and three references to it that have another form of its id."""
    package = PackageBuilder()
    package.rows["orgs"].append({"sourcedId": stored, "name": "East School", "type": "school"})
    return add_users(package, orgSourcedIds=reference)


def add_users(package: PackageBuilder, count: int = 3, **cells: str) -> PackageBuilder:
    """Add users with these cells to the package."""
    template = package.row("users", "pupil-2")
    package.rows["users"] += [template | {"sourcedId": f"u-{number}"} | cells for number in range(count)]
    return package


def with_lines(name: str, *lines: str) -> PackageBuilder:
    """Return the small package with lines after the last one of a file."""
    return replaced(name, lambda content: content + "\r\n".join(lines).encode())


CAUSES: dict[str, tuple[Callable[[], PackageBuilder], list[str]]] = {
    "a blank before a quote": (
        lambda: with_lines("classes", *['c-1,,,A,05,course-1,,scheduled,,org-2, "term-1,year-1",,,'] * 3),
        ["classes.csv, row 4: a blank before a quote", "(3 rows: ", "Remove the blank"],
    ),
    "typographic quotes": (
        lambda: with_lines("classes", *["c-1,,,A,05,course-1,,scheduled,,org-2,“term-1,year-1”,,,"] * 2),
        ["classes.csv, row 4: cells are quoted with typographic quotes", "(2 rows: ", "Use straight quotes"],
    ),
    "commas at the end": (
        lambda: with_lines("categories", "c-1,,,A,", "c-2,,,B,"),
        ["categories.csv, row 3: rows end with commas", "(2 rows: "],
    ),
    "commas in a list before empty cells": (
        lambda: with_lines("classes", *["c-1,,,A,05,course-1,,scheduled,,org-2,term-1,year-1,,,"] * 2),
        ["classes.csv, row 4: the row has 15 cells, the header 14 (2 rows: ", ". Quote cells that contain commas"],
    ),
    "commas in a name before empty cells": (
        lambda: with_lines("users", "u-1,,,true,org-2,student,u.1,,Ida,Barr, Jr,,,,,,,,"),
        ["users.csv, row 6: the row has 19 cells, the header 18", ". Quote cells that contain commas"],
    ),
    "commas in a list that shift a required cell": (
        lambda: with_lines("users", "u-1,,,true,org-2,org-3,student,u.1,,Ida,Barr,,,,,,,,"),
        ["users.csv, row 6: the row has 19 cells", "Quote cells that contain commas, quotes or line breaks."],
    ),
    "a letter that was cut": (
        lambda: replaced(
            "orgs", lambda content: content.replace(b"North", "Zoë".encode()).replace(b"South", b"Zo\xc3")
        ),
        ["orgs.csv, row 4, column name: the cell contains broken UTF-8", "Correct the cell."],
    ),
    "text in MacRoman": (
        lambda: replaced("orgs", lambda content: content.replace(b"North", b"Ren\x8e")),
        ["orgs.csv, row 3, column name: the cell contains bytes that are not UTF-8"],
    ),
    "text in GB18030": (
        lambda: replaced("orgs", lambda content: content.replace(b"North", "北京".encode("gb18030"))),
        ["orgs.csv, row 3, column name: the cell contains bytes that are not UTF-8"],
    ),
    "dates of spreadsheets": (
        lambda: with_dates("17-Aug-26", "August 17, 2026", "2026-8-17", "17.8.2026", "17 August 2026", "17-Aug-2026"),
        ["enrollments.csv, row 4, column beginDate: '17-Aug-26'", "(6 rows: 4, 5, 6, 7, 8, ...)", "this date format"],
    ),
    "dates with another separator": (
        lambda: with_dates("2026/08/17", "20260817"),
        ["row 4, column beginDate: '2026/08/17'", "(2 rows: 4, 5)", "Lenient reading (--lenient) accepts it."],
    ),
    "day numbers with decimals": (
        lambda: with_dates("46251.0", "46252"),
        ["row 4, column beginDate: '46251.0'", "(2 rows: 4, 5)", "how a spreadsheet counts days"],
    ),
    "dates of zeros": (
        lambda: with_dates("0000-00-00", "0000-00-00 00:00:00"),
        ["row 4, column beginDate: '0000-00-00'", "(2 rows: 4, 5)", "leave the cell empty"],
    ),
    "a percent sign": (
        lambda: PackageBuilder().set("results", "result-1", score="90%"),
        ["column score: '90%'", "without the percent sign"],
    ),
    "a year with decimals": (
        lambda: PackageBuilder().set("academicSessions", "term-1", schoolYear="2027.0"),
        ["column schoolYear: '2027.0'", "without decimals"],
    ),
    "rounded ids": (
        lambda: with_lines("orgs", *["1.23E+11,,,A,school,,"] * 3, *["1.24E+11,,,A,school,,"] * 2),
        ["orgs.csv, row 6, column sourcedId: the sourcedId occurs in", "(3 rows: 6, 7, 9)", "A spreadsheet rounded"],
    ),
    "rounded ids in a file without references to it": (
        lambda: with_lines("categories", *["1.23E+11,,,A"] * 3, *["1.24E+11,,,A"] * 2),
        ["categories.csv, row 4, column sourcedId: the sourcedId occurs", "(3 rows: 4, 5, 7)", "A spreadsheet rounded"],
    ),
    "a header in single quotes": (
        lambda: replaced("categories", lambda content: content.replace(b",", b"','").replace(b"source", b"'source")),
        ["categories.csv, row 1: the names are quoted with single quotes", 'Use double quotes (").'],
    ),
    "a list in brackets": (
        lambda: add_users(PackageBuilder(), orgSourcedIds='["org-2","org-3"]'),
        ["users.csv, row 6, column orgSourcedIds: refers to", "(3 rows: 6, 7, 8)", "without brackets and inner quotes"],
    ),
    "a list in braces": (
        lambda: add_users(PackageBuilder(), orgSourcedIds="{org-2,org-3}"),
        ["users.csv, row 6, column orgSourcedIds: refers to", "(3 rows: 6, 7, 8)", "without brackets and inner quotes"],
    ),
    "a header with a comma at its end": (
        lambda: replaced("users", lambda content: content.replace(b",password", b",password,")),
        ["users.csv, row 2: the header ends with a column without a name", "(4 rows: "],
    ),
    "US dates": (
        lambda: PackageBuilder().set("enrollments", "enr-1", beginDate="08/17/2026"),
        ["enrollments.csv, row 2, column beginDate", "'08/17/2026'", "YYYY-MM-DD", "date format"],
    ),
    "a day number": (
        lambda: PackageBuilder().set("enrollments", "enr-1", beginDate="46251"),
        ["column beginDate", "how a spreadsheet counts days"],
    ),
    "an unknown role": (
        lambda: add_users(PackageBuilder(), role="tutor"),
        ["users.csv, row 6, column role: 'tutor' is not one of", "(3 rows: ", "import_role_map"],
    ),
    "a role with a capital": (
        lambda: add_users(PackageBuilder(), role="Student"),
        ["column role: 'Student' is not one of", "(3 rows: ", "Write student: letter case counts."],
    ),
    "user ids": (
        lambda: add_users(PackageBuilder(), userIds="1001"),
        ["column userIds: '1001' is not written", "(3 rows: ", "Write {type:id}, for example {SIS:1001}."],
    ),
    "a word for an empty cell": (
        lambda: PackageBuilder().set("results", "result-1", score="NULL"),
        ["results.csv, row 2, column score: 'NULL'", "NULL is not an empty cell"],
    ),
    "a decimal comma": (
        lambda: PackageBuilder().set("results", "result-1", score="9,5"),
        ["column score: '9,5'", "Write a point"],
    ),
    "a pair of years": (
        lambda: PackageBuilder().set("academicSessions", "term-1", schoolYear="2026-27"),
        ["column schoolYear: '2026-27'", "the year in which the school year ends: 2027"],
    ),
    "yes for true": (
        lambda: add_users(PackageBuilder(), enabledUser="Y"),
        ["column enabledUser: 'Y'", "(3 rows: ", "Write true or false."],
    ),
    "a blank around an id": (
        lambda: PackageBuilder().set("enrollments", "enr-1", userSourcedId="pupil-1 "),
        ["enrollments.csv, row 2, column userSourcedId: 'pupil-1 ' begins or ends with a blank", "Remove the blanks"],
    ),
    "a row of another length": (
        lambda: with_lines("users", *["u-1,,,true"] * 7),
        ["users.csv, row 6: the row has 4 cells, the header 18 (7 rows: 6, 7, 8, 9, 10, ...)"],
    ),
    "a file that is cut off": (
        lambda: with_lines("users", "u-1,,,true,org-2,stu"),
        ["users.csv, row 6: the row has 6 cells, the header 18; it is the last row, so the file may be cut off"],
    ),
    "an empty cell in a column": (
        lambda: add_users(PackageBuilder(), givenName=""),
        ["users.csv, row 6, column givenName: a value is required (3 rows: 6, 7, 8)"],
    ),
    "a missing record": (
        lambda: add_users(PackageBuilder(), orgSourcedIds="org-9"),
        ["users.csv, row 6, column orgSourcedIds: refers to", "(3 rows: 6, 7, 8) (value 'org-9')"],
    ),
    "a list with semicolons": (
        lambda: PackageBuilder().set("users", "pupil-1", orgSourcedIds="org-2;org-3"),
        ["users.csv, row 2, column orgSourcedIds", "separate its items by commas"],
    ),
    "a rounded number": (
        lambda: PackageBuilder().set("orgs", "org-3", parentSourcedId="1.23457E+12"),
        ["orgs.csv, row 4, column parentSourcedId", "A spreadsheet rounded this number"],
    ),
    "a repeated header": (
        lambda: with_lines("users", "\ufeff" + ",".join(HEADERS["users"])),
        ["users.csv, row 6: the row repeats the header", "Remove the row."],
    ),
    "a message of the exporting program": (
        lambda: with_lines("users", "(4 rows affected)"),
        ["users.csv, row 6: the row is a message of the exporting program"],
    ),
    "NULs at the end": (
        lambda: replaced("users", lambda content: content + bytes(1000)),
        ["users.csv, row 6: the row contains NULs"],
    ),
    "properties that a manifest lacks": (
        lambda: replaced("manifest", lambda content: b"\r\n".join(content.split(b"\r\n")[:8])),
        ["manifest.csv: the modes of 8 files are missing: courses, classes, users, "],
    ),
    "a line of dashes": (
        lambda: with_lines("users", ",".join(["---"] * 18)),
        ["users.csv, row 6: the row is a line of dashes", "Remove the row."],
    ),
    "single quotes": (
        lambda: with_lines("classes", "c-1,,,A,05,course-1,,scheduled,,org-2,'term-1,year-1',,,"),
        ["classes.csv, row 4: cells are quoted with single quotes", "Use double quotes"],
    ),
    "many missing columns": (
        lambda: replaced("users", lambda content: b"sourcedId,givenName,familyName\r\nu-1,Ada,Lee\r\n"),
        ["users.csv, row 1: 14 columns are missing: status, dateLastModified, enabledUser, "],
    ),
    "the content of another file": (
        lambda: replaced("courses", lambda content: PackageBuilder().files()["orgs.csv"]),
        ["courses.csv, row 1: the columns are those of orgs.csv"],
    ),
    "a manifest with another letter case": (
        lambda: replaced("manifest", lambda content: content.replace(b",bulk", b",Bulk")),
        [
            "manifest.csv, row 4, column value: the modes of 13 files are unknown: orgs, ",
            "Write bulk: letter case counts.",
        ],
    ),
    "a manifest with commas at the end": (
        lambda: replaced("manifest", lambda content: content.replace(b"bulk", b"bulk,")),
        ["manifest.csv, row 4: the row has 3 cells, not 2 (13 rows)"],
    ),
    "a reference to N/A": (
        lambda: PackageBuilder().set("orgs", "org-3", parentSourcedId="N/A"),
        ["orgs.csv, row 4, column parentSourcedId: refers to", "N/A is not an empty cell"],
    ),
}


@pytest.mark.parametrize("case", CAUSES)
def test_cause_of_invalid_rows_is_named_once(tmp_path: Path, case: str) -> None:
    build, expected = CAUSES[case]
    [text] = rejection_texts(build(), tmp_path)
    assert [part for part in expected if part not in text] == [], text


@pytest.mark.parametrize(
    ("stored", "reference", "change"),
    [
        ("00841", "841", "leading zeros"),
        ("8401", "8401.0", "the decimals .0 at its end"),
        ("S01", "'S01", "an apostrophe at its beginning"),
        ("S01", '="S01"', 'the form ="..." of a formula'),
        ("S01", "s01", "letter case"),
    ],
)
def test_changed_id_is_named_once_with_its_change(tmp_path: Path, stored: str, reference: str, change: str) -> None:
    [text] = rejection_texts(with_changed_ids(stored, reference), tmp_path)
    assert f"row 6, column orgSourcedIds: refers to a record whose id in orgs.csv differs in {change} (3 rows:" in text
    assert "format the columns as text" in text


def test_changed_ids_with_one_change_are_listed_once(tmp_path: Path) -> None:
    package = with_changed_ids("00841", "841")
    package.rows["orgs"].append({"sourcedId": "00842", "name": "West School", "type": "school"})
    package.set("users", "u-1", orgSourcedIds="842").set("users", "u-2", orgSourcedIds="841,842")
    [text] = rejection_texts(package, tmp_path)
    assert "differs in leading zeros (3 rows: 6, 7, 8)" in text


def test_errors_with_another_value_or_column_are_listed_too(tmp_path: Path) -> None:
    package = PackageBuilder().set("enrollments", "enr-1", beginDate="08/17/2026", endDate="06/11/2027")
    add_users(add_users(package, role="tutor"), 1, sourcedId="u-9", role="coach")
    texts = rejection_texts(package, tmp_path)
    assert [text.partition(": ")[0] for text in texts] == [
        *("users.csv, row 6, column role", "users.csv, row 9, column role"),
        *("enrollments.csv, row 2, column beginDate", "enrollments.csv, row 2, column endDate"),
    ]


def test_row_with_shifted_cells_is_listed_once_and_counted(tmp_path: Path) -> None:
    package = PackageBuilder()
    row = package.row("demographics")
    row |= {"birthDate": "female", "sex": "true", "asian": "no", "white": "1", "hispanicOrLatinoEthnicity": "?"}
    report = import_report(package, tmp_path)
    assert report.problems.total == 5
    [error] = report.problems.errors
    assert (error.row, error.column) == (2, "birthDate")
    assert error.hint.endswith(
        "Other columns of this row are invalid too: sex, asian, white, hispanicOrLatinoEthnicity."
    )


def test_references_to_a_row_with_lost_id_are_counted_and_not_listed(tmp_path: Path) -> None:
    package = replaced("users", lambda content: content.replace(b"pupil-1,,,true,", b"pupil-1;;;true,"))
    report = import_report(package, tmp_path)
    assert [error.code for error in report.problems.errors] == ["bad_row"]
    counts = {(file, code): count for (file, code), count in report.problems.counts.items()}
    assert counts["enrollments.csv", "dangling_reference"] == 1
    assert "... and " in report.to_text()


def test_other_dangling_references_are_listed(tmp_path: Path) -> None:
    package = PackageBuilder().set("users", "pupil-2", role="?").set("results", "result-1", studentSourcedId="u-9")
    assert [text.partition(": ")[0] for text in rejection_texts(package, tmp_path)] == [
        "users.csv, row 3, column role",
        "results.csv, row 2, column studentSourcedId",
    ]
