"""Queue of the notices of a tenant, in its store."""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any, Final
from uuid import uuid4

from backends import Snapshot, Transaction
from chalk_flask.notices.notice import COLLECTION, Notice
from chalk_flask.times import format_precise_timestamp, utc_now

__all__ = ["enqueue_notice", "list_notices", "mark_done"]

log = logging.getLogger(__name__)
log.addHandler(logging.NullHandler())  # a command sets up no log, and Python would print warnings

MAX_NOTICES: Final = 100
"""Maximum number of stored notices per tenant. Further ones are dropped, so that the queue stays small."""


def enqueue_notice(
    transaction: Transaction,
    tenant: str,
    event: str,
    run: str | None,
    details: Mapping[str, Any],
    now: datetime | None = None,
) -> None:
    """Store a notice in the transaction of an outcome, unless the tenant has MAX_NOTICES already.

    `details` has counts and reasons, without any cell of a package. `now` is the time of the notice, by default the
    current one.
    """
    if len(list(transaction.keys(COLLECTION))) >= MAX_NOTICES:
        log.warning("a notice of tenant %s is dropped: %d others wait to be sent by mail", tenant, MAX_NOTICES)
        return
    created = format_precise_timestamp(now or utc_now())
    key = f"{created}-{uuid4().hex[:12]}"
    transaction.put(COLLECTION, [Notice(key=key, event=event, created=created, run=run, details=details).to_record()])


def list_notices(snapshot: Snapshot) -> Sequence[Notice]:
    """Return the notices of a tenant, oldest first."""
    stored = snapshot.get_many(COLLECTION, list(snapshot.keys(COLLECTION)))
    return [Notice.parse(stored[key]) for key in sorted(stored) if not key.startswith(":")]


def mark_done(transaction: Transaction, done: Mapping[str, Collection[str]], finished: Collection[str]) -> None:
    """Add administrators to the member `done` of notices, by key, and delete the `finished` notices."""
    stored = transaction.get_many(COLLECTION, [key for key in done if key not in finished])
    notices = [Notice.parse(body) for body in stored.values()]
    changed = [replace(notice, done=tuple(sorted({*notice.done, *done[notice.key]}))) for notice in notices]
    transaction.put(COLLECTION, [notice.to_record() for notice in changed])
    transaction.delete(COLLECTION, list(finished))
