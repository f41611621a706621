"""Deletion of a tenant with its files below the setting `data`: held and uploaded packages, reports and progress."""

from __future__ import annotations

import logging
from threading import Event

from backends import Backend
from chalk_flask.jobs.retention import remove_tenant_files
from chalk_flask.jobs.store import jobs_folder
from chalk_flask.roster.imports.run_files import remove_tenant, store_folder
from chalk_flask.settings import Settings
from chalk_flask.tenants import TenantStore
from chalk_flask.tenants.record import DeletedTenant

__all__ = ["delete_tenant", "finish_deletions"]

log = logging.getLogger(__name__)


def delete_tenant(store: Backend, settings: Settings, name: str) -> DeletedTenant:
    """Delete a tenant with its records, credentials, jobs and files. Raises TenantError, StorageError and OSError.

    If this process ends in between, `finish_deletions` deletes the rest.
    """
    deleted = TenantStore(store).begin_deletion(name)
    _finish(store, settings, name, Event())
    return deleted


def finish_deletions(store: Backend, settings: Settings, stopping: Event) -> None:
    """Delete the records and files of the tenants whose deletion has begun and not finished.

    Ends early when `stopping` is set. If files cannot be deleted, their tenant stays unfinished. Raises StorageError.
    """
    for name in TenantStore(store).unfinished_deletions():
        try:
            if _finish(store, settings, name, stopping):
                log.info("finished the deletion of the tenant %s", name)
        except OSError as error:
            log.error("the files of the deleted tenant %s cannot be deleted: %s", name, error.strerror)


def _finish(store: Backend, settings: Settings, name: str, stopping: Event) -> bool:
    """Delete the records and files of a tenant whose deletion has begun. Return False if it was stopped."""
    tenants = TenantStore(store)
    _remove_files(settings, name)
    if not tenants.delete_records(name, stopping):
        return False
    # An import that ran meanwhile may have stored a package before its transaction failed.
    _remove_files(settings, name)
    tenants.end_deletion(name)
    return True


def _remove_files(settings: Settings, name: str) -> None:
    remove_tenant(store_folder(settings), name)
    remove_tenant_files(jobs_folder(settings), name)
