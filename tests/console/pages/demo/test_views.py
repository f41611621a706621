"""Page of the demo: packages to import, and a receiver that verifies deliveries."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from flask import Flask
from werkzeug.test import TestResponse

from chalk_flask import create_app
from chalk_flask.cli.package_import import run_import
from chalk_flask.console.pages.demo.packages import SAMPLE_PACKAGES, package_bytes
from chalk_flask.console.pages.demo.receiver import MAX_DELIVERIES, RECEIVER_PATH, DemoReceiver, register_receiver
from chalk_flask.times import utc_now
from chalk_flask.webhooks.http.signature import signed_headers
from tests.conftest import services_of
from tests.console.pages.webhooks.test_webhooks import secret_in
from tests.support.console.client import Console, visible_text
from tests.support.console.imports import run_upload
from tests.support.paths import ROOT

URL = "http://127.0.0.1:8080"
STATES = {"few-changes": "applied", "missing-enrollments": "held", "mistakes": "rejected"}
"""What the sample packages cause."""


@pytest.fixture
def demo_app(tmp_path: Path) -> Iterator[Flask]:
    """Application of the demo, with the sample district."""
    app = create_app(storage="memory:", data=str(tmp_path), webhook_allowed_hosts="127.0.0.1:8080")
    services = services_of(app)
    run_import(services.store, services.settings, ROOT / "chalk_flask" / "demo", "default", requested_by="demo")
    register_receiver(app, services).listen_at(URL)
    yield app
    services.access_log.close()
    services.store.close()


@pytest.fixture
def demo(demo_app: Flask) -> Console:
    """Browser of an owner of the sample district."""
    console = Console(demo_app)
    console.sign_in("owner")
    return console


def test_sample_packages_are_applied_held_and_rejected(demo: Console) -> None:
    assert {package.name for package in SAMPLE_PACKAGES} == set(STATES)
    for package in SAMPLE_PACKAGES:
        response = demo.get(f"/demo/packages/{package.name}")
        assert response.mimetype == "application/zip"
        page = visible_text(run_upload(demo, response.data, f"{package.name}.zip").text)
        assert f"The package {'is' if STATES[package.name] == 'held' else 'was'} {STATES[package.name]}" in page


def test_sample_packages_are_the_same_each_time() -> None:
    for package in SAMPLE_PACKAGES:
        assert package_bytes(package) == package_bytes(package)


def test_pages_of_a_demo_lead_to_packages_and_receiver(demo: Console) -> None:
    for path in ("/", "/imports/upload", "/webhooks/new"):
        assert '<a href="/demo"' in demo.get(path).text
    assert f"{URL}{RECEIVER_PATH}" in visible_text(demo.get("/demo").text)
    demo.get("/demo/packages/unknown", 404)


def test_new_webhook_offers_the_receiver_of_the_demo(demo: Console) -> None:
    text = demo.get("/webhooks/new").text
    assert f'href="/webhooks/new?url={URL}{RECEIVER_PATH}"' in text
    text = visible_text(demo.get("/webhooks/new", url=f"{URL}{RECEIVER_PATH}").text)
    assert "URL The receiver of the demo." in text
    assert "Label optional" in text
    assert "No receiver at hand" not in text


def test_other_services_have_no_page_of_the_demo(console: Console) -> None:
    console.sign_in("owner")
    console.get("/demo", 404)
    console.get("/demo/packages/few-changes", 404)
    assert console.client.post(RECEIVER_PATH).status_code == 404
    for path in ("/", "/imports/upload", "/webhooks/new"):
        assert "/demo" not in console.get(path).text


def test_receiver_lists_deliveries_that_a_webhook_signed(demo: Console) -> None:
    webhook_id, secret = _create_webhook(demo)
    response = _post(demo, webhook_id, secret, b'{"type":"test"}')
    assert (response.status_code, response.text) == (200, "Received and verified.\n")
    page = demo.get("/demo")
    assert "event-1" in visible_text(page.text)
    assert f"/webhooks/{webhook_id}/deliveries/event-1" in page.text
    other = Console(demo.app)
    other.sign_in("owner", None)
    other.submit("/tenants/new", action="/tenants", name="west")
    demo.sign_in("owner", "west")
    assert "event-1" not in demo.get("/demo").text


@pytest.mark.parametrize("kind", ["other secret", "other body", "unknown webhook", "no headers", "binary"])
def test_receiver_rejects_what_no_webhook_signed(demo: Console, kind: str) -> None:
    webhook_id, secret = _create_webhook(demo)
    if kind == "other secret":
        secret = "whsec_MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE="
    if kind == "no headers":
        response = demo.client.post(RECEIVER_PATH, data=b"{}")
    elif kind == "binary":
        response = demo.client.post(RECEIVER_PATH, data=b"\xff", headers=_signed(secret, webhook_id, b"{}"))
    else:
        sent = b"{}" if kind == "other body" else None
        response = _post(demo, "wh-x" if kind == "unknown webhook" else webhook_id, secret, b"[]", sent)
    assert response.status_code == 401
    assert "Nothing yet" in demo.get("/demo").text


def test_receiver_keeps_the_newest_deliveries(demo: Console) -> None:
    webhook_id, secret = _create_webhook(demo)
    for _ in range(MAX_DELIVERIES + 1):
        _post(demo, webhook_id, secret, b"{}")
    receiver: DemoReceiver = demo.app.extensions["chalk_demo"]
    assert len(receiver.list("default")) == MAX_DELIVERIES


def _create_webhook(demo: Console) -> tuple[str, str]:
    """Create a webhook for the receiver in the console, and return its id and its secret."""
    page = demo.submit("/webhooks/new", action="/webhooks", url=f"{URL}{RECEIVER_PATH}")
    secret = secret_in(page.text)
    assert secret
    return page.request.path.rpartition("/")[2], secret


def _post(demo: Console, webhook_id: str, secret: str, body: bytes, sent: bytes | None = None) -> TestResponse:
    """Send a delivery; `sent` is its body if it differs from the one that is signed."""
    headers = _signed(secret, webhook_id, body)
    return demo.client.post(RECEIVER_PATH, data=body if sent is None else sent, headers=headers)


def _signed(secret: str, webhook_id: str, body: bytes) -> dict[str, str]:
    return signed_headers([secret], "event-1", webhook_id, utc_now(), body)
