"""Timestamps (`dateLastModified`) of a tenant: one for each write, above every earlier one.

A consumer may poll with its own clock: the start of one read is the cursor of the next (`dateLastModified>'...'`). It
would miss a record whose timestamp lies before such a read, but whose commit comes after it. Therefore a timestamp is
slightly in the future, at the expected end of the write. If the commit comes later, the records get a new timestamp
(interpretation I-05, docs/conformance).
"""

from __future__ import annotations

import time
from typing import cast

import orjson

from backends import Record, Snapshot, Transaction
from chalk_flask.oneroster.fields.scalars import fold
from chalk_flask.oneroster.resource_type import with_timestamp, without_timestamp
from chalk_flask.times import format_epoch_seconds, parse_timestamp

__all__ = [
    "COLLECTION",
    "RESOLUTION_SECONDS",
    "commit_lead",
    "import_timestamp_record",
    "latest_timestamps",
    "margin",
    "next_lead",
    "next_timestamp",
    "record_with_timestamp",
    "timestamp_record",
    "to_epoch_seconds",
    "wait_until",
]

COLLECTION = "clock"
"""Collection of the record that holds the tenant's latest timestamp."""

LARGE_LOAD_RECORDS = 50_000
"""Writes of more records take many seconds; their timestamp is the start of the write (interpretation I-06)."""

RECORDS_PER_SECOND = 6_500
"""Records that even a slow machine writes in a second, including the commit."""

RESOLUTION_SECONDS = 0.001
"""Resolution of a timestamp. A consumer may round its own clock up by as much."""

_KEY = "clock"
_IMPORT_KEY = "import"


def commit_lead(record_count: int) -> float:
    """Return the expected duration of a write in seconds, or 0 for a large load."""
    return 0.05 + record_count / RECORDS_PER_SECOND if record_count <= LARGE_LOAD_RECORDS else 0.0


def next_lead(lead: float, margin: float, tries: int) -> float:
    """Return the lead in seconds for another try, from the lead and margin of the last try and the number of tries.

    After one try, the lead is the duration of that try and a quarter more, because the work is about the same. After
    more tries it grows exponentially, for a machine that gets busier.
    """
    return max(lead - margin, RESOLUTION_SECONDS) * (1.25 if tries == 1 else 2.0**tries)


def next_timestamp(snapshot: Snapshot, lead: float) -> str:
    """Return the timestamp `lead` seconds from now, or a millisecond above the tenant's latest one if that is later."""
    stored, _ = latest_timestamps(snapshot)
    latest = to_epoch_seconds(stored) if stored else 0.0
    return format_epoch_seconds(max(time.time() + lead, latest + RESOLUTION_SECONDS))


def latest_timestamps(snapshot: Snapshot) -> tuple[str, str]:
    """Return the latest timestamp of the tenant, and that of its latest import. Empty texts if there is none."""
    stored = snapshot.get_many(COLLECTION, [_KEY, _IMPORT_KEY])
    latest, latest_import = (
        cast(str, orjson.loads(stored[key])["stamp"]) if key in stored else "" for key in (_KEY, _IMPORT_KEY)
    )
    return latest, latest_import


def timestamp_record(timestamp: str) -> Record:
    """Return the record of COLLECTION for the latest timestamp."""
    return Record(_KEY, orjson.dumps({"stamp": timestamp}))


def import_timestamp_record(timestamp: str) -> Record:
    """Return the record of COLLECTION for the timestamp of the latest write that is not a grade tool's."""
    return Record(_IMPORT_KEY, orjson.dumps({"stamp": timestamp}))


def record_with_timestamp(record: Record, timestamp: str) -> Record:
    """Return a copy of the record with this `dateLastModified`."""
    values = {**record.values, "dateLastModified": fold(timestamp)}
    return Record(record.key, with_timestamp(without_timestamp(record.body), timestamp), values)


def to_epoch_seconds(timestamp: str) -> float:
    """Return the timestamp in seconds since the epoch. Raises ValueError."""
    return parse_timestamp(timestamp).timestamp()


def margin(timestamp: str, transaction: Transaction) -> float:
    """Return the seconds from the commit of a finished transaction to the timestamp; negative if it came later."""
    return to_epoch_seconds(timestamp) - (transaction.committed or time.time())


def wait_until(timestamp: str, max_seconds: float) -> None:
    """Sleep until the timestamp has passed.

    `max_seconds` limits the wait, because the timestamp may be far away after the system clock was put back.
    """
    time.sleep(min(max(to_epoch_seconds(timestamp) - time.time(), 0), max_seconds))
