"""What a change looks like to one subscriber: whether it is told, of what, and in which words."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import orjson

from backends import KEY, And, In, Not, Or, Record, Snapshot, Where
from chalk_flask.oneroster.resource_type import ResourceType, resolve_hrefs
from chalk_flask.outbox.event import ENTITIES, Action, Change, entity_type
from chalk_flask.outbox.subscription import Subscription
from chalk_flask.permissions.policy import policy_for_restrictions
from chalk_flask.permissions.restrictions import AccessRestrictions

__all__ = ["OrgMembership", "SubscriberView", "changed_fields"]

STAMP = "dateLastModified"

OF_NO_ORG = frozenset({"academicSessions", "resources", "courses", "categories"})
"""They have no person in them, and pass every filter of orgs, as Chalk has it."""


def changed_fields(former: bytes, now: bytes) -> list[str]:
    """The members that differ between two bodies of a record, sorted."""
    old, new = orjson.loads(former), orjson.loads(now)
    return sorted(name for name in old.keys() | new.keys() if old.get(name) != new.get(name))


class SubscriberView:
    """The records of one collection as one subscriber may know them."""

    def __init__(self, subscription: Subscription, resource: ResourceType) -> None:
        self._subscription = subscription
        self._resource = resource
        self._entity = entity_type(resource.singular_name)
        self._where = _within(subscription, resource.name)
        self._excluded = _excluded(subscription, self._entity)
        self._partly = frozenset(path.partition(".")[0] for path in self._excluded if "." in path)

    def members(self, snapshot: Snapshot, keys: Iterable[str]) -> frozenset[str] | None:
        """Those of the keys whose records belong to the subscriber's orgs; None when all do."""
        if self._where is None:
            return None
        among = And((In(KEY, tuple(keys)), self._where))
        return frozenset(snapshot.keys(self._resource.name, among))

    def change(
        self, former: bytes | None, record: Record, fields: list[str], number: int, seen: OrgMembership
    ) -> Change | None:
        """What the subscriber is told of a record that changed in these fields; None when that is nothing."""
        was = former is not None and self._resource.is_active(former) and seen.before(record.key)
        now = seen.after(record.key)
        action = self._action(was, self._resource.is_active(record.body) and now)
        if action is None or not self._subscription.accepts(f"{self._entity}.{action}"):
            return None
        told = self._told(fields, former, record.body) if action == "updated" and former is not None else None
        if told == []:
            return None
        entity = self._shown(record.body) if self._subscription.full and now else None
        return Change(self._entity, action, record.key, number, told, entity)

    @staticmethod
    def _action(was: bool, now: bool) -> Action | None:
        if was:
            return "updated" if now else "deleted"
        return "created" if now else None

    def _told(self, fields: list[str], former: bytes, now: bytes) -> list[str]:
        """Of a new stamp alone only those hear who keep the record itself."""
        if not self._partly.isdisjoint(fields):
            fields = changed_fields(self._without(former), self._without(now))
        own = [name for name in fields if name != STAMP and name not in self._excluded]
        return own or ([STAMP] if fields == [STAMP] and self._subscription.full else [])

    def _shown(self, body: bytes) -> bytes:
        whole = resolve_hrefs(body, self._subscription.root)
        return self._without(whole) if self._excluded else whole

    def _without(self, body: bytes) -> bytes:
        data = orjson.loads(body)
        for path in self._excluded:
            _remove(data, path)
        return orjson.dumps(data)


class OrgMembership:
    """Which records of a batch belonged to a subscriber's orgs before it was written, and which do now."""

    def __init__(self, before: frozenset[str] | None, after: frozenset[str] | None) -> None:
        self._before, self._after = before, after

    def before(self, key: str) -> bool:
        """Whether the record did."""
        return self._before is None or key in self._before

    def after(self, key: str) -> bool:
        """Whether the record does."""
        return self._after is None or key in self._after


def _within(subscription: Subscription, collection: str) -> Where | None:
    if subscription.orgs is None or collection in OF_NO_ORG:
        return None
    if collection == "enrollments":
        # Their own school, whatever becomes of the user and the class in the same run. Why it is said twice that it is
        # not: see Sight.tested.
        return Not(Or((Not(In("school.sourcedId", tuple(sorted(subscription.orgs)))),)))
    return policy_for_restrictions(AccessRestrictions(orgs=subscription.orgs)).rows_hinted(collection)


def _excluded(subscription: Subscription, entity: str) -> frozenset[str]:
    """The excluded fields that concern an entity type, without its name before them."""
    found = set()
    for path in subscription.excluded:
        first, _, rest = path.partition(".")
        if not rest or first not in ENTITIES:
            found.add(path)
        elif first == entity:
            found.add(rest)
    return frozenset(found)


def _remove(data: Any, path: str) -> None:
    """Take a member away, and an object that holds it alone. A name in metadata may hold dots itself."""
    if not isinstance(data, dict) or data.pop(path, None) is not None:
        return
    first, _, rest = path.partition(".")
    if rest and first in data:
        _remove(data[first], rest)
        if data[first] == {}:
            del data[first]
