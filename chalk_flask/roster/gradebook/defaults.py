"""Default category and grading period for line items that omit them (interpretation W-07)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple
from uuid import uuid4

import orjson

from backends import KEY, MATCH_ALL, MATCH_NONE, And, Compare, In, Not, Or, Query, Record, Snapshot, Where, and_
from chalk_flask.oneroster.fields.scalars import JSON, fold
from chalk_flask.oneroster.relations import (
    ACTIVE_ONLY,
    CLASS_OF_CATEGORY,
    OF_NO_CLASS,
    grading_periods_of_terms,
    with_sessions_below,
)
from chalk_flask.oneroster.resource_type import NO_TIMESTAMP
from chalk_flask.oneroster.schemas import FILES
from chalk_flask.oneroster.vocabularies import ACTIVE
from chalk_flask.permissions.policy import AccessPolicy
from chalk_flask.roster.gradebook.payload import Payload

__all__ = ["allows_default", "default_category", "grading_period", "record_exists"]


class _Sources(NamedTuple):
    """Collections and paths of fields that select a default."""

    collections: tuple[str, ...]
    paths: tuple[str, ...]


_UNCATEGORIZED = "Uncategorized"
_SOURCES: Mapping[str, _Sources] = {
    "category": _Sources(("classes", "categories"), ("title", CLASS_OF_CATEGORY)),
    "gradingPeriod": _Sources(
        ("classes", "academicSessions"),
        ("gradingPeriod.sourcedId", "dueDate", "terms.sourcedId", "parent.sourcedId", "startDate", "endDate"),
    ),
}
"""What the default of a member depends on."""


def allows_default(policy: AccessPolicy, name: str) -> bool:
    """Return True if a writer sees all collections and fields that select the default of a member.

    Otherwise the default would reveal hidden values (interpretation W-14).
    """
    collections, paths = _SOURCES[name]
    return all(policy.rows(collection) is not MATCH_NONE for collection in collections) and not any(
        map(policy.is_redacted, paths)
    )


def record_exists(snapshot: Snapshot, collection: str, key: str, where: Where = MATCH_ALL) -> bool:
    """Return True if there is a record with this id that matches the condition."""
    return snapshot.exists(collection, and_(Compare(KEY, "=", key), where))


def default_category(snapshot: Snapshot, class_id: str, policy: AccessPolicy) -> tuple[str, Record | None]:
    """Return the id of the default category of a class, and its record if it does not exist yet.

    It is the first by id of the active categories titled Uncategorized that do not belong to another class, as the
    writer sees them.
    """
    visible = policy.rows("categories")
    of_no_other_class = Or((Compare(CLASS_OF_CATEGORY, "=", fold(class_id)), OF_NO_CLASS))
    where = And((Compare("title", "=", fold(_UNCATEGORIZED)), ACTIVE_ONLY, of_no_other_class))
    existing = next(snapshot.keys("categories", and_(policy.restrict_path(where, "categories"), visible)), None)
    if existing is not None:
        return existing, None
    key = fold(_UNCATEGORIZED)
    # The id may belong to a category with another title, or to a hidden one, which must not change.
    if record_exists(snapshot, "categories", key, Or((ACTIVE_ONLY, Not(visible)))):
        key = str(uuid4())
    data = {"sourcedId": key, "status": ACTIVE, "dateLastModified": NO_TIMESTAMP, "title": _UNCATEGORIZED}
    return key, FILES["categories"].record(data)


def grading_period(snapshot: Snapshot, class_id: str, due_date: str) -> str | None:
    """Return the id of the shortest grading period in the terms of a class that contains a date-time, or None.

    The endDate is not part of a period (interpretation A-13). If no period hangs below the terms, those of the same
    school year count that lie inside a term (N-05).
    """
    body = snapshot.get_many("classes", [class_id])[class_id]
    terms = [reference["sourcedId"] for reference in orjson.loads(body)["terms"]]
    active_periods = And((ACTIVE_ONLY, Compare("type", "=", fold("gradingPeriod"))))
    of_terms: Where = In(KEY, with_sessions_below(snapshot, terms))
    if not snapshot.exists("academicSessions", and_(active_periods, of_terms)):
        of_terms = grading_periods_of_terms(snapshot, terms)
    day = due_date[:10]
    where = And((active_periods, Compare("startDate", "<=", day), Compare("endDate", ">", day), of_terms))
    periods = orjson.loads(b"[%b]" % snapshot.find(Query("academicSessions", where)).body())
    return _shortest(periods)["sourcedId"] if periods else None


def _shortest(periods: list[Payload]) -> dict[str, JSON]:
    latest_start = max(period["startDate"] for period in periods)
    return min(
        (period for period in periods if period["startDate"] == latest_start),
        key=lambda period: (period["endDate"], period["sourcedId"]),
    )
