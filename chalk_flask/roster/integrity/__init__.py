"""Verification of a stored roster.

`check_store` reads every record of a tenant, and returns an `IntegrityReport` with the problems, the number of active
records and two digests. Equal rosters have equal digests on every backend.
"""

from __future__ import annotations

from chalk_flask.roster.integrity.checker import IntegrityReport, check_store

__all__ = ["IntegrityReport", "check_store"]
