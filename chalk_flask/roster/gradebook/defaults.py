"""Where a gradebook record belongs: its references followed, the missing ones filled in (digest 7)."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias
from uuid import uuid4

import orjson

from backends import KEY, MATCH_ALL, And, Compare, In, Not, Or, Query, Record, Transaction, Where
from chalk_flask.oneroster.fields.scalars import JSON, fold
from chalk_flask.oneroster.relations import ACTIVE_ONLY, with_sessions_below
from chalk_flask.oneroster.resource_type import NO_TIMESTAMP
from chalk_flask.oneroster.schemas import FILES
from chalk_flask.oneroster.vocabularies import ACTIVE
from chalk_flask.roster.gradebook.payload import Payload

__all__ = ["Visibility", "default_category", "grading_period", "record_exists"]

Visibility: TypeAlias = Callable[[str], Where]
"""For each collection the records that the writer may know of."""

_UNCATEGORIZED = "Uncategorized"


def record_exists(snapshot: Transaction, collection: str, key: str, where: Where = MATCH_ALL) -> bool:
    """Whether there is a record with this id for which the condition holds."""
    asked = And((Compare(KEY, "=", key), where))
    return snapshot.find(Query(collection, asked, limit=0)).total > 0


def default_category(snapshot: Transaction, class_id: str) -> tuple[str, Record | None]:
    """The category of line items that name none, and its record when it is not there yet (reading W-07).

    That is the first, by id, of the active ones called Uncategorized that are not tied to another class.
    """
    tied = "metadata.classId"
    free = Or((Compare(tied, "=", fold(class_id)), Not(Compare(tied, ">=", ""))))
    named = And((Compare("title", "=", fold(_UNCATEGORIZED)), ACTIVE_ONLY, free))
    found = next(snapshot.keys("categories", named), None)
    if found is not None:
        return found, None
    key = fold(_UNCATEGORIZED)
    if record_exists(snapshot, "categories", key, ACTIVE_ONLY):  # somebody else's, under another title
        key = str(uuid4())
    data = {"sourcedId": key, "status": ACTIVE, "dateLastModified": NO_TIMESTAMP, "title": _UNCATEGORIZED}
    return key, FILES["categories"].record(data)


def grading_period(snapshot: Transaction, class_id: str, due: str) -> str | None:
    """The grading period of the class's terms in which a date-time lies, the shortest of several; None without any.

    A period ends before its endDate (reading A-13), and lies in a term however deep below it (reading N-05).
    """
    body = snapshot.get_many("classes", [class_id])[class_id]
    terms = [reference["sourcedId"] for reference in orjson.loads(body)["terms"]]
    day = due[:10]
    around = And(
        (
            ACTIVE_ONLY,
            Compare("type", "=", fold("gradingPeriod")),
            Compare("startDate", "<=", day),
            Compare("endDate", ">", day),
            In(KEY, with_sessions_below(snapshot, terms)),
        )
    )
    found = orjson.loads(b"[%b]" % snapshot.find(Query("academicSessions", around)).body())
    return _narrowest(found)["sourcedId"] if found else None


def _narrowest(sessions: list[Payload]) -> dict[str, JSON]:
    latest = max(session["startDate"] for session in sessions)
    return min(
        (session for session in sessions if session["startDate"] == latest),
        key=lambda session: (session["endDate"], session["sourcedId"]),
    )
