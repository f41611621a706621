"""Page `/audit`: entries of the tenant, filters, pages, and export."""

from __future__ import annotations

import csv
import io
import re
import shutil
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import orjson
import pytest
from flask import Flask
from markupsafe import escape
from werkzeug.test import TestResponse

from backends import CONTROL
from chalk_flask import create_app
from chalk_flask.audit.events import record_event
from chalk_flask.audit.timeline import read_timeline
from chalk_flask.console.pages.audit import audit_log
from chalk_flask.times import format_precise_timestamp
from tests.conftest import services_of
from tests.support.console.client import Console, fill_console_store, links_of, visible_text
from tests.support.storage.audit_events import events_of_tenant

AUDIT, EXPORT = "/audit", "/audit/export"
MORNING = datetime(2031, 5, 2, 8, 0, tzinfo=UTC)


@pytest.fixture(scope="module")
def audit_app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Flask]:
    """Application whose folder `data` belongs to these tests."""
    app = create_app(storage="memory:", data=str(tmp_path_factory.mktemp("data")), audit_days="0")
    yield app
    services_of(app).store.close()


@pytest.fixture
def console_app(audit_app: Flask) -> Flask:
    """Application with an empty access log, which only the tests write."""
    shutil.rmtree(Path(services_of(audit_app).settings.data) / "reads", ignore_errors=True)
    fill_console_store(audit_app)
    return audit_app


def record(
    console: Console, event: str, minute: int, tenant: str = "default", stored_in: str = "", **members: str
) -> None:
    with console.services.store.write(stored_in or tenant) as transaction:
        record_event(transaction, tenant, event, MORNING + timedelta(minutes=minute), **members)


def write_reads(console: Console, *minutes: int, tenant: str = "default", by: str = "5f0c") -> None:
    folder = Path(console.services.settings.data) / "reads"
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "2031-05-02.jsonl").open("ab") as file:
        for minute in minutes:
            time = format_precise_timestamp(MORNING + timedelta(minutes=minute))
            entry = {"time": time, "tenant": tenant, "event": "read", "way": "token", "by": by, "route": "/users"}
            file.write(orjson.dumps(entry) + b"\n")


def export(console: Console, **params: Any) -> TestResponse:
    """Return a complete export."""
    response = console.get(EXPORT, **params)
    response.get_data()
    response.close()
    return response


def test_newest_entries_of_the_tenant_come_first(console: Console) -> None:
    record(console, "token.created", 1, id="first", label="First app")
    record(console, "token.revoked", 2, id="second", label="Second app")
    record(console, "token.created", 3, "west", id="third", label="Third app")
    record(console, "tenant.changed", 4, "default", CONTROL)
    record(console, "tenant.changed", 5, "west", CONTROL, id="other")
    console.sign_in("viewer")
    text = visible_text(console.get(AUDIT).text)
    assert text.index("Tenant changed") < text.index("Second app") < text.index("First app")
    assert "Third app" not in text
    assert "other" not in text.partition("Details")[2]


def test_who_is_shown_by_name(console: Console) -> None:
    me = console.sign_in("owner", name="kim")
    operator = console.services.administrators.create("boss", "owner", None, "correct horse battery")
    record(console, "administrator.changed", 1, id=me.id, change="role", by=operator.id)
    page = visible_text(console.get(AUDIT).text)
    assert "an operator" in page
    assert "boss" not in page
    assert f"id {me.name}" in page


def test_entries_are_filtered_by_event_time_and_id(console: Console) -> None:
    record(console, "token.created", 1, id="first", label="First app")
    record(console, "client.created", 2, id="second", label="Second app")
    write_reads(console, 3)
    console.sign_in("viewer")

    def shown(**params: Any) -> str:
        return visible_text(console.search(AUDIT, **params).text)

    assert "/users" not in shown()
    assert "/users" in shown(event="")
    assert "First app" not in shown(event="read")
    assert "/users" in shown(event="read")
    assert "Second app" not in shown(event="token.created")
    assert "First app" in shown(id="first")
    assert "Second app" not in shown(id="first")
    assert "/users" in shown(event="", id="5f0c")
    assert "First app" in shown(**{"from": "2031-05-02", "to": "2031-05-02"})
    assert "No entry matches the filter" in shown(**{"from": "2031-05-03"})
    assert "First app" not in shown(to="2031-05-01")


@pytest.mark.parametrize("params", [{"from": "yesterday"}, {"to": "2031-13-01"}, {"to": "9999-12-31"}, {"event": "x"}])
def test_invalid_filter_is_explained(console: Console, params: dict[str, Any]) -> None:
    console.sign_in("viewer")
    for response in (console.get(AUDIT, **params), console.submit(AUDIT, action=AUDIT, status=422, **params)):
        assert re.search("Enter days|Unknown event", visible_text(response.text))
    console.get(EXPORT, 400, **params)


@pytest.mark.parametrize("before", ["x", "2031-05-02T08:00:00Z", "9" * 500])
def test_invalid_place_is_ignored(console: Console, before: str) -> None:
    record(console, "token.created", 1, label="First app")
    console.sign_in("viewer")
    assert "First app" in console.get(AUDIT, before=before).text


def test_pages_contain_every_entry_once(console: Console, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit_log, "PAGE_SIZE", 7)
    for number in range(30):
        record(console, "token.created", number // 4, label=f"App-{number}!")
    write_reads(console, *range(8), tenant="west")
    write_reads(console, *range(8), by="reader")
    console.sign_in("viewer")
    text, path, pages = "", f"{AUDIT}?event=", 0
    while path:
        page = console.get(path).text
        text, pages = text + page, pages + 1
        path = next((link for link in links_of(page) if "before=" in link and "Older" in page), "")
    assert pages > 3
    for number in range(30):
        assert text.count(f"App-{number}!") == 1
    assert text.count("/users") == 8


def test_search_ends_after_a_number_of_entries(console: Console, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit_log, "MAX_SCANNED", 5)
    record(console, "token.created", 0, id="sought", label="Sought app")
    for number in range(1, 12):
        record(console, "token.created", number, id="other", label="Other app")
    console.sign_in("viewer")
    page = console.search(AUDIT, id="sought").text
    assert "Continue with older entries" in page
    for _ in range(3):
        older = [link for link in links_of(page) if "before=" in link]
        page = console.get(older[0]).text if older else page
    assert "Sought app" in page


def test_operator_sees_all_tenants_on_request(console: Console) -> None:
    record(console, "token.created", 1, "west", label="West app")
    record(console, "session.started", 2, CONTROL, id="service")
    console.sign_in("owner", None)
    assert "West app" not in console.get(AUDIT).text
    page = visible_text(console.get(AUDIT, tenants="all").text)
    assert "West app" in page
    assert "Session started" in page
    console.sign_in("owner")
    assert "West app" not in console.get(AUDIT, tenants="all").text


def test_export_contains_the_entries_of_the_timeline(console: Console) -> None:
    record(console, "token.created", 1, id="first", label="=1+1", by="@kim")
    record(console, "token.created", 2, "west", label="West app")
    write_reads(console, 3)
    console.sign_in("viewer")
    lines = export(console, event="", format="jsonl", to="2031-05-02").text.splitlines()
    stored = read_timeline(
        console.services.store, Path(console.services.settings.data) / "reads", ["default"], tenant="default"
    )
    expected = [entry for entry in stored if entry["time"] < "2031-05-03"]
    assert [orjson.loads(line) for line in lines] == expected[::-1]
    response = export(console, event="", format="csv", to="2031-05-02")
    assert response.mimetype == "text/csv"
    assert response.headers["Content-Disposition"].startswith('attachment; filename="audit-default-')
    header, read, created = list(csv.reader(io.StringIO(response.text)))[:3]
    assert header == ["time", "tenant", "event", "who", "details"]
    assert read[1:4] == ["default", "read", "5f0c"]
    assert created[3] == "'@kim"
    assert orjson.loads(created[4]) == {"id": "first", "label": "=1+1"}


def test_export_is_limited(console: Console, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit_log, "MAX_EXPORTED", 3)
    for number in range(6):
        record(console, "token.created", number, label=f"App {number}")
    console.sign_in("viewer")
    page = export(console, format="jsonl", event="token.created").text
    assert [orjson.loads(line)["label"] for line in page.splitlines()] == ["App 5", "App 4", "App 3"]
    console.get(EXPORT, 400, format="exe")


def test_exports_at_the_same_time_are_limited(console: Console) -> None:
    console.sign_in("owner")
    running = [console.client.get(EXPORT, headers={"Accept": "text/html"}) for _ in range(2)]
    assert [response.status_code for response in running] == [200, 200]
    assert "2 exports in progress" in visible_text(console.get(EXPORT, 429).text)
    running[0].close()
    assert export(console).data.startswith(b"time,tenant,event")
    assert export(console).status_code == 200, "the end of an export makes room"
    running[1].close()


def test_values_of_entries_are_escaped(console: Console) -> None:
    text = "<script>alert(1)</script>"
    record(console, "token.created", 1, id=text, label=text, by=text)
    console.sign_in("viewer")
    page = console.search(AUDIT, id=text).text
    assert text not in page
    assert str(escape(text)) in page


def test_unreadable_access_log_leaves_the_events(console: Console) -> None:
    record(console, "token.created", 1, label="First app")
    folder = Path(console.services.settings.data) / "reads" / "2031-05-02.jsonl"
    folder.mkdir(parents=True)
    console.sign_in("viewer")
    page = visible_text(console.get(AUDIT, event="").text)
    assert "The access log cannot be read" in page
    assert "First app" in page


def test_changes_in_the_console_name_the_administrator(console: Console) -> None:
    me = console.sign_in("owner", name="kim")
    console.submit("/settings/clients/new", action="/settings/clients", label="New app")
    page = visible_text(console.get(AUDIT, event="client.created").text)
    assert "kim id chk_client_" in page
    console.services.clients.create("Other app", [], "default")
    stored = events_of_tenant(console.services.store, "default")
    created = {entry["label"]: entry.get("by") for entry in stored if entry["event"] == "client.created"}
    assert created == {"New app": me.id, "Other app": None}
