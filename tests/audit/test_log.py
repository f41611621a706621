"""Audit log: events that are recorded after the change or attempt that they report."""

from __future__ import annotations

import logging
import threading
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from backends import CONTROL, Backend
from chalk_flask.audit.events import read_events
from chalk_flask.audit.log import AuditLog
from chalk_flask.auth.clients.store import ClientStore
from chalk_flask.auth.jwt.issuers import IssuerStore
from chalk_flask.auth.tokens.store import TokenStore
from chalk_flask.permissions.scopes import ROSTER
from chalk_flask.tenants.store import TenantStore, find_audit_tenant
from tests.audit.conftest import LockableStore

MORNING = datetime(2031, 5, 2, 8, 0, tzinfo=UTC)


def events_of(store: Backend, tenant: str = "default") -> list[dict[str, Any]]:
    return list(read_events(store, tenant))


def test_record_stores_the_event_in_its_tenant(store: Backend) -> None:
    TenantStore(store).create("north")
    log = AuditLog(store, find_audit_tenant, lambda: MORNING)
    log.record("north", "import.committed", rows=1)
    log.record("north", "tenant.changed", demographics=True)
    log.record("missing", "token.revoked", id="5f0c")
    assert [(event["event"], event["time"]) for event in events_of(store, "north")] == [
        ("import.committed", "2031-05-02T08:00:00.000000Z")
    ]
    assert {(event["tenant"], event["event"]) for event in events_of(store, CONTROL)} == {
        ("north", "tenant.created"),
        ("north", "tenant.changed"),
        ("missing", "token.revoked"),
    }


def test_record_rejects_an_unknown_event(store: Backend) -> None:
    with pytest.raises(ValueError, match=r"unknown audit event 'token\.eaten'"):
        AuditLog(store, find_audit_tenant).record("default", "token.eaten")


def test_record_stores_events_of_many_threads(store: Backend) -> None:
    log = AuditLog(store, find_audit_tenant, lambda: MORNING)

    def record_five() -> None:
        for _ in range(5):
            log.record("default", "gradebook.put")

    threads = [threading.Thread(target=record_five) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(events_of(store)) == 20


def test_record_logs_an_event_that_cannot_be_stored(
    lockable_store: LockableStore, caplog: pytest.LogCaptureFixture
) -> None:
    lockable_store.is_locked = True
    with caplog.at_level(logging.ERROR):
        AuditLog(lockable_store, find_audit_tenant).record("default", "token.revoked", id="5f0c")
    assert "the audit event token.revoked of tenant default was not stored: StorageBusyError" in caplog.text


@pytest.mark.every_backend
def test_each_change_of_a_credential_is_recorded_once(store: Backend) -> None:
    tokens, clients, issuers = TokenStore(store), ClientStore(store), IssuerStore(store)
    secret_token, token = tokens.create("a reader", [ROSTER])
    tokens.revoke(token.id)
    tokens.revoke(token.id)
    secret, client = clients.create("a client", [ROSTER])
    clients.rotate(client.id, timedelta(0))
    clients.revoke(client.id)
    clients.revoke(client.id)
    issuer = issuers.add("https://tool.example.org", "roster", [ROSTER], jwks_url="https://tool.example.org/jwks")
    issuers.remove(issuer.id)
    events = events_of(store)
    assert [(event["event"], event["id"], event["label"]) for event in events] == [
        ("token.created", token.id, "a reader"),
        ("token.revoked", token.id, "a reader"),
        ("client.created", client.id, "a client"),
        ("client.rotated", client.id, "a client"),
        ("client.revoked", client.id, "a client"),
        ("issuer.added", issuer.id, ""),
        ("issuer.removed", issuer.id, ""),
    ]
    assert events[0]["scopes"] == [ROSTER]
    assert str(secret_token) not in str(events)
    assert str(secret) not in str(events)
