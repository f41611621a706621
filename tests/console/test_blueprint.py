"""Checks before each request of the console: which requests keep a session alive."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace

import pytest
from flask import Flask

from chalk_flask.admins import Role, SessionStore
from chalk_flask.console.routes import ROUTES
from tests.conftest import services_of
from tests.support.clock import FakeClock
from tests.support.console.client import Console, visible_text

POLLED_PATHS = [route.path.replace("<import_id>", "unknown-import") for route in ROUTES if route.is_polled]


@pytest.fixture
def timed_console(new_console_app: Flask, clock: FakeClock) -> Iterator[Console]:
    """Browser of an administrator whose session uses the clock of the test."""
    services = services_of(new_console_app)
    with closing(SessionStore(services.store, clock)) as sessions:
        new_console_app.extensions["chalk"] = replace(services, sessions=sessions)
        console = Console(new_console_app)
        console.sign_in()
        yield console


def test_polled_routes_are_those_that_scripts_request_again() -> None:
    assert POLLED_PATHS == ["/imports/unknown-import/progress", "/quality/state"]


@pytest.mark.parametrize("path", ["/imports/unknown-import/progress", "/quality/state"])
def test_polling_does_not_keep_a_session_alive(path: str, timed_console: Console, clock: FakeClock) -> None:
    for _ in range(29):
        clock.advance(60)
        assert timed_console.client.get(path).status_code in (200, 404)
    clock.advance(60)
    timed_console.get("/account", 303)


def test_pages_keep_a_session_alive(timed_console: Console, clock: FakeClock) -> None:
    for _ in range(60):
        clock.advance(60)
        timed_console.get("/account")


@pytest.mark.parametrize(
    ("role", "path", "message"),
    [
        ("owner", "/tenants", "This page is for operators, who have access to all tenants."),
        ("viewer", "/settings", "Your role, viewer, does not include this page. Ask an owner for the role you need."),
    ],
    ids=["owner", "viewer"],
)
def test_forbidden_page_says_who_has_access(role: Role, path: str, message: str, console: Console) -> None:
    console.sign_in(role, "default")
    assert message in visible_text(console.get(path, 403).text)
