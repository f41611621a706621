"""Submissions of forms: a form that is sent twice, by a double click or by reloading, makes its change once.

Each form contains a random submission id. The first request with an id claims it in the control tenant. Further
requests are redirected to the target of the first one.
"""

from __future__ import annotations

import logging
import re
import secrets
import time
from typing import Any

import orjson

from backends import CONTROL, KEY, Backend, Compare, Record, StorageError

__all__ = ["COLLECTION", "SubmissionStore", "new_submission_id"]

log = logging.getLogger(__name__)

COLLECTION = "submissions"

MAX_AGE_SECONDS = 24 * 3600
"""Age at which a submission is deleted. The session of the administrator has ended by then."""
MAX_CLOCK_DIFFERENCE_SECONDS = 600
"""Maximum difference of the clocks of two processes. A submission of a later time would never be deleted."""
MAX_WAIT_SECONDS = 3.0
"""Time to wait for the first request with the same id."""
POLL_SECONDS = 0.05

_ID = re.compile(r"[0-9a-f]{9}-[0-9a-f]{32}")


def new_submission_id() -> str:
    """Return a new id, which begins with the time so that ids sort by age."""
    return f"{int(time.time()):09x}-{secrets.token_hex(16)}"


class SubmissionStore:
    """Submissions of the last day. Thread-safe, also for several processes."""

    def __init__(self, store: Backend) -> None:
        self._store = store

    def claim(self, submission_id: str) -> bool:
        """Return True if this is the first request with the id. An invalid id is never claimed.

        Raises StorageError.
        """
        if not _ID.fullmatch(submission_id):
            return False
        now = int(time.time())
        oldest, newest = (f"{each:09x}" for each in (now - MAX_AGE_SECONDS, now + MAX_CLOCK_DIFFERENCE_SECONDS))
        if not oldest <= submission_id < newest:
            return False
        with self._store.write(CONTROL) as transaction:
            if transaction.get_many(COLLECTION, [submission_id]):
                return False
            transaction.delete(COLLECTION, list(transaction.keys(COLLECTION, Compare(KEY, "<", oldest))))
            transaction.put(COLLECTION, [_record(submission_id, None)])
        return True

    def complete(self, submission_id: str, location: str | None) -> None:
        """Store the URL to which the request redirected; None if it changed nothing, so that the form can be resent.

        A StorageError is logged instead of raised, because the change is already made.
        """
        try:
            with self._store.write(CONTROL) as transaction:
                if location is None:
                    transaction.delete(COLLECTION, [submission_id])
                else:
                    transaction.put(COLLECTION, [_record(submission_id, location)])
        except StorageError as error:
            log.warning("the result of a form was not stored: %s", type(error).__name__)

    def wait_for_location(self, submission_id: str) -> str | None:
        """Wait for the end of the first request, and return the URL to which it redirected, or None."""
        deadline = time.monotonic() + MAX_WAIT_SECONDS
        while (found := self._find(submission_id)) is not None and found["location"] is None:
            if time.monotonic() > deadline:
                return None
            time.sleep(POLL_SECONDS)
        location: str | None = found["location"] if found else None
        return location

    def _find(self, submission_id: str) -> dict[str, Any] | None:
        with self._store.read(CONTROL) as snapshot:
            body = snapshot.get_many(COLLECTION, [submission_id]).get(submission_id)
        found: dict[str, Any] | None = orjson.loads(body) if body is not None else None
        return found


def _record(submission_id: str, location: str | None) -> Record:
    return Record(submission_id, orjson.dumps({"location": location}))
