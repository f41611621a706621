"""Analyzer that runs the data quality checks once per version of a roster, in a background thread."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from itertools import islice

from backends import Backend, QueryTimeoutError, Snapshot, StorageError
from chalk_flask.caching import LRUCache
from chalk_flask.roster.changes.version import RosterVersion, only_tools_wrote, roster_version
from chalk_flask.roster.quality.checks import CHECKS, QualityCheck
from chalk_flask.times import utc_now

__all__ = ["MAX_LISTED_IDS", "CheckResult", "QualityAnalyzer", "QualityReport"]

log = logging.getLogger(__name__)

MAX_LISTED_IDS = 10_000
"""Maximum number of ids that the result of a check lists. Further records are only counted."""
MAX_REPORTS = 32
"""Maximum number of tenants whose report is kept."""


@dataclass(frozen=True, slots=True)
class CheckResult:
    """Result of a check: the number of records and the first ids. None if a query exceeded its time limit."""

    count: int | None
    ids: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class QualityReport:
    """Results of all checks for one version of a roster, by id of the check."""

    version: RosterVersion
    computed: datetime
    results: Mapping[str, CheckResult]


class QualityAnalyzer:
    """Analyzer of the rosters of a store. Thread-safe; it analyzes one roster at a time.

    A report stays valid while only grade tools write, because no check concerns the gradebook.

    `query_seconds` limits each query, as `Backend.read` does.
    """

    def __init__(self, store: Backend, query_seconds: float | None) -> None:
        self._store = store
        self._query_seconds = query_seconds
        self._reports: LRUCache[str, QualityReport] = LRUCache(MAX_REPORTS)
        self._running: dict[str, threading.Event] = {}
        self._lock = threading.Lock()
        self._analysis_lock = threading.Lock()

    def latest(self, tenant: str, wait_seconds: float) -> tuple[QualityReport | None, bool]:
        """Return the latest report, or None, and True if it describes the current roster.

        If it does not, a background thread analyzes the roster. This method waits for it at most `wait_seconds`. Raises
        StorageError.
        """
        report = self._reports.get(tenant)
        if self._is_current(report, tenant):
            return report, True
        self._start(tenant).wait(wait_seconds)
        report = self._reports.get(tenant)
        return report, self._is_current(report, tenant)

    def _is_current(self, report: QualityReport | None, tenant: str) -> bool:
        if report is None:
            return False
        with self._store.read(tenant) as snapshot:
            return only_tools_wrote(report.version, roster_version(snapshot))

    def _start(self, tenant: str) -> threading.Event:
        """Return the event that is set at the end of the analysis. Start the analysis unless it is running."""
        with self._lock:
            if tenant in self._running:
                return self._running[tenant]
            done = self._running[tenant] = threading.Event()
        threading.Thread(target=self._run, args=(tenant, done), name="data quality", daemon=True).start()
        return done

    def _run(self, tenant: str, done: threading.Event) -> None:
        try:
            with self._analysis_lock, self._store.read(tenant, query_seconds=self._query_seconds) as snapshot:
                results = {check.id: _run_check(check, snapshot) for check in CHECKS}
                self._reports.put(tenant, QualityReport(roster_version(snapshot), utc_now(), results))
        except StorageError as error:
            log.warning("the data quality of tenant %s was not analyzed: %s", tenant, type(error).__name__)
        finally:
            with self._lock:
                del self._running[tenant]
            done.set()


def _run_check(check: QualityCheck, snapshot: Snapshot) -> CheckResult:
    try:
        ids = check.find_ids(snapshot)
        listed = tuple(islice(ids, MAX_LISTED_IDS))
        return CheckResult(len(listed) + _count(ids), listed)
    except QueryTimeoutError:
        return CheckResult(None)


def _count(ids: Iterator[str]) -> int:
    return sum(1 for _ in ids)
