"""Sync of a source: read the provider, write a package, and import it like a package of a file.

Validation, quarantine, change thresholds, holds, audit events, webhooks and the history of runs are those of imports.
"""

from __future__ import annotations

import logging
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Final

from filelock import FileLock, Timeout

from backends import CONTROL, Backend, StorageError, Transaction
from chalk_flask.auth.secrets import SecretCipher
from chalk_flask.files import create_private_file, make_private_folder
from chalk_flask.logs import log_event
from chalk_flask.oneroster.resource_type import ResourceType
from chalk_flask.oneroster.schemas import FILES
from chalk_flask.roster.imports import ImportReport, OnResult, Progress
from chalk_flask.roster.imports.report import RunState
from chalk_flask.roster.imports.run_files import store_folder
from chalk_flask.roster.tenant_imports import ImportChoices, run_import
from chalk_flask.settings import Settings
from chalk_flask.sources.client.authorization import Authorizer, BearerAuthorizer, OAuth1Authorizer, OAuth2Authorizer
from chalk_flask.sources.client.http_client import HttpClient
from chalk_flask.sources.client.limits import DEFAULT_LIMITS, SourceLimits
from chalk_flask.sources.client.provider import FilterRejectedError, Provider
from chalk_flask.sources.collection_reader import CollectionReader
from chalk_flask.sources.errors import SourceBusyError, SourceError, StatusError
from chalk_flask.sources.package_writer import write_package
from chalk_flask.sources.record import Source
from chalk_flask.sources.record_spool import RecordSpool
from chalk_flask.sources.rows import RowConverter
from chalk_flask.sources.store import SourceStore, record_result
from chalk_flask.tenants.store import require_tenant
from chalk_flask.times import format_timestamp, parse_timestamp, utc_now

__all__ = ["SyncOptions", "remove_source_files", "sync_source"]

log = logging.getLogger(__name__)

COLLECTIONS: Final = ("enrollments", "users", "classes", "courses", "academicSessions", "orgs")
"""Collections that every provider must have, in the order of reading: records before those that they refer to.

So a record that is added meanwhile cannot refer to one that was not read.
"""
OPTIONAL_COLLECTION: Final = "demographics"
"""Collection that is read if the tenant has opted in, and that a provider may lack."""
MISSING_STATUSES: Final = (403, 404, 501)

DELTA_OVERLAP: Final = timedelta(hours=1)
"""Time before the last sync whose changes a delta reads again, because clocks differ and transactions end late."""
LOCK_FILE: Final = ".sync.lock"
# A backup leaves out files that end like this.
_PART: Final = ".part"


@dataclass(frozen=True, slots=True)
class SyncOptions:
    """Options of one sync. `full` reads all records. `dry_run` reports changes without applying them."""

    full: bool = False
    dry_run: bool = False
    limits: SourceLimits = DEFAULT_LIMITS
    sleep: Callable[[float], None] = time.sleep


_NO_OPTIONS: Final = SyncOptions()


def sync_source(
    store: Backend,
    settings: Settings,
    tenant: str,
    name: str,
    options: SyncOptions = _NO_OPTIONS,
    *,
    requested_by: str,
    choices: ImportChoices | None = None,
    progress: Progress | None = None,
    on_result: OnResult | None = None,
    now: Callable[[], datetime] = utc_now,
) -> ImportReport:
    """Pull the roster of a source into its tenant, and return the report of the import.

    The parameters are those of `tenant_imports.run_import`. Nothing is imported unless all collections were read.
    Raises SourceError if the provider cannot be read, SourceBusyError if another sync of the tenant runs, and the
    errors of `run_import`. A failure is stored with the source.
    """
    sources = SourceStore(store, SecretCipher(settings.data), now)
    sources.get(tenant, name)
    with _working_folder(settings, tenant) as folder:
        source, started = sources.get(tenant, name), now()
        try:
            with ExitStack() as stack:
                secret = sources.secret(source)
                pull = _Pull(store, settings, source, secret, options, folder, progress, stack)
                path, is_full = pull.write_package(_delta_start(source, options, started))
            parameters = _ResultRecorder(source.name, started, is_full, on_result)
            report = run_import(
                store,
                settings,
                path,
                tenant,
                choices or ImportChoices(),
                name=source.name,
                requested_by=requested_by,
                dry_run=options.dry_run,
                progress=progress,
                on_result=parameters,
            )
        except SourceError as error:
            _record_failure(sources, source, started, str(error), options)
            raise
        if report.state == "refused" and not options.dry_run:
            sources.record_rejection(tenant, name, started, report)
        return report


@dataclass(frozen=True)
class _ResultRecorder:
    """Callback that stores the result of a sync with its source, in the transaction of the import run."""

    name: str
    started: datetime
    is_full: bool
    on_result: OnResult | None

    def __call__(self, report: ImportReport, state: RunState, transaction: Transaction) -> None:
        record_result(transaction, self.name, report, state, self.started, is_full=self.is_full)
        if self.on_result:
            self.on_result(report, state, transaction)


def remove_source_files(settings: Settings, tenant: str) -> None:
    """Delete the files of the syncs of a tenant. Raises OSError."""
    folder = _tenant_folder(settings, tenant)
    if folder.is_dir():
        shutil.rmtree(folder)


class _Pull:
    """Reading of a provider for one sync. `stack` closes what it opens."""

    def __init__(
        self,
        store: Backend,
        settings: Settings,
        source: Source,
        secret: str,
        options: SyncOptions,
        folder: Path,
        progress: Progress | None,
        stack: ExitStack,
    ) -> None:
        with store.read(CONTROL) as control:
            self._with_demographics = require_tenant(control, source.tenant).demographics
        client = HttpClient(options.limits, options.sleep)
        stack.callback(client.close)
        authorizer = _make_authorizer(source, secret, client, with_demographics=self._with_demographics)
        provider = Provider(client, source.url, authorizer, options.limits)
        self._reader = CollectionReader(provider, options.limits.max_readings, progress)
        self._source, self._folder, self._max_bytes = source, folder, settings.import_max_mb << 20
        self._spool_count = 0

    def write_package(self, since: str | None) -> tuple[Path, bool]:
        """Read the provider and write a package. Return its path, and True if it has all records.

        With `since`, it has the changes since this timestamp, unless the provider rejects the filter.
        """
        try:
            spools, is_delta = self._read_all(since), since is not None
        except FilterRejectedError as error:
            log.info("the source %s of tenant %s is read in full: %s", self._source.name, self._source.tenant, error)
            spools, is_delta = self._read_all(None), False
        path = self._folder / f"package{_PART}"
        try:
            write_package(path, spools, is_delta=is_delta, system=self._source.name)
        finally:
            _close_all(spools)
        return path, not is_delta

    def _read_all(self, since: str | None) -> Mapping[str, RecordSpool]:
        spools: dict[str, RecordSpool] = {}
        try:
            if self._with_demographics:
                with _suppress_missing():
                    spools[OPTIONAL_COLLECTION] = self._read(FILES[OPTIONAL_COLLECTION], since)
            for name in COLLECTIONS:
                spools[name] = self._read(FILES[name], since)
        except BaseException:
            _close_all(spools)
            raise
        return spools

    def _read(self, resource_type: ResourceType, since: str | None) -> RecordSpool:
        return self._reader.read(resource_type, since, partial(self._new_spool, resource_type, since is not None))

    def _new_spool(self, resource_type: ResourceType, is_delta: bool) -> RecordSpool:
        self._spool_count += 1
        path = self._folder / f"{self._spool_count}{_PART}"
        converter = RowConverter(resource_type, is_delta=is_delta)
        return RecordSpool(path, converter, self._max_bytes, keeps_deleted=is_delta)


@contextmanager
def _suppress_missing() -> Iterator[None]:
    """Ignore that the provider does not have a collection, or does not allow to read it."""
    try:
        yield
    except StatusError as error:
        if error.status not in MISSING_STATUSES:
            raise
        log.info("the provider has no %s (status %s), so they stay as they are", OPTIONAL_COLLECTION, error.status)


def _close_all(spools: Mapping[str, RecordSpool]) -> None:
    for spool in spools.values():
        spool.close()


def _make_authorizer(source: Source, secret: str, client: HttpClient, *, with_demographics: bool) -> Authorizer:
    if source.auth == "bearer":
        return BearerAuthorizer(secret)
    assert source.client_id is not None
    if source.auth == "oauth1":
        return OAuth1Authorizer(source.client_id, secret)
    assert source.token_url is not None
    return OAuth2Authorizer(client, source.token_url, source.client_id, secret, with_demographics=with_demographics)


def _delta_start(source: Source, options: SyncOptions, now: datetime) -> str | None:
    """Return the timestamp from which changes are read; None for a full sync."""
    last_success, last_full = parse_timestamp(source.last_success), parse_timestamp(source.last_full)
    if options.full or last_success is None or last_full is None:
        return None
    if now - last_full >= timedelta(days=source.full_days):
        return None
    return format_timestamp(last_success - DELTA_OVERLAP)


def _record_failure(
    sources: SourceStore, source: Source, started: datetime, message: str, options: SyncOptions
) -> None:
    log_event(
        log,
        logging.ERROR,
        "source.failed",
        "a sync has failed",
        tenant=source.tenant,
        source=source.name,
        reason=message,
    )
    if not options.dry_run:
        with suppress(StorageError):  # the error of the provider is more important
            sources.record_failure(source.tenant, source.name, started, message)


def _tenant_folder(settings: Settings, tenant: str) -> Path:
    return Path(settings.data) / "sources" / store_folder(settings).name / tenant


@contextmanager
def _working_folder(settings: Settings, tenant: str) -> Iterator[Path]:
    """Yield an empty folder for the files of a sync, which only its owner can read. Raises SourceBusyError, OSError."""
    folder = _tenant_folder(settings, tenant)
    make_private_folder(folder)
    create_private_file(folder / LOCK_FILE)
    try:
        with FileLock(folder / LOCK_FILE, timeout=0, mode=0o600):
            _remove_parts(folder)
            try:
                yield folder
            finally:
                _remove_parts(folder)
    except Timeout:
        raise SourceBusyError(f"another sync of tenant {tenant} runs: wait until it has ended") from None


def _remove_parts(folder: Path) -> None:
    """Delete the files of a sync. Those of a killed one are deleted before the next."""
    for path in folder.glob(f"*{_PART}"):
        path.unlink(missing_ok=True)
