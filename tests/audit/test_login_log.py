"""Login log: counted events of successful and failed logins."""

from __future__ import annotations

import time
from typing import Any

from backends import CONTROL, Backend
from chalk_flask.audit.events import read_events
from chalk_flask.audit.login_log import MAX_TRACKED_LOGINS, LoginLog
from chalk_flask.tenants.store import find_audit_tenant
from tests.audit.conftest import LockableStore
from tests.support.clock import FakeClock

ADDRESS = "192.0.2.1"


def logins_of(store: Backend, tenant: str = "default") -> list[tuple[Any, ...]]:
    events = read_events(store, tenant)
    return [(event["event"], event["client"], event["address"], event["count"]) for event in events]


def test_logins_are_stored_once_and_then_counted_for_a_minute(store: Backend) -> None:
    clock = FakeClock(0.0)
    log = LoginLog(store, find_audit_tenant, interval=3600, now=clock.time)
    for _ in range(3):
        log.record_success("default", "c-1")
    log.record_failure("default", "c-1", ADDRESS)
    log._write_due()
    assert logins_of(store) == [("login.succeeded", "c-1", None, 3), ("login.failed", "c-1", ADDRESS, 1)]
    for seconds in (10.0, 59.0):
        clock.set(seconds)
        log.record_failure("default", "c-1", ADDRESS)
        log._write_due()
    assert len(logins_of(store)) == 2
    clock.set(61.0)
    log._write_due()
    assert logins_of(store)[2:] == [("login.failed", "c-1", ADDRESS, 2)]
    log.close()


def test_close_stores_what_is_pending(store: Backend) -> None:
    log = LoginLog(store, find_audit_tenant, interval=3600)
    log.record_failure("default", "c-1", ADDRESS)
    log.close()
    log.close()
    assert logins_of(store) == [("login.failed", "c-1", ADDRESS, 1)]


def test_logins_are_stored_in_the_background(store: Backend) -> None:
    log = LoginLog(store, find_audit_tenant, interval=0.01)
    log.record_success("default", "c-1")
    deadline = time.monotonic() + 60
    while not logins_of(store) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert logins_of(store) == [("login.succeeded", "c-1", None, 1)]
    log.close()


def test_login_of_an_unknown_client_is_stored_without_its_id(store: Backend) -> None:
    log = LoginLog(store, find_audit_tenant, interval=3600)
    log.record_failure(None, None, ADDRESS)
    log.close()
    assert logins_of(store, CONTROL) == [("login.failed", None, ADDRESS, 1)]


def test_failed_sign_ins_are_counted_with_the_id_of_a_known_administrator(store: Backend) -> None:
    log = LoginLog(store, find_audit_tenant, interval=3600)
    for administrator in ("a-1", "a-1", None):
        log.record_failed_sign_in("default" if administrator else None, administrator, ADDRESS)
    log.close()
    events = [*read_events(store, "default"), *read_events(store, CONTROL)]
    assert [(event["event"], event["administrator"], event["count"]) for event in events] == [
        ("sign_in.failed", "a-1", 2),
        ("sign_in.failed", None, 1),
    ]


def test_logins_from_many_addresses_make_a_bounded_number_of_events(store: Backend) -> None:
    clock = FakeClock(0.0)
    log = LoginLog(store, find_audit_tenant, interval=3600, now=clock.time)
    for second in range(50):
        clock.set(second)
        for number in range(20):
            log.record_failure(None, None, f"192.0.{second}.{number}")
        log._write_due()
    log.close()
    events = logins_of(store, CONTROL)
    assert len(events) <= MAX_TRACKED_LOGINS + 2
    assert sum(count for *_, count in events) == 1000
    assert any(address is None for _, _, address, _ in events)


def test_logins_wait_for_a_locked_store(lockable_store: LockableStore) -> None:
    log = LoginLog(lockable_store, find_audit_tenant, interval=3600)
    lockable_store.is_locked = True
    for _ in range(5):
        log.record_failure("default", "c-1", ADDRESS)
    assert log._write_due() == 3600
    lockable_store.is_locked = False
    log.close()
    assert logins_of(lockable_store) == [("login.failed", "c-1", ADDRESS, 5)]
