"""Store of the sources of all tenants: add, list and remove sources, and record the results of their syncs."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Final
from urllib.parse import urlsplit

from backends import CONTROL, Backend, Transaction
from chalk_flask.audit.events import record_event
from chalk_flask.auth.clients.store import encrypted_secrets
from chalk_flask.auth.secrets import SecretCipher, SecretUnavailableError
from chalk_flask.https.url import InvalidUrlError, parse_url
from chalk_flask.roster.imports.report import ImportReport, RunState
from chalk_flask.sources.errors import SourceError
from chalk_flask.sources.record import COLLECTION, AuthKind, Source, find_source, list_sources
from chalk_flask.sources.schedule import check_schedule
from chalk_flask.tenants.store import require_tenant
from chalk_flask.times import format_timestamp, utc_now

__all__ = ["SourceRequest", "SourceStore", "record_result", "record_start"]

MAX_SOURCES: Final = 10
"""Maximum number of sources of a tenant."""
MAX_CLIENT_ID_LENGTH: Final = 255
MAX_SECRET_LENGTH: Final = 4096
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceRequest:
    """Source to add. `secret` is the secret of the client, or the bearer token.

    `token_url` defaults to `/oauth/token` on the host of the provider. With `every` or `at` (`HH:MM` in UTC), the job
    worker syncs the source.
    """

    name: str
    url: str
    auth: AuthKind
    secret: str = field(repr=False)
    client_id: str | None = None
    token_url: str | None = None
    full_days: int = 7
    every: timedelta | None = None
    at: str | None = None


class SourceStore:
    """Sources of a store. Each change is one transaction of the tenant. Thread-safe, also among processes.

    Methods with a `name` raise SourceError if the tenant has no such source. All raise TenantError and StorageError.
    """

    def __init__(self, store: Backend, cipher: SecretCipher, now: Callable[[], datetime] = utc_now) -> None:
        self._store, self._cipher, self._now = store, cipher, now

    def add(self, tenant: str, request: SourceRequest) -> Source:
        """Store a source with its encrypted secret. Raises SourceError for an invalid or existing one."""
        source = Source(
            name=_check_name(request.name),
            tenant=tenant,
            url=_check_url(request.url, "URL").rstrip("/"),
            auth=request.auth,
            created=format_timestamp(self._now()),
            sealed="",
            client_id=_check_client_id(request),
            token_url=_check_token_url(request),
            full_days=request.full_days,
            every_seconds=None if request.every is None else int(request.every.total_seconds()),
            at=request.at,
        )
        check_schedule(request.every, request.at)
        _check_secret(request.secret)
        with self._store.write(tenant) as transaction:
            self._require_tenant(tenant)
            existing = list_sources(transaction)
            if find_source(transaction, source.name):
                raise SourceError(f"there is a source {source.name!r} already: remove it, or choose another name")
            if len(existing) >= MAX_SOURCES:
                raise SourceError(f"a tenant can have at most {MAX_SOURCES} sources: remove an unused one")
            source = replace(source, sealed=self._encrypt(request.secret, existing))
            transaction.put(COLLECTION, [source.to_record()])
            record_event(transaction, tenant, "source.added", self._now(), source=source.name, auth=source.auth)
        return source

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


def record_start(transaction: Transaction, name: str, now: datetime) -> bool:
    """Store that a sync was queued, so that it is not due again. Return False if there is no such source."""
    source = find_source(transaction, name)
    if source is None:
        return False
    transaction.put(COLLECTION, [replace(source, last_started=format_timestamp(now)).to_record()])
    return True


def record_result(
    transaction: Transaction, name: str, report: ImportReport, state: RunState, started: datetime, *, is_full: bool
) -> None:
    """Store the result of a sync in the transaction that stores its import run.

    A held package is not applied yet, so the next sync reads the same changes again.
    """
    source = find_source(transaction, name)
    if source is None:
        return
    updated = _with_result(source, report, state, started)
    if state in ("committed", "unchanged"):
        start = format_timestamp(started)
        updated = replace(updated, last_success=start, last_full=start if is_full else source.last_full)
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


def _check_name(name: str) -> str:
    if not _NAME.fullmatch(name):
        raise SourceError(
            f"invalid name {name[:80]!r}: use at most 64 letters, digits and . _ - and begin with a letter or digit"
        )
    return name


def _check_url(url: str, label: str) -> str:
    try:
        parts = parse_url(url)
    except InvalidUrlError as error:
        raise SourceError(f"{label}: {error}") from error
    if parts.query:
        raise SourceError(f"the {label} must not have a query, because logs of servers contain it")
    return url


def _check_client_id(request: SourceRequest) -> str | None:
    client_id = request.client_id
    if request.auth == "bearer":
        if client_id is not None:
            raise SourceError("a bearer token has no client id: leave it out, or choose another authentication")
        return None
    if not client_id or len(client_id) > MAX_CLIENT_ID_LENGTH or not client_id.isprintable():
        raise SourceError(f"a client id of at most {MAX_CLIENT_ID_LENGTH} characters is required for {request.auth}")
    return client_id


def _check_token_url(request: SourceRequest) -> str | None:
    if request.auth != "oauth2":
        if request.token_url is not None:
            raise SourceError(f"{request.auth} has no token URL: leave it out")
        return None
    if request.token_url is not None:
        return _check_url(request.token_url, "token URL")
    parts = urlsplit(request.url)
    return f"{parts.scheme}://{parts.netloc}/oauth/token"


def _check_secret(secret: str) -> None:
    if not secret or len(secret) > MAX_SECRET_LENGTH or not secret.isascii() or not secret.isprintable():
        raise SourceError(
            f"the secret must have 1 to {MAX_SECRET_LENGTH} printable ASCII characters, and no line break within it"
        )
