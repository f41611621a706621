"""Who gets in: bearer tokens and the scopes they carry. Free of HTTP."""

from __future__ import annotations

from chalk_flask.access.scopes import UnknownScope, allows, parse_scopes
from chalk_flask.access.tokens import Grant, TokenRecord, TokenRefused, Tokens

__all__ = ["Grant", "TokenRecord", "TokenRefused", "Tokens", "UnknownScope", "allows", "parse_scopes"]
