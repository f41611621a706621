"""Parsing of rows without a package: valid rows become records, each error has code, column and value."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import orjson
import pytest
from marshmallow import ValidationError

from chalk_flask.oneroster.csv.diagnosis import CellProblem
from chalk_flask.oneroster.csv.row_parser import InvalidRowError, RowParser
from chalk_flask.oneroster.fields.composites import (
    MAX_METADATA_PATH_LENGTH,
    MAX_METADATA_VALUES,
    EnumListField,
    RefListField,
)
from chalk_flask.oneroster.fields.scalars import BooleanField, EnumField, GuidField
from chalk_flask.oneroster.schemas import FILES
from tests.support.packages import HEADERS, ROWS

TIMESTAMP = "2026-09-01T10:00:00.000Z"


def parser_for(name: str, *extra_columns: str, delta: bool = False) -> RowParser:
    return RowParser(FILES[name], [*HEADERS[name], *extra_columns], delta=delta)


def row_of(parser: RowParser, **cells: str) -> list[str]:
    """Return the first row of the small package with other cells."""
    values = ROWS[parser.resource_type.name][0] | cells
    return [values.get(column, "") for column in parser.header]


def body_of(name: str, **cells: str) -> dict[str, Any]:
    """Return the record of a valid row."""
    parser = parser_for(name)
    body: dict[str, Any] = orjson.loads(parser.parse(row_of(parser, **cells)).encoded)
    return body


def errors_of(parser: RowParser, row: list[str]) -> list[CellProblem]:
    """Return the errors of an invalid row, and assert that the fast path rejects it too."""
    with pytest.raises((InvalidRowError, ValidationError)):
        parser.parse(row)
    return list(parser.problems_in(row))


class InvalidCell(NamedTuple):
    """Cell that makes a row invalid."""

    file: str
    column: str
    value: str
    code: str = "bad_value"


def invalid_cells_of_each_column() -> Iterator[InvalidCell]:
    """Yield cells that no column of their type accepts."""
    for name, resource_type in FILES.items():
        for header, _, element in resource_type.columns:
            if isinstance(element, EnumField | EnumListField):
                yield InvalidCell(name, header, "nonsense")
                yield InvalidCell(name, header, "Student" if header == "roles" else capitalized_word(element))
            if isinstance(element, BooleanField):
                yield InvalidCell(name, header, "yes")
            if isinstance(element, GuidField):
                yield InvalidCell(name, header, "x" * 256)
            if element is not None and element.required_in_csv:
                yield InvalidCell(name, header, "", "missing_value")
                if isinstance(element, RefListField):
                    yield InvalidCell(name, header, " , ,", "missing_value")


def capitalized_word(element: EnumField | EnumListField) -> str:
    """Return a word of the vocabulary that differs from the standard by its capital."""
    return next(word for word in element.vocabulary if word != word.title()).title()


DATE_COLUMNS = [
    ("academicSessions", "startDate"),
    ("demographics", "birthDate"),
    ("enrollments", "beginDate"),
    ("results", "scoreDate"),
]
INVALID_DATES = [
    "2024-02-30",
    "2024-1-1",
    "20240101",
    "2024-01-01T00:00:00Z",
    "01/02/2024",
    "2024-01-01 ",
    "٢٠٢٤-01-01",
]
INVALID_TIMES = ["2024-02-30", "tomorrow", "2024-01-01T25:00:00Z", "2024-01-01T00:00:00+99:00"]
INVALID_YEARS = ["24", "2024-25", "２０２４", "year"]
INVALID_NUMBERS = ["NaN", "inf", "-Infinity", "1e999", "1,5", "0x10", "1_000", "--1", "ten", "٣", " 1"]
INVALID_USER_IDS = [
    *("LDAP:1", "{LDAP}", "{LDAP:1", "{:1}", "{LDAP:}", "{LDAP: }", "{ :1}"),
    *("{a:b}{c:d}", "{a:b},,{c:d}", "{a:b},x"),
]
INVALID_CELLS = [
    *invalid_cells_of_each_column(),
    *(InvalidCell(name, column, value) for name, column in DATE_COLUMNS for value in INVALID_DATES),
    *(InvalidCell("lineItems", "dueDate", value) for value in INVALID_TIMES),
    *(InvalidCell("academicSessions", "schoolYear", value) for value in INVALID_YEARS),
    *(InvalidCell("results", "score", value) for value in INVALID_NUMBERS),
    *(InvalidCell("lineItems", "resultValueMax", value) for value in INVALID_NUMBERS),
    *(InvalidCell("users", "userIds", value) for value in INVALID_USER_IDS),
]


@pytest.mark.reading("V-01", "I-24")
@pytest.mark.parametrize("name", FILES)
def test_invalid_cell_is_reported_with_column_and_value(name: str) -> None:
    cells = [cell for cell in INVALID_CELLS if cell.file == name]
    assert cells
    parser = parser_for(name)
    for _, column, value, code in cells:
        errors = errors_of(parser, row_of(parser, **{column: value}))
        assert (code, column, value) in [(error.code, error.column, error.value) for error in errors], (column, value)


@pytest.mark.parametrize(
    ("cells", "code", "column"),
    [
        ({"status": ""}, "missing_value", "status"),
        ({"dateLastModified": ""}, "missing_value", "dateLastModified"),
        ({"status": "deleted"}, "bad_value", "status"),
        ({"dateLastModified": "yesterday"}, "bad_value", "dateLastModified"),
        ({"status": "tobedeleted", "dateLastModified": ""}, "missing_value", "dateLastModified"),
        ({"status": "tobedeleted", "dateLastModified": "soon"}, "bad_value", "dateLastModified"),
        ({"status": "tobedeleted", "sourcedId": ""}, "missing_value", "sourcedId"),
        ({"givenName": ""}, "missing_value", "givenName"),
    ],
)
def test_delta_row_requires_status_and_date(cells: dict[str, str], code: str, column: str) -> None:
    parser = parser_for("users", delta=True)
    [error] = errors_of(parser, row_of(parser, **({"status": "active", "dateLastModified": TIMESTAMP} | cells)))
    assert (error.code, error.column) == (code, column)


@pytest.mark.parametrize("status", ["tobedeleted", "inactive"])
def test_delta_row_that_deletes_needs_no_other_cells(status: str) -> None:
    parser = parser_for("users", delta=True)
    cells = {"sourcedId": "pupil-1", "status": status, "dateLastModified": TIMESTAMP}
    row = [cells.get(column, "") for column in parser.header]
    parsed = parser.parse(row)
    assert (parsed.key, parsed.body, parsed.encoded) == ("pupil-1", {}, b"")
    assert parsed.values == {"status": "tobedeleted"}
    assert list(parser.problems_in(row)) == []


@pytest.mark.parametrize("count", [-1, 1])
def test_row_of_other_length_is_one_error(count: int) -> None:
    parser = parser_for("categories")
    row = ["cat-1", "", "", "Homework", ""][: 4 + count]
    [error] = errors_of(parser, row)
    assert (error.code, error.column, error.value) == ("bad_row", None, None)


@pytest.mark.parametrize("cell", ["A\0B", "caf\udce9"])
def test_cell_that_is_not_text_is_an_error(cell: str) -> None:
    parser = parser_for("categories")
    [error] = errors_of(parser, row_of(parser, title=cell))
    assert (error.code, error.column, error.value) == ("bad_text", "title", cell)


@pytest.mark.reading("I-19")
def test_password_is_neither_stored_nor_reported() -> None:
    parser = parser_for("users")
    assert "password" not in body_of("users", password="secret")
    [error] = errors_of(parser, row_of(parser, password="secret\0"))
    assert (error.code, error.column, error.value) == ("bad_text", "password", None)


@pytest.mark.reading("I-01")
def test_status_of_a_bulk_row_is_used_and_its_date_is_not() -> None:
    parser = parser_for("orgs")
    parsed = parser.parse(row_of(parser, status="inactive", dateLastModified="2019-01-01"))
    assert parsed.values["status"] == parsed.body["status"] == "tobedeleted"
    assert b"2019" not in parsed.encoded
    parser.parse(row_of(parser))
    assert parser.rows_with_status_or_date == 1


@pytest.mark.reading("I-01")
@pytest.mark.parametrize("date", INVALID_TIMES)
def test_invalid_date_of_a_bulk_row_is_ignored_and_counted(date: str) -> None:
    parser = parser_for("orgs")
    row = row_of(parser, dateLastModified=date)
    assert parser.parse(row).body == parser.parse(row_of(parser)).body
    assert (parser.rows_with_status_or_date, parser.rows_with_invalid_date) == (1, 1)
    assert list(parser.problems_in(row)) == []


@pytest.mark.parametrize("date", ["caf\udce9", "A\0B"])
def test_ignored_date_of_a_bulk_row_must_be_text(date: str) -> None:
    [error] = errors_of(parser_for("orgs"), row_of(parser_for("orgs"), dateLastModified=date))
    assert (error.code, error.column) == ("bad_text", "dateLastModified")


@pytest.mark.reading("V-02")
def test_local_codes_are_stored_and_collected_by_column() -> None:
    parser = parser_for("courses")
    body = parser.parse(row_of(parser, grades="5th, 06")).body
    assert body["grades"] == ["5th", "06"]
    parser.parse(row_of(parser, grades="5th"))
    assert parser.local_codes == {"grades": {"5th"}}


@pytest.mark.reading("I-24")
@pytest.mark.parametrize(
    ("cell", "number"),
    [("87.50", b"87.5"), ("+3", b"3"), ("-0.0", b"0"), (".5", b"0.5"), ("1e2", b"100"), ("7.", b"7")],
)
def test_number_is_stored_as_a_json_number(cell: str, number: bytes) -> None:
    parser = parser_for("results")
    assert b'"score":%s,' % number in parser.parse(row_of(parser, score=cell)).encoded


@pytest.mark.reading("A-06")
def test_missing_course_code_defaults_to_the_title() -> None:
    assert body_of("courses", courseCode="")["courseCode"] == "Arithmetic"


@pytest.mark.reading("I-10", "I-18")
def test_empty_cells_are_left_out_and_spaces_are_kept() -> None:
    user = body_of("users", middleName=" ", email="", grades=" , ", agentSourcedIds=" parent-1 ,")
    assert (user["middleName"], user["grades"]) == (" ", [])
    assert [agent["sourcedId"] for agent in user["agents"]] == ["parent-1"]
    assert not {"email", "sms", "identifier", "metadata"} & user.keys()
    assert "subjectCodes" not in body_of("classes")


@pytest.mark.reading("I-20")
def test_metadata_columns_are_stored_with_comparison_values() -> None:
    parser = parser_for("orgs", "metadata.Room", "metadata.empty")
    parsed = parser.parse(row_of(parser, **{"metadata.Room": "B7"}))
    assert parsed.body["metadata"] == {"Room": "B7"}
    assert parsed.values["metadata.Room"] == ("b7",)
    assert list(orjson.loads(parsed.encoded))[-1] == "metadata"


@pytest.mark.reading("I-20")
def test_row_with_too_much_metadata_is_an_error() -> None:
    names = [f"metadata.{number}" for number in range(MAX_METADATA_VALUES + 1)]
    parser = parser_for("orgs", *names)
    assert len(parser.parse(row_of(parser, **dict.fromkeys(names[1:], "x"))).body["metadata"]) == MAX_METADATA_VALUES
    [error] = errors_of(parser, row_of(parser, **dict.fromkeys(names, "x")))
    assert (error.code, error.column) == ("too_much_metadata", None)
    assert str(MAX_METADATA_VALUES) in error.message


@pytest.mark.reading("I-20")
def test_row_with_too_long_metadata_names_is_an_error() -> None:
    names = [f"metadata.{letter * 20_000}" for letter in "ab"]
    parser = parser_for("orgs", *names)
    assert parser.parse(row_of(parser, **{names[0]: "x"})).body["metadata"]
    [error] = errors_of(parser, row_of(parser, **dict.fromkeys(names, "x")))
    assert (error.code, error.column) == ("too_much_metadata", None)
    assert str(MAX_METADATA_PATH_LENGTH) in error.message


def test_key_is_found_in_invalid_rows() -> None:
    parser = parser_for("categories")
    assert (parser.key(["cat-1"]), parser.key([])) == ("cat-1", "")
