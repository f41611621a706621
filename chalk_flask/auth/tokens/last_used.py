"""Times at which tokens were last used, written in the background so that no request waits for them."""

from __future__ import annotations

import logging
import threading
from dataclasses import replace
from datetime import datetime, timedelta

from backends import Backend, StorageError, StorageUnavailableError, Transaction
from chalk_flask.auth.tokens.record import ApiToken
from chalk_flask.batch_writer import BatchWriter
from chalk_flask.tracebacks import RepeatedErrors

__all__ = ["LastUsedTracker"]

log = logging.getLogger(__name__)

MIN_INTERVAL = timedelta(minutes=1)
"""Minimum time between two writes for the same token."""
FLUSH_INTERVAL_SECONDS = 5.0
LOCK_TIMEOUT_SECONDS = 1.0


class LastUsedTracker:
    """Background writer of the time of the last use, at most once per token and minute. Thread-safe.

    A use is dropped if the store stays locked for a second, for example by a long import.
    """

    def __init__(
        self, store: Backend, tenant: str, collection: str, flush_interval_seconds: float = FLUSH_INTERVAL_SECONDS
    ) -> None:
        self._store = store
        self._tenant = tenant
        self._collection = collection
        # A commit makes every process read its tokens again, so uses are collected and written together.
        self._flush_interval_seconds = flush_interval_seconds
        self._lock = threading.Lock()
        self._recorded: dict[str, datetime] = {}
        self._pending: dict[str, datetime] = {}
        self._errors = RepeatedErrors()
        self._writer = BatchWriter("tokens last used", self._flush, delay=0)

    def record(self, token_hash: str, last_used: datetime | None, now: datetime) -> None:
        """Record a use of the token with this hash, unless its last use is less than a minute old.

        `last_used` is the stored time of the last use. Never waits for the store.
        """
        latest = self._recorded.get(token_hash) or last_used
        if latest is not None and abs(now - latest) < MIN_INTERVAL:
            return
        with self._lock:
            self._recorded[token_hash] = self._pending[token_hash] = now
        self._writer.wake()

    def _flush(self) -> float | None:
        uses = self._take_pending()
        if not uses:
            return None
        try:
            with self._store.write(self._tenant, wait=LOCK_TIMEOUT_SECONDS) as transaction:
                self._write(transaction, uses)
            self._errors.clear()
        except StorageError as error:
            level = self._errors.level(str(error) if isinstance(error, StorageUnavailableError) else "")
            log.log(level, "the last use of %d tokens is not written: %s", len(uses), error)
        return self._flush_interval_seconds

    def _take_pending(self) -> dict[str, datetime]:
        with self._lock:
            uses, self._pending = self._pending, {}
            if not uses:
                self._recorded.clear()
            return uses

    def _write(self, transaction: Transaction, uses: dict[str, datetime]) -> None:
        # Read the tokens in the transaction: another process may have revoked one or written a use since.
        for key, body in transaction.get_many(self._collection, list(uses)).items():
            token, used = ApiToken.parse(body), uses[key]
            if token.last_used is None or abs(used - token.last_used) >= MIN_INTERVAL:
                transaction.put(self._collection, [replace(token, last_used=used).to_record(key)])
