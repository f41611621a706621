"""Issuers are trusted for one tenant each, and what is kept of them is public."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from backends import Backend, open_store
from chalk_flask.auth.jwt.issuers import COLLECTION, IssuerError, IssuerStore
from chalk_flask.permissions.restrictions import AccessRestrictions
from chalk_flask.storage import COLLECTIONS
from chalk_flask.tenants.store import COLLECTION as TENANTS
from chalk_flask.tenants.store import CONTROL, Tenant
from tests.conftest import url_in
from tests.support.keys import rsa_key, trust

OLD = rsa_key("old")


@pytest.fixture(params=["memory", "sqlite", "json"])
def store(request: pytest.FixtureRequest, tmp_path: Any) -> Iterator[Backend]:
    with open_store(url_in(tmp_path, request.param), COLLECTIONS) as opened:
        yield opened


@pytest.fixture
def memory() -> Iterator[Backend]:
    with open_store("memory:", COLLECTIONS) as opened:
        yield opened


def test_a_trusted_issuer_is_kept_listed_and_removed(store: Backend) -> None:
    limits = AccessRestrictions(orgs=frozenset({"north"}), redacted=frozenset({"email"}))
    made = trust(store, label=" Grade tool ", replay=True, limits=limits)
    assert (made.label, made.tenant, made.jwks_url, made.replay) == ("Grade tool", "default", None, True)
    [known] = IssuerStore(store).list()
    assert replace(known, created=made.created) == made
    assert IssuerStore(store).list("other") == []
    assert IssuerStore(store).remove(made.id).id == made.id
    assert IssuerStore(store).list() == []
    with pytest.raises(IssuerError, match="there is no issuer with the id"):
        IssuerStore(store).remove(made.id)


def test_an_issuer_and_audience_lead_to_one_tenant(store: Backend) -> None:
    with store.write(CONTROL) as control:
        control.put(TENANTS, [Tenant(name="north").to_record()])
    first = trust(store)
    for tenant in ("default", "north"):
        with pytest.raises(IssuerError, match=f"trusted already, as {first.id} for the tenant default"):
            trust(store, tenant=tenant)
    trust(store, audience="urn:north", tenant="north")
    assert [each.tenant for each in IssuerStore(store).list()] == ["default", "north"]
    with pytest.raises(IssuerError, match="there is no tenant 'south'"):
        trust(store, audience="urn:south", tenant="south")


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({"issuer": ""}, "is not an issuer"),
        ({"issuer": "a b"}, "is not an issuer"),
        ({"issuer": "urn:chalk-flask:access-token"}, "those of this service"),
        ({"audience": "é"}, "is not an audience"),
        ({"audience": "x" * 1001}, "is not an audience"),
        ({"label": "two\nlines"}, "a label is a line"),
        ({"jwks": None}, "give one of the two"),
        ({"jwks_url": "https://tool.example.org/"}, "give one of the two"),
        ({"jwks": None, "jwks_url": "http://tool.example.org/"}, "by https only"),
        ({"jwks": json.dumps({"keys": [OLD.as_dict(private=True)]}).encode()}, "is private"),
        ({"jwks": b'{"keys": [{"kty": "oct", "k": "c2VjcmV0"}]}'}, "is symmetric"),
    ],
)
def test_what_cannot_be_trusted_is_refused_with_the_reason(changed: dict[str, Any], why: str, memory: Backend) -> None:
    with pytest.raises(IssuerError, match=why):
        trust(memory, **changed)
    assert IssuerStore(memory).list() == []


def test_no_private_number_is_ever_stored(memory: Backend) -> None:
    trust(memory)
    with memory.read(CONTROL) as control:
        [body] = control.get_many(COLLECTION, list(control.keys(COLLECTION))).values()
    assert [sorted(key) for key in json.loads(body)["jwks"]["keys"]] == [
        ["e", "kid", "kty", "n"],
        ["crv", "kid", "kty", "x", "y"],
    ]
