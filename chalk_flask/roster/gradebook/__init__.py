"""Gradebook writes of grade tools: categories, line items and results (interpretations W-01 to W-13).

`put` and `delete` take the JSON of one record, validate it, fill in defaults, and write the record and all that depends
on it in one transaction. They raise `InvalidPayloadError` or `RecordNotFoundError`.
"""

from __future__ import annotations

from chalk_flask.roster.gradebook.payload import InvalidPayloadError
from chalk_flask.roster.gradebook.writes import RecordNotFoundError, WriteResult, delete, put

__all__ = ["InvalidPayloadError", "RecordNotFoundError", "WriteResult", "delete", "put"]
