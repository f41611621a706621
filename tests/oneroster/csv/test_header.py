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
