"""What changed something is noted in its tenant, for good: credentials, imports, logins, webhooks, the gradebook.

An entry says when, what and to which ids, never a secret, a name, an address of e-mail or what a record holds.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TypeAlias

import orjson

from backends import Record, Transaction
from chalk_flask.times import utc_now

__all__ = ["COLLECTION", "EVENTS", "AuditValue", "record_event", "written"]

COLLECTION = "audit"
EVENTS = frozenset(
    {
        *("token.created", "token.revoked", "client.created", "client.rotated", "client.revoked"),
        *("issuer.added", "issuer.removed", "tenant.created", "tenant.changed", "tenant.deleted"),
        *("import.committed", "import.held", "import.approved", "import.discarded"),
        *("gradebook.put", "gradebook.deleted"),
        *("login.succeeded", "login.failed"),
        *("webhook.created", "webhook.paused", "webhook.resumed", "webhook.rotated", "webhook.deleted"),
        *("webhook.tested", "webhook.replayed", "webhook.disabled"),
    }
)
"""Everything that is noted."""

AuditValue: TypeAlias = str | int | bool | Sequence[str] | None


def record_event(
    transaction: Transaction, tenant: str, event: str, moment: datetime | None = None, **facts: AuditValue
) -> None:
    """Note an event in the transaction that does it, so that both are stored or neither.

    Raises ValueError for an event that is not one of EVENTS.
    """
    if event not in EVENTS:
        raise ValueError(f"there is no event {event!r} in the audit; there are {', '.join(sorted(EVENTS))}")
    time = written(moment or utc_now())
    key = f"{time}-{secrets.token_hex(4)}"
    body = orjson.dumps({"time": time, "tenant": tenant, "event": event, **facts, "entry": key})
    transaction.put(COLLECTION, [Record(key, body, {"time": time, "event": event})])


def written(moment: datetime) -> str:
    """The moment in UTC with microseconds: texts that sort as the moments do."""
    return moment.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
