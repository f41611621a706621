"""Numbers of active records that the dashboard shows."""

from __future__ import annotations

from typing import Final

from flask import url_for

from backends import In
from chalk_flask.console.widgets.encrypted_search import encrypt_search
from chalk_flask.oneroster.fields.scalars import fold
from chalk_flask.oneroster.relations import has_type
from chalk_flask.roster.counts import EVERY_RECORD, Counted

__all__ = ["COUNTED", "counted_url"]

GUARDIANS: Final = "Guardians"
GUARDIAN_ROLES: Final = ("guardian", "parent")

COUNTED: Final[Counted] = (
    ("Students", "users", has_type("role", "student")),
    ("Teachers", "users", has_type("role", "teacher")),
    (GUARDIANS, "users", In("role", tuple(map(fold, GUARDIAN_ROLES)))),
    ("Schools", "orgs", has_type("type", "school")),
    ("Classes", "classes", EVERY_RECORD),
    ("Enrollments", "enrollments", EVERY_RECORD),
)
"""Labels of the numbers, with the collection and the condition of the records that each one counts."""


def counted_url(label: str) -> str:
    """Return the address of the list with the records that a number counts."""
    if label == GUARDIANS:
        search = encrypt_search(filter=" OR ".join(f"role='{role}'" for role in GUARDIAN_ROLES))
        return url_for("console.browse_collection", collection="users", search=search)
    return url_for("console.browse_collection", collection=label.lower())
