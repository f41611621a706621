"""Paths of the admin API."""

from __future__ import annotations

from typing import Final

__all__ = ["ADMIN_ROOT", "IMPORTS_PATH"]

ADMIN_ROOT: Final = "/api/admin/v1"
IMPORTS_PATH: Final = f"{ADMIN_ROOT}/imports"
"""Path to which packages are sent, and below which each import has a path."""
