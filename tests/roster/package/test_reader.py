"""Files and cells that refuse a package: each is told with its file, row, column and value, and what to do."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from click.testing import CliRunner

from chalk_flask.cli import main
from chalk_flask.oneroster.fields.composites import EnumListField, RefField, RefListField
from chalk_flask.oneroster.fields.scalars import BooleanField, EnumField, GuidField
from chalk_flask.oneroster.schemas import FILES
from tests.support.packages import HEADERS, Made
from tests.support.rejections import Filled, places


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Filled:
    return Filled(tmp_path_factory.mktemp("filled") / "store", "json")


class Cell(NamedTuple):
    """A value of a column that refuses the package."""

    file: str
    column: str
    value: str
    code: str = "bad_value"


def each_column() -> Iterator[Cell]:
    """What no column of its type takes, for every column of every file."""
    for name, resource in FILES.items():
        for header, _, element in resource.columns:
            if element is None:
                continue
            if isinstance(element, EnumField | EnumListField):  # V-01
                yield Cell(name, header, "nonsense")
                yield Cell(name, header, "Student" if header == "roles" else element_word(element).title())
            if isinstance(element, BooleanField):
                yield Cell(name, header, "yes")
            if isinstance(element, GuidField):
                yield Cell(name, header, "x" * 256)
            if isinstance(element, RefField):
                yield Cell(name, header, "nobody", "dangling_reference")
            if element.in_csv:
                yield Cell(name, header, "", "missing_value")
            if isinstance(element, RefListField) and element.in_csv:
                yield Cell(name, header, " , ,", "missing_value")


def element_word(element: EnumField | EnumListField) -> str:
    """A word of the element's vocabulary that is not the same with a capital."""
    return next(word for word in element.vocabulary if word != word.title())


DATES = [
    Cell(name, column, value)
    for name, column in (
        ("academicSessions", "startDate"),
        ("demographics", "birthDate"),
        ("enrollments", "beginDate"),
        ("results", "scoreDate"),
    )
    for value in (
        "2024-02-30",
        "2024-1-1",
        "20240101",
        "2024-01-01T00:00:00Z",
        "01/02/2024",
        "2024-01-01 ",
        "٢٠٢٤-01-01",
    )
]
MOMENTS = [
    Cell(name, column, value)
    for name, column in (("lineItems", "dueDate"), ("users", "dateLastModified"))
    for value in ("2024-02-30", "tomorrow", "2024-01-01T25:00:00Z", "2024-01-01T00:00:00+99:00")
]
YEARS = [Cell("academicSessions", "schoolYear", value) for value in ("24", "2024-25", "２０２４", "year")]
NUMBERS = [  # I-24
    Cell(name, column, value)
    for name, column in (("results", "score"), ("lineItems", "resultValueMax"))
    for value in ("NaN", "inf", "-Infinity", "1e999", "1,5", "0x10", "1_000", "--1", "ten", "٣", " 1")
]
USER_IDS = [
    Cell("users", "userIds", value)
    for value in (
        "LDAP:1",
        "{LDAP}",
        "{LDAP:1",
        "{:1}",
        "{LDAP:}",
        "{LDAP: }",
        "{ :1}",
        "{a:b}{c:d}",
        "{a:b},,{c:d}",
        "{a:b},x",
    )
]
DANGLING = [
    Cell("demographics", "sourcedId", "nobody", "dangling_reference"),
    Cell("users", "orgSourcedIds", "org-2,nobody", "dangling_reference"),
    Cell("users", "agentSourcedIds", "nobody,pupil-1", "dangling_reference"),
]
CELLS = [*each_column(), *DATES, *MOMENTS, *YEARS, *NUMBERS, *USER_IDS, *DANGLING]


@pytest.mark.parametrize("cell", CELLS, ids=lambda cell: f"{cell.file}-{cell.column}-{cell.value[:20]!r}")
def test_a_cell_that_will_not_do_is_told(filled: Filled, tmp_path: Path, cell: Cell) -> None:
    made = Made().set(cell.file, "", **{cell.column: cell.value})
    report = filled.refuse(made.zip(tmp_path / "package.zip"))
    told = next(each for each in report["errors"] if each["code"] == cell.code)
    assert (told["file"], told["row"], told["column"]) == (f"{cell.file}.csv", 2, cell.column)
    shown = "nobody" if "nobody" in cell.value else cell.value
    assert told["value"] == (shown if len(shown) <= 200 else shown[:197] + "...")


def test_a_password_is_never_told(filled: Filled, tmp_path: Path) -> None:  # I-19
    made = Made().set("users", "pupil-1", role="?")
    made.raw["users.csv"] = made.files()["users.csv"].replace(b"unspeakable-7391", b"unspeakable-\xff", 1)
    path = made.folder(tmp_path / "package")
    assert [each[:1] + each[3:] for each in places(filled.refuse(path))] == [
        ("bad_value", "role", "?"),
        ("bad_text", "password", None),
    ]
    result = CliRunner().invoke(main, ["import", str(path), "--storage", filled.url])
    assert (result.exit_code, "unspeakable" in result.output) == (1, False)
    assert "users.csv, row 2, column role: '?' is not one of" in result.output


def test_rows_are_counted_as_records_whatever_lines_they_take(filled: Filled, tmp_path: Path) -> None:  # I-16
    made = Made()
    made.raw["categories.csv"] = (
        b'sourcedId,status,dateLastModified,title\r\ncat-1,,,"two\r\nlines"\r\n\r\n'
        b'cat-2,bad,,Third\n"cat-3\n\n",,,\ncat-4,,,x,y\n'
    )
    assert places(filled.refuse(made.folder(tmp_path / "package"))) == [
        ("bad_value", "categories.csv", 4, "status", "bad"),
        ("missing_value", "categories.csv", 5, "title", ""),
        ("bad_row", "categories.csv", 6, None, None),
    ]


def test_ids_stand_once_in_a_file(filled: Filled, tmp_path: Path) -> None:  # I-17
    made = Made()
    for name in FILES:
        made.rows[name].append(dict(made.rows[name][0]))
    found = places(filled.refuse(made.folder(tmp_path / "package")))
    assert sorted(found) == sorted(
        ("repeated_id", f"{name}.csv", len(rows) + 1, "sourcedId", rows[0]["sourcedId"])
        for name, rows in made.rows.items()
    )


def test_a_repeated_id_is_found_wherever_its_column_stands(filled: Filled, tmp_path: Path) -> None:
    made = Made()
    made.raw["enrollments.csv"] = (
        b"userSourcedId,sourcedId,status,dateLastModified,classSourcedId,schoolSourcedId,role,primary,beginDate,endDate\n"
        b"pupil-1,e-1,,,class-1,org-2,student,,,\n\npupil-1,e-2,,,class-2,org-3,student,,,\n"
        b"pupil-2,e-1,,,class-1,org-2,student,,,\n,,,,,,,,,\n,,,,,,,,,\n"
    )
    found = places(filled.refuse(made.folder(tmp_path / "package")))
    assert [each[:3] for each in found if each[0] == "repeated_id"] == [("repeated_id", "enrollments.csv", 5)]


@pytest.mark.parametrize(
    ("name", "parents"),
    [
        ("orgs", {"org-2": "org-2"}),
        ("orgs", {"org-1": "org-2"}),
        ("orgs", {"org-1": "org-3", "org-3": "org-2", "org-2": "org-1"}),
        ("academicSessions", {"year-1": "year-1"}),
        ("academicSessions", {"year-1": "period-1"}),
    ],
    ids=["itself", "two", "three", "a session itself", "three sessions"],
)
def test_nobody_is_an_ancestor_of_itself(filled: Filled, tmp_path: Path, name: str, parents: dict[str, str]) -> None:
    made = Made()  # I-25
    for key, parent in parents.items():
        made.set(name, key, parentSourcedId=parent)
    found = places(filled.refuse(made.folder(tmp_path / "package")))
    assert {each[:2] for each in found} == {("cycle", f"{name}.csv")}
    for _, _, row, column, value in found:
        assert row is not None
        assert (column, value) == ("parentSourcedId", made.rows[name][row - 2]["parentSourcedId"])
    assert len(found) >= len(parents)


def test_all_that_is_wrong_is_told_the_first_hundred_in_full(filled: Filled, tmp_path: Path) -> None:  # I-15
    made = Made().set("orgs", "org-1", type="?").set("results", "result-1", score="?")
    made.rows["users"] += [made.row("users") | {"sourcedId": f"u-{n}", "role": "?"} for n in range(150)]
    path = made.folder(tmp_path / "package")
    report = filled.refuse(path)
    assert (report["errorCount"], len(report["errors"])) == (152, 100)
    assert report["errorCounts"] == [
        {"file": "orgs.csv", "code": "bad_value", "count": 1},
        {"file": "results.csv", "code": "bad_value", "count": 1},
        {"file": "users.csv", "code": "bad_value", "count": 150},
    ]
    text = CliRunner().invoke(main, ["import", str(path), "--storage", filled.url]).output
    assert text.startswith("package: Refused: nothing was changed.\n152 problems:\norgs.csv, row 2, column type: ")
    assert "... and 52 more; in all:\n  orgs.csv: 1 x bad_value\n" in text


HEADER = b"sourcedId,status,dateLastModified,title"

CATEGORIES: dict[str, tuple[bytes, list[tuple[str, int | None, str | None]]]] = {
    "nothing at all": (b"", [("empty_file", None, None)]),
    "a blank header": (b"\n", [("missing_column", 1, name) for name in HEADERS["categories"]]),
    "a missing column": (b"sourcedId,status,title\n", [("missing_column", 1, "dateLastModified")]),
    "a renamed column": (HEADER.replace(b"title", b"Title"), [("missing_column", 1, "title")]),
    "another separator": (HEADER.replace(b",", b";"), [("missing_column", 1, name) for name in HEADERS["categories"]]),
    "a repeated column": (HEADER + b",title\n", [("repeated_column", 1, "title")]),
    "repeated metadata": (HEADER + b",metadata.a,metadata.a\n", [("repeated_column", 1, "metadata.a")]),
    "a million columns": (HEADER + b",x" * 1_000_000, [("too_many_columns", 1, None)]),
    "a header without end": (b"x" * (17 << 20), [("bad_csv", 1, None)]),
    "columns without end": (b"," * (17 << 20), [("bad_csv", 1, None)]),
    "a header in Latin-1": (HEADER + ",größe\n".encode("latin-1"), [("bad_text", 1, None)]),
    "metadata in Latin-1": (HEADER + ",metadata.größe\n".encode("latin-1"), [("bad_text", 1, None)]),
    "a header with NUL": (HEADER + b",metadata.a\0\n", [("bad_text", 1, None)]),
    "UTF-16": ((HEADER + b"\ncat-1,,,A\n").decode().encode("utf-16"), [("bad_text", 1, None)]),
    "Latin-1": (HEADER + b"\ncat-1,,,\xc4pfel\n", [("bad_text", 2, "title")]),
    "an id in Latin-1": (HEADER + b"\nc\xe4t,,,A\n", [("bad_text", 2, "sourcedId")]),
    "NUL": (HEADER + b"\n\ncat-1,,,A\0B\n", [("bad_text", 3, "title")]),
    "too few cells": (HEADER + b"\ncat-1,,\n", [("bad_row", 2, None)]),
    "too many cells": (HEADER + b"\ncat-1,,,A,\n", [("bad_row", 2, None)]),
    "a quote that stays open": (HEADER + b'\ncat-1,,,A\n\ncat-2,,,"B\n', [("bad_csv", 4, None)]),
    "text behind a quote": (HEADER + b'\ncat-1,,,"A"B\n', [("bad_csv", 2, None)]),
    "a cell that is too long": (HEADER + b"\ncat-1,,," + b"x" * (128 * 1024 + 1), [("too_large_cell", 2, None)]),
    "a row without end": (HEADER + b"\ncat-1,,,A\n" + b',"\nx"' * (4 << 20), [("bad_csv", 3, None)]),
}


@pytest.mark.parametrize("case", CATEGORIES)
def test_a_file_that_cannot_be_read_as_it_is_meant_is_told(filled: Filled, tmp_path: Path, case: str) -> None:  # I-02
    content, expected = CATEGORIES[case]
    made = Made()
    made.raw["categories.csv"] = content
    found = places(filled.refuse(made.folder(tmp_path / "package")))
    assert [(code, row, column) for code, file, row, column, _ in found if file == "categories.csv"] == expected


def test_a_cell_of_just_the_limit_is_read(tmp_path: Path) -> None:
    made = Made().set("categories", "cat-1", title="x" * 128 * 1024)
    words = ["import", str(made.folder(tmp_path / "p")), "--storage", f"json:///{tmp_path}/new"]
    assert CliRunner().invoke(main, words).exit_code == 0


def test_nothing_is_said_of_references_to_a_file_that_was_not_read_through(filled: Filled, tmp_path: Path) -> None:
    made = Made()
    made.raw["users.csv"] = made.files()["users.csv"] + b'"\n'
    assert [each[:3] for each in places(filled.refuse(made.folder(tmp_path / "p")))] == [("bad_csv", "users.csv", 6)]
