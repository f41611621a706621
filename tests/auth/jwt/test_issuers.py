"""Trusted issuers: added, listed and removed, each for one tenant."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from backends import Backend
from chalk_flask.auth.jwt.issuers import COLLECTION, IssuerError, IssuerStore
from chalk_flask.permissions.restrictions import AccessRestrictions
from chalk_flask.tenants.store import CONTROL, TenantStore
from tests.support.keys import rsa_key, trust_issuer


@pytest.mark.every_backend
def test_trusted_issuer_is_stored_listed_and_removed(store: Backend) -> None:
    restrictions = AccessRestrictions(orgs=frozenset({"north"}), redacted=frozenset({"email"}))
    record = trust_issuer(store, label=" Grade tool ", single_use=True, restrictions=restrictions)
    assert (record.label, record.tenant, record.jwks_url, record.single_use) == ("Grade tool", "default", None, True)
    [stored] = IssuerStore(store).list()
    assert replace(stored, created=record.created) == record
    assert IssuerStore(store).list("other") == []
    assert IssuerStore(store).remove(record.id).id == record.id
    assert IssuerStore(store).list() == []
    with pytest.raises(IssuerError, match="there is no issuer with the id"):
        IssuerStore(store).remove(record.id)


@pytest.mark.reading("J-03")
def test_issuer_and_audience_belong_to_one_tenant(store: Backend) -> None:
    TenantStore(store).create("north")
    first = trust_issuer(store)
    for tenant in ("default", "north"):
        with pytest.raises(IssuerError, match=f"already trusted, as {first.id} for the tenant default"):
            trust_issuer(store, tenant=tenant)
    trust_issuer(store, audience="urn:north", tenant="north")
    assert [record.tenant for record in IssuerStore(store).list()] == ["default", "north"]
    with pytest.raises(IssuerError, match="there is no tenant 'south'"):
        trust_issuer(store, audience="urn:south", tenant="south")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"issuer": ""}, "invalid issuer ''"),
        ({"issuer": "a b"}, "invalid issuer 'a b'"),
        ({"issuer": "urn:chalk-flask:access-token"}, "are reserved"),
        ({"audience": "é"}, "invalid audience 'é'"),
        ({"audience": "x" * 1001}, "invalid audience"),
        ({"label": "two\nlines"}, "a label must be one line"),
        ({"jwks": None}, "give either their URL or a file"),
        ({"jwks_url": "https://tool.example.org/"}, "give either their URL or a file"),
        ({"jwks": None, "jwks_url": "http://tool.example.org/"}, "by https only"),
        ({"jwks": b" " * (1024 * 1024 + 1)}, "the key set is too large"),
        ({"jwks": json.dumps({"keys": [rsa_key("old").as_dict(private=True)]}).encode()}, "is private"),
        ({"jwks": b'{"keys": [{"kty": "oct", "k": "c2VjcmV0"}]}'}, "is symmetric"),
    ],
)
def test_invalid_issuer_is_rejected_with_the_reason(store: Backend, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(IssuerError, match=message):
        trust_issuer(store, **changes)
    assert IssuerStore(store).list() == []


def test_private_members_are_never_stored(store: Backend) -> None:
    trust_issuer(store)
    with store.read(CONTROL) as control:
        [body] = control.get_many(COLLECTION, list(control.keys(COLLECTION))).values()
    assert [sorted(key) for key in json.loads(body)["jwks"]["keys"]] == [
        ["e", "kid", "kty", "n"],
        ["crv", "kid", "kty", "x", "y"],
    ]
