"""Last use of tokens: written in the background, at most once per minute."""

from __future__ import annotations

from datetime import timedelta

import pytest

from backends import Backend
from chalk_flask.auth.tokens.store import COLLECTION, TokenStore, token_hash, with_last_use
from chalk_flask.background.last_used import LastUsedTracker
from chalk_flask.permissions.scopes import DEFAULT
from chalk_flask.tenants.store import CONTROL
from tests.auth.conftest import wait_until
from tests.support.clock import FakeClock


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.mark.every_backend
def test_last_use_is_written_once_a_minute_and_moves_no_revision(store: Backend, clock: FakeClock) -> None:
    tokens = TokenStore(store, clock)
    token, _ = tokens.create("a reader", DEFAULT)
    assert token is not None
    tracker = LastUsedTracker(store, CONTROL, COLLECTION, with_last_use, flush_interval_seconds=0.01)
    with store.read(CONTROL) as snapshot:
        revision = snapshot.revision
    created = clock.now
    for seconds, expected in ((0, created), (59, created), (60, created + timedelta(seconds=60))):
        tracker.record(token_hash(token), tokens.list()[0].last_used, created + timedelta(seconds=seconds))
        assert wait_until(lambda expected=expected: tokens.list()[0].last_used == expected)  # type: ignore[misc]  # bound
    with store.read(CONTROL) as snapshot:
        assert snapshot.revision == revision


def test_authentication_records_the_use(store: Backend, clock: FakeClock) -> None:
    tokens = TokenStore(store, clock)
    token, _ = tokens.create("a reader", DEFAULT)
    assert token is not None
    assert tokens.authenticate(token)[0]
    assert wait_until(lambda: tokens.list()[0].last_used == clock.now)


def test_late_write_does_not_undo_a_revocation(store: Backend, clock: FakeClock) -> None:
    tokens = TokenStore(store, clock)
    token, record = tokens.create("a reader", DEFAULT)
    assert token is not None
    tokens.revoke(record.id)
    LastUsedTracker(store, CONTROL, COLLECTION, with_last_use).record(token_hash(token), None, clock.now)
    assert wait_until(lambda: tokens.list()[0].last_used == clock.now)
    assert tokens.list()[0].revoked == clock.now
    assert tokens.authenticate(token)[0] is None


def test_unwritable_use_is_dropped(store: Backend, clock: FakeClock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("chalk_flask.background.last_used.LOCK_TIMEOUT_SECONDS", 0.01)
    tokens = TokenStore(store, clock)
    token, _ = tokens.create("a reader", DEFAULT)
    assert token is not None
    tracker = LastUsedTracker(store, CONTROL, COLLECTION, with_last_use, flush_interval_seconds=0.01)
    with store.write(CONTROL):
        tracker.record(token_hash(token), None, clock.now)
        assert wait_until(lambda: not tracker._recorded)
    assert tokens.list()[0].last_used is None
