"""Fixtures of the sign-in with an identity provider: a provider over real sockets, and a client of it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from chalk_flask.oidc import OidcClient, OidcSettings
from chalk_flask.settings.sign_in_rules import parse_access_rules
from tests.support.oidc.fake_provider import CLIENT_ID, CLIENT_SECRET, FakeProvider, serve_fake_provider


@pytest.fixture
def provider() -> Iterator[FakeProvider]:
    with serve_fake_provider() as provider:
        yield provider


@pytest.fixture
def client(provider: FakeProvider) -> OidcClient:
    return OidcClient(settings_for(provider))


def settings_for(provider: FakeProvider, rules: str = "sub:user-1=default:viewer", domains: str = "") -> OidcSettings:
    """Return the settings for a provider, with these access rules and accepted domains."""
    return OidcSettings(
        issuer=provider.issuer,
        client_id=CLIENT_ID,
        client_secret=CLIENT_SECRET,
        domains=frozenset(domains.split(",")) if domains else frozenset(),
        rules=parse_access_rules(rules),
    )
