"""The API reference in a browser: a developer without an account tries an operation with a token."""

from __future__ import annotations

import pytest

from tests.console.browser.conftest import District
from tests.support.console.browser import Console

pytestmark = pytest.mark.slow


def test_developer_tries_an_operation(signed_out: Console, district: District) -> None:
    """The fixture fails if a script violates the Content-Security-Policy."""
    signed_out.open("/docs#/orgs/getAllOrgs")
    page = signed_out.page
    page.get_by_role("button", name="Authorize").click()
    form = page.locator("form", has_text="apiToken")
    form.locator("#auth-bearer-value").fill(district.service.token)
    form.get_by_role("button", name="Apply credentials").click()
    page.get_by_role("button", name="Close").first.click()
    page.get_by_role("button", name="Try it out").click()
    page.get_by_role("button", name="Execute").click()
    answer = page.locator(".live-responses-table")
    answer.get_by_text("x-total-count").wait_for()
    assert "200" in answer.inner_text()
