"""What is kept of an OAuth client: everything but its secret, and how that stands in the store."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from hashlib import sha256
from hmac import compare_digest
from typing import Any

import orjson

from backends import Record
from chalk_flask.permissions.principal import Principal
from chalk_flask.permissions.restrictions import NO_RESTRICTIONS, AccessRestrictions
from chalk_flask.permissions.scopes import sort_scopes

__all__ = ["OAuthClient", "StoredSecret"]


@dataclass(frozen=True, slots=True)
class StoredSecret:
    """A secret as it is kept: its SHA-256 in hexadecimal digits, and until when it is valid (None: no end)."""

    # A slow hash protects secrets that people think up. Ours are 256 random bits: nobody finds one by trying, however
    # quick a try is, and a request for a token stays quick.
    sha256: str = field(repr=False)
    until: datetime | None = None
    # OAuth 1.0a signs with the secret itself: of a client that may use it, that is kept too, sealed (access/vault.py).
    sealed: str | None = field(default=None, repr=False)

    @classmethod
    def from_text(cls, secret: str, sealed: str | None = None) -> StoredSecret:
        """What is kept of a secret that was just made."""
        return cls(_hashed(secret), sealed=sealed)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> StoredSecret:
        """The secret that a stored object describes."""
        return cls(data["sha256"], _read(data.get("until")), data.get("sealed"))

    def to_dict(self) -> dict[str, Any]:
        """The JSON object that is stored."""
        sealed = {} if self.sealed is None else {"sealed": self.sealed}
        return {"sha256": self.sha256, "until": _written(self.until)} | sealed

    def valid_at(self, moment: datetime) -> bool:
        """Whether the secret lets anyone in at that moment."""
        return self.until is None or moment < self.until


# What a text is compared with where there is no secret: the time that takes says nothing about a client.
NO_SECRET = StoredSecret("-" * 64)


@dataclass(frozen=True, slots=True, kw_only=True)
class OAuthClient:
    """A client as it is kept. It shows who it is by a secret, or by signing with a key, whose public part is in `jwks`.

    Of `secrets` the newest comes first; those before it are valid for the overlap of a rotation.
    """

    id: str
    label: str
    tenant: str
    scopes: frozenset[str]
    created: datetime
    restrictions: AccessRestrictions = NO_RESTRICTIONS
    secrets: tuple[StoredSecret, ...] = field(default=(), repr=False)
    jwks: Mapping[str, Any] | None = field(default=None, repr=False)
    rotated: datetime | None = None
    revoked: datetime | None = None

    @property
    def principal(self) -> Principal:
        """What the client may do as long as it is not revoked."""
        return Principal(self.tenant, self.scopes, self.id, self.restrictions, "client")

    @property
    def state(self) -> str:
        """`active` or `revoked`."""
        return "active" if self.revoked is None else "revoked"

    @property
    def uses_oauth1(self) -> bool:
        """Whether the client may sign its requests (OAuth 1.0a)."""
        return any(kept.sealed for kept in self.secrets)

    def has_secret(self, secret: str, moment: datetime) -> bool:
        """Whether the text is a secret of this client that is valid at that moment."""
        digest = _hashed(secret)
        # All are compared, also after one that matched.
        same = [compare_digest(digest, kept.sha256) and kept.valid_at(moment) for kept in self.secrets or (NO_SECRET,)]
        return any(same)

    def to_dict(self) -> dict[str, Any]:
        """The JSON object that is stored; moments in UTC with milliseconds, null where nothing happened."""
        return {
            "id": self.id,
            "label": self.label,
            "tenant": self.tenant,
            "scopes": sort_scopes(self.scopes),
            "limits": self.restrictions.to_dict(),
            "created": _written(self.created),
            "secrets": [kept.to_dict() for kept in self.secrets],
            "jwks": self.jwks,
            "rotated": _written(self.rotated),
            "revoked": _written(self.revoked),
        }

    def public_dict(self) -> dict[str, Any]:
        """The JSON object for an operator: what is stored but for hashes and keys, and how the client signs in."""
        stored = self.to_dict()
        hidden = ("secrets", "jwks")
        auth = "private_key_jwt" if self.jwks is not None else "client_secret"
        return {name: stored[name] for name in stored if name not in hidden} | {
            "auth": auth,
            "oauth1": self.uses_oauth1,
            "state": self.state,
        }

    def to_record(self) -> Record:
        """The record in the collection `clients`, under the client's id."""
        return Record(self.id, orjson.dumps(self.to_dict()), {"tenant": self.tenant})

    @classmethod
    def parse(cls, body: bytes) -> OAuthClient:
        """The client that a stored body describes."""
        return cls.from_dict(orjson.loads(body))

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> OAuthClient:
        """The client that a stored object describes; members that an earlier version did not write may be missing."""
        return cls(
            id=data["id"],
            label=data["label"],
            tenant=data["tenant"],
            scopes=frozenset(data["scopes"]),
            created=datetime.fromisoformat(data["created"]),
            restrictions=AccessRestrictions.from_dict(data.get("limits")),
            secrets=tuple(map(StoredSecret.from_dict, data.get("secrets", ()))),
            jwks=data.get("jwks"),
            rotated=_read(data.get("rotated")),
            revoked=_read(data.get("revoked")),
        )


def _hashed(secret: str) -> str:
    return sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()


def _written(moment: datetime | None) -> str | None:
    if moment is None:
        return None
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _read(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)
