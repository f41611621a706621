"""Tenants: districts that share a service, each with a roster, tokens, clients and settings of its own."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from itertools import islice

import orjson

from backends import CONTROL, MATCH_ALL, Backend, Compare, Query, Snapshot, Transaction, Where
from chalk_flask.audit.events import record_event
from chalk_flask.oneroster.vocabularies import ACTIVE
from chalk_flask.permissions.principal import Principal
from chalk_flask.permissions.restrictions import AccessRestrictions
from chalk_flask.tenants.record import COLLECTION, DeletedTenant, Tenant, TenantSummary
from chalk_flask.times import utc_now

__all__ = [
    "COLLECTION",
    "CONTROL",
    "DEFAULT_TENANT",
    "DeletedTenant",
    "Tenant",
    "TenantError",
    "TenantStore",
    "TenantSummary",
    "apply_tenant_rules",
    "find_audit_tenant",
    "find_tenant",
    "require_tenant",
    "validate_new_name",
]

DEFAULT_TENANT = "default"
"""The tenant that always exists, so that a single district never meets the word."""

DEMOGRAPHICS = "demographics"

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_TAKEN = "there is a tenant {!r} already; choose another name"
_BATCH = 50_000


class TenantError(Exception):
    """There is no such tenant, or one cannot be made, changed or deleted as asked; the message says why."""


class TenantStore:
    """The tenants of a store. Safe for use by many threads and processes at once."""

    def __init__(self, store: Backend, now: Callable[[], datetime] = utc_now) -> None:
        self._store = store
        self._now = now

    def create(self, name: str, demographics: bool = False) -> Tenant:
        """A new tenant without a roster. Raises TenantError for a name that is taken or of another shape.

        A name that differs from another's in case only counts as taken: not every disk tells such names apart.
        """
        created = self._now().isoformat(timespec="milliseconds").replace("+00:00", "Z")
        made = Tenant(name=validate_new_name(name), created=created, demographics=demographics)
        with self._store.write(CONTROL) as control:
            for taken in control.keys(COLLECTION):
                if taken.lower() == name.lower():
                    raise TenantError(_TAKEN.format(taken))
            if self._leftover(control, name):
                raise TenantError(
                    f"the tenant {name!r} was deleted, but not wholly: `chalk-flask tenant delete {name}` finishes that"
                )
            control.put(COLLECTION, [made.to_record()])
            record_event(control, name, "tenant.created", self._now(), demographics=demographics)
        return made

    def list(self) -> Sequence[Tenant]:
        """All tenants by name, the default one among them."""
        with self._store.read(CONTROL) as control:
            body = control.find(Query(COLLECTION)).body()
        records = {each.name: each for each in map(Tenant.from_dict, orjson.loads(b"[%s]" % body))}
        return sorted({DEFAULT_TENANT: _UNTOUCHED, **records}.values(), key=lambda each: each.name)

    def get(self, name: str) -> Tenant:
        """The tenant of that name. Raises TenantError when there is none."""
        with self._store.read(CONTROL) as control:
            return require_tenant(control, name)

    def show(self, name: str) -> TenantSummary:
        """The tenant of that name and how much it has. Raises TenantError when there is none."""
        with self._store.read(CONTROL) as control:
            found = require_tenant(control, name)
            credentials = {kind: _count(control, kind, _of(name)) for kind in self._kinds}
        with self._store.read(name) as snapshot:
            served = [each.name for each in self._store.collections.values() if each.bumps_revision]
            active = {each: _count(snapshot, each, Compare("status", "=", ACTIVE)) for each in served}
        return TenantSummary(found, {each: count for each, count in active.items() if count}, credentials)

    def update(
        self,
        name: str,
        *,
        demographics: bool | None = None,
        max_deleted: str | None = None,
        max_changed: str | None = None,
    ) -> Tenant:
        """Change what is given of a tenant, from the next request or import on. Raises TenantError.

        An opt-in to demographics, and the limits above which an import is held; an empty text is the usual limit again.
        Webhooks know nothing of an opt-in yet: `outbox.withholding.change_tenant` does all this, and tells them.
        """
        given = {"demographics": demographics, "maxDeleted": max_deleted, "maxChanged": max_changed}
        facts = {name: None if value == "" else value for name, value in given.items() if value is not None}
        with self._store.write(CONTROL) as control:
            changed = Tenant.from_dict({**require_tenant(control, name).to_dict(), **facts})
            control.put(COLLECTION, [changed.to_record()])
            record_event(control, name, "tenant.changed", self._now(), **facts)
        return changed

    def delete(self, name: str) -> DeletedTenant:
        """Erase a tenant with every record and credential that it has. Raises TenantError, and StorageError.

        There are two transactions: credentials go first, so that what is left when the second one fails is a roster
        that nobody can read. Deleting again then erases that.
        """
        self.check_deletable(name)
        credentials = self._close(name)
        return DeletedTenant(name, self._erase(name), credentials)

    def check_deletable(self, name: str) -> None:
        """Raises TenantError when there is nothing of a tenant of that name, or when it always exists."""
        if name == DEFAULT_TENANT:
            raise TenantError(f"the tenant {DEFAULT_TENANT!r} always exists: it can be changed, but not deleted")
        with self._store.read(CONTROL) as control:
            if not self._leftover(control, name):
                require_tenant(control, name)

    @property
    def _kinds(self) -> Sequence[str]:
        """The collections of CONTROL whose records are a tenant's: its credentials."""
        return [each.name for each in self._store.collections.values() if "tenant" in each.fields_by_path]

    def _close(self, name: str) -> Mapping[str, int]:
        with self._store.write(CONTROL) as control:
            control.delete(COLLECTION, [name])
            credentials = {kind: _emptied(control, kind, _of(name)) for kind in self._kinds}
            record_event(control, name, "tenant.deleted", self._now(), **credentials)
            return credentials

    def _leftover(self, control: Snapshot, name: str) -> bool:
        """Whether the store has anything of a tenant that may not exist."""
        if not _NAME.fullmatch(name):
            return False
        with self._store.read(name) as snapshot:
            held = any(next(snapshot.keys(each), None) is not None for each in self._store.collections)
        return held or any(_count(control, kind, _of(name)) for kind in self._kinds)

    def _erase(self, name: str) -> int:
        with self._store.write(name) as transaction:
            with self._store.read(CONTROL) as control:
                if find_tenant(control, name) is not None:
                    return 0  # somebody made it anew since it was closed, which takes an empty one
            return sum(_emptied(transaction, each, MATCH_ALL) for each in self._store.collections)


def validate_new_name(name: str) -> str:
    """The name, if a new tenant may have it: 1 to 64 ASCII letters, digits, `-`, `_` and `.`, the first no sign.

    Raises TenantError.
    """
    if name.lower() == DEFAULT_TENANT:
        raise TenantError(_TAKEN.format(DEFAULT_TENANT))
    if not _NAME.fullmatch(name):
        raise TenantError(
            f"{name[:80]!r} cannot be the name of a tenant: that is 1 to 64 letters (a to z, A to Z), digits, '-', '_'"
            " and '.', and begins with a letter or a digit"
        )
    return name


def require_tenant(control: Snapshot, name: str) -> Tenant:
    """The tenant of that name, from a snapshot of CONTROL. Raises TenantError when there is none."""
    found = find_tenant(control, name) if _NAME.fullmatch(name) else None
    if found is None:
        wanted = name if _NAME.fullmatch(name) else "NAME"
        raise TenantError(
            f"there is no tenant {name[:80]!r}: `chalk-flask tenant create {wanted}` makes one, `chalk-flask tenant"
            " list` shows those there are"
        )
    return found


def find_tenant(control: Snapshot, name: str) -> Tenant | None:
    """The tenant of that name, from a snapshot of CONTROL; None when there is none."""
    body = control.get_many(COLLECTION, [name]).get(name)
    if body is not None:
        return Tenant.from_dict(orjson.loads(body))
    return _UNTOUCHED if name == DEFAULT_TENANT else None


def find_audit_tenant(store: Backend, tenant: str) -> str:
    """Return the tenant that stores the audit events of a tenant: itself, or CONTROL if it does not exist.

    Raises StorageError.
    """
    with store.read(CONTROL) as control:
        return tenant if find_tenant(control, tenant) is not None else CONTROL


def apply_tenant_rules(control: Snapshot, principal: Principal) -> Principal | None:
    """The grant as its tenant allows it now, from a snapshot of CONTROL; None when the tenant is no more.

    Without the tenant's opt-in demographics are a denied family, whatever the scopes say.
    """
    tenant = find_tenant(control, principal.tenant)
    if tenant is None:
        return None
    if tenant.demographics:
        return principal
    limits: AccessRestrictions = replace(principal.restrictions, denied=principal.restrictions.denied | {DEMOGRAPHICS})
    return replace(principal, restrictions=limits)


_UNTOUCHED = Tenant(name=DEFAULT_TENANT, demographics=True)


def _of(tenant: str) -> Where:
    return Compare("tenant", "=", tenant)


def _count(snapshot: Snapshot, collection: str, where: Where) -> int:
    return snapshot.find(Query(collection, where, limit=1)).total


def _emptied(transaction: Transaction, collection: str, where: Where) -> int:
    """Remove what matches, and say how much that was."""
    removed = 0
    while batch := list(islice(transaction.keys(collection, where), _BATCH)):
        transaction.delete(collection, batch)
        removed += len(batch)
    return removed
