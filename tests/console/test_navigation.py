"""Sidebar: only sections that the administrator may see, and the current one is marked."""

from __future__ import annotations

import re

from flask import Flask

from chalk_flask.console.navigation import NAVIGATION
from chalk_flask.console.routes import ROUTES
from tests.support.console.client import Console


def current_links(page: str) -> list[str]:
    return re.findall(r'<a href="([^"]*)" aria-current="page">', page.partition('<nav aria-label="Sections">')[2])


def test_every_section_leads_to_a_page_with_its_permission() -> None:
    routes = {route.endpoint: route for route in ROUTES}
    for section in NAVIGATION:
        assert routes[section.endpoint].permission == section.permission
        assert routes[section.endpoint].path == section.path


def test_rows_of_a_group_follow_each_other() -> None:
    groups = list(dict.fromkeys(section.group for section in NAVIGATION))
    assert [section.group for section in NAVIGATION] == sorted(
        (section.group for section in NAVIGATION), key=groups.index
    )


def test_section_of_a_page_below_it_is_current(console: Console) -> None:
    console.sign_in("owner")
    assert current_links(console.get("/settings/api-tokens").text) == ["/settings/api-tokens"]
    assert current_links(console.get("/settings/api-tokens/new").text) == ["/settings/api-tokens"]


def test_icons_of_sections_exist(console: Console) -> None:
    console.sign_in("owner", None)
    default_icon = '<circle cx="12" cy="12" r="3"/></svg>'
    assert default_icon not in re.sub(r"\s*\n\s*", "", console.get("/account").text)


def test_visitor_has_no_sidebar(console_app: Flask) -> None:
    assert '<nav aria-label="Sections">' not in console_app.test_client().get("/login").text
