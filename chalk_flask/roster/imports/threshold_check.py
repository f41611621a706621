"""Comparison of a diff with the change thresholds of a tenant."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from backends import KEY, And, Compare, In, Query, Snapshot, batched
from chalk_flask.oneroster.fields.scalars import fold
from chalk_flask.oneroster.relations import ACTIVE_ONLY
from chalk_flask.oneroster.vocabularies import ACTIVE
from chalk_flask.roster.diff.diff import RosterDiff
from chalk_flask.roster.imports.report import ImportReport
from chalk_flask.roster.imports.thresholds import ChangeThresholds, ExceededThreshold

__all__ = ["find_exceeded"]

BATCH_SIZE = 250

IS_SCHOOL = Compare("type", "=", fold("school"))
REFERENCES_TO_SCHOOLS = (
    ("enrollments", "school.sourcedId"),
    ("classes", "school.sourcedId"),
    ("users", "orgs.sourcedId"),
)
"""Collections and stored fields that refer to a school. If an active record does, the school is in use."""


def find_exceeded(
    stored: Snapshot, diff: RosterDiff, report: ImportReport, thresholds: ChangeThresholds
) -> Iterator[ExceededThreshold]:
    """Yield the thresholds that an import exceeds. `report` has the counts of the diff."""
    for name, file in report.files.items():
        is_empty = file.mode == "bulk" and not file.rows
        yield from thresholds.find_exceeded(name, file.counts, partial(_count_active, stored, name), is_empty=is_empty)
        yield from thresholds.find_quarantined(name, report.quarantined.get(name, 0), file.rows)
    if thresholds.deleted and (schools := _deleted_schools_in_use(stored, diff)):
        active = stored.find(Query("orgs", And((IS_SCHOOL, ACTIVE_ONLY)), limit=0)).total
        yield ExceededThreshold("orgs", "school", schools, active, 0, 0)


def _count_active(stored: Snapshot, name: str, limit: int | None) -> int:
    """Return the number of active stored records, or `limit` if there are more."""
    # Each record has a timestamp. With this condition, SQLite counts in an index instead of reading each record.
    active = And((Compare("status", "=", ACTIVE), Compare("dateLastModified", ">=", "")))
    return stored.find(Query(name, active, limit=0, max_total=limit)).total


def _deleted_schools_in_use(stored: Snapshot, diff: RosterDiff) -> int:
    """Return the number of deleted schools to which active stored records refer."""
    return sum(
        any(stored.exists(name, And((In(path, (key,)), ACTIVE_ONLY))) for name, path in REFERENCES_TO_SCHOOLS)
        for batch in batched(diff.changes["orgs"].deleted_ids, BATCH_SIZE)
        for key in stored.keys("orgs", And((In(KEY, tuple(batch)), IS_SCHOOL)))
    )
