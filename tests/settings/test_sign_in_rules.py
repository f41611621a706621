"""Rules for sign-in with an identity provider: valid ones, and messages for invalid ones."""

from __future__ import annotations

import pytest

from chalk_flask.admins.roles import ROLES
from chalk_flask.settings.sign_in_rules import (
    AccessRule,
    is_microsoft,
    parse_access_rules,
    parse_domains,
    validate_access_rules,
    validate_domains,
    validate_issuer,
)

DIRECTORY = "11111111-2222-3333-4444-555555555555"


def test_rules_are_parsed_in_their_order() -> None:
    text = " domain:Example.org=default:viewer, roles:ChalkOwner=north:owner,,groups:a=b:c d=*:editor "
    rules = parse_access_rules(text)
    assert rules == (
        AccessRule("domain", "example.org", "default", "viewer"),
        AccessRule("roles", "ChalkOwner", "north", "owner"),
        AccessRule("groups", "a=b:c d", None, "editor"),
    )
    assert [rule.text for rule in rules][0::2] == ["domain:example.org=default:viewer", "groups:a=b:c d=*:editor"]
    assert parse_access_rules(",".join(rule.text for rule in rules)) == rules
    assert parse_access_rules("") == ()


def test_every_role_can_be_given() -> None:
    rules = parse_access_rules(",".join(f"sub:x=default:{role}" for role in ROLES))
    assert tuple(rule.role for rule in rules) == ROLES


def test_claim_can_be_a_url() -> None:
    [rule] = parse_access_rules("https://id.example.org/roles:admin=*:owner")
    assert (rule.claim, rule.value) == ("https://id.example.org/roles", "admin")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("domain:example.org", "CLAIM:VALUE=TENANT:ROLE"),
        ("domain:example.org=default", "CLAIM:VALUE=TENANT:ROLE"),
        ("domain:example.org=default:admin", "viewer|editor|owner"),
        ("=default:viewer", "CLAIM:VALUE=TENANT:ROLE"),
        ("*:x=default:viewer", "CLAIM:VALUE=TENANT:ROLE"),
        ("roles:x=:viewer", "CLAIM:VALUE=TENANT:ROLE"),
        ("domain:localhost=default:viewer", "is not a domain"),
        ("domain:*=default:viewer", "is not a domain"),
        ("domain: =default:viewer", "is not a domain"),
        ("email:a@example.org=default:viewer", "the claim email cannot decide"),
        ("roles:a=default:viewer, upn:x=default:viewer", "the claim upn cannot decide"),
        ("preferred_username:a=default:viewer", "cannot decide"),
    ],
)
def test_invalid_rule_is_explained(text: str, reason: str) -> None:
    rule = validate_access_rules(text)
    assert rule is not None
    assert reason in rule
    assert validate_access_rules("roles:a=default:viewer") is None


def test_domains_are_parsed_in_lower_case() -> None:
    assert parse_domains("Example.ORG, sub.example.org,") == {"example.org", "sub.example.org"}
    assert parse_domains("") == frozenset()


@pytest.mark.parametrize("text", ["*", "example", "@example.org", "https://example.org", "a b.org", "-a.org"])
def test_invalid_domain_is_quoted(text: str) -> None:
    rule = validate_domains(f"example.org,{text}")
    assert rule is not None
    assert text in rule


@pytest.mark.parametrize(
    "issuer",
    [
        "",
        "https://accounts.google.com",
        f"https://login.microsoftonline.com/{DIRECTORY}/v2.0",
        "https://example.eu.auth0.example/",
        "https://id.example.org:8443/realms/schools",
        "http://127.0.0.1:9000",
    ],
)
def test_issuer_is_accepted(issuer: str) -> None:
    assert validate_issuer(issuer) is None


@pytest.mark.parametrize(
    ("issuer", "reason"),
    [
        ("accounts.google.com", "https://"),
        ("http://id.example.org", "https://"),
        ("https://user:hush@id.example.org", "without a name and a password"),
        ("https://id.example.org/?a=b", "without a query"),
        ("https://login.microsoftonline.com/common/v2.0", "directory (tenant) ID"),
        ("https://login.microsoftonline.com/organizations/v2.0", "directory (tenant) ID"),
        ("https://login.microsoftonline.com", "directory (tenant) ID"),
        ("https://login.microsoftonline.us/common/v2.0", "directory (tenant) ID"),
    ],
)
def test_invalid_issuer_is_explained(issuer: str, reason: str) -> None:
    assert reason in (validate_issuer(issuer) or "")


def test_microsoft_is_recognized_by_its_host() -> None:
    assert is_microsoft(f"https://LOGIN.microsoftonline.com/{DIRECTORY}/v2.0")
    assert not is_microsoft("https://login.microsoftonline.com.example.org/")
