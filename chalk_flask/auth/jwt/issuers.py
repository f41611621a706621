"""Trusted issuers: whose JWTs are taken for bearer tokens, for which audience, in which tenant, and for how much.

An issuer and an audience lead to one tenant at most, so that a token never has to say which tenant it means.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import orjson

from backends import MATCH_ALL, Backend, Compare, Query, Record, Snapshot
from chalk_flask.audit.log import AuditLog
from chalk_flask.auth.jwt.jwks import MAX_JWKS_BYTES, InvalidKeySetError, parse_jwk_set, validate_jwks_url
from chalk_flask.permissions.principal import Principal
from chalk_flask.permissions.restrictions import NO_RESTRICTIONS, AccessRestrictions
from chalk_flask.permissions.scopes import sort_scopes
from chalk_flask.tenants.store import CONTROL, DEFAULT_TENANT, find_audit_tenant, find_tenant
from chalk_flask.times import utc_now

__all__ = ["COLLECTION", "IssuerError", "IssuerStore", "TrustedIssuer", "find_trusted"]

COLLECTION = "issuers"

_LABEL = 200
_NAME = re.compile(r"[!-~]{1,1000}")
_OURS = "urn:chalk-flask:"


class IssuerError(Exception):
    """An issuer cannot be trusted or removed as asked; the message says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrustedIssuer:
    """An issuer as its operator sees it: tokens of `issuer` for `audience` open `tenant`, for `scopes` at most.

    Its public keys are either at `jwks_url` or in `keys`, the JSON text of a JWK Set. With `replay` each token is good
    for one request.
    """

    id: str
    issuer: str
    audience: str
    tenant: str
    scopes: frozenset[str]
    created: datetime
    label: str = ""
    jwks_url: str | None = None
    keys: str | None = None
    replay: bool = False
    restrictions: AccessRestrictions = NO_RESTRICTIONS

    def principal(self, scopes: frozenset[str]) -> Principal:
        """What a token of this issuer with these scopes lets its bearer do as long as it is valid."""
        return Principal(self.tenant, scopes, self.id, self.restrictions, credential_type="issuer")

    def to_dict(self) -> dict[str, Any]:
        """The JSON object that is stored and shown; the keys are public ones."""
        return {
            "id": self.id,
            "label": self.label,
            "tenant": self.tenant,
            "iss": self.issuer,
            "aud": self.audience,
            "scopes": sort_scopes(self.scopes),
            "limits": self.restrictions.to_dict(),
            "jwksUrl": self.jwks_url,
            "jwks": None if self.keys is None else orjson.loads(self.keys),
            "replay": self.replay,
            "created": self.created.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        }

    def to_record(self) -> Record:
        """The record in the collection `issuers`, under its id."""
        return Record(self.id, orjson.dumps(self.to_dict()), {"tenant": self.tenant, "issuer": self.issuer})

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> TrustedIssuer:
        """The issuer that a stored object describes."""
        return cls(
            id=data["id"],
            label=data["label"],
            tenant=data["tenant"],
            issuer=data["iss"],
            audience=data["aud"],
            scopes=frozenset(data["scopes"]),
            restrictions=AccessRestrictions.from_dict(data.get("limits")),
            jwks_url=data["jwksUrl"],
            keys=None if data["jwks"] is None else orjson.dumps(data["jwks"]).decode(),
            replay=data["replay"],
            created=datetime.fromisoformat(data["created"]),
        )


class IssuerStore:
    """The trusted issuers of a store."""

    def __init__(self, store: Backend, now: Callable[[], datetime] = utc_now) -> None:
        self._store = store
        self._now = now
        self._audit = AuditLog(store, find_audit_tenant, now)

    def add(
        self,
        issuer: str,
        audience: str,
        scopes: Iterable[str],
        tenant: str = DEFAULT_TENANT,
        *,
        jwks_url: str | None = None,
        jwks: bytes | None = None,
        replay: bool = False,
        label: str = "",
        limits: AccessRestrictions = NO_RESTRICTIONS,
    ) -> TrustedIssuer:
        """Trust an issuer, whose keys are at `jwks_url` or in the JWK Set `jwks`; one of the two must be given.

        Raises IssuerError for what will not do, and for an issuer and audience that are trusted already.
        """
        record = TrustedIssuer(
            id=secrets.token_hex(8),
            issuer=_checked_name("issuer", issuer),
            audience=_checked_name("audience", audience),
            tenant=tenant,
            scopes=frozenset(scopes),
            created=self._now(),
            label=_checked_label(label),
            jwks_url=_checked_address(jwks_url),
            keys=None if jwks is None else _checked_keys(jwks),
            replay=replay,
            restrictions=limits,
        )
        if (record.jwks_url is None) == (record.keys is None):
            raise IssuerError("an issuer's keys are either at an address or in a file: give one of the two")
        self._keep_new(record)
        self._audit.record(tenant, "issuer.added", id=record.id, label=record.label, scopes=sort_scopes(record.scopes))
        return record

    def list(self, tenant: str | None = None) -> Sequence[TrustedIssuer]:
        """The issuers of a tenant, or of every one, the oldest first."""
        where = MATCH_ALL if tenant is None else Compare("tenant", "=", tenant)
        with self._store.read(CONTROL) as snapshot:
            body = snapshot.find(Query(COLLECTION, where)).body()
        records = map(TrustedIssuer.from_dict, orjson.loads(b"[%s]" % body))
        return sorted(records, key=lambda record: (record.created, record.id))

    def remove(self, id: str) -> TrustedIssuer:  # noqa: A002 - what it is called everywhere
        """Trust an issuer no longer, in every process within a second. Raises IssuerError for an unknown id."""
        with self._store.write(CONTROL) as transaction:
            body = transaction.get_many(COLLECTION, [id]).get(id)
            if body is None:
                raise IssuerError(f"there is no issuer with the id {id!r}; `issuer list` shows those there are")
            transaction.delete(COLLECTION, [id])
        record = TrustedIssuer.from_dict(orjson.loads(body))
        self._audit.record(record.tenant, "issuer.removed", id=record.id, label=record.label)
        return record

    def _keep_new(self, record: TrustedIssuer) -> None:
        with self._store.write(CONTROL) as transaction:
            if find_tenant(transaction, record.tenant) is None:
                raise IssuerError(f"there is no tenant {record.tenant!r}")
            for known in find_trusted(transaction, record.issuer, [record.audience]):
                raise IssuerError(
                    f"tokens of {record.issuer} for {record.audience} are trusted already, as {known.id} for the"
                    f" tenant {known.tenant}; remove that one first, or agree on another audience"
                )
            transaction.put(COLLECTION, [record.to_record()])


def find_trusted(control: Snapshot, issuer: str, audiences: Iterable[str]) -> list[TrustedIssuer]:
    """The records for tokens of that issuer for any of these audiences, from a snapshot of CONTROL."""
    body = control.find(Query(COLLECTION, Compare("issuer", "=", issuer))).body()
    wanted = frozenset(audiences)
    records = map(TrustedIssuer.from_dict, orjson.loads(b"[%s]" % body))
    return [record for record in records if record.issuer == issuer and record.audience in wanted]


def _checked_name(what: str, text: str) -> str:
    if not _NAME.fullmatch(text):
        raise IssuerError(f"{text!r} is not an {what}: 1 to 1000 ASCII characters without blanks, as tokens have it")
    if text.startswith(_OURS):
        raise IssuerError(f"{text!r} is not an {what}: names that begin with {_OURS} are those of this service")
    return text


def _checked_label(text: str) -> str:
    label = text.strip()
    if len(label) > _LABEL or not label.isprintable():
        raise IssuerError(f"a label is a line of up to {_LABEL} printable characters that says who the issuer is")
    return label


def _checked_address(url: str | None) -> str | None:
    try:
        return None if url is None else validate_jwks_url(url).geturl()
    except InvalidKeySetError as error:
        raise IssuerError(str(error)) from error


def _checked_keys(text: bytes) -> str:
    if len(text) > MAX_JWKS_BYTES:
        raise IssuerError(f"a key set has {MAX_JWKS_BYTES} bytes at most")
    try:
        return orjson.dumps(parse_jwk_set(text, strict=True).to_dict()).decode()
    except InvalidKeySetError as error:
        raise IssuerError(str(error)) from error
