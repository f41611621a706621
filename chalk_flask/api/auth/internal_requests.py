"""Requests that this process makes itself, for pages of the console. They carry a principal instead of a credential."""

from __future__ import annotations

from flask import request

__all__ = ["MAX_RECORD_IDS", "PRINCIPAL_KEY", "RECORD_IDS_KEY", "is_internal_request"]

PRINCIPAL_KEY = "chalk_flask.principal"
"""Key of the WSGI environment with the principal.

No HTTP client can set it: the names of its headers become keys that begin with `HTTP_`.
"""


RECORD_IDS_KEY = "chalk_flask.record_ids"
"""Key of the WSGI environment with the ids of the records that a collection returns, deleted ones included.

It takes the place of a filter, which has at most two clauses. Like PRINCIPAL_KEY, no HTTP client can set it.
"""

MAX_RECORD_IDS = 100
"""Maximum number of ids of one request."""


def is_internal_request() -> bool:
    """Return True if this process made the current request. Rates that the operator sets do not apply to it."""
    return PRINCIPAL_KEY in request.environ
