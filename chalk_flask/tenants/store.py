"""Store of the tenants: districts that share a service and have separate rosters, credentials and settings."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from itertools import islice
from threading import Event
from typing import TYPE_CHECKING, Unpack, cast

import orjson

from backends import CONTROL, MATCH_ALL, Backend, Compare, Query, Record, Snapshot, Transaction, Where
from chalk_flask.audit.events import delete_events, record_event
from chalk_flask.oneroster.vocabularies import ACTIVE
from chalk_flask.storage import checked_members
from chalk_flask.tenants.record import (
    COLLECTION,
    OPTION_MEMBERS,
    DeletedTenant,
    Tenant,
    TenantOptions,
    TenantSummary,
)
from chalk_flask.times import format_timestamp, utc_now

if TYPE_CHECKING:
    from chalk_flask.permissions.principal import Principal
    from chalk_flask.permissions.restrictions import AccessRestrictions

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
"""Name of the tenant that always exists, so that a single district needs no other."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_NAME_TAKEN = "there is a tenant {!r} already; choose another name"
DEMOGRAPHICS = "demographics"
"""Collection that is denied without the opt-in of the tenant."""

DELETIONS = "deletions"
"""Collection of CONTROL that marks each tenant whose deletion has begun and not finished; the key is its name."""

_BATCH_SIZE = 2_000
_BATCH_PAUSE_SECONDS = 0.02
"""Pause between two transactions of a deletion, in which a waiting writer gets the write lock."""


class TenantError(Exception):
    """Unknown tenant, invalid name, or rejected change; the message contains the reason and a remedy."""


class TenantStore:
    """Tenants of a store. Safe for use by several threads and processes."""

    def __init__(self, store: Backend, now: Callable[[], datetime] = utc_now) -> None:
        self._store = store
        self._now = now

    def create(self, name: str, demographics: bool = False) -> Tenant:
        """Create a tenant without a roster. Raises TenantError for an invalid or existing name.

        Names that differ only in case count as equal, because some file systems ignore case.
        """
        tenant = Tenant(name=validate_new_name(name), created=format_timestamp(self._now()), demographics=demographics)
        with self._store.write(CONTROL) as control:
            for existing in control.keys(COLLECTION):
                if existing.lower() == name.lower():
                    raise TenantError(_NAME_TAKEN.format(existing))
            if self._has_leftovers(control, name):
                raise TenantError(
                    f"the tenant {name!r} is not deleted completely yet: wait until its records are deleted, or delete"
                    f" them with `chalk-flask tenant delete {name}`"
                )
            control.put(COLLECTION, [tenant.to_record()])
            record_event(control, name, "tenant.created", self._now(), demographics=demographics)
        return tenant

    def list(self) -> Sequence[Tenant]:
        """Return all tenants, sorted by name; the default tenant is always one of them."""
        with self._store.read(CONTROL) as control:
            body = control.find(Query(COLLECTION)).body()
        stored = {tenant.name: tenant for tenant in map(Tenant.from_dict, orjson.loads(b"[%s]" % body))}
        return sorted({DEFAULT_TENANT: _INITIAL_DEFAULT, **stored}.values(), key=lambda tenant: tenant.name)

    def get(self, name: str) -> Tenant:
        """Return the tenant of that name. Raises TenantError for an unknown name."""
        with self._store.read(CONTROL) as control:
            return require_tenant(control, name)

    def summarize(self, name: str, *, with_deleted: bool = False) -> TenantSummary:
        """Count the active records, credentials and administrators of a tenant.

        With `with_deleted`, count all records, which is much faster, because the status is in no index.

        Raises TenantError for an unknown name.
        """
        where = MATCH_ALL if with_deleted else Compare("status", "=", ACTIVE)
        with self._store.read(CONTROL) as control:
            tenant = require_tenant(control, name)
            credentials = {kind: _count(control, kind, _owned_by(name)) for kind in self._counted_collections}
        with self._store.read(name) as snapshot:
            served = [collection.name for collection in self._store.collections.values() if collection.bumps_revision]
            counts = {collection: _count(snapshot, collection, where) for collection in served}
        records = {collection: count for collection, count in counts.items() if count}
        return TenantSummary(tenant, records, credentials)

    def update(self, name: str, **options: Unpack[TenantOptions]) -> Tenant:
        """Change the settings of a tenant that are given and not None, from the next request or import on.

        Raises TenantError for an unknown name. This does not update the webhooks of the tenant;
        `outbox.tenant_update.update_tenant` does both.
        """
        changes = {
            OPTION_MEMBERS[option]: None if value == "" else value
            for option, value in cast("Mapping[str, bool | int | str | None]", options).items()
            if value is not None
        }
        with self._store.write(CONTROL) as control:
            tenant = Tenant.from_dict({**require_tenant(control, name).to_dict(), **changes})
            control.put(COLLECTION, [tenant.to_record()])
            record_event(control, name, "tenant.changed", self._now(), **changes)
        return tenant

    def delete(self, name: str) -> DeletedTenant:
        """Delete a tenant with all of its records, credentials and administrators. Raises TenantError and StorageError.

        If this process ends in between, no credential can read the records, and calling this again deletes the rest.
        `jobs.tenant_deletion` also deletes the files of the tenant.
        """
        deleted = self.begin_deletion(name)
        self.delete_records(name)
        with self._store.write(CONTROL) as control:
            control.delete(DELETIONS, [name])
        return deleted

    def begin_deletion(self, name: str) -> DeletedTenant:
        """Delete a tenant and its credentials in one transaction, and mark its records for deletion.

        The result counts the records that `delete_records` deletes. Raises TenantError and StorageError.
        """
        self.check_deletable(name)
        credentials = self._delete_credentials(name)
        return DeletedTenant(name, self.count_records(name), credentials)

    def count_records(self, name: str) -> int:
        """Return the number of all records of a tenant, which may be deleted. Raises StorageError."""
        with self._store.read(name) as snapshot:
            return sum(_count(snapshot, collection, MATCH_ALL) for collection in self._store.collections)

    def delete_records(self, name: str, stopping: Event | None = None) -> bool:
        """Delete the records of a tenant whose deletion has begun. Return False if it was stopped.

        Works in short transactions, so that other writers wait only briefly, and ends early when `stopping` is set. Any
        number of processes may do this at the same time. Raises StorageError.
        """
        stopping = stopping or Event()
        while self._delete_batch(name):
            if stopping.wait(_BATCH_PAUSE_SECONDS):
                return False
        return True

    def delete_files(self, name: str, remove_files: Callable[[], None], *, ends_deletion: bool = False) -> bool:
        """Call `remove_files` if the deletion of a tenant has begun and not finished. Return False if not.

        Meanwhile no process can create the tenant again, whose files would be deleted too. With `ends_deletion`, its
        name can be used again from now on. Raises StorageError and the errors of `remove_files`.
        """
        with self._store.write(CONTROL) as control:
            if name not in control.get_many(DELETIONS, [name]):
                return False
            remove_files()
            if ends_deletion:
                control.delete(DELETIONS, [name])
        return True

    def unfinished_deletions(self) -> Sequence[str]:
        """Return the names of the tenants whose deletion has begun and not finished."""
        with self._store.read(CONTROL) as control:
            return list(control.keys(DELETIONS))

    def check_deletable(self, name: str) -> None:
        """Raise TenantError for the default tenant, and for a name without a tenant, records and credentials."""
        if name == DEFAULT_TENANT:
            raise TenantError(f"the tenant {DEFAULT_TENANT!r} always exists: it can be changed, but not deleted")
        with self._store.read(CONTROL) as control:
            if not self._has_leftovers(control, name):
                require_tenant(control, name)

    @property
    def _owned_collections(self) -> Sequence[str]:
        """Names of the collections of CONTROL whose records belong to a tenant."""
        collections = self._store.collections.values()
        return [collection.name for collection in collections if "tenant" in collection.fields_by_path]

    @property
    def _counted_collections(self) -> Sequence[str]:
        """Names of the owned collections whose records are counted: all but those that a copy leaves out."""
        return [name for name in self._owned_collections if self._store.collections[name].is_copied]

    def _delete_credentials(self, name: str) -> Mapping[str, int]:
        with self._store.write(CONTROL) as control:
            control.delete(COLLECTION, [name])
            control.put(DELETIONS, [Record(name, b"{}")])
            deleted = {kind: _delete_all(control, kind, _owned_by(name)) for kind in self._owned_collections}
            credentials = {kind: deleted[kind] for kind in self._counted_collections}
            delete_events(control, name)
            record_event(control, name, "tenant.deleted", self._now(), **credentials)
            return credentials

    def _has_leftovers(self, control: Snapshot, name: str) -> bool:
        """Return True if the store contains records or credentials of a tenant, even if the tenant does not exist."""
        if not _NAME.fullmatch(name):
            return False
        with self._store.read(name) as snapshot:
            has_records = any(map(snapshot.exists, self._store.collections))
        if has_records or name in control.get_many(DELETIONS, [name]):
            return True
        return any(control.exists(kind, _owned_by(name)) for kind in self._owned_collections)

    def _delete_batch(self, name: str) -> bool:
        """Delete some records of a tenant that does not exist. Return False if that were the last ones."""
        with self._store.write(name) as transaction:
            with self._store.read(CONTROL) as control:
                if find_tenant(control, name) is not None:
                    # Another process created the tenant again, which it can do only after all records are deleted.
                    return False
            remaining = _BATCH_SIZE
            for collection in self._store.collections:
                batch = list(islice(transaction.keys(collection), remaining))
                transaction.delete(collection, batch)
                remaining -= len(batch)
            return remaining == 0


def validate_new_name(name: str) -> str:
    """Return the name if it is valid for a new tenant.

    Names have 1 to 64 ASCII letters, digits, `-`, `_` and `.`, and begin with a letter or digit. Raises TenantError.
    """
    if name.lower() == DEFAULT_TENANT:
        raise TenantError(_NAME_TAKEN.format(DEFAULT_TENANT))
    if not _NAME.fullmatch(name):
        raise TenantError(
            f"{name[:80]!r} cannot be the name of a tenant: use 1 to 64 letters (a to z, A to Z), digits, '-', '_' and"
            " '.', and begin with a letter or a digit"
        )
    return name


def require_tenant(control: Snapshot, name: str) -> Tenant:
    """Return the tenant of that name, from a snapshot of CONTROL. Raises TenantError for an unknown name."""
    is_valid = _NAME.fullmatch(name) is not None
    tenant = find_tenant(control, name) if is_valid else None
    if tenant is None:
        raise TenantError(
            f"there is no tenant {name[:80]!r}: `chalk-flask tenant create {name if is_valid else 'NAME'}` creates"
            " one, `chalk-flask tenant list` lists the existing ones"
        )
    return tenant


def find_tenant(control: Snapshot, name: str) -> Tenant | None:
    """Return the tenant of that name, from a snapshot of CONTROL, or None. Raises DamagedStoreError."""
    body = control.get_many(COLLECTION, [name]).get(name)
    if body is not None:
        with checked_members("tenant"):
            return Tenant.from_dict(orjson.loads(body))
    return _INITIAL_DEFAULT if name == DEFAULT_TENANT else None


def find_audit_tenant(store: Backend, tenant: str) -> str:
    """Return the tenant that stores the logins of a tenant: itself, or CONTROL if it does not exist.

    Raises StorageError.
    """
    with store.read(CONTROL) as control:
        return tenant if find_tenant(control, tenant) is not None else CONTROL


def apply_tenant_rules(control: Snapshot, principal: Principal) -> Principal | None:
    """Return the principal with the restrictions of its tenant, from a snapshot of CONTROL.

    Without the tenant's opt-in, demographics are denied regardless of the scopes. None if the tenant does not exist.
    """
    tenant = find_tenant(control, principal.tenant)
    if tenant is None:
        return None
    if tenant.demographics:
        return principal
    denied = principal.restrictions.denied | {DEMOGRAPHICS}
    restrictions: AccessRestrictions = replace(principal.restrictions, denied=denied)
    return replace(principal, restrictions=restrictions)


# The default tenant before its first change, when it has no record.
_INITIAL_DEFAULT = Tenant(name=DEFAULT_TENANT, demographics=True)


def _owned_by(tenant: str) -> Where:
    return Compare("tenant", "=", tenant)


def _count(snapshot: Snapshot, collection: str, where: Where) -> int:
    return snapshot.find(Query(collection, where, limit=1)).total


def _delete_all(transaction: Transaction, collection: str, where: Where) -> int:
    """Delete the matching records and return their number."""
    deleted = 0
    while batch := list(islice(transaction.keys(collection, where), _BATCH_SIZE)):
        transaction.delete(collection, batch)
        deleted += len(batch)
    return deleted
