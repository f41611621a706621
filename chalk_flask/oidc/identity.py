"""Identity of a user, from the claims of a verified ID token."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from chalk_flask.oidc.oidc_settings import OidcSettings
from chalk_flask.settings.sign_in_rules import DOMAIN, AccessRule

__all__ = ["Identity", "identify"]

MAX_EMAIL_LENGTH = 254


@dataclass(frozen=True, slots=True)
class Identity:
    """Account of a user at an identity provider: `issuer` and `subject` identify it, and never change.

    `domain` is the domain of the e-mail address, or None if the provider has not verified it. `account_name` is what
    administrators recognize the account by, or "". It can change, and decides about nothing.
    """

    issuer: str
    subject: str
    domain: str | None
    account_name: str = field(repr=False)
    claims: Mapping[str, Any] = field(repr=False)

    def matches(self, rule: AccessRule) -> bool:
        """Return True if the claim of the rule is, or as a list contains, the value of the rule."""
        if rule.claim == DOMAIN:
            return rule.value == self.domain
        found = self.claims.get(rule.claim)
        values = found if isinstance(found, list) else [found]
        return any(_to_text(value) == rule.value for value in values)


def identify(settings: OidcSettings, claims: Mapping[str, Any]) -> Identity:
    """Return the identity of a user. The claims are those of a verified ID token and of its userinfo response."""
    email = claims.get("email")
    is_email = isinstance(email, str) and len(email) <= MAX_EMAIL_LENGTH and email.count("@") == 1
    is_verified = is_email and _is_email_verified(settings, claims)
    name = claims.get("preferred_username") if settings.is_microsoft else email if is_verified else None
    return Identity(
        issuer=settings.issuer,
        subject=claims["sub"],
        domain=str(email).partition("@")[2].lower() if is_verified else None,
        account_name=name if isinstance(name, str) else "",
        claims=claims,
    )


def _is_email_verified(settings: OidcSettings, claims: Mapping[str, Any]) -> bool:
    """Return True if the provider has verified that the user's organization owns the domain of the e-mail address.

    A private Google account can have an e-mail address of any domain: `hd` names the organization that manages it. The
    e-mail address of a Microsoft account is free text unless `xms_edov` is true (Microsoft Entra, optional claims).
    """
    if settings.is_microsoft:
        return _is_true(claims.get("xms_edov"))
    is_managed = not settings.is_google or isinstance(claims.get("hd"), str)
    return is_managed and _is_true(claims.get("email_verified"))


def _is_true(value: object) -> bool:
    # Some providers send text in place of a boolean, and Microsoft sends "1".
    return value is True or value in ("true", "1")


def _to_text(value: object) -> str | None:
    match value:
        case bool():
            return str(value).lower()
        case str() | int():
            return str(value)
        case _:
            return None
