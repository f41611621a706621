"""The worker: finds what is due, in every tenant, and lets the endpoints send it; one over all processes of a store."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from backends import Backend, StorageError
from chalk_flask.auth.secrets.encryption import SecretCipher
from chalk_flask.outbox import load_subscriptions
from chalk_flask.tenants.store import CONTROL, TenantStore
from chalk_flask.tracebacks import error_location
from chalk_flask.webhooks.delivery.attempt import DeliveryContext, Sender
from chalk_flask.webhooks.delivery.leader_lock import LeaderLock
from chalk_flask.webhooks.delivery.queue import DeliveryQueue
from chalk_flask.webhooks.delivery.rate_limiter import RateLimiter
from chalk_flask.webhooks.delivery.recorder import Recorder
from chalk_flask.webhooks.delivery.retention import purge
from chalk_flask.webhooks.delivery.retry_policy import RetryPolicy
from chalk_flask.webhooks.delivery.signing_secrets import SigningSecrets

__all__ = ["Worker"]

log = logging.getLogger(__name__)

TICK: Final = 0.1
"""Seconds between two looks at the stamps of the store."""
SHARE: Final = 20
"""After a look at the store, so many times what it took passes before the next, though no more than LONGEST."""
LONGEST: Final = 1.0
CLOSED: Final = 30.0
"""Seconds after which the connection of an endpoint that had nothing to do is closed."""
PURGE: Final = 3600.0
PAUSE: Final = 5.0
"""Seconds for which the worker leaves a store alone that failed."""
STOP: Final = 1.5
"""Seconds that a stop may take; what is in flight then is sent again later, with the same id and bytes."""

_NEVER: Final = object()
"""No stamp: nobody has looked yet."""


@dataclass(slots=True)
class _TenantState:
    """What is known of a tenant: its stamp at the last look, its endpoints, and when to look though nothing changed."""

    stamp: object = _NEVER
    endpoints: dict[str, DeliveryQueue] = field(default_factory=dict)
    next: float | None = None


class Worker:
    """Delivers what the outboxes of a store hold, from `begin` to `close`, in threads of its own.

    `poster` makes what sends, one for each endpoint. A store without webhooks costs a few microseconds ten times a
    second; where another process has the lease this one waits for it.
    """

    def __init__(
        self,
        store: Backend,
        vault: SecretCipher,
        lease: LeaderLock,
        poster: Callable[[], Sender],
        schedule: RetryPolicy | None = None,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._store, self._lease, self._now = store, lease, now
        self._stopping = threading.Event()
        schedule = schedule or RetryPolicy()
        self._recorder = Recorder(store, schedule)
        self._desk = DeliveryContext(
            store, SigningSecrets(vault), self._recorder, schedule, poster, now, self._stopping, RateLimiter()
        )
        self._names: list[str] = []
        self._control: object = _NEVER
        self._tenants: dict[str, _TenantState] = {}
        self._thread: threading.Thread | None = None
        self._purging = threading.Thread()
        self._purge_at = 0.0
        self._said = ""

    def start(self) -> None:
        """Start to deliver, as soon as this process has the lease. Once only."""
        self._thread = threading.Thread(target=self._run, name="webhooks", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop within a second or two: what has been sent is written down, what is being sent will be sent again."""
        self._stopping.set()
        if self._thread is None:
            return
        end = time.monotonic() + STOP
        self._thread.join(STOP)
        endpoints = [each for tenant in list(self._tenants.values()) for each in tenant.endpoints.values()]
        for endpoint in endpoints:
            endpoint.join(max(end - time.monotonic(), 0))
            endpoint.close()
        self._recorder.stop(max(end - time.monotonic(), 1))
        self._lease.release()

    def _run(self) -> None:
        self._recorder.start()
        pause = TICK
        while not self._stopping.wait(pause):
            began = time.monotonic()
            try:
                looked = self._poll()
                self._said = ""
                took = time.monotonic() - began
                pause = min(max(TICK, SHARE * took), LONGEST) if looked else TICK
            except (StorageError, OSError) as error:
                pause = self._fault(str(error))
            except Exception as error:  # noqa: BLE001 - the worker goes on, whatever it is
                pause = self._fault(error_location(error))

    def _fault(self, words: str) -> float:
        if not self._stopping.is_set():
            level = logging.DEBUG if words == self._said else logging.ERROR
            log.log(level, "no webhooks are delivered for now: %s", words)
        self._said = words
        return PAUSE

    def _poll(self) -> bool:
        """Look at what has changed or come due; whether anything had."""
        looked = self._know_tenants()
        for name in self._names:
            tenant = self._tenants.setdefault(name, _TenantState())
            looked |= self._poll_tenant(name, tenant)
            self._dismiss(tenant, time.monotonic() - CLOSED)
        self._purge()
        return looked

    def _know_tenants(self) -> bool:
        stamp = self._store.version(CONTROL)
        if stamp == self._control:
            return False
        self._names = [each.name for each in TenantStore(self._store).list()]
        for name in self._tenants.keys() - set(self._names):
            self._dismiss(self._tenants.pop(name), time.monotonic())
        self._control = stamp
        return True

    def _poll_tenant(self, name: str, tenant: _TenantState) -> bool:
        stamp = self._store.version(name)
        if stamp == tenant.stamp and (tenant.next is None or tenant.next > self._now()):
            return False
        unsaved = {webhook: endpoint.unsaved() for webhook, endpoint in tenant.endpoints.items()}
        with self._store.read(name) as snapshot:
            active = [each.id for each in load_subscriptions(snapshot) if each.state == "active"]
            if active and not self._lease.try_acquire():
                return True  # the stamp is not kept: this is looked at again until the lease is had
            for webhook in tenant.endpoints.keys() - set(active):
                tenant.endpoints[webhook].reset_backoff()
            for webhook in set(active) - tenant.endpoints.keys():
                tenant.endpoints[webhook] = DeliveryQueue(self._desk, name, webhook)
            moments = [
                tenant.endpoints[webhook].poll(snapshot, unsaved.get(webhook, frozenset())) for webhook in active
            ]
        tenant.stamp = stamp
        tenant.next = min((each for each in moments if each is not None), default=None)
        return True

    def _purge(self) -> None:
        """Let a thread of its own remove what is old, once an hour: there may be much of it."""
        if self._lease.held and not self._purging.is_alive() and time.monotonic() >= self._purge_at:
            self._purge_at = time.monotonic() + PURGE
            self._purging = threading.Thread(target=self._purge_all, name="webhooks: purge", daemon=True)
            self._purging.start()

    def _purge_all(self) -> None:
        for name in list(self._names):
            try:
                purge(self._store, name, self._now(), self._stopping)
            except StorageError as error:
                log.warning("old deliveries of tenant %s are removed later: %s", name, error)
            except Exception as error:  # noqa: BLE001 - the others' are removed all the same
                log.error("old deliveries of tenant %s cannot be removed: %s", name, error_location(error))

    @staticmethod
    def _dismiss(tenant: _TenantState, late: float) -> None:
        """Let go of the endpoints that have had nothing to do since that moment."""
        for webhook, endpoint in list(tenant.endpoints.items()):
            if endpoint.idle and endpoint.used <= late:
                endpoint.close()
                del tenant.endpoints[webhook]
