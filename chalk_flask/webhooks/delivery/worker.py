"""Worker that starts the delivery queues of webhooks with due deliveries, in every tenant.

The leader lock elects one worker among all processes of a store.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from backends import Backend, StorageError
from chalk_flask.auth.secrets.encryption import SecretCipher
from chalk_flask.background.leader_lock import LeaderLock
from chalk_flask.background.polling_thread import PollingThread
from chalk_flask.outbox import load_subscriptions
from chalk_flask.tenants.store import CONTROL, TenantStore
from chalk_flask.tracebacks import error_location
from chalk_flask.webhooks.delivery.attempt import DeliveryContext, Sender
from chalk_flask.webhooks.delivery.journal import ResultJournal
from chalk_flask.webhooks.delivery.queue import DeliveryQueue, latest_time
from chalk_flask.webhooks.delivery.rate_limiter import RateLimiter
from chalk_flask.webhooks.delivery.recorder import Recorder
from chalk_flask.webhooks.delivery.retention import purge
from chalk_flask.webhooks.delivery.retry_policy import RetryPolicy
from chalk_flask.webhooks.delivery.signing_secrets import SigningSecrets
from chalk_flask.webhooks.delivery.steady_clock import SteadyClock

__all__ = ["Worker"]

log = logging.getLogger(__name__)

MIN_POLL_INTERVAL_SECONDS: Final = 0.1
POLL_INTERVAL_FACTOR: Final = 20
"""After a poll that read the store, the interval is at least this multiple of the poll's duration."""
MAX_POLL_INTERVAL_SECONDS: Final = 1.0
ERROR_PAUSE_SECONDS: Final = 5.0
"""Pause after a failure of the store."""
IDLE_QUEUE_SECONDS: Final = 30.0
"""A queue without work for this long is closed, with its connection."""
PURGE_INTERVAL_SECONDS: Final = 3600.0
STOP_TIMEOUT_SECONDS: Final = 1.5
"""A stop abandons attempts that take longer. They are sent again later, with the same id and bytes."""

_NEVER_READ: Final = object()
"""Marker for the version of a tenant that the worker has not read yet."""


@dataclass(slots=True)
class _TenantState:
    """State of a tenant: store version at the last poll, queue per webhook id, and time of the next due delivery."""

    version: object = _NEVER_READ
    queues: dict[str, DeliveryQueue] = field(default_factory=dict)
    next_due: float | None = None


class Worker:
    """Background delivery of the outboxes of a store, from `start` to `close`, in threads of its own.

    `make_sender` returns a new HTTP client, one per webhook. `now` returns the system time in seconds since the epoch,
    `monotonic` the time for waits, which no change of the system time affects. A store without webhooks costs a few
    microseconds ten times per second. While another process holds the leader lock, the worker waits for it.
    """

    def __init__(
        self,
        store: Backend,
        cipher: SecretCipher,
        leader_lock: LeaderLock,
        make_sender: Callable[[], Sender],
        retry_policy: RetryPolicy | None = None,
        now: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store, self._leader_lock, self._now = store, leader_lock, now
        self._thread = PollingThread(
            "webhooks",
            self._poll_and_pause,
            _log_error,
            error_pause=ERROR_PAUSE_SECONDS,
            delay=MIN_POLL_INTERVAL_SECONDS,
        )
        retry_policy = retry_policy or RetryPolicy()
        self._clock = SteadyClock(now, monotonic)
        self._recorder = Recorder(store, retry_policy, ResultJournal(leader_lock.journal_path))
        self._has_recovered = False
        self._context = DeliveryContext(
            store,
            SigningSecrets(cipher),
            self._recorder,
            retry_policy,
            make_sender,
            now,
            self._clock,
            self._thread.stopping,
            lambda: leader_lock.is_held,
            RateLimiter(),
        )
        self._tenant_names: list[str] = []
        self._control_version: object = _NEVER_READ
        self._tenants: dict[str, _TenantState] = {}
        self._purge_thread = threading.Thread()
        self._next_purge = 0.0

    def start(self) -> None:
        """Start to deliver as soon as this process holds the leader lock. Call it once."""
        self._thread.start()

    def is_running_anywhere(self) -> bool:
        """Return True if a worker of this process or of another one delivers the webhooks of the store.

        Takes microseconds. After the start of a worker, it may take a second to become True. Raises OSError if the lock
        file cannot be read.
        """
        return self._leader_lock.has_holder()

    def close(self) -> None:
        """Stop within about two seconds: save the results so far, and abandon running attempts."""
        deadline = time.monotonic() + STOP_TIMEOUT_SECONDS
        self._thread.stop(STOP_TIMEOUT_SECONDS)
        if not self._thread.is_started:
            return
        for queue in [queue for tenant in list(self._tenants.values()) for queue in tenant.queues.values()]:
            queue.join(max(deadline - time.monotonic(), 0))
            queue.close()
        self._recorder.stop(max(deadline - time.monotonic(), 1))
        self._leader_lock.release()

    def _poll_and_pause(self) -> float:
        """Poll once, and return the pause: longer after an expensive poll."""
        started = time.monotonic()
        if not self._poll():
            return MIN_POLL_INTERVAL_SECONDS
        pause = max(MIN_POLL_INTERVAL_SECONDS, POLL_INTERVAL_FACTOR * (time.monotonic() - started))
        return min(pause, MAX_POLL_INTERVAL_SECONDS)

    def _poll(self) -> bool:
        """Poll the tenants that changed or have due deliveries; return True if the store was read."""
        self._leader_lock.try_acquire()  # also without webhooks, so that the lock shows that there is a worker
        if self._leader_lock.is_held and not self._has_recovered:
            self._recorder.recover()
            self._has_recovered = True
        store_was_read = self._refresh_tenants()
        for name in self._tenant_names:
            tenant = self._tenants.setdefault(name, _TenantState())
            store_was_read |= self._poll_tenant(name, tenant)
            self._close_idle_queues(tenant, time.monotonic() - IDLE_QUEUE_SECONDS)
        self._start_purge()
        return store_was_read

    def _refresh_tenants(self) -> bool:
        version = self._store.version(CONTROL)
        if version == self._control_version:
            return False
        self._tenant_names = [tenant.name for tenant in TenantStore(self._store).list()]
        for name in self._tenants.keys() - set(self._tenant_names):
            self._close_idle_queues(self._tenants.pop(name), time.monotonic())
        self._control_version = version
        return True

    def _poll_tenant(self, name: str, tenant: _TenantState) -> bool:
        version = self._store.version(name)
        if version == tenant.version and (tenant.next_due is None or tenant.next_due > self._clock.now()):
            return False
        unsaved = {webhook: queue.unsaved() for webhook, queue in tenant.queues.items()}
        with self._store.read(name) as snapshot:
            active = [
                subscription.id for subscription in load_subscriptions(snapshot) if subscription.state == "active"
            ]
            if active and not self._try_to_lead():
                return True  # the version is not remembered, so that the next poll reads this tenant again
            if tenant.version is _NEVER_READ:
                self._clock.advance_to(latest_time(snapshot, self._clock.now()))
            for webhook in tenant.queues.keys() - set(active):
                tenant.queues[webhook].reset_backoff()
            for webhook in set(active) - tenant.queues.keys():
                tenant.queues[webhook] = DeliveryQueue(self._context, name, webhook)
            due_times = [tenant.queues[webhook].poll(snapshot, unsaved.get(webhook, frozenset())) for webhook in active]
        tenant.version = version
        tenant.next_due = min((due for due in due_times if due is not None), default=None)
        return True

    def _try_to_lead(self) -> bool:
        """Return True if this process delivers: it has the lock, and the results of a killed one are in the store."""
        return self._leader_lock.try_acquire() and self._has_recovered

    def _start_purge(self) -> None:
        """Delete old deliveries in a thread of its own, once per hour: there may be many."""
        if self._leader_lock.is_held and not self._purge_thread.is_alive() and time.monotonic() >= self._next_purge:
            self._next_purge = time.monotonic() + PURGE_INTERVAL_SECONDS
            self._purge_thread = threading.Thread(target=self._purge_all, name="webhooks: purge", daemon=True)
            self._purge_thread.start()

    def _purge_all(self) -> None:
        for name in list(self._tenant_names):
            try:
                purge(self._store, name, self._now(), self._thread.stopping)
            except StorageError as error:
                log.warning("old deliveries of tenant %s stay until the next purge: %s", name, error)
            except Exception as error:  # noqa: BLE001 - go on with the other tenants
                log.error("cannot delete old deliveries of tenant %s: %s", name, error_location(error))

    @staticmethod
    def _close_idle_queues(tenant: _TenantState, active_before: float) -> None:
        """Close and remove the idle queues that were last active at or before this time of the monotonic clock."""
        for webhook, queue in list(tenant.queues.items()):
            if queue.is_idle and queue.last_active <= active_before:
                queue.close()
                del tenant.queues[webhook]


def _log_error(level: int, message: str) -> None:
    log.log(level, "webhook deliveries pause: %s", message)
