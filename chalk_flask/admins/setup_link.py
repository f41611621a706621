"""Setup link: a URL that works once and creates the first administrator of a store."""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable
from datetime import datetime, timedelta
from hashlib import sha256
from hmac import compare_digest
from typing import Final

import orjson

from backends import CONTROL, Backend, Record, Snapshot
from chalk_flask.admins.passwords import PASSWORD_HASHER, PasswordHasher
from chalk_flask.admins.record import Administrator
from chalk_flask.admins.sessions import LOCK_TIMEOUT_SECONDS
from chalk_flask.admins.store import has_administrators, insert, new_administrator
from chalk_flask.audit.events import record_event
from chalk_flask.times import format_timestamp, parse_timestamp, utc_now

__all__ = ["COLLECTION", "SetupLink", "SetupLinkError"]

COLLECTION = "setup_link"

LIFETIME: Final = timedelta(hours=24)

_KEY = "link"
_SECRET = re.compile(r"[0-9a-f]{32}")


class SetupLinkError(Exception):
    """Rejection of a setup link that is unknown, expired or used. The message contains a remedy."""


class SetupLink:
    """Setup link of a store without administrators. It contains 128 random bits, of which the SHA-256 is stored.

    Thread-safe. A new link replaces the former one.
    """

    def __init__(
        self, store: Backend, now: Callable[[], datetime] = utc_now, hasher: PasswordHasher = PASSWORD_HASHER
    ) -> None:
        self._store = store
        self._now = now
        self._hasher = hasher

    def is_needed(self) -> bool:
        """Return True if the store has no administrator. Raises StorageError."""
        with self._store.read(CONTROL) as control:
            return not has_administrators(control)

    def create(self) -> str | None:
        """Create a link for 24 hours and return its secret. Return None if the store has an administrator."""
        if not self.is_needed():
            return None
        secret = secrets.token_hex(16)
        data = {"hash": _hash(secret), "expires": format_timestamp(self._now() + LIFETIME)}
        with self._store.write(CONTROL, LOCK_TIMEOUT_SECONDS) as control:
            if has_administrators(control):
                return None
            control.put(COLLECTION, [Record(_KEY, orjson.dumps(data))])
        return secret

    def is_valid(self, secret: str) -> bool:
        """Return True if the link can be used."""
        with self._store.read(CONTROL) as control:
            return self._is_valid(control, secret)

    def redeem(self, secret: str, name: str, password: str) -> Administrator:
        """Create and return the first administrator, an operator with the role owner. The link becomes invalid.

        Raises SetupLinkError for a link that cannot be used, AdministratorError for an invalid name or password.
        """
        self._require_valid(self.is_valid(secret))
        administrator = new_administrator(name, "owner", None, password, self._now(), self._hasher)
        with self._store.write(CONTROL, LOCK_TIMEOUT_SECONDS) as control:
            self._require_valid(self._is_valid(control, secret))
            insert(control, administrator)
            control.delete(COLLECTION, [_KEY])
            members = {"id": administrator.id, "role": "owner", "by": "setup link"}
            record_event(control, CONTROL, "administrator.created", self._now(), **members)
        return administrator

    def _is_valid(self, control: Snapshot, secret: str) -> bool:
        if not _SECRET.fullmatch(secret) or has_administrators(control):
            return False
        body = control.get_many(COLLECTION, [_KEY]).get(_KEY)
        if body is None:
            return False
        data = orjson.loads(body)
        return compare_digest(data["hash"], _hash(secret)) and self._now() < parse_timestamp(data["expires"])

    def _require_valid(self, is_valid: bool) -> None:
        if not is_valid:
            raise SetupLinkError(
                "this link is used or expired: restart the service to get another link, or run"
                " `chalk-flask admin create NAME --operator`"
            )


def _hash(secret: str) -> str:
    return sha256(secret.encode()).hexdigest()
