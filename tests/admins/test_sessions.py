"""Sessions: random ids that are stored hashed, time limits, and their end in every process."""

from __future__ import annotations

import re
from datetime import timedelta

import pytest

from backends import CONTROL, Backend, open_store
from chalk_flask.admins import (
    ABSOLUTE_TIMEOUT,
    IDLE_TIMEOUT,
    Administrator,
    AdministratorStore,
    SessionError,
    SessionStore,
)
from chalk_flask.admins.sessions import COLLECTION
from chalk_flask.auth.secrets import SecretCipher
from chalk_flask.storage import COLLECTIONS
from chalk_flask.tenants.store import TenantStore
from tests.admins.conftest import PASSWORD, enable_totp, events_of
from tests.auth.conftest import CountingBackend, wait_until
from tests.support.clock import FakeClock

ADDRESS = "192.0.2.1"
FIREFOX = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"


@pytest.fixture
def counting_store() -> CountingBackend:
    return CountingBackend.open("memory:", COLLECTIONS)


def start(sessions: SessionStore, administrator: Administrator) -> str:
    secret, _ = sessions.create(administrator, ADDRESS, FIREFOX)
    return secret


def reread(administrators: AdministratorStore, administrator: Administrator) -> Administrator:
    stored = administrators.get(administrator.id)
    assert stored is not None
    return stored


def stored_sessions(store: Backend) -> list[tuple[str, bytes]]:
    with store.read(CONTROL) as control:
        return [(key, body) for key, body, _ in control.scan(COLLECTION)]


@pytest.mark.every_backend
def test_session_is_found_by_an_id_that_is_stored_hashed(
    sessions: SessionStore, store: Backend, kim: Administrator, clock: FakeClock
) -> None:
    secret, session = sessions.create(kim, ADDRESS, FIREFOX)
    assert re.fullmatch(r"[0-9a-f]{32}", secret)
    assert sessions.find(secret) == session
    assert (session.administrator_id, session.tenant, session.administrator_tenant) == (kim.id, "default", "default")
    assert (session.address, session.browser, session.totp_done) == (ADDRESS, "Firefox on Linux", True)
    [(key, body)] = stored_sessions(store)
    assert key == session.id_hash
    assert secret.encode() not in body


def test_each_sign_in_gets_another_id(sessions: SessionStore, kim: Administrator) -> None:
    assert start(sessions, kim) != start(sessions, kim)


@pytest.mark.parametrize(
    "secret", ["", "0" * 32, "0" * 31, "G" * 32, "0" * 32 + "\n", "é" * 32, "\udc80", "0" * 100_000]
)
def test_unknown_id_has_no_session(sessions: SessionStore, kim: Administrator, secret: str) -> None:
    start(sessions, kim)
    assert sessions.find(secret) is None


def test_session_ends_after_30_minutes_without_a_request(
    sessions: SessionStore, kim: Administrator, clock: FakeClock
) -> None:
    secret = start(sessions, kim)
    for _ in range(3):
        clock.advance(IDLE_TIMEOUT.total_seconds() - 1)
        assert sessions.find(secret) is not None
    clock.advance(IDLE_TIMEOUT.total_seconds())
    assert sessions.find(secret) is None
    assert sessions.list_of(kim.id) == []


def test_request_of_a_script_does_not_keep_a_session_alive(
    sessions: SessionStore, kim: Administrator, clock: FakeClock
) -> None:
    secret, session = sessions.create(kim, ADDRESS, None)
    for _ in range(29):
        clock.advance(60)
        found = sessions.find(secret, is_activity=False)
        assert found is not None
        assert found.last_seen == session.last_seen
    clock.advance(60)
    assert sessions.find(secret, is_activity=False) is None
    assert sessions.find(secret) is None


def test_session_ends_after_12_hours_in_any_case(sessions: SessionStore, kim: Administrator, clock: FakeClock) -> None:
    secret = start(sessions, kim)
    for _ in range(36):
        assert sessions.find(secret) is not None
        clock.advance(minutes=20)
    assert sessions.find(secret) is None
    assert timedelta(minutes=20 * 36) == ABSOLUTE_TIMEOUT


@pytest.mark.on_backend("sqlite")
def test_last_request_is_stored_for_other_processes(
    sessions: SessionStore, kim: Administrator, clock: FakeClock, storage: str
) -> None:
    secret = start(sessions, kim)
    clock.advance(minutes=29)
    assert sessions.find(secret) is not None
    with open_store(storage, COLLECTIONS) as opened:
        other = SessionStore(opened, clock)
        assert wait_until(lambda: other.list_of(kim.id)[0].last_seen == clock.now)
        clock.advance(minutes=29)
        assert other.find(secret) is not None
        other.close()


def test_frequent_requests_are_stored_once_a_minute(
    counting_store: CountingBackend, cipher: SecretCipher, clock: FakeClock
) -> None:
    sessions = SessionStore(counting_store, clock)
    administrators = AdministratorStore(counting_store, cipher, clock)
    secret = start(sessions, administrators.create("kim", "owner", "default", PASSWORD))
    before = stored_sessions(counting_store)
    for _ in range(59):
        clock.advance(1)
        sessions.find(secret)
    sessions.close()
    assert stored_sessions(counting_store) == before
    read_count = counting_store.read_count
    assert all(sessions.find(secret) for _ in range(100))
    assert counting_store.read_count == read_count


@pytest.mark.every_backend
def test_ended_session_is_rejected_in_every_process(
    sessions: SessionStore, store: Backend, kim: Administrator, clock: FakeClock
) -> None:
    other = SessionStore(store, clock)
    first, second, third = (sessions.create(kim, ADDRESS, None) for _ in range(3))
    assert other.find(first[0]) is not None
    sessions.end(first[1].id_hash)
    sessions.end(first[1].id_hash)
    assert (other.find(first[0]), sessions.find(first[0])) == (None, None)
    assert sessions.end_all(kim.id, except_hash=second[1].id_hash) == 1
    assert (other.find(second[0]) is not None, other.find(third[0])) == (True, None)
    assert sessions.end_all(kim.id) == 1
    assert sessions.end_all(kim.id) == 0
    assert stored_sessions(store) == []
    other.close()


def test_list_contains_the_live_sessions_newest_first(
    sessions: SessionStore, kim: Administrator, operator: Administrator, clock: FakeClock
) -> None:
    start(sessions, operator)
    hashes: list[str] = []
    for minutes in (0, 25, 10):
        clock.advance(minutes=minutes)
        hashes.insert(0, sessions.create(kim, ADDRESS, FIREFOX)[1].id_hash)
    assert [session.id_hash for session in sessions.list_of(kim.id)] == hashes[:2]


def test_expired_sessions_are_deleted_at_the_next_sign_in(
    sessions: SessionStore, store: Backend, kim: Administrator, clock: FakeClock
) -> None:
    start(sessions, kim)
    clock.advance(hours=12)
    _, session = sessions.create(kim, ADDRESS, FIREFOX)
    assert [key for key, _ in stored_sessions(store)] == [session.id_hash]


def test_session_waits_ten_minutes_for_a_code_and_gets_another_id(
    sessions: SessionStore, administrators: AdministratorStore, kim: Administrator, clock: FakeClock, store: Backend
) -> None:
    enable_totp(administrators, kim, clock)
    changed = reread(administrators, kim)
    secret, session = sessions.create(changed, ADDRESS, FIREFOX)
    assert (session.totp_done, sessions.list_of(kim.id)) == (False, [])
    assert administrators.get(kim.id) == changed
    clock.advance(minutes=9)
    assert sessions.find(secret) is not None
    new_secret, completed = sessions.complete_totp(session)
    assert new_secret != secret
    assert sessions.find(secret) is None
    assert completed == sessions.find(new_secret)
    assert (completed.totp_done, completed.expires) == (True, clock.now + ABSOLUTE_TIMEOUT)
    with pytest.raises(SessionError, match="the session has ended"):
        sessions.complete_totp(session)
    pending, _ = sessions.create(reread(administrators, kim), ADDRESS, FIREFOX)
    clock.advance(minutes=10)
    assert sessions.find(pending) is None


def test_sign_in_is_rejected_if_the_administrator_changed_meanwhile(
    sessions: SessionStore, administrators: AdministratorStore, kim: Administrator, clock: FakeClock, store: Backend
) -> None:
    administrators.reset_password(kim.id, "another password")
    with pytest.raises(SessionError, match="was changed in the meantime"):
        sessions.create(kim, ADDRESS, FIREFOX)
    current = reread(administrators, kim)
    enable_totp(administrators, kim, clock)
    with pytest.raises(SessionError, match="was changed in the meantime"):
        sessions.create(current, ADDRESS, FIREFOX)
    administrators.delete(kim.id)
    with pytest.raises(SessionError, match="was deleted"):
        sessions.create(current, ADDRESS, FIREFOX)
    assert stored_sessions(store) == []


def test_sign_in_is_recorded_with_time_and_events(
    sessions: SessionStore, administrators: AdministratorStore, kim: Administrator, clock: FakeClock, store: Backend
) -> None:
    clock.advance(60)
    _, session = sessions.create(kim, ADDRESS, FIREFOX)
    assert reread(administrators, kim).last_sign_in == clock.now
    sessions.create(kim, ADDRESS, FIREFOX)
    sessions.create(kim, ADDRESS, FIREFOX)
    clock.advance(1)
    sessions.end(session.id_hash)
    clock.advance(1)
    sessions.end_all(kim.id)
    started = {"event": "session.started", "administrator": kim.id, "address": ADDRESS}
    ended = {"event": "session.ended", "administrator": kim.id}
    events = [event for event in events_of(store, "default") if event["event"].startswith("session.")]
    assert events == [started, started, started, ended | {"count": 1}, ended | {"count": 2}]


@pytest.mark.every_backend
def test_operator_selects_a_tenant(sessions: SessionStore, store: Backend, operator: Administrator) -> None:
    TenantStore(store).create("north")
    secret, session = sessions.create(operator, ADDRESS, FIREFOX)
    assert (session.tenant, session.administrator_tenant) == ("default", None)
    assert sessions.select_tenant(session.id_hash, "north").tenant == "north"
    found = sessions.find(secret)
    assert found is not None
    assert found.tenant == "north"
    for tenant in ("south", CONTROL, "", "../x"):
        with pytest.raises(SessionError, match="there is no tenant"):
            sessions.select_tenant(session.id_hash, tenant)
    TenantStore(store).delete("north")
    found = sessions.find(secret)
    assert found is not None
    assert found.tenant == "default"


def test_only_operators_select_a_tenant(sessions: SessionStore, store: Backend, kim: Administrator) -> None:
    TenantStore(store).create("north")
    secret, session = sessions.create(kim, ADDRESS, FIREFOX)
    with pytest.raises(SessionError, match="only operators"):
        sessions.select_tenant(session.id_hash, "north")
    assert sessions.find(secret) == session
    sessions.end(session.id_hash)
    with pytest.raises(SessionError, match="the session has ended"):
        sessions.select_tenant(session.id_hash, "default")


def test_session_never_shows_another_tenant_than_its_own(store: Backend, administrators: AdministratorStore) -> None:
    TenantStore(store).create("north")
    secret, _ = SessionStore(store).create(administrators.create("kim", "owner", "north", PASSWORD), ADDRESS, FIREFOX)
    with store.write(CONTROL) as control:
        control.delete("tenants", ["north"])
    assert SessionStore(store).find(secret) is None
