"""Rotation of API tokens: a new token replaces another one, which stays valid for an overlap."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from backends import Backend
from chalk_flask.auth.tokens.store import TokenError, TokenStore
from chalk_flask.permissions.restrictions import AccessRestrictions
from chalk_flask.permissions.scopes import ROSTER
from tests.support.clock import FakeClock
from tests.support.storage.audit_events import events_of_tenant

RESTRICTIONS = AccessRestrictions.parse(orgs=["s-1"])


@pytest.fixture
def tokens(store: Backend, clock: FakeClock) -> TokenStore:
    return TokenStore(store, clock)


@pytest.mark.every_backend
def test_rotated_token_has_the_same_access_and_a_new_id(tokens: TokenStore, clock: FakeClock) -> None:
    _, former = tokens.create("a reader", {ROSTER}, expires=clock() + timedelta(days=9), restrictions=RESTRICTIONS)
    clock.advance(days=8)
    value, new, _ = tokens.rotate(former.id, timedelta(hours=24))
    assert value.startswith(new.prefix or "-")
    assert new.expires == clock() + timedelta(days=9), "the lifetime begins again"
    assert tokens.authenticate(value)[0] == replace(former.principal, credential_id=new.id)
    assert new.id != former.id
    assert new.last_used is None


def test_former_token_stays_valid_for_the_overlap(tokens: TokenStore, clock: FakeClock) -> None:
    value, former = tokens.create("a reader", {ROSTER})
    assert value is not None
    tokens.rotate(former.id, timedelta(hours=24))
    clock.advance(hours=23)
    assert tokens.authenticate(value)[0] is not None
    clock.advance(hours=1)
    assert tokens.authenticate(value)[0] is None


def test_overlap_does_not_extend_the_former_token(tokens: TokenStore, clock: FakeClock) -> None:
    _, former = tokens.create("a reader", {ROSTER}, expires=clock() + timedelta(hours=1))
    tokens.rotate(former.id, timedelta(days=7))
    assert next(token for token in tokens.list() if token.id == former.id).expires == former.expires


def test_rotation_without_overlap_revokes_the_former_token(tokens: TokenStore) -> None:
    value, former = tokens.create("a reader", {ROSTER})
    assert value is not None
    tokens.rotate(former.id, timedelta(0))
    assert tokens.authenticate(value)[0] is None
    assert next(token for token in tokens.list() if token.id == former.id).revoked is not None


def test_prefix_of_test_tokens_is_kept(tokens: TokenStore) -> None:
    _, former = tokens.create("a reader", {ROSTER}, test=True)
    assert tokens.rotate(former.id, timedelta(0))[0].startswith("chk_test_")


def test_ended_and_unknown_tokens_cannot_be_rotated(tokens: TokenStore, clock: FakeClock) -> None:
    _, revoked = tokens.create("a reader", {ROSTER})
    tokens.revoke(revoked.id)
    _, expired = tokens.create("a reader", {ROSTER}, expires=clock() + timedelta(hours=1))
    clock.advance(hours=2)
    with pytest.raises(TokenError, match=f"the token {revoked.id} is revoked: create another one"):
        tokens.rotate(revoked.id, timedelta(0))
    with pytest.raises(TokenError, match="is expired: create another one"):
        tokens.rotate(expired.id, timedelta(0))
    with pytest.raises(TokenError, match="there is no token with the id 'nope'"):
        tokens.rotate("nope", timedelta(0))
    assert len(tokens.list()) == 2


def test_rotation_is_recorded_with_both_ids(tokens: TokenStore, store: Backend) -> None:
    _, former = tokens.create("a reader", {ROSTER})
    _, new, _ = tokens.rotate(former.id, timedelta(0))
    [event] = [event for event in events_of_tenant(store, "default") if event["event"] == "token.rotated"]
    assert (event["id"], event["label"], event["replacement"]) == (former.id, "a reader", new.id)
