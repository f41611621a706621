"""Pages of a list."""

from __future__ import annotations

import pytest
from flask import Flask

from chalk_flask.console.widgets.paging import Page, page_of, page_offset


def page_at(app: Flask, url: str, total: int) -> Page:
    with app.test_request_context(url):
        return page_of(total, 10)


def test_middle_page_links_both_ways_and_keeps_parameters(console_app: Flask) -> None:
    page = page_at(console_app, "/settings/api-tokens?show=all&x=1&x=2&offset=10", 35)
    assert (page.first, page.last, page.total) == (11, 20, 35)
    assert page.previous_url == "/settings/api-tokens?show=all&x=1&x=2"
    assert page.next_url == "/settings/api-tokens?show=all&x=1&x=2&offset=20"


@pytest.mark.parametrize(
    ("offset", "total", "first", "last"), [(0, 0, 0, 0), (0, 10, 1, 10), (30, 35, 31, 35), (50, 35, 0, 35)]
)
def test_first_and_last_entries_are_numbered(
    offset: int, total: int, first: int, last: int, console_app: Flask
) -> None:
    page = page_at(console_app, f"/settings/api-tokens?offset={offset}", total)
    assert (page.first, page.last) == (first, last)
    assert page.next_url == ""


@pytest.mark.parametrize("text", ["", "-1", "1.5", "x", "\u0663", "9" * 40, "1 OR 1=1"])
def test_invalid_offset_is_the_first_page(text: str, console_app: Flask) -> None:
    with console_app.test_request_context("/settings/api-tokens", query_string={"offset": text}):
        assert page_offset() == 0


def test_ids_in_the_path_are_quoted(console_app: Flask) -> None:
    page = page_at(console_app, "/settings/api-tokens/a%3Fb/access?collection=users", 35)
    assert page.next_url == "/settings/api-tokens/a%3Fb/access?collection=users&offset=10"
