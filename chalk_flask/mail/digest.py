"""Daily digest: one notice per tenant and day with the import runs since the last digest."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final

import orjson

from backends import CONTROL, Backend, Record, Snapshot
from chalk_flask.notices import DIGEST, enqueue_notice, wanted_events
from chalk_flask.notices.notice import COLLECTION
from chalk_flask.roster.imports import history
from chalk_flask.roster.imports.history import ImportRun
from chalk_flask.times import format_timestamp, parse_timestamp

__all__ = ["store_digest"]

LAST_KEY: Final = ":digest"
"""Key in COLLECTION of the record with day and end of the last digest."""
MAX_RUNS: Final = 50
"""Maximum number of import runs that a digest lists."""
MAX_PERIOD: Final = timedelta(days=3)
"""Maximum period of a digest, after days without a recipient or a worker."""
LOCK_TIMEOUT_SECONDS: Final = 1.0

_SHOWN_STATES: Final = {"refused": "rejected"}


def store_digest(store: Backend, tenant: str, folder: Path, now: datetime) -> bool:
    """Store the digest of a day, once, if an administrator wants it. Return True if it is stored now.

    `folder` is that of the rejected runs. Raises StorageError and OSError.
    """
    day = now.date().isoformat()
    with store.read(CONTROL) as control:
        if DIGEST not in wanted_events(control, tenant):
            return False
    with store.read(tenant) as snapshot:
        last = _last(snapshot)
        if last.get("day") == day:
            return False
        since = max(parse_timestamp(last["until"]) if last else now - timedelta(days=1), now - MAX_PERIOD)
        runs = _runs_between(snapshot, folder, tenant, since, now)
    shown = [_summary(run) for run in runs[-MAX_RUNS:]]
    details = {
        "since": format_timestamp(since),
        "until": format_timestamp(now),
        "runs": shown,
        "more": len(runs) - len(shown),
    }
    with store.write(tenant, wait=LOCK_TIMEOUT_SECONDS) as transaction:
        if _last(transaction).get("day") == day:
            return False
        transaction.put(COLLECTION, [Record(LAST_KEY, orjson.dumps({"day": day, "until": details["until"]}))])
        enqueue_notice(transaction, tenant, DIGEST, None, details, now)
    return True


def _last(snapshot: Snapshot) -> dict[str, str]:
    body = snapshot.get_many(COLLECTION, [LAST_KEY]).get(LAST_KEY)
    last: dict[str, str] = orjson.loads(body) if body else {}
    return last


def _runs_between(
    snapshot: Snapshot, folder: Path, tenant: str, since: datetime, until: datetime
) -> Sequence[ImportRun]:
    first, end = format_timestamp(since), format_timestamp(until)
    return [run for run in history.list_runs(snapshot, folder, tenant) if first <= run.started < end]


def _summary(run: ImportRun) -> dict[str, Any]:
    counts = {name: count for name, count in run.report["total"].items() if name != "unchanged"}
    errors = {"errors": run.report["errorCount"]} if run.state == "refused" else {}
    state = _SHOWN_STATES.get(run.state, run.state)
    return {"id": run.id, "started": run.started, "state": state, "counts": {**counts, **errors}}
