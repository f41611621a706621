"""Worker that sends the stored notices of all tenants by mail.

The leader lock elects one worker among all processes of a store.
"""

from __future__ import annotations

import logging
import ssl
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

from backends import CONTROL, Backend, StorageBusyError
from chalk_flask.background.leader_lock import LeaderLock
from chalk_flask.background.polling_thread import PollingThread
from chalk_flask.logs import log_event
from chalk_flask.mail.connection import MailConnection, MailError, RecipientError
from chalk_flask.mail.digest import store_digest
from chalk_flask.mail.message import build_notice_message
from chalk_flask.mail.sent_journal import SentJournal, SentMessage
from chalk_flask.mail.server_settings import MailServerSettings
from chalk_flask.notices import Notice, Recipient, find_recipients
from chalk_flask.notices.queue import list_notices, mark_done
from chalk_flask.tenants.store import TenantStore
from chalk_flask.times import parse_timestamp, utc_now

__all__ = ["MailWorker"]

log = logging.getLogger(__name__)

POLL_INTERVAL_SECONDS: Final = 2.0
ERROR_PAUSE_SECONDS: Final = 5.0
"""Pause after a failure of the store."""
RETRY_DELAYS_SECONDS: Final = (60.0, 300.0, 900.0, 1800.0, 3600.0)
"""Pauses after failures of the mail server in a row; the last one repeats."""
MAX_AGE: Final = timedelta(hours=12)
"""Age above which a notice that could not be sent is dropped."""
LOCK_TIMEOUT_SECONDS: Final = 1.0
STOP_TIMEOUT_SECONDS: Final = 1.5

_NEVER_READ: Final = object()
"""Marker for a version that the worker has not read yet."""


class MailWorker:
    """Background delivery of notices from `start` to `close`, in a thread of its own.

    Without `server` it deletes notices unsent. `folder` is that of rejected runs, `digest_hour` the hour in UTC of the
    daily digest. A failing mail server delays mail only.
    """

    def __init__(
        self,
        store: Backend,
        server: MailServerSettings | None,
        leader_lock: LeaderLock,
        folder: Path,
        digest_hour: int,
        now: Callable[[], datetime] = utc_now,
        tls_context: ssl.SSLContext | None = None,
        retry_delays: Sequence[float] = RETRY_DELAYS_SECONDS,
    ) -> None:
        self._store, self._server, self._leader_lock, self._now = store, server, leader_lock, now
        self._folder, self._digest_hour, self._tls_context = folder, digest_hour, tls_context
        self._retry_delays = retry_delays
        self._thread = PollingThread(
            "mail", self._poll, _log_error, error_pause=ERROR_PAUSE_SECONDS, delay=POLL_INTERVAL_SECONDS
        )
        self._journal = SentJournal(leader_lock.journal_path)
        self._is_leader = False
        self._control_version: object = _NEVER_READ
        self._versions: dict[str, object] = {}
        self._waiting: dict[str, Sequence[Notice]] = {}
        self._digests: tuple[str, object] = ("", _NEVER_READ)
        self._failures, self._next_attempt = 0, 0.0
        self._postponed: dict[SentMessage, float] = {}
        self._recipients: dict[tuple[str, str], Sequence[Recipient]] = {}

    def start(self) -> None:
        """Start to send as soon as this process holds the leader lock. Call it once."""
        self._thread.start()

    def close(self) -> None:
        """Stop within about two seconds. A message that is being sent may be abandoned, and is sent again later."""
        self._thread.stop(STOP_TIMEOUT_SECONDS)
        self._leader_lock.release()

    def run_pending(self) -> None:
        """Store the digests that are due, and try to send all notices once, in the calling thread.

        Does nothing while another process holds the leader lock. Raises StorageError and OSError.
        """
        if not self._leader_lock.try_acquire():
            return
        if not self._is_leader:
            self._journal.load()
            self._is_leader = True
        self._refresh_tenants()
        self._store_digests()
        for tenant in self._versions:
            self._refresh(tenant)
        self._store_results(self._send_waiting() if self._is_time_to_send() else {})

    def _is_time_to_send(self) -> bool:
        return any(self._waiting.values()) and time.monotonic() >= self._next_attempt

    def _poll(self) -> float:
        with suppress(StorageBusyError):  # an import writes: the journal keeps the results until the next poll
            self.run_pending()
        return POLL_INTERVAL_SECONDS

    def _refresh_tenants(self) -> None:
        version = self._store.version(CONTROL)
        if version != self._control_version:
            names = [tenant.name for tenant in TenantStore(self._store).list()]
            self._versions = {name: self._versions.get(name, _NEVER_READ) for name in names}
            self._waiting = {name: self._waiting.get(name, ()) for name in names}
            self._control_version = version

    def _store_digests(self) -> None:
        """Store the digests of today, from their hour on. Check again only on another day or after a new choice."""
        now = self._now()
        state = (now.date().isoformat(), self._control_version)
        if self._server is None or now.hour < self._digest_hour or state == self._digests:
            return
        for tenant in self._versions:
            store_digest(self._store, tenant, self._folder, now)
        self._digests = state

    def _refresh(self, tenant: str) -> None:
        version = self._store.version(tenant)
        if version != self._versions[tenant]:
            with self._store.read(tenant) as snapshot:
                self._waiting[tenant] = list_notices(snapshot)
            self._versions[tenant] = version

    def _send_waiting(self) -> Mapping[str, Collection[str]]:
        """Send what is due over one connection. Return the keys of the notices that need no further attempt."""
        self._recipients.clear()
        due: list[tuple[str, Notice, Recipient]] = []
        finished: dict[str, set[str]] = {}
        for tenant, notices in self._waiting.items():
            finished[tenant] = set()
            for notice in notices:
                open_recipients = self._open_recipients(tenant, notice)
                if not open_recipients or self._is_dropped(tenant, notice):
                    finished[tenant].add(notice.key)
                due += [(tenant, notice, recipient) for recipient in open_recipients]
        due = [each for each in due if each[1].key not in finished[each[0]] and self._is_due(*each)]
        if due and self._server is not None:
            self._send(self._server, due)
            for tenant, notice, _ in due:
                if not self._open_recipients(tenant, notice):
                    finished[tenant].add(notice.key)
        return finished

    def _open_recipients(self, tenant: str, notice: Notice) -> Sequence[Recipient]:
        """Return the recipients of a notice, by the present preferences, to whom it was not sent yet."""
        if self._server is None:
            return ()
        if (tenant, notice.event) not in self._recipients:
            with self._store.read(CONTROL) as control:
                self._recipients[tenant, notice.event] = find_recipients(control, tenant, notice.event)
        return [
            recipient
            for recipient in self._recipients[tenant, notice.event]
            if recipient.id not in notice.done and SentMessage(tenant, notice.key, recipient.id) not in self._journal
        ]

    def _is_dropped(self, tenant: str, notice: Notice) -> bool:
        if self._now() - parse_timestamp(notice.created) < MAX_AGE:
            return False
        hours = MAX_AGE // timedelta(hours=1)
        reason = f"it could not be sent for {hours} hours"
        log_event(log, logging.ERROR, "mail.dropped", "a notice is dropped", tenant=tenant, reason=reason)
        return True

    def _is_due(self, tenant: str, notice: Notice, recipient: Recipient) -> bool:
        return time.monotonic() >= self._postponed.get(SentMessage(tenant, notice.key, recipient.id), 0.0)

    def _send(self, server: MailServerSettings, due: Sequence[tuple[str, Notice, Recipient]]) -> None:
        try:
            with MailConnection(server, self._thread.stopping, self._tls_context) as connection:
                for tenant, notice, recipient in due:
                    if self._thread.stopping.is_set():
                        return
                    self._send_one(connection, server, tenant, notice, recipient)
            self._failures = 0
        except MailError as error:
            if not self._thread.stopping.is_set():
                self._postpone_all(str(error))

    def _postpone_all(self, reason: str) -> None:
        delay = self._retry_delays[min(self._failures, len(self._retry_delays) - 1)]
        self._failures += 1
        self._next_attempt = time.monotonic() + delay
        message = "mail cannot be sent and is tried again"
        log_event(log, logging.WARNING, "mail.failed", message, reason=reason, seconds=delay)

    def _send_one(
        self, connection: MailConnection, server: MailServerSettings, tenant: str, notice: Notice, recipient: Recipient
    ) -> None:
        sent = SentMessage(tenant, notice.key, recipient.id)
        members = {"tenant": tenant, "notice": notice.event, "administrator": recipient.id}
        try:
            connection.send(build_notice_message(server, tenant, notice, recipient), recipient.address)
        except RecipientError as error:
            log_event(log, logging.WARNING, "mail.rejected", str(error), **members, is_final=error.is_final)
            if error.is_final:
                self._journal.add(sent)
            else:
                self._postponed[sent] = time.monotonic() + self._retry_delays[0]
        else:
            self._journal.add(sent)
            log_event(log, logging.INFO, "mail.sent", "a notice was sent", **members)

    def _store_results(self, finished: Mapping[str, Collection[str]]) -> None:
        """Store which messages were sent, and delete finished notices. Raises StorageError."""
        for tenant in self._versions:
            keys, done = finished.get(tenant, ()), self._journal.of_tenant(tenant)
            if keys or done:
                with self._store.write(tenant, LOCK_TIMEOUT_SECONDS) as transaction:
                    mark_done(transaction, done, keys)
                self._journal.remove_tenant(tenant)
                self._postponed = {sent: due for sent, due in self._postponed.items() if sent.notice not in keys}


def _log_error(level: int, message: str) -> None:
    log.log(level, "the mail worker pauses after an error: %s", message)
