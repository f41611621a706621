"""Stored form of administrators."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Self

import orjson

from backends import CONTROL, Record
from chalk_flask.admins.roles import Role
from chalk_flask.notices import MailPreferences
from chalk_flask.storage import checked_members
from chalk_flask.times import format_timestamp, parse_timestamp

__all__ = ["COLLECTION", "Administrator", "AdministratorError", "fold_name", "parse_name"]

COLLECTION = "administrators"

_NAME = re.compile(r"[a-z0-9._@+-]{3,64}")


class AdministratorError(Exception):
    """Rejected change of an administrator. The message contains the reason and a remedy, but no name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Administrator:
    """Person who signs in to the console, for one tenant or (`tenant` None) as an operator for all tenants.

    `name` is the sign-in name. `totp_secret` is encrypted. `totp_last_step` is the time step of the last accepted code.
    `recovery_codes` are the hashes of the unused codes.

    An external administrator signs in with the account `subject` of the identity provider `issuer`, and `password_hash`
    is "". `access_digest` identifies the settings that gave the access.
    """

    id: str
    name: str
    tenant: str | None
    role: Role
    created: datetime
    password_hash: str = field(repr=False)
    password_changed: datetime | None = None
    last_sign_in: datetime | None = None
    totp_secret: str | None = field(default=None, repr=False)
    totp_last_step: int | None = field(default=None, repr=False)
    recovery_codes: tuple[str, ...] = field(default=(), repr=False)
    issuer: str | None = None
    subject: str | None = None
    access_digest: str | None = None
    mail: MailPreferences = field(default=MailPreferences(), repr=False)

    @property
    def is_operator(self) -> bool:
        """True if the administrator has access to all tenants."""
        return self.tenant is None

    @property
    def uses_totp(self) -> bool:
        """True if signing in requires a one-time code."""
        return self.totp_secret is not None

    @property
    def is_external(self) -> bool:
        """True if the administrator signs in with an identity provider, and has no password."""
        return self.issuer is not None

    @property
    def audit_tenant(self) -> str:
        """Tenant that stores the audit events about this administrator."""
        return CONTROL if self.tenant is None else self.tenant

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON object for output, without secrets and hashes."""
        return {
            "id": self.id,
            "name": self.name,
            "tenant": self.tenant,
            "role": self.role,
            "totp": self.uses_totp,
            "issuer": self.issuer,
            "created": format_timestamp(self.created),
            "passwordChanged": format_timestamp(self.password_changed),
            "lastSignIn": format_timestamp(self.last_sign_in),
            "mail": self.mail.to_dict(),
        }

    def to_record(self) -> Record:
        """Return the record for the collection `administrators`; its key is the id."""
        data = {
            **self.to_dict(),
            "passwordHash": self.password_hash,
            "totpSecret": self.totp_secret,
            "totpLastStep": self.totp_last_step,
            "recoveryCodes": list(self.recovery_codes),
            "subject": self.subject,
            "accessDigest": self.access_digest,
        }
        return Record(self.id, orjson.dumps(data), {"name": self.name, "tenant": self.tenant})

    @classmethod
    def parse(cls, body: bytes) -> Self:
        """Return the administrator of a stored body."""
        return cls._from_dict(orjson.loads(body))

    @classmethod
    def parse_many(cls, bodies: bytes) -> Iterator[Self]:
        """Return the administrators of the stored bodies, which commas separate."""
        return map(cls._from_dict, orjson.loads(b"[%s]" % bodies))

    @classmethod
    def _from_dict(cls, data: Mapping[str, Any]) -> Self:
        with checked_members("administrator"):
            return cls._of_members(data)

    @classmethod
    def _of_members(cls, data: Mapping[str, Any]) -> Self:
        return cls(
            id=data["id"],
            name=data["name"],
            tenant=data["tenant"],
            role=data["role"],
            created=parse_timestamp(data["created"]),
            password_hash=data["passwordHash"],
            password_changed=parse_timestamp(data["passwordChanged"]),
            last_sign_in=parse_timestamp(data["lastSignIn"]),
            totp_secret=data["totpSecret"],
            totp_last_step=data["totpLastStep"],
            recovery_codes=tuple(data["recoveryCodes"]),
            # Stores of earlier versions have no external administrators and no mail preferences.
            issuer=data.get("issuer"),
            subject=data.get("subject"),
            access_digest=data.get("accessDigest"),
            mail=MailPreferences.from_dict(data.get("mail")),
        )


def fold_name(name: str) -> str:
    """Return a sign-in name without surrounding blanks and in lower case, as names are stored and compared."""
    return name.strip().lower()


def parse_name(name: str) -> str:
    """Return a new sign-in name as it is stored. Raises AdministratorError for an invalid name."""
    folded = fold_name(name)
    if not _NAME.fullmatch(folded):
        raise AdministratorError(
            f"invalid name of {len(folded)} characters: use 3 to 64 letters (a to z), digits, '.', '_', '@', '+', '-'"
        )
    return folded
