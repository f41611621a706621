"""Delivery queue of one webhook: sends due deliveries one after the other, in the order of their events."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Final

import orjson

from backends import Compare, OrderBy, Query, RecordId, Snapshot, StorageError, and_, batched, read_first
from chalk_flask.outbox import Delivery, Subscription
from chalk_flask.outbox.delivery import BODIES, COLLECTION
from chalk_flask.outbox.subscription import COLLECTION as WEBHOOKS
from chalk_flask.times import parse_timestamp
from chalk_flask.tracebacks import error_location
from chalk_flask.webhooks.delivery.attempt import DeliveryContext, attempt
from chalk_flask.webhooks.delivery.result import AttemptResult

__all__ = ["DeliveryQueue", "latest_time"]

log = logging.getLogger(__name__)

MAX_UNSAVED_RESULTS: Final = 256
"""A sender with this number of unsaved results waits for the recorder."""
INITIAL_BATCH_SIZE: Final = 8
MAX_BATCH_SIZE: Final = 128
"""Upper limit of the deliveries in one batch."""
MAX_BATCH_BYTES: Final = 1 << 20
"""Upper limit of the bodies in one batch. Each body is smaller."""
MAX_BATCH_AGE_SECONDS: Final = 1.0
"""The queue reads the store again after this time, so that a pause of the webhook takes effect."""
CAPACITY_POLL_SECONDS: Final = 0.2


@dataclass(frozen=True, slots=True)
class _Batch:
    """Deliveries to send next, with their bodies. `read_at` is a time of the monotonic clock."""

    subscription: Subscription
    deliveries: Sequence[Delivery]
    bodies: Mapping[RecordId, bytes]
    read_at: float


class DeliveryQueue:
    """Deliveries of one webhook. `poll` starts a thread that sends until nothing is due or an attempt fails.

    In the store a delivery stays due until its result is saved. The queue keeps the keys of unsaved results, so that it
    never sends such a delivery twice. `poll`, `reset_backoff`, `join` and `close` must be called by the worker's
    thread only. All times are those of the `SteadyClock`, unless they are said to be monotonic.

    After a failure the queue backs off, but the first retry of each delivery comes at its due time nevertheless. A
    Retry-After of the receiver delays all attempts.
    """

    def __init__(self, context: DeliveryContext, tenant: str, webhook: str) -> None:
        self._context, self._tenant, self._webhook = context, tenant, webhook
        self._sender = context.make_sender()
        self._unsaved_changed = threading.Condition()
        self._unsaved: set[str] = set()
        self._failed_key: str | None = None
        self._failures, self._backoff_until, self._requested_pause_until = 0, 0.0, 0.0
        self._first_retries: dict[str, float] = {}
        """Due time of each delivery that failed once, by key."""
        self._batch_size = INITIAL_BATCH_SIZE
        self._thread: threading.Thread | None = None
        self.last_active = time.monotonic()
        """End of the last work, by the monotonic clock."""

    @property
    def is_busy(self) -> bool:
        """True if the thread of the queue is running."""
        return self._thread is not None and self._thread.is_alive()

    @property
    def is_idle(self) -> bool:
        """True if the queue can be discarded: it is not busy, all results are saved, and it does not back off."""
        return not self.is_busy and not self._unsaved and self._backoff_until <= self._context.clock.now()

    def unsaved(self) -> frozenset[str]:
        """Return the keys of the deliveries whose results are not saved yet."""
        with self._unsaved_changed:
            return frozenset(self._unsaved)

    def poll(self, snapshot: Snapshot, unsaved: frozenset[str]) -> float | None:
        """Start a thread that sends, if a delivery is due. Return the time of the next poll.

        The time is None if the queue needs no poll before the store changes. `unsaved` is the result of `unsaved()`
        from before the snapshot.
        """
        now = self._context.clock.now()
        if self.is_busy or self._failed_key is not None:  # saving the failure may disable the webhook
            return now
        if self._backoff_until > now and not self._due_first_retries(now):
            return self._next_attempt_at()
        if self._backoff_until <= now and next(self._due_keys(snapshot, unsaved), None) is None:
            # A save may change nothing, and so not trigger a poll: another event may have the key by now.
            return now if unsaved else _next_due(snapshot, self._webhook)
        self._thread = threading.Thread(target=self._run, name=f"webhooks: {self._webhook}", daemon=True)
        self._thread.start()
        return now

    def reset_backoff(self) -> None:
        """Reset the number of consecutive failures, so that a resumed webhook gets an attempt at once."""
        self._failures, self._backoff_until, self._requested_pause_until = 0, 0.0, 0.0

    def close(self) -> None:
        """Close the connection; a busy queue closes it when its thread ends."""
        if not self.is_busy:
            self._sender.close()

    def join(self, timeout: float) -> None:
        """Wait for the thread to end, for at most `timeout` seconds."""
        if self._thread is not None:
            self._thread.join(timeout)

    def _run(self) -> None:
        try:
            while (batch := self._next_batch()) is not None and self._send(batch):
                pass
        except StorageError as error:
            self._pause_after_error(str(error))
        except Exception as error:  # noqa: BLE001 - the queue tries again later, and others go on
            self._pause_after_error(error_location(error))
        self.last_active = time.monotonic()
        if self._context.stopping.is_set():
            self._sender.close()

    def _pause_after_error(self, message: str) -> None:
        if not self._context.stopping.is_set():
            log.error("deliveries to webhook %s pause: %s", self._webhook, message)
        self._back_off(None)

    def _next_batch(self) -> _Batch | None:
        """Read the next due deliveries; return None if there are none or the queue must not send."""
        unsaved, read_at = self.unsaved(), time.monotonic()
        if self._context.stopping.is_set() or not self._context.is_leading():
            return None
        with self._context.store.read(self._tenant) as snapshot:
            subscription = _active_subscription(snapshot, self._webhook)
            if subscription is None:
                return None
            now = self._context.clock.now()
            due_keys = self._due_first_retries(now) if self._backoff_until > now else self._due_keys(snapshot, unsaved)
            due_bodies = [(BODIES, key) for key in islice(due_keys, self._batch_size)]
            count, bodies = read_first(snapshot, due_bodies, MAX_BATCH_BYTES)
            keys = [key for _, key in due_bodies[:count]]
            stored = snapshot.get_many(COLLECTION, keys)
        self._batch_size = min(self._batch_size * 2, MAX_BATCH_SIZE) if count == len(due_bodies) else count
        parsed = [Delivery.from_dict(orjson.loads(stored[key])) for key in keys if key in stored]
        deliveries = [delivery for delivery in parsed if delivery.due is not None and delivery.due <= now]
        for key in set(keys).difference(delivery.key for delivery in deliveries):
            self._first_retries.pop(key, None)  # it was deleted, or an operator changed when it is due
        return _Batch(subscription, deliveries, bodies, read_at) if deliveries else None

    def _due_keys(self, snapshot: Snapshot, unsaved: frozenset[str]) -> Iterator[str]:
        due = and_(Compare("queue", "=", self._webhook), Compare("due", "<=", self._context.clock.now()))
        return (key for key in snapshot.keys(COLLECTION, due) if key not in unsaved)

    def _due_first_retries(self, now: float) -> Sequence[str]:
        """Return the keys of the deliveries whose first retry is due although the queue backs off."""
        if self._requested_pause_until > now:
            return []
        return sorted(key for key, due in list(self._first_retries.items()) if due <= now)

    def _next_attempt_at(self) -> float:
        """Return the time of the next attempt of a queue that backs off."""
        first_retry = min(list(self._first_retries.values()), default=self._backoff_until)
        return min(self._backoff_until, max(first_retry, self._requested_pause_until))

    def _send(self, batch: _Batch) -> bool:
        """Send a batch or its beginning; return True if the thread should go on with another batch."""
        for delivery in batch.deliveries:
            if not self._wait_for_capacity():
                return False
            if time.monotonic() - batch.read_at > MAX_BATCH_AGE_SECONDS:
                return True
            body = batch.bodies.get((BODIES, delivery.key))
            result = attempt(self._context, self._sender, batch.subscription, delivery, body, self._on_saved)
            self._record(result)
            if not result.delivered:
                return False
        return True

    def _wait_for_capacity(self) -> bool:
        """Wait while too many results are unsaved; return False if the worker stops or has lost its lock."""
        with self._unsaved_changed:
            while len(self._unsaved) >= MAX_UNSAVED_RESULTS and not self._context.stopping.is_set():
                self._unsaved_changed.wait(CAPACITY_POLL_SECONDS)
        return not self._context.stopping.is_set() and self._context.is_leading()

    def _record(self, result: AttemptResult) -> None:
        with self._unsaved_changed:
            self._unsaved.add(result.key)
        self._first_retries.pop(result.key, None)
        if result.delivered:
            self._failures, self._backoff_until = 0, 0.0
        else:
            self._failed_key = result.key
            self._back_off(result.retry_after)
        self._context.recorder.record(result)

    def _back_off(self, retry_after: float | None) -> None:
        self._failures += 1
        now, policy = self._context.clock.now(), self._context.retry_policy
        self._backoff_until = policy.backoff_until(self._failures, now, retry_after)
        if retry_after is not None:
            self._requested_pause_until = now + min(retry_after, policy.retry_after_max)

    def _on_saved(self, result: AttemptResult, delivery: Delivery | None) -> None:
        if delivery is not None and delivery.tries == 1 and delivery.due is not None:
            self._first_retries[delivery.key] = delivery.due
        with self._unsaved_changed:
            self._unsaved.discard(result.key)
            self._unsaved_changed.notify_all()
        if result.key == self._failed_key:
            self._failed_key = None


def _active_subscription(snapshot: Snapshot, webhook: str) -> Subscription | None:
    body = snapshot.get_many(WEBHOOKS, [webhook]).get(webhook)
    if body is None:
        return None
    subscription = Subscription.from_dict(orjson.loads(body))
    return subscription if subscription.state == "active" else None


def _next_due(snapshot: Snapshot, webhook: str) -> float | None:
    """Return the time of the first pending delivery of a webhook, or None if none is pending."""
    query = Query(COLLECTION, Compare("queue", "=", webhook), (OrderBy("due"),), limit=1)
    body = snapshot.find(query).body()
    return float(orjson.loads(body)["due"]) if body else None


def latest_time(snapshot: Snapshot, now: float) -> float:
    """Return the latest time at which a pending delivery was created or attempted, or `now` if that is later.

    It is later than `now` if the system clock was set back while no worker was running.
    """
    latest = now
    future = and_(Compare("state", "=", "pending"), Compare("due", ">", now))
    for keys in batched(list(snapshot.keys(COLLECTION, future)), MAX_BATCH_SIZE):
        for body in snapshot.get_many(COLLECTION, keys).values():
            delivery = Delivery.from_dict(orjson.loads(body))
            times = [delivery.created, *(attempt.time for attempt in delivery.attempts)]
            latest = max(latest, *(parse_timestamp(time).timestamp() for time in times))
    return latest
