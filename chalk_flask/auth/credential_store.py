"""Base classes of the stores of credentials: find, list, revoke and audit them."""

from __future__ import annotations

from abc import ABC
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime
from typing import ClassVar, Generic, TypeVar

from backends import MATCH_ALL, Backend, Compare, Query, Snapshot, Transaction
from chalk_flask.audit.events import AuditValue, record_event
from chalk_flask.auth.credential import Credential, RevocableCredential
from chalk_flask.names import LabelError, parse_label
from chalk_flask.permissions.scopes import sort_scopes
from chalk_flask.tenants.store import CONTROL, TenantError, require_tenant
from chalk_flask.times import utc_now

__all__ = ["CredentialStore", "RevocableCredentialStore"]

C = TypeVar("C", bound=Credential)
R = TypeVar("R", bound=RevocableCredential)


class CredentialStore(ABC, Generic[C]):
    """Store of one kind of credential, in a collection of the control tenant. Thread-safe.

    A change and its audit event are stored in one transaction.
    """

    collection: ClassVar[str]
    kind: ClassVar[str]
    """Kind of credential in messages, in audit event names and on the command line."""
    error: ClassVar[type[Exception]]
    credential_class: type[C]

    def __init__(self, store: Backend, now: Callable[[], datetime] = utc_now) -> None:
        self._store = store
        self._now = now

    def list(self, tenant: str | None = None) -> Sequence[C]:
        """Return the credentials of a tenant, or of all tenants, oldest first, including expired and revoked ones."""
        where = MATCH_ALL if tenant is None else Compare("tenant", "=", tenant)
        with self._store.read(CONTROL) as snapshot:
            bodies = snapshot.find(Query(self.collection, where)).body()
        credentials = self.credential_class.parse_many(bodies)
        return sorted(credentials, key=lambda credential: (credential.created, credential.id))

    def _find(self, control: Snapshot, credential_id: str) -> tuple[str, C]:
        """Return the record key and the credential with this id. Raises `self.error` if there is none."""
        key = self._key_of(control, credential_id)
        body = control.get_many(self.collection, [key]).get(key) if key else None
        if not key or body is None:
            raise self.error(
                f"there is no {self.kind} with the id {credential_id!r}; `chalk-flask {self.kind} list` lists the ids"
            )
        return key, self.credential_class.parse(body)

    def _key_of(self, control: Snapshot, credential_id: str) -> str | None:
        return credential_id

    def _require_tenant(self, control: Snapshot, name: str) -> None:
        try:
            require_tenant(control, name)
        except TenantError as error:
            raise self.error(str(error)) from error

    def _parse_label(self, text: str, *, required: bool = True) -> str:
        try:
            return parse_label(text, required=required)
        except LabelError as error:
            raise self.error(str(error)) from error

    def _record_created(self, control: Transaction, event: str, credential: C) -> None:
        self._record(control, event, credential, scopes=sort_scopes(credential.scopes))

    def _record(self, control: Transaction, event: str, credential: C, **members: AuditValue) -> None:
        names = {"id": credential.id, "label": credential.label}
        record_event(control, credential.tenant, event, self._now(), **names, **members)


class RevocableCredentialStore(CredentialStore[R]):
    """Store of credentials that can be revoked."""

    def revoke(self, credential_id: str) -> R:
        """Revoke a credential now, in every process within a second, and return it.

        Revoking again changes nothing. Raises `self.error` for an unknown id.
        """
        with self._store.write(CONTROL) as transaction:
            key, credential = self._find(transaction, credential_id)
            if credential.revoked is not None:
                return credential
            credential = replace(credential, revoked=self._now())
            transaction.put(self.collection, [credential.to_record(key)])
            self._record(transaction, f"{self.kind}.revoked", credential)
        return credential
