"""Who wrote a record of the gradebook: what grade tools wrote is noted here, all else came by import (reading W-10).

The notes are not served. Only active records have one: a deleted record needs no protection.
"""

from __future__ import annotations

import orjson

from backends import KEY, Among, Compare, Record, Select, Where

__all__ = ["COLLECTION", "WRITABLE", "by_tools", "note", "noted", "place"]

COLLECTION = "origins"

WRITABLE = ("categories", "lineItems", "results")
"""The collections that grade tools may write."""


def place(collection: str, key: str) -> str:
    """The key of the note about a record."""
    return f"{collection}/{key}"


def note(collection: str, key: str) -> Record:
    """The note that a grade tool wrote the record."""
    said = {"collection": collection, "record": key}
    return Record(place(collection, key), orjson.dumps(said), said)


def noted(collection: str) -> Where:
    """The notes about records of a collection, to be asked of COLLECTION."""
    return Compare("collection", "=", collection)


def by_tools(collection: str) -> Where:
    """The records of a collection that grade tools wrote, to be asked of that collection."""
    return Among(KEY, Select(COLLECTION, "record", noted(collection)))
