"""Sync of a source: read the provider, write a package, and import it like a package from a file.

Validation, quarantine, change thresholds, holds, audit events, webhooks and the history of runs are those of imports.
"""

from __future__ import annotations

import logging
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Final

from filelock import FileLock, Timeout

from backends import CONTROL, Backend, StorageError, Transaction
from chalk_flask.auth.secrets import SecretCipher
from chalk_flask.files import create_private_file, make_private_folder
from chalk_flask.logs import log_event
from chalk_flask.roster.imports import ImportReport, OnProgress, OnResult
from chalk_flask.roster.imports.report import RunState
from chalk_flask.roster.imports.run_files import store_folder
from chalk_flask.roster.tenant_imports import ImportChoices, run_import
from chalk_flask.settings import Settings
from chalk_flask.sources.errors import SourceBusyError, SourceError
from chalk_flask.sources.limits import DEFAULT_LIMITS, PART_SUFFIX, SourceLimits
from chalk_flask.sources.record import Source
from chalk_flask.sources.store import SourceStore, record_result
from chalk_flask.tenants.store import require_tenant
from chalk_flask.times import format_timestamp, parse_timestamp, utc_now

if TYPE_CHECKING:
    from chalk_flask.sources.pull import PulledPackage

__all__ = ["SyncOptions", "remove_source_files", "sync_source"]

log = logging.getLogger(__name__)
# A command sets up no log and prints the error. Without this handler, Python would print the event beside it.
log.addHandler(logging.NullHandler())

DELTA_OVERLAP: Final = timedelta(hours=1)
"""Period before the last sync that a delta sync reads again, because clocks differ and transactions end late."""
LOCK_FILE: Final = ".sync.lock"


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
    on_progress: OnProgress | None = None,
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
            since = _delta_start(source, options, started)
            package = _pull(store, settings, source, sources.secret(source), since, options, folder, on_progress)
            recorder = _ResultRecorder(source, started, package, on_result)
            report = run_import(
                store,
                settings,
                package.path,
                tenant,
                choices or ImportChoices(),
                name=source.name,
                requested_by=requested_by,
                dry_run=options.dry_run,
                on_progress=on_progress,
                on_result=recorder,
                notes=package.notes,
            )
        except (SourceError, StorageError, OSError) as error:
            _record_failure(sources, source, started, _reason(error), options)
            raise
        if report.state == "refused" and not options.dry_run:
            sources.record_rejection(tenant, name, started, report)
        return report


def _pull(
    store: Backend,
    settings: Settings,
    source: Source,
    secret: str,
    since: str | None,
    options: SyncOptions,
    folder: Path,
    on_progress: OnProgress | None,
) -> PulledPackage:
    """Read the provider and write a package."""
    # Imported here, because the HTTP client would slow down the start of the service.
    from chalk_flask.sources.pull import Pull

    with store.read(CONTROL) as control:
        with_demographics = require_tenant(control, source.tenant).demographics
    max_bytes = settings.import_max_mb << 20
    with Pull(
        source,
        secret,
        options.limits,
        options.sleep,
        folder,
        max_bytes,
        on_progress,
        with_demographics=with_demographics,
    ) as pull:
        return pull.write_package(since)


@dataclass(frozen=True)
class _ResultRecorder:
    """Callback that stores the result of a sync with its source, in the transaction of the import run."""

    source: Source
    started: datetime
    package: PulledPackage
    on_result: OnResult | None

    def __call__(self, report: ImportReport, state: RunState, transaction: Transaction) -> None:
        package = self.package
        record_result(
            transaction,
            self.source,
            report,
            state,
            self.started,
            is_full=package.is_full,
            lacks_demographics=package.lacks_demographics,
        )
        if self.on_result:
            self.on_result(report, state, transaction)


def remove_source_files(settings: Settings, tenant: str) -> None:
    """Delete the files of the syncs of a tenant. Raises OSError."""
    folder = _tenant_folder(settings, tenant)
    if folder.is_dir():
        shutil.rmtree(folder)


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


def _reason(error: Exception) -> str:
    """Return the text of an expected error, without the name of a file."""
    if isinstance(error, OSError):
        reason = error.strerror or type(error).__name__
        return f"{reason}: the operator must check the folder of the setting data"
    return str(error)


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
    """Delete the files of a sync. Those of a killed sync are deleted before the next one."""
    for path in folder.glob(f"*{PART_SUFFIX}"):
        path.unlink(missing_ok=True)
