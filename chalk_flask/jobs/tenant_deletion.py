"""Deletion of a tenant with its files below the setting `data`: held and uploaded packages, reports and progress."""

from __future__ import annotations

from backends import Backend
from chalk_flask.jobs.retention import remove_tenant_files
from chalk_flask.jobs.store import jobs_folder
from chalk_flask.roster.imports.run_files import remove_tenant, store_folder
from chalk_flask.settings import Settings
from chalk_flask.tenants import TenantStore
from chalk_flask.tenants.record import DeletedTenant

__all__ = ["delete_tenant"]


def delete_tenant(store: Backend, settings: Settings, name: str) -> DeletedTenant:
    """Delete a tenant with its records, credentials, jobs and files. Raises TenantError, StorageError and OSError."""
    tenants = TenantStore(store)
    tenants.check_deletable(name)
    # Delete the files first, because an interrupted deletion can be finished without this function. Delete them again
    # afterwards, when no import can hold a package and no job can be queued any more.
    _remove_files(settings, name)
    deleted = tenants.delete(name)
    _remove_files(settings, name)
    return deleted


def _remove_files(settings: Settings, name: str) -> None:
    remove_tenant(store_folder(settings), name)
    remove_tenant_files(jobs_folder(settings), name)
