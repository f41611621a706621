"""Which records a path means, as conditions of the query tree (digest 2.5; readings A-07 to A-12, N-01 to N-08)."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TypeAlias

from backends import KEY, MATCH_ALL, And, Compare, In, Not, Or, Snapshot, Subquery, Where, and_
from chalk_flask.oneroster.fields.scalars import fold
from chalk_flask.oneroster.vocabularies import ACTIVE, TO_BE_DELETED

__all__ = [
    "ACTIVE_ONLY",
    "VISIBLE",
    "Condition",
    "Ids",
    "PathParent",
    "categories_of_class",
    "classes_of_user",
    "courses_of_school",
    "grading_periods_of_term",
    "has_type",
    "listed_in",
    "references",
    "results_of_class",
    "results_of_student",
    "terms_of_school",
    "users_enrolled_in_class",
    "users_of_school",
    "with_sessions_below",
]

Ids: TypeAlias = tuple[str, ...]
"""The ids in a path, in its order."""

Condition: TypeAlias = Callable[[Snapshot, Ids], Where]

ACTIVE_ONLY: Where = Compare("status", "=", fold(ACTIVE))
"""Active records."""

VISIBLE: Where = Not(Compare("status", "=", fold(TO_BE_DELETED)))
"""Gradebook objects that were not deleted (reading A-04)."""


@dataclass(frozen=True, slots=True)
class PathParent:
    """What an id in the middle of a path must name. `within` is the field that must hold the id before it."""

    collection: str
    where: Where = MATCH_ALL
    within: str = ""

    def exists(self, snapshot: Snapshot, ids: Ids, position: int, visible: Where) -> bool:
        """Whether the id at that position names such a record, and a visible one."""
        found = and_(and_(Compare(KEY, "=", ids[position]), self.where), visible)
        if self.within:
            found = and_(found, Compare(self.within, "=", ids[position - 1]))
        return snapshot.exists(self.collection, found)


def has_type(field: str, token: str) -> Where:
    """The records of one type, as in `/schools` and `/teachers`."""
    return Compare(field, "=", fold(token))


def references(field: str) -> Condition:
    """The records whose reference is the last id of the path."""
    return lambda _, ids: Compare(field, "=", ids[-1])


def listed_in(collection: str, field: str) -> Condition:
    """The records that the object with the last id of the path lists."""
    return lambda _, ids: In(KEY, Subquery(collection, field, Compare(KEY, "=", ids[-1])))


def users_enrolled_in_class(role: str) -> Condition:
    """The users who are enrolled in the class with that role (reading A-09); deleted enrollments do not count."""

    def where(_: Snapshot, ids: Ids) -> Where:
        enrolled = (Compare("class.sourcedId", "=", ids[-1]), has_type("role", role), ACTIVE_ONLY)
        return In(KEY, Subquery("enrollments", "user.sourcedId", And(enrolled)))

    return where


def classes_of_user(role: str = "") -> Condition:
    """The classes in which the user is enrolled, with that role or any; deleted enrollments do not count."""
    role_is = (has_type("role", role),) if role else ()

    def where(_: Snapshot, ids: Ids) -> Where:
        enrolled = (Compare("user.sourcedId", "=", ids[-1]), *role_is, ACTIVE_ONLY)
        return In(KEY, Subquery("enrollments", "class.sourcedId", And(enrolled)))

    return where


def users_of_school(role: str) -> Condition:
    """The users of that role whose orgs hold the school (reading A-07)."""
    return lambda _, ids: And((has_type("role", role), Compare("orgs.sourcedId", "=", ids[-1])))


def courses_of_school(_: Snapshot, ids: Ids) -> Where:
    """The courses of the school and those taught there (reading A-08)."""
    taught = Subquery("classes", "course.sourcedId", Compare("school.sourcedId", "=", ids[-1]))
    return Or((Compare("org.sourcedId", "=", ids[-1]), In(KEY, taught)))


def terms_of_school(_: Snapshot, ids: Ids) -> Where:
    """The terms in which a class of the school takes place."""
    used = Subquery("classes", "terms.sourcedId", Compare("school.sourcedId", "=", ids[-1]))
    return And((has_type("type", "term"), In(KEY, used)))


def grading_periods_of_term(snapshot: Snapshot, ids: Ids) -> Where:
    """The grading periods below the term, however deep; a cycle among parents ends the descent."""
    return And((has_type("type", "gradingPeriod"), In("parent.sourcedId", with_sessions_below(snapshot, ids[-1:]))))


def with_sessions_below(snapshot: Snapshot, ids: Iterable[str]) -> tuple[str, ...]:
    """Return the ids and those of all academic sessions below them, at any depth, sorted.

    A cycle among the parents ends the descent.
    """
    found = set(ids)
    parents = set(found)
    while parents:
        children = snapshot.keys("academicSessions", In("parent.sourcedId", tuple(sorted(parents))))
        parents = set(children) - found
        found |= parents
    return tuple(sorted(found))


def results_of_class(_: Snapshot, ids: Ids) -> Where:
    """The results for line items of the class that the path begins with."""
    return In("lineItem.sourcedId", Subquery("lineItems", KEY, Compare("class.sourcedId", "=", ids[0])))


def results_of_student(snapshot: Snapshot, ids: Ids) -> Where:
    """The results of one student for line items of the class."""
    return And((Compare("student.sourcedId", "=", ids[-1]), results_of_class(snapshot, ids)))


def categories_of_class(_: Snapshot, ids: Ids) -> Where:
    """The categories that line items of the class use, those tied to it and those tied to none (reading N-08)."""
    used = And((Compare("class.sourcedId", "=", ids[-1]), VISIBLE))
    return Or(
        (
            In(KEY, Subquery("lineItems", "category.sourcedId", used)),
            Compare(_CLASS_ID, "=", fold(ids[-1])),
            Not(Compare(_CLASS_ID, ">=", "")),
        )
    )


_CLASS_ID = "metadata.classId"
