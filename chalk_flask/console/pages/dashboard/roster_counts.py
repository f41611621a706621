"""Numbers of active records that the dashboard shows."""

from __future__ import annotations

from typing import Final

from backends import In
from chalk_flask.oneroster.fields.scalars import fold
from chalk_flask.oneroster.relations import has_type
from chalk_flask.roster.counts import EVERY_RECORD, Counted

__all__ = ["COUNTED"]

GUARDIAN_ROLES: Final = tuple(map(fold, ("guardian", "parent", "relative")))

COUNTED: Final[Counted] = (
    ("Students", "users", has_type("role", "student")),
    ("Teachers", "users", has_type("role", "teacher")),
    ("Guardians", "users", In("role", GUARDIAN_ROLES)),
    ("Schools", "orgs", has_type("type", "school")),
    ("Classes", "classes", EVERY_RECORD),
    ("Enrollments", "enrollments", EVERY_RECORD),
)
"""Labels of the numbers, with the collection and the condition of the records that each one counts."""
