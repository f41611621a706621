"""Submissions of forms: a form that is sent twice, by a double click or by reloading, makes its change once.

Each form contains a random submission id. The first request with an id begins it in the control tenant. Further
requests are redirected to the target of the first one. If that one changed nothing, the next request is processed.
"""

from __future__ import annotations

import logging
import re
import secrets
import time
from typing import Any

import orjson

from backends import CONTROL, KEY, Backend, Compare, Record, StorageError

__all__ = ["COLLECTION", "SubmissionError", "SubmissionStore", "new_submission_id"]

log = logging.getLogger(__name__)

COLLECTION = "submissions"

MAX_AGE_SECONDS = 24 * 3600
"""Age at which a submission is deleted. The session of the administrator has ended by then."""
MAX_CLOCK_DIFFERENCE_SECONDS = 600
"""Maximum difference of the clocks of two processes. A submission of a later time would never be deleted."""
MAX_WAIT_SECONDS = 10.0
"""Time to wait for the first request with the same id."""
POLL_SECONDS = 0.05

_ID = re.compile(r"[0-9a-f]{9}-[0-9a-f]{32}")


def new_submission_id() -> str:
    """Return a new id, which begins with the time so that ids sort by age."""
    return f"{int(time.time()):09x}-{secrets.token_hex(16)}"


class SubmissionError(Exception):
    """Error for a submission that is not processed. The message contains the reason and a remedy."""


class SubmissionStore:
    """Submissions of the last day. Thread-safe, also for several processes."""

    def __init__(self, store: Backend) -> None:
        self._store = store

    def begin_or_wait(self, submission_id: str) -> str | None:
        """Begin the submission and return None, or return the URL to which the first request redirected.

        Waits for the end of the first request. Raises SubmissionError if that takes too long, and for an id that is
        invalid or too old. Raises StorageError.
        """
        if not _ID.fullmatch(submission_id) or not _oldest() <= submission_id < _newest():
            raise SubmissionError("The form is too old, so nothing was changed. Open its page and fill it in again.")
        deadline = time.monotonic() + MAX_WAIT_SECONDS
        while not self._begin(submission_id):
            if (location := self._wait_for_location(submission_id, deadline)) is not None:
                return location
        return None

    def _begin(self, submission_id: str) -> bool:
        with self._store.write(CONTROL) as transaction:
            if transaction.get_many(COLLECTION, [submission_id]):
                return False
            transaction.delete(COLLECTION, list(transaction.keys(COLLECTION, Compare(KEY, "<", _oldest()))))
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

    def _wait_for_location(self, submission_id: str, deadline: float) -> str | None:
        """Return the URL to which the first request redirected, or None if it changed nothing."""
        while (found := self._find(submission_id)) is not None and found["location"] is None:
            if time.monotonic() > deadline:
                raise SubmissionError(
                    "The form was sent twice, and its change is still in progress. Look at its result before you send"
                    " the form again."
                )
            time.sleep(POLL_SECONDS)
        location: str | None = found["location"] if found else None
        return location

    def _find(self, submission_id: str) -> dict[str, Any] | None:
        with self._store.read(CONTROL) as snapshot:
            body = snapshot.get_many(COLLECTION, [submission_id]).get(submission_id)
        found: dict[str, Any] | None = orjson.loads(body) if body is not None else None
        return found


def _oldest() -> str:
    return f"{int(time.time()) - MAX_AGE_SECONDS:09x}"


def _newest() -> str:
    return f"{int(time.time()) + MAX_CLOCK_DIFFERENCE_SECONDS:09x}"


def _record(submission_id: str, location: str | None) -> Record:
    return Record(submission_id, orjson.dumps({"location": location}))
