"""Deliveries for those who subscribed, composed and written in the transaction of the change itself."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import orjson

from backends import Record, Transaction
from chalk_flask.oneroster.resource_type import ResourceType
from chalk_flask.oneroster.schemas import RESOURCES
from chalk_flask.oneroster.vocabularies import format_instant
from chalk_flask.outbox.delivery import enqueue
from chalk_flask.outbox.event import ACTIONS, CHANGES, COMPLETED, Change, Message, entity_type, envelope
from chalk_flask.outbox.subscriber_view import OrgMembership, SubscriberView, changed_fields
from chalk_flask.outbox.subscription import Subscription, subscriptions

__all__ = ["MAX_MESSAGE_BYTES", "BatchBefore", "Outbox"]

MAX_MESSAGE_BYTES = 512_000
"""Bytes that a body has at most."""
MAX_CHANGES_BYTES = MAX_MESSAGE_BYTES - 4_096
"""Of these so many are for changes, in a batch and alone."""


@dataclass(frozen=True, slots=True)
class BatchBefore:
    """A batch of records before it is written: their bodies, and which of them each subscriber knew (by its id)."""

    bodies: Mapping[str, bytes]
    seen: Mapping[str, frozenset[str] | None]


class Outbox:
    """What one transaction tells, in three steps: `before` and `note` around each batch, `finish` last.

    `run` is the import's id; None for a single write. `first` is the first import of a tenant, of whose records only
    those hear who asked for that. Where nobody listens, it costs one question.
    """

    def __init__(self, transaction: Transaction, tenant: str, run: str | None, *, first: bool) -> None:
        self._transaction = transaction
        self._first = first
        living = [each for each in subscriptions(transaction) if each.state != "disabled"]
        moment = time.time()
        self._due, self._created = moment, format_instant(moment)
        self._told = [_SubscriberOutbox(each, tenant, self._created, run) for each in living]

    def has_subscribers(self, collection: str) -> bool:
        """Whether anybody is to be told of changes to records of the collection."""
        return collection in RESOURCES and bool(self._listeners(collection))

    def capture(self, collection: str, keys: Sequence[str]) -> BatchBefore:
        """What is there under the keys of a batch, before it is written."""
        seen = {
            told.id: told.view(RESOURCES[collection]).seen(self._transaction, keys)
            for told in self._listeners(collection)
        }
        return BatchBefore(self._transaction.get_many(collection, keys), seen)

    def record(self, collection: str, before: BatchBefore, records: Sequence[Record], numbers: Sequence[int]) -> None:
        """Tell of a batch that was written; `numbers` are those of the sequence, in the same order."""
        fields = {each.key: _fields(before.bodies.get(each.key), each) for each in records}
        keys = list(fields)
        for told in self._listeners(collection):
            view = told.view(RESOURCES[collection])
            seen = OrgMembership(before.seen[told.id], view.seen(self._transaction, keys))
            for record, number in zip(records, numbers, strict=True):
                change = view.change(before.bodies.get(record.key), record, fields[record.key], number, seen)
                if change is not None:
                    told.add(change)
        self._flush()

    def flush(self, sequence: int, counts: Mapping[str, Any] | None = None) -> None:
        """End what is told; `counts` are those of an import, `sequence` the last number that was given."""
        for told in self._told:
            told.finish(sequence, counts)
        self._flush()

    def _listeners(self, collection: str) -> list[_SubscriberOutbox]:
        entity = entity_type(RESOURCES[collection].singular_name)
        return [each for each in self._told if each.listens(entity) and (not self._first or each.initial)]

    def _flush(self) -> None:
        messages = [(told.id, message) for told in self._told for message in told.taken()]
        if messages:
            enqueue(self._transaction, messages, self._created, self._due)


def _fields(former: bytes | None, record: Record) -> list[str]:
    return [] if former is None else changed_fields(former, record.body)


class _SubscriberOutbox:
    """What one subscriber is told in one transaction."""

    def __init__(self, subscription: Subscription, tenant: str, created: str, run: str | None) -> None:
        self.id = subscription.id
        self.initial = subscription.initial
        self._subscription = subscription
        self._tenant, self._created, self._run = tenant, created, run
        self._views: dict[str, SubscriberView] = {}
        self._messages: list[Message] = []
        self._batch: list[bytes] = []
        self._size = self._sequence = 0

    def listens(self, entity: str) -> bool:
        wants = self._subscription.accepts
        return entity in self._subscription.entity_types and any(wants(f"{entity}.{action}") for action in ACTIONS)

    def view(self, resource: ResourceType) -> SubscriberView:
        if resource.name not in self._views:
            self._views[resource.name] = SubscriberView(self._subscription, resource)
        return self._views[resource.name]

    def add(self, change: Change) -> None:
        encoded = change.to_json()
        if len(encoded) > MAX_CHANGES_BYTES:  # too large to be told in full: who needs the record reads it
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

    def taken(self) -> list[Message]:
        messages, self._messages = self._messages, []
        return messages

    def _send_batch(self, event_type: str, counts: Mapping[str, Any] | None) -> None:
        batch: dict[str, Any] = {"changes": [orjson.Fragment(each) for each in self._batch]}
        if counts is not None:
            batch["counts"] = counts
        self._send(event_type, self._sequence, {"batch": batch})
        self._batch, self._size = [], 0

    def _send(self, event_type: str, sequence: int, data: Mapping[str, Any]) -> None:
        self._messages.append(envelope(event_type, self.id, self._tenant, self._created, self._run, sequence, data))
