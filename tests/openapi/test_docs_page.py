"""The API reference for browsers: its files come from this service alone, and need no inline code."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Literal

import pytest
from flask import Flask
from playwright.sync_api import Browser, ViewportSize, expect

from chalk_flask import create_app
from chalk_flask.web_pages.headers import CONTENT_SECURITY_POLICY
from tests.conftest import services_of
from tests.openapi.contract import demo_service
from tests.support.console.browser import DESKTOP, PHONE

PAGE_TIMEOUT_MILLISECONDS = 60_000
"""Maximum time until the page shows the document."""


def test_page_loads_its_own_files_only(served: Flask) -> None:
    client = served.test_client()
    page = client.get("/docs")
    assert (page.status_code, page.content_type) == (200, "text/html; charset=utf-8")
    assert page.headers["Content-Security-Policy"] == CONTENT_SECURITY_POLICY
    assert "Set-Cookie" not in page.headers
    urls = re.findall(r'(?:src|href|data-url)="([^"]*)"', page.text)
    assert len(urls) == 7
    for url in urls:
        response = client.get(url)
        assert response.status_code == 200
        assert response.headers["Cache-Control"].endswith("immutable") == ("?v=" in url)
    assert "<style" not in page.text
    assert not re.search(r"<script(?![^>]* src=)| on\w+=| style=", page.text)


def test_page_of_a_mounted_application_has_its_prefix(served: Flask) -> None:
    page = served.test_client().get("/docs", base_url="http://localhost/roster")
    urls = re.findall(r'(?:src|href|data-url)="([^"]*)"', page.text)
    assert all(url.startswith("/roster/") for url in urls)


def test_unknown_files_are_not_served(served: Flask) -> None:
    for name in ("index.css", "..", "%2e%2e%2fflask_swagger_ui.py"):
        assert served.test_client().get(f"/docs/{name}").status_code == 404


def test_page_does_not_depend_on_the_console() -> None:
    for console in (True, False):
        app = create_app(storage="memory:", console=console)
        assert app.test_client().get("/docs", headers={"Accept": "text/html"}).status_code == 200
        services_of(app).store.close()


@pytest.mark.slow
def test_page_fits_the_screen_and_its_colors(browser: Browser, tmp_path: Path) -> None:
    with demo_service("memory", tmp_path) as (url, _):
        assert _background_of_operation(browser, url, DESKTOP, "light") == "rgba(0, 0, 0, 0)"
        assert _background_of_operation(browser, url, PHONE, "dark") == "rgb(28, 32, 34)"


def _background_of_operation(
    browser: Browser, url: str, viewport: ViewportSize, color_scheme: Literal["light", "dark"]
) -> str:
    """Return the color of the page with an open operation. Fail if it is wider than the screen, or logs an error."""
    messages: list[str] = []
    with browser.new_context(viewport=viewport, color_scheme=color_scheme) as context:
        page = context.new_page()
        page.on("console", lambda message: messages.append(message.text))
        page.goto(f"{url}/docs#/imports/createImport")
        responses = page.locator("#operations-imports-createImport .responses-table").first
        expect(responses).to_be_visible(timeout=PAGE_TIMEOUT_MILLISECONDS)
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        color: str = page.evaluate("getComputedStyle(document.documentElement).backgroundColor")
    assert messages == []
    return color
