"""The queue of one webhook: what is due goes out one after the other, in the order in which it happened."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice

import orjson

from backends import And, Compare, OrderBy, Query, Snapshot, StorageError
from chalk_flask.outbox import Delivery, Subscription
from chalk_flask.outbox.delivery import BODIES, COLLECTION
from chalk_flask.outbox.subscription import COLLECTION as WEBHOOKS
from chalk_flask.tracebacks import error_location
from chalk_flask.webhooks.delivery.attempt import DeliveryContext, attempt
from chalk_flask.webhooks.delivery.recorder import AttemptResult

__all__ = ["DeliveryQueue"]

log = logging.getLogger(__name__)

AHEAD = 256
"""Outcomes that may wait to be saved; a sender that has so many waits with them."""
MOST = 128
"""Deliveries that are read at once, at the most; fewer when they are large."""
BYTES = 256 * 1024
"""Bytes of bodies beyond which fewer are read the next time."""
FRESH = 1.0
"""Seconds for which what was read is relied on: whoever pauses a webhook does not wait longer."""


@dataclass(frozen=True, slots=True)
class _Batch:
    """What is to be sent next, and to whom."""

    subscription: Subscription
    deliveries: Sequence[Delivery]
    bodies: Mapping[str, bytes]
    read: float


class DeliveryQueue:
    """One webhook of a tenant. `look` lets a thread send what is due, until nothing is or an attempt fails.

    The store calls due what was sent and is not yet saved; that is known here, and not sent again.
    """

    def __init__(self, desk: DeliveryContext, tenant: str, webhook: str) -> None:
        self._desk, self._tenant, self._webhook = desk, tenant, webhook
        self._poster = desk.poster()
        self._saving = threading.Condition()
        self._unsaved: set[str] = set()
        self._failed: str | None = None
        self._failures, self._rested = 0, 0.0
        self._size = 8
        self._thread: threading.Thread | None = None
        self.used = time.monotonic()
        """When it last had something to do, by the monotonic clock."""

    @property
    def busy(self) -> bool:
        """Whether its thread is at work."""
        return self._thread is not None and self._thread.is_alive()

    @property
    def idle(self) -> bool:
        """Whether nothing of it would be missed: it is not at work, all is saved, and it need not rest."""
        return not self.busy and not self._unsaved and self._rested <= self._desk.now()

    def unsaved(self) -> frozenset[str]:
        """The keys of what was sent and is not yet saved."""
        with self._saving:
            return frozenset(self._unsaved)

    def poll(self, snapshot: Snapshot, unsaved: frozenset[str]) -> float | None:
        """Let a thread send if something is due; says when to look again though nothing was written, if ever.

        `unsaved` is what `unsaved` gave before the snapshot was taken.
        """
        now = self._desk.now()
        if self.busy or self._failed is not None:  # with a failure that is saved the webhook may be disabled
            return now
        if self._rested > now:
            return self._rested
        if next(self._due(snapshot, unsaved), None) is None:
            # Saving may change nothing, and so wake nobody: another event may have the key meanwhile.
            return now if unsaved else _first_due(snapshot, self._webhook)
        self._thread = threading.Thread(target=self._run, name=f"webhooks: {self._webhook}", daemon=True)
        self._thread.start()
        return now

    def reset_backoff(self) -> None:
        """Forget the failures in a row: who pauses a webhook and resumes it wants it tried at once."""
        self._failures, self._rested = 0, 0.0

    def close(self) -> None:
        """Close the connection, unless it is in use: then the thread does."""
        if not self.busy:
            self._poster.close()

    def join(self, wait: float) -> None:
        """Wait for the thread, if there is one."""
        if self._thread is not None:
            self._thread.join(wait)

    def _run(self) -> None:
        try:
            while (page := self._page()) is not None and self._send(page):
                pass
        except StorageError as error:
            self._fault(str(error))
        except Exception as error:  # noqa: BLE001 - whatever it is, it is tried again and ends nobody else
            self._fault(error_location(error))
        self.used = time.monotonic()
        if self._desk.stopping.is_set():
            self._poster.close()

    def _fault(self, words: str) -> None:
        if not self._desk.stopping.is_set():
            log.error("deliveries to webhook %s pause: %s", self._webhook, words)
        self._back_off(None)

    def _page(self) -> _Batch | None:
        """What is due now, as far as it is read at once; None when nothing is, or nothing may be sent."""
        unsaved, read = self.unsaved(), time.monotonic()
        if self._desk.stopping.is_set():
            return None
        with self._desk.store.read(self._tenant) as snapshot:
            subscription = _active(snapshot, self._webhook)
            if subscription is None:
                return None
            keys = list(islice(self._due(snapshot, unsaved), self._size))
            found = snapshot.get_many(COLLECTION, keys)
            bodies = snapshot.get_many(BODIES, keys)
        self._resize(sum(map(len, bodies.values())))
        deliveries = [Delivery.from_dict(orjson.loads(found[key])) for key in keys if key in found]
        return _Batch(subscription, deliveries, bodies, read) if deliveries else None

    def _due(self, snapshot: Snapshot, unsaved: frozenset[str]) -> Iterator[str]:
        due = And((Compare("queue", "=", self._webhook), Compare("due", "<=", self._desk.now())))
        return (key for key in snapshot.keys(COLLECTION, due) if key not in unsaved)

    def _resize(self, size: int) -> None:
        self._size = max(self._size // 2, 1) if size > BYTES else min(self._size * 2, MOST)

    def _send(self, page: _Batch) -> bool:
        """Send a page, or its beginning; whether to go on with another."""
        for delivery in page.deliveries:
            if not self._wait_for_capacity():
                return False
            if time.monotonic() - page.read > FRESH:
                return True
            body = page.bodies.get(delivery.key)
            outcome = attempt(self._desk, self._poster, page.subscription, delivery, body, self._saved)
            self._note(outcome)
            if not outcome.delivered:
                return False
        return True

    def _wait_for_capacity(self) -> bool:
        """Wait while too much is not saved; False when the worker stops."""
        with self._saving:
            while len(self._unsaved) >= AHEAD and not self._desk.stopping.is_set():
                self._saving.wait(0.2)
        return not self._desk.stopping.is_set()

    def _note(self, outcome: AttemptResult) -> None:
        with self._saving:
            self._unsaved.add(outcome.key)
        if outcome.delivered:
            self._failures = 0
        else:
            self._failed = outcome.key
            self._back_off(outcome.retry_after)
        self._desk.recorder.record(outcome)

    def _back_off(self, retry_after: float | None) -> None:
        self._failures += 1
        self._rested = self._desk.schedule.backoff_until(self._failures, self._desk.now(), retry_after)

    def _saved(self, outcome: AttemptResult) -> None:
        with self._saving:
            self._unsaved.discard(outcome.key)
            self._saving.notify_all()
        if outcome.key == self._failed:
            self._failed = None


def _active(snapshot: Snapshot, webhook: str) -> Subscription | None:
    body = snapshot.get_many(WEBHOOKS, [webhook]).get(webhook)
    found = None if body is None else Subscription.from_dict(orjson.loads(body))
    return found if found is not None and found.state == "active" else None


def _first_due(snapshot: Snapshot, webhook: str) -> float | None:
    """When the first of a webhook's deliveries that wait is due; None when none does."""
    found = snapshot.find(Query(COLLECTION, Compare("queue", "=", webhook), (OrderBy("due"),), limit=1)).body()
    return float(orjson.loads(found)["due"]) if found else None
