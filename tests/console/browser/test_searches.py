"""A search in a browser: its pages, its order, a reload and the back button keep it, and no URL contains its text."""

from __future__ import annotations

import re

import pytest

from tests.support.console.browser import Console

pytestmark = pytest.mark.slow

TYPED = "familyName~'a'"


def test_search_is_kept_and_no_request_contains_its_text(console: Console) -> None:
    page, sent = console.page, []
    page.on("request", lambda request: sent.append(f"{request.url} {request.headers.get('referer', '')}"))
    console.open("/roster/users")
    page.get_by_label("Filter").fill(TYPED)
    page.get_by_role("button", name="Show").click()
    page.wait_for_url("**/roster/users?search=*")
    first = page.url
    page.get_by_role("link", name="Next").click()
    page.wait_for_url("**offset=25*")
    page.get_by_role("link", name="Family name").click()
    page.wait_for_url("**sort=familyName*")
    page.reload()
    assert page.get_by_label("Filter").input_value() == TYPED
    page.go_back()
    page.go_back()
    assert page.url == first
    assert page.get_by_label("Filter").input_value() == TYPED
    assert page.get_by_text(re.compile("^1–25 of ")).is_visible()
    assert len(sent) > 5
    assert [request for request in sent if "familyName~" in request or "%27a%27" in request] == []
