"""Causes that a report names once: rows as spreadsheets, export scripts and database programs write them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from backends import open_store
from chalk_flask.oneroster.csv.program_messages import is_error_message, is_program_message
from chalk_flask.roster.imports import ImportOptions, ImportReport, import_package
from chalk_flask.roster.imports.options import InvalidRows
from chalk_flask.storage import COLLECTIONS
from tests.support.packages import HEADERS, PackageBuilder

Change = Callable[[bytes], bytes]


def import_report(package: PackageBuilder, tmp_path: Path, invalid_rows: InvalidRows = "reject") -> ImportReport:
    """Import the package into an empty store."""
    with open_store("memory:", COLLECTIONS) as store:
        options = ImportOptions(invalid_rows=invalid_rows)
        return import_package(store, "default", package.zip(tmp_path / "package.zip"), options)


def replaced(name: str, change: Change) -> PackageBuilder:
    """Return the small package with other bytes of one file."""
    package = PackageBuilder()
    package.raw[f"{name}.csv"] = change(package.files()[f"{name}.csv"])
    return package


def with_lines(name: str, *lines: str) -> PackageBuilder:
    """Return the small package with lines after the last one of a file."""
    return replaced(name, lambda content: content + "\r\n".join(lines).encode())


def as_one_cell(content: bytes) -> bytes:
    """Return the lines of a file, each as one quoted cell."""
    lines = content.decode().splitlines()
    return "".join('"' + line.replace('"', '""') + '"\r\n' for line in lines).encode()


def delta_without_state() -> PackageBuilder:
    """Return the small package, declared as delta, without any status and date."""
    package = PackageBuilder().only("orgs")
    package.properties["file.orgs"] = "delta"
    return package


def with_repeated_rows() -> PackageBuilder:
    package = PackageBuilder()
    package.rows["users"] += [dict(row) for row in package.rows["users"]]
    return package


def with_columns_of_1_2() -> PackageBuilder:
    package = PackageBuilder()
    header = [name for name in HEADERS["users"] if name not in ("role", "orgSourcedIds")]
    package.raw["users.csv"] = ",".join([*header, "userMasterIdentifier", "primaryOrgSourcedId"]).encode()
    return package


CAUSES: dict[str, tuple[Callable[[], PackageBuilder], str]] = {
    "rows that are one cell": (
        lambda: replaced("users", as_one_cell),
        "users.csv, row 1: each row is one quoted cell, because a program did not divide it into columns."
        " Export the file again, and do not save it with a spreadsheet.",
    ),
    "a manifest whose rows are one cell": (
        lambda: replaced("manifest", as_one_cell),
        "manifest.csv, row 1: each row is one quoted cell, because a program did not divide it into columns."
        " Export the file again, and do not save it with a spreadsheet.",
    ),
    "a blank after a quote": (
        lambda: with_lines("classes", 'c-1,,,A,05,course-1,,scheduled,,org-2,"term-1,year-1" ,,,'),
        "classes.csv, row 4: text or a blank follows the closing quote of a cell. Write a quote within a quoted cell"
        " twice, without a backslash, and no blank after it.",
    ),
    "a delta file without states": (
        delta_without_state,
        "orgs.csv, row 2, column status: a row of a delta file requires status and dateLastModified (3 rows: 2, 3, 4)"
        " (value ''). Fill both cells. If the file lists all records, declare it as bulk in manifest.csv.",
    ),
    "repeated rows": (
        with_repeated_rows,
        "users.csv, row 6, column sourcedId: the sourcedId occurs in an earlier row too (4 rows: 6, 7, 8, 9)"
        " (value 'pupil-1'). Use a unique sourcedId or remove one of the rows.",
    ),
    "columns of OneRoster 1.2": (
        with_columns_of_1_2,
        "users.csv, row 1: the columns are those of OneRoster 1.2. Export OneRoster 1.1, where each user has one role.",
    ),
    "a separator of thousands": (
        lambda: PackageBuilder().set("lineItems", "item-1", resultValueMax="1,000"),
        "lineItems.csv, row 2, column resultValueMax: '1,000' is not a base-10 number such as 87.5 (value '1,000')."
        " Write a point as decimal separator, and nothing between thousands.",
    ),
    "a number of rows": (
        lambda: with_lines("users", "", "(4 rows affected)"),
        "users.csv, row 7: the row is a message of the exporting program. Switch it off in the export, or remove the"
        " row.",
    ),
    "a total with empty cells": (
        lambda: with_lines("users", "Total: 4" + "," * 17),
        "users.csv, row 6: the row is a message of the exporting program. Switch it off in the export, or remove the"
        " row.",
    ),
    "an error of a database": (
        lambda: with_lines("users", "ERROR:", "ORA-01555: snapshot too old"),
        "users.csv, row 6: the row is an error message of the exporting program: the file is incomplete"
        " (2 rows: 6, 7). Correct the error, and export the file again.",
    ),
    "a warning of PHP in the first row": (
        lambda: replaced("users", lambda content: b"<br />\n<b>Warning</b>: Undefined index\n" + content),
        "users.csv, row 1: the first row is a message of the exporting program. Correct the export, so that the first"
        " row has the names of the columns: sourcedId,status,dateLastModified,enabledUser,...",
    ),
}


@pytest.mark.parametrize("case", CAUSES)
def test_cause_is_named_once(tmp_path: Path, case: str) -> None:
    build, expected = CAUSES[case]
    report = import_report(build(), tmp_path)
    assert (report.state, report.problems.to_text()[:1]) == ("refused", [expected])
    assert len(report.problems.errors) == 1


def test_references_to_rounded_ids_are_counted_and_not_listed(tmp_path: Path) -> None:
    package = PackageBuilder()
    content = package.files()["users.csv"]
    for key in ("pupil-1", "pupil-2", "parent-1"):
        content = content.replace(f"\n{key},".encode(), b"\n1.23E+11,")
    package.raw["users.csv"] = content
    report = import_report(package, tmp_path)
    assert [(error.code, error.row) for error in report.problems.errors] == [("repeated_id", 3)]
    assert report.problems.counts["enrollments.csv", "dangling_reference"] == 1


def test_ids_of_rounded_numbers_are_a_warning(tmp_path: Path) -> None:
    package = PackageBuilder()
    for name in package.rows:
        content = package.files()[f"{name}.csv"]
        package.raw[f"{name}.csv"] = content.replace(b"org-2", b"1.01E+11").replace(b"org-3", b"1.02E+11")
    report = import_report(package, tmp_path)
    assert (report.state, [warning.to_text() for warning in report.problems.warnings]) == (
        "committed",
        [
            "orgs.csv, column sourcedId: 2 ids are numbers that a spreadsheet rounded (value '1.01E+11')."
            " Format the column as text, and export the file again."
        ],
    )


@pytest.mark.parametrize(
    ("name", "warnings"),
    [
        ("Mü™ller “Zoë” SÃO", []),
        (
            "MÃ¼ller",
            [
                "orgs.csv: letters of the file were encoded twice. They were stored. Let the exporting program read its"
                " text as UTF-8."
            ],
        ),
        ("Oâ€™Brien", ["orgs.csv: letters of the file were encoded twice. "]),
        (
            "M\ufffdller",
            ["orgs.csv: letters of the file were lost, and replaced by \\ufffd. They were stored. Export it again."],
        ),
    ],
    ids=["correct", "letters", "a quote", "lost"],
)
def test_damaged_letters_are_one_warning(tmp_path: Path, name: str, warnings: list[str]) -> None:
    package = PackageBuilder().set("orgs", "org-1", name=name).set("orgs", "org-2", name=name)
    report = import_report(package, tmp_path)
    assert report.state == "committed"
    texts = [warning.to_text() for warning in report.problems.warnings]
    assert [text[: len(start)] for text, start in zip(texts, warnings, strict=True)] == warnings


@pytest.mark.parametrize("footer", ["(4 rows affected)", "Total: 4", "4 rows selected."])
def test_quarantine_sets_a_number_of_rows_at_the_end_aside(tmp_path: Path, footer: str) -> None:
    report = import_report(with_lines("users", footer), tmp_path, "quarantine")
    assert (report.state, report.quarantined) == ("committed", {"users": 1}), report.to_text()


@pytest.mark.parametrize("footer", ["Msg 1205, Level 13, State 51, Line 1", "u-1,,,true,org-2,stu"])
def test_quarantine_rejects_a_file_that_is_incomplete(tmp_path: Path, footer: str) -> None:
    assert import_report(with_lines("users", footer), tmp_path, "quarantine").state == "refused"


COUNTS = [
    *("(1234 rows affected)", "1,234 rows selected.", "(1 row)", "Total: 123", "Total records 1.234", "TOTAL,,,12"),
    *("Record count = 12", "123 records exported", "*** End of file ***", "End of report", "EOF"),
    *("Completion time: 2026-09-01T02:00:00.123-05:00", "Elapsed: 00:00:01.23", "3 rows in set (0.01 sec)"),
]
ERRORS = [
    *("Msg 208, Level 16, State 1, Line 1", "ORA-00942: table or view does not exist", "ERROR at line 1:", "ERROR:"),
    *("SP2-0042: unknown command", "<br />", "<b>Notice</b>: Undefined index", "PHP Fatal error:  Out of memory"),
    *("Fatal error: out of memory", "Warning: Null value is eliminated", "Traceback (most recent call last):"),
    *("java.sql.SQLException: Connection reset", "Error: Timeout expired", "Segmentation fault"),
]
RECORDS = ["total-1", "Totaro", "err-1", "Errol Flynn", "Warning", "1234", "Mr. Fatal", "<none>", "EOFF", "row 4"]


def test_messages_of_programs_are_known() -> None:
    assert [text for text in COUNTS if not is_program_message(text.split(","))] == []
    assert [text for text in ERRORS if not is_error_message(text.split(","))] == []
    assert [text for text in RECORDS if is_program_message([text]) or is_error_message([text])] == []
    assert [text for text in ERRORS if is_program_message(text.split(","))] == []
