"""Deletion of a tenant with its files below the setting `data`: held and uploaded packages, reports and progress."""

from __future__ import annotations

import logging
from functools import partial
from threading import Event
from typing import Final

from backends import CONTROL, Backend
from chalk_flask.jobs.retention import remove_tenant_files
from chalk_flask.jobs.store import jobs_folder
from chalk_flask.roster.imports.run_files import remove_tenant, store_folder
from chalk_flask.settings import Settings
from chalk_flask.sources import remove_source_files
from chalk_flask.tenants import TenantStore
from chalk_flask.tenants.record import DeletedTenant

__all__ = ["TenantDeletions", "delete_tenant", "finish_deletion"]

log = logging.getLogger(__name__)

_NEVER_READ: Final = object()
"""Marker for a version of the control tenant that was not read yet."""


def delete_tenant(store: Backend, settings: Settings, name: str) -> DeletedTenant:
    """Delete a tenant with its records, credentials, jobs and files. Raises TenantError, StorageError and OSError.

    If this process ends in between, `TenantDeletions` deletes the rest.
    """
    deleted = TenantStore(store).begin_deletion(name)
    finish_deletion(store, settings, name, Event())
    return deleted


class TenantDeletions:
    """Deletions of tenants that have begun and not finished, for the job worker. Not thread-safe."""

    def __init__(self, store: Backend, settings: Settings) -> None:
        self._store, self._settings = store, settings
        self._version: object = _NEVER_READ
        self._failed: set[str] = set()

    def finish(self, stopping: Event) -> None:
        """Delete the records and files of these tenants. Reads the store only after a change.

        Ends early when `stopping` is set. A tenant whose files cannot be deleted stays unfinished until `retry` is
        called. Raises StorageError.
        """
        version = self._store.version(CONTROL)
        if version == self._version:
            return
        for name in TenantStore(self._store).unfinished_deletions():
            if name not in self._failed:
                self._finish(name, stopping)
        if not stopping.is_set():
            self._version = version

    def retry(self) -> None:
        """Let the next call of `finish` try all tenants."""
        self._version = _NEVER_READ
        self._failed.clear()

    def _finish(self, name: str, stopping: Event) -> None:
        try:
            if finish_deletion(self._store, self._settings, name, stopping):
                log.info("finished the deletion of the tenant %s", name)
        except OSError as error:
            self._failed.add(name)
            log.error("the files of the deleted tenant %s cannot be deleted: %s", name, error.strerror)


def finish_deletion(store: Backend, settings: Settings, name: str, stopping: Event) -> bool:
    """Delete the records and files of a tenant whose deletion has begun.

    Return False if it was stopped, or if another process has finished it. Raises StorageError and OSError.
    """
    tenants, remove_files = TenantStore(store), partial(_remove_files, settings, name)
    if not tenants.delete_files(name, remove_files) or not tenants.delete_records(name, stopping):
        return False
    # An import that ran meanwhile may have stored a package before its transaction failed.
    return tenants.delete_files(name, remove_files, ends_deletion=True)


def _remove_files(settings: Settings, name: str) -> None:
    remove_tenant(store_folder(settings), name)
    remove_tenant_files(jobs_folder(settings), name)
    remove_source_files(settings, name)
