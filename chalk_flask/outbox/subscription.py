"""Who is told of changes: the webhooks of a tenant, as they stand in the store."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, TypeAlias

import orjson

from backends import Query, Record, Snapshot
from chalk_flask.outbox.event import ENTITIES

__all__ = ["COLLECTION", "OPT_IN_ENTITIES", "EncryptedSecret", "Mode", "State", "Subscription", "load_subscriptions"]

COLLECTION = "webhooks"

Mode: TypeAlias = Literal["batched", "per_entity"]
State: TypeAlias = Literal["active", "paused", "disabled"]

OPT_IN_ENTITIES = frozenset({"demographics"})
"""Entity types of which nobody is told who did not name them."""


@dataclass(frozen=True, slots=True)
class EncryptedSecret:
    """A signing secret as the vault sealed it; `until` is the instant at which it ends, None for the one in force."""

    sealed: str = field(repr=False)
    until: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Subscription:
    """A webhook. `id` is `wh-` and a UUID, instants are as `dateLastModified` is written.

    Of `events` and `entities` an empty set means all (demographics only when named); of `orgs` None. `excluded` are
    fields that are neither sent nor told of: `email`, `user.email`, `metadata.note`. `root` stands before hrefs.
    While `paused`, deliveries are kept for later; while `disabled`, there are none. `withheld` are entity types that it
    named and is not told of, as its tenant is not opted in to them.
    """

    id: str
    tenant: str
    url: str
    created: str
    secrets: tuple[EncryptedSecret, ...]
    root: str
    label: str = ""
    state: State = "active"
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
        """The entity types that it is told of."""
        return (self.entities or frozenset(ENTITIES) - OPT_IN_ENTITIES) - self.withheld

    def active_secrets(self, time: str) -> tuple[EncryptedSecret, ...]:
        """The secrets that sign at that moment, the newest first."""
        return tuple(each for each in self.secrets if each.until is None or time < each.until)

    def accepts(self, event_type: str) -> bool:
        """Whether it asked for events of this type, whatever the entity."""
        return not self.events or event_type in self.events

    def to_dict(self) -> dict[str, Any]:
        """What may be shown: everything but the secrets."""
        shown = asdict(self)
        del shown["secrets"]
        return {name: sorted(value) if isinstance(value, frozenset) else value for name, value in shown.items()}

    def to_record(self) -> Record:
        """The record in COLLECTION, under its id."""
        body = self.to_dict() | {"secrets": [asdict(secret) for secret in self.secrets]}
        return Record(self.id, orjson.dumps(body))

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Subscription:
        """The webhook that a stored object describes."""
        sets = {name: frozenset(data[name]) for name in ("events", "entities", "excluded", "withheld")}
        orgs = None if data["orgs"] is None else frozenset(data["orgs"])
        secrets = tuple(EncryptedSecret(**each) for each in data["secrets"])
        return cls(**{**data, **sets, "orgs": orgs, "secrets": secrets})


def load_subscriptions(snapshot: Snapshot) -> Sequence[Subscription]:
    """All webhooks of the snapshot's tenant, the oldest first."""
    found = orjson.loads(b"[%b]" % snapshot.find(Query(COLLECTION)).body())
    return sorted(map(Subscription.from_dict, found), key=lambda each: (each.created, each.id))
