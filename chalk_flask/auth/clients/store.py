"""Store of OAuth clients.

A client id is `chk_client_` and 16 random hexadecimal digits, a secret is `chk_secret_` and 64 of them. URL-encoding
changes neither, so a client library that forgets to encode them works. Only the SHA-256 of a secret is stored. The
secret of a client that signs its requests (OAuth 1.0a) is also stored, encrypted.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from backends import Backend, Query, Record, Snapshot
from chalk_flask.auth.clients.record import OAuthClient, StoredSecret
from chalk_flask.auth.credential_store import RevocableCredentialStore
from chalk_flask.auth.secrets.encryption import SecretCipher, SecretUnavailableError
from chalk_flask.background.last_used import MIN_INTERVAL, LastUsedTracker
from chalk_flask.caching import VersionedCache
from chalk_flask.permissions.principal import Principal
from chalk_flask.permissions.restrictions import NO_RESTRICTIONS, AccessRestrictions
from chalk_flask.tenants.store import CONTROL, DEFAULT_TENANT, apply_tenant_rules
from chalk_flask.times import utc_now

__all__ = ["COLLECTION", "ClientError", "ClientStore", "encrypted_secrets"]

COLLECTION = "clients"

MAX_ID_LENGTH = 128
MAX_SECRET_LENGTH = 512
MAX_CACHED_CLIENTS = 4096


class ClientError(Exception):
    """Error of creating, changing or revoking a client; the message contains the reason and a remedy."""


class ClientStore(RevocableCredentialStore[OAuthClient]):
    """OAuth clients of a store. Thread-safe.

    Creating a client that signs its requests requires a cipher.
    """

    collection = COLLECTION
    kind = "client"
    error = ClientError
    credential_class = OAuthClient

    def __init__(
        self, store: Backend, now: Callable[[], datetime] = utc_now, cipher: SecretCipher | None = None
    ) -> None:
        super().__init__(store, now)
        self._cipher = cipher
        self._cache: VersionedCache[str, tuple[OAuthClient | None, Principal | None]] = VersionedCache(
            MAX_CACHED_CLIENTS
        )
        self._last_used = LastUsedTracker(store, CONTROL, COLLECTION, with_last_use)

    def create(
        self,
        label: str,
        scopes: Iterable[str],
        tenant: str = DEFAULT_TENANT,
        jwks: Mapping[str, Any] | None = None,
        restrictions: AccessRestrictions = NO_RESTRICTIONS,
        oauth1: bool = False,
    ) -> tuple[str | None, OAuthClient]:
        """Create a client, and return its secret and its stored form.

        A client with `jwks` (its public keys) has no secret: the first value is None. With `oauth1` the client can also
        sign its requests.

        Raises ClientError for an invalid label, an unknown tenant, and a secret that cannot be encrypted.
        """
        secret = _generate_secret() if jwks is None else None
        client = OAuthClient(
            id=f"chk_client_{secrets.token_hex(8)}",
            label=self._parse_label(label),
            tenant=tenant,
            scopes=frozenset(scopes),
            created=self._now(),
            restrictions=restrictions,
            secrets=(StoredSecret.from_text(secret),) if secret else (),
            jwks=jwks,
        )
        with self._store.write(CONTROL) as transaction:
            self._require_tenant(transaction, tenant)
            if oauth1:
                client = replace(client, secrets=(self._encrypt(transaction, secret),))
            transaction.put(COLLECTION, [client.to_record(client.id)])
            self._record_created(transaction, "client.created", client)
        return secret, client

    def rotate(self, client_id: str, overlap: timedelta) -> tuple[str, OAuthClient]:
        """Create a new secret of a client, and return the secret and the client.

        The former secrets stay valid for the overlap, unless they end earlier. Access tokens stay valid until they
        expire.

        Raises ClientError for an unknown or revoked client, for a client that uses a key, and for a secret that cannot
        be encrypted.
        """
        secret, now = _generate_secret(), self._now()
        end = now + overlap
        with self._store.write(CONTROL) as transaction:
            _, client = self._find(transaction, client_id)
            if client.revoked is not None:
                raise ClientError(f"the client {client.id} is revoked: create another one")
            if not client.secrets:
                raise ClientError(f"the client {client.id} has no secret: create another one with its new key")
            new = self._encrypt(transaction, secret) if client.uses_oauth1 else StoredSecret.from_text(secret)
            former = [
                replace(secret_record, valid_until=min(secret_record.valid_until or end, end))
                for secret_record in client.secrets
            ]
            valid = [secret_record for secret_record in former if secret_record.is_valid_at(now)]
            client = replace(client, secrets=(new, *valid), rotated=now)
            transaction.put(COLLECTION, [client.to_record(client.id)])
            self._record(transaction, "client.rotated", client)
        return secret, client

    def authenticate(self, client_id: str, secret: str) -> OAuthClient | None:
        """Return the client with this id and secret; None for a wrong secret and an unknown or revoked client.

        Takes the same time for known and unknown clients. Raises StorageError.
        """
        if len(secret) > MAX_SECRET_LENGTH:
            return None
        client = self.find_active(client_id)
        is_valid = (client or _NO_CLIENT).verify_secret(secret, self._now())
        return client if is_valid else None

    def record_use(self, client_id: str, last_used: datetime | None) -> None:
        """Record that a client obtained an access token or signed a request. Never waits for the store.

        `last_used` is the stored time of its last use.
        """
        self._last_used.record(client_id, last_used, self._now())

    def find_active(self, client_id: str) -> OAuthClient | None:
        """Return the client with this id; None if it is unknown or revoked, or its tenant was deleted."""
        client, principal = self.find_at_version(client_id, self.version())
        return client if principal is not None else None

    def version(self) -> object:
        """Return the version of the control tenant, for `find_at_version`."""
        return self._store.version(CONTROL)

    def find_at_version(self, client_id: str, version: object) -> tuple[OAuthClient | None, Principal | None]:
        """Return the client with this id and its principal, both None if the client is unknown.

        `version` must be the current version of the control tenant, see `version()`. The principal is None if the
        client is revoked or its tenant was deleted. Unknown ids are cached too, so that a second request takes as long
        as for a known id.
        """
        if not client_id or len(client_id) > MAX_ID_LENGTH or not client_id.isascii():
            return None, None
        return self._cache.get(client_id, version) or self._read(client_id, version)

    def _encrypt(self, control: Snapshot, secret: str | None) -> StoredSecret:
        """Return the stored form of the secret of a client that signs. Raises ClientError."""
        if self._cipher is None or secret is None:
            raise ClientError("OAuth 1.0a requires a client with a secret, and a folder for the key that encrypts it")
        try:
            # Decrypt an existing secret first. Otherwise a new key file could replace a lost one unnoticed.
            for encrypted in encrypted_secrets(control)[:1]:
                self._cipher.decrypt(encrypted)
            return StoredSecret.from_text(secret, self._cipher.encrypt(secret))
        except SecretUnavailableError as error:
            raise ClientError(
                f"cannot encrypt the secret for OAuth 1.0a: {error}; if the key is lost, revoke the clients that use"
                " OAuth 1.0a and delete the file"
            ) from error

    def _read(self, client_id: str, version: object) -> tuple[OAuthClient | None, Principal | None]:
        with self._store.read(CONTROL) as snapshot:
            body = snapshot.get_many(COLLECTION, [client_id]).get(client_id)
            client = OAuthClient.parse(body) if body is not None else None
            principal = None
            if client is not None and client.revoked is None:
                principal = apply_tenant_rules(snapshot, client.principal)
        self._cache.put(client_id, version, (client, principal))
        return client, principal


# Substitute for an unknown client, so that a secret is hashed and compared in any case.
_NO_CLIENT = OAuthClient(id="", label="", tenant="", scopes=frozenset(), created=utc_now())


def with_last_use(key: str, body: bytes, used: datetime) -> Record | None:
    """Return the record of a stored client with the time of a use; None if a use within a minute is stored."""
    client = OAuthClient.parse(body)
    if client.last_used is not None and abs(used - client.last_used) < MIN_INTERVAL:
        return None
    return replace(client, last_used=used).to_record(key)


def encrypted_secrets(control: Snapshot) -> list[str]:
    """Return the encrypted secrets of all clients that are not revoked, from a snapshot of the control tenant."""
    clients = OAuthClient.parse_many(control.find(Query(COLLECTION)).body())
    return [
        secret.ciphertext
        for client in clients
        if client.revoked is None
        for secret in client.secrets
        if secret.ciphertext
    ]


def _generate_secret() -> str:
    return f"chk_secret_{secrets.token_hex(32)}"
