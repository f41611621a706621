"""Static files: versions, caching, and nothing but the files of the package."""

from __future__ import annotations

import gzip
import re

import pytest
from flask import Flask

from tests.support.console.client import Console
from tests.support.paths import ROOT

STATIC = ROOT / "chalk_flask" / "console" / "static"


def linked_files(page: str) -> list[str]:
    return re.findall(r'(?:href|src)="(/static/console/[^"]+)"', page)


def test_linked_files_are_kept_for_a_year(console: Console) -> None:
    files = linked_files(console.get("/login").text)
    assert len(files) >= 3
    for url in files:
        response = console.client.get(url)
        assert response.status_code == 200
        assert response.headers["Cache-Control"] == "public, max-age=31536000, immutable"


def test_file_without_version_is_revalidated(console_app: Flask) -> None:
    client = console_app.test_client()
    response = client.get("/static/console/console.css")
    assert response.headers["Cache-Control"] == "no-cache"
    assert response.content_type == "text/css; charset=utf-8"
    again = client.get("/static/console/console.css", headers={"If-None-Match": response.headers["ETag"]})
    assert (again.status_code, again.data) == (304, b"")


def test_file_is_compressed_for_clients_that_accept_it(console_app: Flask) -> None:
    client = console_app.test_client()
    plain = client.get("/static/console/console.css", headers={"Accept-Encoding": "gzip;q=0"})
    compressed = client.get("/static/console/console.css", headers={"Accept-Encoding": "br, gzip"})
    assert "Content-Encoding" not in plain.headers
    assert compressed.headers["Content-Encoding"] == "gzip"
    assert gzip.decompress(compressed.data) == plain.data
    assert plain.headers["Vary"] == compressed.headers["Vary"] == "Accept-Encoding"
    assert plain.headers["ETag"] != compressed.headers["ETag"]


def test_media_types_match_nosniff(console_app: Flask) -> None:
    client = console_app.test_client()
    for path in STATIC.rglob("*.*"):
        response = client.get(f"/static/console/{path.relative_to(STATIC)}")
        expected = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}[path.suffix]
        assert response.content_type.startswith(expected)


@pytest.mark.parametrize("name", ["../console.py", "%2e%2e/routes.py", "js/../../routes.py", "x" * 500, "%00", "js"])
def test_other_files_are_not_served(name: str, console_app: Flask) -> None:
    assert console_app.test_client().get(f"/static/console/{name}").status_code == 404


def test_files_need_no_session_and_set_no_cookie(console_app: Flask) -> None:
    response = console_app.test_client().get("/static/console/console.css")
    assert "Set-Cookie" not in response.headers


def test_page_with_its_files_is_smaller_than_60_kb(console: Console) -> None:
    console.sign_in("owner", None)
    for path in ("/settings/api-tokens", "/settings/api-tokens/new", "/account"):
        page = console.get(path)
        size = len(page.data) + sum(len(console.client.get(url).data) for url in linked_files(page.text))
        assert size < 60_000, path


def test_scripts_and_styles_use_nothing_that_the_policy_forbids() -> None:
    templates = [path.read_text(encoding="utf-8") for path in (STATIC.parent / "templates").rglob("*.html")]
    for text in templates:
        assert not re.search(r"<style|\sstyle=|\son[a-z]+=\"|<script(?![^>]*src=)|javascript:", text)
    for path in STATIC.rglob("*.js"):
        script = path.read_text(encoding="utf-8")
        assert not re.search(r"innerHTML|outerHTML|insertAdjacent|eval\(|document\.write|new Function", script), path
