"""Sources: upstream OneRoster 1.1 providers from which a tenant pulls its roster over REST.

A source with its credential goes into `SourceStore`. `sync_source` is the entry point: it reads the provider of a
source, writes a package, imports it, and returns the report of the import. `SyncSchedule` finds the syncs that are due.
"""

from chalk_flask.sources.errors import SecretRequiredError, SourceError
from chalk_flask.sources.record import Source
from chalk_flask.sources.request import SourceChange, SourceRequest
from chalk_flask.sources.schedule import SyncSchedule, next_sync
from chalk_flask.sources.store import SourceStore, record_queued
from chalk_flask.sources.sync import SyncOptions, remove_source_files, sync_source

__all__ = [
    "SecretRequiredError",
    "Source",
    "SourceChange",
    "SourceError",
    "SourceRequest",
    "SourceStore",
    "SyncOptions",
    "SyncSchedule",
    "next_sync",
    "record_queued",
    "remove_source_files",
    "sync_source",
]
