"""Forms that a browser sends twice at the same time, for example after a double click: exactly one effect."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from werkzeug.test import TestResponse

from chalk_flask import create_app
from chalk_flask.auth.jwt.issuers import IssuerStore
from chalk_flask.jobs import JobStore
from chalk_flask.tenants.store import TenantStore
from tests.conftest import services_of
from tests.support.console.client import Console, filled, find_form, visible_text
from tests.support.console.imports import package_bytes, run_upload
from tests.support.packages import package_with_users

CLICKS = 4
SCOPE = "https://purl.imsglobal.org/spec/or/v1p1/scope/roster-core.readonly"
ISSUER = {
    "label": "Tool",
    "issuer": "https://login.example.org",
    "audience": "chalk",
    "jwks_url": "https://login.example.org/jwks",
}

_numbers = itertools.count(1)


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Flask]:
    folder = tmp_path_factory.mktemp("double-submits")
    app = create_app(storage=f"sqlite:///{folder}/chalk.db", data=str(folder / "data"))
    yield app
    services_of(app).access_log.close()
    services_of(app).store.close()


@pytest.fixture(autouse=True)
def _patience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("chalk_flask.console.submissions.MAX_WAIT_SECONDS", 60.0)  # on a busy machine too


@pytest.fixture
def operator(app: Flask) -> Console:
    """Browser of an operator with the role owner."""
    console = Console(app)
    console.sign_in("owner", None, f"operator-{next(_numbers)}")
    return console


def click_repeatedly(console: Console, page: str, action: str, **fields: Any) -> set[str]:
    """Send the form of a page several times at the same time. Return where the responses lead."""
    return {response.headers["Location"] for response in send_at_once(console, page, action, 303, **fields)}


def send_at_once(console: Console, page: str, action: str, status: int, **fields: Any) -> list[TestResponse]:
    """Send the form of a page several times at the same time. Return the responses, which must have the status."""
    form = find_form(console.get(page).text, action)
    cookies = [(name, console.client.get_cookie(name)) for name in ("chalk-session", "chalk-page")]

    def send(_: int) -> TestResponse:
        browser = Console(console.app)
        for name, cookie in cookies:
            assert cookie
            browser.client.set_cookie(name, cookie.value)
        return browser.post(form.action, filled(form, fields), status)

    with ThreadPoolExecutor(CLICKS) as pool:
        return list(pool.map(send, range(CLICKS)))


def counts(app: Flask) -> dict[str, int]:
    """Return the number of objects of each kind that forms create."""
    services = services_of(app)
    with services.store.read("default") as snapshot:
        webhooks = len(list(snapshot.keys("webhooks")))
    return {
        "tokens": len(services.tokens.list()),
        "clients": len(services.clients.list()),
        "issuers": len(IssuerStore(services.store).list()),
        "webhooks": webhooks,
        "administrators": len(services.administrators.list()),
        "tenants": len(TenantStore(services.store).list()),
        "jobs": len(JobStore.of(services.store, services.settings).list("default")),
    }


@pytest.mark.parametrize(
    ("kind", "page", "action", "fields"),
    [
        ("tokens", "/settings/api-tokens/new", "/settings/api-tokens", {"label": "Twice"}),
        ("clients", "/settings/clients/new", "/settings/clients", {"label": "Twice"}),
        ("issuers", "/settings/issuers/new", "/settings/issuers", ISSUER),
        ("webhooks", "/webhooks/new", "/webhooks", {"url": "https://tool.example.org/hooks"}),
        ("administrators", "/settings/administrators/new", "/settings/administrators", {"name": "twice"}),
        ("tenants", "/tenants/new", "/tenants", {"name": "twice"}),
    ],
    ids=["token", "client", "issuer", "webhook", "administrator", "tenant"],
)
def test_double_click_creates_one_object(
    kind: str, page: str, action: str, fields: dict[str, Any], operator: Console
) -> None:
    before = counts(operator.app)
    assert len(click_repeatedly(operator, page, action, **fields)) == 1
    assert counts(operator.app) == before | {kind: before[kind] + 1}


def test_double_click_on_an_invalid_form_shows_its_errors(operator: Console) -> None:
    before = counts(operator.app)
    for response in send_at_once(operator, "/settings/api-tokens/new", "/settings/api-tokens", 422, label=""):
        assert "Nothing was changed. Correct" in visible_text(response.text)
    assert counts(operator.app) == before


def test_form_that_is_too_old_says_that_nothing_was_changed(operator: Console) -> None:
    before, old = counts(operator.app), "0" * 9 + "-" + "0" * 32
    page = operator.submit("/settings/api-tokens/new", "/settings/api-tokens", label="Old", submission=old)
    assert "The form is too old, so nothing was changed." in visible_text(page.text)
    assert counts(operator.app) == before


def test_double_click_rotates_a_token_once(operator: Console) -> None:
    _, token = operator.services.tokens.create("Rotated", [SCOPE])
    before = counts(operator.app)
    path = f"/settings/api-tokens/{token.id}"
    assert len(click_repeatedly(operator, path, f"{path}/rotate")) == 1
    assert counts(operator.app) == before | {"tokens": before["tokens"] + 1}


def test_double_click_approves_once(operator: Console, tmp_path: Path) -> None:
    run_upload(operator, package_bytes(package_with_users(200), tmp_path))
    path = run_upload(operator, package_bytes(package_with_users(150), tmp_path)).request.path
    before = counts(operator.app)
    assert len(click_repeatedly(operator, path, f"{path}/approve")) == 1
    assert counts(operator.app) == before | {"jobs": before["jobs"] + 1}


def test_approval_of_a_page_before_another_import_changes_nothing(operator: Console, tmp_path: Path) -> None:
    path = run_upload(operator, package_bytes(package_with_users(100), tmp_path)).request.path
    form = find_form(operator.get(path).text, f"{path}/approve")
    run_upload(operator, package_bytes(package_with_users(201), tmp_path))
    with operator.services.store.read("default") as snapshot:
        before = {record.key: record.body for record in snapshot.scan("users")}
    page = operator.post(form.action, form.values, 409)
    assert "changed" in page.text
    operator.services.job_worker.run_pending()
    with operator.services.store.read("default") as snapshot:
        assert {record.key: record.body for record in snapshot.scan("users")} == before


def test_form_of_a_session_that_was_ended_changes_nothing(operator: Console) -> None:
    form = find_form(operator.get("/settings/api-tokens/new").text, "/settings/api-tokens")
    cookie = operator.client.get_cookie("chalk-session")
    operator.submit("/account", action="/logout")
    before = counts(operator.app)
    data = filled(form, {"label": "Stale"})
    assert operator.post(form.action, data).headers["Location"].startswith("/login")
    assert cookie
    operator.client.set_cookie("chalk-session", cookie.value)
    assert operator.post(form.action, data).headers["Location"].startswith("/login")
    assert counts(operator.app) == before


def test_form_of_another_sign_in_is_out_of_date(operator: Console) -> None:
    form = find_form(operator.get("/settings/api-tokens/new").text, "/settings/api-tokens")
    other = Console(operator.app)
    other.sign_in("owner", "default", f"owner-{next(_numbers)}")
    before = counts(operator.app)
    assert "The form is out of date" in other.post(form.action, filled(form, {"label": "Stale"}), 400).text
    assert counts(operator.app) == before
