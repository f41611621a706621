"""The start page: a description in JSON for programs; a page, or the console, for browsers."""

from __future__ import annotations

import pytest

from tests.conftest import Serve

BROWSER = {"Accept": "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"}


@pytest.mark.parametrize("accept", ["*/*", "application/json", None], ids=["any", "json", "none"])
@pytest.mark.parametrize("console", [True, False], ids=["console", "bare"])
def test_programs_get_a_description(serve: Serve, accept: str | None, console: bool) -> None:
    app = serve(console=console, public_url="https://roster.example.org")
    response = app.test_client().get("/", headers={"Accept": accept} if accept else {})
    assert (response.status_code, response.content_type) == (200, "application/json")
    assert response.headers["Vary"] == "Accept"
    assert response.json == {
        "name": "Chalk Flask",
        "standard": "OneRoster 1.1",
        "roots": ["https://roster.example.org/api/oneroster/v1p1", "https://roster.example.org/ims/oneroster/v1p1"],
        "changes": "https://roster.example.org/api/oneroster/v1p1/changes",
        "token_endpoint": "https://roster.example.org/oauth/token",
        "health": "https://roster.example.org/healthz",
        "readiness": "https://roster.example.org/readyz",
        "openapi": "https://roster.example.org/openapi.json",
        "docs": "https://roster.example.org/docs",
        **({"console": "https://roster.example.org/"} if console else {}),
    }
    assert "Set-Cookie" not in response.headers


def test_described_addresses_exist(serve: Serve) -> None:
    client = serve(console=False).test_client()
    description = client.get("/").json
    assert description is not None
    addresses = [description[name] for name in ("changes", "token_endpoint", "health", "readiness", "openapi", "docs")]
    statuses = [client.get(url).status_code for url in (*addresses, f"{description['roots'][0]}/users")]
    assert statuses == [401, 405, 200, 200, 200, 200, 401]


def test_browser_gets_a_page_without_console(serve: Serve) -> None:
    response = serve(console=False).test_client().get("/", headers=BROWSER)
    assert (response.status_code, response.content_type) == (200, "text/html; charset=utf-8")
    assert "http://localhost/ims/oneroster/v1p1" in response.text
    assert response.headers["Content-Security-Policy"].startswith("default-src 'none'")


def test_browser_gets_the_sign_in_of_the_console(serve: Serve) -> None:
    response = serve().test_client().get("/", headers=BROWSER)
    assert (response.status_code, response.headers["Location"]) == (303, "/login")


@pytest.mark.parametrize("console", [True, False], ids=["console", "bare"])
def test_invalid_host_is_rejected(serve: Serve, console: bool) -> None:
    headers = {"Host": "a<b>", "Accept": "application/json"}
    assert serve(console=console).test_client().get("/", headers=headers).status_code == 400
