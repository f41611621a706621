"""Rotation of the key of encrypted secrets, while the service runs.

The key file gets a new key in front of the former one. All secrets are encrypted again, one transaction per tenant.
Then the former key is removed from the file. At any time, the keys in the file decrypt all secrets of the store. So
a killed rotation harms nothing, and the next one completes it.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeAlias

import orjson
from filelock import FileLock, Timeout

from backends import CONTROL, Backend, Record, Snapshot, Transaction
from chalk_flask.audit.events import record_event
from chalk_flask.auth.secrets.encryption import SECRETS_KEY_FILE, SecretCipher, SecretUnavailableError
from chalk_flask.auth.secrets.key_file import KeyFile, KeyFileError, new_key
from chalk_flask.files import create_private_file

__all__ = ["SECRETS", "RotationResult", "rotate_secrets"]

LOCK_TIMEOUT_SECONDS: Final = 600.0
"""Time to wait for a writer. An import of a large package may write for minutes."""

GRACE_SECONDS: Final = 2.0
"""Time for which the former key remains, because another process may just have read a secret of it."""

SecretLocation: TypeAlias = tuple[dict[str, Any], str]
"""Object in the body of a record, and the name of its member with an encrypted secret."""


def _secrets_in_list(body: dict[str, Any]) -> Iterator[SecretLocation]:
    # The secret of a revoked client is never used again. Its key may be lost.
    if body.get("revoked") is None:
        yield from ((secret, "sealed") for secret in body.get("secrets", ()))


SECRETS: Final[Mapping[str, Callable[[dict[str, Any]], Iterator[SecretLocation]]]] = {
    "webhooks": _secrets_in_list,
    "sources": lambda body: iter([(body, "sealed")]),
    "clients": _secrets_in_list,
    "administrators": lambda body: iter([(body, "totpSecret")]),
}
"""Function that finds the encrypted secrets of a record, for each collection with such secrets."""


@dataclass(frozen=True, slots=True)
class RotationResult:
    """Number of secrets that were encrypted again, by collection. `is_continued` if another rotation had begun."""

    counts: Mapping[str, int]
    is_continued: bool

    def to_dict(self) -> dict[str, Any]:
        """Return the result as a JSON object."""
        return {"secrets": dict(self.counts), "continued": self.is_continued}


def rotate_secrets(
    store: Backend, data: Path, on_step: Callable[[], None] = lambda: None, grace_seconds: float = GRACE_SECONDS
) -> RotationResult:
    """Replace the key in the folder `data`, and encrypt all secrets of the store with the new one.

    `on_step` is called after each step. Raises SecretUnavailableError if there is no key, or if a secret cannot be
    decrypted, which changes nothing. Raises StorageError and OSError.
    """
    with _rotation_lock(data), _key_file_errors():
        key_file, cipher = KeyFile(data / SECRETS_KEY_FILE), SecretCipher(data)
        _check_secrets(store, cipher)
        keys = key_file.read_all()
        if not keys:
            raise SecretUnavailableError(
                f"there is no key file {data / SECRETS_KEY_FILE}: no secret is encrypted yet, or --data (CHALK_DATA)"
                " names another folder"
            )
        is_continued = len(keys) > 1
        if not is_continued:
            key_file.replace([new_key(), *keys])
            on_step()
        counts = _encrypt_all(store, cipher, on_step)
        time.sleep(grace_seconds)
        key_file.replace(key_file.read_all()[:1])
        return RotationResult(counts, is_continued)


def _check_secrets(store: Backend, cipher: SecretCipher) -> None:
    """Decrypt all secrets. Raises SecretUnavailableError, which names the first one that cannot be decrypted."""
    for tenant in sorted({CONTROL, *store.tenants()}):
        with store.read(tenant) as snapshot:
            for collection, record, _, (secret, name) in _find_secrets(snapshot):
                try:
                    cipher.decrypt(secret[name])
                except SecretUnavailableError as error:
                    place = f"{record.key} in {collection} of tenant {tenant}"
                    raise SecretUnavailableError(f"nothing was changed, because of {place}: {error}") from error


def _encrypt_all(store: Backend, cipher: SecretCipher, on_step: Callable[[], None]) -> Mapping[str, int]:
    """Encrypt all secrets again: each tenant first, the control tenant last, with the audit event.

    The loop repeats, because a transaction that began before the new key may create a tenant.
    """
    counts: Counter[str] = Counter(dict.fromkeys(SECRETS, 0))
    done = {CONTROL}
    while remaining := set(store.tenants()) - done:
        for tenant in sorted(remaining):
            with store.write(tenant, LOCK_TIMEOUT_SECONDS) as transaction:
                counts.update(_encrypt_again(transaction, cipher))
            on_step()
        done |= remaining
    with store.write(CONTROL, LOCK_TIMEOUT_SECONDS) as control:
        counts.update(_encrypt_again(control, cipher))
        record_event(control, CONTROL, "secrets.rotated", None, **counts)
    on_step()
    return counts


def _encrypt_again(transaction: Transaction, cipher: SecretCipher) -> Counter[str]:
    """Encrypt the secrets of a tenant with the newest key, and return their number by collection."""
    counts: Counter[str] = Counter()
    for collection, record, body, (secret, name) in list(_find_secrets(transaction)):
        if not cipher.is_current(secret[name]):
            secret[name] = cipher.encrypt(cipher.decrypt(secret[name]))
            transaction.put(collection, [record._replace(body=orjson.dumps(body))])
            counts[collection] += 1
    return counts


def _find_secrets(snapshot: Snapshot) -> Iterator[tuple[str, Record, dict[str, Any], SecretLocation]]:
    """Yield collection, record, body and place of each encrypted secret of a tenant."""
    for collection, find_locations in SECRETS.items():
        for record in snapshot.scan(collection):
            body = orjson.loads(record.body)
            for secret, name in find_locations(body):
                if secret.get(name) is not None:
                    yield collection, record, body, (secret, name)


@contextmanager
def _rotation_lock(data: Path) -> Iterator[None]:
    """Keep other rotations out of a folder. Raises SecretUnavailableError if there is one."""
    path = data / f".{SECRETS_KEY_FILE}.lock"
    if not data.is_dir():
        raise SecretUnavailableError(
            f"there is no folder {data}: give the folder with the key with --data (CHALK_DATA)"
        )
    create_private_file(path)
    try:
        with FileLock(path, timeout=0, mode=0o600):
            yield
    except Timeout as error:
        raise SecretUnavailableError("another rotation is in progress: wait until it ends") from error


@contextmanager
def _key_file_errors() -> Iterator[None]:
    try:
        yield
    except KeyFileError as error:
        raise SecretUnavailableError(str(error)) from error
