"""Table of the data quality checks. Each one finds the ids of the records that need attention."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeAlias

import orjson

from backends import KEY, And, Compare, In, Not, OrderBy, Query, Snapshot, Subquery, Where, batched
from chalk_flask.oneroster.fields.scalars import fold
from chalk_flask.oneroster.relations import ACTIVE_ONLY, has_type

__all__ = ["CHECKS", "QualityCheck"]

BATCH_SIZE = 500
"""Maximum number of records whose enrollments one query looks up."""
RANGE_SIZE = 50_000
"""Maximum number of records whose references one query follows."""

FindIds: TypeAlias = Callable[[Snapshot], Iterator[str]]
"""Function that yields the ids of the records that need attention. Raises QueryTimeoutError."""


@dataclass(frozen=True, slots=True)
class QualityCheck:
    """Check of the active records of a collection. `advice` says why it matters, and what to do."""

    id: str
    title: str
    advice: str
    collection: str
    find_ids: FindIds


def _active_records(collection: str, *terms: Where) -> FindIds:
    """Return the function that yields the active records which meet every term."""
    return lambda snapshot: snapshot.keys(collection, And((ACTIVE_ONLY, *terms)))


def _not_enrolled(collection: str, field: str, role: str = "", *terms: Where) -> FindIds:
    """Return the function that yields the active records without an active enrollment, of one role or of any.

    `field` is the reference of enrollments to the collection. Each query looks at some of the records, so that it
    ends within its time limit in a large roster too.
    """
    roles = (has_type("role", role),) if role else ()

    def find_ids(snapshot: Snapshot) -> Iterator[str]:
        for batch in batched(snapshot.keys(collection, And((ACTIVE_ONLY, *terms))), BATCH_SIZE):
            enrollments = And((In(field, tuple(batch)), ACTIVE_ONLY, *roles))
            is_enrolled = In(KEY, Subquery("enrollments", field, enrollments))
            yield from snapshot.keys(collection, And((In(KEY, tuple(batch)), Not(is_enrolled))))

    return find_ids


def _without_active_target(collection: str, field: str, target: str) -> FindIds:
    """Return the function that yields the active records without a reference to an active record of the target.

    Each query looks at a range of the records, so that it ends within its time limit in a large roster too.
    """
    refers = In(field, Subquery(target, KEY, ACTIVE_ONLY))

    def find_ids(snapshot: Snapshot) -> Iterator[str]:
        for key_range in _key_ranges(snapshot, collection):
            yield from snapshot.keys(collection, And((*key_range, ACTIVE_ONLY, Not(refers))))

    return find_ids


def _key_ranges(snapshot: Snapshot, collection: str) -> Iterator[tuple[Where, ...]]:
    """Yield conditions that divide a collection into ranges of at most RANGE_SIZE records."""
    low: tuple[Where, ...] = ()
    offset = RANGE_SIZE
    while body := snapshot.find(Query(collection, offset=offset, limit=1)).body():
        key: str = orjson.loads(body)["sourcedId"]
        yield (*low, Compare(KEY, "<", key))
        low, offset = (Compare(KEY, ">=", key),), offset + RANGE_SIZE
    yield low


def _users_with_shared_email(snapshot: Snapshot) -> Iterator[str]:
    """Yield the active users with an e-mail address that several of them have; those of one address in a row."""
    where = And((ACTIVE_ONLY, Compare("email", ">", "")))
    group: list[str] = []
    last = ""
    for chunk in snapshot.find(Query("users", where, (OrderBy("email"),))).chunks:
        for user in orjson.loads(b"[%b]" % chunk):
            email = fold(user["email"])
            if email != last:
                yield from group if len(group) > 1 else ()
                group, last = [], email
            group.append(user["sourcedId"])
    yield from group if len(group) > 1 else ()


CHECKS: tuple[QualityCheck, ...] = (
    QualityCheck(
        "users-without-email",
        "People without an e-mail address",
        "Many applications identify people by their address. Add it in the student information system.",
        "users",
        _active_records("users", Not(Compare("email", ">", ""))),
    ),
    QualityCheck(
        "shared-emails",
        "People who share an e-mail address",
        "Applications may merge their accounts. Give each person a separate address.",
        "users",
        _users_with_shared_email,
    ),
    QualityCheck(
        "users-without-enrollment",
        "Students and teachers without a class",
        "No active enrollment names them, so applications may hide them. Enroll them, or delete them at the source.",
        "users",
        _not_enrolled("users", "user.sourcedId", "", In("role", ("student", "teacher"))),
    ),
    QualityCheck(
        "users-without-org",
        "People without an active school or other org",
        "Every org of these people is deleted or missing. Move them, or delete them at the source.",
        "users",
        _without_active_target("users", "orgs.sourcedId", "orgs"),
    ),
    QualityCheck(
        "classes-without-teacher",
        "Classes without a teacher",
        "No active enrollment of the role teacher names them. Assign a teacher, or delete the class.",
        "classes",
        _not_enrolled("classes", "class.sourcedId", "teacher"),
    ),
    QualityCheck(
        "classes-without-students",
        "Classes without students",
        "Empty classes appear in applications. Enroll students, unless the term has not begun.",
        "classes",
        _not_enrolled("classes", "class.sourcedId", "student"),
    ),
    QualityCheck(
        "enrollments-of-deleted-users",
        "Enrollments of deleted or missing people",
        "The enrollment is active, but its user is not. Export the users and enrollments together.",
        "enrollments",
        _without_active_target("enrollments", "user.sourcedId", "users"),
    ),
    QualityCheck(
        "enrollments-in-deleted-classes",
        "Enrollments in deleted or missing classes",
        "The enrollment is active, but its class is not. Export the classes and enrollments together.",
        "enrollments",
        _without_active_target("enrollments", "class.sourcedId", "classes"),
    ),
)
"""All checks, in the order in which they are shown."""
