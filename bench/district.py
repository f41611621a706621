"""Generated district: a CSV package that is always the same for the same number of users.

100,000 users come with 60 orgs, 20 academic sessions, 4,000 courses, 12,000 classes and 700,000 enrollments. Other
numbers keep these proportions. Ids are hashes, so that the order of keys is not the order of the file, as in real
systems.
"""

from __future__ import annotations

import csv
import io
import zipfile
from collections.abc import Iterable, Iterator
from hashlib import blake2b
from itertools import islice
from pathlib import Path

__all__ = ["ALL_FILES", "HEADERS", "MIN_USERS", "District", "Row", "write_delta", "write_entry", "write_package"]

MIN_USERS = 200
"""Fewer users would leave some class without two teachers."""

CLASSES_PER_STUDENT = 11
START, END = "2026-08-17", "2027-06-11"
GIVEN_NAMES = (
    "Amara Björn Chidi Daria Émile Freya Goran Hana Ivo Jia Kemal Lucía Mei Nils Oona Priya Rafał Siân Tomás Zuri"
)
FAMILY_NAMES = (
    "Abe|Brännström|Costa|D'Souza|Eze|Fischer|Gül|Hoàng|Ito|Jensen|Kovač|de la Cruz|Mbeki|Novák|O'Neill|Park|Rao"
)
SUBJECTS = "Arithmetic|Botany|Civics|Design, Applied|Economics|Geology|Latin|Orchestra|Poetry|Robotics|Spanish"
GRADES = ("KG", *(f"{grade:02}" for grade in range(1, 13)))
TERMS = ((START, "2026-10-30"), ("2026-11-02", "2027-01-22"), ("2027-01-25", "2027-04-02"), ("2027-04-05", END))

HEADERS = {
    "academicSessions": "title type startDate endDate parentSourcedId schoolYear",
    "orgs": "name type identifier parentSourcedId",
    "courses": "schoolYearSourcedId title courseCode grades orgSourcedId subjects subjectCodes",
    "classes": "title grades courseSourcedId classCode classType location schoolSourcedId termSourcedIds subjects"
    " subjectCodes periods",
    "users": "enabledUser orgSourcedIds role username userIds givenName familyName middleName identifier email sms"
    " phone agentSourcedIds grades password",
    "enrollments": "classSourcedId schoolSourcedId userSourcedId role primary beginDate endDate",
}
ALL_FILES = (*HEADERS, "categories", "classResources", "courseResources", "demographics", "lineItems", "resources")
ALL_FILES += ("results",)

DELTA_FILES = ("courses", "classes", "users", "enrollments")
DELTA_INTERVAL = 100
"""A delta contains one of this number of rows."""
DELTA_TIMESTAMP = "2026-11-02T05:00:00.000Z"

Row = Iterable[object]


def write_package(users: int, path: Path, day: int = 1) -> None:
    """Write the package of a district as a ZIP file. Raises ValueError for fewer than MIN_USERS users.

    Another `day` (of the month, in the ZIP entries) gives another file with the same rows.
    """
    district = District(users)
    with zipfile.ZipFile(path, "w") as archive:
        write_entry(archive, "manifest", ["propertyName", "value"], _manifest())
        for name, columns in HEADERS.items():
            rows = ((first, "", "", *rest) for first, *rest in getattr(district, name)())
            write_entry(archive, name, ["sourcedId", "status", "dateLastModified", *columns.split()], rows, day)


def write_entry(archive: zipfile.ZipFile, name: str, header: list[str], rows: Iterable[Row], day: int = 1) -> None:
    """Write a CSV file with a header and rows into a ZIP file."""
    entry = zipfile.ZipInfo(f"{name}.csv", (2026, 8, day, 0, 0, 0))
    entry.compress_type = zipfile.ZIP_DEFLATED
    with archive.open(entry, "w", force_zip64=True) as raw, io.TextIOWrapper(raw, encoding="utf-8", newline="") as text:
        writer = csv.writer(text)
        writer.writerow(header)
        writer.writerows(rows)


def write_delta(users: int, path: Path) -> None:
    """Write a delta package for that district as a ZIP file, with one of a hundred rows of its large files.

    It updates and creates users, updates, creates and deletes enrollments, and updates courses and classes.
    """
    district = District(users)
    with zipfile.ZipFile(path, "w") as archive:
        write_entry(archive, "manifest", ["propertyName", "value"], _manifest(DELTA_FILES, "delta"))
        for name in DELTA_FILES:
            columns = HEADERS[name].split()
            changes = _changes(name, columns, getattr(district, name)())
            write_entry(archive, name, ["sourcedId", "status", "dateLastModified", *columns], changes)


def _changes(name: str, columns: list[str], rows: Iterator[Row]) -> Iterator[Row]:
    changed_column = {"users": "givenName", "courses": "title", "classes": "location", "enrollments": "endDate"}[name]
    kinds = {"users": "update create", "enrollments": "update create delete"}.get(name, "update").split()
    for number, (key, *cells) in enumerate(islice(rows, 0, None, DELTA_INTERVAL)):
        row, kind = dict(zip(columns, cells, strict=True)), kinds[number % len(kinds)]
        if kind == "create":
            key = _id(f"new {name}", number)
        elif kind == "update":
            row[changed_column] = "2027-05-28" if name == "enrollments" else f"{row[changed_column]} anew"
        yield key, "tobedeleted" if kind == "delete" else "active", DELTA_TIMESTAMP, *row.values()


def _manifest(names: Iterable[str] = tuple(HEADERS), mode: str = "bulk") -> Iterator[Row]:
    yield "manifest.version", "1.0"
    yield "oneroster.version", "1.1"
    for name in ALL_FILES:
        yield f"file.{name}", mode if name in names else "absent"


def _id(kind: str, number: int) -> str:
    digest = blake2b(f"{kind}{number}".encode(), digest_size=16).hexdigest()
    return f"{digest[:8]}-{digest[8:12]}-{digest[12:16]}-{digest[16:20]}-{digest[20:]}"


class District:
    """Iterators over the rows of each file, without the columns status and dateLastModified."""

    def __init__(self, users: int) -> None:
        if users < MIN_USERS:
            raise ValueError(f"a district of {users} users is too small; the minimum is {MIN_USERS}")
        self.n_users = users
        self.n_schools = max(2, users * 59 // 100_000)
        self.n_courses = max(10, users // 25)
        self.n_classes = max(24, users * 3 // 25)
        self.n_students = users * 62 // 100
        self.n_teachers = users * 5 // 100
        self.n_guardians = users * 30 // 100

    def orgs(self) -> Iterator[Row]:
        """Yield the district and its schools."""
        yield _id("org", 0), "Meridian Bay District", "district", "5500", ""
        for number in range(1, self.n_schools + 1):
            name = f'{_pick(FAMILY_NAMES, number, "|")} School, "Campus {number}"'
            yield _id("org", number), name, "school", f"55{number:04}", _id("org", 0)

    def academicSessions(self) -> Iterator[Row]:  # noqa: N802 - name of the file
        """Yield two years, each with two semesters, four terms and three grading periods."""
        for year in range(2):
            base, school_year = 10 * year, 2027 + year
            whole_year = (_add_years(START, year), _add_years(END, year))
            yield _id("session", base), f"{school_year - 1}/{school_year}", "schoolYear", *whole_year, "", school_year
            for number, (kind, first, last, parent) in enumerate(self._parts(), 1):
                dates = (_add_years(TERMS[first][0], year), _add_years(TERMS[last][1], year))
                title = f"{kind} {number}"
                yield _id("session", base + number), title, kind, *dates, _id("session", base + parent), school_year

    def _parts(self) -> list[tuple[str, int, int, int]]:
        terms = [("term", number, number, 1 + number // 2) for number in range(4)]
        periods = [("gradingPeriod", number, number, 3 + number) for number in range(3)]
        return [("semester", 0, 1, 0), ("semester", 2, 3, 0), *terms, *periods]

    def courses(self) -> Iterator[Row]:
        """Yield courses, each of one school."""
        for number in range(self.n_courses):
            subject = _pick(SUBJECTS, number, "|")
            school = _id("org", 1 + number % self.n_schools)
            title, code = f"{subject} {1 + number % 4}", f"C{number:06}"
            subjects = subject.replace(",", "")
            yield _id("course", number), _id("session", 0), title, code, GRADES[number % 13], school, subjects, "01001"

    def classes(self) -> Iterator[Row]:
        """Yield classes; one in twelve is a homeroom."""
        terms = ",".join(_id("session", number) for number in (3, 4))
        for number in range(self.n_classes):
            subject = _pick(SUBJECTS, number, "|")
            kind = "homeroom" if number % 12 == 0 else "scheduled"
            yield (
                *(_id("class", number), f"{subject} – group {1 + number % 7}", GRADES[number % 13]),
                *(_id("course", number % self.n_courses), f"K{number:06}", kind, f"Room {number % 240}"),
                *(_id("org", 1 + number % self.n_schools), terms, subject.replace(",", ""), "01001", 1 + number % 8),
            )

    def users(self) -> Iterator[Row]:
        """Yield students, teachers, guardians and others. Guardians and students refer to each other."""
        for number in range(self.n_users):
            role = self._role(number)
            login = f"{role[0]}{number:07}"
            yield (
                *(_id("user", number), "false" if number % 250 == 0 else "true"),
                *(_id("org", 1 + number % self.n_schools), role, login, f"{{SIS:{number:08}}},{{LDAP:{login}}}"),
                *(
                    _pick(GIVEN_NAMES, number),
                    _pick(FAMILY_NAMES, number // 3, "|"),
                    _pick(GIVEN_NAMES, number // 7),
                    700_000 + number,
                ),
                *(f"{login}@meridian-bay.example", f"+1-555-01{number % 100:02}", f"+1-555-02{number % 100:02}"),
                *(self._agents(number, role), GRADES[number % 13] if role == "student" else "", ""),
            )

    def _role(self, number: int) -> str:
        for role, count in (("student", self.n_students), ("teacher", self.n_teachers), ("guardian", self.n_guardians)):
            if number < count:
                return role
            number -= count
        return "aide" if number % 3 else "administrator"

    def _agents(self, number: int, role: str) -> str:
        first = self.n_students + self.n_teachers
        if role == "student":
            return _id("user", first + number % self.n_guardians)
        return _id("user", number - first) if role == "guardian" else ""

    def enrollments(self) -> Iterator[Row]:
        """Yield one or two teachers per class, and eleven classes per student, all in the student's own school."""
        number = 0
        for user, klass, role, primary in self._teaching():
            yield self._enrollment(number, user, klass, role, primary)
            number += 1
        for user in range(self.n_students):
            for klass in self._attendance(user):
                yield self._enrollment(number, user, klass, "student", "")
                number += 1

    def _enrollment(self, number: int, user: int, klass: int, role: str, primary: str) -> Row:
        school = _id("org", 1 + klass % self.n_schools)
        return _id("enrollment", number), _id("class", klass), school, _id("user", user), role, primary, START, END

    def _teaching(self) -> Iterator[tuple[int, int, str, str]]:
        for klass in range(self.n_classes):
            row, school = divmod(klass, self.n_schools)
            first = self.n_students + (school - self.n_students) % self.n_schools
            colleagues = range(first, self.n_students + self.n_teachers, self.n_schools)
            for place in range(1 + klass % 2):
                yield colleagues[(row + place) % len(colleagues)], klass, "teacher", "false" if place else "true"

    def _attendance(self, student: int) -> Iterator[int]:
        row, school = divmod(student, self.n_schools)
        offered = range(school, self.n_classes, self.n_schools)
        for place in range(min(CLASSES_PER_STUDENT, len(offered))):
            yield offered[(row * 5 + place) % len(offered)]


def _pick(words: str, number: int, separator: str = " ") -> str:
    choices = words.split(separator)
    return choices[number % len(choices)]


def _add_years(date: str, years: int) -> str:
    return f"{int(date[:4]) + years}{date[4:]}"
