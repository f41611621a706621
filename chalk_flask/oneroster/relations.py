"""Conditions for the records of nested paths such as `/schools/{id}/students`.

Interpretations A-07 to A-12 and N-01 to N-08 of docs/conformance explain them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import orjson

from backends import KEY, MATCH_ALL, And, Compare, In, Not, Or, Snapshot, Subquery, Where, and_
from chalk_flask.oneroster.fields.scalars import fold
from chalk_flask.oneroster.vocabularies import ACTIVE, TO_BE_DELETED

__all__ = [
    "ACTIVE_ONLY",
    "CLASS_OF_CATEGORY",
    "IS_TERM",
    "NOT_DELETED",
    "OF_NO_CLASS",
    "Condition",
    "Ids",
    "PathParent",
    "categories_of_class",
    "classes_of_user",
    "courses_of_school",
    "grading_periods_of_term",
    "grading_periods_of_terms",
    "has_type",
    "listed_in",
    "references",
    "results_of_class",
    "results_of_student",
    "term_or_session_of_classes",
    "terms_of_school",
    "users_enrolled_in_class",
    "users_of_school",
    "with_sessions_below",
]

Ids: TypeAlias = tuple[str, ...]
"""Ids of a path, in the order of the path."""

Condition: TypeAlias = Callable[[Snapshot, Ids], Where]

ACTIVE_ONLY: Where = Compare("status", "=", fold(ACTIVE))
"""Condition that active records meet."""

NOT_DELETED: Where = Not(Compare("status", "=", fold(TO_BE_DELETED)))
"""Condition that gradebook objects meet unless they are deleted (docs/conformance, A-04)."""


CLASS_OF_CATEGORY = "metadata.classId"
"""Path of the id of the class to which a category is assigned (docs/conformance, N-08)."""

OF_NO_CLASS: Where = Not(Compare(CLASS_OF_CATEGORY, ">", ""))
"""Condition that categories meet which are assigned to no class."""

IS_TERM: Where = In("type", ("semester", "term"))
"""Condition for the academic sessions that are terms (docs/conformance, A-12)."""


@dataclass(frozen=True, slots=True)
class PathParent:
    """Requirement on an id in the middle of a path. `within` is the field that must contain the id before it.

    `referring` is a collection and its reference field. A record to which a visible record of that collection refers
    need not meet `where`.
    """

    collection: str
    where: Where = MATCH_ALL
    within: str = ""
    referring: tuple[str, str] | None = None

    def exists(self, snapshot: Snapshot, ids: Ids, position: int, visible_rows: Callable[[str], Where]) -> bool:
        """Return True if the id at this position belongs to such a record, and the record is visible.

        `visible_rows` returns the row condition of a collection.
        """
        where = and_(Compare(KEY, "=", ids[position]), visible_rows(self.collection))
        if self.within:
            where = and_(where, Compare(self.within, "=", ids[position - 1]))
        if snapshot.exists(self.collection, and_(where, self.where)):
            return True
        if self.referring is None or not snapshot.exists(self.collection, where):
            return False
        collection, field = self.referring
        return snapshot.exists(collection, and_(Compare(field, "=", ids[position]), visible_rows(collection)))


def has_type(field: str, token: str) -> Where:
    """Return the condition for records of one type, as in `/schools` and `/teachers`."""
    return Compare(field, "=", fold(token))


def references(field: str) -> Condition:
    """Return the condition for records whose reference is the last id of the path."""
    return lambda _, ids: Compare(field, "=", ids[-1])


def listed_in(collection: str, field: str) -> Condition:
    """Return the condition for records that the object with the last id of the path lists."""
    return lambda _, ids: In(KEY, Subquery(collection, field, Compare(KEY, "=", ids[-1])))


def users_enrolled_in_class(role: str) -> Condition:
    """Return the condition for users with an active enrollment of this role in the class.

    See docs/conformance, A-09.
    """

    def where(_: Snapshot, ids: Ids) -> Where:
        terms = (Compare("class.sourcedId", "=", ids[-1]), has_type("role", role), ACTIVE_ONLY)
        return In(KEY, Subquery("enrollments", "user.sourcedId", And(terms)))

    return where


def classes_of_user(role: str = "") -> Condition:
    """Return the condition for classes in which the user has an active enrollment of this role, or of any."""
    role_terms = (has_type("role", role),) if role else ()

    def where(_: Snapshot, ids: Ids) -> Where:
        terms = (Compare("user.sourcedId", "=", ids[-1]), *role_terms, ACTIVE_ONLY)
        return In(KEY, Subquery("enrollments", "class.sourcedId", And(terms)))

    return where


def users_of_school(role: str) -> Condition:
    """Return the condition for users of this role whose orgs contain the school (docs/conformance, A-07)."""
    return lambda _, ids: And((has_type("role", role), Compare("orgs.sourcedId", "=", ids[-1])))


def courses_of_school(_: Snapshot, ids: Ids) -> Where:
    """Return the condition for courses of the school and those taught there (docs/conformance, A-08)."""
    taught = Subquery("classes", "course.sourcedId", Compare("school.sourcedId", "=", ids[-1]))
    return Or((Compare("org.sourcedId", "=", ids[-1]), In(KEY, taught)))


def terms_of_school(_: Snapshot, ids: Ids) -> Where:
    """Return the condition for terms of the classes of the school."""
    used = Subquery("classes", "terms.sourcedId", Compare("school.sourcedId", "=", ids[-1]))
    return And((IS_TERM, In(KEY, used)))


def term_or_session_of_classes(_: Snapshot, ids: Ids) -> Where:
    """Return the condition for terms, and for the session with the last id of the path if a class refers to it.

    See docs/conformance, A-12.
    """
    referring = Compare("terms.sourcedId", "=", ids[-1])
    return Or((IS_TERM, In(KEY, Subquery("classes", "terms.sourcedId", referring))))


def grading_periods_of_term(snapshot: Snapshot, ids: Ids) -> Where:
    """Return the condition for grading periods of the term with the last id of the path (docs/conformance, N-05)."""
    return grading_periods_of_terms(snapshot, ids[-1:])


def grading_periods_of_terms(snapshot: Snapshot, terms: Iterable[str]) -> Where:
    """Return the condition for grading periods of any of these terms.

    They hang below a term, at any depth, or below its school year with dates inside the term. A term that is a grading
    period itself is one of them (docs/conformance, N-05).
    """
    ids = tuple(terms)
    alternatives: list[Where] = [In(KEY, with_sessions_below(snapshot, ids))]
    for session in _read_sessions(snapshot, ids):
        if year := _school_year_above(snapshot, session):
            dates = Compare("startDate", ">=", session["startDate"]), Compare("endDate", "<=", session["endDate"])
            alternatives.append(And((*dates, In(KEY, with_sessions_below(snapshot, (year,))))))
    return And((has_type("type", "gradingPeriod"), Or(tuple(alternatives))))


def _school_year_above(snapshot: Snapshot, session: Mapping[str, Any]) -> str:
    """Return the id of the school year that the session hangs below or is; an empty text if there is none."""
    visited: set[str] = set()
    while session["type"] != "schoolYear":
        visited.add(session["sourcedId"])
        parent = session.get("parent", {}).get("sourcedId", "")
        found = _read_sessions(snapshot, (parent,)) if parent not in visited else []
        if not found:
            return ""
        [session] = found
    return str(session["sourcedId"])


def _read_sessions(snapshot: Snapshot, ids: Ids) -> list[dict[str, Any]]:
    return [orjson.loads(body) for body in snapshot.get_many("academicSessions", ids).values()]


def with_sessions_below(snapshot: Snapshot, ids: Iterable[str]) -> tuple[str, ...]:
    """Return the ids and those of all academic sessions below them, at any depth, sorted.

    A cycle among the parents ends the descent.
    """
    sessions = set(ids)
    parents = set(sessions)
    while parents:
        children = snapshot.keys("academicSessions", In("parent.sourcedId", tuple(sorted(parents))))
        parents = set(children) - sessions
        sessions |= parents
    return tuple(sorted(sessions))


def results_of_class(_: Snapshot, ids: Ids) -> Where:
    """Return the condition for results of line items of the class at the start of the path."""
    return In("lineItem.sourcedId", Subquery("lineItems", KEY, Compare("class.sourcedId", "=", ids[0])))


def results_of_student(snapshot: Snapshot, ids: Ids) -> Where:
    """Return the condition for results of one student for line items of the class."""
    return And((Compare("student.sourcedId", "=", ids[-1]), results_of_class(snapshot, ids)))


def categories_of_class(_: Snapshot, ids: Ids) -> Where:
    """Return the condition for categories that are used by, or assigned to, the class, or assigned to no class.

    See docs/conformance, N-08.
    """
    used = And((Compare("class.sourcedId", "=", ids[-1]), NOT_DELETED))
    return Or(
        (
            In(KEY, Subquery("lineItems", "category.sourcedId", used)),
            Compare(CLASS_OF_CATEGORY, "=", fold(ids[-1])),
            OF_NO_CLASS,
        )
    )
