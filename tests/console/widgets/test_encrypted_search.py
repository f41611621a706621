"""Encrypted searches: a URL of a search stays valid, for its tenant and its service alone, and hides what was typed."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from chalk_flask import create_app
from chalk_flask.console.session_cookie import CONSOLE_KEY_FILE
from tests.conftest import services_of
from tests.support.console.client import Console, fill_console_store, find_form, links_of, visible_text

USERS = "/roster/users"
TEXT = "o'brien"


@pytest.fixture
def viewer(console: Console) -> Console:
    """Browser of a viewer of the tenant `default`."""
    console.sign_in("viewer")
    return console


def search_url(console: Console, text: str = TEXT) -> str:
    """Search for a person, and return the URL of the result."""
    response = console.submit(USERS, action=USERS, follow=False, q=text)
    return response.headers["Location"]


@contextmanager
def new_viewer(folder: Path) -> Iterator[Console]:
    """Yield a browser of a viewer, in a new application whose store and key are in a folder."""
    app = create_app(storage=f"sqlite:///{folder}/chalk.db", data=str(folder))
    fill_console_store(app)
    console = Console(app)
    console.sign_in("viewer")
    yield console
    services_of(app).store.close()


def test_url_of_a_search_hides_the_text_and_shows_the_result(viewer: Console) -> None:
    url = search_url(viewer)
    assert parse_qs(urlsplit(url).query).keys() == {"search"}
    assert "brien" not in url.lower()
    assert len(url) < 100
    text = visible_text(viewer.get(url).text)
    assert "1–2 of 2 records" in text
    assert find_form(viewer.get(url).text, USERS).values["q"] == TEXT


def test_equal_searches_have_one_url(viewer: Console) -> None:
    assert search_url(viewer) == search_url(viewer) != search_url(viewer, "o'briem")


def test_search_without_a_text_has_the_plain_url(viewer: Console) -> None:
    assert search_url(viewer, " ") == USERS


def test_order_and_status_keep_the_search(viewer: Console) -> None:
    page = viewer.get(search_url(viewer))
    sorting = next(link for link in links_of(page.text) if "sort=familyName" in link)
    page = viewer.search(sorting, filter="status='active'")
    assert "sort=familyName" in page.request.url
    assert find_form(page.text, USERS).values["q"] == TEXT
    deleted = html.unescape(re.findall(r'href="([^"]*)">Deleted<', page.text)[0])
    assert find_form(viewer.get(deleted).text, USERS).values["q"] == TEXT


def test_search_is_shared_with_administrators_of_the_tenant_only(viewer: Console) -> None:
    url = search_url(viewer)
    viewer.sign_in("owner", None)
    assert "1–2 of 2 records" in visible_text(viewer.get(url).text)
    viewer.sign_in("owner", "west")
    page = viewer.get(url, 400)
    assert "belongs to another tenant" in visible_text(page.text)
    assert "brien" not in page.text.lower()


def test_search_survives_the_sign_in(viewer: Console) -> None:
    url = search_url(viewer)
    viewer.submit("/account", action="/logout")
    sign_in = viewer.get(url, 303).headers["Location"]
    assert parse_qs(urlsplit(sign_in).query)["next"] == [url]


@pytest.mark.parametrize("kind", ["short", "word", "long", "cut", "extended", "unicode"])
def test_invalid_search_is_a_page_with_advice(viewer: Console, kind: str) -> None:
    valid = parse_qs(urlsplit(search_url(viewer)).query)["search"][0]
    values = {
        "short": "x",
        "word": "brien",
        "long": "A" * 5000,
        "cut": valid[:-1],
        "extended": valid + "AAAA",
        "unicode": "é数\0",
    }
    for path in (USERS, "/roster/classes/c-1/students", "/audit"):
        assert "search again" in visible_text(viewer.get(path, 400, search=values[kind]).text)
    viewer.get("/audit/export", 400, search=values[kind])


def test_search_survives_a_restart_but_not_a_new_key(tmp_path: Path) -> None:
    url = ""
    for status in (200, 200, 400):
        if status == 400:
            (tmp_path / CONSOLE_KEY_FILE).unlink()
        with new_viewer(tmp_path) as viewer:
            url = url or search_url(viewer)
            viewer.get(url, status)
