"""Check values that are valid each, but contradict each other or refer to a record of the wrong type.

docs/conformance, I-33, lists the checks.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple, TypeAlias, cast

import orjson

from backends import And, Compare, In, Query, Snapshot, Value, batched
from chalk_flask.id_set import IdSet
from chalk_flask.oneroster.fields.scalars import fold
from chalk_flask.oneroster.relations import ACTIVE_ONLY
from chalk_flask.roster.package.problems import ImportProblem, ImportProblems
from chalk_flask.roster.package.references import ReferenceChecker

__all__ = ["ConsistencyChecker", "InconsistentRow", "RowCheck"]

MAX_LISTED_ROWS = 10
"""Rows that are listed for each kind of warning. Further rows are counted."""

BATCH_SIZE = 500

SCHOOL, SCHOOL_YEAR, GRADING_PERIOD = map(fold, ("school", "schoolYear", "gradingPeriod"))

RowCheck: TypeAlias = Callable[[str, Mapping[str, Value], int], Sequence[ImportProblem]]
"""Function that returns the errors of an active row, from its id, comparison keys and row number."""


class InconsistentRow(NamedTuple):
    """Error that is found after the row was yielded; `key` is the id of the row, or empty for the whole file."""

    error: ImportProblem
    key: str


class _PrimaryTeacher(NamedTuple):
    """First primary teacher of a class: row number and id of the enrollment, and id of the user."""

    row: int
    key: str
    user: str


class _EnrollmentRow(NamedTuple):
    """Row of an enrollment whose class is not in the package."""

    class_id: str
    school: str
    row: int


class ConsistencyChecker:
    """Checker of one package. It adds warnings to `problems`; with `strict`, it returns errors instead."""

    def __init__(
        self, modes: Mapping[str, str], stored: Snapshot, problems: ImportProblems, *, strict: bool = False
    ) -> None:
        self._modes = modes
        self._stored = stored
        self._problems = problems
        self._strict = strict
        self._types: dict[str, dict[str, str]] = {"orgs": {}, "academicSessions": {}}
        self._class_schools: dict[str, str] = {}
        self._unchecked: list[_EnrollmentRow] = []
        self._primary_teachers: dict[str, _PrimaryTeacher] = {}
        self._counts: Counter[str] = Counter()

    def check(self, name: str) -> RowCheck | None:
        """Return the check for each active row of a file, or None if there is none."""
        checks: dict[str, RowCheck] = {
            "orgs": self._check_org,
            "academicSessions": self._check_session,
            "courses": self._check_course,
            "classes": self._check_class,
            "enrollments": self._check_enrollment,
        }
        return checks.get(name)

    def finish(
        self, name: str, ids: IdSet | None, references: ReferenceChecker, *, has_invalid_rows: bool = False
    ) -> Iterator[InconsistentRow]:
        """Yield the errors that depend on the whole file, and add the number of warnings that were not listed.

        `ids` is None if the package does not have the file, or if it could not be read to its end.
        """
        if ids is not None and name == "orgs" and not has_invalid_rows and not self._has_school(ids, references):
            message, hint = "no active org is a school", "Set the type of the schools in orgs.csv to school."
            for error in self._report("no_school", message, hint, "orgs.csv"):
                yield InconsistentRow(error, "")
        if name == "enrollments":
            self._check_stored_classes()
        if ids is not None and name == "enrollments" and self._modes.get(name) == "delta":
            yield from self._stored_primary_teachers(ids)
        for code, count in self._counts.items():
            if count > MAX_LISTED_ROWS:
                more = count - MAX_LISTED_ROWS
                message = f"{more:,} more rows have the problem {code}"
                self._problems.add(ImportProblem(code, message, "Correct them too.", f"{name}.csv", is_warning=True))
        self._counts.clear()

    def _check_org(self, key: str, values: Mapping[str, Value], row: int) -> Sequence[ImportProblem]:
        self._types["orgs"][key] = str(values["type"])
        return ()

    def _check_session(self, key: str, values: Mapping[str, Value], row: int) -> Sequence[ImportProblem]:
        self._types["academicSessions"][key] = str(values["type"])
        if str(values["endDate"]) >= str(values["startDate"]):
            return ()
        message = "the session ends before it begins"
        hint = "Correct startDate or endDate."
        return self._report(
            "ends_before_it_begins", message, hint, "academicSessions.csv", row, "endDate", str(values["endDate"])
        )

    def _check_course(self, key: str, values: Mapping[str, Value], row: int) -> Sequence[ImportProblem]:
        year = values.get("schoolYear.sourcedId")
        if year is None or self._type_of("academicSessions", str(year)) in (None, SCHOOL_YEAR):
            return ()
        message, hint = "refers to a session that is not a school year", "Refer to a session of the type schoolYear."
        return self._report("not_a_school_year", message, hint, "courses.csv", row, "schoolYearSourcedId", str(year))

    def _check_class(self, key: str, values: Mapping[str, Value], row: int) -> Sequence[ImportProblem]:
        school = str(values["school.sourcedId"])
        is_school = self._type_of("orgs", school) in (None, SCHOOL)
        self._class_schools[key] = school if is_school else ""
        problems: list[ImportProblem] = []
        if not is_school:
            message, hint = "refers to an org that is not a school", "Refer to an org of the type school."
            problems += self._report("not_a_school", message, hint, "classes.csv", row, "schoolSourcedId", school)
        for term in cast("tuple[str, ...]", values["terms.sourcedId"]):
            if self._type_of("academicSessions", term) == GRADING_PERIOD:
                message = "refers to a grading period, not to a term"
                hint = "Refer to sessions of the type term, semester or schoolYear."
                problems += self._report("not_a_term", message, hint, "classes.csv", row, "termSourcedIds", term)
        return problems

    def _check_enrollment(self, key: str, values: Mapping[str, Value], row: int) -> Sequence[ImportProblem]:
        problems: Sequence[ImportProblem] = ()
        class_id, school = values["class.sourcedId"], values["school.sourcedId"]
        if self._class_schools.get(class_id) != school:  # type: ignore[arg-type]  # an id is a text
            problems = self._check_school_of_class(str(class_id), str(school), row)
        if values.get("primary") == "true" and values["role"] == "teacher":
            problems = [*problems, *self._check_primary(key, str(class_id), str(values["user.sourcedId"]), row)]
        return problems

    def _check_school_of_class(self, class_id: str, school: str, row: int) -> Sequence[ImportProblem]:
        if class_id not in self._class_schools:
            self._unchecked.append(_EnrollmentRow(class_id, school, row))
            # An error must be returned for this row; warnings can wait until many classes are read at once.
            return self._check_stored_classes() if self._strict or len(self._unchecked) == BATCH_SIZE else ()
        if self._class_schools[class_id] in ("", school):
            return ()
        message, hint = "the class belongs to another school", "Refer to the school of the class."
        return self._report("other_school", message, hint, "enrollments.csv", row, "schoolSourcedId", school)

    def _check_stored_classes(self) -> Sequence[ImportProblem]:
        """Read the classes of the unchecked rows, and check these rows."""
        rows, self._unchecked = self._unchecked, []
        ids = dict.fromkeys(row.class_id for row in rows)
        bodies = self._stored.get_many("classes", list(ids))
        for key in ids:
            self._class_schools[key] = orjson.loads(bodies[key])["school"]["sourcedId"] if key in bodies else ""
        return [problem for row in rows for problem in self._check_school_of_class(*row)]

    def _check_primary(self, key: str, class_id: str, user: str, row: int) -> Sequence[ImportProblem]:
        first = self._primary_teachers.setdefault(class_id, _PrimaryTeacher(row, key, user))
        return () if key == first.key or user == first.user else self._second_primary(class_id, row)

    def _second_primary(self, class_id: str, row: int) -> Sequence[ImportProblem]:
        message, hint = "the class has another primary teacher", "Set primary to true for one teacher of the class."
        return self._report("two_primary_teachers", message, hint, "enrollments.csv", row, "classSourcedId", class_id)

    def _stored_primary_teachers(self, ids: IdSet) -> Iterator[InconsistentRow]:
        """Yield the rows with a primary teacher whose class keeps a stored primary teacher too."""
        is_primary = (Compare("role", "=", "teacher"), Compare("primary", "=", "true"), ACTIVE_ONLY)
        for batch in batched(self._primary_teachers, BATCH_SIZE):
            # `keys` would read all enrollments in the order of their keys.
            query = Query("enrollments", And((In("class.sourcedId", tuple(batch)), *is_primary)))
            others = orjson.loads(b"[%b]" % self._stored.find(query).body())
            teachers = {
                (other["class"]["sourcedId"], other["user"]["sourcedId"])
                for other in others
                if other["sourcedId"] not in ids
            }
            for class_id in {class_id for class_id, user in teachers if user != self._primary_teachers[class_id].user}:
                row, key, _ = self._primary_teachers[class_id]
                for error in self._second_primary(class_id, row):
                    yield InconsistentRow(error, key)

    def _has_school(self, ids: IdSet, references: ReferenceChecker) -> bool:
        if SCHOOL in self._types["orgs"].values():
            return True
        schools = set(self._stored.keys("orgs", And((Compare("type", "=", SCHOOL), ACTIVE_ONLY))))
        return bool(references.stored_active("orgs", {key for key in schools if key not in ids}))

    def _type_of(self, name: str, key: str) -> str | None:
        """Return the type of an org or a session, or None if it is unknown."""
        types = self._types[name]
        if key not in types:
            body = self._stored.get_many(name, [key]).get(key)
            types[key] = "" if body is None else fold(orjson.loads(body)["type"])
        return types[key] or None

    def _report(
        self,
        code: str,
        message: str,
        hint: str,
        file: str,
        row: int | None = None,
        column: str | None = None,
        value: str | None = None,
    ) -> Sequence[ImportProblem]:
        """Return the error if it is one; else add a warning."""
        problem = ImportProblem(code, message, hint, file, row, column, value, is_warning=not self._strict)
        if self._strict:
            return [problem]
        self._counts[code] += 1
        if self._counts[code] <= MAX_LISTED_ROWS:
            self._problems.add(problem)
        return ()
