"""Steps of Chalk's public documentation: sign in, generate a token, use it, revoke it."""

from __future__ import annotations

import re

import pytest
import requests

from tests.console.browser.conftest import NAME, District
from tests.support.console.browser import Console

pytestmark = pytest.mark.slow


def test_token_is_generated_used_and_revoked(signed_out: Console, district: District) -> None:
    page = signed_out.page
    signed_out.sign_in(NAME, district.password)
    signed_out.open("/settings/api-tokens")
    page.get_by_role("link", name="Generate token").first.click()
    page.get_by_label("Label").fill("Library app")
    page.get_by_role("button", name="Generate token").click()
    found = re.search(r"chk_live_[0-9a-f]{40}", page.inner_text("main"))
    assert found
    assert _status(district, found[0]) == 200
    page.reload()
    assert found[0] not in page.content()
    page.get_by_text("Revoke…").first.click()
    page.get_by_role("button", name="Revoke token").click()
    page.get_by_text("Revoked").first.wait_for()
    assert _status(district, found[0]) == 401


def test_token_is_created_with_the_keyboard(console: Console) -> None:
    page = console.page
    console.open("/settings/api-tokens")
    console.tab_to("Generate token")
    page.keyboard.press("Enter")
    page.wait_for_url("**/api-tokens/new")
    console.tab_to("Label")
    page.keyboard.type("Keyboard app")
    console.tab_to("Generate token")
    page.keyboard.press("Enter")
    page.get_by_text(re.compile("chk_live_")).first.wait_for()


def _status(district: District, token: str) -> int:
    url = f"{district.url}/api/oneroster/v1p1/schools?limit=1"
    return requests.get(url, headers={"Authorization": f"Bearer {token}"}, timeout=30).status_code
