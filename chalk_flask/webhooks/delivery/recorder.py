"""Writer of attempt results: one thread stores many results per transaction, so that no sender waits for a commit."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Final, NamedTuple

import orjson

from backends import Backend, StorageBusyError, StorageError, Transaction
from chalk_flask.audit.events import record_event
from chalk_flask.background.batch_writer import BatchWriter
from chalk_flask.outbox import Delivery, Subscription
from chalk_flask.outbox.delivery import COLLECTION, of_webhook
from chalk_flask.outbox.subscription import COLLECTION as WEBHOOKS
from chalk_flask.times import format_epoch_seconds
from chalk_flask.tracebacks import error_location
from chalk_flask.webhooks.delivery.attempt_log import log_attempt, log_disabled
from chalk_flask.webhooks.delivery.journal import ResultJournal
from chalk_flask.webhooks.delivery.result import AttemptResult
from chalk_flask.webhooks.delivery.retry_policy import RetryPolicy

__all__ = ["Recorder"]

log = logging.getLogger(__name__)

MIN_FLUSH_INTERVAL_SECONDS: Final = 0.2
FLUSH_INTERVAL_FACTOR: Final = 3
"""The flush interval is at least this multiple of the last commit's duration: a JSON store writes whole files."""
MAX_RETRY_INTERVAL_SECONDS: Final = 30.0
"""Upper limit of the pause after a failed commit."""
LOCK_TIMEOUT_SECONDS: Final = 5.0
STOP_LOCK_TIMEOUT_SECONDS: Final = 1.0

GONE_REASON: Final = "the endpoint answered 410 Gone"


class _Written(NamedTuple):
    """Deliveries that a transaction changed, by key, and the webhooks that it disabled."""

    deliveries: Mapping[str, Delivery]
    disabled: Sequence[Subscription]


class Recorder:
    """Queue of attempt results, written in order by a background thread, one transaction per tenant. Thread-safe.

    Results that cannot be written stay in the queue and are tried again. The senders bound the number of unsaved
    results. Until a result is in the store it is in the journal, from which `recover` writes it after a sudden end.
    """

    def __init__(
        self,
        store: Backend,
        retry_policy: RetryPolicy,
        journal: ResultJournal,
        min_flush_interval: float = MIN_FLUSH_INTERVAL_SECONDS,
    ) -> None:
        self._store, self._retry_policy, self._min_flush_interval = store, retry_policy, min_flush_interval
        self._journal = journal
        self._lock = threading.Lock()
        self._pending: dict[str, list[AttemptResult]] = {}
        self._commit_seconds = 0.0
        self._pause = min_flush_interval
        self._writer = BatchWriter("webhooks: results", self._flush, delay=min_flush_interval)

    def record(self, result: AttemptResult) -> None:
        """Queue a result; return at once."""
        with self._lock:
            self._journal.append(result)
            self._pending.setdefault(result.tenant, []).append(result)
        self._writer.wake()

    def recover(self) -> None:
        """Write the results that a killed process left in the journal. Call it before the first `record`.

        Raises StorageError and OSError.
        """
        results = self._journal.read()
        for tenant in dict.fromkeys(result.tenant for result in results):
            with self._store.write(tenant, wait=LOCK_TIMEOUT_SECONDS) as transaction:
                self._write(transaction, tenant, [result for result in results if result.tenant == tenant])
        self._journal.clear()

    def stop(self, timeout: float) -> None:
        """Write the queued results and end the background thread within about `timeout` seconds.

        Results that are not written stay in the journal.
        """
        self._writer.close(timeout)
        with self._lock:
            self._journal.close()

    def _flush(self) -> float | None:
        """Write the queued results; return the seconds until the next call, or None if there were none."""
        with self._lock:
            batches, self._pending = self._pending, {}
        if not batches:
            return None
        lock_timeout = STOP_LOCK_TIMEOUT_SECONDS if self._writer.is_closing else LOCK_TIMEOUT_SECONDS
        self._commit_seconds = 0.0
        saved = [self._save(tenant, results, lock_timeout) for tenant, results in batches.items()]
        with self._lock:
            self._journal.remove_stored([result for results in self._pending.values() for result in results])
        if all(saved):
            self._pause = max(self._min_flush_interval, FLUSH_INTERVAL_FACTOR * self._commit_seconds)
        else:
            self._pause = min(max(2 * self._pause, 1.0), MAX_RETRY_INTERVAL_SECONDS)
        return self._pause

    def _save(self, tenant: str, results: list[AttemptResult], lock_timeout: float) -> bool:
        """Write the results of a tenant, or queue them again; return False if the store failed."""
        try:
            with self._store.write(tenant, wait=lock_timeout) as transaction:
                started = time.monotonic()  # the wait for another writer does not count
                written = self._write(transaction, tenant, results)
            self._commit_seconds += time.monotonic() - started
        except StorageBusyError:  # a long import holds the write lock: the timeout was pause enough
            self._requeue(tenant, results)
            return True
        except StorageError as error:
            if not self._writer.is_closing:
                log.warning("cannot write the results of %d attempts, trying again later: %s", len(results), error)
            self._requeue(tenant, results)
            return False
        except Exception as error:  # noqa: BLE001 - these results are lost, the writer goes on with others
            log.error("cannot write the results of %d attempts: %s", len(results), error_location(error))
            return False
        for result in results:
            delivery = written.deliveries.get(result.key)
            log_attempt(result, delivery)
            result.on_saved(result, delivery)
        for webhook in written.disabled:
            log_disabled(webhook)
        return True

    def _requeue(self, tenant: str, results: list[AttemptResult]) -> None:
        with self._lock:
            self._pending[tenant] = results + self._pending.get(tenant, [])

    def _write(self, transaction: Transaction, tenant: str, results: Sequence[AttemptResult]) -> _Written:
        """Apply the results to the present records, and return what changed.

        The webhook and its deliveries may have been deleted.
        The key may belong to another event by now: the tenant was created again, or an opt-out replaced the event.
        """
        bodies = transaction.get_many(COLLECTION, [result.key for result in results])
        stored = [
            (Delivery.from_dict(orjson.loads(bodies[result.key])), result) for result in results if result.key in bodies
        ]
        deliveries = [
            _delivery_after(delivery, result, self._retry_policy)
            for delivery, result in stored
            # A result from the journal may be in the store already.
            if delivery.event_id == result.event_id and result.attempt not in delivery.attempts
        ]
        transaction.put(COLLECTION, [delivery.to_record() for delivery in deliveries])
        disabled: list[Subscription] = []
        webhooks = transaction.get_many(WEBHOOKS, list({result.webhook for result in results}))
        for webhook, body in webhooks.items():
            before = after = Subscription.from_dict(orjson.loads(body))
            for result in results:
                if result.webhook == webhook:
                    after = _subscription_after(after, result, self._retry_policy)
            if any(delivery.webhook == webhook and delivery.state == "failed" for delivery in deliveries):
                after = _clear_failing_if_idle(transaction, after)
            if after != before:
                transaction.put(WEBHOOKS, [after.to_record()])
            if after.state != before.state:
                record_event(
                    transaction, tenant, "webhook.disabled", id=after.id, label=after.label, reason=after.reason
                )
                disabled.append(after)
        return _Written({delivery.key: delivery for delivery in deliveries}, disabled)


def _clear_failing_if_idle(transaction: Transaction, subscription: Subscription) -> Subscription:
    """Reset `failing_since` when no delivery is pending: days without any attempt do not count as failing."""
    if subscription.state == "disabled" or transaction.exists(COLLECTION, of_webhook(subscription.id, "pending")):
        return subscription
    return replace(subscription, failing_since=None)


def _delivery_after(delivery: Delivery, result: AttemptResult, retry_policy: RetryPolicy) -> Delivery:
    if delivery.state != "pending":  # a worker with another leader lock for the same store was faster
        return replace(delivery, attempts=(*delivery.attempts, result.attempt))
    if result.delivered:
        return delivery.with_attempt(result.attempt, "delivered", None)
    due = retry_policy.next_attempt_at(delivery.tries + 1, result.ended_at, result.retry_after)
    return delivery.with_attempt(result.attempt, "failed" if due is None else "pending", due)


def _subscription_after(subscription: Subscription, result: AttemptResult, retry_policy: RetryPolicy) -> Subscription:
    """Return the webhook after one more attempt, disabled if it responded 410 or has failed for too long."""
    if result.delivered:
        return subscription if subscription.failing_since is None else replace(subscription, failing_since=None)
    failing_since = subscription.failing_since or format_epoch_seconds(result.ended_at)
    failing = replace(subscription, failing_since=failing_since)
    if failing.state == "disabled":
        return failing
    if result.is_gone:
        return replace(failing, state="disabled", reason=GONE_REASON)
    if result.ended_at - datetime.fromisoformat(failing_since).timestamp() >= retry_policy.disable_after:
        return replace(failing, state="disabled", reason=f"every attempt has failed since {failing_since}")
    return failing
