"""One import on its way: what is asked for, and what is remembered of it."""

from __future__ import annotations

import contextlib
import csv
import gc
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeAlias

from backends import Transaction
from chalk_flask.roster.imports import history
from chalk_flask.roster.imports.history import ImportRun
from chalk_flask.roster.imports.options import ImportOptions
from chalk_flask.roster.imports.report import ImportReport, State
from chalk_flask.roster.package.problems import ImportProblems, escape_undecodable
from chalk_flask.storage import RosterStore

__all__ = [
    "AlreadyDecided",
    "ImportJob",
    "OnCommit",
    "Progress",
    "RosterChanged",
    "low_memory_mode",
    "no_callback",
    "throttled",
]

Progress: TypeAlias = Callable[[str, int], None]
"""Told the phase (a file's name, or "writing") and how many rows of it are done."""

OnCommit: TypeAlias = Callable[[ImportReport, Transaction], None]
"""Given the report, whose counts are final, and the transaction that writes what it counts."""


class RosterChanged(Exception):
    """Somebody else wrote the roster since it was compared."""


class AlreadyDecided(Exception):
    """What was held has been approved or discarded meanwhile."""


@dataclass(frozen=True)
class ImportJob:
    """An import. `path` is what is read: the package that was named or, if `is_copy`, a copy of it that is to be held.

    `package` is what the package is told by where that is not the SHA-256 of the file that is read.

    `also` is called in the transaction that changes the roster, `on_hold` in the one that stores that it is held.
    `approved` is the held run that is applied.
    """

    store: RosterStore
    tenant: str
    run: str
    name: str
    path: Path
    options: ImportOptions
    requested_by: str
    dry_run: bool = False
    progress: Progress | None = None
    on_commit: OnCommit | None = None
    on_hold: OnCommit | None = None
    started: datetime = field(default_factory=lambda: datetime.now(UTC))
    is_copy: bool = False
    package: str | None = None
    approved: ImportRun | None = None

    def report(self) -> ImportReport:
        """A report that says nothing yet."""
        return ImportReport(
            self.run, "refused", self.tenant, escape_undecodable(self.name), ImportProblems(), self.dry_run
        )

    def as_run(self, state: State, report: ImportReport, revision: int | None = None) -> ImportRun:
        """What is to be remembered. That an approved package was held, when and by whom, stays."""
        if self.approved:
            ended = self.approved.ended(state, self.requested_by, datetime.now(UTC))
            return ended.applied(state, report, revision)
        return ImportRun(
            id=self.run,
            tenant=self.tenant,
            state=state,
            who=self.requested_by,
            started=history.written(self.started),
            options=self.options.to_dict(),
            report=history.summary(report, state),
            revision=revision,
        )

    def check_approved(self, transaction: Transaction) -> None:
        """Raises Settled when the held run that is applied is held no longer."""
        if self.approved:
            now = history.find_run(transaction, self.run)
            if now is None or now.state != "held":
                raise AlreadyDecided


def no_callback(report: ImportReport, transaction: Transaction) -> None:
    """What else is done when nobody asks for anything."""


def throttled(progress: Progress) -> Progress:
    """Pass on what comes at least a tenth of a second after the last, and every change of phase."""
    last: tuple[str, float] = ("", 0.0)

    def told(phase: str, rows: int) -> None:
        nonlocal last
        now = time.monotonic()
        if phase != last[0] or now - last[1] >= 0.1:
            last = (phase, now)
            progress(phase, rows)

    return told


@contextlib.contextmanager
def low_memory_mode(longest_cell: int) -> Iterator[None]:
    """Read CSV with cells of so many bytes at the most, and without Python's collector of garbage.

    Millions of small objects and no cycles: looking for cycles would cost a tenth of the time and find none.
    """
    former, was_enabled = csv.field_size_limit(longest_cell), gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        csv.field_size_limit(former)
        if was_enabled:
            gc.enable()
