"""What a grant may see of each collection, as conditions of the query tree (design section 6)."""

from __future__ import annotations

from backends import EVERYTHING, Where
from chalk_flask.access import Grant
from chalk_flask.api.conditions import NOTHING

__all__ = ["visible"]


def visible(grant: Grant, collection: str) -> Where:
    """The records of the collection that the bearer may know of; a condition to add to every question."""
    return NOTHING if collection in grant.limits.denied else EVERYTHING
