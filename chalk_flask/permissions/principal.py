"""Principal: the authenticated caller and what it may do."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from chalk_flask.permissions.restrictions import NO_RESTRICTIONS, AccessRestrictions

__all__ = ["Principal"]


@dataclass(frozen=True, slots=True)
class Principal:
    """What a valid credential lets its bearer do: in which tenant, with which scopes, within which limits.

    `id` names the token, client or issuer, for logs; `way` says which of them it is.
    """

    tenant: str
    scopes: frozenset[str]
    credential_id: str
    restrictions: AccessRestrictions = NO_RESTRICTIONS
    credential_type: Literal["token", "client", "issuer"] = "token"
