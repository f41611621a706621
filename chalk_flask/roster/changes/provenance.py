"""Track which gradebook records were written by grade tools rather than by an import (interpretation W-10).

A provenance note is a record of COLLECTION for each active record that a grade tool wrote. The API does not serve
provenance notes.
"""

from __future__ import annotations

import orjson

from backends import KEY, Compare, In, Record, Subquery, Where

__all__ = [
    "COLLECTION",
    "WRITABLE_COLLECTIONS",
    "note_key",
    "notes_of",
    "provenance_note",
    "written_by_tools",
]

COLLECTION = "origins"
"""Collection of the notes."""

WRITABLE_COLLECTIONS = ("categories", "lineItems", "results")
"""Collections that grade tools can write."""


def note_key(collection: str, key: str) -> str:
    """Return the key of the provenance note for a record."""
    return f"{collection}/{key}"


def provenance_note(collection: str, key: str) -> Record:
    """Return the provenance note for a record that a grade tool wrote."""
    values = {"collection": collection, "record": key}
    return Record(note_key(collection, key), orjson.dumps(values), values)


def notes_of(collection: str) -> Where:
    """Return the condition on COLLECTION for the provenance notes about a collection's records."""
    return Compare("collection", "=", collection)


def written_by_tools(collection: str) -> Where:
    """Return the condition on a collection for the records that grade tools wrote."""
    return In(KEY, Subquery(COLLECTION, "record", notes_of(collection)))
