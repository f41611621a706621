"""Gradebook writes of grade tools: categories, line items and results (interpretations W-01 to W-13).

The JSON of one record goes in. `put` and `delete` validate it and fill in defaults. They write the record and its
dependents in one transaction. `put` returns a `WriteResult`. They raise `InvalidPayloadError` or `RecordNotFoundError`.
"""

from __future__ import annotations

from chalk_flask.roster.gradebook.payload import InvalidPayloadError
from chalk_flask.roster.gradebook.writes import RecordNotFoundError, WriteResult, delete, put

__all__ = ["InvalidPayloadError", "RecordNotFoundError", "WriteResult", "delete", "put"]
