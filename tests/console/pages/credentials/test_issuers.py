"""Page `/settings/issuers`: trust an issuer, and remove it."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from joserfc.jwk import ECKey
from markupsafe import escape

from chalk_flask.auth.jwt import IssuerStore, TrustedIssuer
from chalk_flask.permissions.scopes import DEFAULT
from tests.support.console.client import Console, visible_text

LIST, NEW = "/settings/issuers", "/settings/issuers/new"
ISS, AUD, URL = "https://tool.example.org", "https://roster.example.org", "https://tool.example.org/jwks.json"
FIELDS: dict[str, Any] = {"label": "Tool", "issuer": ISS, "audience": AUD}


@pytest.fixture
def owner(console: Console) -> Console:
    console.sign_in("owner")
    return console


def issuers(console: Console, tenant: str = "default") -> list[TrustedIssuer]:
    return list(IssuerStore(console.services.store).list(tenant))


def test_issuer_with_a_url_is_trusted_and_removed(owner: Console) -> None:
    page = owner.submit(NEW, action=LIST, jwks_url=URL, single_use="y", **FIELDS)
    [issuer] = issuers(owner)
    assert (issuer.issuer, issuer.audience, issuer.jwks_url, issuer.single_use) == (ISS, AUD, URL, True)
    assert issuer.scopes == DEFAULT
    assert URL in page.text
    assert ISS in visible_text(owner.get(f"{LIST}/{issuer.id}").text)
    assert AUD in owner.get(LIST).text
    owner.submit(f"{LIST}/{issuer.id}", action=f"{LIST}/{issuer.id}/remove")
    assert not issuers(owner)
    owner.get(f"{LIST}/{issuer.id}", 404)


def test_issuer_with_stored_keys_is_trusted(owner: Console) -> None:
    key = ECKey.import_key(ec.generate_private_key(ec.SECP256R1()).public_key()).as_dict(private=False)
    page = owner.submit(NEW, action=LIST, jwks=orjson.dumps({"keys": [{**key, "kid": "one"}]}).decode(), **FIELDS)
    assert "stored: 1" in visible_text(page.text)
    assert issuers(owner)[0].jwks is not None


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({}, "Enter either the URL of its public keys, or the keys."),
        ({"jwks_url": URL, "jwks": "{}"}, "Enter either the URL of its public keys, or the keys."),
        ({"jwks_url": "http://tool.example.org/"}, "https"),
        ({"jwks": "nonsense"}, "Nothing was changed."),
        ({"jwks_url": URL, "issuer": "two words"}, "Invalid issuer"),
        ({"jwks_url": URL, "issuer": ""}, "Enter the issuer."),
    ],
)
def test_invalid_issuer_is_explained(owner: Console, fields: dict[str, Any], message: str) -> None:
    page = owner.submit(NEW, action=LIST, status=422, **{**FIELDS, **fields})
    assert message in visible_text(page.text)
    assert not issuers(owner)


def test_issuer_of_another_tenant_is_not_revealed(owner: Console) -> None:
    other = IssuerStore(owner.services.store).add(ISS, AUD, DEFAULT, "west", jwks_url=URL, label="West tool")
    owner.get(f"{LIST}/{other.id}", 404)
    assert "West tool" not in owner.get(LIST).text
    page = visible_text(owner.submit(NEW, action=LIST, status=422, jwks_url=URL, **FIELDS).text)
    assert "already trusted for another tenant" in page
    assert "west" not in page
    assert other.id not in page


def test_values_are_escaped(console: Console) -> None:
    text = '"><script>alert(1)</script>'
    issuer = IssuerStore(console.services.store).add(text, text, DEFAULT, jwks_url=URL, label=text)
    console.sign_in("viewer")
    for path in (LIST, f"{LIST}/{issuer.id}"):
        page = console.get(path).text
        assert text not in page
        assert str(escape(text)) in page
        assert "/remove" not in page


@pytest.mark.parametrize(
    "url",
    ["http://localhost:8000/", "https://127.0.0.1/keys", "https://[::1]/", "https://10.0.0.5/", "https://nas.local/"],
)
def test_keys_in_the_network_of_the_service_are_for_operators(url: str, owner: Console) -> None:
    page = owner.submit(NEW, action=LIST, status=422, jwks_url=url, **FIELDS)
    assert "Use https and a public host." in visible_text(page.text)
    assert not issuers(owner)
    owner.sign_in("owner", None)
    owner.submit(NEW, action=LIST, jwks_url=url, **FIELDS)
    assert len(issuers(owner)) == 1
