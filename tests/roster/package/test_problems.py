"""Collection of problems: limits, JSON form and text form."""

from __future__ import annotations

from dataclasses import replace

import pytest

from chalk_flask.roster.package.problems import (
    MAX_LISTED_PER_COLUMN,
    MAX_LISTED_PROBLEMS,
    MAX_TEXT_LENGTH,
    ImportProblem,
    ImportProblems,
    PackageRejectedError,
    without_values,
)

ERROR = ImportProblem("bad_value", "'x' is not a number", "Correct the cell.", "results.csv", 2, "score", "x")
WARNING = ImportProblem("unknown_file", "not a file of OneRoster 1.1", "It was ignored.", is_warning=True)


def test_problems_survive_json_round_trip() -> None:
    problems = ImportProblems()
    problems.extend([ERROR, WARNING])
    data = problems.to_dict()
    assert list(data["errors"][0]) == ["code", "message", "remedy", "file", "row", "column", "value"]
    assert data["errorCounts"] == [{"file": "results.csv", "code": "bad_value", "count": 1}]
    assert ImportProblems.from_dict(data) == problems


def test_only_errors_are_counted_and_raise() -> None:
    problems = ImportProblems()
    problems.add(WARNING)
    problems.raise_if_errors()
    assert problems.total == 0
    problems.extend(replace(ERROR, column=f"score {number}") for number in range(MAX_LISTED_PROBLEMS + 1))
    assert (len(problems.errors), problems.total) == (MAX_LISTED_PROBLEMS, MAX_LISTED_PROBLEMS + 1)
    with pytest.raises(PackageRejectedError):
        problems.raise_if_errors()


def test_many_errors_of_one_column_do_not_hide_others() -> None:
    problems = ImportProblems()
    problems.extend([ERROR] * 500)
    copy = problems.copy()
    problems.extend([replace(ERROR, column="comment"), ERROR])
    assert [error.column for error in problems.errors] == ["score"] * MAX_LISTED_PER_COLUMN + ["comment"]
    problems.reset(copy)
    problems.extend([ERROR, replace(ERROR, column="comment")])
    assert (len(problems.errors), problems.total) == (MAX_LISTED_PER_COLUMN + 1, 502)


def test_text_names_place_value_and_hint() -> None:
    expected = "results.csv, row 2, column score: 'x' is not a number (value 'x'). Correct the cell."
    assert ERROR.to_text() == expected
    problems = ImportProblems()
    problems.add(WARNING)
    assert problems.to_text() == ["warning: not a file of OneRoster 1.1. It was ignored."]


def test_truncated_problem_is_printable() -> None:
    problem = ImportProblem("bad_value", "m" * 300, "hint", "\udce9.csv", 2, None, "v" * 300).truncated()
    assert (len(problem.message), len(problem.value or "")) == (MAX_TEXT_LENGTH, MAX_TEXT_LENGTH)
    assert problem.file == "\\udce9.csv"


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ("'Ada' is not one of a, b", "The value is not one of a, b"),
        ('the parent\'s "Ada" is invalid', "the parent's ... is invalid"),
        ("'Ada Lovela...", "..."),
    ],
)
def test_stored_message_contains_no_quoted_value(message: str, expected: str) -> None:
    stored = without_values(ImportProblem("bad_value", message, "hint", value="Ada").to_dict())
    assert (stored["message"], stored["value"]) == (expected, None)
