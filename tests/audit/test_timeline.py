"""Timeline: audit events and access log entries of the right tenants in the order of time."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

from backends import CONTROL, Backend
from chalk_flask.audit.access_log import AccessLog
from chalk_flask.audit.events import record_event
from chalk_flask.audit.timeline import read_timeline
from chalk_flask.auth.tokens.store import TokenStore
from chalk_flask.tenants.store import TenantStore

MORNING = datetime(2031, 5, 2, 8, 0, tzinfo=UTC)


def record(store: Backend, place: str, tenant: str, event: str) -> None:
    """Store an event of a tenant in another one or in itself."""
    with store.write(place) as transaction:
        record_event(transaction, tenant, event)


def test_timeline_merges_events_and_access_log_by_time(store: Backend, tmp_path: Path) -> None:
    access_log = AccessLog(tmp_path, 90, interval=3600)
    for hours in (1, 3):
        time = (MORNING + timedelta(hours=hours)).timestamp()
        access_log.record(time, f'"tenant":"default","event":"read","hours":{hours}')
    access_log.close()
    with store.write("default") as transaction:
        for hours in (0, 2):
            record_event(transaction, "default", "gradebook.put", MORNING + timedelta(hours=hours), hours=hours)
    assert [event["hours"] for event in read_timeline(store, tmp_path, ["default"])] == [0, 1, 2, 3]
    assert [event["hours"] for event in read_timeline(None, tmp_path, [])] == [1, 3]
    assert [event["hours"] for event in read_timeline(store, tmp_path, ["default"], "2031-05-02T10")] == [2, 3]


def test_timeline_of_a_deleted_tenant_survives_it(store: Backend, tmp_path: Path) -> None:
    tenants = TenantStore(store)
    tenants.create("north")
    TokenStore(store).create("a test", [], "north")
    tenants.update("north", demographics=True)
    assert [event["event"] for event in read_timeline(store, tmp_path, ["north"], tenant="north")] == [
        "tenant.created",
        "token.created",
        "tenant.changed",
    ]
    tenants.delete("north")
    record(store, CONTROL, "north", "token.revoked")
    assert [event["event"] for event in read_timeline(store, tmp_path, ["north"], tenant="north")] == [
        "tenant.created",
        "tenant.changed",
        "tenant.deleted",
        "token.revoked",
    ]
    tenants.create("north")  # no event is left in its place that would prevent this


def test_timeline_of_one_tenant_has_no_events_of_others(store: Backend, tmp_path: Path) -> None:
    TenantStore(store).create("north")
    for tenant in ("north", "default", "north"):
        record(store, tenant, tenant, "import.committed")
    events = [(event["tenant"], event["event"]) for event in read_timeline(store, tmp_path, ["default", "north"])]
    assert events == [
        ("north", "tenant.created"),
        ("north", "import.committed"),
        ("default", "import.committed"),
        ("north", "import.committed"),
    ]
    assert [event["tenant"] for event in read_timeline(store, tmp_path, ["north"], tenant="north")] == ["north"] * 3
