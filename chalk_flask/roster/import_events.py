"""Webhook events about the outcome of an import: committed, held, rejected."""

from __future__ import annotations

import logging

from backends import StorageError, Transaction
from chalk_flask.logs import log_event
from chalk_flask.outbox.event import IMPORT_COMMITTED, IMPORT_HELD, IMPORT_REJECTED
from chalk_flask.outbox.import_events import enqueue_import_event, subscribers_of
from chalk_flask.roster.changes.sequence import last_sequence
from chalk_flask.roster.imports.report import ImportReport
from chalk_flask.storage import RosterStore
from chalk_flask.tenants.store import TenantError

__all__ = ["enqueue_committed", "enqueue_held", "enqueue_rejected"]

log = logging.getLogger(__name__)


def enqueue_committed(report: ImportReport, transaction: Transaction) -> None:
    """Queue the event in the transaction that changes the roster."""
    details = {"state": "committed", "quarantined": sum(report.quarantined.values())}
    sequence = last_sequence(transaction)
    enqueue_import_event(transaction, report.tenant, IMPORT_COMMITTED, sequence, details, report.run)


def enqueue_held(report: ImportReport, transaction: Transaction) -> None:
    """Queue the event in the transaction that stores the hold."""
    files = sorted({exceeded.file for exceeded in report.exceeded})
    details = {"state": "held", "files": files, "expires": report.expires}
    enqueue_import_event(transaction, report.tenant, IMPORT_HELD, last_sequence(transaction), details, report.run)


def enqueue_rejected(store: RosterStore, report: ImportReport) -> None:
    """Queue the event of a rejected package. Without a webhook that selects it, the store is not written.

    A rejection is stored in a file, so the event has a transaction of its own. If the store cannot be written, the log
    says so, and there is no event, because the caller must still get the report.
    """
    try:
        with store.read(report.tenant) as snapshot:
            if not subscribers_of(snapshot, IMPORT_REJECTED):
                return
        with store.write(report.tenant) as transaction:
            details = {"state": "rejected", "problems": report.problems.total}
            sequence = last_sequence(transaction)
            enqueue_import_event(transaction, report.tenant, IMPORT_REJECTED, sequence, details, report.run)
    except (StorageError, TenantError):
        log_event(
            log,
            logging.WARNING,
            "event.lost",
            "the event about a rejected import could not be stored",
            tenant=report.tenant,
            run=report.run,
        )
