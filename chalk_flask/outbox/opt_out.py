"""What a tenant is no longer opted in to is told to nobody any more, nor sent where it still waits to be."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any
from uuid import uuid4

import orjson

from backends import Backend, Compare, Record, Transaction
from chalk_flask.outbox.delivery import BODIES, COLLECTION, Delivery
from chalk_flask.outbox.event import COMPLETED
from chalk_flask.outbox.subscription import COLLECTION as WEBHOOKS
from chalk_flask.outbox.subscription import OPT_IN_ENTITIES, load_subscriptions
from chalk_flask.tenants.store import Tenant, TenantStore

__all__ = ["update_tenant"]

BATCH_SIZE = 20
"""Deliveries that are read at once: a body may have half a megabyte."""

_ENTITY_MARKERS = [b'"entity_type":"%s"' % entity.encode() for entity in sorted(OPT_IN_ENTITIES)]


def update_tenant(
    store: Backend,
    name: str,
    *,
    demographics: bool | None = None,
    max_deleted: str | None = None,
    max_changed: str | None = None,
) -> Tenant:
    """Change what is given of a tenant, as `Tenants.set` does, with what follows for its webhooks.

    The tenant goes first: a webhook that is made meanwhile either sees that, or is seen by what follows. Stopped in
    between, the same again does the rest. Raises TenantError.
    """
    tenants = TenantStore(store)
    changed = tenants.update(name, demographics=demographics, max_deleted=max_deleted, max_changed=max_changed)
    if demographics is not None:
        with store.write(name) as transaction:
            _set_opted_out(transaction, not demographics)
    return changed


def _set_opted_out(transaction: Transaction, withheld: bool) -> None:
    """Tell those webhooks that named demographics nothing of them, or tell them again.

    What waits loses them: it is another event then, with an id of its own, or none when nothing is left. Of what was
    sent already, the body is removed, so that it cannot be sent again.
    """
    named = [each for each in load_subscriptions(transaction) if each.entities & OPT_IN_ENTITIES]
    kinds = OPT_IN_ENTITIES if withheld else frozenset()
    transaction.put(WEBHOOKS, [replace(each, withheld=each.entities & kinds).to_record() for each in named])
    for webhook in named if withheld else ():
        _remove_from_deliveries(transaction, list(transaction.keys(COLLECTION, Compare("webhook", "=", webhook.id))))


def _remove_from_deliveries(transaction: Transaction, keys: list[str]) -> None:
    for start in range(0, len(keys), BATCH_SIZE):
        bodies = transaction.get_many(BODIES, keys[start : start + BATCH_SIZE])
        found = {key: body for key, body in bodies.items() if any(mark in body for mark in _ENTITY_MARKERS)}
        stored = transaction.get_many(COLLECTION, list(found))
        _rewrite(transaction, [(Delivery.from_dict(orjson.loads(stored[key])), body) for key, body in found.items()])


def _rewrite(transaction: Transaction, found: Iterable[tuple[Delivery, bytes]]) -> None:
    for delivery, body in found:
        message = _without_demographics(orjson.loads(body)) if delivery.state == "pending" else None
        if message is not None:
            made = replace(delivery, event_id=message["event_id"], attempts=())
            transaction.put(BODIES, [Record(delivery.key, orjson.dumps(message))])
            transaction.put(COLLECTION, [made.to_record()])
            continue
        transaction.delete(BODIES, [delivery.key])
        if delivery.state == "pending":
            transaction.delete(COLLECTION, [delivery.key])


def _without_demographics(message: dict[str, Any]) -> dict[str, Any] | None:
    """The event without what is withheld, if anything is left of it."""
    batch = message["data"].get("batch")
    if batch is None:
        return None
    changes = [each for each in batch["changes"] if each["entity_type"] not in OPT_IN_ENTITIES]
    if not changes and message["event_type"] != COMPLETED:
        return None
    return {**message, "event_id": f"evt-{uuid4()}", "data": {"batch": {**batch, "changes": changes}}}
