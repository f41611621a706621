"""`/metrics`: who may read it, and that its numbers are those of requests, rosters, imports and webhooks."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from flask import Flask

from backends import SharedValues
from chalk_flask import create_app
from chalk_flask.auth.secrets import SecretCipher
from chalk_flask.roster.counts import SHARED_SCOPE
from chalk_flask.roster.tenant_imports import approve_import, run_import
from chalk_flask.sources import SourceRequest, SourceStore
from chalk_flask.tenants.store import TenantStore
from chalk_flask.times import utc_now
from tests.conftest import services_of, url_in
from tests.support.api_client import IMS, Consumer
from tests.support.deliveries import add_webhook, queue_events, wait_until
from tests.support.metrics import parse_samples
from tests.support.packages import PackageBuilder, package_with_users
from tests.support.paths import ROOT

Serve = Callable[..., Flask]
TOKEN = "canary-token-of-metrics"
MARKED_COUNT = 987_654
DASHBOARD = ROOT / "config" / "grafana-dashboard.json"


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Serve]:
    """Factory of applications in memory."""
    apps: list[Flask] = []

    def create(storage: str = "memory:", **settings: object) -> Flask:
        apps.append(create_app(storage=storage, data=str(tmp_path / "data"), **settings))
        return apps[-1]

    yield create
    for app in apps:
        services_of(app).access_log.close()
        services_of(app).store.close()


def samples(app: Flask) -> dict[tuple[str, ...], float]:
    """Return the values of the metrics by name and sorted label values."""
    response = app.test_client().get("/metrics")
    assert response.status_code == 200, response.text
    assert response.content_type == "text/plain; version=0.0.4; charset=utf-8"
    assert response.headers["Cache-Control"] == "no-store"
    return parse_samples(response.text)


def import_package(app: Flask, package: PackageBuilder, folder: Path, tenant: str = "default") -> str:
    """Import a package, and return the id of the run."""
    services, path = services_of(app), package.zip(folder / "package.zip")
    return run_import(services.store, services.settings, path, tenant, requested_by="test").run


@pytest.mark.parametrize(
    ("headers", "address", "status"),
    [
        ({}, "127.0.0.1", 200),
        ({}, "::1", 200),
        ({}, "::ffff:127.0.0.1", 200),
        ({}, "192.0.2.1", 403),
        ({}, "", 403),
        ({"X-Forwarded-For": "192.0.2.1"}, "127.0.0.1", 403),
        ({"Forwarded": "for=192.0.2.1"}, "127.0.0.1", 403),
        ({"Via": "1.1 proxy"}, "127.0.0.1", 403),
        ({"X-Real-IP": "192.0.2.1"}, "127.0.0.1", 403),
    ],
    ids=["ipv4", "ipv6", "mapped", "other", "none", "x-forwarded-for", "forwarded", "via", "x-real-ip"],
)
def test_without_token_only_this_machine_reads_metrics(
    app: Flask, headers: dict[str, str], address: str, status: int
) -> None:
    response = app.test_client().get("/metrics", headers=headers, environ_overrides={"REMOTE_ADDR": address})
    assert response.status_code == status


@pytest.mark.parametrize(
    ("authorization", "status"),
    [
        (f"Bearer {TOKEN}", 200),
        (f"bearer  {TOKEN} ", 200),
        (f"Bearer {TOKEN}x", 401),
        (f"Basic {TOKEN}", 401),
        ("", 401),
    ],
    ids=["right", "spaces", "wrong", "basic", "none"],
)
def test_token_is_required_from_everywhere_if_set(
    serve: Serve, authorization: str, status: int, caplog: pytest.LogCaptureFixture
) -> None:
    client = serve(metrics_token=TOKEN).test_client()
    for address in ("127.0.0.1", "192.0.2.1"):
        headers, environ = {"Authorization": authorization}, {"REMOTE_ADDR": address}
        response = client.get("/metrics", headers=headers, environ_overrides=environ)
        assert response.status_code == status
        assert (response.headers.get("WWW-Authenticate") == "Bearer") == (status == 401)
    assert "canary" not in str([record.__dict__ for record in caplog.records])


def test_metrics_are_missing_and_ids_remain_if_disabled(serve: Serve) -> None:
    app = serve(metrics=False)
    response = app.test_client().get("/metrics")
    assert (response.status_code, response.headers["X-Request-ID"] != "") == (404, True)
    assert b"chalk_requests_total{" not in services_of(app).metrics.render()


@pytest.mark.parametrize("accept", ["application/openmetrics-text; version=x", "text/plain; version=9;\u00e9", "*/*"])
def test_any_accept_header_gets_text(app: Flask, accept: str) -> None:
    response = app.test_client().get("/metrics", environ_overrides={"HTTP_ACCEPT": accept})
    assert (response.status_code, response.content_type) == (200, "text/plain; version=0.0.4; charset=utf-8")


def test_requests_are_counted_by_template_without_ids(app: Flask) -> None:
    consumer = Consumer(app)
    for path in ("/users/u-canary", "/users/u-canary2", "/users?filter=familyName='Canary'"):
        consumer.get(path)
    consumer.client.open("/canary", method="CANARY")
    consumer.client.get("/healthz")
    found = samples(app)
    assert found["chalk_requests_total", "GET", f"{IMS}/users/{{id}}", "404"] == 2
    assert found["chalk_requests_total", "GET", f"{IMS}/users", "200"] == 1
    assert found["chalk_requests_total", "other", "(no route)", "404"] == 1
    assert found["chalk_request_seconds_count", "GET", "/healthz"] == 1
    assert "canary" not in str(found).lower()


def test_streams_are_counted_while_they_last(serve: Serve, tmp_path: Path) -> None:
    app = serve()
    import_package(app, package_with_users(2000), tmp_path)
    consumer = Consumer(app)
    headers = {"Authorization": f"Bearer {consumer.token}"}
    response = consumer.client.get("/api/oneroster/v1p1/users", headers=headers, buffered=False)
    assert response.is_streamed
    assert samples(app)["chalk_streams", "stream"] == 1
    response.close()
    found = samples(app)
    assert found["chalk_streams", "stream"] == 0
    assert found["chalk_stream_seconds_count", "/api/oneroster/v1p1/users"] == 1
    assert found["chalk_requests_total", "GET", "/api/oneroster/v1p1/users", "200"] == 1


@pytest.mark.every_backend
def test_rosters_and_imports_are_counted(serve: Serve, tmp_path: Path, backend: str) -> None:
    app = serve(url_in(tmp_path, backend))
    TenantStore(services_of(app).store).create("north")
    import_package(app, package_with_users(200), tmp_path)
    import_package(app, package_with_users(200), tmp_path)
    held = import_package(app, package_with_users(100), tmp_path)
    import_package(app, package_with_users(90), tmp_path)
    import_package(app, PackageBuilder().set("users", "pupil-1", role="invalid"), tmp_path)
    counted = {("chalk_roster_records", "users", tenant) for tenant in ("default", "north")}
    wait_until(lambda: counted <= samples(app).keys())
    found = samples(app)
    assert found["chalk_roster_records", "users", "default"] >= 200
    assert found["chalk_roster_records", "users", "north"] == 0
    outcomes = {key[1]: value for key, value in found.items() if key[0] == "chalk_import_runs" and key[2] == "default"}
    assert outcomes == {"committed": 1, "unchanged": 1, "held": 2, "discarded": 0, "rejected": 1}
    assert found["chalk_held_packages", "default"] == 2
    assert 0 <= found["chalk_roster_age_seconds", "default"] < 600
    assert ("chalk_roster_age_seconds", "north") not in found
    approve_import(services_of(app).store, services_of(app).settings, "default", held, requested_by="test")
    assert samples(app)["chalk_held_packages", "default"] == 0  # the other one is overtaken


def mark_stored_counts(state: SharedValues) -> None:
    """Replace the stored number of users, so that it differs from that of a new count."""
    version, counts = state.get(SHARED_SCOPE, "default")
    state.put(SHARED_SCOPE, "default", [version, counts | {"users": MARKED_COUNT}], time.time() + 60)


def test_records_are_known_at_the_first_request_after_a_restart(serve: Serve, tmp_path: Path) -> None:
    url, state = url_in(tmp_path, "sqlite"), tmp_path / "shared-state.db"
    former = serve(url)
    services_of(former).shared_state.start(state)
    import_package(former, package_with_users(20), tmp_path)
    wait_until(lambda: ("chalk_roster_records", "users", "default") in samples(former))
    services_of(former).shared_state.close()
    app = serve(url)
    shared_state = services_of(app).shared_state
    shared_state.start(state)
    shared_state.attempt(mark_stored_counts, lambda: pytest.fail("the file is not open"))
    assert samples(app)["chalk_roster_records", "users", "default"] == MARKED_COUNT
    shared_state.close()


@pytest.mark.every_backend
def test_pending_deliveries_are_counted(serve: Serve, tmp_path: Path, backend: str) -> None:
    app = serve(url_in(tmp_path, backend))
    store = services_of(app).store
    add_webhook(store, tmp_path, "https://canary.example.org/secret")
    add_webhook(store, tmp_path, "https://canary.example.org/secret", "wh-2", state="paused")
    assert samples(app)["chalk_webhook_oldest_pending_seconds", "default", "wh-1"] == 0
    queue_events(store, 3, due=1_700_000_000.0)
    queue_events(store, 1)
    found = samples(app)
    assert found["chalk_webhook_pending_deliveries", "default", "wh-1"] == 4
    assert found["chalk_webhook_pending_deliveries", "default", "wh-2"] == 0
    assert found["chalk_webhook_oldest_pending_seconds", "default", "wh-1"] > 1_000_000
    assert found["chalk_webhooks", "active", "default"] == 1
    assert found["chalk_webhooks", "paused", "default"] == 1
    assert "canary" not in str(found)


def test_missing_store_is_a_metric(serve: Serve, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    app = serve(url_in(tmp_path, "sqlite"))
    assert samples(app)["chalk_store_up",] == 1
    for path in tmp_path.glob("chalk.db*"):
        path.unlink()
    wait_until(lambda: samples(app)["chalk_store_up",] == 0)
    found = samples(app)
    assert found["chalk_worker_running", "webhooks"] == 0
    assert not [key for key in found if key[0].startswith("chalk_import")]
    assert caplog.text.count("metrics of the store are missing") == 1


def test_dashboard_and_guide_name_existing_metrics(serve: Serve, tmp_path: Path) -> None:
    app = serve()
    add_webhook(services_of(app).store, tmp_path, "https://receiver.example.org/")
    import_package(app, package_with_users(10), tmp_path)
    wait_until(lambda: ("chalk_roster_records", "users", "default") in samples(app))
    text = app.test_client().get("/metrics").text
    names = set(re.findall(r"^# TYPE (chalk_\w+)", text, re.MULTILINE))
    dashboard = json.loads(DASHBOARD.read_text(encoding="utf-8"))
    queries = " ".join(target["expr"] for panel in dashboard["panels"] for target in panel["targets"])
    assert {name.removesuffix("_bucket") for name in re.findall(r"chalk_\w+", queries)} <= names
    guide = (ROOT / "docs" / "how-to" / "monitoring.md").read_text(encoding="utf-8")
    assert set(re.findall(r"\bchalk_\w+", guide)) == names


def test_failures_of_sources_are_counted(serve: Serve) -> None:
    app = serve()
    services = services_of(app)
    sources = SourceStore(services.store, SecretCipher(services.settings.data))
    sources.add("default", SourceRequest(name="sis", url="https://sis.example.org/v1p1", auth="bearer", secret="x"))
    assert samples(app)["chalk_source_failures", "sis", "default"] == 0
    for _ in range(2):
        sources.record_failure("default", "sis", utc_now(), "no answer")
    assert samples(app)["chalk_source_failures", "sis", "default"] == 2
