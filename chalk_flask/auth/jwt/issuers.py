"""Store of trusted issuers. A trusted issuer defines audience, tenant and scopes of the JWTs that are accepted from it.

A pair of issuer and audience belongs to one tenant only, so a token never has to name its tenant (docs/conformance,
J-03).
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Self

import orjson

from backends import Compare, Query, Snapshot
from chalk_flask.auth.credential import Credential
from chalk_flask.auth.credential_store import CredentialStore
from chalk_flask.auth.jwt.jwks import MAX_JWKS_BYTES, InvalidKeySetError, parse_jwk_set, validate_jwks_url
from chalk_flask.permissions.principal import Principal
from chalk_flask.permissions.restrictions import NO_RESTRICTIONS, AccessRestrictions
from chalk_flask.permissions.scopes import sort_scopes
from chalk_flask.tenants.store import CONTROL, DEFAULT_TENANT
from chalk_flask.times import format_timestamp

__all__ = ["COLLECTION", "IssuerError", "IssuerStore", "TrustedIssuer", "find_trusted"]

COLLECTION = "issuers"

RESERVED_PREFIX = "urn:chalk-flask:"

_NAME = re.compile(r"[!-~]{1,1000}")


class IssuerError(Exception):
    """Error of adding or removing an issuer; the message contains the reason and a remedy."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrustedIssuer(Credential):
    """Trusted issuer: its JWTs for `audience` are accepted in `tenant`, with at most `scopes`.

    Its public keys are at `jwks_url` or in `jwks`, the text of a JWK Set. With `single_use` a JWT is accepted once.
    """

    issuer: str
    audience: str
    jwks_url: str | None = None
    jwks: str | None = None
    single_use: bool = False

    def principal(self, scopes: frozenset[str]) -> Principal:
        """Return the principal of a valid JWT of this issuer with these scopes, before the rules of the tenant."""
        return Principal(self.tenant, scopes, self.id, self.restrictions, credential_type="issuer")

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON object that is stored and shown; it contains public keys only."""
        return {
            "id": self.id,
            "label": self.label,
            "tenant": self.tenant,
            "iss": self.issuer,
            "aud": self.audience,
            "scopes": sort_scopes(self.scopes),
            "limits": self.restrictions.to_dict(),
            "jwksUrl": self.jwks_url,
            "jwks": None if self.jwks is None else orjson.loads(self.jwks),
            "replay": self.single_use,
            "created": format_timestamp(self.created),
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """Return the issuer that a stored object describes."""
        return cls(
            **cls._common_arguments(data),
            issuer=data["iss"],
            audience=data["aud"],
            jwks_url=data["jwksUrl"],
            jwks=None if data["jwks"] is None else orjson.dumps(data["jwks"]).decode(),
            single_use=data["replay"],
        )

    def _indexed_values(self) -> dict[str, str]:
        return {"tenant": self.tenant, "issuer": self.issuer}


class IssuerStore(CredentialStore[TrustedIssuer]):
    """Trusted issuers of a store. Thread-safe."""

    collection = COLLECTION
    kind = "issuer"
    error = IssuerError
    credential_class = TrustedIssuer

    def add(
        self,
        issuer: str,
        audience: str,
        scopes: Iterable[str],
        tenant: str = DEFAULT_TENANT,
        *,
        jwks_url: str | None = None,
        jwks: bytes | None = None,
        single_use: bool = False,
        label: str = "",
        restrictions: AccessRestrictions = NO_RESTRICTIONS,
    ) -> TrustedIssuer:
        """Trust an issuer. Its keys are at `jwks_url` or in the JWK Set `jwks`; exactly one of them is required.

        Raises IssuerError for an invalid argument, and for an issuer and audience that are already trusted.
        """
        if (jwks_url is None) == (jwks is None):
            raise IssuerError("the keys of an issuer are required: give either their URL or a file")
        record = TrustedIssuer(
            id=secrets.token_hex(8),
            issuer=_validate_name("issuer", issuer),
            audience=_validate_name("audience", audience),
            tenant=tenant,
            scopes=frozenset(scopes),
            created=self._now(),
            label=self._parse_label(label, required=False),
            jwks_url=None if jwks_url is None else _validate_url(jwks_url),
            jwks=None if jwks is None else _validate_keys(jwks),
            single_use=single_use,
            restrictions=restrictions,
        )
        self._insert(record)
        return record

    def remove(self, issuer_id: str) -> TrustedIssuer:
        """Stop trusting an issuer, in every process within a second, and return it.

        Raises IssuerError for an unknown id.
        """
        with self._store.write(CONTROL) as transaction:
            key, record = self._find(transaction, issuer_id)
            transaction.delete(COLLECTION, [key])
            self._record(transaction, "issuer.removed", record)
        return record

    def _insert(self, record: TrustedIssuer) -> None:
        with self._store.write(CONTROL) as transaction:
            self._require_tenant(transaction, record.tenant)
            for trusted in find_trusted(transaction, record.issuer, [record.audience]):
                raise IssuerError(
                    f"tokens of {record.issuer} for {record.audience} are already trusted, as {trusted.id} for the"
                    f" tenant {trusted.tenant}: remove that issuer first, or agree on another audience"
                )
            transaction.put(COLLECTION, [record.to_record(record.id)])
            self._record_created(transaction, "issuer.added", record)


def find_trusted(control: Snapshot, issuer: str, audiences: Iterable[str]) -> list[TrustedIssuer]:
    """Return the trusted issuers of this name for any of the audiences, from a snapshot of the control tenant."""
    records = TrustedIssuer.parse_many(control.find(Query(COLLECTION, Compare("issuer", "=", issuer))).body())
    accepted = frozenset(audiences)
    return [record for record in records if record.issuer == issuer and record.audience in accepted]


def _validate_name(claim: str, text: str) -> str:
    if not _NAME.fullmatch(text):
        raise IssuerError(f"invalid {claim} {text!r}: it must be 1 to 1000 ASCII characters without spaces")
    if text.startswith(RESERVED_PREFIX):
        raise IssuerError(f"invalid {claim} {text!r}: names that begin with {RESERVED_PREFIX} are reserved")
    return text


def _validate_url(url: str) -> str:
    try:
        return validate_jwks_url(url).geturl()
    except InvalidKeySetError as error:
        raise IssuerError(str(error)) from error


def _validate_keys(text: bytes) -> str:
    if len(text) > MAX_JWKS_BYTES:
        raise IssuerError(f"the key set is too large: it has {len(text)} bytes, at most {MAX_JWKS_BYTES} are allowed")
    try:
        return orjson.dumps(parse_jwk_set(text, strict=True).to_dict()).decode()
    except InvalidKeySetError as error:
        raise IssuerError(str(error)) from error
