"""The clock of a tenant: one stamp a write, above every earlier one.

A consumer may take its own clock at the start of a look as the cursor of the next (`dateLastModified>'...'`). It would
miss a record that is stamped before such a look and visible only after it. So a stamp lies a little ahead: when the
writing is expected to be over. A commit that comes later than its stamp is stamped again (reading I-05).
"""

from __future__ import annotations

import time
from datetime import datetime
from typing import cast

import orjson

from backends import Record, Snapshot, Transaction
from chalk_flask.oneroster.fields.scalars import fold
from chalk_flask.oneroster.resource_type import with_timestamp, without_timestamp
from chalk_flask.oneroster.vocabularies import format_instant, parse_instant

__all__ = [
    "LARGE_LOAD_RECORDS",
    "RESOLUTION_SECONDS",
    "commit_lead",
    "margin",
    "next_lead",
    "next_timestamp",
    "seconds_until",
    "timestamp_record",
    "with_timestamp",
]

COLLECTION = "clock"
LARGE_LOAD_RECORDS = 50_000
"""A load of more records than this takes many seconds, and is stamped as it starts to be written."""

RECORDS_PER_SECOND = 6_500
"""Records that are sure to be written in a second, commit included."""


RESOLUTION_SECONDS = 0.001
"""A stamp's resolution in seconds; a consumer may round its own clock up by as much."""


def commit_lead(count: int) -> float:
    """How many seconds before the end of a write of `count` records its stamp is chosen."""
    return 0.05 + count / RECORDS_PER_SECOND if count <= LARGE_LOAD_RECORDS else 0.0


def next_lead(lead: float, margin: float, tries: int) -> float:
    """The next lead for what was committed `late` seconds before its stamp (negative: after it), for so many tries.

    What it took, and a quarter more: it is much the same work. On a machine that is busier each time, many times that.
    """
    return max(lead - margin, RESOLUTION_SECONDS) * (1.25 if tries == 1 else 2.0**tries)


def next_timestamp(snapshot: Snapshot, lead: float) -> str:
    """A stamp `lead` seconds from now, or a millisecond above the latest one of the tenant if that is later."""
    stored = snapshot.get_many(COLLECTION, ["clock"]).get("clock")
    latest = seconds(cast(str, orjson.loads(stored)["stamp"])) if stored else 0.0
    return format_instant(max(time.time() + lead, latest + RESOLUTION_SECONDS))


def timestamp_record(stamp: str) -> Record:
    """The record that keeps the latest stamp."""
    return Record("clock", orjson.dumps({"stamp": stamp}))


def record_with_timestamp(record: Record, stamp: str) -> Record:
    """The record with another stamp."""
    values = {**record.values, "dateLastModified": fold(stamp)}
    return Record(record.key, with_timestamp(without_timestamp(record.body), stamp), values)


def seconds(stamp: str) -> float:
    """The stamp as seconds since the epoch. Raises ValueError."""
    return datetime.fromisoformat(parse_instant(stamp)[0]).timestamp()


def margin(stamp: str, transaction: Transaction) -> float:
    """How many seconds before its stamp a transaction, which was just left, was committed; negative after it."""
    return seconds(stamp) - (transaction.committed or time.time())


def seconds_until(stamp: str) -> float:
    """How long it is until the stamp; negative when it has passed."""
    return seconds(stamp) - time.time()
