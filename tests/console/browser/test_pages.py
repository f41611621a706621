"""Every page of the console, in both themes and on a phone, as an administrator of a district sees it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from urllib.parse import urldefrag, urlsplit

import pytest
from werkzeug.exceptions import HTTPException
from werkzeug.routing import Map, Rule

from chalk_flask.console.routes import ROUTES
from tests.support.browser import PHONE, Console, serious_violations

pytestmark = pytest.mark.slow

PUBLIC = ("/login", "/login/code", "/setup/<secret>", "/static/console/<path:name>")
"""Pages for visitors, to which no link of a page leads. The tests of sign-in open them."""

LINKS = "[...document.querySelectorAll('a[href]')].map(link => link.href)"


def test_every_page_is_accessible_and_fits(console: Console) -> None:
    findings: list[str] = []
    visited: set[str] = set()
    for path, endpoint in _walk(console):
        visited.add(endpoint)
        for scheme in ("light", "dark"):
            console.page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]  # a literal of its two values
            findings += [f"{path} ({scheme}): {found}" for found in serious_violations(console.page)]
        size = console.page.viewport_size
        console.page.set_viewport_size(PHONE)
        findings += [f"{path}: wider than a phone"] if console.is_wider_than_window() else []
        assert size
        console.page.set_viewport_size(size)
    assert not findings, "\n".join(findings)
    assert sorted(_page_endpoints() - visited) == []


def _walk(console: Console) -> Iterator[tuple[str, str]]:
    """Open one page of each route and collection to which links lead, and yield its path and endpoint."""
    routes = _url_map().bind("console")
    queue, seen = ["/"], set()
    while queue:
        path = urldefrag(queue.pop(0)).url
        try:
            endpoint, ids = routes.match(urlsplit(path).path)
        except HTTPException:
            continue  # no page, for example a reference of the API
        page = (endpoint, ids.get("collection"))
        if page in seen:
            continue
        seen.add(page)
        console.open(path)
        yield path, endpoint
        links: list[str] = console.page.evaluate(LINKS)
        queue += [link.removeprefix(console.url) for link in links if link.startswith(console.url + "/")]


def _url_map() -> Map:
    return Map([Rule(_plain(route.path), endpoint=route.endpoint) for route in ROUTES if "GET" in route.methods])


def _plain(path: str) -> str:
    return re.sub(r"<id:", "<path:", path)


def _page_endpoints() -> set[str]:
    """Return the endpoints of all pages that an administrator reaches by links."""
    return {route.endpoint for route in ROUTES if "GET" in route.methods and route.path not in PUBLIC}
