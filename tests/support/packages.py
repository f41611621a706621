"""Builder of OneRoster CSV packages: a small valid package that a test changes as needed."""

from __future__ import annotations

import csv
import io
import shutil
import zipfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Self, TypeAlias

from chalk_flask.oneroster.schemas import FILES
from chalk_flask.roster.diff import first_load
from chalk_flask.roster.package.parser_process import process
from tests.support.paths import DATA

CSV_PACKAGES = DATA / "csv"

Row: TypeAlias = dict[str, str]

HEADERS = {name: [column.header for column in resource_type.columns] for name, resource_type in FILES.items()}

ROWS: dict[str, list[Row]] = {
    "orgs": [
        {"sourcedId": "org-1", "name": "District", "type": "district"},
        {"sourcedId": "org-2", "name": "North School", "type": "school", "parentSourcedId": "org-1"},
        {"sourcedId": "org-3", "name": "South School", "type": "school", "parentSourcedId": "org-1"},
    ],
    "academicSessions": [
        {
            "sourcedId": key,
            "title": key.title(),
            "type": kind,
            "startDate": "2026-08-17",
            "endDate": "2027-06-12",
            "parentSourcedId": parent,
            "schoolYear": "2027",
        }
        for key, kind, parent in (
            ("year-1", "schoolYear", ""),
            ("term-1", "term", "year-1"),
            ("period-1", "gradingPeriod", "term-1"),
        )
    ],
    "resources": [
        {"sourcedId": "res-1", "vendorResourceId": "urn:1", "roles": "student,teacher", "importance": "primary"},
        {"sourcedId": "res-2", "vendorResourceId": "urn:2"},
    ],
    "courseResources": [{"sourcedId": "cr-1", "courseSourcedId": "course-1", "resourceSourcedId": "res-1"}],
    "classResources": [
        {"sourcedId": "kr-1", "title": "Book", "classSourcedId": "class-1", "resourceSourcedId": "res-2"},
        {"sourcedId": "kr-2", "classSourcedId": "class-1", "resourceSourcedId": "res-1"},
    ],
    "courses": [
        {
            "sourcedId": "course-1",
            "schoolYearSourcedId": "year-1",
            "title": "Arithmetic",
            "courseCode": "ARI",
            "grades": "05",
            "orgSourcedId": "org-2",
        }
    ],
    "classes": [
        {
            "sourcedId": key,
            "title": f"Arithmetic {key}",
            "courseSourcedId": "course-1",
            "classType": "scheduled",
            "schoolSourcedId": school,
            "termSourcedIds": "term-1",
        }
        for key, school in (("class-1", "org-2"), ("class-2", "org-3"))
    ],
    "users": [
        {
            "sourcedId": key,
            "enabledUser": "true",
            "orgSourcedIds": "org-2",
            "role": role,
            "username": f"{key}.name",
            "userIds": f"{{SIS:{key}}}",
            "givenName": key.title(),
            "familyName": "O'Brien",
            "agentSourcedIds": agents,
            "password": "unspeakable-7391",
        }
        for key, role, agents in (
            ("pupil-1", "student", "parent-1"),
            ("pupil-2", "student", ""),
            ("teacher-1", "teacher", ""),
            ("parent-1", "parent", "pupil-1"),
        )
    ],
    "demographics": [{"sourcedId": "pupil-1", "birthDate": "2015-01-31", "sex": "female", "asian": "true"}],
    "enrollments": [
        {
            "sourcedId": key,
            "classSourcedId": "class-1",
            "schoolSourcedId": "org-2",
            "userSourcedId": user,
            "role": role,
            "beginDate": "2026-08-17",
        }
        for key, user, role in (("enr-1", "pupil-1", "student"), ("enr-2", "teacher-1", "teacher"))
    ],
    "categories": [{"sourcedId": "cat-1", "title": "Homework"}],
    "lineItems": [
        {
            "sourcedId": "item-1",
            "title": "Sheet 1",
            "assignDate": "2026-09-01",
            "dueDate": "2026-09-08",
            "classSourcedId": "class-1",
            "categorySourcedId": "cat-1",
            "gradingPeriodSourcedId": "period-1",
            "resultValueMin": "0",
            "resultValueMax": "10.5",
        }
    ],
    "results": [
        {
            "sourcedId": "result-1",
            "lineItemSourcedId": "item-1",
            "studentSourcedId": "pupil-1",
            "scoreStatus": "fully graded",
            "score": "9.25",
            "scoreDate": "2026-09-09",
        }
    ],
}
"""Rows of the small package: at least one for each file, and a value in each kind of column."""

SMALL_PACKAGE_USERS = len(ROWS["users"])

DELTA_TIMESTAMP = "2026-09-01T10:00:00.000Z"


MIN_ROWS, MIN_EARLIER_RECORDS = 20, 5
"""Limits of first loads that `large_package` exceeds."""

LARGE_PACKAGE_USERS = 40


class PackageBuilder:
    """Builder of one package. It starts with the small package, all files bulk.

    `rows` holds the rows by file; a cell that is left out is empty. `extra` holds additional columns by file. `raw`
    holds files with given bytes, by file name. `properties` are those of the manifest.
    """

    def __init__(self) -> None:
        self.rows = {name: [dict(row) for row in rows] for name, rows in ROWS.items()}
        self.extra: dict[str, list[str]] = {}
        self.raw: dict[str, bytes] = {}
        self.properties = {"manifest.version": "1.0", "oneroster.version": "1.1"} | {
            f"file.{name}": "bulk" for name in FILES
        }

    def row(self, name: str, key: str = "", /) -> Row:
        """Return the row with this id, or the first row, to be changed in place."""
        return next(row for row in self.rows[name] if row["sourcedId"] == key or not key)

    def set(self, name: str, key: str, /, **cells: str) -> Self:
        """Change cells of a row."""
        self.row(name, key).update(cells)
        return self

    def drop(self, name: str, *keys: str) -> Self:
        """Remove rows."""
        self.rows[name] = [row for row in self.rows[name] if row["sourcedId"] not in keys]
        return self

    def only(self, *names: str) -> Self:
        """Remove all other files and declare them as absent."""
        for name in FILES:
            if name not in names:
                self.properties[f"file.{name}"] = "absent"
                self.rows.pop(name, None)
        return self

    def files(self) -> dict[str, bytes]:
        """Return the bytes of each file by name."""
        manifest = _to_csv(["propertyName", "value"], [list(pair) for pair in self.properties.items()])
        tables = {f"{name}.csv": self._table(name) for name in self.rows}
        return {"manifest.csv": manifest} | tables | self.raw

    def folder(self, path: Path) -> Path:
        """Write the package as a folder, and replace an existing one."""
        shutil.rmtree(path, ignore_errors=True)
        path.mkdir(parents=True)
        for name, content in self.files().items():
            (path / name).write_bytes(content)
        return path

    def zip(self, path: Path) -> Path:
        """Write the package as a ZIP file. Equal packages give equal bytes."""
        path.write_bytes(self.zip_bytes())
        return path

    def zip_bytes(self) -> bytes:
        """Return the package as the bytes of a ZIP file."""
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, content in self.files().items():
                archive.writestr(zipfile.ZipInfo(name), content, zipfile.ZIP_DEFLATED)
        return buffer.getvalue()

    def _table(self, name: str) -> bytes:
        header = HEADERS[name] + self.extra.get(name, [])
        return _to_csv(header, [[row.get(column, "") for column in header] for row in self.rows[name]])


def package_with_extra_users(
    numbers: Iterable[int], given_name: str = "Same", renamed: Iterable[int] = ()
) -> PackageBuilder:
    """Return the small package with a user for each number. Users in `renamed` have another given name."""
    package, renamed = PackageBuilder(), set(renamed)
    template = package.row("users", "pupil-2")
    for number in numbers:
        name = "Other" if number in renamed else given_name
        user = {"sourcedId": f"u-{number}", "username": f"u{number}", "givenName": name}
        package.rows["users"].append(template | user)
    return package


def delta_package(**rows: list[Row]) -> PackageBuilder:
    """Return a package of delta files with these rows. A row without a status is active."""
    package = PackageBuilder().only(*rows)
    for name, file_rows in rows.items():
        package.properties[f"file.{name}"] = "delta"
        package.rows[name] = [{"status": "active", "dateLastModified": DELTA_TIMESTAMP} | row for row in file_rows]
    return package


def small_row(name: str, key: str, **cells: str) -> Row:
    """Return a copy of a row of the small package with other cells."""
    return next(dict(row) for row in ROWS[name] if row["sourcedId"] == key) | cells


def deleted_row(key: str, status: str = "tobedeleted") -> Row:
    """Return the row of a delta file that deletes a record."""
    return {"sourcedId": key, "status": status}


def package_with_users(count: int) -> PackageBuilder:
    """Return a package with this number of users in all."""
    return package_with_extra_users(range(count - SMALL_PACKAGE_USERS))


@contextmanager
def small_first_loads() -> Iterator[None]:
    """Lower the limits of first loads, so that `large_package` exceeds them, until the end of the block."""
    with _changed(first_load, MIN_ROWS=MIN_ROWS, MIN_EARLIER_RECORDS=MIN_EARLIER_RECORDS):
        yield


@contextmanager
def small_parsed_files() -> Iterator[None]:
    """Let the parser process parse all files until the end of the block, as if they were large, on two cores."""
    with _changed(process, MIN_FILE_BYTES=1, core_count=lambda: 2):
        yield


@contextmanager
def _changed(module: ModuleType, **values: object) -> Iterator[None]:
    former = {name: getattr(module, name) for name in values}
    vars(module).update(values)
    try:
        yield
    finally:
        vars(module).update(former)


def large_package(enrollments: int = 80) -> PackageBuilder:
    """Return a package with 40 users and this number of enrollments."""
    package = package_with_users(LARGE_PACKAGE_USERS)
    template, users = package.row("enrollments", "enr-1"), [row["sourcedId"] for row in package.rows["users"]]
    for number in range(enrollments - len(package.rows["enrollments"])):
        row = {"sourcedId": f"e-{number}", "userSourcedId": users[number % LARGE_PACKAGE_USERS]}
        package.rows["enrollments"].append(template | row)
    return package


def _to_csv(header: list[str], rows: list[list[str]]) -> bytes:
    text = io.StringIO(newline="")
    csv.writer(text).writerows([header, *rows])
    return text.getvalue().encode()
