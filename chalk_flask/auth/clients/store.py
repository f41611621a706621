"""OAuth clients: made, listed, revoked, given new secrets, and told by their secrets.

A client's id is `chk_client_` and 16 random hexadecimal digits, its secret `chk_secret_` and 64 of them: nothing that
URL-encoding changes, so that clients which forget it get in too. Of a secret only the SHA-256 is kept; of a client that
signs its requests (OAuth 1.0a), for which that is not enough, also the secret, sealed.
"""

from __future__ import annotations

import secrets
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import orjson

from backends import MATCH_ALL, Backend, Compare, Query, Snapshot
from chalk_flask.audit.log import AuditLog
from chalk_flask.auth.clients.record import OAuthClient, StoredSecret
from chalk_flask.auth.secrets.encryption import SecretCipher, SecretUnavailableError
from chalk_flask.permissions.principal import Principal
from chalk_flask.permissions.restrictions import NO_RESTRICTIONS, AccessRestrictions
from chalk_flask.permissions.scopes import sort_scopes
from chalk_flask.tenants.store import CONTROL, DEFAULT_TENANT, apply_tenant_rules, find_audit_tenant, find_tenant
from chalk_flask.times import utc_now

__all__ = ["COLLECTION", "ClientError", "ClientStore", "OAuthClient", "encrypted_secrets"]

COLLECTION = "clients"

MAX_ID_LENGTH = 128
MAX_SECRET_LENGTH = 512

_KNOWN = 4096
_LABEL = 200


class ClientError(Exception):
    """A client cannot be made, changed or revoked as asked; the message says why."""


class ClientStore:
    """The OAuth clients of a store. Safe for use by many threads at once.

    Without a vault no client can be made that signs its requests.
    """

    def __init__(
        self, store: Backend, now: Callable[[], datetime] = utc_now, vault: SecretCipher | None = None
    ) -> None:
        self._store = store
        self._now = now
        self._vault = vault
        self._audit = AuditLog(store, find_audit_tenant, now)
        self._lock = threading.Lock()
        self._known: OrderedDict[str, tuple[object, OAuthClient | None, Principal | None]] = OrderedDict()

    def create(
        self,
        label: str,
        scopes: Iterable[str],
        tenant: str = DEFAULT_TENANT,
        jwks: Mapping[str, Any] | None = None,
        limits: AccessRestrictions = NO_RESTRICTIONS,
        oauth1: bool = False,
    ) -> tuple[str | None, OAuthClient]:
        """A new client's secret and what is kept of it; one with `jwks` (public keys) has no secret.

        With `oauth1` it may sign its requests as well. Raises ClientError for a label that will not do, a tenant that
        does not exist, and a secret that cannot be sealed.
        """
        secret = _generated() if jwks is None else None
        record = OAuthClient(
            id=f"chk_client_{secrets.token_hex(8)}",
            label=_checked_label(label),
            tenant=tenant,
            scopes=frozenset(scopes),
            created=self._now(),
            restrictions=limits,
            secrets=(StoredSecret.from_text(secret),) if secret else (),
            jwks=jwks,
        )
        with self._store.write(CONTROL) as transaction:
            if tenant == CONTROL or find_tenant(transaction, tenant) is None:
                raise ClientError(f"there is no tenant {tenant[:80]!r} that a client could be for")
            if oauth1:
                record = replace(record, secrets=(self._sealed(transaction, secret),))
            transaction.put(COLLECTION, [record.to_record()])
        self._audit.record(
            tenant, "client.created", id=record.id, label=record.label, scopes=sort_scopes(record.scopes)
        )
        return secret, record

    def list(self, tenant: str | None = None) -> Sequence[OAuthClient]:
        """All clients of a tenant, or of every one, the oldest first; revoked ones are among them."""
        where = MATCH_ALL if tenant is None else Compare("tenant", "=", tenant)
        with self._store.read(CONTROL) as snapshot:
            body = snapshot.find(Query(COLLECTION, where)).body()
        records = map(OAuthClient.from_dict, orjson.loads(b"[%s]" % body))
        return sorted(records, key=lambda record: (record.created, record.id))

    def revoke(self, id: str) -> OAuthClient:  # noqa: A002 - what it is called everywhere
        """End a client and every access token that it has, in every process within a second.

        Revoking again changes nothing. Raises ClientError for an unknown id.
        """
        with self._store.write(CONTROL) as transaction:
            record = _found(transaction, id)
            if record.revoked is not None:
                return record
            record = replace(record, revoked=self._now())
            transaction.put(COLLECTION, [record.to_record()])
        self._audit.record(record.tenant, "client.revoked", id=record.id, label=record.label)
        return record

    def rotate(self, id: str, overlap: timedelta) -> tuple[str, OAuthClient]:  # noqa: A002 - see above
        """A new secret for a client. Former ones stay valid for the overlap, unless they end sooner anyway.

        Access tokens that were issued live on until they expire. Raises ClientError for an unknown or revoked client,
        for one that signs with a key, and for a secret that has to be sealed and cannot.
        """
        secret, now = _generated(), self._now()
        with self._store.write(CONTROL) as transaction:
            record = _found(transaction, id)
            if record.revoked is not None:
                raise ClientError(f"the client {record.id} is revoked: create another one")
            if not record.secrets:
                raise ClientError(f"the client {record.id} has no secret: create another one with its new key")
            former = (replace(kept, until=min(kept.until or now + overlap, now + overlap)) for kept in record.secrets)
            new = self._sealed(transaction, secret) if record.uses_oauth1 else StoredSecret.from_text(secret)
            kept = (new, *(each for each in former if each.valid_at(now)))
            record = replace(record, secrets=kept, rotated=now)
            transaction.put(COLLECTION, [record.to_record()])
        self._audit.record(record.tenant, "client.rotated", id=record.id, label=record.label)
        return secret, record

    def authenticate(self, id: str, secret: str) -> OAuthClient | None:  # noqa: A002 - see above
        """The client that shows this secret; None for a wrong one and for a client that is not (or no longer) there.

        Takes the same time whether there is such a client or not. Raises StorageError.
        """
        if len(secret) > MAX_SECRET_LENGTH:
            return None
        record = self.find_active(id)
        right = (record or _NOBODY).has_secret(secret, self._now())
        return record if right else None

    def find_active(self, id: str) -> OAuthClient | None:  # noqa: A002 - see above
        """The client with this id, unless it is revoked or its tenant is no more."""
        record, grant = self.get_at(id, self._store.version(CONTROL))
        return record if grant is not None else None

    def version(self) -> object:
        """The stamp of what is known of clients and tenants, for `at`."""
        return self._store.version(CONTROL)

    def get_at(self, id: str, stamp: object) -> tuple[OAuthClient | None, Principal | None]:  # noqa: A002 - see above
        """The record of a client and what it may do, at a stamp that was just taken; no grant for one that has ended.

        An id that is unknown is remembered as well: asking for it again takes as long as for one that is known.
        """
        if not id or len(id) > MAX_ID_LENGTH or not id.isascii():
            return None, None
        with self._lock:
            entry = self._known.get(id)
            if entry is not None and entry[0] == stamp:
                self._known.move_to_end(id)
                return entry[1], entry[2]
        return self._read(id, stamp)

    def _sealed(self, control: Snapshot, secret: str | None) -> StoredSecret:
        """What is kept of the secret of a client that signs. Raises ClientError."""
        if self._vault is None or secret is None:
            raise ClientError("a client without a secret of its own, or a place for its key, cannot use OAuth 1.0a")
        try:
            # A new key in the place of a lost one would hide what the loss has done to those that are there.
            for sealed in encrypted_secrets(control)[:1]:
                self._vault.decrypt(sealed)
            return StoredSecret.from_text(secret, self._vault.encrypt(secret))
        except SecretUnavailableError as error:
            raise ClientError(
                f"a secret for OAuth 1.0a cannot be kept: {error}; if the key is lost, revoke the clients that use"
                " OAuth 1.0a and remove the file"
            ) from error

    def _read(self, client_id: str, stamp: object) -> tuple[OAuthClient | None, Principal | None]:
        with self._store.read(CONTROL) as snapshot:
            body = snapshot.get_many(COLLECTION, [client_id]).get(client_id)
            record = OAuthClient.parse(body) if body is not None else None
            grant = (
                apply_tenant_rules(snapshot, record.principal)
                if record is not None and record.revoked is None
                else None
            )
        with self._lock:
            self._known[client_id] = (stamp, record, grant)
            self._known.move_to_end(client_id)
            if len(self._known) > _KNOWN:
                self._known.popitem(last=False)
        return record, grant


# Stands where no client does, so that a secret is hashed and compared all the same.
_NOBODY = OAuthClient(id="", label="", tenant="", scopes=frozenset(), created=utc_now())


def _generated() -> str:
    return f"chk_secret_{secrets.token_hex(32)}"


def _found(snapshot: Snapshot, client_id: str) -> OAuthClient:
    body = snapshot.get_many(COLLECTION, [client_id]).get(client_id) if client_id else None
    if body is None:
        raise ClientError(f"there is no client with the id {client_id!r}; `client list` shows those there are")
    return OAuthClient.parse(body)


def encrypted_secrets(control: Snapshot) -> list[str]:
    """The sealed secrets of all clients that are not revoked."""
    body = control.find(Query(COLLECTION)).body()
    records = [each for each in map(OAuthClient.from_dict, orjson.loads(b"[%s]" % body)) if each.revoked is None]
    return [kept.sealed for record in records for kept in record.secrets if kept.sealed]


def _checked_label(text: str) -> str:
    label = text.strip()
    if not label or len(label) > _LABEL or not label.isprintable():
        raise ClientError(f"a label is a line of 1 to {_LABEL} printable characters that says who the client is")
    return label
