"""What changed something stands in its tenant's audit, in order and for good."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from backends import Backend, StorageBusyError, Transaction, open_store
from backends.memory.backend import MemoryBackend
from chalk_flask.audit.events import EVENTS, read_events, record_event
from chalk_flask.audit.log import AuditLog
from chalk_flask.audit.login_log import MOST, LoginLog
from chalk_flask.audit.timeline import timeline
from chalk_flask.auth.clients.store import ClientStore
from chalk_flask.auth.jwt.issuers import IssuerStore
from chalk_flask.auth.tokens.store import TokenStore
from chalk_flask.permissions.scopes import ROSTER
from chalk_flask.storage import COLLECTIONS
from chalk_flask.tenants.store import CONTROL, TenantStore, find_audit_tenant
from chalk_flask.times import format_precise_timestamp
from tests.conftest import url_in

MORNING = datetime(2031, 5, 2, 8, 0, tzinfo=UTC)


class Clock:
    """A clock that is set by hand, in seconds."""

    seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


class Busy(MemoryBackend):
    """Memory that another writer holds for as long as a test says so."""

    held = False

    def write(self, tenant: str, wait: float = 60.0) -> Transaction:
        if self.held:
            raise StorageBusyError("another writer is not done")
        return super().write(tenant, wait)


@pytest.fixture
def store(backend: str, tmp_path: Path) -> Iterator[Backend]:
    with open_store(url_in(tmp_path, backend), COLLECTIONS) as opened:
        yield opened


@pytest.fixture
def busy() -> Busy:
    return Busy.open("memory:", COLLECTIONS)


def noted(store: Backend, tenant: str = "default", since: str = "") -> list[dict[str, Any]]:
    return list(read_events(store, tenant, since))


def counted(store: Backend, tenant: str = "default") -> list[tuple[Any, ...]]:
    return [(each["event"], each["client"], each["address"], each["count"]) for each in noted(store, tenant)]


def test_an_entry_says_when_what_and_to_which_ids(store: Backend) -> None:
    AuditLog(store, find_audit_tenant, lambda: MORNING).record(
        "default", "token.created", id="5f0c", label="Reading app", scopes=["a", "b"]
    )
    assert noted(store) == [
        {
            "time": "2031-05-02T08:00:00.000000Z",
            "tenant": "default",
            "event": "token.created",
            "id": "5f0c",
            "label": "Reading app",
            "scopes": ["a", "b"],
        }
    ]


def test_what_nobody_has_heard_of_is_not_noted(store: Backend) -> None:
    with pytest.raises(ValueError, match=r"unknown audit event 'token\.eaten'"):
        AuditLog(store, find_audit_tenant).record("default", "token.eaten")
    assert noted(store) == []


def test_entries_come_in_order_over_pages_and_from_a_moment_on(store: Backend) -> None:
    moments = [MORNING + timedelta(seconds=each) for each in range(1203)]
    with store.write("default") as transaction:
        for number, moment in enumerate(moments):
            record_event(transaction, "default", "gradebook.put", moment, id=str(number))
    assert [each["id"] for each in noted(store)] == [str(each) for each in range(1203)]
    assert [each["id"] for each in noted(store, since=format_precise_timestamp(moments[1200]))] == [
        "1200",
        "1201",
        "1202",
    ]


def test_many_entries_of_one_moment_are_all_kept(store: Backend) -> None:
    audit = AuditLog(store, find_audit_tenant, lambda: MORNING)

    def note_five() -> None:
        for _ in range(5):
            audit.record("default", "gradebook.put")

    threads = [threading.Thread(target=note_five) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(noted(store)) == 20


def test_an_entry_in_a_transaction_is_undone_with_it(store: Backend) -> None:
    with pytest.raises(KeyError), store.write("default") as transaction:
        record_event(transaction, "default", "import.committed", rows=3)
        raise KeyError
    assert noted(store) == []


def test_an_entry_moves_no_revision(store: Backend) -> None:
    with store.read("default") as snapshot:
        before = snapshot.revision
    AuditLog(store, find_audit_tenant).record("default", "import.committed")
    with store.read("default") as snapshot:
        assert snapshot.revision == before


def test_what_is_done_stays_done_when_it_cannot_be_noted(busy: Busy, caplog: pytest.LogCaptureFixture) -> None:
    busy.held = True
    with caplog.at_level(logging.ERROR):
        AuditLog(busy, find_audit_tenant).record("default", "token.revoked", id="5f0c")
    assert "the audit event token.revoked of tenant default was not stored: StorageBusyError" in caplog.text


def test_what_happens_to_a_tenant_is_remembered_when_it_is_no_more(store: Backend, tmp_path: Path) -> None:
    tenants = TenantStore(store)
    tenants.create("north")
    TokenStore(store).create("a test", [], "north")
    tenants.update("north", demographics=True)
    assert [each["event"] for each in noted(store, "north")] == ["token.created"]
    tenants.delete("north")
    AuditLog(store, find_audit_tenant).record("north", "token.revoked", id="5f0c")
    told = [each["event"] for each in timeline(store, tmp_path, ["north"], only="north")]
    assert told == ["tenant.created", "tenant.changed", "tenant.deleted", "token.revoked"]
    tenants.create("north")  # nothing is left in its place that would hinder that


def test_the_history_of_a_tenant_has_nothing_of_another(store: Backend, tmp_path: Path) -> None:
    TenantStore(store).create("north")
    for tenant in ("north", "default", "north"):
        AuditLog(store, find_audit_tenant).record(tenant, "import.committed", rows=1)
    told = [(each["tenant"], each["event"]) for each in timeline(store, tmp_path, ["default", "north"])]
    created, theirs, others = (
        ("north", "tenant.created"),
        ("north", "import.committed"),
        ("default", "import.committed"),
    )
    assert told == [created, theirs, others, theirs]
    assert [each["tenant"] for each in timeline(store, tmp_path, ["north"], only="north")] == ["north"] * 3


def test_logins_are_noted_once_and_then_counted_for_a_minute(store: Backend) -> None:
    clock = Clock()
    logins = LoginLog(store, find_audit_tenant, gather=3600, now=clock)
    for _ in range(3):
        logins.succeeded("default", "c-1")
    logins.failed("default", "c-1", "192.0.2.1")
    logins._write(logins._taken())
    assert counted(store) == [("login.succeeded", "c-1", None, 3), ("login.failed", "c-1", "192.0.2.1", 1)]
    for clock.seconds in (10.0, 59.0):
        logins.failed("default", "c-1", "192.0.2.1")
        logins._write(logins._taken())
    assert len(counted(store)) == 2
    clock.seconds = 61.0
    logins._write(logins._taken())
    assert counted(store)[2:] == [("login.failed", "c-1", "192.0.2.1", 2)]
    logins.close()


def test_the_end_loses_no_login(store: Backend) -> None:
    logins = LoginLog(store, find_audit_tenant, gather=3600)
    logins.failed("default", "c-1", "192.0.2.1")
    logins.close()
    logins.close()
    assert counted(store) == [("login.failed", "c-1", "192.0.2.1", 1)]


def test_logins_are_written_by_a_thread_that_ends_when_there_is_no_more(store: Backend) -> None:
    logins = LoginLog(store, find_audit_tenant, gather=0.01)
    logins.succeeded("default", "c-1")
    thread = logins._writer
    assert thread is not None
    thread.join(10)
    assert not thread.is_alive()
    assert counted(store) == [("login.succeeded", "c-1", None, 1)]
    logins.close()


def test_an_unknown_client_is_noted_without_the_id_that_it_gave(store: Backend) -> None:
    logins = LoginLog(store, find_audit_tenant, gather=3600)
    logins.failed(None, None, "192.0.2.1")
    logins.close()
    assert counted(store, CONTROL) == [("login.failed", None, "192.0.2.1", 1)]


def test_an_attack_from_everywhere_makes_a_bounded_number_of_entries(store: Backend) -> None:
    clock = Clock()
    logins = LoginLog(store, find_audit_tenant, gather=3600, now=clock)
    for second in range(50):
        clock.seconds = second
        for number in range(200):
            logins.failed(None, None, f"192.0.{second}.{number}")
        logins._write(logins._taken())
    logins.close()
    entries = counted(store, CONTROL)
    assert len(entries) <= MOST + 2
    assert sum(count for *_, count in entries) == 10_000
    assert any(address is None for _, _, address, _ in entries)


def test_logins_wait_for_a_store_that_is_held(busy: Busy) -> None:
    logins = LoginLog(busy, find_audit_tenant, gather=0.01)
    busy.held = True
    for _ in range(5):
        logins.failed("default", "c-1", "192.0.2.1")
    logins._write(logins._taken())
    busy.held = False
    logins.close()
    assert sum(count for *_, count in counted(busy)) == 5


def test_no_event_tells_a_secret(store: Backend) -> None:
    assert {event.split(".")[0] for event in EVENTS} == {
        "token", "client", "issuer", "tenant", "import", "gradebook", "login", "webhook",
    }  # fmt: skip
    token, record = TokenStore(store).create("a test", [])
    AuditLog(store, find_audit_tenant).record("default", "token.created", id=record.id, label=record.label)
    assert token is not None
    assert token not in str(noted(store))


def test_whoever_makes_and_ends_credentials_is_noted_once(store: Backend) -> None:
    tokens, clients, issuers = TokenStore(store), ClientStore(store), IssuerStore(store)
    _, token = tokens.create("a reader", [ROSTER])
    tokens.revoke(token.id)
    tokens.revoke(token.id)
    _, client = clients.create("a client", [ROSTER])
    clients.rotate(client.id, timedelta(0))
    clients.revoke(client.id)
    clients.revoke(client.id)
    issuer = issuers.add("https://tool.example.org", "roster", [ROSTER], jwks_url="https://tool.example.org/jwks")
    issuers.remove(issuer.id)
    told = [(each["event"], each["id"], each["label"]) for each in noted(store)]
    assert told == [
        ("token.created", token.id, "a reader"),
        ("token.revoked", token.id, "a reader"),
        ("client.created", client.id, "a client"),
        ("client.rotated", client.id, "a client"),
        ("client.revoked", client.id, "a client"),
        ("issuer.added", issuer.id, ""),
        ("issuer.removed", issuer.id, ""),
    ]
    assert noted(store)[0]["scopes"] == [ROSTER]
