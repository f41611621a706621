"""Rules for sign-in with an identity provider: its issuer, the accepted domains, and who gets which access."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

from chalk_flask.https.url import InvalidUrlError, UrlCredentialsError, parse_url

__all__ = [
    "DOMAIN",
    "AccessRule",
    "parse_access_rules",
    "parse_domains",
    "validate_access_rules",
    "validate_domains",
    "validate_issuer",
]

DOMAIN = "domain"
"""Name that a rule uses for the verified domain of the e-mail address, which is not a claim."""

# Claims that contain an e-mail address or a name: the user can change them at many providers.
_FORBIDDEN_CLAIMS = ("email", "upn", "unique_name", "preferred_username", "name", "nickname")
_MICROSOFT_HOSTS = ("login.microsoftonline.com", "login.microsoftonline.us", "login.partner.microsoftonline.cn")

# Equal to `admins.roles.ROLES`, which is in a higher layer.
_ROLES = "viewer|editor|owner"
# A claim can be a URL, as Auth0 requires it. The value can contain colons and equals signs.
_RULE = re.compile(rf"((?:https?://)?[^\s:=,*]+):([^,]+)=\s*([^\s:=,*]+|\*):({_ROLES})")
_DOMAIN_NAME = re.compile(r"(?:[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z0-9-]{2,63}")
_GUID = re.compile(r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")


@dataclass(frozen=True, slots=True)
class AccessRule:
    """Rule that gives users whose `claim` is or contains `value` a role in a tenant (None: in all, as operators).

    `text` is the rule as it was configured, in its usual form.
    """

    claim: str
    value: str
    tenant: str | None
    role: str

    @property
    def text(self) -> str:
        """The rule in the form in which it is configured."""
        return f"{self.claim}:{self.value}={self.tenant or '*'}:{self.role}"


def parse_access_rules(text: str) -> Sequence[AccessRule]:
    """Return the rules of a comma-separated list. Raises ValueError, whose message quotes the invalid rule."""
    return tuple(map(_parse_rule, _entries(text)))


def parse_domains(text: str) -> frozenset[str]:
    """Return the domains of a comma-separated list, in lower case. Raises ValueError, which quotes the invalid one."""
    domains = frozenset(entry.lower() for entry in _entries(text))
    for domain in sorted(domains):
        if not _DOMAIN_NAME.fullmatch(domain):
            raise ValueError(f"{domain!r} is not a domain")
    return domains


def validate_access_rules(value: str) -> str | None:
    """Return None for valid rules, otherwise the rule that continues "it must be"."""
    try:
        parse_access_rules(value)
    except ValueError as error:
        return f"a comma-separated list such as domain:example.org=default:viewer: {error}"
    return None


def validate_domains(value: str) -> str | None:
    """Return None for a valid list of domains, otherwise the rule."""
    try:
        parse_domains(value)
    except ValueError as error:
        return f"a comma-separated list of domains such as example.org: {error}"
    return None


def validate_issuer(value: str) -> str | None:
    """Return None for an empty text or the URL of an issuer, otherwise the rule."""
    if not value:
        return None
    try:
        parts = parse_url(value)
    except UrlCredentialsError:
        return "the URL of an identity provider without a name and a password"
    except InvalidUrlError:
        return "the https:// URL of an identity provider, such as https://accounts.google.com, or empty"
    if parts.query:
        return "the URL of an identity provider without a query"
    if is_microsoft(value) and not _GUID.fullmatch(parts.path.split("/")[1] if parts.path else ""):
        return (
            "https://login.microsoftonline.com/ with the directory (tenant) ID of your organization and /v2.0; "
            "common, organizations and consumers accept accounts of other organizations"
        )
    return None


def is_microsoft(issuer: str) -> bool:
    """Return True for the issuer of a directory of Microsoft Entra."""
    return urlsplit(issuer).hostname in _MICROSOFT_HOSTS


def _entries(text: str) -> list[str]:
    return [entry for entry in map(str.strip, text.split(",")) if entry]


def _parse_rule(text: str) -> AccessRule:
    match = _RULE.fullmatch(text)
    if match is None:
        raise ValueError(f"{text!r} is not a rule CLAIM:VALUE=TENANT:ROLE; TENANT * is an operator, ROLE {_ROLES}")
    claim, value, tenant, role = match.groups()
    if claim in _FORBIDDEN_CLAIMS:
        raise ValueError(f"the claim {claim} cannot decide about access, because users can change it: use another one")
    value = value.strip().lower() if claim == DOMAIN else value.strip()
    if claim == DOMAIN and not _DOMAIN_NAME.fullmatch(value):
        raise ValueError(f"{value!r} is not a domain")
    return AccessRule(claim, value, None if tenant == "*" else tenant, role)
