"""Parameters of one import, and the exceptions that its steps raise."""

from __future__ import annotations

import contextlib
import csv
import gc
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TypeAlias, TypedDict

from backends import OnProgress, Transaction
from chalk_flask.roster.imports import history
from chalk_flask.roster.imports.history import ImportRun
from chalk_flask.roster.imports.options import ImportOptions
from chalk_flask.roster.imports.report import ImportReport, RunState
from chalk_flask.roster.package.problems import ImportProblem, ImportProblems, escape_undecodable
from chalk_flask.storage import RosterStore
from chalk_flask.times import format_timestamp, utc_now

__all__ = [
    "AlreadyDecidedError",
    "ImportJob",
    "ImportParameters",
    "OnCommit",
    "OnProgress",
    "OnResult",
    "RosterChangedError",
    "interpreter_settings_for_import",
    "no_callback",
]

OnCommit: TypeAlias = Callable[[ImportReport, Transaction], None]
"""Called with the report, whose counts are final, in the transaction that stores the result."""

OnResult: TypeAlias = Callable[[ImportReport, RunState, Transaction], None]
"""Called with the report and the state of the run, in each transaction that stores a run."""


class RosterChangedError(Exception):
    """Signal that another writer has changed the roster since the comparison. The caller compares again."""


class AlreadyDecidedError(Exception):
    """Signal that the held run was approved or discarded in the meantime."""


class ImportParameters(TypedDict, total=False):
    """Parameters of an import that have a default.

    `run` is the id of the run, by default a new one. `requested_by` is the user whose name is stored with the run.
    `on_commit` is called in the transaction that changes the roster, `on_hold` in the one that stores the hold.
    `on_result` is called in either, and in the one that stores that nothing has changed; no other transaction stores a
    result. `csv_file` is the file for quarantined rows. It contains personal data. `name` is the name of the package in
    the report, by default that of its path. `keeps_history` is False if the tenant keeps no change history. `notes` are
    sentences for the report. The phase of `on_progress` is the name of a file, or "writing" and the name. The expected
    number of rows follows from the size of the file.
    """

    run: str
    name: str
    requested_by: str
    dry_run: bool
    on_progress: OnProgress | None
    on_commit: OnCommit | None
    on_hold: OnCommit | None
    on_result: OnResult | None
    csv_file: Path | None
    keeps_history: bool
    notes: Sequence[str]


@dataclass(frozen=True)
class ImportJob:
    """Parameters of one import: package, options and `ImportParameters`.

    `path` is the file or folder to read: the package itself or, if `is_copy`, the copy to hold. If `subfolder` is not
    empty, the package is this subfolder. `path` and `subfolder` are opened one after the other, so that a link in place
    of one of them is not followed. `package_sha256` is the checksum of a package that was a folder before it was
    copied. `approved` is the held run to apply. `warnings` are about the path, before the package is opened.
    """

    store: RosterStore
    tenant: str
    run: str
    name: str
    path: Path
    options: ImportOptions
    requested_by: str = ""
    dry_run: bool = False
    on_progress: OnProgress | None = None
    on_commit: OnCommit | None = None
    on_hold: OnCommit | None = None
    on_result: OnResult | None = None
    started: datetime = field(default_factory=utc_now)
    is_copy: bool = False
    package_sha256: str | None = None
    approved: ImportRun | None = None
    warnings: tuple[ImportProblem, ...] = ()
    csv_file: Path | None = None
    keeps_history: bool = True
    subfolder: str = ""
    notes: Sequence[str] = ()

    def new_report(self) -> ImportReport:
        """Return an empty report."""
        problems = ImportProblems()
        problems.extend(self.warnings)
        name, notes = escape_undecodable(self.name), list(self.notes)
        return ImportReport(self.run, "refused", self.tenant, name, problems, self.dry_run, notes=notes)

    def to_run(self, state: RunState, report: ImportReport, revision: int | None = None) -> ImportRun:
        """Return the run to store. An approved run keeps its start time and the user who started it."""
        if self.approved:
            decided = self.approved.with_decision(state, self.requested_by, utc_now())
            return decided.with_result(state, report, revision)
        return ImportRun(
            id=self.run,
            tenant=self.tenant,
            state=state,
            who=self.requested_by,
            started=format_timestamp(self.started),
            options=self.options.to_dict(),
            report=history.summary(report, state),
            revision=revision,
        )

    def report_result(self, report: ImportReport, state: RunState, transaction: Transaction) -> None:
        """Call `on_result` in the transaction that stores the run."""
        if self.on_result:
            self.on_result(report, state, transaction)

    def check_still_held(self, transaction: Transaction) -> None:
        """Raise AlreadyDecidedError if the approved run is no longer held."""
        if self.approved:
            run = history.find_run(transaction, self.run)
            if run is None or run.state != "held":
                raise AlreadyDecidedError


def no_callback(report: ImportReport, transaction: Transaction) -> None:
    """Do nothing: the default of `on_commit` and `on_hold`."""


@contextlib.contextmanager
def interpreter_settings_for_import(max_cell_bytes: int) -> Iterator[None]:
    """Set the maximum size of a CSV cell, and disable Python's garbage collector, until the end of the block.

    An import creates millions of small objects without cycles. A search for cycles would take a tenth of the time.
    """
    previous_limit, was_enabled = csv.field_size_limit(max_cell_bytes), gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        csv.field_size_limit(previous_limit)
        if was_enabled:
            gc.enable()
