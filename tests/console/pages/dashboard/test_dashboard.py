"""Dashboard: the checklist of a new tenant, and what it shows of a roster in use."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import timedelta
from html import unescape
from pathlib import Path

from chalk_flask.audit.access_log import AccessLog
from chalk_flask.outbox.delivery import enqueue
from chalk_flask.outbox.event import TEST, build_message
from chalk_flask.outbox.subscription import Subscription
from chalk_flask.permissions.scopes import ALL, DEFAULT
from chalk_flask.roster.imports import history
from chalk_flask.times import format_timestamp, utc_now
from tests.support.console.client import Console, visible_text
from tests.support.console.imports import package_bytes, run_upload, upload
from tests.support.deliveries import wait_until
from tests.support.packages import PackageBuilder, package_with_users


def dashboard(console: Console) -> str:
    return visible_text(console.get("/").text)


def test_new_tenant_sees_a_checklist_and_no_charts(empty_console: Console) -> None:
    empty_console.sign_in("owner")
    page = empty_console.get("/")
    text = visible_text(page.text)
    assert "First steps" in text
    assert "Upload a package" in text
    assert "<figure" not in page.text
    assert "Last import" not in text
    assert "No application has read" not in text


def test_number_of_guardians_links_to_these_users(empty_console: Console, tmp_path: Path) -> None:
    empty_console.sign_in("editor")
    run_upload(empty_console, package_bytes(PackageBuilder(), tmp_path), "roster.zip")
    wait_until(lambda: "are being counted" not in dashboard(empty_console))
    link = re.search(r'href="([^"]+)" aria-label="Guardians: 1"', empty_console.get("/").text)
    assert link
    page = empty_console.get(unescape(link[1]))
    assert re.findall(r"/roster/users/([\w-]+)\"", page.text) == ["parent-1"]


def test_viewer_cannot_take_steps_that_need_a_role(empty_console: Console) -> None:
    empty_console.sign_in("viewer")
    assert "/imports/upload" not in empty_console.get("/").text


def test_import_is_shown_with_counts_and_chart(empty_console: Console, tmp_path: Path) -> None:
    administrator = empty_console.sign_in("editor")
    run_upload(empty_console, package_bytes(PackageBuilder(), tmp_path), "<b>roster</b>.zip")
    wait_until(lambda: "are being counted" not in dashboard(empty_console))
    page = empty_console.get("/")
    text = visible_text(page.text)
    assert "Students 2 Teachers 1 Guardians 1 Schools 2 Classes 2 Enrollments 2" in text
    assert "Last import Imported just now" in text
    assert administrator.name in text
    assert "Records changed by imports" in text
    today = utc_now()
    assert f"{today:%b} {today.day}" in text
    assert "<b>" not in page.text
    assert "First steps" in text, "no application has read the roster yet"
    tokens = empty_console.services.tokens
    value, token = tokens.create("Reading app", ALL)
    assert value is not None
    assert tokens.authenticate(value)[0] is not None
    wait_until(lambda: tokens.list()[0].last_used is not None)
    assert "First steps" not in dashboard(empty_console)
    tokens.revoke(token.id)
    assert "First steps" not in dashboard(empty_console), "an application has read the roster"


def test_active_and_held_imports_are_announced(empty_console: Console, tmp_path: Path) -> None:
    empty_console.sign_in("editor")
    run_upload(empty_console, package_bytes(package_with_users(200), tmp_path))
    run_upload(empty_console, package_bytes(package_with_users(150), tmp_path), "smaller.zip")
    upload(empty_console, package_bytes(package_with_users(201), tmp_path), "other.zip")
    text = dashboard(empty_console)
    assert "An import is held for approval smaller.zip exceeds a change threshold" in text
    assert "Import of other.zip is queued" in text


def test_old_roster_is_marked(empty_console: Console, tmp_path: Path) -> None:
    empty_console.sign_in("viewer")
    editor = Console(empty_console.app)
    editor.sign_in("editor")
    run_upload(editor, package_bytes(PackageBuilder(), tmp_path))
    assert "Check whether the nightly import still runs" not in dashboard(empty_console)
    empty_console.app.extensions.pop("chalk_import_history")
    store = empty_console.services.store
    with store.write("default") as transaction:
        [key] = transaction.keys(history.COLLECTION)
        run = history.find_run(transaction, key)
        assert run is not None
        started = format_timestamp(utc_now() - timedelta(days=9))
        transaction.put(history.COLLECTION, [replace(run, started=started).to_record()])
    assert "Check whether the nightly import still runs" in dashboard(empty_console)


def test_requests_are_shown_by_label(empty_console: Console, tmp_path: Path) -> None:
    empty_console.sign_in("viewer")
    _, token = empty_console.services.tokens.create("Reading <app>", DEFAULT)
    log = AccessLog(tmp_path / "data" / "reads", days=30, interval=0)
    log.start()
    for by, way in ((token.id, "token"), (token.id, "token"), ("elsewhere", "issuer"), ("reader-9", "administrator")):
        log.record(utc_now().timestamp(), f'"tenant":"default","event":"read","way":"{way}","by":"{by}"')
    log.close()
    page = empty_console.get("/")
    text = visible_text(page.text)
    assert "Reading <app> API token 2 2" in text
    assert "elsewhere Trusted issuer 1 1" in text
    assert "reader-9" not in text, "the console is no application"
    assert "Reading <app>" not in page.text


def test_expiring_tokens_are_listed(empty_console: Console) -> None:
    empty_console.sign_in("viewer")
    for label, days in (("Soon", 5), ("Later", 300), ("Over", -1)):
        empty_console.services.tokens.create(label, DEFAULT, expires=utc_now() + timedelta(days=days, minutes=1))
    text = dashboard(empty_console)
    assert "Soon expires in 5 days" in text
    assert "Later" not in text
    assert "Over" not in text


def test_webhooks_are_shown_with_their_health(empty_console: Console) -> None:
    empty_console.sign_in("viewer")
    assert "Active" not in dashboard(empty_console)
    store = empty_console.services.store
    webhook = Subscription(
        id="wh-1", tenant="default", url="https://a.example/", created="2026-01-01T00:00:00.000Z", secrets=(), root=""
    )
    others = (
        replace(webhook, id="wh-2", label="Paused one", state="paused"),
        replace(webhook, id="wh-3", label="<i>Broken</i>", failing_since=format_timestamp(utc_now())),
    )
    with store.write("default") as transaction:
        transaction.put("webhooks", [each.to_record() for each in (webhook, *others)])
        message = build_message(
            TEST, "wh-3", "default", "2026-01-01T00:00:00.000Z", None, 1, {"batch": {"changes": []}}
        )
        enqueue(transaction, [("wh-3", message)], "2026-01-01T00:00:00.000Z", 0.0)
    text = dashboard(empty_console)
    assert "Active a.example" in text
    assert "Paused Paused one" in text
    assert "Failing <i>Broken</i> 1 delivery waiting failing since just now" in text
