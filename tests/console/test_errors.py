"""Error pages: HTML for browsers, JSON for API clients, and nothing personal in either."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
from flask import Flask

from chalk_flask import create_app
from chalk_flask.console.security_headers import CONTENT_SECURITY_POLICY
from chalk_flask.console.session_cookie import CONSOLE_KEY_FILE
from chalk_flask.server import BODY_REJECTED_KEY
from tests.conftest import services_of
from tests.support.api_client import CHALK
from tests.support.console.client import Console, find_form, visible_text

BROWSER = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"


def test_unknown_page_is_html_for_browsers(console_app: Flask) -> None:
    response = console_app.test_client().get("/nowhere", headers={"Accept": BROWSER})
    assert response.status_code == 404
    assert "There is no such page" in response.text
    assert response.headers["Content-Security-Policy"] == CONTENT_SECURITY_POLICY
    assert response.headers["Cache-Control"] == "no-store"


@pytest.mark.parametrize("accept", [None, "*/*", "application/json", "application/json, text/html;q=0.5"])
def test_unknown_page_is_json_for_other_clients(accept: str | None, console_app: Flask) -> None:
    response = console_app.test_client().get("/nowhere", headers={"Accept": accept} if accept else {})
    assert response.status_code == 404
    assert response.json is not None
    assert response.json["error"] == "unknown_object"


@pytest.mark.parametrize("path", [f"{CHALK}/nowhere", f"{CHALK}/users/unknown/x", "/oauth/nowhere", "/ims/x"])
def test_no_html_below_api_roots(path: str, console_app: Flask) -> None:
    response = console_app.test_client().get(path, headers={"Accept": BROWSER})
    assert response.status_code in (401, 404)
    assert response.is_json


@pytest.mark.parametrize("path", ["/%00", "/%FF%FE", "/a%2Fb", "//login", "/login/%0a", "/static/console/../x", "/é"])
def test_strange_paths_are_pages_without_failure(path: str, console_app: Flask) -> None:
    response = console_app.test_client().get(path, headers={"Accept": BROWSER})
    assert response.status_code in (303, 308, 404)


def test_failure_of_a_page_is_logged_without_personal_data(
    new_console_app: Flask, caplog: pytest.LogCaptureFixture
) -> None:
    console = Console(new_console_app)
    console.sign_in("viewer")

    def fail() -> str:
        raise RuntimeError("Ada O'Brien")

    console.app.view_functions["console.show_account"] = fail
    with caplog.at_level(logging.ERROR):
        page = console.get("/account", 500)
    assert "Something went wrong" in page.text
    assert "Reference for the log" in page.text
    assert "Ada" not in page.text + caplog.text
    reference = page.text.partition("Reference for the log of the server: <code>")[2].partition("<")[0]
    assert reference in caplog.text


def test_forbidden_page_says_which_role_the_reader_has(console: Console) -> None:
    console.sign_in("viewer")
    text = visible_text(console.get("/settings/api-tokens/new", 403).text)
    assert "You do not have access to this page" in text
    assert "Your role, viewer," in text


def test_unknown_page_of_a_signed_in_administrator_has_a_way_back(console: Console) -> None:
    console.sign_in("viewer")
    assert '<nav aria-label="Sections">' in console.get("/nowhere", 404).text
    assert 'href="/' in console.get("/settings/api-tokens/unknown", 404).text


def test_service_without_console_has_none_of_its_paths() -> None:
    app = create_app(storage="memory:", console=False)
    client = app.test_client()
    for path in ("/roster", "/login", "/settings/api-tokens", "/static/console/console.css"):
        response = client.get(path, headers={"Accept": BROWSER})
        assert response.status_code == 404
        assert response.is_json
        assert "Content-Security-Policy" not in response.headers
    services_of(app).store.close()


def test_console_adds_no_hook_to_requests_of_the_api(console_app: Flask) -> None:
    plain = create_app(storage="memory:", console=False)
    for name in ("before_request_funcs", "after_request_funcs", "teardown_request_funcs", "url_value_preprocessors"):
        hooks = [getattr(app, name).get(None, []) for app in (plain, console_app)]
        assert len(hooks[0]) == len(hooks[1]), name
    services_of(plain).store.close()


@pytest.mark.parametrize(
    ("reason", "status", "text"),
    [
        ("too_large", 413, "A package can have at most 256 MiB. Nothing was changed."),
        ("busy", 503, "in a minute"),
        ("disk_full", 503, "no space"),
    ],
)
def test_body_that_the_server_dropped_is_explained(reason: str, status: int, text: str, console: Console) -> None:
    console.sign_in("owner")
    response = console.client.post(
        "/settings/api-tokens", headers={"Accept": "text/html"}, environ_overrides={BODY_REJECTED_KEY: reason}
    )
    assert response.status_code == status
    assert text in visible_text(response.text)
    assert ("Retry-After" in response.headers) == (reason == "busy")


def test_dropped_body_of_a_visitor_leads_to_sign_in(console: Console) -> None:
    response = console.client.post(
        "/settings/api-tokens", headers={"Accept": "text/html"}, environ_overrides={BODY_REJECTED_KEY: "too_large"}
    )
    assert response.headers["Location"] == "/login"


def test_form_with_many_parts_is_rejected(console: Console) -> None:
    console.sign_in("editor")
    form = find_form(console.get("/imports/upload").text, "/imports/upload")
    response = console.client.post(
        "/imports/upload",
        data={**form.values.to_dict(), **{f"part-{number}": "x" for number in range(60)}},
        content_type="multipart/form-data",
        headers={"Accept": "text/html"},
    )
    assert response.status_code == 413
    assert not console.services.jobs.list("default")


def test_unreadable_key_is_no_failure_of_an_unknown_page(tmp_path: Path) -> None:
    app = create_app(storage=f"sqlite:///{tmp_path}/store.db", data=str(tmp_path))
    console = Console(app)
    console.sign_in("viewer")
    (tmp_path / CONSOLE_KEY_FILE).write_bytes(b"damaged")
    console.get("/nowhere", 404)
    services_of(app).store.close()
