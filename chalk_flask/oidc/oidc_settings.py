"""Settings of the sign-in with an identity provider, in the form that the client uses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Self
from urllib.parse import urlsplit

from chalk_flask.settings import Settings, SettingsError
from chalk_flask.settings.sign_in_rules import (
    DOMAIN,
    AccessRule,
    is_microsoft,
    parse_access_rules,
    parse_domains,
)

__all__ = ["GOOGLE", "OidcSettings"]

GOOGLE = "https://accounts.google.com"
REQUIRED = ("oidc_issuer", "oidc_client_id", "oidc_client_secret", "oidc_access")
"""Names of the settings that are required together."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OidcSettings:
    """Identity provider, the registration of this service there, and who gets which access.

    If `domains` is empty, accounts of every domain are accepted. The first of the `rules` that matches decides.
    """

    issuer: str
    client_id: str
    client_secret: str = field(repr=False)
    label: str = ""
    domains: frozenset[str] = frozenset()
    rules: Sequence[AccessRule] = ()

    @classmethod
    def of(cls, settings: Settings) -> Self:
        """Return the settings of the identity provider. Raises SettingsError if a required one is missing."""
        required = {name: str(getattr(settings, name)) for name in REQUIRED}
        missing = [name for name, value in required.items() if not value]
        if missing:
            raise SettingsError(
                f"sign-in with an identity provider requires {' and '.join(missing)}: set it, or remove all settings"
                " whose names begin with oidc_"
            )
        return cls(
            issuer=settings.oidc_issuer,
            client_id=settings.oidc_client_id,
            client_secret=settings.oidc_client_secret,
            label=settings.oidc_label,
            domains=parse_domains(settings.oidc_domains),
            rules=parse_access_rules(settings.oidc_access),
        )

    @property
    def is_google(self) -> bool:
        """True for accounts of Google."""
        return self.issuer == GOOGLE

    @property
    def is_microsoft(self) -> bool:
        """True for accounts of a directory of Microsoft Entra."""
        return is_microsoft(self.issuer)

    @property
    def name(self) -> str:
        """Name of the provider for administrators."""
        if self.label:
            return self.label
        known = "Google" if self.is_google else "Microsoft" if self.is_microsoft else ""
        return known or urlsplit(self.issuer).hostname or self.issuer

    @property
    def claims(self) -> frozenset[str]:
        """Names of the claims that decide about access, without the domain."""
        return frozenset(rule.claim for rule in self.rules) - {DOMAIN, "sub"}

    @property
    def needs_domain(self) -> bool:
        """True if access depends on the domain of the e-mail address."""
        return bool(self.domains) or any(rule.claim == DOMAIN for rule in self.rules)
