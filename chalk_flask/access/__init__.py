"""Who gets in: tenants, credentials of every kind, and what they open. Free of HTTP."""

from __future__ import annotations

from chalk_flask.access.door import Door, Way
from chalk_flask.access.limits import UNLIMITED, BadLimits, Limits
from chalk_flask.access.records import Grant, TokenRecord
from chalk_flask.access.scopes import UnknownScope, allows, parse_scopes
from chalk_flask.access.tenants import TenantRecord, TenantRefused, Tenants
from chalk_flask.access.tokens import TokenRefused, Tokens

__all__ = [
    "UNLIMITED",
    "BadLimits",
    "Door",
    "Grant",
    "Limits",
    "TenantRecord",
    "TenantRefused",
    "Tenants",
    "TokenRecord",
    "TokenRefused",
    "Tokens",
    "UnknownScope",
    "Way",
    "allows",
    "parse_scopes",
]
