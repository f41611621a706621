"""Track which gradebook records were written by grade tools rather than by an import (interpretation W-10).

A provenance note is a record of COLLECTION for each active record that a grade tool wrote. The API does not serve
provenance notes.
"""

from __future__ import annotations

import orjson

from backends import KEY, Compare, In, Record, Snapshot, Subquery, Where

__all__ = [
    "COLLECTION",
    "WRITABLE_COLLECTIONS",
    "credential_of",
    "find_note",
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


def provenance_note(collection: str, key: str, credential: str | None = None) -> Record:
    """Return the provenance note for a record that a grade tool wrote.

    `credential` names the credential of the tool; None for a record that the service created for it.
    """
    values = {"collection": collection, "record": key}
    return Record(note_key(collection, key), orjson.dumps(values | {"credential": credential}), values)


def find_note(snapshot: Snapshot, collection: str, key: str) -> bytes | None:
    """Return the stored body of the note for a record, or None if no grade tool wrote the record."""
    key = note_key(collection, key)
    return snapshot.get_many(COLLECTION, [key]).get(key)


def credential_of(note: bytes) -> str | None:
    """Return the credential in the stored body of a note. Notes of earlier versions have none."""
    credential: str | None = orjson.loads(note).get("credential")
    return credential


def notes_of(collection: str) -> Where:
    """Return the condition on COLLECTION for the provenance notes about a collection's records."""
    return Compare("collection", "=", collection)


def written_by_tools(collection: str) -> Where:
    """Return the condition on a collection for the records that grade tools wrote."""
    return In(KEY, Subquery(COLLECTION, "record", notes_of(collection)))
