"""Stop sending demographics to webhooks after a tenant opts out, and remove them from pending deliveries.

Every change of a tenant's settings passes through `update_tenant`, so that no opt-out misses the webhooks.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any, Unpack
from uuid import uuid4

import orjson

from backends import Backend, Record, Transaction, batched
from chalk_flask.outbox.delivery import BODIES, COLLECTION, Delivery, of_webhook
from chalk_flask.outbox.event import COMPLETED
from chalk_flask.outbox.subscription import COLLECTION as WEBHOOKS
from chalk_flask.outbox.subscription import OPT_IN_ENTITIES, load_subscriptions
from chalk_flask.tenants.record import TenantOptions
from chalk_flask.tenants.store import Tenant, TenantStore

__all__ = ["update_tenant"]

BATCH_SIZE = 20
"""Deliveries that are read at once. A body may have half a megabyte."""

_ENTITY_MARKERS = [b'"entity_type":"%s"' % entity.encode() for entity in sorted(OPT_IN_ENTITIES)]


def update_tenant(store: Backend, name: str, **options: Unpack[TenantOptions]) -> Tenant:
    """Update settings of a tenant with `TenantStore.update`; if `demographics` changes, update its webhooks too.

    The tenant is updated first. So a webhook that is created meanwhile either sees the new setting, or is updated
    afterwards. If the process stops in between, repeat the call. Raises TenantError.
    """
    tenants = TenantStore(store)
    tenant = tenants.update(name, **options)
    if (demographics := options.get("demographics")) is not None:
        with store.write(name) as transaction:
            _set_opted_out(transaction, not demographics)
    return tenant


def _set_opted_out(transaction: Transaction, opted_out: bool) -> None:
    """Stop or resume the events about demographics for the webhooks that selected them.

    After an opt-out, a pending delivery gets a new event id and loses its changes of demographics. It is deleted if
    no change remains. Finished deliveries lose their body, so that they cannot be replayed.
    """
    webhooks = [webhook for webhook in load_subscriptions(transaction) if webhook.entities & OPT_IN_ENTITIES]
    withheld = OPT_IN_ENTITIES if opted_out else frozenset()
    updated = [replace(webhook, withheld=webhook.entities & withheld) for webhook in webhooks]
    transaction.put(WEBHOOKS, [webhook.to_record() for webhook in updated])
    for webhook in webhooks if opted_out else ():
        _remove_from_deliveries(transaction, list(transaction.keys(COLLECTION, of_webhook(webhook.id))))


def _remove_from_deliveries(transaction: Transaction, keys: list[str]) -> None:
    for batch in batched(keys, BATCH_SIZE):
        bodies = transaction.get_many(BODIES, batch)
        affected = {key: body for key, body in bodies.items() if any(marker in body for marker in _ENTITY_MARKERS)}
        stored = transaction.get_many(COLLECTION, list(affected))
        _rewrite(transaction, [(Delivery.from_dict(orjson.loads(stored[key])), body) for key, body in affected.items()])


def _rewrite(transaction: Transaction, deliveries: Iterable[tuple[Delivery, bytes]]) -> None:
    for delivery, body in deliveries:
        message = _without_demographics(orjson.loads(body)) if delivery.state == "pending" else None
        if message is not None:
            pending = replace(delivery, event_id=message["event_id"], attempts=())
            transaction.put(BODIES, [Record(delivery.key, orjson.dumps(message))])
            transaction.put(COLLECTION, [pending.to_record()])
            continue
        transaction.delete(BODIES, [delivery.key])
        if delivery.state == "pending":
            transaction.delete(COLLECTION, [delivery.key])


def _without_demographics(message: dict[str, Any]) -> dict[str, Any] | None:
    """Return the event with a new id and without changes of demographics, or None if nothing remains."""
    batch = message["data"].get("batch")
    if batch is None:
        return None
    changes = [change for change in batch["changes"] if change["entity_type"] not in OPT_IN_ENTITIES]
    if not changes and message["event_type"] != COMPLETED:
        return None
    return {**message, "event_id": f"evt-{uuid4()}", "data": {"batch": {**batch, "changes": changes}}}
