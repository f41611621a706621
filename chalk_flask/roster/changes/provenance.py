"""Who wrote a record of the gradebook: what grade tools wrote is noted here, all else came by import (reading W-10).

The notes are not served. Only active records have one: a deleted record needs no protection.
"""

from __future__ import annotations

import orjson

from backends import KEY, Compare, In, Record, Subquery, Where

__all__ = [
    "COLLECTION",
    "WRITABLE_COLLECTIONS",
    "provenance_key",
    "provenance_of",
    "provenance_record",
    "written_by_tools",
]

COLLECTION = "origins"

WRITABLE_COLLECTIONS = ("categories", "lineItems", "results")
"""The collections that grade tools may write."""


def provenance_key(collection: str, key: str) -> str:
    """The key of the note about a record."""
    return f"{collection}/{key}"


def provenance_record(collection: str, key: str) -> Record:
    """The note that a grade tool wrote the record."""
    said = {"collection": collection, "record": key}
    return Record(provenance_key(collection, key), orjson.dumps(said), said)


def provenance_of(collection: str) -> Where:
    """The notes about records of a collection, to be asked of COLLECTION."""
    return Compare("collection", "=", collection)


def written_by_tools(collection: str) -> Where:
    """The records of a collection that grade tools wrote, to be asked of that collection."""
    return In(KEY, Subquery(COLLECTION, "record", provenance_of(collection)))
