"""Tracking of roster changes: timestamps, sequence numbers and the provenance of gradebook records.

`write_with_final_timestamp` begins a transaction and yields its `RosterWriter`, which writes records and assigns both.
Imports and gradebook writes use no other way to write a roster.
"""

from __future__ import annotations

from chalk_flask.roster.changes.change_history import ChangeCause
from chalk_flask.roster.changes.writer import RosterWriter, write_with_final_timestamp

__all__ = ["ChangeCause", "RosterWriter", "write_with_final_timestamp"]
