"""Changes as one webhook receives them: filtered by its orgs and events, without its excluded fields."""

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

TIMESTAMP = "dateLastModified"

COLLECTIONS_WITHOUT_ORG = frozenset({"academicSessions", "resources", "courses", "categories"})
"""Collections without personal data. As in Chalk, every org filter includes them."""


def changed_fields(before: bytes, after: bytes) -> list[str]:
    """Return the names of the members that differ between two bodies of a record, sorted."""
    old, new = orjson.loads(before), orjson.loads(after)
    return sorted(name for name in old.keys() | new.keys() if old.get(name) != new.get(name))


class SubscriberView:
    """View of one webhook on the records of one collection."""

    def __init__(self, subscription: Subscription, resource_type: ResourceType) -> None:
        self._subscription = subscription
        self._resource_type = resource_type
        self._entity = entity_type(resource_type.singular_name)
        self._where = _org_condition(subscription, resource_type.name)
        self._excluded = _excluded_fields(subscription, self._entity)
        self._partly_excluded = frozenset(path.partition(".")[0] for path in self._excluded if "." in path)

    def members(self, snapshot: Snapshot, keys: Iterable[str]) -> frozenset[str] | None:
        """Return the keys whose records belong to the webhook's orgs, or None if it has no org filter."""
        if self._where is None:
            return None
        return frozenset(snapshot.keys(self._resource_type.name, And((In(KEY, tuple(keys)), self._where))))

    def change(
        self, before: bytes | None, record: Record, fields: list[str], number: int, membership: OrgMembership
    ) -> Change | None:
        """Return the change that the webhook receives, or None if it receives none.

        `before` is the body of the record before the write, `fields` the names of the changed members, `number` the
        sequence number.
        """
        was_visible = before is not None and self._resource_type.is_active(before) and membership.before(record.key)
        in_orgs = membership.after(record.key)
        action = self._action(was_visible, self._resource_type.is_active(record.body) and in_orgs)
        if action is None or not self._subscription.accepts(f"{self._entity}.{action}"):
            return None
        reported = None
        if action == "updated" and before is not None:
            reported = self._reported_fields(fields, before, record.body)
            if not reported:
                return None
        entity = self._entity_json(record.body) if self._subscription.full and in_orgs else None
        return Change(self._entity, action, record.key, number, reported, entity)

    @staticmethod
    def _action(was_visible: bool, is_visible: bool) -> Action | None:
        if was_visible:
            return "updated" if is_visible else "deleted"
        return "created" if is_visible else None

    def _reported_fields(self, fields: list[str], before: bytes, after: bytes) -> list[str]:
        """Return the changed fields to report. Only webhooks with full records get a change of the timestamp alone."""
        if not self._partly_excluded.isdisjoint(fields):
            fields = changed_fields(self._without_excluded(before), self._without_excluded(after))
        reported = [name for name in fields if name != TIMESTAMP and name not in self._excluded]
        return reported or ([TIMESTAMP] if fields == [TIMESTAMP] and self._subscription.full else [])

    def _entity_json(self, body: bytes) -> bytes:
        resolved = resolve_hrefs(body, self._subscription.root)
        return self._without_excluded(resolved) if self._excluded else resolved

    def _without_excluded(self, body: bytes) -> bytes:
        data = orjson.loads(body)
        for path in self._excluded:
            _remove_path(data, path)
        return orjson.dumps(data)


class OrgMembership:
    """Keys of a batch whose records belong to a webhook's orgs before and after the write; None means all."""

    def __init__(self, before: frozenset[str] | None, after: frozenset[str] | None) -> None:
        self._before, self._after = before, after

    def before(self, key: str) -> bool:
        """Return True if the record belonged to the orgs before the write."""
        return self._before is None or key in self._before

    def after(self, key: str) -> bool:
        """Return True if the record belongs to the orgs after the write."""
        return self._after is None or key in self._after


def _org_condition(subscription: Subscription, collection: str) -> Where | None:
    if subscription.orgs is None or collection in COLLECTIONS_WITHOUT_ORG:
        return None
    if collection == "enrollments":
        # Only the enrollment's own school counts, because the same run may delete its user or class. The double
        # negation makes SQLite test the few candidates: see AccessPolicy.rows_as_filter.
        return Not(Or((Not(In("school.sourcedId", tuple(sorted(subscription.orgs)))),)))
    return policy_for_restrictions(AccessRestrictions(orgs=subscription.orgs)).rows_as_filter(collection)


def _excluded_fields(subscription: Subscription, entity: str) -> frozenset[str]:
    """Return the excluded field paths of an entity type, without the type in front."""
    paths = set()
    for path in subscription.excluded:
        first, _, rest = path.partition(".")
        if not rest or first not in ENTITIES:
            paths.add(path)
        elif first == entity:
            paths.add(rest)
    return frozenset(paths)


def _remove_path(data: Any, path: str) -> None:
    """Remove a member, and each object that is empty then. A name in metadata may contain dots itself."""
    if not isinstance(data, dict) or data.pop(path, None) is not None:
        return
    first, _, rest = path.partition(".")
    if rest and first in data:
        _remove_path(data[first], rest)
        if data[first] == {}:
            del data[first]
