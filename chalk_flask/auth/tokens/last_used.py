"""When tokens were last used: written off the path of the request that used them, and not for every request."""

from __future__ import annotations

import logging
import threading
import time
from dataclasses import replace
from datetime import datetime, timedelta

from backends import Backend, StorageError, Transaction
from chalk_flask.auth.tokens.record import ApiToken

__all__ = ["LastUsedTracker"]

log = logging.getLogger(__name__)

EVERY = timedelta(minutes=1)
WAIT = 1.0


class LastUsedTracker:
    """Writes the moments of use, at most one a token and minute, in a thread that lives while there is work.

    What cannot be written soon (a long import holds the store) is forgotten: a use is never worth a request.
    """

    def __init__(self, store: Backend, tenant: str, collection: str, gather: float = 5.0) -> None:
        self._store = store
        self._tenant = tenant
        self._collection = collection
        # Each commit makes every process read its tokens again, so uses after the first are gathered for a while.
        self._gather = gather
        self._lock = threading.Lock()
        self._noted: dict[str, datetime] = {}
        self._pending: dict[str, datetime] = {}
        self._writer: threading.Thread | None = None

    def record(self, digest: str, recorded: datetime | None, moment: datetime) -> None:
        """Take down that the token was used at that moment, unless `recorded` or a note is less than a minute old."""
        latest = self._noted.get(digest) or recorded
        if latest is not None and abs(moment - latest) < EVERY:
            return
        with self._lock:
            self._noted[digest] = self._pending[digest] = moment
            # A process that was forked from one with a writer has a thread object, but no thread.
            if self._writer is None or not self._writer.is_alive():
                self._writer = threading.Thread(target=self._write_on, name="tokens last used", daemon=True)
                self._writer.start()

    def _write_on(self) -> None:
        while uses := self._taken():
            try:
                with self._store.write(self._tenant, wait=WAIT) as transaction:
                    self._write(transaction, uses)
            except StorageError as error:
                log.debug("the last use of %d tokens is not written: %s", len(uses), error)
            time.sleep(self._gather)

    def _taken(self) -> dict[str, datetime]:
        with self._lock:
            uses, self._pending = self._pending, {}
            if not uses:
                self._writer = None
                self._noted.clear()
            return uses

    def _write(self, transaction: Transaction, uses: dict[str, datetime]) -> None:
        """Read again inside the transaction: someone may have revoked the token since, or written a use of it."""
        for digest, body in transaction.get_many(self._collection, list(uses)).items():
            token, moment = ApiToken.parse(body), uses[digest]
            if token.last_used is None or abs(moment - token.last_used) >= EVERY:
                used = replace(token, last_used=moment)
                transaction.put(self._collection, [used.to_record(digest)])
