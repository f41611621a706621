"""Every route of the console: sign-in, roles, tenants, CSRF and headers, generated from the table of routes."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from typing import Any

import pytest
from flask import Flask
from werkzeug.test import TestResponse

from chalk_flask import create_app
from chalk_flask.admins.record import Administrator
from chalk_flask.admins.roles import PERMISSIONS, ROLES, Role, allows
from chalk_flask.console.blueprint import NAME
from chalk_flask.console.routes import ROUTES, ConsoleRoute
from chalk_flask.console.security_headers import CONTENT_SECURITY_POLICY
from chalk_flask.tenants.store import TenantStore
from tests.conftest import services_of
from tests.support.console.client import Console, fill_console_store, find_form

EXAMPLES = {"serve_static": "/static/console/console.css"}
"""Paths of routes whose parameters are not ids."""

PRIVATE = [route for route in ROUTES if route.permission is not None]
POSTS = [route for route in ROUTES if "POST" in route.methods]


def path_of(route: ConsoleRoute) -> str:
    """Return a path of a route, with unknown ids."""
    return EXAMPLES.get(route.endpoint) or re.sub(r"<[^>]*>", "unknown", route.path)


def name_of(route: ConsoleRoute) -> str:
    return f"{route.methods[0]} {route.path}"


def each_route(routes: list[ConsoleRoute] | tuple[ConsoleRoute, ...]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("route", routes, ids=name_of)


@pytest.fixture(scope="module")
def app() -> Iterator[Flask]:
    """Application whose administrators stay for all tests of this module."""
    app = create_app(storage="memory:")
    fill_console_store(app)
    yield app
    services_of(app).store.close()


Administrators = dict[tuple[Role, str | None], Console]


@pytest.fixture(scope="module")
def administrators(app: Flask) -> Administrators:
    """Signed-in browsers by role and tenant; the tenant None stands for an operator."""
    browsers: Administrators = {}
    for role in ROLES:
        for tenant in ("default", None):
            browsers[role, tenant] = Console(app)
            browsers[role, tenant].sign_in(role, tenant, f"{role}-{tenant}".lower())
    return browsers


def open_route(console: Console, route: ConsoleRoute, **fields: str) -> TestResponse:
    """Return the response to a request of a route; a POST has a valid CSRF token and these fields."""
    data = {"csrf_token": csrf_token(console), **fields} if "POST" in route.methods else None
    return console.client.open(path_of(route), method=route.methods[0], data=data, headers={"Accept": "text/html"})


def csrf_token(console: Console) -> str:
    """Return a CSRF token of the browser's page session. Any page has one."""
    page = console.client.get("/no-such-page", headers={"Accept": "text/html"})
    return find_form(page.text, fields={"csrf_token": ""}).values["csrf_token"]


def browser_of(administrators: Administrators, role: Role, tenant: str | None) -> Console:
    """Return the signed-in browser; it signs in again if a former request has ended its session."""
    console = administrators[role, tenant]
    cookie = console.client.get_cookie("chalk-session")
    if cookie is None or console.services.sessions.find(cookie.value) is None:
        administrator = administrator_of(console, role, tenant)
        console.sign_in_as(administrator)
    return console


def administrator_of(console: Console, role: Role, tenant: str | None) -> Administrator:
    administrator = console.services.administrators.find(f"{role}-{tenant}")
    assert administrator is not None
    return administrator


def test_every_rule_of_the_blueprint_is_in_the_table(app: Flask) -> None:
    bound = {
        (rule.rule, rule.endpoint, method)
        for rule in app.url_map.iter_rules()
        if rule.endpoint.startswith(f"{NAME}.")
        for method in (rule.methods or set()) - {"HEAD"}
    }
    assert bound == {(route.path, f"{NAME}.{route.endpoint}", method) for route in ROUTES for method in route.methods}


def test_every_endpoint_has_one_row() -> None:
    endpoints = [route.endpoint for route in ROUTES]
    assert len(set(endpoints)) == len(endpoints)


@each_route(PRIVATE)
def test_visitor_is_sent_to_sign_in(route: ConsoleRoute, app: Flask) -> None:
    response = open_route(Console(app), route)
    assert response.status_code == 303
    assert response.headers["Location"].startswith("/login")
    assert_protected(response)


@each_route(PRIVATE)
def test_script_of_a_visitor_gets_401(route: ConsoleRoute, app: Flask) -> None:
    response = Console(app).client.open(path_of(route), method=route.methods[0], headers={"Accept": "application/json"})
    assert response.status_code == (200 if route.path == "/" else 401)  # the start page describes the service
    assert response.is_json


@each_route(ROUTES)
def test_roles_reach_what_the_table_allows(route: ConsoleRoute, administrators: Administrators) -> None:
    for role, tenant in administrators:
        console = browser_of(administrators, role, tenant)
        response = open_route(console, route, tenant="default")
        assert response.status_code < 500, response.text
        me = administrator_of(console, role, tenant)
        is_allowed = route.permission is None or allows(me, route.permission)
        assert (response.status_code == 403) == (not is_allowed), (role, tenant, response.status_code)
        assert_protected(response)
        assert_cookies_are_private(response)


@each_route([route for route in POSTS if route.permission is not None])
def test_form_of_another_tenant_is_rejected(route: ConsoleRoute, administrators: Administrators) -> None:
    console = browser_of(administrators, "owner", None)
    for fields in ({"tenant": "west"}, {}):
        response = open_route(console, route, **fields)
        assert response.status_code == 409
        assert "belongs to another tenant" in response.text


@each_route(POSTS)
def test_form_without_csrf_token_is_rejected(route: ConsoleRoute, app: Flask, administrators: Administrators) -> None:
    console = browser_of(administrators, "owner", None)
    before = state_of(app)
    other = csrf_token(Console(app))
    for fields in ({}, {"csrf_token": "x"}, {"csrf_token": other}):
        response = console.client.post(
            path_of(route), data={"tenant": "default", **fields}, headers={"Accept": "text/html"}
        )
        assert response.status_code == 400
        assert "The form is out of date" in response.text
    assert state_of(app) == before


@each_route(POSTS)
def test_form_sent_by_another_site_is_rejected(route: ConsoleRoute, app: Flask, administrators: Administrators) -> None:
    console = browser_of(administrators, "owner", None)
    before = state_of(app)
    for site in ("cross-site", "same-site"):
        response = console.client.post(
            path_of(route),
            data={"tenant": "default", "csrf_token": csrf_token(console)},
            headers={"Accept": "text/html", "Sec-Fetch-Site": site},
        )
        assert response.status_code == 400
    assert state_of(app) == before


@each_route(ROUTES)
def test_other_methods_are_rejected(route: ConsoleRoute, app: Flask) -> None:
    allowed = set(app.url_map.bind("localhost").allowed_methods(path_of(route)))
    assert allowed <= {"GET", "HEAD", "POST"}
    for method in {"GET", "POST", "PUT", "DELETE", "PATCH", "OPTIONS"} - allowed:
        response = app.test_client().open(path_of(route), method=method, headers={"Accept": "text/html"})
        assert response.status_code == 405, method
        assert_protected(response)


def test_table_of_permissions_is_used() -> None:
    assert {route.permission for route in PRIVATE} <= set(PERMISSIONS)


def state_of(app: Flask) -> object:
    """Return what forms can change: credentials, administrators, sessions, tenants."""
    services = services_of(app)
    return (
        services.tokens.list(),
        services.clients.list(),
        [(each.id, each.role, each.password_hash) for each in services.administrators.list()],
        [session.id_hash for each in services.administrators.list() for session in services.sessions.list_of(each.id)],
        TenantStore(services.store).list(),
    )


def assert_protected(response: TestResponse) -> None:
    """Check the security headers of a console response."""
    headers = response.headers
    assert headers["Content-Security-Policy"] == CONTENT_SECURITY_POLICY
    assert headers["X-Frame-Options"] == "DENY"
    assert headers.getlist("X-Content-Type-Options") == ["nosniff"]
    assert headers["Referrer-Policy"] == "same-origin"
    assert headers["Cross-Origin-Opener-Policy"] == "same-origin"
    assert "Permissions-Policy" in headers
    is_file = response.request.path.startswith("/static/")
    assert headers["Cache-Control"] == ("no-cache" if is_file and response.status_code == 200 else "no-store")


def assert_cookies_are_private(response: TestResponse) -> None:
    """Check the attributes of all cookies that a response sets."""
    for cookie in response.headers.getlist("Set-Cookie"):
        assert "HttpOnly" in cookie
        assert "SameSite=Lax" in cookie
        assert "Path=/;" in f"{cookie};"


FIELDS = (
    *("name", "password", "repeated", "current_password", "code", "role", "access", "disable_totp", "session", "theme"),
    *("label", "scopes", "schools", "grades", "classes", "denied", "redacted", "other_orgs", "other_fields", "expiry"),
    *("expiry_date", "overlap", "method", "public_key", "issuer", "audience", "jwks_url", "jwks", "single_use", "url"),
    *("events", "entities", "mode", "excluded", "other_events", "since", "lenient", "invalid_rows", "strict"),
    *("max_deleted", "max_changed", "max_quarantined", "demographics", "typed_name"),
    *("q", "filter", "id", "from", "to", "event", "tenants"),
    *(
        "auth",
        "client_id",
        "token_url",
        "secret",
        "schedule",
        "at",
        "every",
        "full_days",
        "page_size",
        "full",
        "version",
    ),
)
"""Names of fields of forms."""


@each_route(POSTS)
@pytest.mark.parametrize("kind", ["file", "repeated", "binary", "long"])
def test_fields_of_another_kind_never_fail(route: ConsoleRoute, kind: str, administrators: Administrators) -> None:
    console = browser_of(administrators, "owner", None)
    values: dict[str, Any] = {
        "file": lambda: (io.BytesIO(b"x"), "x.txt"),
        "repeated": lambda: ["1", "\0", "9" * 400],
        "binary": lambda: b"\xff\xfe\x00",
        "long": lambda: "x" * 5000,
    }
    data = {name: values[kind]() for name in FIELDS if kind != "file" or name in FIELDS[:40]}
    response = console.client.post(
        path_of(route),
        data={**data, "csrf_token": csrf_token(console), "tenant": "default"},
        headers={"Accept": "text/html"},
    )
    assert response.status_code < 500, response.text
