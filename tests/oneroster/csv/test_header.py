"""Problems of headers: missing, misspelled, repeated, unknown and unnamed columns."""

from __future__ import annotations

import pytest

from chalk_flask.oneroster.csv.header import header_problems as find_problems
from chalk_flask.oneroster.csv.header import missing_optional_columns, with_standard_case
from chalk_flask.oneroster.schemas import FILES
from tests.support.packages import HEADERS


def header_problems(name: str, header: list[str]) -> list[tuple[str, str | None, bool]]:
    """Return code, column and severity of the errors of a header."""
    return [(error.code, error.column, error.is_warning) for error in find_problems(FILES[name], header)]


CATEGORIES = HEADERS["categories"]


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        (CATEGORIES, []),
        ([f" {name} " for name in reversed(CATEGORIES)], []),
        (CATEGORIES[:2] + CATEGORIES[3:], [("missing_column", "dateLastModified", False)]),
        ([*CATEGORIES, "title"], [("repeated_column", "title", False)]),
        ([*CATEGORIES, "metadata.a", "metadata.a"], [("repeated_column", "metadata.a", False)]),
        ([*CATEGORIES, "metadata.größe\udce9"], [("bad_text", None, False)]),
        ([*CATEGORIES, "metadata.a\0"], [("bad_text", None, False)]),
        (
            [*CATEGORIES, "color", "metadata."],
            [("unknown_column", "color", True), ("unknown_column", "metadata.", True)],
        ),
        (["metadata.a", *CATEGORIES, "metadata.b"], [("metadata_order", "metadata.a", True)]),
        ([*CATEGORIES[:3], "metadata.a", "metadata.b", *CATEGORIES[3:]], [("metadata_order", "metadata.a", True)]),
        ([*CATEGORIES, "metadata.a", "color"], [("unknown_column", "color", True)]),
        ([";".join(CATEGORIES)], [("bad_header", None, False)]),
        (["", " "], [("bad_header", None, False)]),
        (["sep=;"], [("bad_header", None, False)]),
        (["cat-1", "", "", "Homework"], [("bad_header", None, False)]),
        ([*CATEGORIES, ""], [("unnamed_column", None, True)]),
        ([*CATEGORIES[:3], ""], [("missing_column", "title", False)]),
        (["sourcedid", *CATEGORIES[1:]], [("misspelled_column", "sourcedId", False)]),
        (["\ufeffsourcedId", *CATEGORIES[1:]], [("misspelled_column", "sourcedId", False)]),
        ([*CATEGORIES[:3], "Title "], [("misspelled_column", "title", False)]),
        ([*CATEGORIES[:2], "dateLastModifed", "title"], [("misspelled_column", "dateLastModified", False)]),
        ([*CATEGORIES, *("x" for _ in range(1000))], [("too_many_columns", None, False)]),
    ],
    ids=[
        *("valid", "reversed", "missing", "repeated", "metadata", "bytes", "NUL", "unknown"),
        *("metadata first", "metadata between", "metadata last", "separator"),
        *("empty", "Excel", "data", "unnamed", "lost name", "case", "byte order mark", "blank", "typo", "many"),
    ],
)
def test_header_problems(header: list[str], expected: list[tuple[str, str | None, bool]]) -> None:
    assert header_problems("categories", header) == expected


@pytest.mark.reading("I-03")
def test_column_names_of_version_1_0_are_accepted() -> None:
    former = [(name, pair) for name, resource_type in FILES.items() for pair in resource_type.former_columns]
    assert former
    for name, (old, new) in former:
        header = [old if column == new else column for column in HEADERS[name]]
        assert header_problems(name, header) == []


def messages(name: str, header: list[str]) -> str:
    """Return messages and hints of the problems of a header as one text."""
    return "\n".join(f"{p.message} {p.hint}" for p in find_problems(FILES[name], header))


def test_misspelled_column_is_named_with_its_correct_name() -> None:
    assert "Rename sourcedid to sourcedId." in messages("categories", ["sourcedid", *CATEGORIES[1:]])
    assert "Rename Given Name to givenName." in messages(
        "users", ["Given Name" if name == "givenName" else name for name in HEADERS["users"]]
    )
    assert "byte order mark" in messages("categories", ["\ufeffsourcedId", *CATEGORIES[1:]])


def test_position_of_an_unnamed_column_is_given() -> None:
    assert "column 5 of the header has no name" in messages("categories", [*CATEGORIES, ""])
    assert "column 4 has no name" in messages("categories", [*CATEGORIES[:3], ""])


@pytest.mark.reading("I-19")
def test_missing_password_column_is_a_warning() -> None:
    assert header_problems("users", HEADERS["users"][:-1]) == [("missing_column", "password", True)]


LOST_LINE_BREAKS = {
    "bulk": ("categories", [*CATEGORIES, "c-1", "", "", "Ines Barr"]),
    "delta": ("categories", [*CATEGORIES, "c-1", "active", "2026-09-01T10:00:00Z", "Ines Barr"]),
    "glued": ("categories", [*CATEGORIES[:3], "titlec-1", "", "", "Ines Barr"]),
    "glued metadata": ("categories", [*CATEGORIES, "metadata.roomc-1", "", "", "Ines Barr", "12"]),
    "unknown column": ("categories", [*CATEGORIES, "color", "c-1", "", "", "Ines Barr", "red"]),
    "several records": ("categories", [*CATEGORIES, *("c-1", "", "", "Ines Barr", "c-2", "", "", "Ida Lee") * 300]),
    "shorter record": (
        "users",
        [*HEADERS["users"], "T01", "", "", "true", "h1,e1", "teacher", "ibarr", "", "Ines", "Barr"],
    ),
}


@pytest.mark.parametrize("case", LOST_LINE_BREAKS)
def test_lost_line_break_after_the_header_is_the_one_error(case: str) -> None:
    name, header = LOST_LINE_BREAKS[case]
    [problem] = find_problems(FILES[name], header)
    assert (problem.code, problem.column, problem.is_warning) == ("bad_header", None, False)
    assert problem.message == "the first record is in the header row: the line break after the header is missing"
    assert "Ines" not in problem.hint


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        (["color", "Room 2"], ["color", "Room 2"]),
        (["color", "color"], [None]),
        (["ines@barr.example"], [None]),
        (["color", "{SIS:1}"], [None]),
        (["Ines", "", "Barr"], [None, None]),
        (["metadata.", "2015-01-31"], ["metadata.", None]),
    ],
)
def test_unknown_column_is_named_only_if_it_is_no_cell(columns: list[str], expected: list[str | None]) -> None:
    problems = list(find_problems(FILES["categories"], [*CATEGORIES, *columns]))
    assert [problem.column for problem in problems] == expected
    assert all(problem.is_warning for problem in problems)
    text = " ".join(problem.message for problem in problems)
    assert not any(name in text for name in columns if name)


def test_unknown_columns_that_are_not_named_have_their_position() -> None:
    assert "columns 5, 6 are not columns of the standard" in messages("categories", [*CATEGORIES, "Ines", "i@b.org"])
    assert "column 5 is not a column of the standard" in messages("categories", [*CATEGORIES, "i@b.example"])


def test_letter_case_of_standard_names_is_corrected() -> None:
    header = ["SOURCEDID", " status", "datelastmodified ", "Title", "Metadata.Room", "color"]
    assert with_standard_case(FILES["categories"], header) == [
        *("sourcedId", " status", "dateLastModified", "title", "Metadata.Room", "color"),
    ]
    assert with_standard_case(FILES["categories"], ["title", "TITLE"]) == ["title", "TITLE"]


def test_columns_without_required_values_may_be_missing() -> None:
    assert missing_optional_columns(FILES["orgs"], ["sourcedId"], delta=False) == [
        *("status", "dateLastModified", "identifier", "parentSourcedId"),
    ]
    assert missing_optional_columns(FILES["orgs"], ["sourcedId"], delta=True) == ["identifier", "parentSourcedId"]
    assert "score" not in missing_optional_columns(FILES["results"], [], delta=False)
