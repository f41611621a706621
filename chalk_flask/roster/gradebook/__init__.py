"""Gradebook writes of grade tools: categories, line items and results (interpretations W-01 to W-13).

The JSON of one record goes in. `put` and `delete` validate it and fill in defaults. They write the record and its
dependents in one transaction, within the access policy of the `GradeTool`. `put` returns a `WriteResult`. They raise
`InvalidPayloadError`, `RecordNotFoundError` or `ForbiddenWriteError`.
"""

from __future__ import annotations

from chalk_flask.roster.gradebook.payload import InvalidPayloadError
from chalk_flask.roster.gradebook.write_guard import ForbiddenWriteError, GradeTool, RecordNotFoundError
from chalk_flask.roster.gradebook.writes import WriteResult, delete, put

__all__ = [
    "ForbiddenWriteError",
    "GradeTool",
    "InvalidPayloadError",
    "RecordNotFoundError",
    "WriteResult",
    "delete",
    "put",
]
