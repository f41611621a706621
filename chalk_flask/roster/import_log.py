"""Log events of imports: the outcome of each run, with numbers and without any cell of the package."""

from __future__ import annotations

import logging
from typing import Any

from chalk_flask.logs import log_event
from chalk_flask.roster.imports.report import ImportReport

__all__ = ["log_discard", "log_import"]

log = logging.getLogger(__name__)
# A command sets up no log and prints the report. Without this handler, Python would print warnings beside it.
log.addHandler(logging.NullHandler())

_REJECTED = "refused"
_EVENTS = {_REJECTED: "import.rejected"}
"""Names of events that differ from the state of the run."""


def log_import(report: ImportReport) -> None:
    """Log the outcome of an import: a hold or a rejection as a warning, because an operator must act."""
    event = _EVENTS.get(report.state, f"import.{report.state}")
    level = logging.WARNING if report.state in (_REJECTED, "held") else logging.INFO
    log_event(log, level, event, "an import has ended", tenant=report.tenant, run=report.run, **_numbers(report))


def log_discard(tenant: str, run: str) -> None:
    """Log that a held package was discarded."""
    log_event(log, logging.INFO, "import.discarded", "a held package was discarded", tenant=tenant, run=run)


def _numbers(report: ImportReport) -> dict[str, Any]:
    numbers: dict[str, Any] = {
        "seconds": round(report.seconds, 3),
        "rows": sum(file.rows for file in report.files.values()),
    }
    match report.state:
        case "committed":
            quarantined = sum(report.quarantined.values())
            return numbers | dict(report.total()) | {"purged": report.purged, "quarantined": quarantined}
        case "held":
            files = sorted({exceeded.file for exceeded in report.exceeded})
            return numbers | {"files": files, "expires": report.expires}
        case "refused" | "checked":
            return numbers | {"problems": report.problems.total}
    return numbers
