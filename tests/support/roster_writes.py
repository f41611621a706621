"""Writes of roster records as an import makes them: with timestamps, sequence numbers and webhook events."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from flask import Flask

from backends import Record
from chalk_flask.oneroster.resource_type import NO_TIMESTAMP
from chalk_flask.oneroster.schemas import FILES
from chalk_flask.roster.changes.clock import record_with_timestamp
from chalk_flask.roster.changes.writer import RosterWriter
from tests.conftest import services_of


def write_rows(app: Flask, rows: Mapping[str, list[dict[str, Any]]]) -> None:
    """Write rows by collection, in the order of the mapping."""
    with services_of(app).store.write("default") as transaction:
        writer = RosterWriter(transaction, "default", 0, run="run-1")
        for name, some in rows.items():
            records = [FILES[name].record(row | {"dateLastModified": NO_TIMESTAMP}) for row in some]
            writer.put(name, partial(_with_timestamps, records), partial(_keys, records))
        writer.finish()


def _with_timestamps(records: list[Record], timestamp: str) -> list[Record]:
    return [record_with_timestamp(record, timestamp) for record in records]


def _keys(records: list[Record]) -> list[str]:
    return [record.key for record in records]
