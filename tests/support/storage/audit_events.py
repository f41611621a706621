"""Audit events of a tenant, wherever they are stored."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from backends import CONTROL, Backend
from chalk_flask.audit.timeline import read_timeline

__all__ = ["events_of_tenant"]


def events_of_tenant(store: Backend, tenant: str) -> list[dict[str, Any]]:
    """Return the audit events of a tenant or of CONTROL, oldest first."""
    tenants = [] if tenant == CONTROL else [tenant]
    return list(read_timeline(store, Path("no-access-log"), tenants, tenant=tenant))
