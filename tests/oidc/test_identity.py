"""Identities: when the domain of an e-mail address is verified, and which rules an identity matches."""

from __future__ import annotations

from typing import Any

import pytest

from chalk_flask.oidc import Identity, OidcSettings
from chalk_flask.oidc.identity import identify
from chalk_flask.oidc.oidc_settings import GOOGLE
from chalk_flask.settings.sign_in_rules import parse_access_rules

MICROSOFT = "https://login.microsoftonline.com/11111111-2222-3333-4444-555555555555/v2.0"
OTHER = "https://id.example.org"


def settings(issuer: str, label: str = "") -> OidcSettings:
    return OidcSettings(issuer=issuer, client_id="id", client_secret="hush", label=label)


def identity(issuer: str = OTHER, **claims: Any) -> Identity:
    return identify(settings(issuer), {"sub": "user-1", **claims})


@pytest.mark.parametrize(
    ("issuer", "claims", "domain"),
    [
        (OTHER, {"email_verified": True}, "example.org"),
        (OTHER, {"email_verified": "true"}, "example.org"),
        (OTHER, {"email_verified": False}, None),
        (OTHER, {"email_verified": "false"}, None),
        (OTHER, {"email_verified": ["true"]}, None),
        (OTHER, {}, None),
        (GOOGLE, {"email_verified": True, "hd": "example.org"}, "example.org"),
        (GOOGLE, {"email_verified": True}, None),
        (GOOGLE, {"hd": "example.org"}, None),
        (GOOGLE, {"email_verified": True, "hd": True}, None),
        (MICROSOFT, {"xms_edov": True}, "example.org"),
        (MICROSOFT, {"xms_edov": "1"}, "example.org"),
        (MICROSOFT, {"xms_edov": False}, None),
        (MICROSOFT, {"email_verified": True}, None),
        (MICROSOFT, {}, None),
    ],
    ids=str,
)
def test_domain_counts_only_if_the_provider_verified_it(
    issuer: str, claims: dict[str, Any], domain: str | None
) -> None:
    assert identity(issuer, email="User@Example.ORG", **claims).domain == domain


@pytest.mark.parametrize(
    "email",
    ["example.org", "a@b@example.org", "", None, ["a@example.org"], "a" * 250 + "@example.org", 7],
    ids=range(7),
)
def test_invalid_address_has_no_domain(email: object) -> None:
    assert identity(email=email, email_verified=True).domain is None


@pytest.mark.parametrize(
    ("rule", "claims", "matches"),
    [
        ("groups:ops=*:owner", {"groups": ["a", "ops"]}, True),
        ("groups:ops=*:owner", {"groups": "ops"}, True),
        ("groups:ops=*:owner", {"groups": ["OPS", "ops2", "x,ops"]}, False),
        ("groups:ops=*:owner", {"groups": [["ops"], {"ops": 1}, None]}, False),
        ("groups:ops=*:owner", {"groups": {"ops": True}}, False),
        ("groups:None=*:owner", {}, False),
        ("level:3=*:owner", {"level": 3}, True),
        ("staff:true=*:owner", {"staff": True}, True),
        ("sub:user-1=*:owner", {}, True),
        ("domain:example.org=*:owner", {"email": "a@EXAMPLE.org", "email_verified": True}, True),
        ("domain:example.org=*:owner", {"email": "a@sub.example.org", "email_verified": True}, False),
        ("domain:example.org=*:owner", {"email": "a@example.org"}, False),
        ("domain:example.org=*:owner", {"domain": "example.org"}, False),
        ("https://id.example.org/roles:admin=*:owner", {"https://id.example.org/roles": ["admin"]}, True),
    ],
    ids=str,
)
def test_rule_matches_the_value_of_its_claim(rule: str, claims: dict[str, Any], matches: bool) -> None:
    [parsed] = parse_access_rules(rule)
    assert identity(**claims).matches(parsed) is matches


def test_account_name_is_a_verified_address_or_that_of_the_directory() -> None:
    assert identity(email="a@example.org", email_verified=True).account_name == "a@example.org"
    assert identity(email="a@example.org").account_name == ""
    assert identity(preferred_username="a@example.org").account_name == ""
    assert identity(MICROSOFT, preferred_username="a@example.org").account_name == "a@example.org"
    assert identity(MICROSOFT, preferred_username=["a"]).account_name == ""


def test_identity_is_shown_without_claims_and_address() -> None:
    shown = repr(identity(email="a@example.org", email_verified=True, name="Given1 Family1"))
    assert "Given1" not in shown
    assert "a@" not in shown


@pytest.mark.parametrize(
    ("issuer", "label", "name"),
    [
        (GOOGLE, "", "Google"),
        (MICROSOFT, "", "Microsoft"),
        (OTHER, "", "id.example.org"),
        (OTHER, "School account", "School account"),
    ],
)
def test_provider_has_a_name_for_its_button(issuer: str, label: str, name: str) -> None:
    assert settings(issuer, label).name == name
