"""Watcher that imports the packages of a drop folder, one after the other, until it must stop."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import datetime
from pathlib import Path
from typing import Final

from backends import StorageError
from chalk_flask import __version__
from chalk_flask.data_folder_binding import bind_on_open
from chalk_flask.drop_folder.file_observer import MAX_INCOMPLETE_SECONDS, FileObserver
from chalk_flask.drop_folder.folder import ClaimedPackage, DropFolder, DropFolderError, Outcome
from chalk_flask.logs import log_event
from chalk_flask.roster.imports.report import ImportReport
from chalk_flask.roster.tenant_imports import ImportChoices, find_import, run_import
from chalk_flask.settings import Settings, SettingsError
from chalk_flask.storage import LazyStore
from chalk_flask.tenants.store import TenantError
from chalk_flask.times import utc_now
from chalk_flask.tracebacks import RepeatedErrors, error_location

__all__ = ["DropFolderWatcher"]

log = logging.getLogger(__name__)

POLL_SECONDS: Final = 1.0
RETRY_SECONDS: Final = 30.0
"""Pause after a failure, for example of the store."""
MAX_STARTS: Final = 3
"""Number of starts after which a package is rejected, if each one ended the process or in an unexpected error."""

CRASH_REPORT: Final = (
    f"The import ended {MAX_STARTS} times without a result, for example because memory ran out or the machine stopped."
    " Nothing was changed. Check the log, and put the package into the folder again."
)

MAX_INCOMPLETE_TEXT: Final = f"after {MAX_INCOMPLETE_SECONDS / 60:.0f} minutes"

INVALID_REPORT: Final = (
    "This is {}, and only regular files are imported. Nothing was changed. Put the ZIP file itself into the folder."
)

_OUTCOMES: Final[dict[str, Outcome]] = {"committed": "done", "unchanged": "done", "refused": "rejected"}
"""Subfolder for each state of a run. Packages of runs in other states were held."""


class _StopRequestedError(Exception):
    """Error that interrupts an import because the watcher must stop. The import rolls back."""


class DropFolderWatcher:
    """Watcher that imports the packages of a drop folder into one tenant, with these choices.

    A package must be unchanged for `settle_seconds`. `requested_by` is the user who is stored with the runs. Other
    threads may call `stop` only.
    """

    def __init__(
        self,
        folder: DropFolder,
        settings: Settings,
        tenant: str,
        choices: ImportChoices,
        settle_seconds: float,
        requested_by: str,
        now: Callable[[], datetime] = utc_now,
    ) -> None:
        self._folder, self._settings, self._tenant, self._choices = folder, settings, tenant, choices
        self._observer, self._requested_by, self._now = FileObserver(settle_seconds), requested_by, now
        self._stopping = threading.Event()
        self._errors, self._unmovable_errors = RepeatedErrors(), RepeatedErrors()
        self._unmovable: set[Path] = set()
        self.outcomes: set[Outcome] = set()
        """Subfolders of the packages that were imported so far."""
        self.has_failed = False
        """True if the last package could not be imported, and is tried again later."""
        self._is_started = False
        self._incomplete = 0

    @property
    def has_unmovable(self) -> bool:
        """True if an entry that is named like a package cannot be moved."""
        return bool(self._unmovable)

    def stop(self) -> None:
        """Stop soon. An import that has not written its changes is interrupted, and the next `run` starts it again."""
        self._stopping.set()

    def run(self, *, once: bool = False) -> None:
        """Import packages until `stop` is called.

        With `once`, end also when no package is left, or when one could not be imported.

        Raises DropFolderError and OSError if the folder cannot be watched at the start. If it fails later, for example
        because a network drive is not available, the watcher tries again.
        """
        with ExitStack() as stack:
            while not self._stopping.is_set() and not self._watch(stack, once) and not once:
                self._stopping.wait(RETRY_SECONDS)

    def _watch(self, stack: ExitStack, once: bool) -> bool:
        """Lock the folder, and import packages until the end of `run`. Return False if the folder failed."""
        try:
            with self._folder.lock():
                if not self._is_started:
                    stack.enter_context(_log_start_and_end(self._tenant))
                    self._is_started = True
                self._import_packages(once)
        except (DropFolderError, OSError) as error:
            if not self._is_started:
                raise
            return self._postpone(_reason(error))
        return True

    def _import_packages(self, once: bool) -> None:
        while not self._stopping.is_set():
            is_idle = self._process_all()
            if once and (self.has_failed or (is_idle and self._observer.paths <= self._unmovable)):
                return
            if is_idle or self.has_failed:
                self._stopping.wait(RETRY_SECONDS if self.has_failed else POLL_SECONDS)

    def _process_all(self) -> bool:
        """Import the claimed packages and the complete ones. Return True if there were none.

        After a failure, the rest waits for the next call, because the newer package must be imported last. Raises
        OSError if the folder cannot be read.
        """
        self.has_failed = False
        self._unmovable.clear()
        self._reject_invalid()
        claimed = self._folder.list_claimed()
        if not all(self._process(package) for package in claimed):
            return False
        complete = self._observer.observe(self._folder.list_new())
        self._report_incomplete()
        if not all(self._claim_and_process(path) for path in complete):
            return False
        self._errors.clear()
        if not self._unmovable:
            self._unmovable_errors.clear()
        return not claimed and self._unmovable.issuperset(complete)

    def _report_incomplete(self) -> None:
        """Log once that files without the end of a ZIP are waited for: their upload broke off, or they are no ZIP."""
        count = self._observer.incomplete
        if count > self._incomplete:
            reason = f"the end of the ZIP is missing; without a change, it is rejected {MAX_INCOMPLETE_TEXT}"
            log_event(
                log, logging.WARNING, "package.incomplete", "a package is not complete", files=count, reason=reason
            )
        self._incomplete = count

    def _reject_invalid(self) -> None:
        """Move links, folders and special files that are named like packages. Packages do not wait for them."""
        for path, kind in list(self._folder.list_invalid()):
            try:
                self._folder.reject(path, self._now(), INVALID_REPORT.format(kind))
            except OSError as error:
                self._report_unmovable(path, kind, error)
            else:
                self.outcomes.add("rejected")
                log_event(log, logging.INFO, "package.invalid", "a file of another type was moved", type=kind)

    def _report_unmovable(self, path: Path, kind: str, error: OSError) -> None:
        """Log that an entry cannot be moved, and repetitions at level DEBUG."""
        self._unmovable.add(path)
        reason = f"{kind} that is named like a package cannot be moved: {_reason(error)}"
        level = self._unmovable_errors.level(reason, logging.ERROR)
        log_event(log, level, "package.unmovable", "an entry of the folder must be removed", reason=reason)

    def _claim_and_process(self, path: Path) -> bool:
        """Import a complete package and move it. Return False if the next ones must wait."""
        if self._stopping.is_set():
            return False
        try:
            package = self._folder.claim(path, self._now())
        except PermissionError as error:
            self._report_unmovable(path, "a file", error)
            return True
        except OSError as error:
            return self._postpone(_reason(error))
        self._observer.forget(path)
        return package is None or self._process(package)

    def _process(self, package: ClaimedPackage) -> bool:
        """Import a claimed package and move it. Return False if it must be tried again later."""
        try:
            outcome, run, report = self._import(package)
            self._folder.finish(package, outcome, report)
        except _StopRequestedError:
            return False
        except (StorageError, TenantError, SettingsError, OSError) as error:
            return self._postpone(_reason(error))
        except Exception as error:  # noqa: BLE001 - other packages must be imported
            # Messages of unexpected errors may quote personal data, so only the location is shown.
            return self._postpone(error_location(error))
        self._errors.clear()
        self.outcomes.add(outcome)
        log_event(log, logging.INFO, "package.moved", "a package was moved", run=run, folder=outcome)
        return True

    def _import(self, package: ClaimedPackage) -> tuple[Outcome, str, str]:
        """Return the subfolder for a package, the run that `imports show` knows, and the text of the report.

        The run is an earlier one if the package is held already.
        """
        settings = self._settings
        with ExitStack() as stack, LazyStore(settings.storage, bind_on_open(stack, settings)) as store:
            found = find_import(store, settings, self._tenant, package.run)
            if found is not None:  # the process was killed after the import
                report = ImportReport.from_dict({**found[0].report, "state": found[0].state})
            elif package.count_start() > MAX_STARTS:
                return "rejected", package.run, CRASH_REPORT
            else:
                report = self._run_import(store, package)
        return _OUTCOMES.get(report.state, "held"), report.run, f"Run {report.run}\n{report.to_text()}"

    def _run_import(self, store: LazyStore, package: ClaimedPackage) -> ImportReport:
        try:
            report = run_import(
                store,
                self._settings,
                package.path,
                self._tenant,
                self._choices,
                run=package.run,
                requested_by=self._requested_by,
                on_progress=self._check_stopping,
            )
        except (_StopRequestedError, StorageError, TenantError, OSError):
            package.forget_starts()
            raise
        package.forget_starts()
        return report

    def _check_stopping(self, _phase: str, _rows: int, _total: int | None) -> None:
        if self._stopping.is_set():
            raise _StopRequestedError

    def _postpone(self, reason: str) -> bool:
        """Log a failure, and its repetitions at level DEBUG. Return False, as `_process` does."""
        self.has_failed = True
        level = self._errors.level(reason, logging.ERROR)
        log_event(log, level, "package.postponed", "a package cannot be imported now", reason=reason)
        return False


@contextmanager
def _log_start_and_end(tenant: str) -> Iterator[None]:
    started = time.monotonic()
    log_event(log, logging.INFO, "watch.started", "the folder is watched", tenant=tenant, version=__version__)
    try:
        yield
    finally:
        seconds = round(time.monotonic() - started, 1)
        log_event(log, logging.INFO, "watch.stopped", "the folder is no longer watched", seconds=seconds)


def _reason(error: Exception) -> str:
    """Return the text of an expected error, without the name of a file."""
    if isinstance(error, OSError):
        return error.strerror or type(error).__name__
    return str(error)
