"""Stored form of OAuth clients, which contains no readable secret."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from hashlib import sha256
from hmac import compare_digest
from typing import Any, Self

from chalk_flask.auth.credential import RevocableCredential
from chalk_flask.permissions.principal import Principal
from chalk_flask.permissions.scopes import sort_scopes
from chalk_flask.times import format_timestamp, parse_timestamp

__all__ = ["OAuthClient", "StoredSecret"]


@dataclass(frozen=True, slots=True)
class StoredSecret:
    """Stored form of a client secret.

    `sha256` is in hexadecimal digits. `valid_until` is the end of the overlap after a rotation, or None. `ciphertext`
    is the secret itself, encrypted with the `SecretCipher`: verifying a signature of OAuth 1.0a requires it.
    """

    # A slow hash protects secrets that people choose. These secrets are 256 random bits, which cannot be guessed. So a
    # fast hash is safe, and keeps token requests fast.
    sha256: str = field(repr=False)
    valid_until: datetime | None = None
    ciphertext: str | None = field(default=None, repr=False)

    @classmethod
    def from_text(cls, secret: str, encrypted: str | None = None) -> Self:
        """Return the stored form of a new secret."""
        return cls(_hash(secret), ciphertext=encrypted)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """Return the secret that a stored object describes."""
        return cls(data["sha256"], parse_timestamp(data.get("until")), data.get("sealed"))

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON object that is stored."""
        encrypted = {} if self.ciphertext is None else {"sealed": self.ciphertext}
        return {"sha256": self.sha256, "until": format_timestamp(self.valid_until)} | encrypted

    def is_valid_at(self, time: datetime) -> bool:
        """Return True if the secret is not expired at that time."""
        return self.valid_until is None or time < self.valid_until


# Substitute for a client without a secret, so that the duration of a comparison reveals nothing about the client.
_NO_SECRET = StoredSecret("-" * 64)


@dataclass(frozen=True, slots=True, kw_only=True)
class OAuthClient(RevocableCredential):
    """OAuth client of a tenant. It authenticates with a secret, or with a key whose public part is in `jwks`.

    `secrets` is sorted newest first; the former secrets are valid during the overlap of a rotation. `last_used` is when
    the client last obtained an access token or signed a request, up to a minute before.
    """

    secrets: tuple[StoredSecret, ...] = field(default=(), repr=False)
    jwks: Mapping[str, Any] | None = field(default=None, repr=False)
    rotated: datetime | None = None
    last_used: datetime | None = None

    @property
    def principal(self) -> Principal:
        """Principal of the client while it is not revoked, before the rules of the tenant."""
        return Principal(self.tenant, self.scopes, self.id, self.restrictions, "client")

    @property
    def state(self) -> str:
        """State of the client: `active` or `revoked`."""
        return "active" if self.revoked is None else "revoked"

    @property
    def uses_oauth1(self) -> bool:
        """True if the client can sign its requests (OAuth 1.0a)."""
        return any(secret.ciphertext for secret in self.secrets)

    def verify_secret(self, text: str, time: datetime) -> bool:
        """Return True if the text is a secret of this client that is valid at that time."""
        text_hash = _hash(text)
        # Compare all secrets, even after a match, so that the duration is always the same.
        matches = [
            compare_digest(text_hash, secret.sha256) and secret.is_valid_at(time)
            for secret in self.secrets or (_NO_SECRET,)
        ]
        return any(matches)

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON object that is stored; times are text in UTC with milliseconds."""
        return {
            "id": self.id,
            "label": self.label,
            "tenant": self.tenant,
            "scopes": sort_scopes(self.scopes),
            "limits": self.restrictions.to_dict(),
            "created": format_timestamp(self.created),
            "secrets": [secret.to_dict() for secret in self.secrets],
            "jwks": self.jwks,
            "rotated": format_timestamp(self.rotated),
            "revoked": format_timestamp(self.revoked),
            "lastUsed": format_timestamp(self.last_used),
        }

    def public_dict(self) -> dict[str, Any]:
        """Return the JSON object for an operator: without hashes and keys, with the method of authentication."""
        stored = self.to_dict()
        hidden = ("secrets", "jwks")
        auth = "private_key_jwt" if self.jwks is not None else "client_secret"
        return {name: stored[name] for name in stored if name not in hidden} | {
            "auth": auth,
            "oauth1": self.uses_oauth1,
            "state": self.state,
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """Return the client that a stored object describes. Objects of earlier versions may lack some members."""
        return cls(
            **cls._common_arguments(data),
            secrets=tuple(map(StoredSecret.from_dict, data.get("secrets", ()))),
            jwks=data.get("jwks"),
            rotated=parse_timestamp(data.get("rotated")),
            revoked=parse_timestamp(data.get("revoked")),
            last_used=parse_timestamp(data.get("lastUsed")),
        )


def _hash(secret: str) -> str:
    return sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()
