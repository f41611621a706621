"""Principal: the authenticated caller and its permissions."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from chalk_flask.permissions.restrictions import NO_RESTRICTIONS, AccessRestrictions

__all__ = ["Principal"]


@dataclass(frozen=True, slots=True)
class Principal:
    """Authenticated caller: its tenant, scopes and access restrictions, and the credential that it used.

    `credential_id` is the id of an API token, an OAuth client or a trusted issuer, as `credential_type` states. For a
    page of the console, it is the id of the administrator.
    """

    tenant: str
    scopes: frozenset[str]
    credential_id: str
    restrictions: AccessRestrictions = NO_RESTRICTIONS
    credential_type: Literal["token", "client", "issuer", "administrator"] = "token"

    @property
    def is_restricted(self) -> bool:
        """True if the credential has access restrictions.

        A denial of demographics does not count, because each tenant without the opt-in adds it.
        """
        denied = self.restrictions.denied - {"demographics"}
        return replace(self.restrictions, denied=denied) != NO_RESTRICTIONS
