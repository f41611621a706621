"""What comes of attempts, written to the store: many at a time, by one thread, so that nobody waits for a commit."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

import orjson

from backends import And, Backend, Compare, Query, StorageBusyError, StorageError, Transaction
from chalk_flask.audit.events import record_event
from chalk_flask.oneroster.vocabularies import format_instant
from chalk_flask.outbox import Attempt, Delivery, Subscription
from chalk_flask.outbox.delivery import COLLECTION
from chalk_flask.outbox.subscription import COLLECTION as WEBHOOKS
from chalk_flask.tracebacks import error_location
from chalk_flask.webhooks.delivery.retry_policy import RetryPolicy

__all__ = ["GATHER", "AttemptResult", "Recorder"]

log = logging.getLogger(__name__)

GATHER = 0.2
"""Seconds for which outcomes are gathered at least."""
SHARE = 3
"""Between two commits so many times passes as the last one took: a store of JSON writes whole files."""
WAIT = 5.0
"""Seconds that a commit waits for another writer before it is begun anew."""
LAST = 1.0
"""The same at the end, when somebody waits for the worker to stop."""
LONGEST = 30.0
"""The longest pause, in seconds, after a commit that failed."""

GONE = "the endpoint answered 410 Gone"


@dataclass(frozen=True, slots=True)
class AttemptResult:
    """What came of one attempt for the delivery of this key, as long as it is of this event.

    `moment` is when the attempt ended, in seconds since the epoch. `gone` says that the endpoint wants no more, `saved`
    is called once this is stored.
    """

    tenant: str
    webhook: str
    key: str
    event_id: str
    attempt: Attempt
    moment: float
    delivered: bool
    saved: Callable[[AttemptResult], None]
    gone: bool = False
    retry_after: float | None = None


class Recorder:
    """Takes outcomes from any thread and writes them in order, a transaction a tenant, until it is stopped.

    What cannot be written now is kept and tried again: who hands in outcomes bounds how many are not yet saved.
    """

    def __init__(self, store: Backend, schedule: RetryPolicy, gather: float = GATHER) -> None:
        self._store, self._schedule, self._gather = store, schedule, gather
        self._lock = threading.Lock()
        self._waiting: dict[str, list[AttemptResult]] = {}
        self._took = 0.0
        self._some, self._stopping = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run, name="webhooks: outcomes", daemon=True)

    def start(self) -> None:
        """Begin to write."""
        self._thread.start()

    def record(self, outcome: AttemptResult) -> None:
        """Hand in what came of an attempt; returns at once."""
        with self._lock:
            self._waiting.setdefault(outcome.tenant, []).append(outcome)
        self._some.set()

    def stop(self, wait: float) -> None:
        """Write what is there, if that can be done soon, and end. What is not written is delivered again later."""
        self._stopping.set()
        self._some.set()
        self._thread.join(wait)

    def _run(self) -> None:
        pause = self._gather
        while not self._stopping.is_set():
            self._some.wait()
            self._stopping.wait(pause)
            self._took = 0.0
            saved = self._save_all(LAST if self._stopping.is_set() else WAIT)
            pause = max(self._gather, SHARE * self._took) if saved else min(max(2 * pause, 1.0), LONGEST)
        self._save_all(LAST)

    def _save_all(self, wait: float) -> bool:
        with self._lock:
            taken, self._waiting = self._waiting, {}
            self._some.clear()
        saved = [self._save(tenant, outcomes, wait) for tenant, outcomes in taken.items()]
        return all(saved)

    def _save(self, tenant: str, outcomes: list[AttemptResult], wait: float) -> bool:
        """Write what came of a tenant's deliveries, or keep it; whether the store can be used."""
        try:
            with self._store.write(tenant, wait=wait) as transaction:
                began = time.monotonic()  # the wait for another writer is over, and does not count
                self._write(transaction, tenant, outcomes)
            self._took += time.monotonic() - began
        except StorageBusyError:  # a long import: it has been waited for, and is waited for again
            self._keep(tenant, outcomes)
            return True
        except StorageError as error:
            if not self._stopping.is_set():
                log.warning("what came of %d deliveries is kept for later: %s", len(outcomes), error)
            self._keep(tenant, outcomes)
            return False
        except Exception as error:  # noqa: BLE001 - they are not tried again by this process, and others go on
            log.error("what came of %d deliveries cannot be written: %s", len(outcomes), error_location(error))
            return False
        for outcome in outcomes:
            outcome.saved(outcome)
        return True

    def _keep(self, tenant: str, outcomes: list[AttemptResult]) -> None:
        with self._lock:
            self._waiting[tenant] = outcomes + self._waiting.get(tenant, [])
        self._some.set()

    def _write(self, transaction: Transaction, tenant: str, outcomes: Sequence[AttemptResult]) -> None:
        """Read again what is written: a webhook may have gone since, with its deliveries.

        Another event may have the key then: of a tenant made anew, or in place of one that may be told no more.
        """
        stored = transaction.get_many(COLLECTION, [outcome.key for outcome in outcomes])
        made = ((Delivery.from_dict(orjson.loads(stored[each.key])), each) for each in outcomes if each.key in stored)
        after = [_after(each, outcome, self._schedule) for each, outcome in made if each.event_id == outcome.event_id]
        transaction.put(COLLECTION, [each.to_record() for each in after])
        webhooks = transaction.get_many(WEBHOOKS, list({outcome.webhook for outcome in outcomes}))
        for webhook, body in webhooks.items():
            was = now = Subscription.from_dict(orjson.loads(body))
            for outcome in outcomes:
                now = _judged(now, outcome, self._schedule) if outcome.webhook == webhook else now
            if any(each.webhook == webhook and each.state == "failed" for each in after):
                now = _forgiven(transaction, now)
            if now != was:
                transaction.put(WEBHOOKS, [now.to_record()])
            if now.state != was.state:
                record_event(transaction, tenant, "webhook.disabled", id=now.id, label=now.label, reason=now.reason)


def _forgiven(transaction: Transaction, subscription: Subscription) -> Subscription:
    """Nothing is tried any more once the last delivery is given up, so that no failure goes on until the next one."""
    waits = And((Compare("webhook", "=", subscription.id), Compare("state", "=", "pending")))
    if subscription.state == "disabled" or transaction.find(Query(COLLECTION, waits, limit=0)).total:
        return subscription
    return replace(subscription, failing_since=None)


def _after(delivery: Delivery, outcome: AttemptResult, schedule: RetryPolicy) -> Delivery:
    if delivery.state != "pending":  # another worker was faster, one that shares the store and not the lease
        return replace(delivery, attempts=(*delivery.attempts, outcome.attempt))
    if outcome.delivered:
        return delivery.with_attempt(outcome.attempt, "delivered", None)
    due = schedule.next_attempt_at(delivery.tries + 1, outcome.moment, outcome.retry_after)
    return delivery.with_attempt(outcome.attempt, "failed" if due is None else "pending", due)


def _judged(subscription: Subscription, outcome: AttemptResult, schedule: RetryPolicy) -> Subscription:
    """The webhook after one more attempt: since when it has failed, and whether that is enough."""
    if outcome.delivered:
        return subscription if subscription.failing_since is None else replace(subscription, failing_since=None)
    since = subscription.failing_since or format_instant(outcome.moment)
    failing = replace(subscription, failing_since=since)
    if failing.state == "disabled":
        return failing
    if outcome.gone:
        return replace(failing, state="disabled", reason=GONE)
    if outcome.moment - datetime.fromisoformat(since).timestamp() >= schedule.disable_after:
        return replace(failing, state="disabled", reason=f"every attempt has failed since {since}")
    return failing
