"""Error values of spreadsheets and words for an absent value: warnings in text, errors in ids and references."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson
import pytest
from marshmallow import ValidationError

from backends import Backend
from chalk_flask.oneroster.fields.scalars import GuidField, NameField
from chalk_flask.oneroster.schemas import FILES
from chalk_flask.oneroster.vocabularies import ERROR_VALUES, NULL_WORDS
from chalk_flask.roster.imports import ImportReport
from chalk_flask.roster.package.data_file import ReadingOptions
from tests.oneroster.csv.conftest import DEFAULT, load
from tests.support.packages import PackageBuilder, Row, delta_package, small_row

STRICT = replace(DEFAULT, strict=True)
LENIENT = replace(DEFAULT, reading=ReadingOptions(lenient=True))

EXAMPLES = [
    "#REF!",
    "#N/A",
    "#NAME?",
    "#VALUE!",
    "#DIV/0!",
    "#BEZUG!",
    "########",
    "NULL",
    "null",
    "\\N",
    "None",
    "nan",
]


def record(store: Backend, name: str, key: str) -> dict[str, Any]:
    """Return a stored record."""
    with store.read("default") as snapshot:
        found: dict[str, Any] = orjson.loads(snapshot.get_many(name, [key])[key])
        return found


def warning_texts(report: ImportReport) -> list[str]:
    """Return the warnings of a package that was applied."""
    assert report.state == "committed", report.to_text()
    return [warning.to_text() for warning in report.problems.warnings]


def error_texts(report: ImportReport) -> list[str]:
    """Return the errors that the report of a rejected package lists."""
    assert report.state == "refused"
    return [error.to_text() for error in report.problems.errors]


def test_examples_are_placeholders() -> None:
    assert set(EXAMPLES) <= ERROR_VALUES | NULL_WORDS
    assert not ERROR_VALUES & NULL_WORDS
    assert not {"", "N/A", "none", "Nan", "NA", "0", "#1", "C#", "-"} & (ERROR_VALUES | NULL_WORDS)


@pytest.mark.reading("I-36")
def test_error_values_in_text_are_one_warning_per_column(store: Backend, tmp_path: Path) -> None:
    package = PackageBuilder().set("users", "pupil-1", email="#REF!", username="#REF!")
    package.set("users", "pupil-2", email="#REF!", phone="5").set("users", "parent-1", email="#N/A", phone="#N/A")
    package.set("orgs", "org-3", name="#BEZUG!")
    assert warning_texts(load(store, package, tmp_path)) == [
        "orgs.csv, column name: 1 cell with an error value of a spreadsheet, such as #BEZUG!. They were stored."
        " Correct the formulas.",
        *(
            f"users.csv, column {column}: {cells} with an error value of a spreadsheet, such as {example}."
            " They were stored. Correct the formulas."
            for column, cells, example in (
                ("username", "1 cell", "#REF!"),
                ("email", "3 cells", "#REF!"),
                ("phone", "1 cell", "#N/A"),
            )
        ),
    ]
    assert record(store, "users", "pupil-1")["email"] == "#REF!"


@pytest.mark.reading("I-36")
@pytest.mark.parametrize("word", EXAMPLES)
@pytest.mark.parametrize(
    ("name", "column"),
    [
        ("users", "identifier"),
        ("classes", "location"),
        ("courses", "title"),
        ("users", "grades"),
        ("results", "comment"),
    ],
)
def test_placeholder_in_any_text_column_is_a_warning(
    store: Backend, tmp_path: Path, name: str, column: str, word: str
) -> None:
    report = load(store, PackageBuilder().set(name, "", **{column: word}), tmp_path)
    texts = [text for text in warning_texts(report) if "not on the list" not in text]  # grades have a second warning
    kind = "an error value of a spreadsheet" if word in ERROR_VALUES else "a word for an absent value"
    assert [text.startswith(f"{name}.csv, column {column}: 1 cell with {kind}, such as {word}.") for text in texts] == [
        True
    ]


def test_placeholder_in_a_metadata_column_is_a_warning(store: Backend, tmp_path: Path) -> None:
    package = PackageBuilder()
    package.extra["enrollments"] = ["metadata.note"]
    for row in package.rows["enrollments"]:
        row["metadata.note"] = "NULL"
    [text] = warning_texts(load(store, package, tmp_path))
    assert text.startswith(
        "enrollments.csv, column metadata.note: 2 cells with a word for an absent value, such as NULL."
    )
    [text] = warning_texts(load(store, package, tmp_path, LENIENT))
    assert text.startswith("enrollments.csv: 2 rows: ")
    assert "metadata" not in record(store, "enrollments", "enr-1")


def test_other_words_are_values_without_a_warning(store: Backend, tmp_path: Path) -> None:
    package = PackageBuilder().set("users", "pupil-1", givenName="Nan", middleName="none", email="N/A", phone="-")
    package.set("users", "pupil-2", identifier="#12", sms="nullable", familyName="Nullmann")
    for options in (DEFAULT, LENIENT, STRICT):
        assert load(store, package, tmp_path, options).problems.warnings == []


@pytest.mark.reading("I-36")
@pytest.mark.parametrize("word", ["Null", "NULL", "None", "nan"])
def test_person_whose_name_is_such_a_word_keeps_it(store: Backend, tmp_path: Path, word: str) -> None:
    package = PackageBuilder().set("users", "pupil-1", familyName=word, middleName=word)
    for options in (DEFAULT, STRICT, LENIENT):
        report = load(store, package, tmp_path, options)
        assert report.state in ("committed", "unchanged"), report.to_text()
        assert [(warning.column, warning.message) for warning in report.problems.warnings] == [
            (column, f"1 cell with a word for an absent value, such as {word}")
            for column in ("familyName", "middleName")
        ]
        user = record(store, "users", "pupil-1")
        assert (user["familyName"], user["middleName"]) == (word, word)


@pytest.mark.reading("I-33", "I-36")
def test_strict_import_rejects_placeholders_once_per_column(store: Backend, tmp_path: Path) -> None:
    package = PackageBuilder().set("users", "pupil-1", email="NULL", familyName="#REF!")
    package.set("users", "pupil-2", email="NULL").set("orgs", "org-3", name="#N/A")
    assert [text.partition(". ")[0] for text in error_texts(load(store, package, tmp_path, STRICT))] == [
        "orgs.csv, row 4, column name: '#N/A' is an error value of a spreadsheet (value '#N/A')",
        "users.csv, row 2, column familyName: '#REF!' is an error value of a spreadsheet (value '#REF!')",
        "users.csv, row 2, column email: 'NULL' is a word for an absent value (2 rows: 2, 3) (value 'NULL')",
    ]
    report = load(store, package, tmp_path, replace(STRICT, invalid_rows="quarantine"))
    assert (report.state, report.quarantined["users"]) == ("committed", 3)  # parent-1 refers to pupil-1


@pytest.mark.reading("I-36")
@pytest.mark.parametrize("word", EXAMPLES)
def test_placeholder_is_neither_an_id_nor_a_reference(store: Backend, tmp_path: Path, word: str) -> None:
    package = PackageBuilder()
    package.rows["orgs"].append(small_row("orgs", "org-3", sourcedId=word))
    package.set("courses", "course-1", orgSourcedId=word).set("users", "pupil-2", orgSourcedIds=f"org-2,{word}")
    texts = error_texts(load(store, package, tmp_path))
    assert [text.partition(": ")[0] for text in texts] == [
        "orgs.csv, row 5, column sourcedId",
        "courses.csv, row 2, column orgSourcedId",
        "users.csv, row 3, column orgSourcedIds",
    ]
    kind = "an error value of a spreadsheet" if word in ERROR_VALUES else "a word for an absent value"
    assert all(f" is {kind}, not an identifier" in text for text in texts)


def id_columns() -> Iterator[tuple[str, str]]:
    """Yield file and column of each id and reference."""
    for name, resource_type in FILES.items():
        for header, _, element in resource_type.columns:
            if isinstance(element, GuidField):
                yield name, header


@pytest.mark.parametrize(("name", "column"), list(id_columns()))
def test_each_column_of_ids_rejects_placeholders_on_both_paths(name: str, column: str) -> None:
    [field] = [field for header, _, field in FILES[name].columns if header == column and field]
    for parse in (field.from_cell, field.fast_parser()):
        for word in EXAMPLES:
            with pytest.raises(ValidationError, match="not an identifier"):
                parse(word)


NULLS: dict[str, dict[str, Row]] = {
    "users": {"pupil-1": {"agentSourcedIds": "NULL", "email": "NULL", "userIds": "null", "status": "\\N"}},
    "orgs": {"org-1": {"parentSourcedId": "NULL", "identifier": "\\N", "dateLastModified": "NULL"}},
    "enrollments": {"enr-1": {"primary": "NULL", "beginDate": "\\N", "endDate": "null"}},
    "demographics": {"pupil-1": {"birthDate": "None", "sex": "nan", "cityOfBirth": "NULL"}},
    "results": {"result-1": {"scoreStatus": "exempt", "score": "NULL", "comment": "(null)"}},
    "courses": {"course-1": {"schoolYearSourcedId": "NULL", "courseCode": "NULL", "grades": "NULL"}},
}


@pytest.mark.reading("I-36")
def test_lenient_reading_reads_null_words_as_empty(store: Backend, tmp_path: Path) -> None:
    package, expected = PackageBuilder(), PackageBuilder()
    for name, rows in NULLS.items():
        for key, cells in rows.items():
            package.set(name, key, **cells)
            empty = {column: "" for column in cells if column != "scoreStatus"}
            expected.set(name, key, **cells | empty)
    texts = warning_texts(load(store, package, tmp_path, LENIENT))
    assert sorted(text.partition(":")[0] for text in texts) == sorted(f"{name}.csv" for name in NULLS)
    assert all(": 1 row: " in text and text.endswith(" (T-09).") for text in texts)
    assert load(store, expected, tmp_path).state == "unchanged"
    assert load(store, package, tmp_path).state == "refused"


@pytest.mark.reading("I-36")
def test_lenient_reading_keeps_null_words_in_required_cells(store: Backend, tmp_path: Path) -> None:
    package = PackageBuilder().set("users", "pupil-1", username="NULL", email="NULL", middleName="\\N")
    tolerated, kept = warning_texts(load(store, package, tmp_path, LENIENT))
    assert tolerated.startswith("users.csv: 1 row: ")
    assert kept.startswith("users.csv, column username: 1 cell with a word for an absent value, such as NULL.")
    user = record(store, "users", "pupil-1")
    assert (user["username"], "email" in user, "middleName" in user) == ("NULL", False, False)
    package = PackageBuilder().set("enrollments", "enr-1", userSourcedId="NULL", beginDate="NULL")
    [text] = error_texts(load(store, package, tmp_path, LENIENT))
    assert text.startswith("enrollments.csv, row 2, column userSourcedId: 'NULL' is a word for an absent value")


def test_error_values_stay_in_lenient_reading(store: Backend, tmp_path: Path) -> None:
    package = PackageBuilder().set("users", "pupil-1", email="#REF!").set("users", "pupil-2", email="NULL")
    texts = warning_texts(load(store, package, tmp_path, LENIENT))
    assert len(texts) == 2
    assert "column email: 1 cell with an error value of a spreadsheet, such as #REF!" in texts[1]
    assert record(store, "users", "pupil-1")["email"] == "#REF!"


def test_rows_with_both_kinds_are_judged_by_strict_and_lenient_reading(store: Backend, tmp_path: Path) -> None:
    package = PackageBuilder().set("users", "pupil-1", email="NULL", phone="#REF!")
    [text] = error_texts(load(store, package, tmp_path, replace(LENIENT, strict=True)))
    assert "column phone: '#REF!' is an error value of a spreadsheet" in text


@pytest.mark.reading("I-34", "I-36")
def test_quarantined_row_with_a_placeholder_as_id_may_be_any_record(store: Backend, tmp_path: Path) -> None:
    load(store, PackageBuilder(), tmp_path)
    package = PackageBuilder().set("categories", "cat-1", sourcedId="#REF!")
    package = package.only("categories")
    report = load(store, package, tmp_path, replace(DEFAULT, invalid_rows="quarantine"))
    assert (report.state, [warning.code for warning in report.problems.warnings]) == ("unchanged", ["uncertain_id"])
    assert record(store, "categories", "cat-1")["status"] == "active"


def test_delta_row_cannot_delete_a_placeholder(store: Backend, tmp_path: Path) -> None:
    load(store, PackageBuilder(), tmp_path)
    [text] = error_texts(load(store, delta_package(users=[{"sourcedId": "NULL", "status": "tobedeleted"}]), tmp_path))
    assert text.startswith("users.csv, row 2, column sourcedId: 'NULL' is a word for an absent value")


def test_names_of_persons_are_fields_of_their_own() -> None:
    assert {name for name, field in FILES["users"].fields.items() if isinstance(field, NameField)} == {
        "givenName",
        "familyName",
        "middleName",
    }


def test_rows_with_several_unnamed_columns_are_repaired(store: Backend, tmp_path: Path) -> None:
    package = PackageBuilder().set("users", "pupil-1", email="NULL", agentSourcedIds="parent-1\xa0")
    package.set("users", "pupil-2", role="pupil")
    package.raw["users.csv"] = package.files()["users.csv"].replace(b"\r\n", b",,\r\n")
    assert [warning.code for warning in load(store, package, tmp_path, LENIENT).problems.warnings] == [
        *("tolerated_null_word", "tolerated_id", "tolerated_role", "unnamed_column")
    ]
    user = record(store, "users", "pupil-1")
    assert ("email" in user, user["agents"][0]["sourcedId"]) == (False, "parent-1")
