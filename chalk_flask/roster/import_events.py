"""Events about imports: committed, held, rejected and overdue, for webhooks and for notices by mail.

Each is stored in the transaction of its cause, for every webhook that selects it and for the administrators who want it
by mail. `details` is in the public format of webhooks. Notices have more counts and reasons, and no cell of a package.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping
from typing import Any

from backends import StorageError, Transaction
from chalk_flask.logs import log_event
from chalk_flask.notices import enqueue_notice
from chalk_flask.outbox.event import IMPORT_COMMITTED, IMPORT_HELD, IMPORT_REJECTED
from chalk_flask.outbox.import_events import enqueue_import_event, subscribers_of
from chalk_flask.roster.changes.sequence import last_sequence
from chalk_flask.roster.imports.report import ImportReport
from chalk_flask.roster.package.problems import ImportProblem, without_values
from chalk_flask.storage import RosterStore
from chalk_flask.tenants.store import TenantError

__all__ = ["enqueue_committed", "enqueue_event", "enqueue_held", "enqueue_rejected"]

MAX_REASONS = 20
"""Maximum number of reasons in a notice."""

log = logging.getLogger(__name__)


def enqueue_committed(wanted: Collection[str], report: ImportReport, transaction: Transaction) -> None:
    """Queue the event in the transaction that changes the roster. `wanted` are the events that are sent by mail."""
    details = {"state": "committed", "quarantined": sum(report.quarantined.values())}
    notice = {"counts": _counts(report)}
    enqueue_event(wanted, transaction, report.tenant, IMPORT_COMMITTED, report.run, details, notice)


def enqueue_held(wanted: Collection[str], report: ImportReport, transaction: Transaction) -> None:
    """Queue the event in the transaction that stores the hold. `wanted` are the events that are sent by mail."""
    files = sorted({exceeded.file for exceeded in report.exceeded})
    details = {"state": "held", "files": files, "expires": report.expires}
    notice = {"counts": _counts(report), "reasons": [exceeded.to_text() for exceeded in report.exceeded][:MAX_REASONS]}
    enqueue_event(wanted, transaction, report.tenant, IMPORT_HELD, report.run, details, notice)


def enqueue_rejected(wanted: Collection[str], store: RosterStore, report: ImportReport) -> None:
    """Queue the event of a rejected package. The store is written only if a webhook or an administrator wants it.

    A rejection is stored in a file, so the event has a transaction of its own. If the store cannot be written, the log
    says so, and there is no event, because the caller must still get the report.
    """
    details = {"state": "rejected", "problems": report.problems.total}
    notice = {"reasons": _reasons(report)}
    try:
        with store.read(report.tenant) as snapshot:
            if IMPORT_REJECTED not in wanted and not subscribers_of(snapshot, IMPORT_REJECTED):
                return
        with store.write(report.tenant) as transaction:
            enqueue_event(wanted, transaction, report.tenant, IMPORT_REJECTED, report.run, details, notice)
    except (StorageError, TenantError):
        log_event(
            log,
            logging.WARNING,
            "event.lost",
            "the event about a rejected import could not be stored",
            tenant=report.tenant,
            run=report.run,
        )


def enqueue_event(
    wanted: Collection[str],
    transaction: Transaction,
    tenant: str,
    event: str,
    run: str,
    details: Mapping[str, Any],
    notice: Mapping[str, Any],
) -> None:
    """Queue an event for its webhooks, with `details`. If it is `wanted`, queue a notice with `details` and `notice`.

    `wanted` was read before the transaction, because the first load into a store locks out other reads.
    """
    enqueue_import_event(transaction, tenant, event, last_sequence(transaction), details, run)
    if event in wanted:
        enqueue_notice(transaction, tenant, event, run, {**details, **notice})


def _counts(report: ImportReport) -> dict[str, int]:
    rows = sum(file.rows for file in report.files.values())
    return {"rows": rows, **{str(outcome): count for outcome, count in report.total().items()}}


def _reasons(report: ImportReport) -> list[str]:
    """Return one line for each file and code of the errors, with the message of the first one without cell values."""
    examples: dict[tuple[str, str], ImportProblem] = {}
    for error in report.problems.errors:
        examples.setdefault((error.file or "", error.code), error)
    lines = []
    for (file, code), count in sorted(report.problems.counts.items())[:MAX_REASONS]:
        example = examples.get((file, code))
        message = f": {without_values(example.to_dict())['message']}" if example else ""
        lines.append(f"{file or 'the package'}: {count:,} x {code}{message}")
    return lines
