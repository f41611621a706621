"""Changes as one webhook receives them: those of its orgs and events, without excluded fields and references.

docs/conformance, L-09 to L-11, states the rules.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import orjson

from backends import KEY, And, In, Not, Or, Record, Snapshot, Where
from chalk_flask.oneroster.resource_type import ResourceType
from chalk_flask.outbox.event import ENTITIES, Action, Change, entity_type
from chalk_flask.outbox.subscription import Subscription
from chalk_flask.permissions.policy import AccessPolicy, policy_for_restrictions
from chalk_flask.permissions.restrictions import AccessRestrictions
from chalk_flask.serialization import DocumentSerializer, RedactionCache, ReferenceLookup

__all__ = ["COLLECTIONS_WITHOUT_ORG", "OrgMembership", "PendingChange", "SubscriberView", "changed_fields"]

TIMESTAMP = "dateLastModified"

COLLECTIONS_WITHOUT_ORG = frozenset({"academicSessions", "resources", "courses"})
"""Collections without personal data. As in Chalk, every org filter includes them."""


def changed_fields(before: bytes, after: bytes) -> list[str]:
    """Return the names of the members that differ between two bodies of a record, sorted."""
    old, new = orjson.loads(before), orjson.loads(after)
    return sorted(name for name in old.keys() | new.keys() if old.get(name) != new.get(name))


@dataclass(frozen=True, slots=True)
class PendingChange:
    """Change whose record is not rendered yet.

    `before` is the body before an update if it is needed to find the changed members that the webhook receives.
    `after` is None if the webhook does not receive the record.
    """

    change: Change
    before: bytes | None = None
    after: bytes | None = None


class SubscriberView:
    """View of one webhook on the records of one collection.

    `waits_for_collection` is True if records refer to others of the same collection that may be hidden. Their changes
    are rendered when the whole collection is written. `unreported_keys` are those of records whose changes were hidden
    from a webhook with full records. `skipped_keys` are those of an earlier transaction: their timestamp alone is not
    sent.
    """

    def __init__(
        self, subscription: Subscription, resource_type: ResourceType, skipped_keys: Collection[str] = frozenset()
    ) -> None:
        self.unreported_keys: set[str] = set()
        self._skipped_keys = skipped_keys
        self.collection = resource_type.name
        self._subscription = subscription
        self._resource_type = resource_type
        self._entity = entity_type(resource_type.singular_name)
        self._where = _org_condition(subscription, resource_type.name)
        self._policy = _policy(subscription, self._entity)
        hideable = self._policy.hideable_references(resource_type.name).values()
        self.waits_for_collection = any(reference.target == resource_type.name for reference in hideable)
        hidden = self._policy.hidden_names(resource_type.name)
        self._excluded = hidden.redacted
        partly_hidden = {*hidden.redacted_parts, *(reference.name for reference in hideable)}
        self._partly_hidden = (partly_hidden | ({"metadata"} if hidden.named else set())) - hidden.redacted

    def members(self, snapshot: Snapshot, keys: Iterable[str]) -> frozenset[str] | None:
        """Return the keys whose records belong to the webhook's orgs, or None if it has no org filter."""
        if self._where is None:
            return None
        return frozenset(snapshot.keys(self._resource_type.name, And((In(KEY, tuple(keys)), self._where))))

    def change(
        self, before: bytes | None, record: Record, fields: list[str], number: int, membership: OrgMembership
    ) -> PendingChange | None:
        """Return the change that the webhook receives, or None if it receives none.

        `before` is the body of the record before the write, `fields` the names of the changed members, `number` the
        sequence number.
        """
        was_visible = before is not None and self._resource_type.is_active(before) and membership.before(record.key)
        in_orgs = membership.after(record.key)
        action = self._action(was_visible, self._resource_type.is_active(record.body) and in_orgs)
        if action is None or not self._subscription.accepts(f"{self._entity}.{action}"):
            return None
        reported, compared = None, False
        if action == "updated":
            reported = self._reported_fields(fields)
            compared = not self._partly_hidden.isdisjoint(reported)
            if not reported or (reported == [TIMESTAMP] and record.key in self._skipped_keys):
                self._add_unreported(record.key)
                return None
        has_record = self._subscription.full and in_orgs
        return PendingChange(
            Change(self._entity, action, record.key, number, reported),
            before if compared else None,
            record.body if has_record or compared else None,
        )

    def render(self, snapshot: Snapshot, pending: Sequence[PendingChange]) -> Iterator[Change]:
        """Yield the changes with their records and changed members, as the webhook sees them in the snapshot."""
        after = self._render_each(snapshot, [item.after for item in pending])
        before = self._render_each(snapshot, [item.before for item in pending])
        for item, old, new in zip(pending, before, after, strict=True):
            change = replace(item.change, entity=new if self._subscription.full else None)
            if item.before is None or old is None or new is None:
                yield change
            elif fields := [name for name in changed_fields(old, new) if name != TIMESTAMP]:
                yield replace(change, changed=fields)
            else:
                self._add_unreported(change.sourced_id)

    def _add_unreported(self, key: str) -> None:
        if self._subscription.full:  # others never receive a timestamp alone
            self.unreported_keys.add(key)

    @staticmethod
    def _action(was_visible: bool, is_visible: bool) -> Action | None:
        if was_visible:
            return "updated" if is_visible else "deleted"
        return "created" if is_visible else None

    def _reported_fields(self, fields: list[str]) -> list[str]:
        """Return the changed fields to report. Only webhooks with full records get a change of the timestamp alone."""
        reported = [name for name in fields if name != TIMESTAMP and name not in self._excluded]
        return reported or ([TIMESTAMP] if fields == [TIMESTAMP] and self._subscription.full else [])

    def _render_each(self, snapshot: Snapshot, bodies: Sequence[bytes | None]) -> Iterator[bytes | None]:
        # Visibility changes with each write of the transaction, so no result of an earlier lookup is valid.
        lookup = ReferenceLookup(snapshot, self._subscription.tenant, RedactionCache())
        serializer = DocumentSerializer(self._resource_type, self._subscription.root, self._policy, lookup)
        rendered = serializer.render_each([body for body in bodies if body is not None])
        return (None if body is None else next(rendered) for body in bodies)


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


def _policy(subscription: Subscription, entity: str) -> AccessPolicy:
    """Return the access policy of a webhook for the records of an entity type."""
    redacted = set()
    for path in subscription.excluded:
        first, _, rest = path.partition(".")
        if not rest or first not in ENTITIES:
            redacted.add(path)
        elif first == entity:
            redacted.add(rest)
    return policy_for_restrictions(AccessRestrictions(orgs=subscription.orgs, redacted=frozenset(redacted)))
