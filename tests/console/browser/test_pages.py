"""Every page of the console, in both themes and on a phone, as an administrator of a district sees it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Literal
from urllib.parse import urldefrag, urlsplit

import pytest
from werkzeug.exceptions import HTTPException
from werkzeug.routing import Map, Rule

from chalk_flask.console.routes import ROUTES
from tests.support.console.browser import DESKTOP, PHONE, Console, serious_violations

pytestmark = pytest.mark.slow

NOT_LINKED = {
    "serve_static",
    "show_code_form",  # pages of the sign-in, which its tests open
    "show_setup",
    "begin_oidc_sign_in",
    "complete_oidc_sign_in",
    "show_sign_in",
    "show_progress",  # JSON for scripts
    "show_quality_state",
    "show_warnings",  # only after an import with warnings
    "download_problems",  # only after an import with problems
    "show_quality_records",  # only after the analysis of the roster, and if it finds something
    "show_client",  # only with a client or an issuer
    "show_issuer",
    "show_source",  # test_sources opens them
    "edit_source",
    "show_webhook",  # test_webhooks opens them
    "show_delivery",
    "download_body",
    "show_demo",  # only in a demo
    "download_sample_package",
}
"""Endpoints to which no link of this district's pages leads."""

DOWNLOADS = {"export_audit_log"}
"""Endpoints that lead to a file."""

SCHEMES: tuple[Literal["light", "dark"], ...] = ("light", "dark")

LINKS = "[...document.querySelectorAll('a[href]')].map(link => link.href)"


@pytest.mark.timeout(900)  # it opens every page several times
def test_every_page_is_accessible_and_fits(console: Console) -> None:
    findings: list[str] = []
    visited: set[str] = set()
    for path, endpoint in _walk(console):
        visited.add(endpoint)
        if endpoint in DOWNLOADS:
            assert not console.is_page(path)
        else:
            findings += _check(console, path)
    assert not findings, "\n".join(findings)
    assert sorted(_page_endpoints() - visited - NOT_LINKED) == []


def _check(console: Console, path: str) -> list[str]:
    """Open a page and return what is wrong with it."""
    assert console.is_page(path), path
    console.open(path)
    findings: list[str] = []
    for scheme in SCHEMES:
        console.page.emulate_media(color_scheme=scheme)
        findings += [f"{path} ({scheme}): {found}" for found in serious_violations(console.page)]
    console.page.set_viewport_size(PHONE)
    findings += [f"{path}: wider than a phone"] if console.is_wider_than_window() else []
    console.page.set_viewport_size(DESKTOP)
    return findings


def _walk(console: Console) -> Iterator[tuple[str, str]]:
    """Yield path and endpoint of one page of each route and collection to which links lead. The caller opens it."""
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
        yield path, endpoint
        links: list[str] = console.page.evaluate(LINKS)
        queue += [link.removeprefix(console.url) for link in links if link.startswith(console.url + "/")]


def _url_map() -> Map:
    return Map([Rule(_plain(route.path), endpoint=route.endpoint) for route in ROUTES if "GET" in route.methods])


def _plain(path: str) -> str:
    return re.sub(r"<id:", "<path:", path)


def _page_endpoints() -> set[str]:
    return {route.endpoint for route in ROUTES if "GET" in route.methods}
