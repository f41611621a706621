"""Webhooks of a tenant, as they are stored."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, Self, TypeAlias

import orjson

from backends import Query, Record, Snapshot
from chalk_flask.outbox.event import ENTITIES

__all__ = [
    "COLLECTION",
    "OPT_IN_ENTITIES",
    "EncryptedSecret",
    "Mode",
    "Subscription",
    "WebhookState",
    "load_subscriptions",
]

COLLECTION = "webhooks"

Mode: TypeAlias = Literal["batched", "per_entity"]
WebhookState: TypeAlias = Literal["active", "paused", "disabled"]

OPT_IN_ENTITIES = frozenset({"demographics"})
"""Entity types that a webhook receives only if it selects them by name and the tenant opted in."""


@dataclass(frozen=True, slots=True)
class EncryptedSecret:
    """Encrypted signing secret. `valid_until` is the timestamp of its expiry, None for the current secret."""

    ciphertext: str = field(repr=False)
    valid_until: str | None = None

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """Return the secret that a stored object describes."""
        return cls(data["sealed"], data.get("until"))

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON object that is stored."""
        return {"sealed": self.ciphertext, "until": self.valid_until}


@dataclass(frozen=True, slots=True, kw_only=True)
class Subscription:
    """Stored form of a webhook. `id` is `wh-` and a UUID. Timestamps have the format of `dateLastModified`.

    Empty `events` or `entities` select all; demographics must be selected by name. `orgs` is None for all orgs.
    `excluded` are fields that are not sent, and whose changes are not reported: `email`, `user.email`,
    `metadata.note`. `root` is the API root in hrefs. A `paused` webhook collects deliveries, a `disabled` one gets
    none. `withheld` are selected entity types to which the tenant is not opted in.
    """

    id: str
    tenant: str
    url: str
    created: str
    secrets: tuple[EncryptedSecret, ...]
    root: str
    label: str = ""
    state: WebhookState = "active"
    reason: str | None = None
    events: frozenset[str] = frozenset()
    entities: frozenset[str] = frozenset()
    orgs: frozenset[str] | None = None
    excluded: frozenset[str] = frozenset()
    mode: Mode = "batched"
    full: bool = False
    initial: bool = False
    failing_since: str | None = None
    withheld: frozenset[str] = frozenset()

    @property
    def entity_types(self) -> frozenset[str]:
        """The entity types whose events the webhook receives."""
        return (self.entities or frozenset(ENTITIES) - OPT_IN_ENTITIES) - self.withheld

    def active_secrets(self, time: str) -> tuple[EncryptedSecret, ...]:
        """Return the secrets that are not expired at this timestamp, newest first."""
        return tuple(secret for secret in self.secrets if secret.valid_until is None or time < secret.valid_until)

    def accepts(self, event_type: str) -> bool:
        """Return True if the webhook selects this event type, regardless of `entities`."""
        return not self.events or event_type in self.events

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON object for display, without the secrets."""
        data = asdict(self)
        del data["secrets"]
        return {name: sorted(value) if isinstance(value, frozenset) else value for name, value in data.items()}

    def to_record(self) -> Record:
        """Return the record for COLLECTION, with the id as key."""
        body = self.to_dict() | {"secrets": [secret.to_dict() for secret in self.secrets]}
        return Record(self.id, orjson.dumps(body))

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Subscription:
        """Return the webhook of a stored JSON object."""
        sets = {name: frozenset(data[name]) for name in ("events", "entities", "excluded", "withheld")}
        orgs = None if data["orgs"] is None else frozenset(data["orgs"])
        secrets = tuple(EncryptedSecret.from_dict(secret) for secret in data["secrets"])
        return cls(**{**data, **sets, "orgs": orgs, "secrets": secrets})


def load_subscriptions(snapshot: Snapshot) -> Sequence[Subscription]:
    """Return all webhooks of the snapshot's tenant, oldest first."""
    data = orjson.loads(b"[%b]" % snapshot.find(Query(COLLECTION)).body())
    return sorted(map(Subscription.from_dict, data), key=lambda webhook: (webhook.created, webhook.id))
