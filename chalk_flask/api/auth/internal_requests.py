"""Requests that this process makes itself, for pages of the console. They carry a principal instead of a credential."""

from __future__ import annotations

from flask import request

__all__ = ["PRINCIPAL_KEY", "is_internal_request"]

PRINCIPAL_KEY = "chalk_flask.principal"
"""Key of the WSGI environment with the principal.

No HTTP client can set it: the names of its headers become keys that begin with `HTTP_`.
"""


def is_internal_request() -> bool:
    """Return True if this process made the current request. Rates that the operator sets do not apply to it."""
    return PRINCIPAL_KEY in request.environ
