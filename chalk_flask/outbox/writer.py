"""Webhook events of a transaction, stored as deliveries by the same transaction."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import orjson

from backends import Record, Transaction, batched
from chalk_flask.oneroster.resource_type import ResourceType
from chalk_flask.oneroster.schemas import RESOURCES
from chalk_flask.outbox.delivery import enqueue
from chalk_flask.outbox.event import (
    ACTIONS,
    CHANGES,
    COMPLETED,
    ENTITIES,
    Change,
    Message,
    build_message,
    entity_type,
)
from chalk_flask.outbox.subscription import OPT_IN_ENTITIES, Subscription, load_subscriptions
from chalk_flask.times import format_epoch_seconds

# Rendering records for webhooks needs many modules. Most stores have no webhooks, so they are imported on first use.
if TYPE_CHECKING:
    from chalk_flask.outbox.subscriber_view import PendingChange, SubscriberView

__all__ = ["MAX_MESSAGE_BYTES", "Outbox"]

MAX_MESSAGE_BYTES = 512_000
"""Size limit of a request body."""

BATCH_SIZE = 1000
"""Waiting changes that are rendered at once."""

MAX_CHANGES_BYTES = MAX_MESSAGE_BYTES - 4_096
"""Size limit of the changes in a body; the rest is for the envelope."""


class Outbox:
    """Queue of the webhook events of one transaction.

    Wrap each batch of writes in `batch`, call `end_collection` after the last one of a collection and `finish` last.
    `run` is the id of an import, None for a gradebook write. If `first` is True, this is the first import of the
    tenant, and only webhooks with `initial` get its records. Without subscriptions, the only cost is one query.
    """

    def __init__(self, transaction: Transaction, tenant: str, run: str | None, *, first: bool) -> None:
        self._transaction = transaction
        self._first = first
        enabled = [webhook for webhook in load_subscriptions(transaction) if webhook.state != "disabled"]
        self._due = time.time()
        self._created = format_epoch_seconds(self._due)
        self._subscribers = [_SubscriberOutbox(webhook, tenant, self._created, run) for webhook in enabled]

    def skip_unreported(self, earlier: Outbox) -> None:
        """Send a webhook no new timestamp of records whose changes an earlier outbox hid from it."""
        unreported_keys = {subscriber.id: subscriber.unreported_keys for subscriber in earlier._subscribers}
        for subscriber in self._subscribers:
            subscriber.skipped_keys = unreported_keys.get(subscriber.id, {})

    def has_subscribers(self, collection: str) -> bool:
        """Return True if a webhook subscribes to changes of the collection's records."""
        return collection in RESOURCES and bool(self._subscribers_of(collection))

    @contextmanager
    def batch(self, collection: str, records: Sequence[Record]) -> Iterator[OutboxBatch]:
        """Queue events for records that the caller writes inside the `with` block.

        The caller assigns the sequence numbers of the records to the batch before the block ends.
        """
        from chalk_flask.outbox.subscriber_view import OrgMembership, changed_fields

        subscribers = [
            (subscriber, subscriber.view(RESOURCES[collection])) for subscriber in self._subscribers_of(collection)
        ]
        keys = [record.key for record in records]
        previous = self._transaction.get_many(collection, keys)
        members_before = [view.members(self._transaction, keys) for _, view in subscribers]
        batch = OutboxBatch()
        yield batch
        fields = {
            record.key: changed_fields(previous[record.key], record.body) if record.key in previous else []
            for record in records
        }
        for (subscriber, view), before in zip(subscribers, members_before, strict=True):
            membership = OrgMembership(before, view.members(self._transaction, keys))
            changes = (
                view.change(previous.get(record.key), record, fields[record.key], number, membership)
                for record, number in zip(records, batch.numbers, strict=True)
            )
            subscriber.add_pending(view, [change for change in changes if change is not None], self._transaction)
        self._enqueue()

    def end_collection(self, collection: str) -> None:
        """Queue the events that waited for the last batch of a collection."""
        for subscriber in self._subscribers_of(collection):
            subscriber.add_waiting(subscriber.view(RESOURCES[collection]), self._transaction)
        self._enqueue()

    def finish(self, sequence: int, counts: Mapping[str, Any] | None = None) -> None:
        """Queue the last events. `sequence` is the last assigned number, `counts` are the counts of an import."""
        for subscriber in self._subscribers:
            subscriber.finish(sequence, counts)
        self._enqueue()

    def _subscribers_of(self, collection: str) -> list[_SubscriberOutbox]:
        entity = entity_type(RESOURCES[collection].singular_name)
        return [
            subscriber
            for subscriber in self._subscribers
            if subscriber.selects(entity) and (not self._first or subscriber.initial)
        ]

    def _enqueue(self) -> None:
        messages = [
            (subscriber.id, message) for subscriber in self._subscribers for message in subscriber.take_messages()
        ]
        if messages:
            enqueue(self._transaction, messages, self._created, self._due)


class OutboxBatch:
    """Sequence numbers of the records of one batch."""

    def __init__(self) -> None:
        self.numbers: Sequence[int] = ()

    def assign(self, numbers: Sequence[int]) -> None:
        """Set the sequence number of each record, in the order of the batch."""
        self.numbers = numbers


class _SubscriberOutbox:
    """Events of one transaction for one webhook, collected until `take_messages` is called."""

    def __init__(self, subscription: Subscription, tenant: str, created: str, run: str | None) -> None:
        self.id = subscription.id
        self.initial = subscription.initial
        self._subscription = subscription
        self._tenant, self._created, self._run = tenant, created, run
        self.skipped_keys: Mapping[str, Collection[str]] = {}
        self._views: dict[str, SubscriberView] = {}
        self._waiting: list[PendingChange] = []
        self._messages: list[Message] = []
        self._batch: list[bytes] = []
        self._size = self._sequence = 0

    @property
    def unreported_keys(self) -> Mapping[str, Collection[str]]:
        """Keys of records whose changes were hidden from the webhook, by collection."""
        return {name: view.unreported_keys for name, view in self._views.items()}

    def selects(self, entity: str) -> bool:
        accepts = self._subscription.accepts
        return entity in self._subscription.entity_types and any(accepts(f"{entity}.{action}") for action in ACTIONS)

    def view(self, resource_type: ResourceType) -> SubscriberView:
        from chalk_flask.outbox.subscriber_view import SubscriberView

        if resource_type.name not in self._views:
            skipped_keys = self.skipped_keys.get(resource_type.name, frozenset())
            self._views[resource_type.name] = SubscriberView(self._subscription, resource_type, skipped_keys)
        return self._views[resource_type.name]

    def add_pending(self, view: SubscriberView, pending: list[PendingChange], transaction: Transaction) -> None:
        """Add the changes of a batch, or let them wait for the rest of the collection, without their bodies."""
        if view.waits_for_collection:
            self._waiting += [replace(item, after=None if item.after is None else b"") for item in pending]
            return
        for change in view.render(transaction, pending):
            self.add(change)

    def add_waiting(self, view: SubscriberView, transaction: Transaction) -> None:
        """Add the changes that waited for the rest of the collection."""
        waiting, self._waiting = self._waiting, []
        for batch in batched(waiting, BATCH_SIZE):
            keys = [item.change.sourced_id for item in batch if item.after is not None]
            bodies = transaction.get_many(view.collection, keys)
            pending = [
                item if item.after is None else replace(item, after=bodies[item.change.sourced_id]) for item in batch
            ]
            for change in view.render(transaction, pending):
                self.add(change)

    def add(self, change: Change) -> None:
        encoded = change.to_json()
        if len(encoded) > MAX_CHANGES_BYTES:  # send the id only; the receiver can read the record from the API
            encoded = replace(change, entity=None).to_json()
        if self._subscription.mode == "per_entity":
            self._send(change.event_type, change.sequence, {"single": orjson.Fragment(encoded)})
            return
        if self._size + len(encoded) > MAX_CHANGES_BYTES:
            self._send_batch(CHANGES, None)
        self._batch.append(encoded)
        self._size += len(encoded) + 1
        self._sequence = change.sequence

    def finish(self, sequence: int, counts: Mapping[str, Any] | None) -> None:
        if counts is not None and self._subscription.accepts(COMPLETED):
            self._sequence = max(self._sequence, sequence)
            self._send_batch(COMPLETED, counts)
        elif self._batch:
            self._send_batch(CHANGES, None)

    def take_messages(self) -> list[Message]:
        messages, self._messages = self._messages, []
        return messages

    def _send_batch(self, event_type: str, counts: Mapping[str, Any] | None) -> None:
        batch: dict[str, Any] = {"changes": [orjson.Fragment(change) for change in self._batch]}
        if counts is not None:
            batch["counts"] = self._visible_counts(counts)
        self._send(event_type, self._sequence, {"batch": batch})
        self._batch, self._size = [], 0

    def _visible_counts(self, counts: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return the counts without those that include records which the webhook may not receive (L-06, L-09)."""
        from chalk_flask.outbox.subscriber_view import COLLECTIONS_WITHOUT_ORG

        if self._subscription.orgs is None:
            hidden = {ENTITIES[entity] for entity in OPT_IN_ENTITIES - self._subscription.entity_types}
            return {name: count for name, count in counts.items() if name not in hidden}
        return {name: count for name, count in counts.items() if name in COLLECTIONS_WITHOUT_ORG}

    def _send(self, event_type: str, sequence: int, data: Mapping[str, Any]) -> None:
        self._messages.append(
            build_message(event_type, self.id, self._tenant, self._created, self._run, sequence, data)
        )
