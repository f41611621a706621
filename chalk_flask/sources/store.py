"""Store of the sources of all tenants: add, change, list and remove sources, and record the results of their syncs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Final

from backends import CONTROL, Backend, Transaction
from chalk_flask.audit.events import record_event
from chalk_flask.auth.clients.store import encrypted_secrets
from chalk_flask.auth.secrets import SecretCipher, SecretUnavailableError
from chalk_flask.roster.imports.report import ImportReport, RunState
from chalk_flask.sources.errors import SecretRequiredError, SourceError
from chalk_flask.sources.record import COLLECTION, Source, find_source, list_sources
from chalk_flask.sources.request import SourceChange, SourceRequest, changed_members, check_secret, requires_secret
from chalk_flask.tenants.store import require_tenant
from chalk_flask.times import format_timestamp, utc_now

__all__ = ["SourceStore", "record_queued", "record_result"]

MAX_SOURCES: Final = 10
"""Maximum number of sources of a tenant."""


class SourceStore:
    """Sources of a store. Each change is one transaction of the tenant. Thread-safe, also among processes.

    Methods with a `name` raise SourceError if the tenant has no such source. All raise TenantError and StorageError.
    """

    def __init__(self, store: Backend, cipher: SecretCipher, now: Callable[[], datetime] = utc_now) -> None:
        self._store, self._cipher, self._now = store, cipher, now

    def add(self, tenant: str, request: SourceRequest) -> Source:
        """Store a source with its encrypted secret. Raises SourceError for an invalid or existing one."""
        source = request.to_source(tenant, format_timestamp(self._now()))
        check_secret(request.secret)
        with self._store.write(tenant) as transaction:
            self._require_tenant(tenant)
            existing = list_sources(transaction)
            if find_source(transaction, source.name):
                raise SourceError(f"there is a source {source.name!r} already: change it, or choose another name")
            if len(existing) >= MAX_SOURCES:
                raise SourceError(f"a tenant can have at most {MAX_SOURCES} sources: remove an unused one")
            source = replace(source, sealed=self._encrypt(request.secret, existing))
            transaction.put(COLLECTION, [source.to_record()])
            record_event(transaction, tenant, "source.added", self._now(), source=source.name, auth=source.auth)
        return source

    def change(self, tenant: str, name: str, change: SourceChange) -> Source:
        """Change a source. Raises SourceError for an invalid value, and if the secret is required again.

        A change that leaves everything as it is stores nothing. A running sync keeps the former values.
        """
        if change.secret is not None:
            check_secret(change.secret)
        with self._store.write(tenant) as transaction:
            self._require_tenant(tenant)
            source = _require(find_source(transaction, name), tenant, name)
            changed = change.apply(source)
            if change.secret is not None:
                others = [other for other in list_sources(transaction) if other.name != name]
                changed = replace(changed, sealed=self._encrypt(change.secret, others))
            elif requires_secret(source, changed):
                raise SecretRequiredError(
                    "the secret is required again, because another server than before would receive it, or another"
                    " kind of credential: give both in one change"
                )
            if names := changed_members(source, changed):
                transaction.put(COLLECTION, [changed.to_record()])
                record_event(transaction, tenant, "source.changed", self._now(), source=name, changed=names)
        return changed

    def list(self, tenant: str) -> Sequence[Source]:
        """Return the sources of a tenant, by name."""
        with self._store.read(tenant) as snapshot:
            return list_sources(snapshot)

    def get(self, tenant: str, name: str) -> Source:
        """Return a source."""
        with self._store.read(tenant) as snapshot:
            source = find_source(snapshot, name)
        return _require(source, tenant, name)

    def remove(self, tenant: str, name: str) -> Source:
        """Delete a source with its secret. The roster stays."""
        with self._store.write(tenant) as transaction:
            source = _require(find_source(transaction, name), tenant, name)
            transaction.delete(COLLECTION, [name])
            record_event(transaction, tenant, "source.removed", self._now(), source=name)
        return source

    def secret(self, source: Source) -> str:
        """Return the decrypted secret. Raises SourceError if the key is missing or another one."""
        try:
            return self._cipher.decrypt(source.sealed)
        except SecretUnavailableError as error:
            raise SourceError(f"the secret of the source {source.name!r} cannot be read: {error}") from error

    def record_failure(self, tenant: str, name: str, started: datetime, message: str) -> None:
        """Store that a sync has failed. Does nothing if the source was removed meanwhile."""
        with self._store.write(tenant) as transaction:
            if source := find_source(transaction, name):
                failed = replace(
                    source,
                    last_started=format_timestamp(started),
                    last_failure=format_timestamp(self._now()),
                    last_error=message,
                    failures=source.failures + 1,
                )
                transaction.put(COLLECTION, [failed.to_record()])

    def record_rejection(self, tenant: str, name: str, started: datetime, report: ImportReport) -> None:
        """Store that the import rejected the records of a sync. The next sync is full."""
        with self._store.write(tenant) as transaction:
            if source := find_source(transaction, name):
                rejected = _with_result(source, report, "refused", started)
                transaction.put(COLLECTION, [replace(rejected, last_full=None).to_record()])

    def _require_tenant(self, name: str) -> None:
        with self._store.read(CONTROL) as control:
            require_tenant(control, name)

    def _encrypt(self, secret: str, existing: Sequence[Source]) -> str:
        """Encrypt a new secret. Raises SourceError if the key is missing or wrong."""
        try:
            # A new key in place of a lost one would hide that the existing secrets cannot be decrypted.
            with self._store.read(CONTROL) as control:
                for encrypted in [*(source.sealed for source in existing), *encrypted_secrets(control)][:1]:
                    self._cipher.decrypt(encrypted)
            return self._cipher.encrypt(secret)
        except SecretUnavailableError as error:
            raise SourceError(f"the secret cannot be stored: {error}") from error


def record_queued(transaction: Transaction, name: str, now: datetime, *, full: bool = False) -> bool:
    """Store that a sync was queued, so that it is not due again. Return False if there is no such source.

    With `full`, it reads all records.
    """
    source = find_source(transaction, name)
    if source is None:
        return False
    started = replace(source, last_started=format_timestamp(now), last_full=None if full else source.last_full)
    transaction.put(COLLECTION, [started.to_record()])
    return True


def record_result(
    transaction: Transaction,
    synced: Source,
    report: ImportReport,
    state: RunState,
    started: datetime,
    *,
    is_full: bool,
    lacks_demographics: bool,
) -> None:
    """Store the result of a sync in the transaction that stores its import run.

    `synced` is the source at the start of the sync. If its provider was changed meanwhile, the next sync is full. A
    held package is not applied yet, so the next sync reads the same changes again.
    """
    source = find_source(transaction, synced.name)
    if source is None:
        return
    updated = _with_result(source, report, state, started)
    if state in ("committed", "unchanged") and source.reads_like(synced):
        start = format_timestamp(started)
        last_full = start if is_full else source.last_full
        updated = replace(updated, last_success=start, last_full=last_full, lacks_demographics=lacks_demographics)
    transaction.put(COLLECTION, [updated.to_record()])


def _with_result(source: Source, report: ImportReport, state: str, started: datetime) -> Source:
    return replace(
        source,
        last_started=format_timestamp(started),
        last_run=report.run,
        last_result=state,
        last_error=None,
        failures=0,
    )


def _require(source: Source | None, tenant: str, name: str) -> Source:
    if source is None:
        raise SourceError(f"tenant {tenant} has no source {name[:80]!r}: list them with `chalk-flask source list`")
    return source
